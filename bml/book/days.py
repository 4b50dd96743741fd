"""From a source's tall rows to published day files, one symbol-day at a time.

The order of the steps and their parameters come from the configuration; this module knows none of them by
name. Every day file is published whole or not at all, and a day that is already there is not built again, so
a run that was killed is continued by running it again.
"""

from __future__ import annotations

import datetime as dt
import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bml.book import dataobject
from bml.book.fused import recognise
from bml.book.store import SCHEMA, DayFile, DayStore
from bml.config import Call, Config, digest
from bml.registry import learner, reads, without_same_rows
from bml.sources.base import ReadsBook, Source
from bml.types import (
    NS_PER_DAY,
    NS_PER_S,
    AlignedDay,
    ConfigError,
    DataError,
    DataObject,
    DayContext,
    DepthBook,
    DepthRows,
    Flag,
    StoreError,
    UnreadableFile,
)

#: days of the training span a step learns from: enough to see the book's depth, cheap enough to read twice
LEARN_DAYS = 5

#: step parameters that say how far before midnight a day's first rows may depend on
LOOK_BACK = ("max_gap_s", "jump_memory_s")

#: what may change about where rows come from without their being others
_SAME_ROWS = {"server", "reader"}

Learned = dict[str, object]
EPOCH = dt.date(1970, 1, 1)


def start_ns(day: dt.date) -> int:
    """Midnight UTC at the start of ``day``."""
    return (day - EPOCH).days * NS_PER_DAY


def days_between(start: dt.date, stop: dt.date) -> list[dt.date]:
    """Every day of [start, stop)."""
    return [start + dt.timedelta(days=n) for n in range((stop - start).days)]


@dataclass(frozen=True, kw_only=True, slots=True)
class DaySummary:
    """What one symbol-day holds; ``shares`` are of the day's grid cells, ``counts`` are the report's totals."""

    symbol: str
    day: dt.date
    built: bool
    cells: int
    fresh: int
    filled: int
    gap: int
    counts: dict[str, int]


class DayBuilder:
    """Runs data_object and the preprocessing steps of a configuration over an open source."""

    def __init__(
        self, cfg: Config, source: Source, learned: Learned | None = None, *, step_by_step: bool = False
    ) -> None:
        """``step_by_step`` runs every step by itself: the same days, and what the fused ones are compared with."""
        self._cfg, self._source = cfg, source
        self._learned = learned or {}
        self._build = cfg.data_object.function()
        self._steps = [(call, call.function()) for call in cfg.preprocess]
        # the first steps may be able to run as one; which, bml.book.fused knows
        named = [(fn, call.params) for call, fn in self._steps]
        self._fused = None if step_by_step else recognise((self._build, cfg.data_object.params), named)
        look_back_s = [_parameter(call, fn, name, 0.0) for call, fn in self._steps for name in LOOK_BACK]
        self._look_back_ns = round(max(look_back_s, default=0.0) * NS_PER_S)

    def learn(self, symbols: Sequence[str], days: Sequence[dt.date]) -> Learned:
        """What the steps learn from ``days`` (of the training span): step name -> its own JSON-able answer."""
        learned: Learned = {}
        for position, (call, fn) in enumerate(self._steps):
            learn = learner(fn)
            if learn is None:
                continue
            builder = DayBuilder(self._cfg, self._source, learned)
            learned[call.fn] = learn(builder._until(symbols, days, position), **call.params)
        return learned

    def _until(self, symbols: Sequence[str], days: Sequence[dt.date], position: int) -> Iterator[AlignedDay]:
        n_rows = 0
        for symbol in symbols:
            for day in days:
                value = self._run(symbol, day, position)
                n_rows += value.quality.counts.get("n_rows", 0)
                if isinstance(value, AlignedDay):
                    yield value
        if n_rows == 0:
            raise DataError(no_rows(", ".join(symbols), f"on {len(days)} days from {days[0]} to {days[-1]}"))

    def build(self, symbol: str, day: dt.date) -> AlignedDay:
        """The symbol-day after every step. Raises DataError or SourceError, naming symbol and day."""
        value = self._run(symbol, day, len(self._steps))
        if not isinstance(value, AlignedDay):
            raise DataError("no preprocessing step puts the book on a grid: add {fn: book.align.to_grid}")
        return value

    def _run(self, symbol: str, day: dt.date, n_steps: int) -> DataObject | AlignedDay:
        midnight = start_ns(day)
        fused = self._fused if self._fused is not None and self._fused.n_steps <= n_steps else None
        rows = replace(self._read(symbol, midnight), counted_from_ns=midnight)
        context = DayContext(
            symbol=symbol,
            day=day,
            start_ns=midnight + self._cfg.data.phase_ms * 1_000_000,
            stop_ns=midnight + NS_PER_DAY,
            cadence_ns=round(self._cfg.data.cadence_s * NS_PER_S),
            learned=self._learned,
        )
        value: DataObject | AlignedDay | None = None
        done = 0
        if fused is not None:
            value, done = fused.run(rows, context), fused.n_steps
        if value is None:
            value, done = self._build(rows, **self._cfg.data_object.params), 0
        for call, fn in self._steps[done:n_steps]:
            value = fn(value, context, **call.params)
        return value

    def _read(self, symbol: str, midnight: int) -> DepthRows | DepthBook:
        """The day and its look-back, placed by the source if it can for this data object."""
        span = midnight - self._look_back_ns, midnight + NS_PER_DAY
        source, params = self._source, self._cfg.data_object.params
        if self._build is dataobject.build and isinstance(source, ReadsBook) and source.reads_book:
            return source.read_book(symbol, *span, levels=params["levels"], duplicates=params["duplicates"])
        return source.read(symbol, *span)


def spread(days: Sequence[dt.date], count: int = LEARN_DAYS) -> list[dt.date]:
    """At most ``count`` days, evenly spread over ``days``, first and last included."""
    if len(days) <= count:
        return list(days)
    return [days[round(i * (len(days) - 1) / (count - 1))] for i in range(count)]


def stages_of_days(cfg: Config) -> list[Any]:
    """What the document says of the stages day files come from, less what their rows do not depend on."""
    stages = cfg.document["stages"]
    collect = stages["collect"]
    rows = without_same_rows(cfg.collect.function(), collect["with"])
    return [collect | {"with": rows}, stages["data_object"], stages["preprocess"]]


def store_digest(cfg: Config, learned: Learned) -> str:
    """Names the day files: the same digest means the same source, parameters, grid and learned plan."""
    return digest(
        SCHEMA,
        stages_of_days(cfg),
        {name: cfg.document["data"][name] for name in ("cadence_s", "phase_ms", *reads(cfg.collect.function()))},
        learned,
    )


def no_rows(who: str, when: str) -> str:
    """The words for a source that has nothing of what was asked for."""
    return f"{who}: the source has no rows {when} (UTC); check the dates, the symbols' spelling and case, and ts_unit"


def check_over(day: dt.date) -> None:
    """Refuse a day that is not over: its file would be final before its rows are."""
    if start_ns(day) + NS_PER_DAY > time.time_ns():
        raise ConfigError(f"data.stop: {day} is not over yet (UTC), and a day file is final; stop at {day} or before")


def publish(
    builder: DayBuilder,
    store: DayStore,
    symbol: str,
    day: dt.date,
    *,
    meta: dict[str, Any],
    force: bool = False,
    any_origin: bool = False,
) -> DaySummary:
    """Build and write one symbol-day unless the store has it (or by ``force``); either way say what it holds.

    A day that was found without any row is asked for again. Raises ConfigError when a day that is there came from
    elsewhere than ``meta["origin"]`` says, unless ``any_origin``.
    """
    there = None if force else found(store, symbol, day, meta=meta, any_origin=any_origin)
    if there is not None:
        return there
    value = builder.build(symbol, day)
    store.write(value, meta=meta)
    return summarised(value, built=True)  # not of the file: a rolling store may have removed it already


def found(
    store: DayStore, symbol: str, day: dt.date, *, meta: dict[str, Any], any_origin: bool = False
) -> DaySummary | None:
    """What the store's file of a day holds; None when there is none, a damaged one, or one without any row.

    Raises as publish does.
    """
    if not counted(store, symbol, day):
        return None
    with store.open(symbol, day) as file:
        if not any_origin:
            check_origin(file.path, file.attrs["meta"]["origin"], meta["origin"])
        return summarised(file, built=False)


def counted(store: DayStore, symbol: str, day: dt.date) -> int | None:
    """How many rows the day's file was made of; None when there is none, or its header or texts are damaged.

    Raises UnreadableFile where the system does not let it be known: a day that is there is not built again.
    """
    try:
        with store.open(symbol, day) as file:
            _ = file.attrs
            return file.quality.counts.get("n_rows", 0)
    except UnreadableFile:
        raise
    except StoreError:
        return None


def summarised(file: DayFile | AlignedDay, *, built: bool) -> DaySummary:
    """What a day holds, in numbers."""
    flag_T, counts = file.flag_T, dict(file.quality.counts)
    is_gap_T = flag_T & Flag.GAP != 0
    gap = int(is_gap_T.sum())
    filled = int((~is_gap_T & (flag_T & Flag.FILLED != 0)).sum())
    return DaySummary(
        symbol=file.symbol,
        day=file.day,
        built=built,
        cells=len(flag_T),
        fresh=len(flag_T) - gap - filled,
        filled=filled,
        gap=gap,
        counts=counts,
    )


def check_origin(path: Path, was: dict[str, Any], is_now: dict[str, Any]) -> None:
    """A store filled from one database must not be continued from another that happens to be configured alike.

    Raises ConfigError.
    """
    then, now = ({key: value for key, value in origin.items() if key not in _SAME_ROWS} for origin in (was, is_now))
    if then != now:
        different = ", ".join(
            f"{key} {then.get(key)!r}, now {now.get(key)!r}" for key in then if then[key] != now.get(key)
        )
        raise ConfigError(
            f"{path}: was built from another source ({different}): use another store.root, build again with "
            "--force, or set store.any_origin: true if both hold the same rows"
        )


def _parameter(call: Call, fn: Callable[..., Any], name: str, otherwise: float) -> float:
    """A parameter's value as configured, else its default, else ``otherwise``."""
    if name in call.params:
        return float(call.params[name])
    parameter = inspect.signature(fn).parameters.get(name)
    return otherwise if parameter is None else float(parameter.default)
