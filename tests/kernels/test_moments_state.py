"""Moments as a state: statistics, merging, hard columns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import series
from kernel_oracles import scipy_stats

from bml.kernels import Moments, daily_moments, merge_moments
from bml.types import STATS

ROW = {name: i for i, name in enumerate(STATS)}


def test_stats_are_those_of_scipy(backend: str) -> None:
    rng = np.random.default_rng(1)
    x = rng.gamma(2.0, 1.0, (500, 6)) * [1, 1, 1e-3, 1e3, 1, 1] + [0, 1e5, 0, -1e4, 0, 0]
    x[rng.random(x.shape) < 0.05] = np.nan
    got = daily_moments(x).stats()
    assert got.shape == (len(STATS), 6)
    np.testing.assert_allclose(got, scipy_stats(x), rtol=1e-9)


def test_prices_of_1e5_with_ticks_of_a_cent(backend: str) -> None:
    ticks = np.array([0, 1, 1, 3] * 2000)  # mean 1.25, variance 1.1875, m3 / n = 1.03125, m4 / n = 3.05078125
    x = (1e5 + 0.01 * ticks)[:, None]
    got = daily_moments(x).stats()[:, 0]
    assert got[ROW["std"]] == pytest.approx(0.01 * np.sqrt(1.1875), rel=1e-8)
    central = ticks - 1.25
    assert got[ROW["skew"]] == pytest.approx((central**3).mean() / 1.1875**1.5, rel=1e-7)
    assert got[ROW["kurtosis"]] == pytest.approx((central**4).mean() / 1.1875**2 - 3, rel=1e-7)
    drifting = x + np.linspace(0, 5e4, len(x))[:, None]  # far from the first value, too
    assert daily_moments(drifting).stats()[ROW["std"], 0] == pytest.approx(np.std(drifting - 1.25e5), rel=1e-12)


@pytest.mark.parametrize("value", [0.1, 1e5 + 1 / 3, -7.7e-9, 0.0])
def test_a_constant_column_has_no_shape(backend: str, value: float) -> None:
    x = np.full((300, 1), value)
    moments = merge_moments(daily_moments(x), daily_moments(x[:77]))
    assert (moments.mean_V[0], moments.m2_V[0], moments.m3_V[0], moments.m4_V[0]) == (value, 0, 0, 0)
    mean, std, skew, kurtosis, _, count = moments.stats()[:, 0]
    assert (mean, std, count) == (value, 0.0, 377)
    assert np.isnan(skew)
    assert np.isnan(kurtosis)


def test_too_few_values(backend: str) -> None:
    x = np.array([[1.0, np.nan, 5.0, 2.0], [np.nan, np.nan, 7.0, 4.0], [np.nan, np.nan, np.nan, 9.0]])
    two, three = daily_moments(x).stats(), daily_moments(x).stats(min_count=3)
    np.testing.assert_array_equal(two[ROW["count"]], [1, 0, 2, 3])
    np.testing.assert_array_equal(two[ROW["total"]], [1, 0, 12, 15])
    np.testing.assert_array_equal(np.isnan(two[:4]).all(axis=0), [True, True, False, False])
    np.testing.assert_array_equal(np.isnan(three[:4]).all(axis=0), [True, True, True, False])
    np.testing.assert_array_equal(daily_moments(x).stats(min_count=1)[:2, 0], [1.0, 0.0])
    with pytest.raises(ValueError, match=r"^Moments\.stats: min_count must be at least 1"):
        daily_moments(x).stats(min_count=0)


@pytest.mark.parametrize("rows", [[np.inf, 1.0, 2.0], [1.0, np.inf, 2.0], [1.0] * 100 + [-np.inf] + [2.0] * 100])
def test_infinity_propagates(backend: str, rows: list[float]) -> None:
    x = np.array(rows)[:, None]
    for moments in (daily_moments(x), merge_moments(daily_moments(x[:2]), daily_moments(x[2:]))):
        mean, std, skew, kurtosis, total, count = moments.stats()[:, 0]
        assert mean == total == x.sum()
        assert count == len(rows)
        assert np.isnan([std, skew, kurtosis]).all()


@given(x=series(), cut=st.integers(0, 130))
def test_merged_parts_equal_the_whole(x: np.ndarray, cut: int) -> None:
    whole, parts = daily_moments(x), [daily_moments(p) for p in (x[:cut], x[cut:])]
    merged = merge_moments(*parts)
    assert isinstance(merged, Moments)
    off = np.abs(x.astype(np.float64) - whole.mean_V)
    np.testing.assert_array_equal(merged.count_V, whole.count_V)
    assert merged.count_V.dtype == np.int64
    np.testing.assert_allclose(merged.mean_V, whole.mean_V, rtol=1e-13, atol=1e-13 * np.nansum(np.abs(x)))
    np.testing.assert_allclose(merged.total_V, whole.total_V, rtol=1e-12, atol=1e-13 * np.nansum(np.abs(x)))
    for k, name in ((2, "m2_V"), (3, "m3_V"), (4, "m4_V")):
        scale = np.nansum(off**k, axis=0) + 1e-20
        assert np.all(np.abs(getattr(merged, name) - getattr(whole, name)) <= 1e-9 * scale), name


def test_merging_with_nothing_changes_no_bit() -> None:
    some, none = daily_moments(np.array([[0.1], [0.7], [1e5]])), daily_moments(np.empty((0, 1)))
    for merged in (merge_moments(some, none), merge_moments(none, some)):
        for a, b in zip(merged, some, strict=True):
            np.testing.assert_array_equal(a, b)


def test_merge_refuses_other_columns() -> None:
    with pytest.raises(ValueError, match=r"^merge_moments: a has 1 columns, b has 2$"):
        merge_moments(daily_moments(np.zeros((1, 1))), daily_moments(np.zeros((1, 2))))
