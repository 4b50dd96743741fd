"""The interval must cover the truth when labels overlap; the naive one, shown beside it, does not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bench import intervals
from bml.evaluation.bootstrap import MIN_BLOCKS, mean_interval, t_quantile

STEP = 10


def overlapping_scores(rng: np.random.Generator, n: int, horizon: int) -> np.ndarray:
    """Scores of true mean 0 that share most of their interval with their neighbours."""
    noise = rng.normal(size=n + horizon - 1)
    return np.convolve(noise, np.ones(horizon) / np.sqrt(horizon), mode="valid")


def test_covers_where_the_naive_interval_does_not() -> None:
    rng = np.random.default_rng(0)
    n, horizon, runs = 6000, 20, 200
    anchor_N = np.arange(n) * STEP
    covered = naive = 0
    for run in range(runs):
        score_N = overlapping_scores(rng, n, horizon)
        interval = mean_interval(score_N, anchor_N, horizon * STEP, draws=400, seed=run)
        assert interval.block_ns >= horizon * STEP
        covered += interval.lo <= 0.0 <= interval.hi
        half = 1.96 * score_N.std() / np.sqrt(n)
        naive += abs(score_N.mean()) <= half
    assert 0.89 <= covered / runs <= 0.99
    assert naive / runs < 0.6


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize("spans", [8, 16, 20, 24, 32, 41, 60])
def test_covers_with_few_blocks_or_gives_no_interval(spans: int, skewed: bool) -> None:
    """``spans`` horizons of time: less than 90 % would be an interval that lies."""
    rng = np.random.default_rng(spans)
    horizon, runs, covered = 12, 300, 0
    anchor_N = np.arange(spans * horizon) * STEP
    for run in range(runs):
        size = anchor_N.shape[0] + horizon - 1
        noise = rng.exponential(size=size) - 1.0 if skewed else rng.normal(size=size)
        score_N = np.convolve(noise, np.ones(horizon), mode="valid")
        interval = mean_interval(score_N, anchor_N, horizon * STEP, draws=400, seed=run)
        if interval.blocks < MIN_BLOCKS:
            assert np.isnan([interval.lo, interval.hi]).all()
            assert spans < MIN_BLOCKS
            return
        covered += interval.lo <= 0.0 <= interval.hi
    assert covered / runs >= 0.92
    assert covered / runs <= 0.99  # and not by giving up


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 19, 40, 319])
def test_t_quantiles_are_those_of_scipy(freedom: int) -> None:
    for p in (0.025, 0.4, 0.6, 0.9, 0.975, 0.9999):
        assert t_quantile(p, freedom) == pytest.approx(stats.t.ppf(p, freedom), rel=1e-9)
    assert t_quantile(0.5, freedom) == pytest.approx(0.0, abs=1e-12)
    for p, n in ((0.0, 3), (1.0, 3), (0.9, 0)):
        with pytest.raises(ValueError, match="t_quantile"):
            t_quantile(p, n)


def test_rows_of_one_time_stay_together() -> None:
    """Twice the same symbol is no new evidence: the interval must not shrink."""
    rng = np.random.default_rng(1)
    score_N, anchor_N = overlapping_scores(rng, 3000, 10), np.arange(3000) * STEP
    one = mean_interval(score_N, anchor_N, 10 * STEP)
    two = mean_interval(np.repeat(score_N, 2), np.repeat(anchor_N, 2), 10 * STEP)
    assert two.hi - two.lo == pytest.approx(one.hi - one.lo, rel=1e-9)


def test_is_seeded_and_exact_without_spread() -> None:
    score_N, anchor_N = np.random.default_rng(2).normal(size=500), np.arange(500) * STEP
    assert mean_interval(score_N, anchor_N, STEP) == mean_interval(score_N, anchor_N, STEP)
    flat = mean_interval(np.full(500, 0.25), anchor_N, STEP)
    assert (flat.mean, flat.lo, flat.hi) == (0.25, 0.25, 0.25)


def test_too_short_a_block_has_no_interval() -> None:
    short = mean_interval(np.arange(50.0), np.arange(50) * STEP, 100 * STEP)
    assert short.blocks == 1
    assert np.isnan(short.lo)
    assert np.isnan(short.hi)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="needs rows"):
        mean_interval(np.empty(0), np.empty(0, np.int64), STEP)


#: calibrated forecasts of known probabilities, labels of 180 rows; how long the drift behind them lasts
LAWS = [intervals.Law(memory_s=seconds, share=0.05) for seconds in (600, 3600)]


def test_planted_probabilities_are_those_of_the_classes_that_come() -> None:
    """The simulation is what it says: frequencies by drift equal the stated probabilities, truths the means."""
    law = LAWS[1]
    assert np.isclose(law.table().sum(axis=1), 1.0).all()
    many = intervals.histories(law, np.random.default_rng(1), 60, 40_000)  # anchors far apart in the histories
    first, last = many.difference_NR[0], many.difference_NR[-1]
    for score_R, truth in ((first, law.nll_difference()), (last, law.nll_difference()), (many[1][0], 0.0)):
        assert abs(score_R.mean() - truth) < 4 * score_R.std() / 200
    assert law.nll_difference() == pytest.approx(0.5 * np.log(1 - law.share), rel=0.1)  # of the return, not its octile
    with pytest.raises(ValueError, match="moves too much"):
        _ = intervals.Law(memory_s=60, share=0.5).noise


def test_calibrated_forecasts_with_180_fold_overlap_are_covered() -> None:
    for one in intervals.coverage(LAWS[0], days=2, replications=80, draws=400):
        assert 0.88 <= one.block <= 1.0
        assert one.naive < 0.4
        assert one.block_width > 5 * one.naive_width


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS, ids=lambda law: f"{law.memory_s:.0f}s")
def test_500_replications_are_covered_in_93_to_97_percent(law: intervals.Law) -> None:
    found = intervals.coverage(law, days=10, replications=500)
    print("\n" + intervals.table([(law, found)]))
    for one in found:
        assert 0.93 <= one.block <= 0.97, one
        assert one.naive < 0.3, one
