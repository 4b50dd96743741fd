"""What is known of days beside their files: which failed and why, and what building them took.

    {root}/quarantine/{symbol}/{symbol}_{date}_{digest[:8]}.json    one a failed day, whole or not at all
    {root}/state/built-{digest[:8]}.jsonl                           one line a day that was built, for estimates
    {root}/state/forced-{digest[:8]}.jsonl                          days a run with --force has built, until it ends

A record belongs to one configuration (its digest), as day files do: another configuration starts anew.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bml.book.publish import publish
from bml.book.store import DayStore
from bml.config.secret import redact_text
from bml.types import StoreError


@dataclass(frozen=True, kw_only=True, slots=True)
class FailedDay:
    """A day that could not be built: ``reason`` is one line without secrets, ``at`` the UTC time of the last try."""

    symbol: str
    day: str
    reason: str
    at: str
    attempts: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltDay:
    """What building a day took: ``seconds`` of wall clock, ``rows`` read, ``size`` of the file in bytes."""

    symbol: str
    day: str
    seconds: float
    rows: int
    size: int


def failed(store: DayStore, symbol: str, day: dt.date) -> FailedDay | None:
    """The record of a day that failed, None when it did not.

    Raises StoreError when the record is damaged.
    """
    path = _quarantine(store, symbol, day)
    try:
        return FailedDay(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(f"{path}: damaged ({error}); delete it, the day is then tried again") from error


def fail(store: DayStore, symbol: str, day: dt.date, reason: str) -> FailedDay:
    """Record that a day failed, atomically; counts the attempts. Raises StoreError when it cannot be written."""
    before = failed(store, symbol, day)
    record = FailedDay(
        symbol=symbol,
        day=str(day),
        reason=redact_text(" ".join(reason.split())),
        at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        attempts=1 + (before.attempts if before else 0),
    )
    publish(_quarantine(store, symbol, day), (json.dumps(asdict(record), indent=1) + "\n").encode())
    return record


def is_settled(store: DayStore, symbol: str, day: dt.date) -> bool:
    """Whether a day that failed was built since, by a run that died before it could remove the record."""
    try:
        return store.path(symbol, day).stat().st_mtime_ns > _quarantine(store, symbol, day).stat().st_mtime_ns
    except FileNotFoundError:
        return False


def absolve(store: DayStore, symbol: str, day: dt.date) -> None:
    """Remove the record of a day that has been built since."""
    _quarantine(store, symbol, day).unlink(missing_ok=True)


def built(store: DayStore, record: BuiltDay) -> None:
    """Append what a day took."""
    _append(_log(store), asdict(record))


def history(store: DayStore) -> Iterator[BuiltDay]:
    """Every record of :func:`built`, oldest first; torn lines are passed over, they hold no more than an estimate."""
    for values in _lines(_log(store)):
        with contextlib.suppress(TypeError):
            yield BuiltDay(**values)


def force(store: DayStore, symbol: str, day: dt.date) -> None:
    """Append a day that a run with --force has built."""
    _append(forced_path(store), {"symbol": symbol, "day": str(day)})


def forced(store: DayStore) -> set[tuple[str, dt.date]]:
    """The days of :func:`force`: those a run that did not come to its end has built; a torn line is built again."""
    found = set()
    for values in _lines(forced_path(store)):
        with contextlib.suppress(KeyError, TypeError, ValueError):
            found.add((str(values["symbol"]), dt.date.fromisoformat(values["day"])))
    return found


def forced_path(store: DayStore) -> Path:
    """Where the days of :func:`force` are."""
    return Path(store.root) / "state" / f"forced-{store.digest[:8]}.jsonl"


def _append(path: Path, values: dict[str, Any]) -> None:
    """One write of one line: a run that dies leaves at most a torn last line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, ("\n" + json.dumps(values) + "\n").encode())  # a torn line before it ends here
    finally:
        os.close(fd)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        with contextlib.suppress(ValueError):
            values = json.loads(line)
            if isinstance(values, dict):
                yield values


def _quarantine(store: DayStore, symbol: str, day: dt.date) -> Path:
    return Path(store.root) / "quarantine" / symbol / store.path(symbol, day).with_suffix(".json").name


def _log(store: DayStore) -> Path:
    return Path(store.root) / "state" / f"built-{store.digest[:8]}.jsonl"
