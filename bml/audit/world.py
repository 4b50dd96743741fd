"""Worlds that share a past: the real rows up to a moment, perhaps a bad spell, scrambled rows from then on."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import numpy as np

from bml.audit.scramble import Scramble, Spell, scrambled, taken
from bml.sources.base import Source
from bml.types import BID, NS_PER_DAY, DepthRows

#: scrambled days kept: moments are visited in order of time, so the next ones need the same
KEPT_DAYS = 16

#: symbol, start_ns, stop_ns of a read
Read = tuple[str, int, int]

#: names the rows of a range: equal keys are equal rows
Key = str | tuple[int, int, Spell]


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """Real up to and with ``cut_ns``, then a ``spell`` of ``spell_ns``, then scrambled; without a cut real for ever."""

    cut_ns: int | None = None
    spell_ns: int = 0
    spell: Spell = "none"

    def key(self, read: Read) -> Key:
        """What the rows of the read are: those of the real world, all scrambled ones, or of this world alone."""
        _, start_ns, stop_ns = read
        if self.cut_ns is None or stop_ns - 1 <= self.cut_ns:
            return "real"
        return "scrambled" if start_ns > self.cut_ns + self.spell_ns else (self.cut_ns, self.spell_ns, self.spell)


REAL = World()


class WorldSource:
    """A source (:class:`bml.sources.base.Source`) of the rows of ``world``, over a real one that stays open.

    ``reads`` are those since :meth:`enter`. It hands out rows, never placed books: bml makes the same days of both.
    """

    def __init__(self, source: Source, scramble: Scramble) -> None:
        self._source, self._scramble = source, scramble
        self._days: OrderedDict[tuple[str, int], DepthRows] = OrderedDict()
        self.world = REAL
        self.reads: list[Read] = []

    def enter(self, world: World) -> None:
        """Go to another world; the reads so far are forgotten."""
        self.world, self.reads = world, []

    def read(self, symbol: str, start_ns: int, stop_ns: int) -> DepthRows:
        """Rows with ``start_ns <= ts < stop_ns`` as they are in this world."""
        self.reads.append((symbol, start_ns, stop_ns))
        real = self._source.read(symbol, start_ns, stop_ns)
        cut_ns, spell = self.world.cut_ns, self.world.spell
        if cut_ns is None or stop_ns - 1 <= cut_ns:
            return real
        past = taken(real, real.ts_ns_N <= cut_ns)
        if real.superseded_ns_N is not None:
            past = replace(past, superseded_ns_N=real.superseded_ns_N[real.superseded_ns_N <= cut_ns])
        parts = []
        spell_stop_ns = cut_ns + self.world.spell_ns + 1
        after_ns = max(start_ns, spell_stop_ns if spell == "silence" else cut_ns + 1)
        for day in range(after_ns // NS_PER_DAY, -(-stop_ns // NS_PER_DAY)):
            rows = self._day(symbol, day)
            rows = taken(rows, (rows.ts_ns_N >= after_ns) & (rows.ts_ns_N < stop_ns))
            parts.append(_bids_only(rows, spell_stop_ns) if spell == "bids only" else rows)
        return _joined(past, parts)

    def describe(self) -> dict[str, str | int | float]:
        return self._source.describe()

    def __enter__(self) -> Self:
        self._source.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._source.__exit__(kind, error, trace)

    def _day(self, symbol: str, day: int) -> DepthRows:
        """The scrambled rows of a whole UTC day, counted from 1970."""
        if (symbol, day) not in self._days:
            start_ns = day * NS_PER_DAY
            real = self._source.read(symbol, start_ns, start_ns + NS_PER_DAY)
            self._days[symbol, day] = scrambled(real, self._scramble)
            if len(self._days) > KEPT_DAYS:
                self._days.popitem(last=False)
        self._days.move_to_end((symbol, day))
        return self._days[symbol, day]


def _bids_only(rows: DepthRows, stop_ns: int) -> DepthRows:
    """Without the asks dated before ``stop_ns``."""
    before_N = rows.ts_ns_N < stop_ns
    if rows.side_N is not None:
        return taken(rows, ~before_N | (rows.side_N == BID))
    bid_px_N, bid_qty_N, *asks = rows.columns
    return replace(rows, columns=(bid_px_N, bid_qty_N, *(np.where(before_N, np.nan, column) for column in asks)))


def _joined(first: DepthRows, parts: list[DepthRows]) -> DepthRows:
    """The rows of all parts one after the other, described as ``first`` is."""
    used = [first, *(part for part in parts if part.n_rows)]

    def optional(columns: list[Any]) -> Any:
        return None if columns[0] is None else np.concatenate(columns)

    return replace(
        first,
        ts_ns_N=np.concatenate([part.ts_ns_N for part in used]),
        level_N=np.concatenate([part.level_N for part in used]),
        columns=tuple(np.concatenate(columns) for columns in zip(*(part.columns for part in used), strict=True)),
        side_N=optional([part.side_N for part in used]),
        batch_N=optional([part.batch_N for part in used]),
        sequence_N=optional([part.sequence_N for part in used]),
    )
