"""Which anchors have a usable window and a known label, and by which reason the others are dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bml.dataset.series import Series
from bml.dataset.sigma import Bools, SigmaSpec, causal_sigma
from bml.types import MAX_DAYS, NS_PER_S, ConfigError, Flag, Float64, Int64

#: reasons in the order they are tried; an anchor is counted under the first that holds
REASONS = (
    "history_short",  # the window begins before the data
    "label_after_data",  # the label ends after the data
    "target_gap",  # a GAP or ABSENT row of the target in the window
    "target_filled",  # too large a share of rows of the target in the window that are carried forward or untrue
    "few_assets",  # fewer than min_assets symbols present over the window, the target included
    "anchor_invalid",  # the target's mid at the anchor is unknown, stale, an outlier or of a crossed book
    "label_invalid",  # the same at the end of the label, or on the way where the label is of the way
    "sigma_unknown",  # too few returns so far to know the volatility, or none that moved
)

_ABSENT = int(Flag.GAP | Flag.ABSENT)
_UNTRUE = _ABSENT | int(Flag.CROSSED | Flag.OUTLIER)
_NOT_NEW = int(Flag.FILLED | Flag.OUTLIER)


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowRule:
    """A window of ``window_rows`` ending at the anchor, a label ``horizon_rows`` on, anchors every ``stride_rows``.

    A row is stale when it has said the same for more than ``max_stale_ms``. Labels end on the mean of the last
    ``smooth_rows`` mids, if there are any; ``more_rows`` are further horizons.
    """

    window_rows: int
    stride_rows: int
    horizon_rows: int
    min_assets: int
    max_filled: float
    max_stale_ms: int
    smooth_rows: int = 0
    more_rows: tuple[int, ...] = ()

    @property
    def longest_rows(self) -> int:
        """After so many rows every label of an anchor is known."""
        return max((self.horizon_rows, *self.more_rows))


def whole_rows(name: str, value: float, unit_s: float, cadence_ns: int) -> int:
    """A duration in rows of the grid, or a ConfigError if it is no multiple of the cadence or beyond MAX_DAYS."""
    if not value * unit_s <= MAX_DAYS * 86_400:
        raise ConfigError(f"{name}: {value:g} is longer than {MAX_DAYS} days; take less")
    length_ns = round(value * unit_s * NS_PER_S)
    if length_ns < cadence_ns or length_ns % cadence_ns:
        raise ConfigError(
            f"{name}: {value:g} is not a whole number of rows at a cadence of {cadence_ns / NS_PER_S:g} s; take a "
            "multiple of it"
        )
    return length_ns // cadence_ns


def label_rows(
    horizon_s: float | Sequence[float], trained_s: float | None, label: str, smooth_s: float | None, cadence_ns: int
) -> tuple[int, tuple[int, ...], int]:
    """In rows: the horizon to train on, the others, the mean a smoothed label ends on (0: none); or a ConfigError."""
    all_s = [horizon_s] if isinstance(horizon_s, int | float) else list(horizon_s)
    rows = [whole_rows("horizon_s", value, 1.0, cadence_ns) for value in all_s]
    if not rows or len(set(rows)) != len(rows):
        raise ConfigError(f"horizon_s: expected one horizon or several different ones, got {all_s}")
    trained = rows[0] if trained_s is None else whole_rows("label_horizon_s", trained_s, 1.0, cadence_ns)
    if trained not in rows:
        raise ConfigError(f"label_horizon_s: {trained_s:g} is none of horizon_s ({', '.join(f'{s:g}' for s in all_s)})")
    if (label == "smoothed") != (smooth_s is not None):
        raise ConfigError("smooth_s: goes with label: smoothed, and that with it; give both or neither")
    smooth = 0 if smooth_s is None else whole_rows("smooth_s", smooth_s, 1.0, cadence_ns)
    if smooth > min(rows):
        raise ConfigError(f"smooth_s: {smooth_s:g} is longer than a horizon, so the mean would begin before the anchor")
    return trained, tuple(value for value in rows if value != trained), smooth


def candidate_rows(n_rows: int, rule: WindowRule) -> Int64:
    """Rows of every anchor tried: each ``stride_rows``-th of the whole grid, whatever the data are like."""
    return np.arange(0, n_rows, rule.stride_rows, dtype=np.int64)


def presence(series: Series, rows_N: Int64, rule: WindowRule) -> tuple[Bools, Bools]:
    """(N, A) whether each symbol has no gap, and no more FILLED rows than allowed, in (anchor - window, anchor].

    OUTLIER rows count like FILLED ones, and so do rows that repeat the one before once they are stale: a frozen
    feed is carried forward by its sender, but one that repeats a row now and then is not frozen. One cumulative
    count a symbol, O(A T + A N). A window that begins before the data has a gap.
    """
    starts_N = np.maximum(rows_N + 1 - rule.window_rows, 0)
    short_N = rows_N + 1 < rule.window_rows
    ungapped_NA = np.empty((rows_N.shape[0], series.mid_AT.shape[0]), dtype=np.bool_)
    fresh_NA = np.empty_like(ungapped_NA)
    frozen_ms = max(rule.max_stale_ms, series.grid.cadence_ns // 1_000_000)  # no new snapshot is older than that
    limit = int(np.floor(rule.max_filled * rule.window_rows + 1e-9))
    for a, (mid_T, flag_T, content_ms_T) in enumerate(
        zip(series.mid_AT, series.flag_AT, series.content_ms_AT, strict=True)
    ):
        gaps = _running_count(~np.isfinite(mid_T) | (flag_T & _ABSENT != 0))
        filled = _running_count((flag_T & _NOT_NEW != 0) | (content_ms_T > frozen_ms))
        ungapped_NA[:, a] = (gaps[rows_N + 1] == gaps[starts_N]) & ~short_N
        fresh_NA[:, a] = filled[rows_N + 1] - filled[starts_N] <= limit
    return ungapped_NA, fresh_NA


def valid_rows(mid_T: Float64, flag_T: npt.NDArray[np.uint16]) -> Bools:
    """Rows whose mid is a price one can measure a return from: known, positive, no outlier, not of a crossed book."""
    ok_T: Bools = np.isfinite(mid_T) & (mid_T > 0) & (flag_T & _UNTRUE == 0)
    return ok_T


def end_rows(series: Series, a: int, rule: WindowRule) -> Bools:
    """Rows a label of symbol ``a`` may start or end on: valid, and not stale."""
    ok_T: Bools = valid_rows(series.mid_AT[a], series.flag_AT[a]) & (series.content_ms_AT[a] <= rule.max_stale_ms)
    return ok_T


def shifted(values_T: Bools, rows_N: Int64, steps: int) -> Bools:
    """values[rows + steps], False outside the data."""
    at = rows_N + steps
    inside = (at >= 0) & (at < values_T.shape[0])
    out: Bools = inside & values_T[np.where(inside, at, 0)]
    return out


def volatility(series: Series, a: int, spec: SigmaSpec, steps: int) -> Float64:
    """Causal sigma over ``steps`` rows of symbol ``a``, (T,).

    Stale rows count: what they miss comes back with the return that ends them, so the variance is right over time.
    """
    valid_T = valid_rows(series.mid_AT[a], series.flag_AT[a])
    return causal_sigma(series.mid_AT[a], valid_T, spec, cadence_ns=series.grid.cadence_ns, steps=steps)


def first_reasons(
    series: Series, rows_N: Int64, a: int, known_N: Bools, label_N: Bools, ungapped_NA: Bools, fresh_NA: Bools,
    rule: WindowRule,
) -> Int64:  # fmt: skip
    """Number of the first reason (an index of ``REASONS``) to drop each anchor of target ``a``, -1 to keep it.

    ``known_N`` says where the volatility is known, ``label_N`` where the label is.
    """
    faults = (
        rows_N + 1 < rule.window_rows,
        rows_N + rule.horizon_rows >= series.grid.n_rows,
        ~ungapped_NA[:, a],
        ~fresh_NA[:, a],
        (ungapped_NA & fresh_NA).sum(axis=1) < rule.min_assets,
        ~end_rows(series, a, rule)[rows_N],
        ~label_N,
        ~known_N,
    )
    return np.select(faults, list(range(len(REASONS))), default=-1).astype(np.int64)


def _running_count(is_T: Bools) -> Int64:
    """(T + 1,): how many of the first t are true."""
    return np.concatenate([[0], np.cumsum(is_T, dtype=np.int64)])
