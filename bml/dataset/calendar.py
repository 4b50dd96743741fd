"""What is known of a moment without looking at the book: the clock, the age of the data, the volatility so far."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bml.types import NS_PER_DAY, Float32, Float64, Int32, Int64

#: 1970-01-01 was a Thursday; weeks start on Monday
_EPOCH_WEEKDAY = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class CalendarScale:
    """Constants of the calendar features, all known once the training block is over."""

    start_ns: int
    span_ns: int  # length of the training block
    log_sigma_mean: float
    log_sigma_std: float


def fit_scale(start_ns: int, stop_ns: int, sigma_train_N: Float64) -> CalendarScale:
    """Scale of the training block [start, stop) and of log sigma over its rows (std 1 where it is constant)."""
    log_sigma = np.log(sigma_train_N)
    std = float(log_sigma.std())
    return CalendarScale(
        start_ns=start_ns,
        span_ns=stop_ns - start_ns,
        log_sigma_mean=float(log_sigma.mean()),
        log_sigma_std=std if std > 1e-9 else 1.0,
    )


def time_features(
    anchor_ns_N: Int64, sigma_N: Float64, target_N: Int32, targets: dict[int, str], scale: CalendarScale
) -> tuple[Float32, tuple[str, ...]]:
    """(N, K) float32 features and their K names; no NaN for a positive sigma.

    Sine and cosine of the hour of day and of the day of week (both continuous in time, UTC), the share of the
    training block that has passed (1 from its end on: a network must not be asked about ages it never saw),
    standardised log sigma; with several targets, a one-hot of the target.
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
    if len(targets) > 1:
        columns |= {f"is_{symbol}": (target_N == code).astype(np.float64) for code, symbol in targets.items()}
    x_time_NK = np.stack(list(columns.values()), axis=1).astype(np.float32)
    return x_time_NK, tuple(columns)
