"""The oracle is calibrated on the market it describes, far better than the prior, and reads only the truth file."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest

from bml.evaluation import oracle
from bml.sources.market_faults import Faults
from bml.sources.market_spec import Bayes
from bml.sources.synthetic import SyntheticSource, depth_rows
from bml.types import ASK_PX, BID_PX, DataError, Float64, Int64, StoreError

MULTIPLES_E = np.array([-1.5, -0.75, -0.25, 0.0, 0.25, 0.75, 1.5])


@dataclass(frozen=True)
class Data:
    symbols: tuple[str, ...] = ("BTC", "ETH", "SOL")
    start: dt.date = dt.date(2024, 1, 1)
    stop: dt.date = dt.date(2024, 1, 31)
    reference: str = "BTC"
    cadence_s: float = 30.0
    phase_ms: int = 0


@dataclass(frozen=True)
class World:
    source: SyntheticSource
    truth: Path

    def observed_mid(self, symbol: str) -> Float64:
        """The mid a pipeline sees, from rows."""
        rows = self.source.read(symbol, 0, 2**62)
        is_best_N = rows.level_N == 1
        return 0.5 * (rows.columns[BID_PX][is_best_N] + rows.columns[ASK_PX][is_best_N])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    source = depth_rows(data=Data(), seed=7, levels=5)
    return World(source, source.write_truth(tmp_path_factory.mktemp("truth")))


def scaled_samples(world: World, symbol: str, horizon: int, stride: int) -> tuple[Int64, Float64, Int64]:
    """Times, edges scaled by a causal one-day EWMA volatility, and labels from observed mids."""
    mid_T = world.observed_mid(symbol)
    square_T = np.diff(np.log(mid_T)) ** 2
    decay = 0.5 ** (1 / 2880)
    mean_T = np.empty(len(mid_T))
    mean_T[0] = mean = float(square_T[:500].mean())
    for t, square in enumerate(square_T.tolist(), 1):
        mean = decay * mean + (1 - decay) * square
        mean_T[t] = mean
    t_N = np.arange(500, len(mid_T) - horizon, stride)
    edges_NE = np.sqrt(horizon * mean_T[t_N])[:, None] * MULTIPLES_E
    return_N = np.log(mid_T[t_N + horizon] / mid_T[t_N])
    return world.source.grid_ns_T[t_N], edges_NE, (return_N[:, None] >= edges_NE).sum(axis=1)


@pytest.mark.parametrize("symbol", ["BTC", "ETH", "SOL"])
@pytest.mark.parametrize("horizon", [1, 30, 60])
def test_the_oracle_is_calibrated_on_observed_rows(world: World, symbol: str, horizon: int) -> None:
    """Labels that do not overlap: what is left of them is a martingale difference, so every z is standard normal."""
    ts_N, edges_NE, y_N = scaled_samples(world, symbol, horizon, stride=horizon)
    proba_NC = oracle.class_probabilities(world.truth, symbol, ts_N, horizon, edges_NE)
    left_NC = (y_N[:, None] == np.arange(8)) - proba_NC
    spread_NC = proba_NC * (1 - proba_NC)
    weights = {"all": np.ones(len(y_N)), "likely up": proba_NC[:, 4:].sum(axis=1), "tails": proba_NC[:, [0, 7]].sum(1)}
    for name, weight_N in weights.items():
        z_C = weight_N @ left_NC / np.sqrt(weight_N**2 @ spread_NC)
        assert np.abs(z_C).max() < 4.0, (name, z_C)
    score_NC = -np.log(np.maximum(proba_NC, 1e-300))
    expected_N = (proba_NC * score_NC).sum(axis=1)
    variance_N = (proba_NC * score_NC**2).sum(axis=1) - expected_N**2
    z = float((oracle.log_scores(proba_NC, y_N) - expected_N).sum() / math.sqrt(variance_N.sum()))
    assert abs(z) < 4.0


@pytest.mark.parametrize("symbol", ["BTC", "ETH", "SOL"])
@pytest.mark.parametrize("bins", [10])
def test_reliability_of_each_probability_bin(world: World, symbol: str, bins: int) -> None:
    ts_N, edges_NE, y_N = scaled_samples(world, symbol, 30, stride=30)
    proba_NC = oracle.class_probabilities(world.truth, symbol, ts_N, 30, edges_NE)
    p_M, hit_M = proba_NC.ravel(), (y_N[:, None] == np.arange(8)).ravel()
    bin_M = np.minimum((p_M * bins).astype(int), bins - 1)
    for b in np.unique(bin_M):
        is_in_M = bin_M == b
        error = math.sqrt(float((p_M * (1 - p_M))[is_in_M].sum()))
        assert abs(float((hit_M - p_M)[is_in_M].sum())) < 4.5 * error + 1e-6, b


@pytest.mark.parametrize(("horizon", "margin"), [(30, 0.30), (60, 0.28)])
def test_there_is_much_to_win_over_the_prior(world: World, horizon: int, margin: float) -> None:
    """At the default parameters the exact forecast beats the class prior by 0.35 to 0.45 nats per asset."""
    for symbol in Data().symbols:
        ts_N, edges_NE, y_N = scaled_samples(world, symbol, horizon, stride=10)
        prior_C = np.bincount(y_N, minlength=8) / len(y_N)  # known from the test labels: the best constant
        prior_nll = float(-np.log(prior_C[y_N]).mean())
        bayes = oracle.bayes_nll(world.truth, symbol, ts_N, horizon, edges_NE, y_N)
        assert prior_nll - bayes > margin


def test_the_lead_is_needed(world: World) -> None:
    """Without the reference's pressure, part of the gap is lost: the books of both assets matter."""
    from bml.sources.market_law import law

    ts_N, edges_NE, y_N = scaled_samples(world, "ETH", 60, stride=10)
    source = world.source
    step_N = np.searchsorted(source.grid_ns_T, ts_N)
    own = source.dynamics.weights(is_reference=False)[0]
    blind_NC = law(source.dynamics, 60).class_probabilities(
        own * source.paths.pressure_AT[1][step_N], source.paths.regime_T[step_N], edges_NE
    )
    best = oracle.bayes_nll(world.truth, "ETH", ts_N, 60, edges_NE, y_N)
    assert float(oracle.log_scores(blind_NC, y_N).mean()) - best > 0.05


def test_stored_probabilities_are_those_of_the_oracle(world: World) -> None:
    with h5py.File(world.truth) as file:
        stored_ATC = file["proba_60_ATC"][...]
        grid_ns_T = file["grid_ns_T"][...]
        np.testing.assert_array_equal(file["regime_T"][...], world.source.paths.regime_T)
        np.testing.assert_allclose(np.log(file["mid_AT"][...]), world.source.paths.log_mid_AT, rtol=1e-14)
    for a, symbol in enumerate(Data().symbols):
        edges_E = np.asarray(Bayes().edges)
        proba_NC = oracle.class_probabilities(world.truth, symbol, grid_ns_T, 60, edges_E)
        np.testing.assert_array_equal(proba_NC, stored_ATC[a])
        assert stored_ATC[a].mean(axis=0).min() > 0.005  # no class of the default edges is empty


def test_equal_parameters_give_equal_bytes(tmp_path: Path) -> None:
    data = Data(stop=dt.date(2024, 1, 3))
    faults = Faults(gaps_per_day=2, absent={"ETH": (dt.date(2024, 1, 2),)})

    def written(name: str, seed: int) -> bytes:
        return depth_rows(data=data, seed=seed, levels=5, faults=faults).write_truth(tmp_path / name).read_bytes()

    first = written("a", 1)
    assert first == written("b", 1)
    assert first == written("a", 1)  # written over itself
    assert first != written("c", 2)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["truth.h5"]


def test_the_ledger_travels_with_the_truth(tmp_path: Path) -> None:
    faults = Faults(jitter_ms=200, gaps_per_day=2, crossed_per_day=3, absent={"ETH": (dt.date(2024, 1, 2),)})
    source = depth_rows(data=Data(stop=dt.date(2024, 1, 3)), seed=1, levels=5, faults=faults)
    truth = source.write_truth(tmp_path)
    for symbol in Data().symbols:
        assert oracle.ledger(truth, symbol) == source.ledger(symbol)
    assert len(oracle.ledger(truth, "ETH")) == 6
    assert len(oracle.ledger(truth, "SOL")) == 10


def test_log_scores_have_a_floor() -> None:
    score_N = oracle.log_scores(np.array([[0.0, 1.0], [0.25, 0.75]]), np.array([0, 1]))
    assert score_N.tolist() == pytest.approx([-math.log(1e-12), -math.log(0.75)])


def test_misuse_is_refused(world: World, tmp_path: Path) -> None:
    ts_N, edges_E = world.source.grid_ns_T[:3], np.array([-0.01, 0.01])
    call = oracle.class_probabilities
    with pytest.raises(DataError, match="DOGE"):
        call(world.truth, "DOGE", ts_N, 60, edges_E)
    with pytest.raises(DataError, match=r"sample 1 at 2024-01-01T00:00:30.5.* is no grid point"):
        call(world.truth, "BTC", ts_N + np.array([0, 500_000_000, 0]), 60, edges_E)
    with pytest.raises(DataError, match="no grid point"):
        call(world.truth, "BTC", ts_N - 30_000_000_000, 60, edges_E)
    with pytest.raises(DataError, match="fall"):
        call(world.truth, "BTC", ts_N, 60, edges_E[::-1])
    with pytest.raises(DataError, match="NaN"):
        call(world.truth, "BTC", ts_N, 60, np.array([np.nan, 0.0]))
    with pytest.raises(DataError, match="do not fit"):
        call(world.truth, "BTC", ts_N, 60, np.zeros((2, 2)))
    with pytest.raises(DataError, match="at least one step"):
        call(world.truth, "BTC", ts_N, 0, edges_E)
    with pytest.raises(StoreError, match="no readable truth file"):
        call(tmp_path / "none.h5", "BTC", ts_N, 60, edges_E)
    with h5py.File(tmp_path / "half.h5", "w") as file:
        file.attrs["schema"] = np.bytes_("bml.truth/1")
    with pytest.raises(StoreError, match="not a complete"):
        call(tmp_path / "half.h5", "BTC", ts_N, 60, edges_E)


def test_no_samples_are_no_probabilities(world: World) -> None:
    none = oracle.class_probabilities(world.truth, "BTC", np.empty(0, np.int64), 60, np.empty((0, 7)))
    assert none.shape == (0, 8)
