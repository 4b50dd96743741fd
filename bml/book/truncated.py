"""Snapshots that break off: a feed that suddenly shows a part of the depth it showed before."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bml.book.report import Bools
from bml.types import NS_PER_S, DepthRows, Int64

#: a book that stays as short for so long is believed to be one
MEMORY_NS = 3600 * NS_PER_S

#: rows looked up at a time, so that what is made of them stays in the cache
BLOCK_ROWS = 1 << 16


def rows_per_snapshot(rows: DepthRows, ts_ns_T: Int64, *, in_order: bool) -> Int64:
    """(T,) rows of each of the times ``ts_ns_T``, which are all there are, ascending.

    Cost: a search a snapshot when rows are in order, else a look into a table a row (a search where times cluster).
    """
    if in_order:
        return np.diff(np.searchsorted(rows.ts_ns_N, ts_ns_T), append=rows.n_rows)
    count_T = np.zeros(len(ts_ns_T), np.int64)
    if len(ts_ns_T) == 0:
        return count_T
    place = _placing(ts_ns_T)
    for start in range(0, rows.n_rows, BLOCK_ROWS):
        count_T += np.bincount(place(rows.ts_ns_N[start : start + BLOCK_ROWS]), minlength=len(ts_ns_T))
    return count_T


def _placing(ts_ns_T: Int64) -> Callable[[Int64], Int64]:
    """Finds times among ``ts_ns_T``: a table says where to begin, which is right at once for evenly spaced ones."""
    begin, step = int(ts_ns_T[0]), int(ts_ns_T[-1] - ts_ns_T[0]) // (2 * len(ts_ns_T)) + 1
    n_buckets = int(ts_ns_T[-1] - begin) // step + 1
    first_K = np.searchsorted(ts_ns_T, begin + step * np.arange(n_buckets))

    def place(ts_ns_N: Int64) -> Int64:
        place_N = first_K[(ts_ns_N - begin) // step]
        early = np.flatnonzero(ts_ns_T[place_N] != ts_ns_N)
        place_N[early] = np.searchsorted(ts_ns_T, ts_ns_N[early])
        return place_N

    return place


def truncated(ts_ns_T: Int64, n_T: Int64) -> Bools:
    """Snapshots with fewer than half the rows ``n_T`` of the last one that was not so; looks back only.

    After :data:`MEMORY_NS` without a longer one the short book is believed. Cost: one iteration a sudden drop, each
    looking no further than the memory.
    """
    found_T = np.zeros(len(n_T), np.bool_)
    resume = 0
    for at in (np.flatnonzero(2 * n_T[1:] < n_T[:-1]) + 1).tolist():
        if at < resume:
            continue
        forgotten = int(np.searchsorted(ts_ns_T, ts_ns_T[at - 1] + MEMORY_NS, side="right"))
        whole = 2 * n_T[at:forgotten] >= n_T[at - 1]
        back = at + int(whole.argmax()) if whole.any() else max(at, forgotten)
        found_T[at:back] = True
        resume = back + 1
    return found_T
