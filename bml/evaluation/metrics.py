"""Scores of probabilistic forecasts over C ordered classes; numpy only, no state.

``proba_NC`` (N, C) are probabilities, rows summing to 1; ``y_N`` (N,) the classes that came. Functions whose
name ends in ``_N`` give one score a row (for paired comparisons), the others their mean or a table. Lower is
better for NLL, RPS, Brier and calibration errors. Empty input, wrong shapes, classes outside 0..C-1 and NaN
raise ValueError.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from bml.types import Float64, Int64

#: probabilities below this count as this in the NLL: one impossible event costs 27.6 nats, not infinity
MIN_PROBA = 1e-12

Binning = Literal["mass", "width"]


def checked(proba_NC: Float64, y_N: Int64) -> tuple[Float64, Int64]:
    """The arguments as float64 and int64, or a ValueError that says what is wrong with them."""
    proba_NC, y_N = np.asarray(proba_NC, dtype=np.float64), np.asarray(y_N)
    if proba_NC.ndim != 2 or y_N.shape != proba_NC.shape[:1] or y_N.shape[0] == 0 or proba_NC.shape[1] < 2:
        raise ValueError(f"expected (N, C) probabilities and (N,) classes, got {proba_NC.shape} and {y_N.shape}")
    if y_N.min() < 0 or y_N.max() >= proba_NC.shape[1]:
        raise ValueError(f"classes must lie in 0..{proba_NC.shape[1] - 1}, got {y_N.min()}..{y_N.max()}")
    if not (np.abs(proba_NC.sum(axis=1) - 1.0) < 1e-6).all() or (proba_NC < 0).any():  # NaN fails the first
        raise ValueError("rows of probabilities must be non-negative and sum to 1")
    return proba_NC, y_N.astype(np.int64)


def nll_N(proba_NC: Float64, y_N: Int64) -> Float64:
    """-log p(y) in nats, with p clipped from below at ``MIN_PROBA``."""
    proba_NC, y_N = checked(proba_NC, y_N)
    score_N: Float64 = -np.log(np.maximum(proba_NC[np.arange(y_N.shape[0]), y_N], MIN_PROBA))
    return score_N


def rps_N(proba_NC: Float64, y_N: Int64) -> Float64:
    """Ranked probability score: sum over the C - 1 inner edges of (P(class <= k) - [y <= k])^2, over C - 1.

    In [0, 1]; knows that the neighbouring class is a smaller miss. For C = 2 half the Brier score.
    """
    proba_NC, y_N = checked(proba_NC, y_N)
    edges = proba_NC.shape[1] - 1
    below_NE = np.cumsum(proba_NC, axis=1)[:, :-1]
    came_NE = y_N[:, None] <= np.arange(edges)
    score_N: Float64 = ((below_NE - came_NE) ** 2).sum(axis=1) / edges
    return score_N


def brier_N(proba_NC: Float64, y_N: Int64) -> Float64:
    """Sum over classes of (p - [y = k])^2, in [0, 2] (Brier's own form; half of it is common for C = 2)."""
    proba_NC, y_N = checked(proba_NC, y_N)
    score_N: Float64 = ((proba_NC - _one_hot(y_N, proba_NC.shape[1])) ** 2).sum(axis=1)
    return score_N


def nll(proba_NC: Float64, y_N: Int64) -> float:
    return float(nll_N(proba_NC, y_N).mean())


def rps(proba_NC: Float64, y_N: Int64) -> float:
    return float(rps_N(proba_NC, y_N).mean())


def brier(proba_NC: Float64, y_N: Int64) -> float:
    return float(brier_N(proba_NC, y_N).mean())


def accuracy(proba_NC: Float64, y_N: Int64) -> float:
    """Share of rows whose likeliest class came; ties go to the lower class."""
    proba_NC, y_N = checked(proba_NC, y_N)
    return float((proba_NC.argmax(axis=1) == y_N).mean())


def confusion(proba_NC: Float64, y_N: Int64) -> Int64:
    """(C, C) counts, row = class that came, column = likeliest class."""
    proba_NC, y_N = checked(proba_NC, y_N)
    classes = proba_NC.shape[1]
    pairs = y_N * classes + proba_NC.argmax(axis=1)
    return np.bincount(pairs, minlength=classes * classes).astype(np.int64).reshape(classes, classes)


class PerClass(NamedTuple):
    """(C,) each; precision of a class never forecast and recall of a class that never came are 0, and so is F1."""

    precision_C: Float64
    recall_C: Float64
    f1_C: Float64
    support_C: Int64


def per_class(counts_CC: Int64) -> PerClass:
    """Precision, recall, F1 and support from a :func:`confusion` matrix."""
    hit_C = np.diag(counts_CC).astype(np.float64)
    support_C, forecast_C = counts_CC.sum(axis=1), counts_CC.sum(axis=0)
    return PerClass(
        precision_C=_ratio(hit_C, forecast_C),
        recall_C=_ratio(hit_C, support_C),
        f1_C=_ratio(2.0 * hit_C, support_C + forecast_C),
        support_C=support_C,
    )


def weighted_f1(counts_CC: Int64) -> float:
    """F1 per class, weighted by support."""
    scores = per_class(counts_CC)
    return float((scores.f1_C * scores.support_C).sum() / scores.support_C.sum())


class Reliability(NamedTuple):
    """(M,) each over the bins that hold rows: count, mean forecast, share that came true."""

    count_M: Int64
    forecast_M: Float64
    came_M: Float64


def reliability(forecast_N: Float64, came_N: npt.NDArray[np.bool_], bins: int, mode: Binning = "mass") -> Reliability:
    """Forecast probabilities against frequencies, in ``bins`` bins.

    "mass": bins hold equally many rows, as far as equal forecasts, which are never split, allow (a constant
    forecast is one bin). "width": [0, 1] in equal parts, right end inclusive in the last.
    """
    if bins < 1:
        raise ValueError(f"reliability: bins must be at least 1, got {bins}")
    if mode == "mass":
        inner = np.quantile(forecast_N, np.arange(1, bins) / bins, method="inverted_cdf")
        bin_N = np.searchsorted(np.unique(inner), forecast_N, side="left")
    else:
        bin_N = np.minimum((forecast_N * bins).astype(np.int64), bins - 1)
    count = np.bincount(bin_N)
    held = count > 0
    forecast = np.bincount(bin_N, weights=forecast_N)[held] / count[held]
    came = np.bincount(bin_N, weights=came_N.astype(np.float64))[held] / count[held]
    return Reliability(count[held].astype(np.int64), forecast, came)


def ece(proba_NC: Float64, y_N: Int64, *, bins: int = 15, mode: Binning = "mass") -> float:
    """Expected calibration error of the likeliest class: mean over rows of |confidence - accuracy| of their bin.

    Never 0 for finite n: a perfect forecaster has about 0.03 at 1500 independent rows. Compare at equal n only.
    """
    proba_NC, y_N = checked(proba_NC, y_N)
    curve = reliability(proba_NC.max(axis=1), proba_NC.argmax(axis=1) == y_N, bins, mode)
    return _gap(curve)


def classwise_ece(proba_NC: Float64, y_N: Int64, *, bins: int = 15, mode: Binning = "mass") -> float:
    """Mean over classes of the calibration error of that class's own probability: sees the tails too."""
    proba_NC, y_N = checked(proba_NC, y_N)
    gaps = [_gap(reliability(proba_NC[:, k], y_N == k, bins, mode)) for k in range(proba_NC.shape[1])]
    return float(np.mean(gaps))


def _gap(curve: Reliability) -> float:
    return float((curve.count_M * np.abs(curve.forecast_M - curve.came_M)).sum() / curve.count_M.sum())


def _one_hot(y_N: Int64, classes: int) -> Float64:
    return np.eye(classes)[y_N]


def _ratio(top: Float64, bottom: Int64) -> Float64:
    out: Float64 = np.divide(top, bottom, out=np.zeros(top.shape), where=bottom > 0)
    return out
