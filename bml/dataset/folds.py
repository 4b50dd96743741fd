"""Windows of whole days ahead of the test block, for tuning and for measuring what retraining brings.

Each window has the four blocks of a split: train | early_stop | calibrate | validate. An expanding window trains
from the first day of the data on, a rolling one on the last ``train_days``; both move ahead by ``step_days``. The
windows follow from the configuration alone and end before the test block begins, and so do their labels.

What a dataset fits on its training block (scaler, calendar, class edges) knows all of that block. A window that
trains on less of it must fit anew: build the dataset of the window's own days, with ``window.split`` as its split.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypedDict

from bml.dataset.splits import Bounds, SplitParams, block_bounds, check_keys, day_start_ns, split, split_spec
from bml.types import NS_PER_DAY, NS_PER_S, SPLITS, ConfigError, Fold, SampleIndex

_KINDS = ("expanding", "rolling")
_NUMBERS = ("n", "train_days", "step_days", "block_days")


class WindowParams(TypedDict, total=False):
    """Windows of a configuration; ``block_days`` is optional."""

    kind: Literal["expanding", "rolling"]
    n: int
    train_days: int
    step_days: int
    block_days: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowSpec:
    """``n`` windows, the first training on ``train_days``; each later block takes ``block_days``."""

    kind: Literal["expanding", "rolling"]
    n: int
    train_days: int
    step_days: int
    block_days: int

    @property
    def days(self) -> int:
        """Days that all windows together take."""
        return self.train_days + (self.n - 1) * self.step_days + 3 * self.block_days


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """Days [start, stop); ``starts`` are the first days of the blocks after train, ``embargo_ns`` the dataset's."""

    start: dt.date
    starts: tuple[dt.date, dt.date, dt.date]
    stop: dt.date
    embargo_ns: int = 0

    @property
    def split(self) -> SplitParams:
        """The parameter ``split`` that gives these blocks to a dataset of the days [start, stop)."""
        return {"starts": dict(zip(SPLITS[1:], self.starts, strict=True)), "embargo_s": self.embargo_ns / NS_PER_S}

    @property
    def bounds_ns(self) -> Bounds:
        """[start, stop) of the four blocks, ns."""
        return tuple(pairwise(day_start_ns(day) for day in (self.start, *self.starts, self.stop)))


def window_spec(params: WindowParams | Mapping[str, object]) -> WindowSpec:
    """Read ``{kind: expanding | rolling, n: 3, train_days: 60, step_days: 20}``, or ConfigError.

    ``block_days`` is ``step_days`` unless it is given.
    """
    check_keys("windows", params, ("kind", *_NUMBERS))
    given: dict[str, Any] = {"block_days": params.get("step_days"), **params}
    missing = [name for name in ("kind", *_NUMBERS) if given.get(name) is None]
    if missing:
        raise ConfigError(f"windows: missing {', '.join(name for name in missing if name != 'block_days')}")
    if given["kind"] not in _KINDS:
        raise ConfigError(f"windows.kind: expected {' or '.join(_KINDS)}, got {given['kind']!r}")
    for name in _NUMBERS:
        if not isinstance(given[name], int) or isinstance(given[name], bool) or given[name] < 1:
            raise ConfigError(f"windows.{name}: expected a whole number, 1 or more, got {given[name]!r}")
    return WindowSpec(**given)


def windows(
    start: dt.date, stop: dt.date, spec: WindowSpec, block_split: Mapping[str, object] | None = None
) -> tuple[Window, ...]:
    """The windows of data of the days [start, stop), oldest first; days left over lie before the test block.

    ``block_split`` is the parameter ``split`` of the dataset, which says where the test block begins and what
    embargo the blocks of the windows have, too. Raises ConfigError where the days before it do not suffice.
    """
    wanted = split_spec(block_split)
    sealed_ns = block_bounds(start, stop, wanted)[-1][0]
    days = (sealed_ns - day_start_ns(start)) // NS_PER_DAY
    if spec.days > days:
        raise ConfigError(
            f"windows: {spec.n} windows take {spec.days} days, {days} whole days lie between {start} and the test "
            "block; take fewer windows or fewer days"
        )
    return tuple(_window(start, spec, k, wanted.embargo_ns) for k in range(spec.n))


def window_fold(index: SampleIndex, window: Window) -> Fold:
    """Rows of ``index`` per block of ``window``; the field ``test`` of the fold is the block to validate on.

    No label of any block reaches past the window, so none reaches the test block. O(N).
    """
    bounds_ns = window.bounds_ns
    return split(index, bounds_ns, embargo_ns=window.embargo_ns, sealed_ns=bounds_ns[-1][1])


def _window(start: dt.date, spec: WindowSpec, k: int, embargo_ns: int) -> Window:
    moved = dt.timedelta(days=k * spec.step_days)
    first = start + moved + dt.timedelta(days=spec.train_days)
    blocks = [first + dt.timedelta(days=b * spec.block_days) for b in range(4)]
    return Window(
        start=start if spec.kind == "expanding" else start + moved,
        starts=(blocks[0], blocks[1], blocks[2]),
        stop=blocks[3],
        embargo_ns=embargo_ns,
    )
