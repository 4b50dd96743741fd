"""Confidence intervals for a mean score difference when labels overlap: whole stretches of time are resampled.

Rows are not samples: labels of neighbouring anchors share most of their interval, and symbols move together.
So time is cut into blocks no shorter than a label, all symbols of a block stay together, and blocks are drawn.
Two corrections make the interval as wide as it must be when blocks are few: neighbouring blocks share the labels
across their border, and a spread estimated from few blocks is itself uncertain (Student's t).

What is not accounted for: anything slower than a label. Where a model is better in some weeks than in others,
few weeks say less than the interval claims.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from bml.types import Float64, Int64

#: with fewer blocks than this an interval would be a guess
MIN_BLOCKS = 20
#: the longest blocks, in horizons, and the number of blocks up to which shorter ones are taken
LONGEST = 8
ENOUGH_BLOCKS = 40


class Interval(NamedTuple):
    """``lo``..``hi`` of the mean, NaN when the time covered holds fewer than ``MIN_BLOCKS`` blocks."""

    mean: float
    lo: float
    hi: float
    blocks: int
    block_ns: int


def mean_interval(
    score_N: Float64, anchor_ns_N: Int64, horizon_ns: int, *, draws: int = 2000, level: float = 0.95, seed: int = 7
) -> Interval:
    """Interval of the mean of ``score_N`` by a block bootstrap over time, percentiles widened for few blocks.

    Blocks are ``LONGEST`` horizons long, shorter (never under one horizon) where that would leave fewer than
    ``ENOUGH_BLOCKS``. Scores depend on each other at most as their labels overlap: then blocks of k horizons
    understate the variance by the share 1 / (3 k), which is put back. Drawing blocks is one multinomial per draw,
    so the cost is O(N + draws * blocks).
    """
    if score_N.shape[0] == 0 or horizon_ns <= 0 or draws < 1 or not 0 < level < 1:
        raise ValueError("mean_interval: needs rows, horizon_ns > 0, draws >= 1 and 0 < level < 1")
    mean = float(score_N.mean())
    since_N = anchor_ns_N - anchor_ns_N.min()
    horizons = max(1, min(LONGEST, int(since_N.max()) // (ENOUGH_BLOCKS * horizon_ns)))
    length = horizons * horizon_ns
    _, block_N = np.unique(since_N // length, return_inverse=True)
    count_M = np.bincount(block_N)
    blocks = count_M.shape[0]
    if blocks < MIN_BLOCKS:
        return Interval(mean, float("nan"), float("nan"), blocks, length)
    # deviations from the mean: exact when all blocks agree
    total_M = np.bincount(block_N, weights=score_N - mean)
    drawn_RM = np.random.default_rng(seed).multinomial(blocks, np.full(blocks, 1.0 / blocks), size=draws)
    tail = 0.5 + level / 2
    widen = np.sqrt(blocks / (blocks - 1) / (1.0 - 1.0 / (3 * horizons)))
    widen *= t_quantile(tail, blocks - 1) / NormalDist().inv_cdf(tail)
    moved_R = (drawn_RM @ total_M) / (drawn_RM @ count_M) * widen
    lo, hi = np.quantile(moved_R, [1.0 - tail, tail])
    return Interval(mean, mean + float(lo), mean + float(hi), blocks, length)


def t_quantile(p: float, freedom: int) -> float:
    """The ``p`` quantile of Student's t with ``freedom`` >= 1 degrees of freedom, to a relative 1e-9.

    Bisection on the distribution function, which is a finite sum for whole degrees of freedom: O(freedom).
    """
    if not 0.0 < p < 1.0 or freedom < 1:
        raise ValueError(f"t_quantile: needs 0 < p < 1 and freedom >= 1, got {p} and {freedom}")
    if p < 0.5:
        return -t_quantile(1.0 - p, freedom)
    low, high = 0.0, math.pi / 2  # of the angle whose tangent is t / sqrt(freedom)
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _t_below(middle, freedom) < p else (low, middle)
    return math.sqrt(freedom) * math.tan(0.5 * (low + high))


def _t_below(angle: float, freedom: int) -> float:
    """P(T < sqrt(freedom) tan(angle)) for angles from 0 (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    cosine = math.cos(angle)
    odd = freedom % 2
    term, total = (cosine, cosine) if odd else (1.0, 1.0)
    if freedom == 1:
        total = 0.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= (k - 1) / k * cosine * cosine
        total += term
    inside = 2.0 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
    return 0.5 + 0.5 * inside
