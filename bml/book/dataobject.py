"""The data object: a source's tall rows of one symbol-day as a wide book at its own times.

Nothing is resampled, filled or repaired here. Rows are only placed, and what breaks the contract of a row is
refused or, by rule, dropped; either way it is counted and listed with its time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from bml import kernels
from bml.book import broken
from bml.book.report import Bools, iso, merged, run_events
from bml.book.truncated import rows_per_snapshot, truncated
from bml.host import kernel_threads
from bml.registry import stage
from bml.types import DataError, DataObject, DepthBook, DepthRows, Event, Flag, Float64, Int32, Int64, QualityReport

#: rows looked at at once
BLOCK_ROWS = 1 << 17


@dataclass(frozen=True, slots=True)
class _Found:
    """What one check found: flags to set, totals, time ranges."""

    flag_T: npt.NDArray[np.uint16]
    counts: dict[str, int]
    events: tuple[Event, ...]


@stage
def build(
    rows: DepthRows | DepthBook,
    *,
    levels: Annotated[int, Field(ge=1)] = 1000,
    bad_rows: Literal["error", "drop"] = "error",
    duplicates: Literal["error", "first", "last"] = "error",
    monotonic_time: bool = True,
) -> DataObject:
    """Tall rows (N,) in any order to the wide book (T, levels, 4) float64 at their T distinct times.

    levels          rows deeper than this are dropped and counted (``n_deep``)
    bad_rows        a cell (one side of one level) is broken when only one of price and quantity is there, either
                    is infinite, the price is <= 0 or the quantity < 0; in sided rows also when both are NaN.
                    Paired rows with both NaN say that this side has no such level. A quantity of 0 is data.
                    "error" refuses; "drop" makes the cell NaN (absent) and flags its snapshot BROKEN. A broken row
                    deeper than the book is ``n_deep``; where levels were ranked by price it is broken all the same
    duplicates      rows for one cell of the same batch with different values: refuse, or keep by row order.
                    Equal ones are kept once; either way the snapshot is flagged DUPLICATE
    monotonic_time  of ``ordered`` rows: True refuses times that go back, False counts them (``n_time_back``)

    ``sequence_T`` is the largest sequence number of each snapshot's rows (negative: none); a snapshot whose
    number is below the previous one's is flagged BACKWARDS, one with fewer than half the rows of the last whole one
    TRUNCATED (see :mod:`bml.book.truncated`).
    Counts: n_rows n_snapshots n_deep n_superseded (rows of a batch that a larger one replaced, left out by the
    source) n_duplicate (surplus rows) n_conflict n_broken n_backwards n_truncated n_time_back; counts and events
    leave the look-back out, ``n_conflict`` excepted.
    Raises DataError naming symbol, time and row or level. Cost: the kernel, then one pass over the book.

    A :class:`DepthBook` was placed by its source, by the same ``levels`` and ``duplicates``: it comes to the same data
    object as its rows, and its memory is taken over.
    """
    if isinstance(rows, DepthBook):
        return _of_placed(rows, levels, refuse=bad_rows == "error")
    back = time_back(rows, monotonic_time)
    try:
        wide = kernels.tall_to_wide(
            rows.ts_ns_N,
            rows.level_N,
            rows.columns,
            levels=levels,
            side_N=rows.side_N,
            batch_N=rows.batch_N,
            duplicates=duplicates,
            threads=kernel_threads(),
        )
    except ValueError as error:
        raise DataError(_place(rows, str(error))) from error
    ts_ns_T = wide.ts_ns_T
    book_TLF = np.asarray(wide.book_TLF, np.float64)
    check_range(rows, ts_ns_T)
    cell_T = broken.clear(rows, ts_ns_T, book_TLF, refuse=bad_rows == "error")
    return described(
        rows, book_TLF, Placed(ts_ns_T, wide.duplicate_T, cell_T, wide.n_deep, wide.n_conflict), back, levels
    )


def _of_placed(book: DepthBook, levels: int, *, refuse: bool) -> DataObject:
    if book.book_TLF.shape[1] != levels:
        raise ValueError(f"the source placed {book.book_TLF.shape[1]} levels, not {levels}")
    check_range(book, book.ts_ns_T)
    cell_T = broken.clear_placed(book, refuse=refuse)
    n_deep = int(book.deep_T.sum(dtype=np.int64))
    placed = Placed(book.ts_ns_T, book.duplicate_T, cell_T, n_deep, book.n_conflict)
    return described(book, book.book_TLF, placed, (), levels)


class Placed(NamedTuple):
    """What is known of rows once they are placed in snapshots."""

    ts_ns_T: Int64
    duplicate_T: Int32  # surplus rows per snapshot
    broken_T: Int32 | Int64  # broken cells per snapshot
    n_deep: int
    n_conflict: int


def described(
    rows: DepthRows | DepthBook, book_TLF: Float64, placed: Placed, back: tuple[Event, ...], levels: int
) -> DataObject:
    """The data object of a book that was placed and cleared: flags, sequence numbers, counts and events."""
    ts_ns_T = placed.ts_ns_T
    sequence_T: Int64 | None = None
    if isinstance(rows, DepthRows) and rows.sequence_N is not None:
        sequence_T = _sequence(rows.ts_ns_N, rows.sequence_N, ts_ns_T)
    counted_from_ns = rows.start_ns if rows.counted_from_ns is None else rows.counted_from_ns
    counted_T = ts_ns_T >= counted_from_ns
    found = (
        _broken(placed.broken_T, ts_ns_T, counted_T),
        _duplicate(placed.duplicate_T, ts_ns_T, counted_T),
        _backwards(sequence_T, ts_ns_T, counted_T),
        _truncated(rows, placed, counted_T),
    )
    flag_T = np.zeros(len(ts_ns_T), np.uint16)
    n_rows, n_deep, n_superseded = (
        _counted_rows(rows, levels if placed.n_deep else None, counted_from_ns)
        if isinstance(rows, DepthRows)
        else _counted_placed(rows, counted_T)
    )
    counts = {
        "n_rows": n_rows,
        "n_snapshots": int(counted_T.sum()),
        "n_deep": n_deep,
        "n_superseded": n_superseded,
        "n_conflict": placed.n_conflict,
        "n_time_back": sum(event.count for event in back),
    }
    quality = merged(QualityReport(symbol=rows.symbol), counts, back)
    for part in found:
        flag_T |= part.flag_T
        quality = merged(quality, part.counts, part.events)
    return DataObject(
        symbol=rows.symbol,
        start_ns=rows.start_ns,
        stop_ns=rows.stop_ns,
        ts_ns_T=ts_ns_T,
        book_TLF=book_TLF,
        flag_T=flag_T,
        quality=quality,
        sequence_T=sequence_T,
        counted_from_ns=rows.counted_from_ns,
        query=rows.query,
    )


def in_order(ts_ns_N: Int64) -> bool:
    """Whether no time goes back."""
    return not any((ts[1:] < ts[:-1]).any() for ts in _blocks(ts_ns_N, 1))


def _counted_rows(rows: DepthRows, levels: int | None, from_ns: int) -> tuple[int, int, int]:
    """Rows, those deeper than ``levels`` (None: there are none) and superseded ones, dated ``from_ns`` or later."""
    n_superseded = 0 if rows.superseded_ns_N is None else int((rows.superseded_ns_N >= from_ns).sum())
    n_deep = 0 if levels is None else _deep_from(rows, levels, from_ns)
    return _rows_from(rows.ts_ns_N, from_ns), n_deep, n_superseded


def _counted_placed(book: DepthBook, counted_T: Bools) -> tuple[int, int, int]:
    """:func:`_counted_rows` of a book."""
    n_rows, n_deep, n_superseded = (
        0 if count_T is None else int(count_T[counted_T].sum(dtype=np.int64))
        for count_T in (book.n_rows_T, book.deep_T, book.superseded_T)
    )
    return n_rows, n_deep, n_superseded


def _rows_from(ts_ns_N: Int64, from_ns: int) -> int:
    """How many rows are dated ``from_ns`` or later."""
    return sum(int(np.count_nonzero(ts >= from_ns)) for ts in _blocks(ts_ns_N))


def _blocks(ts_ns_N: Int64, overlap: int = 0) -> Iterator[Int64]:
    """Runs of rows short enough for masks of them to stay in the cache, each with ``overlap`` rows of the next."""
    for start in range(0, len(ts_ns_N), BLOCK_ROWS):
        yield ts_ns_N[start : start + BLOCK_ROWS + overlap]


def _deep_from(rows: DepthRows, levels: int, from_ns: int) -> int:
    return int(np.count_nonzero(broken.deep(rows, levels) & (rows.ts_ns_N >= from_ns)))


def time_back(rows: DepthRows, refuse: bool) -> tuple[Event, ...]:
    """Where the times of rows in order of arrival go back; DataError for the first when ``refuse``."""
    if not rows.ordered or in_order(rows.ts_ns_N):
        return ()
    ts = rows.ts_ns_N
    at = np.flatnonzero(ts[1:] < ts[:-1]) + 1
    if len(at) and refuse:
        row = int(at[0])
        raise DataError(
            f"{rows.symbol}: time goes back at row {row}, from {iso(int(ts[row - 1]))} to {iso(int(ts[row]))} "
            f"({len(at) - 1} more like it); set data_object.monotonic_time: false to sort and count such rows"
        )
    return tuple(
        Event(
            flag=Flag.BACKWARDS,
            start_ns=int(ts[row]),
            stop_ns=int(ts[row - 1]),
            count=1,
            detail=f"time goes back at row {row}",
        )
        for row in at.tolist()
        if rows.counted_from_ns is None or ts[row - 1] >= rows.counted_from_ns
    )


def _place(rows: DepthRows, message: str) -> str:
    """A kernel's words with symbol and time: it knows rows only."""
    named = re.search(r"row (\d+)", message)
    row = int(named[1]) if named else -1
    where = f" {iso(int(rows.ts_ns_N[row]))}" if 0 <= row < rows.n_rows else ""
    words, is_conflict, _ = message.removeprefix("tall_to_wide: ").partition(": pass duplicates=")
    hint = ": duplicate rows that differ; set data_object.duplicates: first or last" if is_conflict else ""
    return f"{rows.symbol}{where}: {words}{hint}"


def check_range(rows: DepthRows | DepthBook, ts_ns_T: Int64) -> None:
    """Refuse rows from outside the range they were asked for."""
    if len(ts_ns_T) and not (rows.start_ns <= int(ts_ns_T[0]) and int(ts_ns_T[-1]) < rows.stop_ns):
        raise DataError(
            f"{rows.symbol}: rows from {iso(int(ts_ns_T[0]))} to {iso(int(ts_ns_T[-1]))} lie outside the range asked "
            f"for, [{iso(rows.start_ns)}, {iso(rows.stop_ns)}): check the unit of the source's time column"
        )


def _flags(flag: Flag, mask_T: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint16]:
    return mask_T.astype(np.uint16) * np.uint16(flag)


def _broken(cell_T: Int32 | Int64, ts_ns_T: Int64, counted_T: Bools) -> _Found:
    is_broken_T = cell_T > 0
    total = np.concatenate(([0], np.cumsum(cell_T)))
    events = run_events(
        Flag.BROKEN, is_broken_T & counted_T, ts_ns_T, lambda i, j: f"{total[j + 1] - total[i]} broken rows dropped"
    )
    return _Found(_flags(Flag.BROKEN, is_broken_T), {"n_broken": int(cell_T[counted_T].sum())}, events)


def _duplicate(duplicate_T: Int32, ts_ns_T: Int64, counted_T: Bools) -> _Found:
    is_duplicate_T = duplicate_T > 0
    total = np.concatenate(([0], np.cumsum(duplicate_T, dtype=np.int64)))
    events = run_events(
        Flag.DUPLICATE, is_duplicate_T & counted_T, ts_ns_T, lambda i, j: f"{total[j + 1] - total[i]} surplus rows"
    )
    return _Found(_flags(Flag.DUPLICATE, is_duplicate_T), {"n_duplicate": int(duplicate_T[counted_T].sum())}, events)


def _truncated(rows: DepthRows | DepthBook, placed: Placed, counted_T: Bools) -> _Found:
    if isinstance(rows, DepthBook):
        n_T = rows.n_rows_T - placed.duplicate_T
    else:
        ordered = in_order(rows.ts_ns_N)
        n_T = rows_per_snapshot(rows, placed.ts_ns_T, in_order=ordered) - placed.duplicate_T
    is_short_T = truncated(placed.ts_ns_T, n_T)
    events = run_events(
        Flag.TRUNCATED,
        is_short_T & counted_T,
        placed.ts_ns_T,
        lambda i, j: f"as few as {n_T[i : j + 1].min()} rows, {n_T[i - 1]} in the snapshot before",
    )
    return _Found(_flags(Flag.TRUNCATED, is_short_T), {"n_truncated": int((is_short_T & counted_T).sum())}, events)


def _sequence(ts_ns_N: Int64, sequence_N: Int64, ts_ns_T: Int64) -> Int64:
    """The largest sequence number of each snapshot's rows."""
    if len(ts_ns_T) == 0:
        return np.empty(0, np.int64)
    if not in_order(ts_ns_N):
        order = np.argsort(ts_ns_N, kind="stable")
        ts_ns_N, sequence_N = ts_ns_N[order], sequence_N[order]
    starts = np.searchsorted(ts_ns_N, ts_ns_T)
    return np.maximum.reduceat(sequence_N, starts)


def _backwards(sequence_T: Int64 | None, ts_ns_T: Int64, counted_T: Bools) -> _Found:
    is_back_T = np.zeros(len(ts_ns_T), np.bool_)
    if sequence_T is None or len(sequence_T) == 0:
        return _Found(_flags(Flag.BACKWARDS, is_back_T), {"n_backwards": 0}, ())
    # numbers below 0 stand for "none": each known number is compared with the known one before it
    known = np.flatnonzero(sequence_T >= 0)
    number = sequence_T[known]
    is_back_T[known[1:]] = number[1:] < number[:-1]
    before_T = np.zeros(len(ts_ns_T), np.int64)
    before_T[known[1:]] = number[:-1]
    events = run_events(
        Flag.BACKWARDS, is_back_T & counted_T, ts_ns_T, lambda i, j: f"sequence from {before_T[i]} to {sequence_T[j]}"
    )
    return _Found(_flags(Flag.BACKWARDS, is_back_T), {"n_backwards": int((is_back_T & counted_T).sum())}, events)
