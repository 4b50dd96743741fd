"""Level numbers for rows that have a price but no level."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from bml.book.broken import broken_rows
from bml.types import BID, DepthRows, Float64, Int32, Int64

Int8 = npt.NDArray[np.int8]
Bools = npt.NDArray[np.bool_]


def key_by_price(rows: DepthRows, depth: int | None) -> DepthRows:
    """Sided rows whose ``level_N`` means nothing yet, with their levels by price, up to ``depth``; order is kept.

    A row of quantity 0 is no level. With ``batch_N`` only the rows of each time's largest batch are kept (even if
    none of them is a level), and the others become ``superseded_ns_N``. Without it, rows of one time are one book.
    Broken rows are kept whatever ``depth`` is: whoever builds the book must see them.
    """
    _, qty_N = rows.columns
    keep_N = np.asarray(qty_N != 0)
    superseded_ns_N = None
    if rows.batch_N is not None:
        latest_N = latest_batch(rows.ts_ns_N, rows.batch_N)
        superseded_ns_N = rows.ts_ns_N[keep_N & ~latest_N]
        keep_N &= latest_N
    rows = _selected(rows, keep_N)
    assert rows.side_N is not None  # price-keyed rows are sided
    level_N = rank_by_price(rows.ts_ns_N, rows.side_N, *rows.columns)
    rows = replace(rows, level_N=level_N, price_keyed=True, superseded_ns_N=superseded_ns_N)
    return rows if depth is None else _selected(rows, (level_N <= depth) | broken_rows(*rows.columns))


def rank_by_price(ts_ns_N: Int64, side_N: Int8, px_N: Float64, qty_N: Float64) -> Int32:
    """Level (1 = best) of each row among the rows of its timestamp and side; rows stay where they are.

    Bids rank by falling price, asks by rising price. Rows of one (ts, side) with the same price get the same
    level: they are duplicates, and whoever builds the book settles them. Broken rows (see
    :func:`bml.book.broken.broken_rows`) come after all good ones, each with a level of its own, so they never
    move or displace a good level. Sorts: O(N log N) time, about 40 bytes a row of scratch.
    """
    n = ts_ns_N.shape[0]
    if n == 0:
        return np.empty(0, dtype=np.int32)
    is_broken_N = broken_rows(px_N, qty_N)
    key_N = np.where(side_N == BID, -px_N, px_N)
    order_N = np.lexsort((key_N, is_broken_N, side_N, ts_ns_N))
    ts, side, key, is_broken = (x[order_N] for x in (ts_ns_N, side_N, key_N, is_broken_N))
    new_book = np.ones(n, dtype=bool)
    new_book[1:] = (ts[1:] != ts[:-1]) | (side[1:] != side[:-1])
    new_level = new_book | is_broken
    new_level[1:] |= key[1:] != key[:-1]
    running = np.cumsum(new_level)
    before_book = np.maximum.accumulate(np.where(new_book, running - 1, 0))
    level_N = np.empty(n, dtype=np.int32)
    level_N[order_N] = running - before_book
    return level_N


def latest_batch(ts_ns_N: Int64, batch_N: Int64) -> Bools:
    """(N,) rows of the largest batch of their timestamp. O(N log N) time."""
    n = ts_ns_N.shape[0]
    order_N = np.lexsort((batch_N, ts_ns_N))
    ts, batch = ts_ns_N[order_N], batch_N[order_N]
    is_last = np.ones(n, dtype=bool)
    is_last[:-1] = ts[1:] != ts[:-1]
    last = np.flatnonzero(is_last)
    largest = np.repeat(batch[last], np.diff(last, prepend=-1))
    latest_N = np.empty(n, dtype=bool)
    latest_N[order_N] = batch == largest
    return latest_N


def _selected(rows: DepthRows, keep_N: Bools) -> DepthRows:
    if keep_N.all():
        return rows
    return replace(
        rows,
        ts_ns_N=rows.ts_ns_N[keep_N],
        level_N=rows.level_N[keep_N],
        columns=tuple(x[keep_N] for x in rows.columns),
        side_N=None if rows.side_N is None else rows.side_N[keep_N],
        batch_N=None if rows.batch_N is None else rows.batch_N[keep_N],
        sequence_N=None if rows.sequence_N is None else rows.sequence_N[keep_N],
    )
