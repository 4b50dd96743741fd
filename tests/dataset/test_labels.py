"""Returns, causal volatility and half-open classes."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bml.dataset.classes import FixedClasses, VolatilityClasses, class_scheme
from bml.dataset.labels import assign, causal_sigma, log_return
from bml.types import ConfigError


def walk(n: int, seed: int = 0, sigma: float = 1e-3) -> np.ndarray:
    return 100.0 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, sigma, n)))


def test_log_return_is_anchored_at_the_row_and_nan_where_unknown() -> None:
    mid = np.array([100.0, 101.0, np.nan, 99.0, 100.0])
    expected = [math.nan, math.log(99 / 101), math.nan]
    np.testing.assert_array_equal(log_return(mid, 2), [*expected, math.nan, math.nan])
    assert np.isnan(log_return(mid, 9)).all()


@given(st.integers(0, 2**32 - 1), st.floats(1.0, 50.0))
def test_causal_sigma_equals_the_weighted_mean_written_out(seed: int, half_life: float) -> None:
    rng = np.random.default_rng(seed)
    mid = walk(150, seed)
    valid = rng.random(150) > 0.1
    mid[~valid] = np.nan
    sigma = causal_sigma(mid, valid, half_life_rows=half_life, steps=4)
    for t in range(150):
        parts = [s for s in range(1, t + 1) if valid[s] and valid[s - 1]]
        weights = [0.5 ** ((t - s) / half_life) for s in parts]
        if sum(weights) < min(100.0, 0.5 / (1 - 0.5 ** (1 / half_life))):
            assert np.isnan(sigma[t]) or math.isclose(sum(weights), 0.5 / (1 - 0.5 ** (1 / half_life)), rel_tol=1e-9)
        elif not np.isnan(sigma[t]):
            squares = [math.log(mid[s] / mid[s - 1]) ** 2 for s in parts]
            mean = sum(w * q for w, q in zip(weights, squares, strict=True)) / sum(weights)
            assert math.isclose(sigma[t], 2.0 * math.sqrt(mean), rel_tol=1e-9)


def test_causal_sigma_recovers_the_planted_volatility() -> None:
    sigma = causal_sigma(walk(50_000, sigma=2e-3), np.ones(50_000, bool), half_life_rows=5000, steps=180)
    assert sigma[-1] == pytest.approx(2e-3 * math.sqrt(180), rel=0.03)


def test_causal_sigma_does_not_see_the_next_row() -> None:
    mid = walk(2000)
    changed = mid.copy()
    changed[1001:] *= 3.0
    valid = np.ones(2000, bool)
    before, after = (causal_sigma(m, valid, half_life_rows=200) for m in (mid, changed))
    assert before[:1001].tobytes() == after[:1001].tobytes()
    assert before[1001] != after[1001]


@given(
    st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=30),
    st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=8, unique=True),
)
def test_classes_partition_the_line(returns: list[float], edges: list[float]) -> None:
    edges = sorted(edges)
    bounds = [-math.inf, *edges, math.inf]
    y = assign(np.array(returns), np.tile(edges, (len(returns), 1)))
    for value, k in zip(returns, y, strict=True):
        assert [low <= value < high for low, high in pairwise(bounds)].index(True) == k


def test_an_edge_itself_belongs_to_the_class_above_and_zero_has_one_class() -> None:
    scheme = FixedClasses()
    edges = scheme.edges("X", np.ones(3))
    exact = edges[0, [2, 3, 4]]  # -2 %, 0 and 2 %
    assert assign(exact, edges).tolist() == [3, 4, 5]
    assert assign(np.nextafter(exact, -1), edges).tolist() == [2, 3, 4]
    assert scheme.names[4] == "0..2%"
    assert scheme.names[0] == "< -10%"
    assert scheme.names[-1] == ">= 10%"


def test_assign_refuses_unknown_returns() -> None:
    with pytest.raises(ValueError, match="NaN"):
        assign(np.array([np.nan]), np.zeros((1, 1)))


def test_volatility_edges_follow_sigma() -> None:
    scheme = VolatilityClasses(multiples=(-1.0, 0.0, 1.0))
    np.testing.assert_array_equal(scheme.edges("X", np.array([0.5, 2.0])), [[-0.5, 0, 0.5], [-2, 0, 2]])
    assert scheme.names == ("< -1 sd", "-1..0 sd", "0..1 sd", ">= 1 sd")


def test_per_symbol_edges_replace_the_common_ones() -> None:
    scheme = class_scheme({"method": "fixed", "edges_pct": [-1, 1], "per_symbol": {"ETH": [-2, 2]}})
    assert scheme.edges("ETH", np.ones(1))[0, 1] == pytest.approx(math.log(1.02))
    assert scheme.edges("BTC", np.ones(1))[0, 1] == pytest.approx(math.log(1.01))
    assert scheme.names == ("class 0", "class 1", "class 2")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"method": "fixed", "edges_pct": [1, 1]}, "rise strictly"),
        ({"method": "fixed", "edges_pct": [0, math.inf]}, "finite"),
        ({"method": "fixed", "edges_pct": [-100, 0]}, "finite edge above -100"),
        ({"method": "fixed", "edges_pct": []}, "at least one"),
        ({"method": "fixed", "edges_pct": "0, 1"}, "list of numbers"),
        ({"method": "fixed", "multiples": [0]}, "unknown key for method 'fixed'"),
        ({"method": "fixed", "edges_pct": [0], "per_symbol": {"ETH": [0, 1]}}, "same number of classes"),
        ({"multipels": [0]}, "did you mean 'multiples'"),
        ({"multiples": [True]}, "not a number"),
        ({"multiples": [math.nan]}, "finite"),
        ({"sigma_half_life_h": 0}, "above 0"),
        ({"method": "octiles"}, "not known"),
    ],
)
def test_bad_schemes_are_refused(params: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        class_scheme(params)
