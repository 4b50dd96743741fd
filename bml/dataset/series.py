"""The day files of a configuration read once, end to end: mids, flags, ages and daily moments of every symbol."""

from __future__ import annotations

import datetime as dt
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bml.book.store import DayFile, DayStore
from bml.dataset.content import Last, content_age_ms, last_row, repeats
from bml.dataset.splits import day_start_ns
from bml.types import NS_PER_DAY, DailyMoments, DataError, Flag, Float64, Int32, Int64


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """Rows 0, 1, 2... at equal distance from the first day's first row; a day is ``rows_per_day`` of them."""

    first: dt.date
    n_days: int
    cadence_ns: int
    phase_ns: int

    @property
    def rows_per_day(self) -> int:
        return NS_PER_DAY // self.cadence_ns

    @property
    def n_rows(self) -> int:
        return self.n_days * self.rows_per_day

    @property
    def start_ns(self) -> int:
        """Time of row 0."""
        return day_start_ns(self.first) + self.phase_ns

    def day(self, number: int) -> dt.date:
        return self.first + dt.timedelta(days=number)

    def time_ns(self, rows_N: Int64) -> Int64:
        return self.start_ns + rows_N * self.cadence_ns

    def row(self, time_ns_N: Int64) -> Int64:
        """Row numbers of times that lie on the grid."""
        return (time_ns_N - self.start_ns) // self.cadence_ns


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """(A, T) mids and flags on the whole grid, and what each day file says of itself.

    ``content_ms_AT`` is how long each row has said the same, see :func:`bml.dataset.content.content_age_ms`.
    A day without a file is absent: its mids are NaN, its flags ABSENT | GAP, its ages -1, its moments None.
    """

    symbols: tuple[str, ...]
    grid: Grid
    mid_AT: Float64
    flag_AT: npt.NDArray[np.uint16]
    content_ms_AT: Int32
    moments_AD: tuple[tuple[DailyMoments | None, ...], ...]
    levels: int
    missing: dict[str, int]  # symbol -> days without a file
    feature_names: tuple[str, ...] = ()


def read_series(store: DayStore, symbols: tuple[str, ...], grid: Grid) -> Series:
    """Read every day file of ``symbols`` over ``grid``; of the book only rows that seem to repeat the one before.

    Raises DataError naming symbol and day if a file is on another grid, has another number of levels than
    the first or other window features, or if there is no file at all; StoreError for a damaged file (one that is
    not there is no error).
    """
    mid_AT = np.full((len(symbols), grid.n_rows), np.nan)
    flag_AT = np.full(mid_AT.shape, int(Flag.ABSENT | Flag.GAP), dtype=np.uint16)
    content_ms_AT = np.full(mid_AT.shape, -1, dtype=np.int32)
    moments: list[list[DailyMoments | None]] = []
    levels = -1
    feature_names: tuple[str, ...] = ()
    for a, symbol in enumerate(symbols):
        moments.append([])
        age_ms_T = np.full(grid.n_rows, -1, dtype=np.int32)
        repeats_T = np.zeros(grid.n_rows, dtype=np.bool_)
        last: Last | None = None
        for number in range(grid.n_days):
            day = grid.day(number)
            if not store.path(symbol, day).exists():
                moments[a].append(None)
                last = None
                continue
            with closing(store.open(symbol, day)) as file:
                if levels < 0:
                    levels, feature_names = file.book_TLF.shape[1], file.feature_names
                _check(file, symbol, grid, number, levels, feature_names)
                rows = slice(number * grid.rows_per_day, (number + 1) * grid.rows_per_day)
                mid_AT[a, rows] = file.mid_T
                flag_AT[a, rows] = file.flag_T
                age_ms_T[rows] = file.age_ms_T
                repeats_T[rows] = repeats(file, last)
                last = last_row(file)
                moments[a].append(file.moments)
        content_ms_AT[a] = content_age_ms(age_ms_T, mid_AT[a], repeats_T, grid.cadence_ns)
    missing = {symbol: row.count(None) for symbol, row in zip(symbols, moments, strict=True)}
    if levels < 0:
        raise DataError(f"no day file of {', '.join(symbols)} from {grid.first} on ({grid.n_days} days); "
                        "run the preprocess stage first")  # fmt: skip
    return Series(
        symbols=symbols,
        grid=grid,
        mid_AT=mid_AT,
        flag_AT=flag_AT,
        content_ms_AT=content_ms_AT,
        moments_AD=tuple(map(tuple, moments)),
        levels=levels,
        missing=missing,
        feature_names=feature_names,
    )


def _check(file: DayFile, symbol: str, grid: Grid, number: int, levels: int, feature_names: tuple[str, ...]) -> None:
    where = f"{symbol} {grid.day(number)}"
    expected = grid.time_ns(np.arange(number * grid.rows_per_day, (number + 1) * grid.rows_per_day, dtype=np.int64))
    if not np.array_equal(file.grid_ns_T, expected):
        raise DataError(f"{where}: the day file is not on the configured grid (cadence {grid.cadence_ns / 1e9:g} s, "
                        f"phase {grid.phase_ns / 1e6:g} ms); preprocess the day again")  # fmt: skip
    if file.book_TLF.shape[1] != levels:
        raise DataError(f"{where}: {file.book_TLF.shape[1]} levels, other days have {levels}; preprocess all days "
                        "with one depth plan")  # fmt: skip
    if file.feature_names != feature_names:
        raise DataError(f"{where}: window features {list(file.feature_names)}, other days have {list(feature_names)}; "
                        "preprocess all days alike")  # fmt: skip
