"""Scores against plain loops, scikit-learn and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as peer

from bml.evaluation import metrics
from bml.types import Float64, Int64


def forecasts(n: int = 400, classes: int = 5, seed: int = 0) -> tuple[Float64, Int64]:
    """A calibrated forecaster: the class is drawn from what it says."""
    rng = np.random.default_rng(seed)
    proba_NC = rng.dirichlet(np.ones(classes), size=n)
    return proba_NC, (proba_NC.cumsum(axis=1) < rng.random(n)[:, None]).sum(axis=1)


def test_nll_is_that_of_scikit_learn_and_clipped() -> None:
    proba_NC, y_N = forecasts()
    assert metrics.nll(proba_NC, y_N) == pytest.approx(peer.log_loss(y_N, proba_NC, labels=range(5)), rel=1e-12)
    impossible = np.array([[1.0, 0.0]])
    assert metrics.nll(impossible, np.array([1])) == pytest.approx(-np.log(1e-12))


def test_rps_is_the_double_sum_over_its_definition() -> None:
    proba_NC, y_N = forecasts(50)
    total = 0.0
    for p_C, y in zip(proba_NC, y_N, strict=True):
        total += sum((sum(p_C[: k + 1]) - (y <= k)) ** 2 for k in range(4)) / 4
    assert metrics.rps(proba_NC, y_N) == pytest.approx(total / 50, rel=1e-12)


def test_rps_ends_and_order() -> None:
    sure = np.eye(3)
    assert metrics.rps_N(sure, np.array([0, 1, 2])).tolist() == [0.0, 0.0, 0.0]
    assert metrics.rps_N(sure[[0, 0]], np.array([1, 2])).tolist() == [0.5, 1.0]  # the far miss costs more


def test_brier_is_that_of_scikit_learn() -> None:
    proba_NC, y_N = forecasts()
    expected = peer.brier_score_loss(y_N, proba_NC, labels=range(5), scale_by_half=False)
    assert metrics.brier(proba_NC, y_N) == pytest.approx(expected, rel=1e-12)


def test_rps_of_two_classes_is_half_the_brier_score() -> None:
    proba_NC, y_N = forecasts(classes=2)
    np.testing.assert_allclose(metrics.rps_N(proba_NC, y_N), 0.5 * metrics.brier_N(proba_NC, y_N))


def test_class_tables_are_those_of_scikit_learn() -> None:
    proba_NC, y_N = forecasts()
    proba_NC[:, 3] = 0.0  # a class that is never forecast
    proba_NC /= proba_NC.sum(axis=1, keepdims=True)
    said_N = proba_NC.argmax(axis=1)
    counts_CC = metrics.confusion(proba_NC, y_N)
    np.testing.assert_array_equal(counts_CC, peer.confusion_matrix(y_N, said_N, labels=range(5)))
    expected = peer.precision_recall_fscore_support(y_N, said_N, labels=range(5), zero_division=0.0)
    for ours, theirs in zip(metrics.per_class(counts_CC), expected, strict=True):
        np.testing.assert_allclose(ours, theirs)
    f1 = peer.f1_score(y_N, said_N, average="weighted", zero_division=0.0)
    assert metrics.weighted_f1(counts_CC) == pytest.approx(f1)
    assert metrics.accuracy(proba_NC, y_N) == pytest.approx(peer.accuracy_score(y_N, said_N))


def brute_force_gap(forecast_N: Float64, came_N: Int64, bins: list[np.ndarray]) -> float:
    n = forecast_N.shape[0]
    return sum(len(b) / n * abs(forecast_N[b].mean() - came_N[b].mean()) for b in bins if len(b))


def test_ece_of_both_binnings_against_plain_loops() -> None:
    proba_NC, y_N = forecasts(900)
    top_N, hit_N = proba_NC.max(axis=1), (proba_NC.argmax(axis=1) == y_N).astype(np.int64)
    equal_mass = np.array_split(np.argsort(top_N), 15)
    expected = brute_force_gap(top_N, hit_N, equal_mass)
    assert metrics.ece(proba_NC, y_N) == pytest.approx(expected, rel=1e-12)
    width = [np.flatnonzero((top_N >= k / 10) & (top_N < (k + 1) / 10)) for k in range(10)]
    expected = brute_force_gap(top_N, hit_N, width)
    assert metrics.ece(proba_NC, y_N, bins=10, mode="width") == pytest.approx(expected, rel=1e-12)


def test_classwise_ece_is_the_mean_over_classes() -> None:
    proba_NC, y_N = forecasts(900)
    gaps = [
        brute_force_gap(proba_NC[:, k], (y_N == k).astype(np.int64), np.array_split(np.argsort(proba_NC[:, k]), 15))
        for k in range(5)
    ]
    assert metrics.classwise_ece(proba_NC, y_N) == pytest.approx(np.mean(gaps), rel=1e-12)


def test_a_constant_forecast_is_one_bin() -> None:
    y_N = np.repeat([0, 1], [70, 30])
    proba_NC = np.tile([0.6, 0.4], (100, 1))
    for mode in ("mass", "width"):
        assert metrics.ece(proba_NC, y_N, mode=mode) == pytest.approx(0.1)  # type: ignore[arg-type]


def test_calibration_error_tells_calibrated_from_overconfident() -> None:
    proba_NC, y_N = forecasts(20_000)
    sharp_NC = proba_NC**3 / (proba_NC**3).sum(axis=1, keepdims=True)
    assert metrics.ece(proba_NC, y_N) < 0.02
    assert metrics.ece(sharp_NC, y_N) > 0.1
    assert metrics.classwise_ece(sharp_NC, y_N) > 3 * metrics.classwise_ece(proba_NC, y_N)


def test_certainty_lies_in_the_last_bin() -> None:
    curve = metrics.reliability(np.array([1.0, 0.95]), np.array([True, False]), 10, "width")
    assert curve.count_M.tolist() == [2]


@pytest.mark.parametrize(
    ("proba_NC", "y_N", "told"),
    [
        (np.empty((0, 3)), np.empty(0, np.int64), "expected"),
        (np.full((2, 2), 0.5), np.array([0, 2]), "classes must lie"),
        (np.full((1, 2), 0.4), np.array([0]), "sum to 1"),
        (np.array([[np.nan, 1.0]]), np.array([0]), "sum to 1"),
        (np.array([[-0.5, 1.5]]), np.array([0]), "non-negative"),
        (np.full((2, 2), 0.5), np.array([0]), "expected"),
    ],
)
def test_nonsense_is_refused(proba_NC: Float64, y_N: Int64, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        metrics.nll_N(proba_NC, y_N)
