"""The regime a day begins in, of completed days only: bull, bear, sideways or high_volatility.

Two coordinates of the daily moments say where a symbol stands at the beginning of a day: the trend, which is how far
the price went for what it moved, and the log of the volatility. ``thresholds`` cut this plane at fixed trends and at a
rank of the volatility among the days before; ``hmm`` learns the cut from the training days, see
:mod:`bml.dataset.hmm`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import numpy as np

from bml.dataset.series import Series
from bml.dataset.trailing import daily_mean, day_before, trailing_mean, trailing_rank
from bml.types import MAX_DAYS, ConfigError, Float64, Int64

REGIMES = ("bull", "bear", "sideways", "high_volatility")
BULL, BEAR, SIDEWAYS, HIGH_VOLATILITY = range(4)

#: keys that say nothing to a hidden Markov model
_THRESHOLDS = ("trend", "high_volatility")

_METHODS = ("thresholds", "hmm", "none")


class RegimeParams(TypedDict, total=False):
    """The parameter ``context.regime`` of a configuration; ``trend`` and ``high_volatility`` are of thresholds only."""

    method: Literal["thresholds", "hmm", "none"]
    trend_days: int
    volatility_days: int
    memory_days: int
    trend: float
    high_volatility: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RegimeSpec:
    """Trend over ``trend_days``, volatility over ``volatility_days``, compared with the ``memory_days`` before.

    thresholds: high_volatility from a rank of ``high_volatility`` on, else bull from ``trend`` on, bear down from
    -``trend``. hmm: the filter begins ``memory_days`` days back.
    """

    method: str = "thresholds"
    trend_days: int = 14
    volatility_days: int = 7
    memory_days: int = 90
    trend: float = 1.0
    high_volatility: float = 0.8

    @property
    def lookback_days(self) -> int:
        """Days before the anchor's that are read."""
        if self.method == "hmm":
            return self.memory_days - 1 + max(self.trend_days + 1, self.volatility_days)
        return max(self.trend_days + 1, self.memory_days + self.volatility_days)


def none_as_mapping(regime: object) -> object:
    """``none`` is short for ``{method: none}``."""
    return {"method": "none"} if regime == "none" else regime


def regime_spec(params: object) -> RegimeSpec | None:
    """Read ``none`` or ``{method: thresholds | hmm | none, trend_days: 14, ...}``, or a ConfigError with the key."""
    where, params = "context.regime", none_as_mapping(params)
    if not isinstance(params, Mapping):
        raise ConfigError(f"{where}: expected none or a mapping with a method, got {params!r}")
    given: dict[str, Any] = dict(params)
    method = given.get("method", "thresholds")
    if not isinstance(method, str) or method not in _METHODS:
        raise ConfigError(f"{where}.method: {method!r} is not known; there are: {', '.join(_METHODS)}")
    known = [key for key in RegimeSpec.__dataclass_fields__ if method != "hmm" or key not in _THRESHOLDS]
    check_keys(where, given, known)
    for key, value in given.items():
        if key.endswith("_days") and (
            isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_DAYS
        ):
            raise ConfigError(f"{where}.{key}: expected a number of days, from 1 to {MAX_DAYS}, got {value!r}")
    _check_number(f"{where}.trend", given.get("trend", 1.0), math.inf)
    _check_number(f"{where}.high_volatility", given.get("high_volatility", 0.5), 1.0)
    return None if method == "none" else RegimeSpec(**given)


def check_keys(where: str, given: Mapping[str, object], known: Sequence[str]) -> None:
    """A ConfigError for the first key of ``given`` that is none of ``known``, with the one it may have meant."""
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"
            raise ConfigError(f"{where}.{key}: unknown key; {hint}")


def _check_number(where: str, value: object, below: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < below:
        raise ConfigError(f"{where}: expected a number above 0" + (f" and below {below:g}" if below < math.inf else "")
                          + f", got {value!r}")  # fmt: skip


def coordinates(series: Series, spec: RegimeSpec) -> tuple[Float64, Float64]:
    """Trend and log volatility of each symbol as known when a day begins, (D, A) each, NaN where unknown.

    The trend is the change of the daily mean log mid over ``trend_days`` / the root of the sum of the squares of its
    daily changes: 0 for a price that went nowhere, about 1 for a random walk, at most sqrt(trend_days). The volatility
    is the mean over ``volatility_days`` of the log of the daily one; noise in single quotes raises all its days alike.
    """
    log_mid_DA = daily_mean(series, "log_mid", "context.regime")
    change_DA = log_mid_DA - day_before(log_mid_DA, 1)
    walked_DA = np.sqrt(spec.trend_days * trailing_mean(change_DA**2, spec.trend_days))
    moved_DA = log_mid_DA - day_before(log_mid_DA, spec.trend_days)
    trend_DA = np.divide(moved_DA, walked_DA, out=np.full(moved_DA.shape, np.nan), where=walked_DA > 0)
    variance_DA = daily_mean(series, "squared_return_bps2", "context.regime")
    log_DA = 0.5 * np.log(variance_DA, out=np.full(variance_DA.shape, np.nan), where=variance_DA > 0)
    return day_before(trend_DA, 1), day_before(trailing_mean(log_DA, spec.volatility_days), 1)


def regime_table(series: Series, spec: RegimeSpec, train_days: int) -> tuple[Float64, dict[str, Any]]:
    """(D, A, R) probability of each regime at the beginning of each day, and what was fitted, JSON-able.

    By ``thresholds`` a probability is 0 or 1 and nothing is fitted; by ``hmm`` it is the filtered one of a model of the
    first ``train_days`` days. NaN where a coordinate is unknown or the days before are too few.
    """
    trend_DA, log_vol_DA = coordinates(series, spec)
    if spec.method == "hmm":
        from bml.dataset import hmm

        model = hmm.fit(trend_DA, log_vol_DA, train_days)
        return hmm.filtered(trend_DA, log_vol_DA, model, spec.memory_days), model
    rank_DA = trailing_rank(log_vol_DA, spec.memory_days)
    return _one_hot(trend_DA, rank_DA, spec), {}


def _one_hot(trend_DA: Float64, rank_DA: Float64, spec: RegimeSpec) -> Float64:
    regime_DA = np.full(trend_DA.shape, SIDEWAYS)
    regime_DA[trend_DA >= spec.trend] = BULL
    regime_DA[trend_DA <= -spec.trend] = BEAR
    regime_DA[rank_DA >= spec.high_volatility] = HIGH_VOLATILITY
    proba_DAR: Float64 = np.eye(len(REGIMES))[regime_DA]
    proba_DAR[~(np.isfinite(trend_DA) & np.isfinite(rank_DA))] = np.nan
    return proba_DAR


def likeliest(proba_NR: Float64) -> Int64:
    """Number of the likeliest regime, the first of equals, -1 where unknown, (N,) int64."""
    known_N = np.isfinite(proba_NR).all(axis=1)
    regime_N: Int64 = np.where(known_N, np.nan_to_num(proba_NR).argmax(axis=1), -1).astype(np.int64)
    return regime_N
