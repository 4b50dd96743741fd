"""Confidence intervals for a mean score difference when labels overlap: whole stretches of time are resampled.

Rows are not samples: labels of neighbouring anchors share most of their interval, and symbols move together.
So time is cut into blocks longer than a label, all symbols of a block stay together, and blocks are drawn.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bml.types import Float64, Int64

#: with fewer blocks than this an interval would be a guess
MIN_BLOCKS = 8
#: blocks of one horizon understate the variance by a third, of eight by a twenty-fifth
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
    """Percentile interval of the mean of ``score_N`` by a block bootstrap over time.

    Blocks are ``LONGEST`` horizons long, shorter (never under one horizon) where that would leave fewer than
    ``ENOUGH_BLOCKS``. Drawing blocks is one multinomial per draw, so the cost is O(N + draws * blocks).
    """
    if score_N.shape[0] == 0 or horizon_ns <= 0 or draws < 1 or not 0 < level < 1:
        raise ValueError("mean_interval: needs rows, horizon_ns > 0, draws >= 1 and 0 < level < 1")
    mean = float(score_N.mean())
    since_N = anchor_ns_N - anchor_ns_N.min()
    length = max(1, min(LONGEST, int(since_N.max()) // (ENOUGH_BLOCKS * horizon_ns))) * horizon_ns
    _, block_N = np.unique(since_N // length, return_inverse=True)
    count_M = np.bincount(block_N)
    blocks = count_M.shape[0]
    if blocks < MIN_BLOCKS:
        return Interval(mean, float("nan"), float("nan"), blocks, length)
    # deviations from the mean: exact when all blocks agree
    total_M = np.bincount(block_N, weights=score_N - mean)
    drawn_RM = np.random.default_rng(seed).multinomial(blocks, np.full(blocks, 1.0 / blocks), size=draws)
    moved_R = (drawn_RM @ total_M) / (drawn_RM @ count_M) * np.sqrt(blocks / (blocks - 1))
    lo, hi = np.quantile(moved_R, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(mean, mean + float(lo), mean + float(hi), blocks, length)
