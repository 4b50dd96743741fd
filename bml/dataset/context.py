"""The long channel (daily moments of completed days) and the scalers fitted on days of the training block."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bml.dataset.series import Series
from bml.types import STATS, DataError, Float64

#: standardised inputs are clipped at this many standard deviations, on either side
INPUT_LIMIT = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Scaler:
    """Mean and std of every book cell (A, L, F), daily statistic (A, S) and window feature (A, K), from training
    days only.

    A cell that was never seen has mean 0; one never seen, seen once, or constant has std 1.
    """

    mean_ALF: Float64
    std_ALF: Float64
    mean_AS: Float64
    std_AS: Float64
    mean_AK: Float64 | None = None  # None: there are no window features
    std_AK: Float64 | None = None


def moments_table(series: Series) -> tuple[Float64, npt.NDArray[np.bool_], tuple[str, ...]]:
    """(D, A, S) statistics of every day, whether the day has any (D, A), and the S names "stat.series".

    NaN where a statistic is undefined or the day is missing. The level of the price is not among them, since it
    drifts out of whatever range training saw: see :func:`_without_level`. Raises DataError if days disagree on
    the series.
    """
    n_assets, n_days = len(series.moments_AD), series.grid.n_days
    known = [moments for row in series.moments_AD for moments in row if moments is not None]
    names_V = known[0].names_V
    moments_DAS = np.full((n_days, n_assets, len(STATS) * len(names_V)), np.nan)
    present_DA = np.zeros((n_days, n_assets), dtype=np.bool_)
    count = STATS.index("count")
    for a, row in enumerate(series.moments_AD):
        for d, moments in enumerate(row):
            if moments is None:
                continue
            if moments.names_V != names_V:
                raise DataError(f"{moments.symbol} {moments.day}: its daily moments are of other series than those of "
                                f"{known[0].symbol} {known[0].day}; preprocess all days alike")  # fmt: skip
            moments_DAS[d, a] = moments.stats_SV.reshape(-1)
            present_DA[d, a] = bool((moments.stats_SV[count] > 0).any())
    names = tuple(f"{stat}.{name}" for stat in STATS for name in names_V)
    moments_DAS, names = _without_level(moments_DAS, names)
    return moments_DAS, present_DA, names


def _without_level(moments_DAS: Float64, names: tuple[str, ...]) -> tuple[Float64, tuple[str, ...]]:
    """Without mean.log_mid and total.log_mid; change.log_mid takes the place of the mean.

    It is the mean's change against the previous day, NaN where either day is unknown and on the first day.
    """
    if "mean.log_mid" not in names:
        return moments_DAS, names
    mean = names.index("mean.log_mid")
    change_DA = np.diff(moments_DAS[..., mean], axis=0, prepend=np.nan)
    moments_DAS = moments_DAS.copy()
    moments_DAS[..., mean] = change_DA
    kept = [s for s, name in enumerate(names) if name != "total.log_mid"]
    return moments_DAS[..., kept], tuple("change.log_mid" if s == mean else names[s] for s in kept)


def fit_scaler(series: Series, moments_DAS: Float64, train_days: int) -> Scaler:
    """Scalers over the first ``train_days`` days; O(train days) merges of per-day states, no book is read."""
    known = [[day for day in row[:train_days] if day is not None] for row in series.moments_AD]
    books = [_merge([day.scaler_SLF for day in days], (series.levels, 4)) for days in known]
    features = [
        _merge([day.feature_SK for day in days if day.feature_SK is not None], (len(series.feature_names),))
        for days in known
        if series.feature_names
    ]
    train_DAS = moments_DAS[:train_days]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a statistic unseen in training: mean and std are NaN
        mean_AS = np.nanmean(train_DAS, axis=0)
        std_AS = np.nanstd(train_DAS, axis=0)
    return Scaler(
        mean_ALF=np.stack([mean for mean, _ in books]),
        std_ALF=np.stack([std for _, std in books]),
        mean_AS=np.where(np.isfinite(mean_AS), mean_AS, 0.0),
        std_AS=_usable_std(std_AS, mean_AS),
        mean_AK=np.stack([mean for mean, _ in features]) if features else None,
        std_AK=np.stack([std for _, std in features]) if features else None,
    )


def _merge(days: Sequence[Float64], shape: tuple[int, ...]) -> tuple[Float64, Float64]:
    """Mean and std over days, of ``shape``, from each day's count, mean and M2."""
    if not days:
        return np.zeros(shape), np.ones(shape)
    count_D, mean_D, m2_D = np.moveaxis(np.stack(days), 1, 0)
    seen = count_D > 0
    mean_D, m2_D = np.where(seen, mean_D, 0.0), np.where(seen, m2_D, 0.0)
    total = count_D.sum(axis=0)
    weight = np.maximum(total, 1.0)
    mean = (count_D * mean_D).sum(axis=0) / weight
    m2 = m2_D.sum(axis=0) + (count_D * (mean_D - mean) ** 2).sum(axis=0)
    return mean, _usable_std(np.sqrt(m2 / weight), mean)


def _usable_std(std: Float64, mean: Float64) -> Float64:
    """1 where the spread is nil, unknown or only rounding, so that dividing by it changes nothing."""
    floor = np.maximum(1e-9 * np.abs(np.nan_to_num(mean)), 1e-12)
    usable: Float64 = np.where(np.isfinite(std) & (std > floor), std, 1.0)
    return usable
