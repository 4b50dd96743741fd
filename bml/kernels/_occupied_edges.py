"""Edges of depth bins that follow each snapshot's occupied depth."""

from __future__ import annotations

import numpy as np

from bml.kernels import _arrays
from bml.kernels._backend import specification
from bml.kernels._depth_profile import book_of
from bml.types import ASK_QTY, BID_QTY, Floats, Int64


def occupied_edges(book_TLF: Floats, near_levels: int, deep_bins: int, *, threads: int | None = None) -> Int64:
    """Edges for :func:`bin_depth`, one row a snapshot: int64 (T, D + 1) with D = near_levels + deep_bins.

    book_TLF     float64 or float32 (T, L, 4). A snapshot is as deep as its deepest level with a quantity > 0 on
                 either side; NaN counts as no quantity, like zero
    near_levels  so many bins of one level come first
    deep_bins    so many more split the rest of the depth; they differ by one level at most. Where levels are fewer than
                 bins, there is one bin a level and the bins beyond are empty. With 0, the deep levels are left out
    threads      how many work on it; None: BML_NUM_THREADS, else 1. The result does not depend on it
    raises       TypeError (dtype, byte order, not an array); ValueError (shape, a negative number, no bin at all)
    cost         reads each snapshot from its deep end to its occupied depth. Releases the GIL
    """
    where = "occupied_edges"
    book = book_of(where, book_TLF)
    near = _arrays.integer(where, "near_levels", near_levels, least=0)
    deep = _arrays.integer(where, "deep_bins", deep_bins, least=0)
    if near + deep == 0:
        raise ValueError(f"{where}: near_levels and deep_bins are both 0: no bin is left")
    edges = np.empty((book.shape[0], near + deep + 1), np.int64)
    _occupied_edges(book, near, deep, edges, _arrays.threads(where, threads))
    return edges


@specification
def _occupied_edges(book_TLF: Floats, near_levels: int, deep_bins: int, edges_TE: Int64, threads: int) -> None:
    for t in range(book_TLF.shape[0]):
        depth = book_TLF.shape[1]
        while depth > 0 and not (book_TLF[t, depth - 1, BID_QTY] > 0 or book_TLF[t, depth - 1, ASK_QTY] > 0):
            depth -= 1
        near = min(near_levels, depth)
        rest = depth - near
        bins = min(deep_bins, rest)
        for d in range(near_levels + 1):
            edges_TE[t, d] = min(d, near)
        for d in range(1, deep_bins + 1):
            edges_TE[t, near_levels + d] = near + (d * rest // bins if d < bins else rest)
