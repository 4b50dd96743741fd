"""The closed form of the synthetic market against enumeration, direct sums and brute simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bml.sources.market import Dynamics, simulate
from bml.sources.market_law import law, normal_cdf, occupation
from bml.types import Float64

DYNAMICS = Dynamics(phi=0.97, drift=1.2e-4, lead=0.6, sigma=(2e-4, 6e-4), rise=0.02, fall=0.05, correlation=0.5)
EDGES_E = np.array([-8e-3, -4e-3, -1e-3, 0.0, 1e-3, 4e-3, 8e-3])


def test_normal_cdf_is_good_to_1e_14() -> None:
    x = np.concatenate([np.linspace(-12, 12, 20_001), [-np.inf, np.inf, 0.0]])
    assert np.abs(normal_cdf(x) - stats.norm.cdf(x)).max() < 1e-14
    assert normal_cdf(np.array([-np.inf, np.inf, 0.0])).tolist() == pytest.approx([0.0, 1.0, 0.5], abs=1e-16)


@pytest.mark.parametrize("horizon", [1, 2, 5])
def test_occupation_is_the_sum_over_all_regime_paths(horizon: int) -> None:
    step = ((1 - DYNAMICS.rise, DYNAMICS.rise), (DYNAMICS.fall, 1 - DYNAMICS.fall))
    expected = np.zeros((2, horizon + 1))
    for path in itertools.product((0, 1), repeat=horizon):
        weight = math.prod(step[a][b] for a, b in itertools.pairwise(path))
        expected[path[0], sum(path)] += weight
    np.testing.assert_allclose(occupation(DYNAMICS, horizon), expected, atol=1e-15)


def direct_cdf(dynamics: Dynamics, horizon: int, signal: float, regime: int, edges_E: Float64) -> Float64:
    """The mixture written out: the innovations' variance from the sum of later pressures, step by step."""
    loading_H = np.zeros(horizon)  # of the innovation at t + 1 + i on the sum of p[t] .. p[t+h-1]
    for i in range(1, horizon):
        loading_H[i] = sum(dynamics.phi**j for j in range(horizon - i))
    surprise = dynamics.drift**2 * (1 - dynamics.phi**2) * float(loading_H @ loading_H)
    mean = dynamics.drift * signal * sum(dynamics.phi**j for j in range(horizon))
    weight_V = occupation(dynamics, horizon)[regime]
    volatile_V = np.arange(horizon + 1)
    low, high = dynamics.sigma
    scale_V = np.sqrt(surprise + (horizon - volatile_V) * low**2 + volatile_V * high**2)
    return np.asarray(stats.norm.cdf((edges_E[:, None] - mean) / scale_V) @ weight_V)


@given(
    phi=st.floats(0.0, 0.999),
    ratio=st.floats(1.0, 12.0),
    horizon=st.integers(1, 90),
    signal=st.floats(-5, 5),
    rise=st.floats(1e-6, 0.4),
    regime=st.integers(0, 1),
)
def test_the_table_is_the_mixture_to_1e_12(
    phi: float, ratio: float, horizon: int, signal: float, rise: float, regime: int
) -> None:
    dynamics = Dynamics(
        phi=phi, drift=1e-4, lead=0.6, sigma=(2e-4, 2e-4 * ratio), rise=rise, fall=0.05, correlation=0.5
    )
    reach = 8 * 2e-4 * ratio * math.sqrt(horizon)
    edges_E = np.linspace(-reach, reach, 41)
    found_NE = law(dynamics, horizon).cdf(np.array([signal]), np.array([regime], np.uint8), edges_E[None, :])
    assert np.abs(found_NE[0] - direct_cdf(dynamics, horizon, signal, regime, edges_E)).max() < 1e-12


def brute_returns(
    dynamics: Dynamics, horizon: int, own: float, ref: float, regime: int, paths: int, seed: int
) -> Float64:
    """Log returns of a non-reference asset over many futures, by the equations of the module, step by step."""
    rng = np.random.default_rng(seed)
    own_N, ref_N, regime_N = np.full(paths, own), np.full(paths, ref), np.full(paths, regime)
    weight = math.sqrt(1 - dynamics.lead**2)
    fresh = math.sqrt(1 - dynamics.phi**2)
    return_N = np.zeros(paths)
    for _ in range(horizon):
        sigma_N = np.where(regime_N == 1, dynamics.sigma[1], dynamics.sigma[0])
        return_N += dynamics.drift * (weight * own_N + dynamics.lead * ref_N)
        return_N += sigma_N * rng.standard_normal(paths)
        own_N = dynamics.phi * own_N + fresh * rng.standard_normal(paths)
        ref_N = dynamics.phi * ref_N + fresh * rng.standard_normal(paths)
        chance_N = np.where(regime_N == 1, dynamics.fall, dynamics.rise)
        regime_N = np.where(rng.random(paths) < chance_N, 1 - regime_N, regime_N)
    return return_N


@pytest.mark.parametrize(
    ("own", "ref", "regime", "horizon"),
    [(1.3, -0.4, 0, 40), (-0.8, 2.0, 1, 40), (0.0, 0.0, 0, 1), (2.2, 1.1, 1, 2), (-1.0, 0.5, 1, 120)],
)
def test_monte_carlo_agrees_with_the_closed_form(own: float, ref: float, regime: int, horizon: int) -> None:
    paths = 200_000
    return_N = brute_returns(DYNAMICS, horizon, own, ref, regime, paths, seed=horizon + regime)
    edges_E = EDGES_E * math.sqrt(horizon / 40)
    share_C = np.bincount(np.searchsorted(edges_E, return_N, side="right"), minlength=8) / paths
    signal = math.sqrt(1 - DYNAMICS.lead**2) * own + DYNAMICS.lead * ref
    proba_C = law(DYNAMICS, horizon).class_probabilities(
        np.array([signal]), np.array([regime], np.uint8), edges_E[None, :]
    )[0]
    error_C = np.sqrt(proba_C * (1 - proba_C) / paths)
    assert (np.abs(share_C - proba_C) < 4.5 * error_C + 1e-9).all(), (share_C, proba_C)


def test_probabilities_are_a_distribution_even_for_equal_and_infinite_edges() -> None:
    edges_NE = np.array([[-np.inf, -1.0, 0.0, 0.0, 1.0, np.inf]] * 3)
    proba_NC = law(DYNAMICS, 10).class_probabilities(np.zeros(3), np.array([0, 1, 0], np.uint8), edges_NE)
    assert (proba_NC >= 0).all()
    np.testing.assert_allclose(proba_NC.sum(axis=1), 1.0, atol=1e-15)
    np.testing.assert_allclose(proba_NC[:, [0, 1, 3, 5, 6]], 0.0, atol=1e-15)


def test_paths_have_the_moments_of_the_equations() -> None:
    steps = 400_000
    paths = simulate(DYNAMICS, seed=5, symbols=("R", "A", "B"), reference="R", mids=(100.0, 10.0, 1.0), steps=steps)
    p_AT, regime_T = paths.pressure_AT, paths.regime_T
    tolerance = 5 * math.sqrt(2 / (steps * (1 - DYNAMICS.phi)))  # of a mean over steps/(1-phi) independent bits
    assert np.abs(p_AT.var(axis=1) - 1).max() < tolerance
    innovation_AT = p_AT[:, 1:] - DYNAMICS.phi * p_AT[:, :-1]
    assert innovation_AT.var(axis=1) == pytest.approx([1 - DYNAMICS.phi**2] * 3, rel=0.02)
    assert np.abs(np.corrcoef(innovation_AT) - np.eye(3)).max() < 0.01
    volatile = regime_T[:-1] == 1
    assert (regime_T[1:][volatile] == 0).mean() == pytest.approx(DYNAMICS.fall, rel=0.08)
    assert (regime_T[1:][~volatile] == 1).mean() == pytest.approx(DYNAMICS.rise, rel=0.08)

    signal_AT = math.sqrt(1 - 0.36) * p_AT + 0.6 * p_AT[0]
    signal_AT[0] = p_AT[0]
    noise_AT = np.diff(paths.log_mid_AT, axis=1) - DYNAMICS.drift * signal_AT[:, :-1]
    noise_AT /= np.where(volatile, DYNAMICS.sigma[1], DYNAMICS.sigma[0])
    assert noise_AT.std(axis=1) == pytest.approx([1.0] * 3, rel=0.01)
    assert np.abs(np.corrcoef(noise_AT) - (0.5 + 0.5 * np.eye(3))).max() < 0.01
    assert paths.log_mid_AT[:, 0].tolist() == pytest.approx(np.log([100.0, 10.0, 1.0]).tolist())
    # the reference leads: its pressure now correlates with the others' next increment beyond their own
    step_T = np.diff(paths.log_mid_AT[1])
    assert np.corrcoef(p_AT[0, :-1], step_T)[0, 1] > 0.1


def test_a_start_is_stationary() -> None:
    """Over many seeds the first step has the same law as any other."""
    first = np.array(
        [
            (paths.pressure_AT[0, 0], paths.pressure_AT[0, 1], paths.regime_T[0])
            for paths in (
                simulate(DYNAMICS, seed=n, symbols=("R",), reference="R", mids=(1.0,), steps=2) for n in range(3000)
            )
        ]
    )
    assert stats.kstest(first[:, 0], "norm").pvalue > 1e-4
    assert stats.kstest(first[:, 1], "norm").pvalue > 1e-4
    assert first[:, 2].mean() == pytest.approx(DYNAMICS.rise / (DYNAMICS.rise + DYNAMICS.fall), abs=0.035)
