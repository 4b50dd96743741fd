"""Baselines against sums done by hand, scipy, and planted truths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from bml.dataset.dataset import Dataset
from bml.models import baselines
from bml.models.baselines import BASELINES, Logistic, LogisticBook, Persistence, Prior, VolatilityOnly, shares
from bml.types import DataError, Float64, Int64
from tests.training.small_market import build


def hand(y_N: list[int], **more: object) -> Dataset:
    columns = {key: more.pop(key) for key in ("return_N", "edges_NE") if key in more}
    index = SimpleNamespace(y_N=np.array(y_N), **columns)
    return SimpleNamespace(index=index, class_names=("a", "b", "c"), **more)  # type: ignore[return-value]


def rows(n: int) -> Int64:
    return np.arange(n, dtype=np.int64)


def ones(n: int) -> Float64:
    return np.ones(n)


def test_prior_is_weighted_shares_with_one_row_more_each() -> None:
    fitted = Prior.fit(hand([0, 0, 1, 1]), rows(4), np.array([2.0, 1.0, 0.5, 0.5]))
    np.testing.assert_allclose(fitted.proba(hand([0]), rows(2)), [[4 / 7, 2 / 7, 1 / 7]] * 2)


def test_no_training_rows_is_told() -> None:
    with pytest.raises(DataError, match="train block has none"):
        shares(np.array([], dtype=np.int64), np.array([]), 3)


def test_persistence_counts_transitions_and_falls_back_to_the_prior() -> None:
    dataset = hand([0, 0, 1, 2], last_y_N=np.array([0, 0, 0, -1]))
    fitted = Persistence.fit(dataset, rows(4), ones(4))
    prior_C = np.array([3, 2, 2]) / 7
    asked = hand([0, 0, 0], last_y_N=np.array([0, 2, -1]))
    expected = [(np.array([2, 1, 0]) + 3 * prior_C) / 6, prior_C, prior_C]
    np.testing.assert_allclose(fitted.proba(asked, rows(3)), expected)


def test_volatility_only_knows_the_scale_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    vol_N = np.exp(rng.normal(size=40_000))
    returns_N = vol_N * rng.normal(size=vol_N.shape)
    dataset = hand([0] * vol_N.shape[0], return_N=returns_N, vol_N=vol_N)
    fitted = VolatilityOnly.fit(dataset, rows(vol_N.shape[0]), ones(vol_N.shape[0]))
    edges_NE = np.array([[-1.0, 0.5], [-1.0, 0.5], [-1e9, 1e9]])
    asked = hand([0, 0, 0], edges_NE=edges_NE, vol_N=np.array([0.5, 2.0, 1.0]))
    below_NE = stats.norm.cdf(edges_NE / asked.vol_N[:, None])
    expected = np.diff(below_NE, axis=1, prepend=0.0, append=1.0)
    proba_NC = fitted.proba(asked, rows(3))
    np.testing.assert_allclose(proba_NC, expected, atol=0.01)
    np.testing.assert_allclose(proba_NC.sum(axis=1), 1.0)
    assert (proba_NC > 0).all()


def test_volatility_only_gives_exact_zeros_to_the_class_that_holds_them() -> None:
    dataset = hand([0] * 1000, return_N=np.zeros(1000), vol_N=np.ones(1000))
    fitted = VolatilityOnly.fit(dataset, rows(1000), ones(1000))
    asked = hand([0], edges_NE=np.array([[0.0, 1.0]]), vol_N=np.array([1.0]))
    assert fitted.proba(asked, rows(1))[0, 1] == pytest.approx(1001 / 1003)


def test_logistic_recovers_a_planted_law() -> None:
    rng = np.random.default_rng(1)
    x_NP = rng.normal(size=(20_000, 2))
    odds_NC = np.exp(x_NP @ np.array([[1.0, 0.0, -1.0], [0.0, 0.0, 0.0]]))
    true_NC = odds_NC / odds_NC.sum(axis=1, keepdims=True)
    y_N = (true_NC.cumsum(axis=1) < rng.random(x_NP.shape[0])[:, None]).sum(axis=1)
    fitted = Logistic.of(x_NP * 100 + 5, y_N, ones(y_N.shape[0]), 3, 1e-4)
    np.testing.assert_allclose(fitted.of_features(x_NP * 100 + 5), true_NC, atol=0.03)


@pytest.mark.parametrize("seen", [[1], [0, 2], [1, 2]])
def test_logistic_with_classes_missing(seen: list[int]) -> None:
    x_NP = np.linspace(-1, 1, 60)[:, None]
    y_N = np.where(x_NP[:, 0] < 0, seen[0], seen[-1])
    proba_NC = Logistic.of(x_NP, y_N, ones(60), 3, 1e-3).of_features(x_NP)
    np.testing.assert_allclose(proba_NC.sum(axis=1), 1.0)
    assert (proba_NC > 0).all()
    assert (proba_NC[[0, -1]].argmax(axis=1) == y_N[[0, -1]]).all()


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return build(tmp_path_factory.mktemp("market"))


@pytest.mark.parametrize("name", list(BASELINES))
def test_every_baseline_is_a_forecast_fitted_on_training_rows_alone(name: str, market: Dataset) -> None:
    train, test = market.fold.train, market.fold.test
    fitted = BASELINES[name].fit(market, train, ones(train.shape[0]))
    proba_NC = fitted.proba(market, test)
    assert proba_NC.shape == (test.shape[0], len(market.class_names))
    np.testing.assert_allclose(proba_NC.sum(axis=1), 1.0)
    assert (proba_NC > 0).all()

    later = np.setdiff1d(np.arange(len(market)), train)
    saved = market.index.y_N.copy(), market.index.return_N.copy()
    market.index.y_N[later], market.index.return_N[later] = 0, 9.0
    try:
        again = BASELINES[name].fit(market, train, ones(train.shape[0])).proba(market, test)
    finally:
        market.index.y_N[:], market.index.return_N[:] = saved
    np.testing.assert_array_equal(again, proba_NC)


class Tried:
    """Stands in for the fits of a penalty search and notes which rows each saw."""

    def __init__(self) -> None:
        self.fits: list[tuple[np.ndarray, np.ndarray, float]] = []

    def of(self, x_NP: np.ndarray, y_N: Int64, w_N: Float64, classes: int, penalty: float) -> Logistic:
        self.fits.append((x_NP[:, 0].astype(np.int64), w_N, penalty))
        weight_PC = np.zeros((x_NP.shape[1], classes))
        # no information: every penalty scores the same
        share_C, mean_P = np.full(classes, 1.0 / classes), np.zeros(x_NP.shape[1])
        return Logistic(mean_P, np.ones(x_NP.shape[1]), weight_PC, np.log(share_C), share_C, 0.0)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Tried:
    watch = Tried()
    monkeypatch.setattr(Logistic, "of", watch.of)
    return watch


def overlapping(n: int, label: int) -> Dataset:
    """Row n has its anchor at n and its label known at n + ``label``."""
    anchor_N = np.arange(n)
    index = SimpleNamespace(anchor_ns_N=anchor_N, label_stop_ns_N=anchor_N + label, y_N=anchor_N % 3)
    return SimpleNamespace(index=index, class_names=("a", "b", "c"))  # type: ignore[return-value]


def test_penalty_is_chosen_on_rows_later_than_every_label_it_was_fitted_on(tried: Tried) -> None:
    dataset, label = overlapping(100, 7), 7
    x_NP = np.arange(100.0)[:, None]  # the feature of a row is its number
    Logistic.chosen(x_NP, dataset, rows(100), ones(100), (1.0, 0.1))
    assert [fit[2] for fit in tried.fits] == [1.0, 0.1, 1.0]  # a draw goes to the stronger one
    for seen, w_N, _ in tried.fits[:2]:
        np.testing.assert_array_equal(seen, np.arange(80 - label + 1))  # row 73 is known at 80, row 74 is not
        assert w_N.shape == seen.shape
    np.testing.assert_array_equal(tried.fits[2][0], np.arange(100))


def test_penalty_is_the_one_that_forecasts_rows_it_has_not_seen() -> None:
    """Many columns of noise: the weakest penalty fits the rows it sees best and all others worst."""
    rng = np.random.default_rng(5)
    dataset = overlapping(300, 1)
    x_NP = rng.normal(size=(300, 60))
    fitted = Logistic.chosen(x_NP, dataset, rows(300), ones(300), (1.0, 1e-4))
    strong, weak = (Logistic.of(x_NP, dataset.index.y_N, ones(300), 3, value) for value in (1.0, 1e-4))
    assert np.abs(strong.weight_PC).max() < 0.3 * np.abs(weak.weight_PC).max()
    np.testing.assert_allclose(fitted.weight_PC, strong.weight_PC)


def test_logistic_does_not_look_at_the_age(market: Dataset) -> None:
    names = list(market.time_names)
    later = market.x_time_NK.copy()
    later[:, names.index("age")] += 0.5 * np.arange(later.shape[0])
    moved = replace(market, x_time_NK=later)
    train, test = market.fold.train, market.fold.test
    for family in (Logistic, LogisticBook):
        proba_NC = family.fit(market, train, ones(train.shape[0])).proba(market, test)
        again_NC = family.fit(moved, train, ones(train.shape[0])).proba(moved, test)
        np.testing.assert_allclose(again_NC, proba_NC, atol=1e-5)  # sums in float32 differ in the last digits
        other = family.fit(market, train, ones(train.shape[0]))
        later[:, names.index("log_sigma")] += 0.1
        assert np.abs(other.proba(moved, test) - proba_NC).max() > 1e-4  # calendar features as such do count
        later[:, names.index("log_sigma")] -= 0.1


def test_logistic_on_the_book_takes_the_newest_rows_and_forecasts_in_pieces(
    market: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = market.fold.train, market.fold.test
    w_N = np.linspace(0.5, 1.5, train.shape[0])
    whole = LogisticBook.fit(market, train[-200:], w_N[-200:]).proba(market, test)
    monkeypatch.setattr(baselines, "BOOK_ROWS", 200)
    monkeypatch.setattr(baselines, "BOOK_CHUNK", 37)
    fitted = LogisticBook.fit(market, train, w_N)
    np.testing.assert_allclose(fitted.proba(market, test), whole, rtol=1e-5)
    n_book = market.shape["assets"] * market.levels * 4
    few = Logistic.fit(market, train, w_N)
    assert fitted.fitted.weight_PC.shape[0] == few.weight_PC.shape[0] + n_book


def test_logistic_sees_the_planted_signal(market: Dataset, tmp_path: Path) -> None:
    train, test = market.fold.train, market.fold.test
    y_N = market.index.y_N[test]
    nll = {}
    for name in ("prior", "logistic", "logistic_book"):
        proba_NC = BASELINES[name].fit(market, train, ones(train.shape[0])).proba(market, test)
        nll[name] = -np.log(proba_NC[np.arange(y_N.shape[0]), y_N]).mean()
    assert nll["logistic"] < 0.85 * nll["prior"]
    assert nll["logistic_book"] < 0.85 * nll["prior"]
