"""Levels folded into depth bins."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bml.kernels import _arrays
from bml.kernels._backend import specification
from bml.kernels._depth_profile import book_of
from bml.types import Float32, Floats, Int64


class Binned(NamedTuple):
    """What :func:`bin_depth` returns."""

    book_TDF: Floats  # (T, D, 4)
    coverage_TD2: Float32  # share of a bin's levels that are present, bid and ask


def bin_depth(book_TLF: Floats, edges: Int64, *, out: Floats | None = None, threads: int | None = None) -> Binned:
    """Levels [edges[d], edges[d + 1]) to bin d: quantity summed, price weighted by quantity.

    book_TLF  float64 or float32 (T, L, 4); a level is present on a side when neither px nor qty is NaN
    edges     int64 (D + 1,) strictly increasing level indices from 0 to at most L; levels outside are left out
    out       reused memory: (T, D, 4) of the dtype of the book
    threads   how many work on it; None: BML_NUM_THREADS, else 1. The result does not depend on it
    NaN       no level of the bin present: px and qty NaN, coverage 0
    rules     one level present: its px and qty exactly. Sum of quantity 0: the plain mean of px.
              Sums are float64 whatever the dtype
    raises    TypeError (dtype, byte order, not an array); ValueError (shape, edges, ``out``)
    cost      one read of the book, one write of the bins. Releases the GIL
    """
    where = "bin_depth"
    book = book_of(where, book_TLF)
    edge = _arrays.taken(where, "edges", edges, np.int64)
    times, levels, _ = book.shape
    if len(edge) < 2 or np.any(edge[1:] <= edge[:-1]):
        raise ValueError(f"{where}: edges must be at least two strictly increasing level indices, not {edge.tolist()}")
    if edge[0] < 0 or edge[-1] > levels:
        raise ValueError(f"{where}: edges must lie in 0..{levels}, the levels of the book, not {edge[0]}..{edge[-1]}")
    shape = (times, len(edge) - 1, 4)
    if out is None:
        out = np.empty(shape, book.dtype)
    else:
        out = _arrays.given(where, "out", out, book.dtype, shape, [book, edge])
    coverage = np.empty((times, len(edge) - 1, 2), np.float32)
    _bin_depth(book, edge, out, coverage, _arrays.threads(where, threads))
    return Binned(out, coverage)


@specification
def _bin_depth(book_TLF: Floats, edges: Int64, book_TDF: Floats, coverage_TD2: Float32, threads: int) -> None:
    for t in range(book_TLF.shape[0]):
        for d in range(len(edges) - 1):
            for side in range(2):
                present, px_present = 0, 0.0
                qty_sum, value_sum, px_sum = 0.0, 0.0, 0.0
                for level in range(edges[d], edges[d + 1]):
                    px = np.float64(book_TLF[t, level, 2 * side])
                    qty = np.float64(book_TLF[t, level, 2 * side + 1])
                    if px != px or qty != qty:
                        continue
                    present += 1
                    qty_sum += qty
                    value_sum += px * qty
                    px_sum += px
                if present == 0:
                    px_present = qty_sum = np.nan
                elif present == 1:
                    px_present = px_sum  # exact: no division
                elif qty_sum == 0:
                    px_present = px_sum / present
                else:
                    px_present = value_sum / qty_sum
                book_TDF[t, d, 2 * side] = px_present
                book_TDF[t, d, 2 * side + 1] = qty_sum
                coverage_TD2[t, d, side] = present / (edges[d + 1] - edges[d])
