"""The stages up to the dataset, run again in another world.

Constants fitted on the training block (what steps learned, scalers, the scale of the calendar) are dated its end. At
a moment before that they are taken from the real world, so that whatever is built with them can be compared as well;
from that moment on they are fitted anew, and compared themselves.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bml import learned
from bml.audit.builds import Builds, WorldStore
from bml.audit.swap import swapped
from bml.audit.world import REAL, Key, Read, World, WorldSource
from bml.book.days import DayBuilder, Learned, spread
from bml.config import Config
from bml.dataset.dataset import Dataset
from bml.dataset.splits import block_bounds, day_start_ns, split_spec, train_span
from bml.types import Int64

#: functions that fit a constant on the training block
FITTED = (
    ("bml.dataset.samples", "fit_scaler"),
    ("bml.dataset.calendar", "fit_scale"),
    ("bml.dataset.calendar", "hold_constant"),
    ("bml.dataset.hmm", "fit"),
)

#: where classes are fitted to the training block and rows get their edges in one
CLASSIFIED = (("bml.dataset.samples", "classify"), ("bml.dataset.rows", "classify"))

#: symbol -> (candidate rows, number of the first reason to drop each, -1 to keep it)
Reasons = dict[str, tuple[Int64, Int64]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What the stages made of one world. ``learned`` is what it taught, also where the real world's was used."""

    world: World
    learned: Learned
    store: WorldStore
    dataset: Dataset
    reasons: Reasons


class Replay:
    """A configuration's stages over a :class:`WorldSource`; ``real`` is what they make of the real world."""

    def __init__(self, cfg: Config, source: WorldSource, builds: Builds) -> None:
        self.cfg, self._source, self.builds = cfg, source, builds
        split = cfg.features.params.get("split")
        bounds = block_bounds(cfg.data.start, cfg.data.stop, split_spec(split))
        self.trained_ns = bounds[0][1]
        self.learned_ns = day_start_ns(train_span(cfg.data.start, cfg.data.stop, split)[1])
        self._lessons: list[tuple[tuple[tuple[Read, Key], ...], Learned]] = []
        self._fitted: dict[tuple[str, str], list[Any]] = {place: [] for place in (*FITTED, *CLASSIFIED)}
        self.real = self._run(REAL, None)

    def run(self, world: World) -> Known:
        """The stages in another world. Raises what they raise."""
        return self._run(world, self.real)

    def _run(self, world: World, real: Known | None) -> Known:
        taught = self._learn(world) if real is None or _over(world, self.learned_ns) else real.learned
        store = self.builds.store(world, taught if real is None else real.learned)
        reasons: Reasons = {}
        with contextlib.ExitStack() as stack:
            stack.enter_context(swapped("bml.dataset.rows", "first_reasons", lambda fn: _heard(fn, reasons)))
            if real is not None:  # a future without usable windows is no fault of the past
                stack.enter_context(swapped("bml.dataset.samples", "_require_all_blocks", _passing))
                stack.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore", RuntimeWarning)  # shares and means of empty blocks are NaN
            for place, recorded in self._fitted.items():
                if real is None:
                    stack.enter_context(swapped(*place, _recorder(recorded)))
                elif not _over(world, self.trained_ns):
                    player = _player if place in FITTED else _classifier
                    stack.enter_context(swapped(*place, player(recorded)))
            dataset = self.cfg.features.function()(self.cfg, store, **self.cfg.features.params)
        return Known(world=world, learned=taught, store=store, dataset=dataset, reasons=reasons)

    def _learn(self, world: World) -> Learned:
        for reads, found in self._lessons:
            if all(world.key(read) == key for read, key in reads):
                return found
        self._source.enter(world)
        days = spread(learned.train_days(self.cfg))
        found = DayBuilder(self.cfg, self._source).learn(self.cfg.data.symbols, days)
        self._lessons.append((tuple((read, world.key(read)) for read in self._source.reads), found))
        return found


def _over(world: World, end_ns: int) -> bool:
    """Whether the world is real up to ``end_ns``."""
    return world.cut_ns is None or world.cut_ns >= end_ns


def _heard(fn: Callable[..., Any], into: Reasons) -> Callable[..., Any]:
    def first_reasons(series: Any, rows_N: Int64, a: int, *arguments: Any, **options: Any) -> Any:
        found = fn(series, rows_N, a, *arguments, **options)
        into[series.symbols[a]] = (rows_N, found)
        return found

    return first_reasons


def _passing(gate: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: None


def _recorder(into: list[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def make(fn: Callable[..., Any]) -> Callable[..., Any]:
        def record(*arguments: Any, **options: Any) -> Any:
            into.append(fn(*arguments, **options))
            return into[-1]

        return record

    return make


def _player(recorded: list[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def make(fn: Callable[..., Any]) -> Callable[..., Any]:
        calls = iter(recorded)

        def play(*arguments: Any, **options: Any) -> Any:
            for value in calls:
                return value
            raise RuntimeError(
                f"{fn.__name__}: called more often than in the real world; the audit cannot hold its fits"
            )

        return play

    return make


class _Fitted:
    """A class scheme whose fit is known."""

    def __init__(self, scheme: Any) -> None:
        self._scheme = scheme

    def fitted(self, training: Any) -> Any:
        return self._scheme


def _classifier(recorded: list[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def make(fn: Callable[..., Any]) -> Callable[..., Any]:
        calls = iter(recorded)
        return lambda scheme, *arguments: fn(_Fitted(next(calls)[0]), *arguments)

    return make
