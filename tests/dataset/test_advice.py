"""Advice on classes: against counting, on planted drift, and the volatility on a year of real candles."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_market import Market
from kline_samples import samples

from bml.dataset.advice import Advice, Month, advise, advise_on, require_live
from bml.dataset.sigma import DEFAULT, SigmaSpec, ewma
from bml.types import NS_PER_DAY, NS_PER_S, SPLITS, Fold, GateError, SampleIndex

SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "ADAUSDT", "SOLUSDT")
#: edges are fitted to the first four months and held for eight
STARTS = {"early_stop": "2025-08-01", "calibrate": "2025-09-01", "test": "2025-10-01"}


HOUR = 3600 * NS_PER_S
JANUARY = 19_723 * NS_PER_DAY
CUTS = np.array([-1.0, -0.3, 0.0, 0.3, 1.0])
NAMES = ("a", "b", "c", "d", "e", "f")


def planted(seed: int = 0, *, days: int = 182, spread: dict[str, float] | None = None) -> tuple[SampleIndex, Fold]:
    """Two symbols with an hourly label of an hour; normal returns of a known volatility, times ``spread`` by month.

    Training is January to March, April stops early, May calibrates, June is the test.
    """
    rng = np.random.default_rng(seed)
    anchor = np.repeat(JANUARY + np.arange(days * 24, dtype=np.int64) * HOUR, 2)
    month = anchor.astype("datetime64[ns]").astype("datetime64[M]").astype(str)
    sigma = 1e-3 * np.exp(rng.normal(0, 0.3, anchor.shape))
    z = rng.normal(size=anchor.shape) * [(spread or {}).get(name, 1.0) for name in month]
    index = SampleIndex(
        anchor_ns_N=anchor,
        target_N=np.tile(np.array([1, 3], np.int32), days * 24),
        input_start_ns_N=anchor,
        context_start_ns_N=anchor,
        label_stop_ns_N=anchor + HOUR,
        return_N=z * sigma,
        sigma_N=sigma,
        edges_NE=sigma[:, None] * CUTS,
        y_N=np.searchsorted(CUTS, z, side="right").astype(np.int64),
    )
    stops = [JANUARY + day * NS_PER_DAY for day in (0, 91, 121, 152, days)]
    rows = [np.flatnonzero((anchor >= low) & (anchor < high)) for low, high in pairwise(stops)]
    bounds = tuple(pairwise(stops))
    fold = Fold(**dict(zip(SPLITS, rows, strict=True)), bounds_ns=bounds, embargo_ns=0, n_purged=0)
    return index, fold


def on_planted(index: SampleIndex, fold: Fold, **options: Any) -> Advice:
    return advise(index, fold, ("w", "A", "x", "B"), NAMES, **options)


def every_month(advice: Advice) -> Iterator[tuple[str, Month]]:
    return ((symbol, month) for symbol, one in advice.symbols.items() for month in one.months)


def test_it_is_what_counting_gives() -> None:
    index, fold = planted()
    advice = on_planted(index, fold, include_test=True)
    named = [str(time)[:7] for time in index.anchor_ns_N.astype("datetime64[ns]")]
    assert list(advice.symbols) == ["A", "B"]
    months = ["2024-01", "2024-02", "2024-03", "2024-04", "2024-05", "2024-06"]
    blocks = ["train", "train", "train", "early_stop", "calibrate", "test"]
    for code, one in zip((1, 3), advice.symbols.values(), strict=True):
        assert [month.month for month in one.months] == months
        assert [month.blocks for month in one.months] == [(name,) for name in blocks]
        train = [n for n in fold.train.tolist() if index.target_N[n] == code]
        q = [sum(index.y_N[n] == k for n in train) + 0.5 for k in range(6)]
        for month in one.months:
            rows = [n for n in range(len(index)) if index.target_N[n] == code and named[n] == month.month]
            count = [sum(int(index.y_N[n]) == k for n in rows) for k in range(6)]
            share = [one / len(rows) for one in count]
            assert month.of.rows == len(rows)
            assert month.of.n_eff == pytest.approx(len(rows))  # no label overlaps another of its symbol
            assert month.of.shares == pytest.approx(share)
            assert month.of.n_eff_by_class == pytest.approx(count)
            assert month.of.entropy == pytest.approx(-sum(p * math.log(p) for p in share))
            assert month.of.smallest == pytest.approx(min(share))
            assert month.of.two_tails == pytest.approx(share[0] + share[-1])
            p = [one + 0.5 for one in count]
            terms = [(a / sum(p), b / sum(q)) for a, b in zip(p, q, strict=True)]
            assert month.of.psi == pytest.approx(sum((a - b) * math.log(a / b) for a, b in terms))


def test_n_eff_counts_overlapping_labels_once() -> None:
    index, fold = planted()
    long = replace(index, label_stop_ns_N=index.anchor_ns_N + 12 * HOUR)
    for (_, month), (_, single) in zip(
        every_month(on_planted(long, fold)), every_month(on_planted(index, fold)), strict=True
    ):
        assert month.of.n_eff == pytest.approx(single.of.n_eff / 12, rel=0.05)
        assert sum(month.of.n_eff_by_class) == pytest.approx(month.of.n_eff)
        assert month.of.psi_noise == pytest.approx(12 * single.of.psi_noise, rel=0.05)


def test_drift_by_chance_is_as_large_as_said() -> None:
    """Of months that took no part in training, whose shares do not drift."""
    ratios = [
        month.of.psi / month.of.psi_noise
        for seed in range(20)
        for _, month in every_month(on_planted(*planted(seed)))
        if month.blocks != ("train",)
    ]
    assert np.mean(ratios) == pytest.approx(1.0, rel=0.15)
    assert np.mean(np.array(ratios) > 3.0) < 0.02


def test_a_month_that_drifts_stands_out() -> None:
    advice = on_planted(*planted(spread={"2024-05": 1.6}))
    loud = {month.month for _, month in every_month(advice) if month.of.psi > 3 * month.of.psi_noise}
    assert loud == {"2024-05"}
    for one in advice.symbols.values():
        may = next(month for month in one.months if month.month == "2024-05")
        assert one.two_tails_off == may.of.two_tails - one.train.two_tails > 0.1
        assert one.smallest == may.of.smallest
        assert all(tried.two_tails_off > 0.05 for tried in one.tried)


def test_nothing_of_the_test_block_is_looked_at_unless_asked_for() -> None:
    index, fold = planted()
    changed = {name: getattr(index, name).copy() for name in ("return_N", "sigma_N", "y_N")}
    changed["return_N"][fold.test] = 0.7
    changed["sigma_N"][fold.test] = 9.0
    changed["y_N"][fold.test] = 0
    other = replace(index, **changed)

    def told(index: SampleIndex, **options: Any) -> str:
        return json.dumps(on_planted(index, fold, **options).document())

    assert told(index) == told(other)
    assert told(index, include_test=True) != told(other, include_test=True)
    assert not any("test" in month.blocks for _, month in every_month(on_planted(index, fold)))
    assert {one.left_out for one in on_planted(index, fold).symbols.values()} == {fold.test.shape[0] // 2}


def test_a_month_that_the_test_block_begins_in_is_two() -> None:
    index, fold = planted()
    cut = fold.calibrate[400]
    fold = replace(fold, calibrate=fold.calibrate[:400], test=np.arange(cut, len(index)))
    shown = [(month.month, month.blocks) for month in on_planted(index, fold, include_test=True).symbols["A"].months]
    assert shown[-3:] == [("2024-05", ("calibrate",)), ("2024-05", ("test",)), ("2024-06", ("test",))]
    assert on_planted(index, fold).symbols["A"].months[-1].of.rows == 200


def test_the_classes_tried_are_equal_in_training() -> None:
    for one in on_planted(*planted()).symbols.values():
        assert [tried.classes for tried in one.tried] == [8, 12, 16]
        for tried in one.tried:
            assert 0.5 / tried.classes < tried.smallest <= 1 / tried.classes
            assert tried.n_eff_smallest >= 10
            assert tried.two_tails_off < 0.05


def test_classes_that_cannot_be_had_are_told_with_the_reason() -> None:
    index, fold = planted()
    flat = replace(index, return_N=np.where(np.arange(len(index)) % 5 < 2, 0.0, index.return_N))
    for one in on_planted(flat, fold).symbols.values():
        assert one.train.zeros == pytest.approx(0.4, abs=0.01)
        assert [tried.refused != "" for tried in one.tried] == [True, True, True]
        assert "exactly 0" in one.tried[0].refused


def test_a_symbol_without_training_rows_is_refused() -> None:
    index, fold = planted()
    fold = replace(fold, train=fold.train[index.target_N[fold.train] == 1])
    with pytest.raises(GateError, match="B: no sample in the training block"):
        on_planted(index, fold)


def test_dead_classes_are_refused_by_share_and_by_number() -> None:
    index, fold = planted()
    require_live(on_planted(index, fold))
    with pytest.raises(GateError, match=r"A: 'c' 11\.\d+% \(n_eff \d+.*'d'.*; B: 'c'"):
        require_live(on_planted(index, fold, min_share=0.13))
    long = replace(index, label_stop_ns_N=index.anchor_ns_N + 40 * NS_PER_DAY)
    with pytest.raises(GateError, match="n_eff 0"):
        require_live(on_planted(long, fold))
    y_N = index.y_N.copy()
    y_N[fold.train[index.target_N[fold.train] == 3]] %= 5
    with pytest.raises(GateError, match=r"training row: B: 'f' 0\.00% \(n_eff 0\.0\); take"):
        require_live(on_planted(replace(index, y_N=y_N), fold))


@pytest.fixture(scope="session")
def candles_folder(market_data: Path) -> Path:
    folder = market_data / "binance-spot-klines-15m-1y"
    if not folder.is_dir():
        pytest.skip(f"no candles at {folder}")
    return folder


def on_candles(folder: Path, spec: SigmaSpec, steps: int) -> Advice:
    index, fold = samples(folder, SYMBOLS, spec, steps=steps, classes=8, starts=STARTS)
    names = [f"class {k}" for k in range(8)]
    return advise(index, fold, SYMBOLS, names, include_test=True)  # the volatility is judged, nothing is chosen


@pytest.mark.data
@pytest.mark.parametrize("steps", [1, 2, 4], ids=["15 min", "30 min", "60 min"])
def test_octiles_hold_over_a_year_of_real_candles(candles_folder: Path, steps: int) -> None:
    """Every class 3 % in every month, the two tails within 6 points of 25 %; chosen on BTC and ETH alone."""
    for symbol, one in on_candles(candles_folder, DEFAULT, steps).symbols.items():
        assert [month.month for month in one.months][:: len(one.months) - 1] == ["2025-04", "2026-04"]
        assert one.train.two_tails == pytest.approx(0.25, abs=1e-3)
        worst = {month.month: (month.of.smallest, month.of.two_tails) for month in one.months}
        assert all(smallest >= 0.03 and abs(tails - 0.25) <= 0.06 for smallest, tails in worst.values()), (
            symbol,
            worst,
        )
        assert one.smallest >= 0.085
        assert one.two_tails_off <= 0.04


@pytest.mark.data
@pytest.mark.parametrize(
    ("spec", "table"), [(DEFAULT, (1.1, 3.6, 0, 9.7)), (ewma(24.0), (2.8, 6.8, 4, 8.6))], ids=["default", "ewma"]
)
def test_the_table_of_the_guide(candles_folder: Path, spec: SigmaSpec, table: tuple[float, ...]) -> None:
    """docs/classes.md: rms and largest distance from 25 % in points, months beyond 6, smallest class of any, in %."""
    months = [
        month.of for steps in (1, 2, 4) for one in on_candles(candles_folder, spec, steps).symbols.values()
        for month in one.months
    ]  # fmt: skip
    assert len(months) == 195
    off = np.array([100 * abs(month.two_tails - 0.25) for month in months])
    rms, smallest = math.sqrt(np.mean(np.square(off))), 100 * min(month.smallest for month in months)
    assert (round(rms, 1), round(off.max(), 1), int((off > 6).sum()), round(smallest, 1)) == table


def test_a_target_without_a_sample_is_told_and_not_left_out(tmp_path: Path) -> None:
    market = Market(n_days=6)
    market.mid["CCC"][:] = 100.0
    dataset = market.dataset(tmp_path, targets=["AAA", "CCC"])
    with pytest.raises(GateError, match=r"CCC: no usable window, dropped anchors: .*sigma_unknown \d+; leave it out"):
        advise_on(dataset)
