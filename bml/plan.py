"""Which days a configuration wants, which of them are there, and what the others will take.

Looks at the store alone, :func:`with_rows` apart: no source is opened and nothing is written.
"""

from __future__ import annotations

import datetime as dt
import enum
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bml import learned
from bml.book import records
from bml.book.days import counted, days_between, start_ns, store_digest
from bml.book.records import BuiltDay
from bml.book.rolling import kept
from bml.book.store import DayStore
from bml.config import Config
from bml.sources.base import EstimatesRows, Source
from bml.types import NS_PER_DAY, BmlError

#: files looked into for their number of rows where no record of their building is left
SAMPLED = 5


class State(enum.StrEnum):
    """What is known of a day before anything is built."""

    PRESENT = "present"  # its file is there, whole and of this configuration
    EVICTED = "evicted"  # built before and removed by keep: rolling; its moments are there
    FAILED = "failed"  # in quarantine
    EMPTY = "empty"  # its file is there, but the source had no row: it is asked again
    STALE = "stale"  # only files of other configurations are there
    MISSING = "missing"  # no file, or a damaged one


#: states of days that are built without being asked for
TO_BUILD = frozenset({State.EMPTY, State.STALE, State.MISSING})


@dataclass(frozen=True, slots=True)
class PlannedDay:
    """A wanted day and its state; ``reason``: why it failed, if it did."""

    symbol: str
    day: dt.date
    state: State
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of one day: rows read, bytes of its file, seconds to build it; None where nothing tells."""

    rows: float | None = None
    size: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Every wanted day in the order they are built (day by day, then symbol), and what one of a symbol takes."""

    days: tuple[PlannedDay, ...]
    estimates: dict[str, Estimate]
    digest: str | None
    workers: int
    build: frozenset[tuple[str, dt.date]]
    notes: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """The plan as JSON values; null is unknown."""
        symbols = {symbol: self._row(symbol) for symbol in self.estimates}
        total: dict[str, Any] = {}
        for row in symbols.values():
            for key, value in row.items():
                total[key] = None if value is None or total.get(key, 0) is None else total.get(key, 0) + value
        rest = [d for d in self.days if d.state is not State.PRESENT]
        days = [{"symbol": d.symbol, "day": str(d.day), "state": d.state.value, "reason": d.reason} for d in rest]
        return {"digest": self.digest, "workers": self.workers, "symbols": symbols, "total": total, "days": days,
                "notes": list(self.notes)}  # fmt: skip

    def _row(self, symbol: str) -> dict[str, float | None]:
        counts = Counter(one.state for one in self.days if one.symbol == symbol)
        n = sum(1 for one in self.days if one.symbol == symbol and (symbol, one.day) in self.build)
        estimate = self.estimates[symbol]
        row: dict[str, float | None] = {"wanted": counts.total()}
        row |= {state.value: counts[state] for state in State}
        row["to_build"] = n
        seconds = None if estimate.seconds is None else estimate.seconds / max(1, self.workers)
        for key, each in (("rows", estimate.rows), ("bytes", estimate.size), ("seconds", seconds)):
            row[key] = 0 if n == 0 else None if each is None else n * each
        return row

    def table(self) -> str:
        """The plan for people: one line a symbol, and their sum."""
        told = self.document()
        names = ["wanted", *(state.value for state in State), "to_build"]
        head = f"{'symbol':12} " + " ".join(f"{name.replace('_', ' '):>8}" for name in names)
        lines = [f"{head} {'rows':>16} {'on disk':>10} {'time':>10}"]
        for symbol, row in [*told["symbols"].items(), ("all", told["total"])]:
            counts = " ".join(f"{row[name]:8d}" for name in names)
            rows = _shown(row["rows"], lambda v: f"{v:,.0f}")
            size = _shown(row["bytes"], lambda v: f"{v / 1e9:.2f} GB")
            time = _shown(row["seconds"], _duration)
            lines.append(f"{symbol:12} {counts} {rows:>16} {size:>10} {time:>10}")
        lines += [f"{d.symbol} {d.day}: failed before: {d.reason}" for d in self.days if d.state is State.FAILED]
        if self.digest is None:
            lines.append("what the steps learn from the training span is not known yet: the run begins with it")
        lines += self.notes
        return "\n".join(lines)


def _shown(value: float | None, words: Any) -> str:
    return "unknown" if value is None else str(words(value))


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def plan(cfg: Config, *, workers: int, force: bool = False, retry_failed: bool = False) -> Plan:
    """The plan of a configuration. Raises StoreError for a damaged record. Cost: about 2 ms a day that is there."""
    found = learned.known(cfg)
    store = None if found is None else DayStore(cfg.store.root, store_digest(cfg, found))
    days = survey(cfg, store)
    build = frozenset((one.symbol, one.day) for one in wanted(store, days, force=force, retry_failed=retry_failed))
    estimates = {symbol: Estimate() for symbol in cfg.data.symbols}
    if store is not None:
        estimates = _estimates(store, days, cfg.data.symbols)
    return Plan(tuple(days), estimates, None if store is None else store.digest, workers, build)


def with_rows(planned: Plan, source: Source) -> Plan:
    """The plan with the server's own estimate of rows for symbols of which no day was built before, and a note of it.

    Raises nothing for a server that cannot be asked: then the note says why. Cost: one EXPLAIN a symbol.
    """
    spans: dict[str, list[dt.date]] = {}
    for symbol, day in planned.build:
        if planned.estimates[symbol].rows is None:
            spans.setdefault(symbol, []).append(day)
    if not spans or not isinstance(source, EstimatesRows):
        return planned
    estimates = dict(planned.estimates)
    try:
        with source:
            for symbol, days in spans.items():
                first, last = min(days), max(days)
                rows = source.estimated_rows(symbol, start_ns(first), start_ns(last) + NS_PER_DAY)
                estimates[symbol] = Estimate(None if rows is None else rows / ((last - first).days + 1))
    except BmlError as error:
        return replace(planned, notes=(f"the server was asked for an estimate of the rows, in vain: {error}",))
    if all(one.rows is None for one in estimates.values()):
        return planned
    told = "the rows are the server's estimate from its statistics (ANALYZE): no day was built yet"
    return replace(planned, estimates=estimates, notes=(told,))


def wanted(store: DayStore | None, days: Sequence[PlannedDay], *, force: bool, retry_failed: bool) -> list[PlannedDay]:
    """The days a run builds; with ``force`` all but those an interrupted run with ``force`` has built already."""
    done = records.forced(store) if force and store is not None else set()

    def is_wanted(one: PlannedDay) -> bool:
        again = force and (one.symbol, one.day) not in done
        return again or one.state in TO_BUILD or (retry_failed and one.state is State.FAILED)

    return [one for one in days if is_wanted(one)]


def survey(cfg: Config, store: DayStore | None) -> list[PlannedDay]:
    """Every wanted day with its state; ``store`` None: what names the files is not known yet."""
    others = _Others()
    return [
        _state(cfg, store, others, symbol, day)
        for day in days_between(cfg.data.start, cfg.data.stop)
        for symbol in cfg.data.symbols
    ]


def _state(cfg: Config, store: DayStore | None, others: _Others, symbol: str, day: dt.date) -> PlannedDay:
    if store is None:
        nameless = DayStore(cfg.store.root, "0" * 8)
        return PlannedDay(symbol, day, State.STALE if others.have(nameless, symbol, day) else State.MISSING)
    failed = records.failed(store, symbol, day)
    if failed is not None and not records.is_settled(store, symbol, day):
        return PlannedDay(symbol, day, State.FAILED, failed.reason)
    rows = counted(store, symbol, day)
    if rows is not None:
        return PlannedDay(symbol, day, State.PRESENT if rows else State.EMPTY)
    remains = kept(store, symbol, day) if cfg.store.keep == "rolling" else None
    if remains is not None:
        return PlannedDay(symbol, day, State.EVICTED if remains.summary.counts.get("n_rows", 0) else State.EMPTY)
    return PlannedDay(symbol, day, State.STALE if others.have(store, symbol, day) else State.MISSING)


class _Others:
    """Which days have a file of whatever configuration; a folder is listed once."""

    def __init__(self) -> None:
        self._listed: dict[Any, set[str]] = {}

    def have(self, store: DayStore, symbol: str, day: dt.date) -> bool:
        """Whether there is a day file of another digest than the store's."""
        path = store.path(symbol, day)
        if path.parent not in self._listed:
            names = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
            own = path.name[-len("_00000000.h5") :]
            found = [re.fullmatch(r"(.+_\d{4}-\d\d-\d\d)_[0-9a-f]{8}\.h5", name) for name in names]
            self._listed[path.parent] = {match[1] for match in found if match and not match[0].endswith(own)}
        return f"{symbol}_{day}" in self._listed[path.parent]


def _estimates(store: DayStore, days: Sequence[PlannedDay], symbols: Sequence[str]) -> dict[str, Estimate]:
    """Of each symbol: the mean of its own days, else of all symbols' days."""
    known: dict[str, list[BuiltDay]] = {symbol: [] for symbol in symbols}
    for record in records.history(store):
        known.setdefault(record.symbol, []).append(record)
    own = {symbol: _mean(known[symbol]) if known[symbol] else _sampled(store, days, symbol) for symbol in symbols}
    everything = [record for some in known.values() for record in some]
    general = _mean(everything) if everything else next((e for e in own.values() if e.rows is not None), Estimate())
    return {symbol: one if one.rows is not None else general for symbol, one in own.items()}


def _mean(some: Sequence[BuiltDay]) -> Estimate:
    n = len(some)
    return Estimate(sum(r.rows for r in some) / n, sum(r.size for r in some) / n, sum(r.seconds for r in some) / n)


def _sampled(store: DayStore, days: Sequence[PlannedDay], symbol: str) -> Estimate:
    """Rows and size from the files that are there; how long they took, nobody wrote down."""
    here = [one.day for one in days if one.symbol == symbol and one.state is State.PRESENT][-SAMPLED:]
    if not here:
        return Estimate()
    rows = size = 0
    for day in here:
        with store.open(symbol, day) as file:
            rows += file.quality.counts.get("n_rows", 0)
            size += file.path.stat().st_size
    return Estimate(rows / len(here), size / len(here))
