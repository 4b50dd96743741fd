"""Moments as a state: statistics, merging, hard columns."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import series
from kernel_oracles import exact_moments, scipy_stats

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


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_first_value_far_off(backend: str, dtype: type) -> None:
    """The worst column for sums of powers about the first value: it is an outlier in every block."""
    x = (1e5 + 0.01 * np.arange(600.0) % 7)[:, None].astype(dtype)
    x[::256] += 1e6
    _, mean, m2, m3, m4, total = exact_moments(x[:, 0])
    got = daily_moments(x)
    off = np.abs(x.astype(np.float64) - mean)
    assert got.mean_V[0] == pytest.approx(mean, rel=1e-14)
    assert got.total_V[0] == pytest.approx(total, rel=1e-15)
    assert got.m2_V[0] == pytest.approx(m2, rel=1e-10)
    assert got.m3_V[0] == pytest.approx(m3, rel=0, abs=1e-9 * float((off**3).sum()))
    assert got.m4_V[0] == pytest.approx(m4, rel=1e-9)


def assert_moments_near(got: Moments, wanted: Moments, x: np.ndarray) -> None:
    """Equal but for the errors that the docstring allows, twice."""
    off = np.abs(x.astype(np.float64) - wanted.mean_V)
    largest = np.nanmax(np.abs(np.vstack([np.zeros(x.shape[1]), x])), axis=0)
    np.testing.assert_array_equal(got.count_V, wanted.count_V)
    assert got.count_V.dtype == np.int64
    assert np.all(np.abs(got.total_V - wanted.total_V) <= 2e-13 * largest * wanted.count_V)
    assert np.all(np.abs(got.mean_V - wanted.mean_V) <= 2e-13 * largest)
    for power, name, bound in ((2, "m2_V", 2e-10), (3, "m3_V", 2e-9), (4, "m4_V", 2e-9)):
        # beside the rounding of the mean, which a merge starts from
        scale = np.nansum((off + 1e-15 * np.abs(wanted.mean_V)) ** power, axis=0)
        assert np.all(np.abs(getattr(got, name) - getattr(wanted, name)) <= bound * scale), name


@given(x=series(), cut=st.integers(0, 520))
def test_merged_parts_equal_the_whole(x: np.ndarray, cut: int) -> None:
    merged = merge_moments(daily_moments(x[:cut]), daily_moments(x[cut:]))
    assert isinstance(merged, Moments)
    assert_moments_near(merged, daily_moments(x), x)


def test_ninety_days_merge_to_the_whole_in_any_grouping() -> None:
    rng = np.random.default_rng(2)
    x = np.round(6e4 + np.cumsum(rng.normal(0, 1, (90 * 300, 5)), axis=0), 2)
    x[rng.random(x.shape) < 0.01] = np.nan
    x[:, 4] = 0.1
    days = [daily_moments(day) for day in np.split(x, 90)]
    weeks = [functools.reduce(merge_moments, days[i : i + 7]) for i in range(0, 90, 7)]
    whole = daily_moments(x)
    for merged in (functools.reduce(merge_moments, days), functools.reduce(merge_moments, reversed(weeks))):
        assert_moments_near(merged, whole, x)
        np.testing.assert_allclose(merged.stats()[:, :4], whole.stats()[:, :4], rtol=1e-9, atol=1e-9)
        assert merged.m2_V[4] == merged.m4_V[4] == 0


def test_merging_with_nothing_changes_no_bit() -> None:
    some, none = daily_moments(np.array([[0.1], [0.7], [1e5]])), daily_moments(np.empty((0, 1)))
    for merged in (merge_moments(some, none), merge_moments(none, some)):
        for a, b in zip(merged, some, strict=True):
            np.testing.assert_array_equal(a, b)


def test_merge_refuses_other_columns() -> None:
    with pytest.raises(ValueError, match=r"^merge_moments: a has 1 columns, b has 2$"):
        merge_moments(daily_moments(np.zeros((1, 1))), daily_moments(np.zeros((1, 2))))
