"""Volatility, volume and their look-backs against plain recomputation, and against a past that is another one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_market import SMALL, SYMBOLS, Market

from bml.config import load
from bml.dataset.conditions import context_spec
from bml.dataset.dataset import Dataset
from bml.dataset.describe import table
from bml.dataset.loader import WindowLoader
from bml.dataset.samples import book_windows
from bml.dataset.trailing import MIN_DAYS, day_before, realised_volatility, trailing_mean, trailing_rank
from bml.types import NS_PER_DAY, NS_PER_S, SPLITS, ConfigError

PER_DAY = 1440
SHORT: dict[str, Any] = {
    "volatility_h": 6.0,
    "volume_days": 2,
    "regime": {"trend_days": 1, "volatility_days": 1, "memory_days": 2, "high_volatility": 0.9},
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Market().dataset(tmp_path_factory.mktemp("short"), targets=["AAA", "CCC"], context=SHORT)


def column(dataset: Dataset, name: str) -> np.ndarray:
    return dataset.x_time_NK[:, dataset.time_names.index(name)]


def test_realised_volatility_is_the_root_of_the_squares_it_names() -> None:
    rng = np.random.default_rng(0)
    mid_T = 100 * np.exp(np.cumsum(rng.normal(0, 1e-3, 500)))
    valid_T = rng.random(500) < 0.9
    got_T = realised_volatility(mid_T, valid_T, 60)
    for t in range(0, 500, 7):
        at = np.arange(max(t - 59, 1), t + 1)
        at = at[valid_T[at] & valid_T[at - 1]]
        if 2 * len(at) < 60:
            assert np.isnan(got_T[t])
        else:
            squares = np.log(mid_T[at] / mid_T[at - 1]) ** 2
            assert got_T[t] == pytest.approx(np.sqrt(squares.sum() * 60 / len(at)), rel=1e-12)
    assert np.isnan(realised_volatility(np.full(200, 3.0), np.ones(200, bool), 60)).all()  # nothing moved


def test_realised_volatility_reaches_exactly_as_far_as_it_says() -> None:
    rng = np.random.default_rng(1)
    mid_T, valid_T = 100 * np.exp(np.cumsum(rng.normal(0, 1e-3, 2000))), np.ones(2000, bool)
    other_T = mid_T.copy()
    other_T[:1000] = rng.uniform(1e-3, 1e6, 1000)
    one_T, two_T = (realised_volatility(m, valid_T, 96) for m in (mid_T, other_T))
    assert one_T[1096:].tobytes() == two_T[1096:].tobytes()
    assert one_T[1095] != two_T[1095]  # the return from row 999 to row 1000
    ahead_T = mid_T.copy()
    ahead_T[1001:] *= 2
    assert one_T[:1001].tobytes() == realised_volatility(ahead_T, valid_T, 96)[:1001].tobytes()


@pytest.mark.parametrize("days", [3, 20])
def test_rank_and_mean_of_days_against_loops(days: int) -> None:
    rng = np.random.default_rng(2)
    x_DA = rng.integers(0, 6, (60, 2)).astype(float)
    x_DA[rng.random(x_DA.shape) < 0.2] = np.nan
    rank_DA, mean_DA = trailing_rank(x_DA, days), trailing_mean(x_DA, days)
    for d in range(60):
        for a in range(2):
            before, within = x_DA[max(d - days, 0) : d, a], x_DA[max(d - days + 1, 0) : d + 1, a]
            before, within = before[np.isfinite(before)], within[np.isfinite(within)]
            known = np.isfinite(x_DA[d, a]) and len(before) >= min(days, MIN_DAYS)
            rank = np.mean((before < x_DA[d, a]) + 0.5 * (before == x_DA[d, a])) if known else np.nan
            mean = within.mean() if 2 * len(within) >= days else np.nan
            np.testing.assert_allclose([rank_DA[d, a], mean_DA[d, a]], [rank, mean])
    assert np.isnan(day_before(x_DA, 70)).all()
    assert np.isfinite(rank_DA).any()


def test_volume_rank_is_that_of_yesterday_among_the_days_before(dataset: Dataset) -> None:
    market = Market()
    for n in range(0, len(dataset), 61):
        day, symbol = int(dataset.row_N[n]) // PER_DAY, SYMBOLS[dataset.index.target_N[n]]
        qty = np.log1p(np.expm1(market.book[symbol][..., [1, 3]].astype(float)).sum(axis=1)).sum(axis=1)
        by_day = qty.reshape(-1, PER_DAY).mean(axis=1)
        known = day >= 3
        assert column(dataset, "volume_rank_known")[n] == known
        rank = np.mean(by_day[day - 3 : day - 1] < by_day[day - 1]) if known else 0.5
        assert column(dataset, "volume_rank")[n] == pytest.approx((rank - 0.5) * np.sqrt(12), abs=1e-6)


def test_volatility_is_standardised_by_the_training_rows(dataset: Dataset) -> None:
    market, train = Market(), dataset.fold.train
    known = column(dataset, "log_volatility_known") == 1
    assert (known == (dataset.row_N >= 180)).all()  # half of six hours
    assert (column(dataset, "log_volatility")[~known] == 0).all()
    values = column(dataset, "log_volatility")[train][known[train]]
    assert values.mean() == pytest.approx(0, abs=1e-5)
    assert values.std() == pytest.approx(1, rel=1e-4)
    n = len(dataset) - 1
    mid = market.mid[SYMBOLS[dataset.index.target_N[n]]][dataset.row_N[n] - 360 : dataset.row_N[n] + 1]
    log = 0.5 * np.log((np.diff(np.log(mid)) ** 2).sum())
    scale = dataset.calendar
    expected = (log - scale.log_volatility_mean) / scale.log_volatility_std
    assert column(dataset, "log_volatility")[n] == pytest.approx(expected, rel=1e-5)


def test_what_never_varies_in_training_is_held_and_said(tmp_path: Path) -> None:
    dataset = Market().dataset(tmp_path, context={"volume_days": 6, "regime": "none"})
    assert not column(dataset, "volume_rank").any()  # six days and a day: known in the test block only
    assert not column(dataset, "volume_rank_known").any()
    assert {"volume_rank", "volume_rank_known"} <= dataset.calendar.held.keys()
    assert any(note.startswith("volume_rank: one value on all training rows") for note in dataset.notes)


def test_without_conditions_there_are_none(tmp_path: Path) -> None:
    none = {"volatility_h": 0, "volume_days": 0, "regime": "none"}
    dataset = Market(n_days=6).dataset(tmp_path, context=none, context_days=0)
    assert dataset.time_names == ("hour_sin", "hour_cos", "week_sin", "week_cos", "age", "log_sigma")
    assert dataset.lookbacks.keys() == {"input", "last_label", "sigma"}
    assert dataset.regime_names == ()
    assert (dataset.regime_N == -1).all()
    assert dataset.summary()["regimes"] == {}
    batch = next(iter(WindowLoader(dataset, dataset.fold.test, batch_size=4)))
    assert batch.x_time_BK.shape == (4, dataset.shape["calendar"]) == (4, 6)


def test_it_survives_its_file_with_all_of_it(dataset: Dataset, tmp_path: Path) -> None:
    loaded = Dataset.load(dataset.save(tmp_path / "d.h5"), dataset.store)
    assert loaded.lookbacks == dataset.lookbacks
    assert loaded.regime_names == dataset.regime_names
    assert loaded.regime_N.tobytes() == dataset.regime_N.tobytes()
    assert loaded.calendar == dataset.calendar
    assert loaded.digest == dataset.digest
    changed = replace(dataset, regime_N=np.roll(dataset.regime_N, 1))
    assert changed.digest != dataset.digest


def test_regimes_are_counted_in_the_summary(dataset: Dataset) -> None:
    told = dataset.summary()["regimes"]
    assert tuple(told) == (*dataset.regime_names, "unknown")
    for split in SPLITS:
        rows = getattr(dataset.fold, split)
        assert sum(told[name][split]["rows"] for name in told) == rows.shape[0]
        assert sum(told[name][split]["share"] for name in told) == pytest.approx(1)
        assert sum(told[name][split]["n_eff"] for name in told) == pytest.approx(dataset.n_eff[split])
        for number, name in enumerate(dataset.regime_names):
            mine = rows[dataset.regime_N[rows] == number]
            assert told[name][split]["rows"] == mine.shape[0]
            if split == "test":
                assert told[name][split]["class_shares"] is None  # sealed
            elif mine.shape[0]:
                shares = np.bincount(dataset.index.y_N[mine], minlength=8) / mine.shape[0]
                assert told[name][split]["class_shares"] == pytest.approx(shares)
            else:
                assert told[name][split]["class_shares"] is None
    assert "regime shares" in table(dataset.summary())


def test_the_look_backs_are_those_of_the_parameters(dataset: Dataset) -> None:
    minute, day = 60 * NS_PER_S, NS_PER_DAY
    assert dataset.lookbacks == {
        "input": (120 + 3) * minute,  # a row is stale after 180 s
        "last_label": (30 + 3 + 1) * minute,
        "sigma": (7 * 24 * 60 + 1) * minute,
        "volatility": 360 * minute,
        "daily_moments": (3 + 1 + 1) * day,
        "volume": (2 + 1 + 1) * day,
        "regime": (2 + 1 + 1) * day,
    }
    anchor_ns_N = dataset.index.anchor_ns_N
    days_ns_N = anchor_ns_N // day * day - 4 * day
    assert (dataset.index.context_start_ns_N == np.minimum(anchor_ns_N - dataset.lookbacks["sigma"], days_ns_N)).all()


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ({"volatilty_h": 24}, "context.volatilty_h: unknown key; did you mean 'volatility_h'"),
        ({"volatility_h": -1}, "context.volatility_h: expected hours, from 0"),
        ({"volatility_h": 0.001}, "context.volatility_h: 0.001 is not a whole number of rows"),
        ({"volume_days": 1.5}, "context.volume_days: expected a number of days, from 0"),
        ({"volume_days": True}, "context.volume_days"),
        ({"regime": "hmm"}, "context.regime: expected none or a mapping with a method, got 'hmm'"),
        ({"regime": {"method": "moon"}}, "context.regime.method: 'moon' is not known; there are: thresholds, hmm"),
        (
            {"regime": {"memory_days": 0}},
            "context.regime.memory_days: expected a number of days, from 1 to 3650, got 0",
        ),
        ({"regime": {"trend": 0}}, "context.regime.trend: expected a number above 0"),
        ({"regime": {"high_volatility": 1.0}}, "context.regime.high_volatility: expected a number above 0 and below 1"),
        ({"regime": {"method": "hmm", "trend": 1.0}}, "context.regime.trend: unknown key"),
    ],
)
def test_wrong_parameters_are_refused_before_any_file_is_read(
    tmp_path: Path, context: dict[str, Any], message: str
) -> None:
    market = Market(n_days=6)
    store = market.write(tmp_path, skip=lambda symbol, number: True)
    with pytest.raises(ConfigError, match=message):
        book_windows(market.config(), store, **(SMALL | {"context": context}))


def test_defaults_are_told_by_nothing_at_all() -> None:
    assert context_spec({}) == context_spec(None) == context_spec({"volatility_h": 24, "regime": {"trend_days": 14}})


@pytest.mark.parametrize(
    ("context", "fault"),
    [
        ("{volatilty_h: 3}", "stages.features.with.context.volatilty_h: unknown key, did you mean 'volatility_h'?"),
        ("{regime: nope}", "stages.features.with.context.regime: should be a mapping, got 'nope'"),
        ("{regime: {method: moon}}", "context.regime.method: should be 'thresholds', 'hmm' or 'none', got 'moon'"),
        ("{volume_days: -1}", "stages.features.with.context: context.volume_days: expected a number of days"),
        ("{volatility_h: 0.001}", "stages.features.with.context: context.volatility_h: 0.001 is not a whole number"),
    ],
)
def test_a_configuration_tells_of_it_with_its_place(tmp_path: Path, context: str, fault: str) -> None:
    text = (Path(__file__).parents[2] / "configs" / "demo.yaml").read_text()
    path = tmp_path / "c.yaml"
    path.write_text(re.sub(r"(?<= )context: .*", f"context: {context}", text))
    with pytest.raises(ConfigError) as told:
        load(path)
    assert fault in str(told.value)
    assert "\n" not in str(told.value)  # one fault, told once


@pytest.mark.parametrize(
    "context", ["{}", "{regime: none}", "{volume_days: 0, regime: {method: hmm, memory_days: 30}}"]
)
def test_a_configuration_takes_what_it_should(tmp_path: Path, context: str) -> None:
    text = (Path(__file__).parents[2] / "configs" / "demo.yaml").read_text()
    path = tmp_path / "c.yaml"
    path.write_text(re.sub(r"(?<= )context: .*", f"context: {context}", text))
    assert context_spec(load(path).features.params["context"]).volatility_h == 24
