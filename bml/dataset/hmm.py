"""A Gaussian hidden Markov model of the regimes: fitted once on training days, filtered forward afterwards.

Only the fit needs hmmlearn. What a day is called depends on that day's past alone: the forward pass begins a fixed
number of days back, and there is no backward pass (smoothing) nor best path (Viterbi), which look ahead.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from bml.dataset.trailing import MIN_DAYS, day_before
from bml.types import ConfigError, Float64, GateError

#: known training days over all symbols below which no model is fitted
MIN_TRAINING_DAYS = 60

#: where the fit begins, and where a prior worth ``_PRIOR_DAYS`` days holds each state: (trend, standardised log
#: volatility) of bull, bear, sideways, high_volatility, their variance, and the chance to stay. This makes the fit
#: deterministic and the names stable; a month is little, because days share most of the days they look back on.
_BEGIN = ((1.2, 0.0), (-1.2, 0.0), (0.0, -0.5), (0.0, 1.5))
_PRIOR_DAYS = 30.0
_VARIANCE = 0.5
_STAY = 0.94
_SPREAD = 1e-9


def fit(trend_DA: Float64, log_vol_DA: Float64, train_days: int) -> dict[str, Any]:
    """Fit four states to the first ``train_days`` days of all symbols at once; deterministic, JSON-able.

    States are in the order of ``REGIMES``: high_volatility has the largest mean volatility, the others have falling
    trends from bull over sideways to bear. Raises ConfigError without hmmlearn and GateError on too few known days.
    """
    try:
        from hmmlearn.hmm import GaussianHMM
    except ImportError:
        raise ConfigError("context.regime.method: 'hmm' needs hmmlearn; run pip install 'bml[regime]'") from None
    mean_A, std_A = _scale(log_vol_DA[:train_days])
    observed_DAX = np.stack([trend_DA, (log_vol_DA - mean_A) / std_A], axis=2)[:train_days]
    runs = [run for a in range(observed_DAX.shape[1]) for run in _runs(observed_DAX[:, a])]
    days = sum(len(run) for run in runs)
    if days < MIN_TRAINING_DAYS:
        raise GateError(f"context.regime: method hmm needs {MIN_TRAINING_DAYS} known training days over all symbols, "
                        f"there are {days}; lengthen the data or take method thresholds")  # fmt: skip
    begin_RX = np.array(_BEGIN)
    model = GaussianHMM(
        len(_BEGIN),
        covariance_type="diag",
        n_iter=200,
        init_params="",
        means_prior=begin_RX,
        means_weight=_PRIOR_DAYS,
        covars_prior=_VARIANCE * _PRIOR_DAYS,
        covars_weight=1.0 + _PRIOR_DAYS,
        transmat_prior=1.0 + _PRIOR_DAYS * _first_transitions(),
    )
    model.startprob_ = np.full(len(_BEGIN), 1.0 / len(_BEGIN))
    model.transmat_, model.means_ = _first_transitions(), begin_RX
    model.covars_ = np.full(begin_RX.shape, _VARIANCE)
    model.fit(np.concatenate(runs), [len(run) for run in runs])
    order = _named(model.means_)
    return {
        "transition_RR": model.transmat_[np.ix_(order, order)].tolist(),
        "mean_RX": model.means_[order].tolist(),
        "variance_RX": np.diagonal(model.covars_, axis1=1, axis2=2)[order].tolist(),
        "log_vol_mean_A": mean_A.tolist(),
        "log_vol_std_A": std_A.tolist(),
        "training_days": days,
    }


def filtered(trend_DA: Float64, log_vol_DA: Float64, model: dict[str, Any], memory_days: int) -> Float64:
    """(D, A, R) probability of each state given the coordinates of day d and the ``memory_days`` - 1 before it.

    The forward pass begins at the stationary distribution; an unknown day says nothing. NaN where day d is unknown, or
    all but fewer than ``MIN_DAYS`` (or ``memory_days``) days.
    """
    numbers = {key: np.asarray(model[key]) for key in model}
    vol_DA = (log_vol_DA - numbers["log_vol_mean_A"]) / numbers["log_vol_std_A"]
    observed_DAX = np.stack([trend_DA, vol_DA], axis=2)
    transition_RR = numbers["transition_RR"]
    n_days, n_assets, _ = observed_DAX.shape
    proba_DAR = np.tile(np.linalg.matrix_power(transition_RR, 1024)[0], (n_days, n_assets, 1))
    count_DA = np.zeros((n_days, n_assets))
    for back in range(memory_days - 1, -1, -1):
        earlier_DAX = day_before(observed_DAX, back)
        proba_DAR = proba_DAR @ transition_RR * _likelihood(earlier_DAX, numbers)
        proba_DAR /= proba_DAR.sum(axis=2, keepdims=True)
        count_DA += np.isfinite(earlier_DAX).all(axis=2)
    proba_DAR[~np.isfinite(observed_DAX).all(axis=2) | (count_DA < min(memory_days, MIN_DAYS))] = np.nan
    return proba_DAR


def _likelihood(observed_DAX: Float64, numbers: dict[str, Any]) -> Float64:
    """(D, A, R), up to a factor per day: the largest is 1; all are 1 on an unknown day."""
    mean_RX, variance_RX = numbers["mean_RX"], numbers["variance_RX"]
    away_DARX = observed_DAX[:, :, None, :] - mean_RX
    log_DAR = -0.5 * (away_DARX**2 / variance_RX + np.log(variance_RX)).sum(axis=3)
    log_DAR[~np.isfinite(observed_DAX).all(axis=2)] = 0.0
    likelihood: Float64 = np.exp(log_DAR - log_DAR.max(axis=2, keepdims=True))
    return likelihood


def _first_transitions() -> Float64:
    n = len(_BEGIN)
    matrix: Float64 = np.full((n, n), (1 - _STAY) / (n - 1)) + np.eye(n) * (_STAY - (1 - _STAY) / (n - 1))
    return matrix


def _scale(x_DA: Float64) -> tuple[Float64, Float64]:
    """Mean and std of the known days of each symbol; 0 and 1 where there are none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        mean_A, std_A = np.nanmean(x_DA, axis=0), np.nanstd(x_DA, axis=0)
    return np.nan_to_num(mean_A), np.where(std_A > _SPREAD, std_A, 1.0)


def _runs(observed_DX: Float64) -> list[Float64]:
    """The stretches of known days of one symbol."""
    known = np.flatnonzero(np.isfinite(observed_DX).all(axis=1))
    breaks = np.flatnonzero(np.diff(known) > 1) + 1
    return [observed_DX[part] for part in np.split(known, breaks) if part.shape[0]]


def _named(mean_RX: Float64) -> list[int]:
    """Places of the states called bull, bear, sideways, high_volatility."""
    high = int(mean_RX[:, 1].argmax())
    bear, sideways, bull = (int(r) for r in np.argsort(mean_RX[:, 0], kind="stable") if r != high)
    return [bull, bear, sideways, high]
