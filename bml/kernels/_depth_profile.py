"""How often each level holds a quantity."""

from __future__ import annotations

import numpy as np

from bml.kernels import _arrays
from bml.kernels._backend import specification
from bml.types import ASK_QTY, BID_QTY, Floats, Int64


def depth_profile(book_TLF: Floats, *, threads: int | None = None) -> Int64:
    """In how many snapshots level l has a quantity > 0, per side: int64 (L, 2), bid then ask.

    book_TLF  float64 or float32 (T, L, 4)
    threads   how many work on it; None: BML_NUM_THREADS, else 1. The result does not depend on it
    NaN       counts as no quantity, like zero
    raises    TypeError (dtype, byte order, not an array); ValueError (shape)
    cost      one read of the book. Profiles of days add up. Releases the GIL
    """
    where = "depth_profile"
    book = book_of(where, book_TLF)
    count = np.empty((book.shape[1], 2), np.int64)
    _depth_profile(book, count, _arrays.threads(where, threads))
    return count


def book_of(where: str, book_TLF: Floats) -> Floats:
    """A book fit for a kernel."""
    book = _arrays.plain(where, "book_TLF", book_TLF, _arrays.FLOATS, 3)
    if book.shape[2] != 4:
        raise ValueError(f"{where}: book_TLF must have shape (T, L, 4), not {book.shape}")
    return book


@specification
def _depth_profile(book_TLF: Floats, count_L2: Int64, threads: int) -> None:
    times, levels, _ = book_TLF.shape
    count_L2[:] = 0
    for t in range(times):
        for level in range(levels):
            if book_TLF[t, level, BID_QTY] > 0:
                count_L2[level, 0] += 1
            if book_TLF[t, level, ASK_QTY] > 0:
                count_L2[level, 1] += 1
