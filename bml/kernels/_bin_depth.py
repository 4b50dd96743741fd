"""Levels folded into depth bins."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bml.kernels import _arrays
from bml.kernels._backend import helper, specification
from bml.kernels._depth_profile import book_of
from bml.types import Float32, Float64, Floats, Int64


class Binned(NamedTuple):
    """What :func:`bin_depth` returns."""

    book_TDF: Floats  # (T, D, 4)
    coverage_TD2: Float32  # share of a bin's levels that are present, bid and ask


def bin_depth(book_TLF: Floats, edges: Int64, *, out: Floats | None = None, threads: int | None = None) -> Binned:
    """Levels [edges[d], edges[d + 1]) to bin d: quantity summed, price weighted by quantity.

    book_TLF  float64 or float32 (T, L, 4); a level is present on a side when neither px nor qty is NaN
    edges     int64 (D + 1,) strictly increasing level indices from 0 to at most L; levels outside are left out.
              Or (T, D + 1), one row a snapshot, from 0 to at most L and nowhere decreasing: bins may be empty.
              :func:`occupied_edges` makes such
    out       reused memory: (T, D, 4) of the dtype of the book
    threads   how many work on it; None: BML_NUM_THREADS, else 1. The result does not depend on it
    NaN       no level of the bin present, or no level in it: px and qty NaN, coverage 0
    rules     one level present: its px and qty exactly (-0.0 becomes 0.0). Sum of quantity 0: the plain mean of px.
              Sums are float64 whatever the dtype, in eight lanes: level l adds to lane l % 8, and the lanes are
              added as ((0+4)+(2+6)) + ((1+5)+(3+7))
    raises    TypeError (dtype, byte order, not an array); ValueError (shape, edges, ``out``)
    cost      one read of the book, one write of the bins. Releases the GIL
    """
    where = "bin_depth"
    book = book_of(where, book_TLF)
    edge = _arrays.plain(where, "edges", edges, _arrays.INT64S, (1, 2))
    _check_edges(where, edge, *book.shape[:2])
    shape = (book.shape[0], edge.shape[-1] - 1, 4)
    if out is None:
        out = np.empty(shape, book.dtype)
    else:
        out = _arrays.given(where, "out", out, book.dtype, shape, [book, edge])
    coverage = np.empty((*shape[:2], 2), np.float32)
    _bin_depth(book, edge.reshape(-1, edge.shape[-1]), out, coverage, _arrays.threads(where, threads))
    return Binned(out, coverage)


def _check_edges(where: str, edge: Int64, times: int, levels: int) -> None:
    if edge.ndim == 1:
        if len(edge) < 2 or (edge[1:] <= edge[:-1]).any():
            raise ValueError(
                f"{where}: edges must be at least two strictly increasing level indices, not {edge.tolist()}"
            )
        low, high = edge[0], edge[-1]
    else:
        if edge.shape[0] != times or edge.shape[1] < 2:
            raise ValueError(f"{where}: edges must have shape ({times}, D + 1) with D at least 1, not {edge.shape}")
        falls = (edge[:, 1:] < edge[:, :-1]).any(axis=1)
        if falls.any():
            t = int(falls.argmax())
            raise ValueError(f"{where}: edges must not decrease along a row: row {t} is {edge[t].tolist()}")
        low, high = edge[:, 0].min(initial=0), edge[:, -1].max(initial=0)
    if low < 0 or high > levels:
        raise ValueError(f"{where}: edges must lie in 0..{levels}, the levels of the book, not {low}..{high}")


@helper
def total_of_lanes(x: Float64) -> float:
    """The sum that eight lanes come to, in its fixed order."""
    total: float = ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]))
    return total


@specification
def _bin_depth(book_TLF: Floats, edges: Int64, book_TDF: Floats, coverage_TD2: Float32, threads: int) -> None:
    lanes = np.empty((3, 8))
    for t in range(book_TLF.shape[0]):
        edge = edges[t if len(edges) > 1 else 0]
        for d in range(len(edge) - 1):
            for side in range(2):
                present = 0
                lanes[:] = 0.0
                for level in range(edge[d], edge[d + 1]):
                    px = np.float64(book_TLF[t, level, 2 * side])
                    qty = np.float64(book_TLF[t, level, 2 * side + 1])
                    if px != px or qty != qty:
                        continue
                    present += 1
                    lanes[0, level % 8] += qty
                    lanes[1, level % 8] += px * qty
                    lanes[2, level % 8] += px
                qty_sum = total_of_lanes(lanes[0])
                if present == 0:
                    px_present = qty_sum = np.nan
                elif present == 1:
                    px_present = total_of_lanes(lanes[2])  # exact: no division
                elif qty_sum == 0:
                    px_present = total_of_lanes(lanes[2]) / present
                else:
                    px_present = total_of_lanes(lanes[1]) / qty_sum
                book_TDF[t, d, 2 * side] = px_present
                book_TDF[t, d, 2 * side + 1] = qty_sum
                coverage_TD2[t, d, side] = present / max(edge[d + 1] - edge[d], 1)
