"""Blocks of time: train | early_stop | calibrate | test, purged so that no label reaches into a later block.

The bounds follow from the configuration alone (the data's start and stop and the fractions or dates), never
from what was seen, so anything learnt before the data exist (the depth plan) knows which days are training.

A sample belongs to the block its anchor lies in. It is kept if its label is known, with the embargo on top,
by the time the next block begins:

    label_stop + embargo <= start of the next block

Every later anchor is at or after that start, so labels (anchor, label_stop] of different blocks never
overlap, and a model fitted on a block could have existed before the first forecast of the next one. Inputs
of later samples may reach back over earlier labels: that is the past, and known.
"""

from __future__ import annotations

import datetime as dt
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypedDict

import numpy as np

from bml.types import NS_PER_DAY, NS_PER_S, SPLITS, ConfigError, Fold, Int64, SampleIndex

Bounds = tuple[tuple[int, int], ...]

DEFAULT_FRACTIONS = {"train": 0.6, "early_stop": 0.1, "calibrate": 0.1, "test": 0.2}
_KEYS = ("fractions", "starts", "embargo_s")


class Fractions(TypedDict):
    """Share of the data's span per block; they sum to 1."""

    train: float
    early_stop: float
    calibrate: float
    test: float


class SplitParams(TypedDict, total=False):
    """The parameter ``split`` of a configuration: fractions, or the first days of the blocks after train."""

    fractions: Fractions
    starts: dict[str, str | dt.date]
    embargo_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitSpec:
    """``fractions`` of the data's span per block, or the ``starts`` of the blocks after train."""

    fractions: tuple[float, ...]
    starts: tuple[dt.date, ...] | None
    embargo_ns: int


def split_spec(params: Mapping[str, object] | None = None) -> SplitSpec:
    """Read ``{fractions: {train: .6, ...} | starts: {early_stop: date, ...}, embargo_s: 0}``, or ConfigError."""
    given: dict[str, Any] = dict(params or {})
    check_keys("split", given, _KEYS)
    if "fractions" in given and "starts" in given:
        raise ConfigError("split: give either fractions or starts, not both")
    starts = _starts(given["starts"]) if "starts" in given else None
    embargo_s = given.get("embargo_s", 0.0)
    if not _is_number(embargo_s) or not 0 <= embargo_s < math.inf:
        raise ConfigError(f"split.embargo_s: expected seconds, 0 or more, got {embargo_s!r}")
    return SplitSpec(
        fractions=_fractions(given.get("fractions", DEFAULT_FRACTIONS)),
        starts=starts,
        embargo_ns=round(embargo_s * NS_PER_S),
    )


def block_bounds(start: dt.date, stop: dt.date, spec: SplitSpec) -> Bounds:
    """[start, stop) in ns of the four blocks that tile the days [start, stop); whole seconds.

    Raises ConfigError where a block would be empty.
    """
    first, last = day_start_ns(start), day_start_ns(stop)
    if spec.starts is None:
        seconds = (last - first) // NS_PER_S
        inner = [first + round(part * seconds) * NS_PER_S for part in np.cumsum(spec.fractions)[:-1]]
    else:
        inner = [day_start_ns(day) for day in spec.starts]
    cuts = [first, *inner, last]
    bounds = tuple(pairwise(cuts))
    for name, (low, high) in zip(SPLITS, bounds, strict=True):
        if not low < high:
            raise ConfigError(f"split: block {name!r} of the data from {start} to {stop} is empty or out of order")
    return bounds


def train_span(start: dt.date, stop: dt.date, split: Mapping[str, object] | None = None) -> tuple[dt.date, dt.date]:
    """The whole days [first, stop) inside the training block, from the configuration alone.

    ``split`` is the parameter of the same name of ``dataset.samples.book_windows``. Raises ConfigError if the
    training block holds no whole day.
    """
    (low, high), *_ = block_bounds(start, stop, split_spec(split))
    days = (high - low) // NS_PER_DAY
    if days < 1:
        hours = (high - low) / NS_PER_DAY * 24
        raise ConfigError(f"split: the training block of the data from {start} to {stop} is {hours:.1f} h long; "
                          "it must hold a whole day, so lengthen the data or raise the fraction of train")  # fmt: skip
    return start, start + dt.timedelta(days=days)


def split(
    index: SampleIndex, bounds_ns: Sequence[tuple[int, int]], *, embargo_ns: int = 0, sealed_ns: int | None = None
) -> Fold:
    """Rows of ``index`` per block; the rule is that of this module's docstring. O(N) per block.

    ``bounds_ns`` are [start, stop) of anchors for train, early_stop, calibrate and test, in time order; an empty
    block (start == stop) purges nothing before it. ``sealed_ns``, at or after the last bound, is where something
    begins that no label may reach, for the last block too. Rows keep the order of the index. Raises ValueError on
    bounds that overlap or run backwards.
    """
    _check_bounds(bounds_ns, embargo_ns, sealed_ns)
    blocks: list[Int64] = []
    n_purged = 0
    for k, (start, stop) in enumerate(bounds_ns):
        inside = np.flatnonzero((index.anchor_ns_N >= start) & (index.anchor_ns_N < stop))
        later = [low for low, high in bounds_ns[k + 1 :] if low < high]
        later += [] if sealed_ns is None else [sealed_ns]
        if later:
            inside, dropped = known_by(index, inside, later[0] - embargo_ns)
            n_purged += dropped
        blocks.append(inside.astype(np.int64))
    return Fold(
        **dict(zip(SPLITS, blocks, strict=True)),
        bounds_ns=tuple((int(low), int(high)) for low, high in bounds_ns),
        embargo_ns=embargo_ns,
        n_purged=n_purged,
    )


def known_by(index: SampleIndex, rows: Int64, ns: int) -> tuple[Int64, int]:
    """The ``rows`` whose label is known by ``ns``, and how many are not."""
    kept: Int64 = rows[index.label_stop_ns_N[rows] <= ns]
    return kept, int(rows.shape[0] - kept.shape[0])


def halves(index: SampleIndex, rows: Int64, bounds_ns: tuple[int, int], *, embargo_ns: int = 0) -> tuple[Int64, Int64]:
    """``rows`` of one block, before and after the middle of its time; the first half purged as blocks are.

    ``bounds_ns`` are [start, stop) of the block. Rows keep their order.
    """
    middle = (bounds_ns[0] + bounds_ns[1]) // 2
    is_late_N = index.anchor_ns_N[rows] >= middle
    return known_by(index, rows[~is_late_N], middle - embargo_ns)[0], rows[is_late_N]


def day_start_ns(day: dt.date) -> int:
    """00:00 UTC of a calendar day, in ns."""
    return (day - dt.date(1970, 1, 1)).days * NS_PER_DAY


def check_keys(where: str, value: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise ConfigError, with a suggestion, on a key that is none of ``names``."""
    for key in value:
        if key not in names:
            close = difflib.get_close_matches(str(key), names, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names)}"
            raise ConfigError(f"{where}.{key}: unknown key; {hint}")


def _check_bounds(bounds_ns: Sequence[tuple[int, int]], embargo_ns: int, sealed_ns: int | None) -> None:
    if len(bounds_ns) != len(SPLITS):
        raise ValueError(f"split: expected {len(SPLITS)} blocks, got {len(bounds_ns)}")
    edges = [edge for pair in bounds_ns for edge in pair]
    if any(high < low for low, high in pairwise(edges)):
        raise ValueError(f"split: blocks overlap or run backwards: {list(bounds_ns)}")
    if sealed_ns is not None and sealed_ns < edges[-1]:
        raise ValueError(f"split: the blocks {list(bounds_ns)} reach past what is sealed, from {sealed_ns}")
    if embargo_ns < 0:
        raise ValueError(f"split: embargo_ns must not be negative, got {embargo_ns}")


def _fractions(value: object) -> tuple[float, ...]:
    parts = _mapping("split.fractions", value, SPLITS)
    for name, part in parts.items():
        if not _is_number(part) or not 0 < part < 1:
            raise ConfigError(f"split.fractions.{name}: expected a share above 0 and below 1, got {part!r}")
    total = sum(parts.values())
    if abs(total - 1.0) > 1e-9:
        raise ConfigError(f"split.fractions: the shares must sum to 1, they sum to {total:g}")
    return tuple(float(parts[name]) for name in SPLITS)


def _starts(value: object) -> tuple[dt.date, ...]:
    days = _mapping("split.starts", value, SPLITS[1:])
    return tuple(_date(f"split.starts.{name}", days[name]) for name in SPLITS[1:])


def _date(where: str, value: object) -> dt.date:
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value
    try:
        return dt.date.fromisoformat(str(value))
    except ValueError:
        raise ConfigError(f"{where}: expected a date such as 2024-03-01, got {value!r}") from None


def _mapping(where: str, value: object, names: Sequence[str]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected a mapping with the keys {', '.join(names)}, got {value!r}")
    check_keys(where, value, names)
    missing = [name for name in names if name not in value]
    if missing:
        raise ConfigError(f"{where}: missing {', '.join(missing)}")
    return dict(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
