"""What is known of a moment without looking at the book: the clock, the age of the data, the conditions so far."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from bml.dataset.conditions import Conditions
from bml.dataset.regime import REGIMES
from bml.types import NS_PER_DAY, Float32, Float64, Int32, Int64, SampleIndex

#: 1970-01-01 was a Thursday; weeks start on Monday
_EPOCH_WEEKDAY = 3

#: standard deviations per unit of a rank, which is uniform from 0 to 1
_RANK_SCALE = 12.0**0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class CalendarScale:
    """Constants of the calendar features, all known once the training block is over.

    ``held`` are the features that have one value on all training rows, with that value.
    """

    start_ns: int
    span_ns: int  # length of the training block
    log_sigma_mean: float
    log_sigma_std: float
    log_volatility_mean: float = 0.0
    log_volatility_std: float = 1.0
    held: dict[str, float] = field(default_factory=dict)


def trained_features(
    index: SampleIndex, train: Int64, bounds_ns: tuple[int, int], targets: dict[int, str], found: Conditions
) -> tuple[Float32, tuple[str, ...], CalendarScale]:
    """The features of :func:`time_features` of all samples, their names, and the scale fitted on ``train``."""
    volatility_N = None if found.volatility_N is None else found.volatility_N[train]
    scale = fit_scale(*bounds_ns, index.sigma_N[train], volatility_N)
    given = (index.anchor_ns_N, index.sigma_N, index.target_N, targets)
    x_time_NK, names = time_features(*given, scale, found)
    scale = hold_constant(scale, x_time_NK[train], names)
    return *time_features(*given, scale, found), scale


def fit_scale(
    start_ns: int, stop_ns: int, sigma_train_N: Float64, volatility_train_N: Float64 | None = None
) -> CalendarScale:
    """Scale of the training block [start, stop), of log sigma and of log volatility over its rows.

    NaN counts for nothing; a std is 1 where the logarithm is constant or never known.
    """
    sigma = _log_scale(sigma_train_N)
    volatility = (0.0, 1.0) if volatility_train_N is None else _log_scale(volatility_train_N)
    return CalendarScale(
        start_ns=start_ns,
        span_ns=stop_ns - start_ns,
        log_sigma_mean=sigma[0],
        log_sigma_std=sigma[1],
        log_volatility_mean=volatility[0],
        log_volatility_std=volatility[1],
    )


def _log_scale(x_N: Float64) -> tuple[float, float]:
    log_N = np.log(x_N[np.isfinite(x_N)])
    if not log_N.shape[0]:
        return 0.0, 1.0
    std = float(log_N.std())
    return float(log_N.mean()), std if std > 1e-9 else 1.0


def time_features(
    anchor_ns_N: Int64,
    sigma_N: Float64,
    target_N: Int32,
    targets: dict[int, str],
    scale: CalendarScale,
    conditions: Conditions | None = None,
) -> tuple[Float32, tuple[str, ...]]:
    """(N, K) float32 features and their K names; no NaN for a positive sigma.

    Sine and cosine of the hour of day and of the day of week (both continuous in time, UTC); the days since the start
    of the data as a share of the training block, 1 from its end on: a network must not be asked about ages it never
    saw; standardised log sigma; the ``conditions`` there are: standardised log volatility and rank of the volume (0
    where unknown, each with whether it is known) and the probability of each regime (all 0 where unknown); with
    several targets, a one-hot of the target. What ``scale`` holds is held.
    """
    day_N = anchor_ns_N / NS_PER_DAY
    week_N = (day_N + _EPOCH_WEEKDAY) / 7.0
    columns = {
        "hour_sin": np.sin(2 * np.pi * (day_N % 1.0)),
        "hour_cos": np.cos(2 * np.pi * (day_N % 1.0)),
        "week_sin": np.sin(2 * np.pi * (week_N % 1.0)),
        "week_cos": np.cos(2 * np.pi * (week_N % 1.0)),
        "age": np.minimum((anchor_ns_N - scale.start_ns) / scale.span_ns, 1.0),
        "log_sigma": (np.log(sigma_N) - scale.log_sigma_mean) / scale.log_sigma_std,
    }
    if conditions is not None:
        columns |= _condition_columns(conditions, scale)
    if len(targets) > 1:
        columns |= {f"is_{symbol}": (target_N == code).astype(np.float64) for code, symbol in targets.items()}
    for name in scale.held.keys() & columns.keys():
        columns[name] = np.full(anchor_ns_N.shape, scale.held[name])
    x_time_NK = np.stack(list(columns.values()), axis=1).astype(np.float32)
    return x_time_NK, tuple(columns)


def hold_constant(scale: CalendarScale, x_train_NK: Float32, names: tuple[str, ...]) -> CalendarScale:
    """``scale`` that holds every feature with one value on all training rows.

    Nothing can be learnt of a column that never varies, but its untrained weight would answer once it did.
    """
    constant_K = (x_train_NK == x_train_NK[:1]).all(axis=0)
    held = {name: float(x_train_NK[0, k]) for k, name in enumerate(names) if constant_K[k]}
    return replace(scale, held=held)


def _condition_columns(found: Conditions, scale: CalendarScale) -> dict[str, Float64]:
    columns: dict[str, Float64] = {}
    if found.volatility_N is not None:
        log_N = np.log(found.volatility_N)
        columns |= _known("log_volatility", (log_N - scale.log_volatility_mean) / scale.log_volatility_std)
    if found.volume_N is not None:
        columns |= _known("volume_rank", (found.volume_N - 0.5) * _RANK_SCALE)
    if found.regime_NR is not None:
        columns |= {f"regime_{name}": np.nan_to_num(found.regime_NR[:, r]) for r, name in enumerate(REGIMES)}
    return columns


def _known(name: str, x_N: Float64) -> dict[str, Float64]:
    known_N = np.isfinite(x_N)
    return {name: np.where(known_N, x_N, 0.0), f"{name}_known": known_N.astype(np.float64)}


def held_notes(scale: CalendarScale) -> tuple[str, ...]:
    """A note of the features that are of no use because they never vary in training, if there are any."""
    names = [name for name in scale.held if not name.endswith("_known")]
    if not names:
        return ()
    return (f"{', '.join(names)}: one value on all training rows, so held at it afterwards; take more training days, "
            "or leave them out of context",)  # fmt: skip
