"""The conditions a sample is in, each known at its anchor over a recorded look-back: volatility, volume, regime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import numpy as np
from pydantic import AfterValidator, BeforeValidator

from bml.dataset.regime import (
    RegimeParams,
    RegimeSpec,
    check_keys,
    likeliest,
    none_as_mapping,
    regime_spec,
    regime_table,
)
from bml.dataset.series import Grid, Series
from bml.dataset.sigma import SigmaSpec, lookback_ns
from bml.dataset.trailing import realised_volatility, volume_rank
from bml.dataset.windows import WindowRule, valid_rows, whole_rows
from bml.types import MAX_DAYS, NS_PER_DAY, ConfigError, Float64, Int32, Int64


class ContextParams(TypedDict, total=False):
    """The parameter ``context`` of a configuration; what is 0 or "none" is left out."""

    volatility_h: float
    volume_days: int
    regime: Annotated[RegimeParams, BeforeValidator(none_as_mapping)]


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextSpec:
    """Realised volatility over ``volatility_h``, rank of the quantity among ``volume_days``, and the regime."""

    volatility_h: float
    volume_days: int
    regime: RegimeSpec | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """Of every sample, NaN where unknown; None for what the configuration leaves out.

    ``volatility_N`` is the realised volatility over the look-back, ``volume_N`` a rank from 0 to 1, ``regime_NR`` the
    probability of each of ``REGIMES`` and ``regime_N`` the likeliest (-1 where unknown), ``regime_model`` what was
    fitted for it.
    """

    volatility_N: Float64 | None
    volume_N: Float64 | None
    regime_NR: Float64 | None
    regime_N: Int64
    regime_model: dict[str, Any]


def context_spec(params: Mapping[str, object] | None = None) -> ContextSpec:
    """Read ``{volatility_h: 24, volume_days: 30, regime: none | {method: ...}}``, or a ConfigError with the key."""
    given: dict[str, Any] = dict(params or {})
    check_keys("context", given, list(ContextSpec.__dataclass_fields__))
    hours, days = given.get("volatility_h", 24.0), given.get("volume_days", 30)
    if isinstance(hours, bool) or not isinstance(hours, int | float) or not 0 <= hours <= 24 * MAX_DAYS:
        raise ConfigError(f"context.volatility_h: expected hours, from 0 (none) to {24 * MAX_DAYS}, got {hours!r}")
    if isinstance(days, bool) or not isinstance(days, int) or not 0 <= days <= MAX_DAYS:
        raise ConfigError(f"context.volume_days: expected a number of days, from 0 (none) to {MAX_DAYS}, got {days!r}")
    return ContextSpec(
        volatility_h=float(hours),
        volume_days=days,
        regime=regime_spec(given.get("regime", {})),
    )


def _consistent(context: ContextParams | None) -> ContextParams | None:
    """Refuse what :func:`context_spec` does with all other faults of a configuration, before anything runs."""
    try:
        context_spec(context)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return context


Context = Annotated[ContextParams | None, AfterValidator(_consistent)]


def volatility_rows(spec: ContextSpec, cadence_ns: int) -> int:
    """The look-back of the realised volatility in rows, 0 without one; a ConfigError if it is no number of rows."""
    return whole_rows("context.volatility_h", spec.volatility_h, 3600.0, cadence_ns) if spec.volatility_h else 0


def conditions(series: Series, rows_N: Int64, target_N: Int32, spec: ContextSpec, train_days: int) -> Conditions:
    """The conditions of the samples at ``rows_N`` of ``target_N``; no book is read. O(A T + D A days).

    A model of the regimes is fitted on the first ``train_days`` days only.
    """
    day_N = rows_N // series.grid.rows_per_day
    volatility_N, width = None, volatility_rows(spec, series.grid.cadence_ns)
    if width:
        volatility_N = np.empty(rows_N.shape[0])
        for a in np.unique(target_N):
            mid_T, mine = series.mid_AT[a], target_N == a
            volatility_T = realised_volatility(mid_T, valid_rows(mid_T, series.flag_AT[a]), width)
            volatility_N[mine] = volatility_T[rows_N[mine]]
    regime_NR, regime_N = None, np.full(rows_N.shape, -1, dtype=np.int64)
    model: dict[str, Any] = {}
    if spec.regime is not None:
        proba_DAR, model = regime_table(series, spec.regime, train_days)
        regime_NR = proba_DAR[day_N, target_N]
        regime_N = likeliest(regime_NR)
    return Conditions(
        volatility_N=volatility_N,
        volume_N=volume_rank(series, spec.volume_days)[day_N, target_N] if spec.volume_days else None,
        regime_NR=regime_NR,
        regime_N=regime_N,
        regime_model=model,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Lookbacks:
    """How far back what is known of a sample reaches: ``ns`` before its anchor, ``days`` before its anchor's day.

    Nothing a sample holds depends on anything dated before :meth:`start_ns`, but for constants of the training block.
    """

    ns: dict[str, int]
    days: dict[str, int]

    def start_ns(self, anchor_ns_N: Int64) -> Int64:
        """The earliest moment any of them reaches; it may lie before the data."""
        earliest_ns_N: Int64 = anchor_ns_N - max(self.ns.values())
        midnight_ns_N = anchor_ns_N // NS_PER_DAY * NS_PER_DAY
        return np.minimum(earliest_ns_N, midnight_ns_N - max(self.days.values(), default=0) * NS_PER_DAY)

    def at_most(self) -> dict[str, int]:
        """Name -> ns before the anchor; for days, those of an anchor at the very end of its day."""
        return self.ns | {name: (count + 1) * NS_PER_DAY for name, count in self.days.items()}


def lookbacks(
    grid: Grid, rule: WindowRule, spec: ContextSpec, context_days: int, sigmas: Sequence[SigmaSpec]
) -> Lookbacks:
    """The look-backs of all that :class:`bml.dataset.dataset.Dataset` holds of a sample; those left out are not named.

    input: the window, and as many rows more as tell whether its first is stale; last_label: the same for the label
    that ends at the anchor (its class depends on sigma, too); sigma: the longest of ``sigmas``; daily_moments: the
    context days and one more, because the first of them has its change of price against the day before.
    """
    stale_rows = max(rule.max_stale_ms * 1_000_000 // grid.cadence_ns, 1)
    rows = {
        "input": rule.window_rows + stale_rows,
        "last_label": rule.horizon_rows + stale_rows + 1,
        "volatility": volatility_rows(spec, grid.cadence_ns),
    }
    days = {
        "daily_moments": context_days + 1 if context_days else 0,
        "volume": spec.volume_days + 1 if spec.volume_days else 0,
        "regime": spec.regime.lookback_days if spec.regime else 0,
    }
    return Lookbacks(
        ns={name: count * grid.cadence_ns for name, count in rows.items() if count}
        | {"sigma": max(lookback_ns(sigma, grid.cadence_ns) for sigma in sigmas)},
        days={name: count for name, count in days.items() if count},
    )
