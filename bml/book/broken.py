"""Broken cells of a wide book: found in blocks, refused by name or made absent."""

from __future__ import annotations

from typing import NoReturn

import numpy as np
import numpy.typing as npt

from bml.book.report import iso
from bml.types import ASK, BID, DataError, DepthRows, Float64, Int64

#: bytes of a block of snapshots: it and its masks stay in the cache of one core
BLOCK_BYTES = 1 << 20


def block_length(book_TLF: npt.NDArray[np.floating]) -> int:
    """How many snapshots make a block of about :data:`BLOCK_BYTES`."""
    return max(1, BLOCK_BYTES // max(1, book_TLF[:1].nbytes))


def clear(rows: DepthRows, ts_ns_T: Int64, book_TLF: Float64, *, refuse: bool) -> Int64:
    """Make every broken cell of ``book_TLF`` NaN, in place; how many there were per snapshot, int64 (T,).

    Rows of a sided source without price and quantity leave no trace in the book, so they are counted from
    ``rows``; those deeper than the book are not. ``refuse``: DataError for the first one instead.
    """
    time, level, side = _cells(book_TLF)
    named = _named_nan(rows, book_TLF.shape[1])
    count_T = np.bincount(time, minlength=len(ts_ns_T)).astype(np.int64)
    if len(named):
        count_T += np.bincount(np.searchsorted(ts_ns_T, rows.ts_ns_N[named]), minlength=len(ts_ns_T))
    if refuse and len(time) + len(named):
        more = len(time) + len(named) - 1
        if len(time):
            t, at, s = int(time[0]), int(level[0]), int(side[0])
            px, qty = book_TLF[t, at, 2 * s : 2 * s + 2]
            _refuse(rows.symbol, int(ts_ns_T[t]), at + 1, s, float(px), float(qty), more)
        row = int(named[0])
        side_of = BID if rows.side_N is None else int(rows.side_N[row])
        _refuse(rows.symbol, int(rows.ts_ns_N[row]), int(rows.level_N[row]), side_of, np.nan, np.nan, more)
    book_TLF[time, level, 2 * side] = np.nan
    book_TLF[time, level, 2 * side + 1] = np.nan
    return count_T


def _cells(book_TLF: Float64) -> tuple[Int64, Int64, Int64]:
    """(time, level, side) of every broken cell.

    Two comparisons a value and then one a cell: the masks of a cell's price and quantity are read as one
    16-bit word, 0x0101 when both are good. Words of neither-good are absent (both NaN) or broken.
    """
    n_times, n_levels, n_fields = book_TLF.shape
    flat = book_TLF.reshape(n_times, n_levels * n_fields)
    # px > 0 and qty >= 0 in one comparison: only zero lies between the smallest negative number and 0
    above = np.tile([0.0, -np.nextafter(0.0, 1.0)], n_levels * n_fields // 2)
    found: list[tuple[Int64, Int64]] = []
    step = block_length(book_TLF)
    for start in range(0, n_times, step):
        block = flat[start : start + step]
        good = block > above
        good &= block < np.inf
        pair = good.view(np.uint16)
        if not np.all(pair == 0x0101):
            absent = np.isnan(block).view(np.uint16) == 0x0101
            time, cell = np.nonzero((pair != 0x0101) & ~absent)
            found.append((time + start, cell))
    time = np.concatenate([np.empty(0, np.int64), *(part[0] for part in found)])
    cell = np.concatenate([np.empty(0, np.int64), *(part[1] for part in found)])
    return time, cell // 2, cell % 2


def _named_nan(rows: DepthRows, levels: int) -> Int64:
    """Sided rows that name a cell and bring neither price nor quantity."""
    if rows.side_N is None:
        return np.empty(0, np.int64)
    px, qty = rows.columns
    return np.flatnonzero(np.isnan(px) & np.isnan(qty) & (rows.level_N <= levels))


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
