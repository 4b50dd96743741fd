"""What is in the day files of a store, symbol by symbol and day by day, from their content: flags, ages, reports.

A day is of the configuration, symbol and date its header says; names only lead to the files. What a file holds
elsewhere than where its header belongs is damaged, like one that cannot be read.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bml.book import records
from bml.book.dayfile import DayFile, open_file
from bml.book.days import days_between, start_ns
from bml.book.report import Bools, runs
from bml.book.rolling import kept
from bml.book.store import DayStore
from bml.types import NS_PER_DAY, NS_PER_S, ConfigError, Event, Flag, Int64, StoreError

#: rows without a mid
_NO_MID = np.uint16(Flag.GAP | Flag.ABSENT)
#: rows whose mid is no price of theirs: unknown, of a crossed book, a jump, or an older snapshot carried forward
_NOT_USABLE = np.uint16(Flag.GAP | Flag.ABSENT | Flag.CROSSED | Flag.OUTLIER | Flag.FILLED)

#: kinds of defects, by the count of snapshots (or, for broken and duplicate, rows) in a quality report
DEFECTS = ("crossed", "locked", "stuck", "outlier", "duplicate", "truncated", "broken", "disorder", "backwards")


class State(enum.StrEnum):
    """What there is of a symbol-day."""

    PRESENT = "present"
    EMPTY = "empty"  # a file, but the source had no row
    ABSENT = "absent"  # no file
    EVICTED = "evicted"  # built and removed by a rolling store; its counts and events were kept
    DAMAGED = "damaged"


@dataclass(frozen=True, kw_only=True, slots=True)
class DayCoverage:
    """One symbol-day. ``fresh``, ``filled`` (carried forward) and ``missing`` (no mid) rows tile ``rows``.

    ``usable`` rows are fresh, and neither of a crossed book nor a jump (of an evicted day: fresh). ``defects`` count
    raw snapshots by kind (see :data:`DEFECTS`), ``on_grid`` rows of the grid by flag. ``longest_s`` are the longest
    runs of missing and of stuck rows, ``oldest_s`` the age of the oldest snapshot in use. ``events`` are the quality
    report's, with exact times. ``problem`` says why the day is absent or damaged, if that is known.
    """

    symbol: str
    day: dt.date
    state: State
    rows: int = 0
    fresh: int = 0
    filled: int = 0
    missing: int = 0
    usable: int = 0
    oldest_s: float = 0.0
    longest_s: dict[str, float] = field(default_factory=dict)
    defects: dict[str, int] = field(default_factory=dict)
    on_grid: dict[str, int] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    problem: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ledger:
    """Every day of ``symbols`` from the first to the last, by symbol and then day; ``digest`` names what built them.

    ``rows_per_day``: rows of a day's grid. ``damaged`` are files that cannot be read, with the reason; those whose day
    is known are days as well.
    """

    root: Path
    digest: str
    symbols: tuple[str, ...]
    start: dt.date
    stop: dt.date
    days: tuple[DayCoverage, ...]
    damaged: dict[str, str]
    rows_per_day: int


def of_config(store: DayStore, symbols: Sequence[str], start: dt.date, stop: dt.date, *, rows_per_day: int) -> Ledger:
    """The days [start, stop) of ``symbols`` in ``store``; days without a file are absent, even if all are.

    A store that verifies has every byte of its files read. Cost: about 2 ms a day, else.
    """
    days, damaged = [], {}
    for symbol in symbols:
        for day in days_between(start, stop):
            path = store.path(symbol, day)
            try:
                with store.open(symbol, day) as file:
                    days.append(covered(file))
            except StoreError as error:
                if path.exists():
                    damaged[str(path)] = str(error)
                days.append(_without_file(store, symbol, day, damaged.get(str(path))))
    return Ledger(root=store.root, digest=store.digest, symbols=tuple(symbols), start=start, stop=stop,
                  days=tuple(days), damaged=damaged, rows_per_day=rows_per_day)  # fmt: skip


def of_store(root: Path, *, verify: bool = False) -> Ledger:
    """All day files below ``root``, which must be of one configuration; ``verify`` reads every byte of them.

    The days are those from the first to the last found of any symbol. Raises ConfigError where there is no day file,
    or where there are several configurations, which it names. Cost: about 2 ms a file, else.
    """
    by_digest: dict[str, dict[tuple[str, dt.date], DayCoverage]] = {}
    damaged: dict[str, str] = {}
    for path in sorted((root / "days").glob("*/*/*.h5")):
        try:
            with open_file(path, verify=verify) as file:
                digest = str(file.header["config_digest"])
                _check_place(root, digest, file)
                by_digest.setdefault(digest, {})[file.symbol, file.day] = covered(file)
        except StoreError as error:
            if path.exists():  # else a rolling store removed it meanwhile, which is no damage
                damaged[str(path)] = str(error)
    if len(by_digest) != 1:
        raise ConfigError(_choose(root, by_digest, damaged))
    ((digest, known),) = by_digest.items()
    store = DayStore(root, digest)
    first, last = min(day for _, day in known), max(day for _, day in known)
    symbols = tuple(sorted({symbol for symbol, _ in known}))
    days = []
    for symbol in symbols:
        for day in days_between(first, last + dt.timedelta(days=1)):
            there = known.get((symbol, day))
            days.append(there or _without_file(store, symbol, day, damaged.get(str(store.path(symbol, day)))))
    return Ledger(root=root, digest=digest, symbols=symbols, start=first, stop=last + dt.timedelta(days=1),
                  days=tuple(days), damaged=damaged, rows_per_day=max(day.rows for day in known.values()))  # fmt: skip


def covered(file: DayFile) -> DayCoverage:
    """What a day file says of itself; reads flags, ages and the report, not the book."""
    flag_T, age_ms_T, counts = np.asarray(file.flag_T), np.asarray(file.age_ms_T), file.quality.counts
    is_missing_T = flag_T & _NO_MID != 0
    is_filled_T = ~is_missing_T & (flag_T & np.uint16(Flag.FILLED) != 0)
    rows, missing, filled = len(flag_T), int(is_missing_T.sum()), int(is_filled_T.sum())
    step_s = file.cadence_ns / NS_PER_S
    is_stuck_T = flag_T & np.uint16(Flag.STUCK) != 0
    on_grid = {str(flag.name).lower(): int(np.count_nonzero(flag_T & np.uint16(flag))) for flag in Flag}
    return DayCoverage(
        symbol=file.symbol,
        day=file.day,
        state=State.PRESENT if counts.get("n_rows", 1) else State.EMPTY,
        rows=rows,
        fresh=rows - missing - filled,
        filled=filled,
        missing=missing,
        usable=int((flag_T & _NOT_USABLE == 0).sum()),
        oldest_s=max(int(age_ms_T.max(initial=0)), 0) / 1e3,
        longest_s={"missing": _longest(is_missing_T) * step_s, "stuck": _longest(is_stuck_T) * step_s},
        defects=_defects(counts),
        on_grid={name: count for name, count in on_grid.items() if count},
        events=file.quality.events,
    )


Totals = dict[str, float]


def totals(days: Iterable[DayCoverage], rows_per_day: int) -> Totals:
    """Days by state, rows and the shares of them that are usable, fresh, filled and missing, defects by kind.

    A day that is absent or damaged counts as ``rows_per_day`` missing rows, so shares compare over months.
    """
    names = ("days", *State, "rows", "usable", "fresh", "filled", "missing", *DEFECTS)
    out: Totals = dict.fromkeys(map(str, names), 0.0)
    for day in days:
        rows = day.rows or rows_per_day
        out["days"] += 1
        out[str(day.state)] += 1
        out["rows"] += rows
        out["missing"] += rows - day.fresh - day.filled
        for name in ("usable", "fresh", "filled"):
            out[name] += getattr(day, name)
        for kind, count in day.defects.items():
            out[kind] += count
    return out


def by_month(ledger: Ledger) -> dict[tuple[str, str], Totals]:
    """(symbol, "2024-01") -> :func:`totals` of the month's days."""
    grouped: dict[tuple[str, str], list[DayCoverage]] = {}
    for day in ledger.days:
        grouped.setdefault((day.symbol, f"{day.day:%Y-%m}"), []).append(day)
    return {key: totals(days, ledger.rows_per_day) for key, days in grouped.items()}


def by_symbol(ledger: Ledger) -> dict[str, Totals]:
    """Symbol -> :func:`totals` of all its days."""
    return {
        symbol: totals((day for day in ledger.days if day.symbol == symbol), ledger.rows_per_day)
        for symbol in ledger.symbols
    }


def missing_range(day: DayCoverage) -> tuple[int, int]:
    """First and last nanosecond of a day that is not there at all."""
    return start_ns(day.day), start_ns(day.day) + NS_PER_DAY - 1


def spans(days: Iterable[DayCoverage], state: State) -> list[tuple[str, dt.date, dt.date]]:
    """Symbol, first and last day of every unbroken stretch of days in ``state``."""
    out: list[tuple[str, dt.date, dt.date]] = []
    for day in days:
        if day.state is not state:
            continue
        if out and out[-1][0] == day.symbol and out[-1][2] == day.day - dt.timedelta(days=1):
            out[-1] = (day.symbol, out[-1][1], day.day)
        else:
            out.append((day.symbol, day.day, day.day))
    return out


def _without_file(store: DayStore, symbol: str, day: dt.date, problem: str | None) -> DayCoverage:
    """A day whose file is damaged, was removed, or never was."""
    if problem is not None:
        return DayCoverage(symbol=symbol, day=day, state=State.DAMAGED, problem=problem)
    failed = records.failed(store, symbol, day)
    if failed is not None:
        return DayCoverage(symbol=symbol, day=day, state=State.ABSENT, problem=f"failed: {failed.reason}")
    remains = kept(store, symbol, day)
    if remains is None:
        return DayCoverage(symbol=symbol, day=day, state=State.ABSENT)
    told = remains.summary
    return DayCoverage(
        symbol=symbol, day=day, state=State.EVICTED, rows=told.cells, fresh=told.fresh, filled=told.filled,
        missing=told.gap, usable=told.fresh, defects=_defects(told.counts), events=remains.quality.events,
    )  # fmt: skip


def _defects(counts: dict[str, int]) -> dict[str, int]:
    return {kind: counts[f"n_{kind}"] for kind in DEFECTS if counts.get(f"n_{kind}")}


def _longest(is_set_T: Bools) -> int:
    first, last = runs(is_set_T)
    lengths: Int64 = last - first + 1
    return int(lengths.max(initial=0))


def _check_place(root: Path, digest: str, file: DayFile) -> None:
    if DayStore(root, digest).path(file.symbol, file.day) != file.path:
        raise StoreError(f"{file.path}: holds {file.symbol} {file.day}: it was renamed, build the day again")


def _choose(root: Path, by_digest: dict[str, dict[tuple[str, dt.date], DayCoverage]], damaged: dict[str, str]) -> str:
    """The words for a store whose ledger cannot be told without a choice."""
    if not by_digest:
        broken = f", {len(damaged)} damaged files (the first: {next(iter(damaged.values()))})" if damaged else ""
        return f"{root}: no day files of bml below days/{broken}; give the store.root that bml preprocess filled"
    told = "; ".join(
        f"{digest[:8]} ({len(known)} days of {', '.join(sorted({symbol for symbol, _ in known}))})"
        for digest, known in sorted(by_digest.items())
    )
    return f"{root}: day files of {len(by_digest)} configurations: {told}; choose with --config CONFIG"
