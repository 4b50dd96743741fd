"""Whatever is dated at or before a moment does not change by a byte when everything after it does."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_market import SYMBOLS, Market

from bml.dataset.calendar import trained_features
from bml.dataset.context import Scaler, fit_scaler, moments_table
from bml.dataset.dataset import Dataset
from bml.dataset.features import anchor_features
from bml.dataset.hmm import filtered
from bml.dataset.loader import WindowLoader
from bml.dataset.regime import RegimeSpec, coordinates, regime_table
from bml.dataset.series import Series
from bml.dataset.trailing import daily_mean, realised_volatility
from bml.dataset.weights import exponential_decay
from bml.dataset.windows import WindowRule, presence, volatility
from bml.types import Flag, SampleIndex

PER_DAY = 1440


SHAPE: dict[str, Any] = {"n_days": 8, "n_features": 2}


def scrambled(cut: int, seed: int, **shape: Any) -> Market:
    """The same market up to and including row ``cut``, another one after it."""
    market = Market(**(SHAPE | shape))
    other = Market(**(SHAPE | shape), seed=seed + 100)
    rng = np.random.default_rng(seed)
    after = slice(cut + 1, None)
    for symbol in SYMBOLS:
        market.mid[symbol][after] = 3.0 * other.mid[symbol][after]
        market.book[symbol][after] = 2.0 * other.book[symbol][after]
        market.feature[symbol][after] = 5.0 + 3.0 * other.feature[symbol][after]
        market.flag[symbol][after] = np.where(rng.random(market.flag[symbol][after].shape) < 0.002, Flag.FILLED, 0)
    market.gap("BBB", cut + 1, cut + 4)  # the targets keep their labels, so that anchors up to the cut stay
    return market


def dated(dataset: Dataset, cut: int) -> dict[str, bytes]:
    """The bytes of all that is known at row ``cut`` without the inputs: past labels, days, constants of training."""
    index = dataset.index
    now = int(dataset.grid.time_ns(np.int64(cut)))
    rows = np.flatnonzero(index.label_stop_ns_N <= now)
    out = {f"index.{name}": getattr(index, name)[rows].tobytes() for name in index.__dataclass_fields__}
    out["moments"] = dataset.moments_DAS[: (cut + 1) // dataset.grid.rows_per_day].tobytes()
    out["past regimes"] = (
        dataset.regime_N[rows].tobytes() if is_trained(dataset, cut) or not is_fitted(dataset) else b""
    )
    out["lookbacks"] = repr((dataset.lookbacks, dataset.time_names, dataset.regime_names)).encode()
    if is_trained(dataset, cut):
        train = dataset.fold.train
        weights = exponential_decay(index.anchor_ns_N[train], dataset.fold.bounds_ns[0][1], [1.0, 3.0])
        out |= {"train": train.tobytes(), "weights": weights.tobytes(), "calendar": repr(dataset.calendar).encode()}
        out["regime model"] = repr(dataset.regime_model).encode()
        for name in dataset.scaler.__dataclass_fields__:
            out[f"scaler.{name}"] = getattr(dataset.scaler, name).tobytes()
    return out


def is_trained(dataset: Dataset, cut: int) -> bool:
    return dataset.fold.bounds_ns[0][1] <= int(dataset.grid.time_ns(np.int64(cut)))


def is_fitted(dataset: Dataset) -> bool:
    """Whether regimes are told by a model of the training days."""
    return bool(dataset.regime_model)


def inputs(dataset: Dataset, rows: np.ndarray, fitted: set[str], *, trained: bool) -> dict[str, bytes]:
    """All a model may be given of ``rows``; before training is over, only what its constants do not enter."""
    features, names = anchor_features(dataset, rows)
    out = {
        "sigma": dataset.index.sigma_N[rows],
        "edges": dataset.index.edges_NE[rows],
        "vol": dataset.vol_N[rows],
        "last_y": dataset.last_y_N[rows],
        "present": dataset.present_NA[rows],
        "features": features if trained else features[:, [name not in fitted for name in names]],
    }
    if trained or not is_fitted(dataset):
        out["regime"] = dataset.regime_N[rows]
    if trained:
        batches = [batch.clone() for batch in WindowLoader(dataset, rows, batch_size=16)]
        for name in ("x_short_BATLF", "x_feature_BATK", "present_BA", "x_long_BDAS", "long_present_BDA", "x_time_BK"):
            out[name] = np.concatenate([getattr(batch, name).numpy() for batch in batches])
    return {name: value.tobytes() for name, value in out.items()}


def differences(one: Dataset, two: Dataset, cut: int) -> list[str]:
    """Names of what differs although it is dated at or before ``cut``; inputs up to the anchor at the cut itself."""
    before, after = dated(one, cut), dated(two, cut)
    assert before.keys() == after.keys()
    keys = [set(zip(d.row_N.tolist(), d.index.target_N.tolist(), strict=True)) for d in (one, two)]
    shared = {key for key in keys[0] & keys[1] if key[0] <= cut}
    assert {(cut, 0), (cut, 2)} <= shared
    chosen = sorted(shared)[-200:]  # the last ones are those a leak reaches first
    fitted = {"log_sigma", "log_volatility", *one.calendar.held, *two.calendar.held}
    if is_fitted(one):
        fitted |= {f"regime_{name}" for name in one.regime_names}
    known = []
    for dataset in (one, two):
        places = {
            key: n for n, key in enumerate(zip(dataset.row_N.tolist(), dataset.index.target_N.tolist(), strict=True))
        }
        rows = np.array([places[key] for key in chosen])
        known.append(inputs(dataset, rows, fitted, trained=is_trained(dataset, cut)))
    return [name for name in before if before[name] != after[name]] + [
        name for name in known[0] if known[0][name] != known[1][name]
    ]


#: look-backs so short that every condition is known, and varies, within the training block
REGIME = {"trend_days": 1, "volatility_days": 1, "memory_days": 2, "high_volatility": 0.9}
OPTIONS: dict[str, Any] = {
    "targets": ["AAA", "CCC"],
    "min_assets": 2,
    "context": {"volatility_h": 6.0, "volume_days": 2, "regime": REGIME},
}

#: a market of many short days, on which a model of the regimes can be fitted
LONG: dict[str, Any] = {"n_days": 60, "cadence_s": 1800}
HIDDEN: dict[str, Any] = OPTIONS | {
    "window_h": 6.0,
    "stride_s": 7200.0,
    "context": {"regime": {"method": "hmm", "trend_days": 3, "volatility_days": 2, "memory_days": 20}},
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Market(**SHAPE).dataset(tmp_path_factory.mktemp("original"), **OPTIONS)


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Market(**(SHAPE | LONG)).dataset(tmp_path_factory.mktemp("hidden"), **HIDDEN)


def test_the_conditions_vary_so_that_a_leak_of_them_would_show(original: Dataset, hidden: Dataset) -> None:
    assert len(np.unique(original.regime_N)) >= 4
    assert (
        not {"volume_rank", "log_volatility", "regime_bull", "regime_high_volatility"} & original.calendar.held.keys()
    )
    assert len(np.unique(hidden.regime_N)) == 5


#: inside training, just before its end, at it, at a midnight, late
@pytest.mark.parametrize("cut", [2010, 4 * PER_DAY - 10, 4 * PER_DAY, 6 * PER_DAY, 7 * PER_DAY + 710])
def test_nothing_known_changes_with_the_future(original: Dataset, tmp_path: Path, cut: int) -> None:
    changed = scrambled(cut, cut).dataset(tmp_path, **OPTIONS)
    assert differences(original, changed, cut) == []
    later = original.index.return_N[original.row_N > cut]
    assert not np.isin(later, changed.index.return_N).any()  # the future did change


#: within the training block, at its end, and late in an unfinished day
@pytest.mark.parametrize("cut", [20 * 48, 30 * 48, 50 * 48 + 28])
def test_a_fitted_regime_does_not_change_with_the_future(hidden: Dataset, tmp_path: Path, cut: int) -> None:
    changed = scrambled(cut, cut, **LONG).dataset(tmp_path, **HIDDEN)
    assert differences(hidden, changed, cut) == []
    assert is_trained(hidden, cut) == (cut >= 30 * 48)


def sigma_ahead(*arguments: Any) -> np.ndarray:
    return np.roll(volatility(*arguments), -1)


def present_ahead(series: Series, rows_N: np.ndarray, rule: WindowRule) -> tuple[np.ndarray, np.ndarray]:
    ungapped_NA, fresh_NA = presence(series, np.minimum(rows_N + 1, series.grid.n_rows - 1), rule)
    return ungapped_NA, fresh_NA | True


def scaler_of_all_days(series: Series, moments_DAS: np.ndarray, train_days: int) -> Scaler:
    return fit_scaler(series, moments_DAS, series.grid.n_days)


def volatility_ahead(*arguments: Any) -> np.ndarray:
    return np.roll(realised_volatility(*arguments), -1)


def volume_among_all_days(series: Series, days: int) -> np.ndarray:
    known_DA = daily_mean(series, "log1p_bid_qty", "test")
    return known_DA.argsort(axis=0).argsort(axis=0) / series.grid.n_days


def regime_of_the_unfinished_day(series: Series, spec: RegimeSpec) -> tuple[np.ndarray, ...]:
    return tuple(np.roll(x_DA, -1, axis=0) for x_DA in coordinates(series, spec))


def moments_of_the_unfinished_day(series: Series) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    moments_DAS, present_DA, names = moments_table(series)
    return np.roll(moments_DAS, -1, axis=0), present_DA, names


def scaled_on_all_rows(index: SampleIndex, train: np.ndarray, *others: Any) -> Any:
    return trained_features(index, np.arange(len(index)), *others)


def regime_of_all_days(series: Series, spec: RegimeSpec, train_days: int) -> Any:
    return regime_table(series, spec, series.grid.n_days)


def smoothed(trend_DA: np.ndarray, log_vol_DA: np.ndarray, model: dict[str, Any], memory_days: int) -> np.ndarray:
    """Forward, and backward over what is still to come."""
    forward = filtered(trend_DA, log_vol_DA, model, memory_days)
    backward = filtered(trend_DA[::-1], log_vol_DA[::-1], model, memory_days)[::-1]
    return forward * backward / (forward * backward).sum(axis=2, keepdims=True)


SCALED = {"scaler.mean_ALF", "scaler.std_ALF", "x_short_BATLF", "scaler.mean_AK", "scaler.std_AK", "x_feature_BATK"}


@pytest.mark.parametrize(
    ("place", "name", "leak", "seen"),
    [
        ("rows", "volatility", sigma_ahead, {"sigma", "edges", "vol", "features"}),
        ("rows", "presence", present_ahead, {"present", "present_BA"}),
        ("samples", "fit_scaler", scaler_of_all_days, SCALED),
        ("samples", "moments_table", moments_of_the_unfinished_day, {"moments", "x_long_BDAS"}),
        ("samples", "trained_features", scaled_on_all_rows, {"calendar", "x_time_BK", "features"}),
        ("conditions", "realised_volatility", volatility_ahead, {"x_time_BK", "features"}),
        ("conditions", "volume_rank", volume_among_all_days, {"x_time_BK", "features"}),
        ("regime", "coordinates", regime_of_the_unfinished_day, {"regime", "x_time_BK", "features"}),
    ],
)
def test_a_planted_leak_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, name: str, leak: Any, seen: set[str]
) -> None:
    cut = 6 * PER_DAY + 360
    markets = {"one": Market(**SHAPE), "two": scrambled(cut, 1)}
    monkeypatch.setattr(importlib.import_module(f"bml.dataset.{place}"), name, leak)
    one, two = (market.dataset(tmp_path / key, **OPTIONS) for key, market in markets.items())
    assert seen <= set(differences(one, two, cut))


@pytest.mark.parametrize(
    ("place", "name", "leak", "seen"),
    [
        ("conditions", "regime_table", regime_of_all_days, {"regime model", "regime", "x_time_BK"}),
        ("hmm", "filtered", smoothed, {"x_time_BK"}),
    ],
)
def test_a_planted_leak_of_a_fitted_regime_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, name: str, leak: Any, seen: set[str]
) -> None:
    cut = 40 * 48 + 20
    markets = {"one": Market(**(SHAPE | LONG)), "two": scrambled(cut, 1, **LONG)}
    monkeypatch.setattr(importlib.import_module(f"bml.dataset.{place}"), name, leak)
    one, two = (market.dataset(tmp_path / key, **HIDDEN) for key, market in markets.items())
    assert seen <= set(differences(one, two, cut))
