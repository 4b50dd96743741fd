"""Age and overlap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bml.dataset.weights import average_uniqueness, combined, concurrency, exponential_decay
from bml.types import NS_PER_DAY

NOW = 1000 * NS_PER_DAY


def at(*days_ago: float) -> np.ndarray:
    return np.array([NOW - round(d * NS_PER_DAY) for d in days_ago], dtype=np.int64)


def test_a_weight_halves_every_half_life_and_the_mean_is_one() -> None:
    w = exponential_decay(at(0, 30, 60), NOW, 30.0)
    np.testing.assert_allclose(w / w[0], [1, 0.5, 0.25])
    assert w.mean() == pytest.approx(1.0)


def test_several_half_lives_are_averaged() -> None:
    ages = at(0, 10, 90)
    parts = [exponential_decay(ages, NOW, h) for h in (5.0, 50.0)]
    np.testing.assert_allclose(exponential_decay(ages, NOW, [5.0, 50.0]), np.mean(parts, axis=0))


def test_none_is_uniform_and_old_rows_do_not_underflow() -> None:
    assert exponential_decay(at(1, 2), NOW, None).tolist() == [1, 1]
    w = exponential_decay(at(900, 901), NOW, 0.5)
    np.testing.assert_allclose(w, [1.6, 0.4])


@pytest.mark.parametrize(("half_life", "message"), [(0, "positive"), ([], "positive"), (np.nan, "positive")])
def test_bad_half_lives_are_refused(half_life: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        exponential_decay(at(1), NOW, half_life)


def test_an_anchor_after_the_reference_is_refused() -> None:
    with pytest.raises(ValueError, match="training rows only"):
        exponential_decay(at(-1), NOW, 1.0)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), max_size=25))
def test_uniqueness_equals_counting_second_by_second(pairs: list[tuple[int, int]]) -> None:
    start = np.array([s for s, _ in pairs], dtype=np.int64)
    stop = start + np.array([n for _, n in pairs], dtype=np.int64)
    alive = [sum(s <= t < e for s, e in zip(start, stop, strict=True)) for t in range(70)]
    expected = [np.mean([1 / alive[t] for t in range(s, e)]) for s, e in zip(start, stop, strict=True)]
    np.testing.assert_allclose(average_uniqueness(start, stop), expected, rtol=1e-12)


def test_180_overlapping_labels_count_as_one() -> None:
    start = np.arange(18_000, dtype=np.int64) * 10
    assert average_uniqueness(start, start + 1800).sum() == pytest.approx(100, rel=0.02)
    with pytest.raises(ValueError, match="stop > start"):
        average_uniqueness(start, start)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), max_size=25))
def test_concurrency_equals_counting_second_by_second(pairs: list[tuple[int, int]]) -> None:
    start = np.array([s for s, _ in pairs], dtype=np.int64)
    stop = start + np.array([n for _, n in pairs], dtype=np.int64)
    alive = [sum(s <= t < e for s, e in zip(start, stop, strict=True)) for t in range(70)]
    expected = [np.mean(alive[s:e]) for s, e in zip(start, stop, strict=True)]
    np.testing.assert_allclose(concurrency(start, stop), expected, rtol=1e-12)


def test_a_brick_in_the_middle_of_a_wall_shares_with_180() -> None:
    start = np.arange(1000, dtype=np.int64) * 10
    np.testing.assert_array_equal(concurrency(start, start + 1800)[400:600], 180.0)
    np.testing.assert_array_equal(concurrency(start, start + 10), 1.0)
    with pytest.raises(ValueError, match="concurrency: every interval"):
        concurrency(start, start)


def brute_decay(ages_days: list[float], half_lives: list[float]) -> list[float]:
    """The mean over half-lives of decays that each have mean 1, written out."""
    out = [0.0] * len(ages_days)
    for half_life in half_lives:
        raw = [0.5 ** (age / half_life) for age in ages_days]
        for n, value in enumerate(raw):
            out[n] += value / (sum(raw) / len(raw)) / len(half_lives)
    return out


@given(st.lists(st.integers(0, 180), min_size=1, max_size=40))
def test_a_mixture_of_7_30_and_90_days_equals_brute_force(ages: list[int]) -> None:
    w = exponential_decay(at(*ages), NOW, [7.0, 30.0, 90.0])
    np.testing.assert_allclose(w, brute_decay([float(a) for a in ages], [7.0, 30.0, 90.0]), rtol=1e-12)
    assert w.mean() == pytest.approx(1.0)


def test_products_have_mean_one_and_of_nothing_are_ones() -> None:
    np.testing.assert_allclose(combined(np.array([1.0, 3.0]), np.array([2.0, 1.0])), [0.8, 1.2])
    assert combined(np.zeros(2), np.ones(2)).tolist() == [1.0, 1.0]
    assert combined(np.empty(0), np.empty(0)).shape == (0,)
