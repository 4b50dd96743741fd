"""What came before, measured over a look-back of known length: nothing older than it changes a bit of the result."""

from __future__ import annotations

import numpy as np

from bml.dataset.labels import Bools
from bml.dataset.series import Series
from bml.dataset.sigma import window_sum
from bml.types import STATS, DataError, Float64

#: known days below which no rank among days is given (or all that were asked for, if those are fewer)
MIN_DAYS = 14


def realised_volatility(mid_T: Float64, valid_T: Bools, rows: int) -> Float64:
    """Root of the sum of squared one-row log returns over the last ``rows`` rows, (T,) float64.

    A return counts if both its rows are valid and adjacent; the sum is scaled up to ``rows`` returns. NaN where
    fewer than half of them count or none moved. Depends on the mids of row t - rows to t. O(T).
    """
    counts_T = np.zeros(mid_T.shape[0], dtype=np.bool_)
    counts_T[1:] = valid_T[1:] & valid_T[:-1]
    squared_T = np.zeros(mid_T.shape[0])
    at = np.flatnonzero(counts_T)
    squared_T[at] = np.log(mid_T[at] / mid_T[at - 1]) ** 2
    total_T, count_T = window_sum(squared_T, rows), window_sum(counts_T.astype(np.float64), rows)
    known_T = (2 * count_T >= rows) & (total_T > 0)
    out_T = np.full(mid_T.shape[0], np.nan)
    out_T[known_T] = np.sqrt(total_T[known_T] * (rows / count_T[known_T]))
    return out_T


def day_before(x_DA: Float64, days: int) -> Float64:
    """Row d holds row d - ``days``, NaN before there is one."""
    out_DA = np.full(x_DA.shape, np.nan)
    out_DA[days:] = x_DA[: max(x_DA.shape[0] - days, 0)]
    return out_DA


def trailing_mean(x_DA: Float64, days: int) -> Float64:
    """Mean of the known among row d and the ``days`` - 1 before it; NaN where fewer than half are known."""
    total_DA, count_DA = np.zeros(x_DA.shape), np.zeros(x_DA.shape)
    for back in range(days):
        earlier_DA = day_before(x_DA, back)
        total_DA += np.nan_to_num(earlier_DA)
        count_DA += np.isfinite(earlier_DA)
    return np.where(2 * count_DA >= days, total_DA / np.maximum(count_DA, 1.0), np.nan)


def trailing_rank(x_DA: Float64, days: int) -> Float64:
    """Share of the ``days`` days before day d whose value is below that of day d, equal ones counted half: 0 to 1.

    NaN where the value of day d is unknown, or fewer than ``MIN_DAYS`` (or ``days``, if that is less) of those before.
    """
    below_DA, count_DA = np.zeros(x_DA.shape), np.zeros(x_DA.shape)
    for back in range(1, days + 1):
        earlier_DA = day_before(x_DA, back)
        below_DA += (earlier_DA < x_DA) + 0.5 * (earlier_DA == x_DA)
        count_DA += np.isfinite(earlier_DA)
    known_DA = np.isfinite(x_DA) & (count_DA >= min(days, MIN_DAYS))
    return np.where(known_DA, below_DA / np.maximum(count_DA, 1.0), np.nan)


def daily_mean(series: Series, name: str, wanted_by: str) -> Float64:
    """(D, A) mean of the daily series ``name``; NaN on days without it. DataError where the days do not have it."""
    out_DA = np.full((series.grid.n_days, len(series.symbols)), np.nan)
    for a, row in enumerate(series.moments_AD):
        for d, moments in enumerate(row):
            if moments is None:
                continue
            if name not in moments.names_V:
                raise DataError(f"{moments.symbol} {moments.day}: {wanted_by} needs the daily moments of {name}, and "
                                "the day file has none; preprocess with book.moments.daily")  # fmt: skip
            out_DA[d, a] = moments.stats_SV[STATS.index("mean"), moments.names_V.index(name)]
    return out_DA


def volume_rank(series: Series, days: int) -> Float64:
    """(D, A) rank of yesterday's quantity in the book among the ``days`` days before yesterday, by day of the anchor.

    The quantity of a day is the mean over its fresh rows of log1p bid quantity + log1p ask quantity of all levels: the
    store holds no trades, and a total would tell how many rows the day has.
    """
    sides = [daily_mean(series, name, "context.volume_days") for name in ("log1p_bid_qty", "log1p_ask_qty")]
    return day_before(trailing_rank(sides[0] + sides[1], days), 1)
