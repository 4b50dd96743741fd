"""Returns, causal volatility and half-open classes."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bml.dataset.classes import FixedClasses, VolatilityClasses, class_scheme
from bml.dataset.labels import assign, log_return
from bml.types import ConfigError


def walk(n: int, seed: int = 0, sigma: float = 1e-3) -> np.ndarray:
    return 100.0 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, sigma, n)))


def test_log_return_is_anchored_at_the_row_and_nan_where_unknown() -> None:
    mid = np.array([100.0, 101.0, np.nan, 99.0, 100.0])
    expected = [math.nan, math.log(99 / 101), math.nan]
    np.testing.assert_array_equal(log_return(mid, 2), [*expected, math.nan, math.nan])
    assert np.isnan(log_return(mid, 9)).all()


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
