"""Level numbers for rows that have a price but no level."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from bml.types import BID, DepthRows, Float64, Int32, Int64

Int8 = npt.NDArray[np.int8]


def rank_by_price(ts_ns_N: Int64, side_N: Int8, px_N: Float64) -> Int32:
    """Level (1 = best) of each row among the rows of its timestamp and side; rows stay where they are.

    Bids rank by falling price, asks by rising price. Rows of one (ts, side) with the same price get the same
    level: they are duplicates, and whoever builds the book settles them. Rows with a NaN price come last, each
    with a level of its own. Sorts: O(N log N) time, about 40 bytes a row of scratch.
    """
    n = ts_ns_N.shape[0]
    if n == 0:
        return np.empty(0, dtype=np.int32)
    key_N = np.where(side_N == BID, -px_N, px_N)
    order_N = np.lexsort((key_N, side_N, ts_ns_N))
    ts, side, key = ts_ns_N[order_N], side_N[order_N], key_N[order_N]
    new_book = np.ones(n, dtype=bool)
    new_book[1:] = (ts[1:] != ts[:-1]) | (side[1:] != side[:-1])
    new_level = new_book.copy()
    new_level[1:] |= key[1:] != key[:-1]  # NaN differs from NaN, so broken prices never share a level
    running = np.cumsum(new_level)
    before_book = np.maximum.accumulate(np.where(new_book, running - 1, 0))
    level_N = np.empty(n, dtype=np.int32)
    level_N[order_N] = running - before_book
    return level_N


def up_to_depth(rows: DepthRows, depth: int | None) -> DepthRows:
    """Only the rows of levels 1 to ``depth``, in their order; all of them when ``depth`` is None."""
    if depth is None or not rows.n_rows or int(rows.level_N.max()) <= depth:
        return rows
    keep_N = rows.level_N <= depth
    return replace(
        rows,
        ts_ns_N=rows.ts_ns_N[keep_N],
        level_N=rows.level_N[keep_N],
        columns=tuple(x[keep_N] for x in rows.columns),
        side_N=None if rows.side_N is None else rows.side_N[keep_N],
        batch_N=None if rows.batch_N is None else rows.batch_N[keep_N],
        sequence_N=None if rows.sequence_N is None else rows.sequence_N[keep_N],
    )
