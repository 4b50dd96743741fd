"""Quality reports: how they are added up, and how they read as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from bml.types import Event, Flag, Int64, QualityReport

Bools = npt.NDArray[np.bool_]


def iso(ts_ns: int) -> str:
    """A time as ISO 8601 UTC, with as many decimals as it needs: ``2024-01-15T00:00:10.5Z``."""
    text = str(np.datetime_as_string(np.datetime64(int(ts_ns), "ns")))
    return text.rstrip("0").rstrip(".") + "Z" if "." in text else text + "Z"


def runs(mask_T: Bools) -> tuple[Int64, Int64]:
    """First and last position of every run of True: two equally long int64 arrays."""
    padded = np.concatenate(([False], mask_T, [False]))
    edge = np.flatnonzero(padded[1:] != padded[:-1])
    return edge[0::2].astype(np.int64), edge[1::2].astype(np.int64) - 1


def run_events(
    flag: Flag, mask_T: Bools, ts_ns_T: Int64, detail: Callable[[int, int], str] | None = None
) -> tuple[Event, ...]:
    """One event per run of neighbouring snapshots in ``mask_T``; ``detail(first, last)`` words it.

    ``count`` is the number of snapshots of the run. Cost: one pass over T and one object a run.
    """
    first, last = runs(mask_T)
    return tuple(
        Event(
            flag=flag,
            start_ns=int(ts_ns_T[i]),
            stop_ns=int(ts_ns_T[j]),
            count=j - i + 1,
            detail=detail(i, j) if detail else "",
        )
        for i, j in zip(first.tolist(), last.tolist(), strict=True)
    )


def merged(report: QualityReport, counts: dict[str, int], events: Iterable[Event] = ()) -> QualityReport:
    """``report`` plus what another step found: counts are added, events kept in order of time."""
    total = dict(report.counts)
    for key, value in counts.items():
        total[key] = total.get(key, 0) + int(value)
    both = sorted((*report.events, *events), key=lambda e: (e.start_ns, e.stop_ns, int(e.flag), e.detail))
    return QualityReport(symbol=report.symbol, counts=total, events=tuple(both))


def to_json(report: QualityReport) -> str:
    """One canonical line: equal reports give equal text."""
    events = [[_flag_name(e.flag), e.start_ns, e.stop_ns, e.count, e.detail] for e in report.events]
    document = {"symbol": report.symbol, "counts": report.counts, "events": events}
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def _flag_name(flag: Flag) -> str | int:
    """One flag by its name, several at once as the number of their mask."""
    return flag.name if flag.name is not None and flag.name in Flag.__members__ else int(flag)


def from_json(text: str) -> QualityReport:
    """The report :func:`to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
    document: dict[str, Any] = json.loads(text)
    events = tuple(
        Event(
            flag=Flag[flag] if isinstance(flag, str) else Flag(flag),
            start_ns=int(start),
            stop_ns=int(stop),
            count=int(count),
            detail=str(detail),
        )
        for flag, start, stop, count, detail in document["events"]
    )
    counts = {str(key): int(value) for key, value in document["counts"].items()}
    return QualityReport(symbol=str(document["symbol"]), counts=counts, events=events)


def to_text(report: QualityReport, *, per_flag: int = 20) -> str:
    """For people: the counts above 0, then the events by kind in time order, at most ``per_flag`` of each kind."""
    lines = [report.symbol, *(f"  {key:<22}{value:>12,}" for key, value in sorted(report.counts.items()) if value)]
    for flag in Flag:
        found = [event for event in report.events if event.flag == flag]
        lines += [f"  {flag.name}: {len(found)} events"] if found else []
        for event in found[:per_flag]:
            times = iso(event.start_ns)
            times += f" .. {iso(event.stop_ns)}" if event.stop_ns != event.start_ns else ""
            lines.append(f"    {times}  x{event.count}" + (f"  {event.detail}" if event.detail else ""))
        if len(found) > per_flag:
            lines.append(f"    ... and {len(found) - per_flag} more")
    return "\n".join(lines) + "\n"
