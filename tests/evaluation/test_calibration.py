"""Temperature scaling: planted temperatures come back, degenerate input is told or left alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from bml.evaluation.calibration import T_MAX, T_MIN, Temperature, fit_temperature, mean_nll
from bml.types import Float64, GateError, Int64


def drawn(n: int, t: float, seed: int = 0) -> tuple[Float64, Int64]:
    """Logits whose true probabilities are softmax(logits / t)."""
    rng = np.random.default_rng(seed)
    logits_NC = t * rng.normal(size=(n, 5))
    proba_NC = softmax(logits_NC / t, axis=1)
    return logits_NC, (proba_NC.cumsum(axis=1) < rng.random(n)[:, None]).sum(axis=1)


@pytest.mark.parametrize("t", [0.3, 1.0, 2.5, 8.0])
def test_recovers_a_planted_temperature(t: float) -> None:
    logits_NC, y_N = drawn(20_000, t)
    fitted = fit_temperature(logits_NC, y_N)
    assert abs(fitted.T / t - 1) < 0.05
    assert not fitted.at_bound
    assert fitted.nll_after <= fitted.nll_before


def test_finds_the_minimum_that_scipy_finds() -> None:
    logits_NC, y_N = drawn(500, 1.7)
    theirs = minimize_scalar(lambda u: mean_nll(logits_NC / np.exp(u), y_N), bounds=(-3, 3), method="bounded",
                             options={"xatol": 1e-10})  # fmt: skip
    assert np.log(fit_temperature(logits_NC, y_N).T) == pytest.approx(theirs.x, abs=1e-5)


def test_apply_keeps_the_order_and_survives_json() -> None:
    logits_NC, y_N = drawn(500, 2.0)
    fitted = fit_temperature(logits_NC, y_N)
    again = Temperature.from_dict(json.loads(json.dumps(fitted.as_dict())))
    assert again == fitted
    proba_NC = again.apply(logits_NC)
    np.testing.assert_allclose(proba_NC, softmax(logits_NC / fitted.T, axis=1))
    np.testing.assert_array_equal(proba_NC.argmax(axis=1), logits_NC.argmax(axis=1))


def test_logits_that_are_always_right_or_mean_nothing_end_at_a_bound() -> None:
    y_N = np.arange(200) % 3
    right = fit_temperature(np.eye(3)[y_N], y_N)
    assert right.at_bound
    assert abs(right.T / T_MIN - 1) < 0.01
    wrong = fit_temperature(np.eye(3)[(y_N + 1) % 3], y_N)
    assert wrong.at_bound
    assert abs(wrong.T / T_MAX - 1) < 0.01


def test_constant_logits_are_left_alone() -> None:
    fitted = fit_temperature(np.zeros((100, 4)), np.arange(100) % 4)
    assert fitted.T == 1.0
    assert not fitted.at_bound


def test_huge_logits_do_not_overflow() -> None:
    logits_NC, y_N = drawn(200, 2.0)
    assert np.isfinite(fit_temperature(logits_NC * 1e3, y_N).nll_after)


def test_too_few_rows_is_a_gate() -> None:
    with pytest.raises(GateError, match="49 rows of the calibrate block"):
        fit_temperature(np.zeros((49, 3)), np.zeros(49, np.int64))


def test_logits_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        fit_temperature(np.full((60, 3), np.nan), np.zeros(60, np.int64))
