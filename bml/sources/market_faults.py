"""Defects planted into the synthetic market on request, and the ledger that says exactly where they are.

Per symbol-day every event gets a slot of its own, so events never touch: at least one sound snapshot lies
between two of them, and a report can be held against the ledger event by event.
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as validated

from bml.sources.market import FAULTS, stream
from bml.types import ConfigError, Flag, Int64

_Count = Annotated[int, Field(ge=0)]
_Seconds = Annotated[float, Field(gt=0)]

#: kinds of events in the ledger, and the flag a quality report should raise for them
KINDS: dict[str, Flag] = {
    "gap": Flag.GAP,
    "stuck": Flag.STUCK,
    "crossed": Flag.CROSSED,
    "locked": Flag.LOCKED,
    "outlier": Flag.OUTLIER,
    "duplicate": Flag.DUPLICATE,
    "conflict": Flag.DUPLICATE,
    "missing_levels": Flag(0),
    "one_sided": Flag.ABSENT,
    "absent_day": Flag.GAP,
    "truncated": Flag.TRUNCATED,
}
#: 0 is no fault
CODES = {kind: code for code, kind in enumerate(KINDS, 1)}
#: codes of snapshots that have no rows
HIDDEN = (CODES["gap"], CODES["absent_day"])


@validated(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Faults:
    """What goes wrong; everything is off by default. Counts are per symbol and day, each of one snapshot
    unless a length is given.

    jitter_ms       snapshots come up to this much before their grid point, uniformly; below the cadence, so
                    that the last snapshot at or before a grid point is still that point's own
    gaps            missing snapshots over ``gap_s`` (shortest, longest) seconds
    stuck           snapshots that repeat the one before, over ``stuck_s`` seconds
    crossed         best bid above best ask, by the spread; locked: both equal
    outliers        all prices off by ``outlier_bps``, up or down
    duplicates      every row twice, equal; conflicts: every row twice, the stale copy (half the quantity,
                    smaller batch) last
    missing_levels  every third level has no row, the first level excepted
    one_sided       one side is NaN at every level
    truncated       snapshots of the first third of the levels only, over ``truncated_s`` seconds
    shuffled        rows of a read in random order, which depends on the range read
    absent          symbol -> days without any row
    """

    jitter_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    gaps_per_day: _Count = 0
    gap_s: tuple[_Seconds, _Seconds] = (60.0, 600.0)
    stuck_per_day: _Count = 0
    stuck_s: tuple[_Seconds, _Seconds] = (60.0, 600.0)
    crossed_per_day: _Count = 0
    locked_per_day: _Count = 0
    outliers_per_day: _Count = 0
    outlier_bps: Annotated[float, Field(gt=0, le=5000)] = 300.0
    duplicates_per_day: _Count = 0
    conflicts_per_day: _Count = 0
    missing_levels_per_day: _Count = 0
    one_sided_per_day: _Count = 0
    truncated_per_day: _Count = 0
    truncated_s: tuple[_Seconds, _Seconds] = (60.0, 600.0)
    shuffled: bool = False
    absent: dict[str, tuple[dt.date, ...]] = Field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, (low, high) in {
            "gap_s": self.gap_s,
            "stuck_s": self.stuck_s,
            "truncated_s": self.truncated_s,
        }.items():
            if low > high:
                raise ValueError(f"{name}: shortest {low:g} is longer than longest {high:g}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PlantedFault:
    """One event of the ledger over [start_ns, stop_ns], both ends inclusive and dated as the snapshots are
    (missing ones as they would have been); ``count`` snapshots."""

    kind: str
    start_ns: int
    stop_ns: int
    count: int

    @property
    def flag(self) -> Flag:
        """The flag a quality report should raise; 0 where none exists."""
        return KINDS[self.kind]


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultPlan:
    """One symbol's faults: ``code_T`` uint8 of CODES, ``source_T`` the step whose book is shown, ``side_T`` a
    coin a step (bid or ask, down or up); ``events`` are (kind, first step, last step), in order of time."""

    code_T: npt.NDArray[np.uint8]
    source_T: Int64
    side_T: npt.NDArray[np.uint8]
    events: tuple[tuple[str, int, int], ...]

    def ledger(self, ts_ns_T: Int64) -> tuple[PlantedFault, ...]:
        """The events, dated."""
        return tuple(
            PlantedFault(kind=kind, start_ns=int(ts_ns_T[a]), stop_ns=int(ts_ns_T[b]), count=b - a + 1)
            for kind, a, b in self.events
        )


def plan(faults: Faults, *, seed: int, symbol: str, start: dt.date, days: int, cadence_s: float) -> FaultPlan:
    """Place the faults of one symbol over ``days`` days. Raises ConfigError when a day has no room for them."""
    per_day = round(86_400 / cadence_s)
    code_T = np.zeros(days * per_day, np.uint8)
    source_T = np.arange(days * per_day)
    side_T = np.zeros(days * per_day, np.uint8)
    events: list[tuple[str, int, int]] = []
    absent = set(faults.absent.get(symbol, ()))
    for day in range(days):
        first = day * per_day
        if start + dt.timedelta(days=day) in absent:
            events.append(("absent_day", first, first + per_day - 1))
            continue
        rng = stream(seed, symbol, FAULTS, day)
        side_T[first : first + per_day] = rng.integers(0, 2, per_day)
        events += [(kind, first + a, first + b) for kind, a, b in _day(faults, rng, per_day, cadence_s)]
    for kind, a, b in events:
        code_T[a : b + 1] = CODES[kind]
        if kind == "stuck":
            source_T[a : b + 1] = a - 1
    return FaultPlan(code_T=code_T, source_T=source_T, side_T=side_T, events=tuple(events))


def _day(faults: Faults, rng: np.random.Generator, per_day: int, cadence_s: float) -> list[tuple[str, int, int]]:
    """Events of one day as (kind, first, last) in steps of the day, one a slot, none at a slot's first step."""
    wanted = [("gap", *_steps(faults.gap_s, cadence_s))] * faults.gaps_per_day
    wanted += [("stuck", *_steps(faults.stuck_s, cadence_s))] * faults.stuck_per_day
    wanted += [("truncated", *_steps(faults.truncated_s, cadence_s))] * faults.truncated_per_day
    single = {
        "crossed": faults.crossed_per_day,
        "locked": faults.locked_per_day,
        "outlier": faults.outliers_per_day,
        "duplicate": faults.duplicates_per_day,
        "conflict": faults.conflicts_per_day,
        "missing_levels": faults.missing_levels_per_day,
        "one_sided": faults.one_sided_per_day,
    }
    wanted += [(kind, 1, 1) for kind, count in single.items() for _ in range(count)]
    if not wanted:
        return []
    slot = per_day // len(wanted)
    longest = max(high for _, _, high in wanted)
    if longest + 2 > slot:
        raise ConfigError(
            f"faults: {len(wanted)} events a day, the longest of {longest} snapshots, do not fit into "
            f"{per_day} snapshots: ask for fewer or shorter ones"
        )
    events = []
    for place, (kind, low, high) in zip(rng.permutation(len(wanted)).tolist(), wanted, strict=True):
        length = int(rng.integers(low, high + 1))
        a = place * slot + int(rng.integers(1, slot - length))
        events.append((kind, a, a + length - 1))
    return sorted(events, key=lambda event: event[1])


def _steps(span_s: tuple[float, float], cadence_s: float) -> tuple[int, int]:
    """Shortest and longest event in snapshots."""
    low = max(math.ceil(span_s[0] / cadence_s), 1)
    return low, max(math.floor(span_s[1] / cadence_s), low)
