"""Broken cells of a wide book: found in blocks, refused by name or made absent."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from bml.book.report import Bools, iso
from bml.types import ASK, BID, DataError, DepthBook, DepthRows, Float64, Floats, Int32, Int64

#: bytes of a block of snapshots: it and its masks stay in the cache of one core
BLOCK_BYTES = 1 << 20


def block_length(book_TLF: npt.NDArray[np.floating]) -> int:
    """How many snapshots make a block of about :data:`BLOCK_BYTES`."""
    return max(1, BLOCK_BYTES // max(1, book_TLF[:1].nbytes))


def broken_rows(px_N: Floats, qty_N: Floats) -> Bools:
    """(N,) rows that are no cell of a book: not 0 < price < inf, or not 0 <= quantity < inf; NaN is neither.

    Zero is compared with zero and with nothing next to it, so the answer holds in a process that flushes denormals.
    """
    good_N = (px_N > 0) & (px_N < np.inf)
    good_N &= (qty_N >= 0) & (qty_N < np.inf)
    return np.asarray(~good_N)


def deep(rows: DepthRows, levels: int) -> Bools:
    """(N,) rows that are left out as deeper than ``levels``; broken rows of a price-keyed book never are.

    Their rank says nothing: a book may be full with good levels and still have had a broken row.
    """
    deep_N = rows.level_N > levels
    if rows.price_keyed and deep_N.any():
        deep_N &= ~broken_rows(*rows.columns)
    return deep_N


class Unseen(NamedTuple):
    """Broken rows that are no broken cell of the book: how many per snapshot, and the first of them."""

    count_T: Int32 | Int64
    #: its time, level, side, price and quantity; asked when there is one
    first: Callable[[], tuple[int, int, int, float, float]]


def clear(rows: DepthRows, ts_ns_T: Int64, book_TLF: Float64, *, refuse: bool) -> Int64:
    """Make every broken cell of ``book_TLF`` NaN, in place; how many there were per snapshot, int64 (T,).

    Broken rows that leave no trace in the book are counted from ``rows``: those of a sided source without price
    and quantity, and those of a price-keyed one whose rank is beyond the book. Others deeper than the book are
    not counted. ``refuse``: DataError for the first one instead.
    """
    unseen = _unseen(rows, book_TLF.shape[1])

    def first() -> tuple[int, int, int, float, float]:
        row = int(unseen[0])
        side = BID if rows.side_N is None else int(rows.side_N[row])
        px, qty = (float(x[row]) for x in rows.columns)
        return int(rows.ts_ns_N[row]), int(rows.level_N[row]), side, px, qty

    return _clear(rows.symbol, ts_ns_T, book_TLF, Unseen(per_snapshot(rows, unseen, ts_ns_T), first), refuse)


def clear_placed(placed: DepthBook, *, refuse: bool) -> Int64:
    """:func:`clear` of a book that came without its rows."""

    def first() -> tuple[int, int, int, float, float]:
        assert placed.first_void is not None  # there is a first where there are any
        return *placed.first_void, np.nan, np.nan

    return _clear(placed.symbol, placed.ts_ns_T, placed.book_TLF, Unseen(placed.void_T, first), refuse)


def _clear(symbol: str, ts_ns_T: Int64, book_TLF: Float64, unseen: Unseen, refuse: bool) -> Int64:
    time, level, side = _cells(book_TLF)
    count_T: Int64 = np.bincount(time, minlength=len(ts_ns_T)) + unseen.count_T
    n_broken = int(count_T.sum())
    if refuse and n_broken:
        if len(time):
            t, at, s = int(time[0]), int(level[0]), int(side[0])
            px, qty = book_TLF[t, at, 2 * s : 2 * s + 2]
            _refuse(symbol, int(ts_ns_T[t]), at + 1, s, float(px), float(qty), n_broken - 1)
        _refuse(symbol, *unseen.first(), n_broken - 1)
    _make_absent(book_TLF, time, level, side)
    return count_T


def drop(book_TLF: Float64) -> None:
    """Make every broken cell NaN, in place."""
    _make_absent(book_TLF, *_cells(book_TLF))


def _make_absent(book_TLF: Float64, time: Int64, level: Int64, side: Int64) -> None:
    book_TLF[time, level, 2 * side] = np.nan
    book_TLF[time, level, 2 * side + 1] = np.nan


def _cells(book_TLF: Float64) -> tuple[Int64, Int64, Int64]:
    """(time, level, side) of every broken cell.

    A few comparisons a value and then one a cell: the masks of a cell's price and quantity are read as one
    16-bit word, 0x0101 when both are good. Words of neither-good are absent (both NaN) or broken.
    """
    n_times, n_levels, n_fields = book_TLF.shape
    flat = book_TLF.reshape(n_times, n_levels * n_fields)
    is_qty = np.tile([False, True], n_levels * n_fields // 2)
    found: list[tuple[Int64, Int64]] = []
    step = block_length(book_TLF)
    for start in range(0, n_times, step):
        block = flat[start : start + step]
        good = block > 0
        good |= (block == 0) & is_qty
        good &= block < np.inf
        pair = good.view(np.uint16)
        if not np.all(pair == 0x0101):
            absent = np.isnan(block).view(np.uint16) == 0x0101
            time, cell = np.nonzero((pair != 0x0101) & ~absent)
            found.append((time + start, cell))
    time = np.concatenate([np.empty(0, np.int64), *(part[0] for part in found)])
    cell = np.concatenate([np.empty(0, np.int64), *(part[1] for part in found)])
    return time, cell // 2, cell % 2


def _unseen(rows: DepthRows, levels: int) -> Int64:
    """Broken rows that are no broken cell of the book; see :func:`clear`."""
    if rows.side_N is None:
        return np.empty(0, np.int64)
    px, qty = rows.columns
    within_N = rows.level_N <= levels
    unseen_N = np.isnan(px) & np.isnan(qty) & within_N
    unseen_N[beyond(rows, levels)] = True
    return np.flatnonzero(unseen_N)


def beyond(rows: DepthRows, levels: int) -> Int64:
    """Broken rows whose rank by price is beyond the book."""
    if not rows.price_keyed:
        return np.empty(0, np.int64)
    deep = np.flatnonzero(rows.level_N > levels)
    return deep[broken_rows(*(x[deep] for x in rows.columns))]


def per_snapshot(rows: DepthRows, some: Int64, ts_ns_T: Int64) -> Int64:
    """(T,) how many of ``some`` rows each snapshot has."""
    return np.bincount(np.searchsorted(ts_ns_T, rows.ts_ns_N[some]), minlength=len(ts_ns_T))


def _refuse(symbol: str, ts_ns: int, level: int, side: int, px: float, qty: float, more: int) -> NoReturn:
    name = {BID: "bid", ASK: "ask"}[side]
    if np.isnan(px) and np.isnan(qty):
        what = f"a row without {name} price and quantity"
    elif np.isnan(px) or np.isnan(qty):
        what = f"{name} {'price' if np.isnan(px) else 'quantity'} is missing beside " + (
            f"quantity {qty}" if np.isnan(px) else f"price {px}"
        )
    elif np.isinf(px) or np.isinf(qty):
        what = f"infinite {name} {'price' if np.isinf(px) else 'quantity'}"
    elif px <= 0:
        what = f"{'negative' if px < 0 else 'zero'} {name} price {px}"
    else:
        what = f"negative {name} quantity {qty}"
    raise DataError(
        f"{symbol} {iso(ts_ns)}: {what} at level {level} ({more} more like it); "
        "set data_object.bad_rows: drop to drop and count such cells"
    )
