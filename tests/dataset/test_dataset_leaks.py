"""Whatever is dated at or before a moment does not change by a byte when everything after it does."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_market import SYMBOLS, Market

from bml.dataset.context import Scaler, fit_scaler
from bml.dataset.dataset import Dataset
from bml.dataset.features import anchor_features
from bml.dataset.loader import WindowLoader
from bml.dataset.series import Series
from bml.dataset.weights import exponential_decay
from bml.dataset.windows import WindowRule, presence, volatility
from bml.types import Flag

PER_DAY = 1440


def scrambled(cut: int, seed: int) -> Market:
    """The same market up to and including row ``cut``, another one after it."""
    market = Market(n_days=8, n_features=2)
    other = Market(n_days=8, n_features=2, seed=seed + 100)
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
    out["moments"] = dataset.moments_DAS[: (cut + 1) // PER_DAY].tobytes()
    if is_trained(dataset, cut):
        train = dataset.fold.train
        weights = exponential_decay(index.anchor_ns_N[train], dataset.fold.bounds_ns[0][1], [1.0, 3.0])
        out |= {"train": train.tobytes(), "weights": weights.tobytes(), "calendar": repr(dataset.calendar).encode()}
        for name in dataset.scaler.__dataclass_fields__:
            out[f"scaler.{name}"] = getattr(dataset.scaler, name).tobytes()
    return out


def is_trained(dataset: Dataset, cut: int) -> bool:
    return dataset.fold.bounds_ns[0][1] <= int(dataset.grid.time_ns(np.int64(cut)))


def inputs(dataset: Dataset, rows: np.ndarray, *, trained: bool) -> dict[str, bytes]:
    """All a model may be given of ``rows``; before training is over, what its constants do not enter."""
    features, names = anchor_features(dataset, rows)
    out = {
        "sigma": dataset.index.sigma_N[rows],
        "edges": dataset.index.edges_NE[rows],
        "vol": dataset.vol_N[rows],
        "last_y": dataset.last_y_N[rows],
        "present": dataset.present_NA[rows],
        "features": features if trained else features[:, [name != "log_sigma" for name in names]],
    }
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
    known = []
    for dataset in (one, two):
        places = {
            key: n for n, key in enumerate(zip(dataset.row_N.tolist(), dataset.index.target_N.tolist(), strict=True))
        }
        rows = np.array([places[key] for key in chosen])
        known.append(inputs(dataset, rows, trained=is_trained(dataset, cut)))
    return [name for name in before if before[name] != after[name]] + [
        name for name in known[0] if known[0][name] != known[1][name]
    ]


OPTIONS: dict[str, Any] = {"targets": ["AAA", "CCC"], "min_assets": 2}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Market(n_days=8, n_features=2).dataset(tmp_path_factory.mktemp("original"), **OPTIONS)


#: inside training, just before its end, at it, at a midnight, late
@pytest.mark.parametrize("cut", [2010, 4 * PER_DAY - 10, 4 * PER_DAY, 6 * PER_DAY, 7 * PER_DAY + 710])
def test_nothing_known_changes_with_the_future(original: Dataset, tmp_path: Path, cut: int) -> None:
    changed = scrambled(cut, cut).dataset(tmp_path, **OPTIONS)
    assert differences(original, changed, cut) == []
    later = original.index.return_N[original.row_N > cut]
    assert not np.isin(later, changed.index.return_N).any()  # the future did change


def sigma_ahead(*arguments: Any) -> np.ndarray:
    return np.roll(volatility(*arguments), -1)


def present_ahead(series: Series, rows_N: np.ndarray, rule: WindowRule) -> tuple[np.ndarray, np.ndarray]:
    ungapped_NA, fresh_NA = presence(series, np.minimum(rows_N + 1, series.grid.n_rows - 1), rule)
    return ungapped_NA, fresh_NA | True


def scaler_of_all_days(series: Series, moments_DAS: np.ndarray, train_days: int) -> Scaler:
    return fit_scaler(series, moments_DAS, series.grid.n_days)


SCALED = {"scaler.mean_ALF", "scaler.std_ALF", "x_short_BATLF", "scaler.mean_AK", "scaler.std_AK", "x_feature_BATK"}


@pytest.mark.parametrize(
    ("place", "name", "leak", "seen"),
    [
        ("rows", "volatility", sigma_ahead, {"sigma", "edges", "vol", "features"}),
        ("rows", "presence", present_ahead, {"present", "present_BA"}),
        ("samples", "fit_scaler", scaler_of_all_days, SCALED),
    ],
)
def test_a_planted_leak_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, name: str, leak: Any, seen: set[str]
) -> None:
    cut = 6 * PER_DAY
    markets = {"one": Market(n_days=8, n_features=2), "two": scrambled(cut, 1)}
    monkeypatch.setattr(importlib.import_module(f"bml.dataset.{place}"), name, leak)
    one, two = (market.dataset(tmp_path / key, **OPTIONS) for key, market in markets.items())
    assert seen <= set(differences(one, two, cut))
