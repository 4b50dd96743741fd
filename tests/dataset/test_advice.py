"""Advice on classes: against counting, on planted drift, and the volatility on a year of real candles."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from kline_samples import samples

from bml.dataset.advice import Advice, advise
from bml.dataset.sigma import DEFAULT, SigmaSpec, ewma

SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "ADAUSDT", "SOLUSDT")
#: edges are fitted to the first four months and held for eight
STARTS = {"early_stop": "2025-08-01", "calibrate": "2025-09-01", "test": "2025-10-01"}


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
def test_one_ewma_does_not_hold_them(candles_folder: Path) -> None:
    """Of squared returns over a day: months with more than 6 points too much or too few in the tails."""
    off = [
        abs(month.of.two_tails - 0.25)
        for steps in (1, 2, 4)
        for one in on_candles(candles_folder, ewma(24.0), steps).symbols.values()
        for month in one.months
    ]
    assert max(off) > 0.06
    assert math.sqrt(np.mean(np.square(off))) > 0.02
