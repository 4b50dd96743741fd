"""The numbers of the book that baselines get."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from dataset_market import SYMBOLS, Market

from bml.dataset.features import anchor_features, lag_rows


def test_lags_scale_with_the_horizon() -> None:
    assert lag_rows(180) == (6, 30, 90, 180)
    assert lag_rows(2) == (1, 2)


def test_features_are_those_of_the_anchor_row(tmp_path: Path) -> None:
    market = Market(n_days=6)
    market.gap("AAA", 3000, 3200)
    market.book["CCC"][::2, 1:, 1] = np.nan
    dataset = market.dataset(tmp_path, targets=["AAA", "CCC"])
    rows = np.arange(len(dataset))[::7]
    x, names = anchor_features(dataset, rows)
    assert x.shape == (len(rows), len(names))
    assert len(set(names)) == len(names)
    assert np.isfinite(x).all()
    column = {name: x[:, k] for k, name in enumerate(names)}
    for i, n in enumerate(rows):
        row = int(dataset.row_N[n])
        for who, symbol in (("target", SYMBOLS[dataset.index.target_N[n]]), ("reference", "AAA")):
            mid, book = market.mid[symbol], market.book[symbol][row].astype(np.float64)
            known = not math.isnan(mid[row])
            assert column[f"{who}.known"][i] == known
            for name, depth in (("1", 1), ("5", 5), ("all", 4)):
                bid, ask = (np.nansum(np.expm1(book[:depth, f])) for f in (1, 3))
                expected = (bid - ask) / (bid + ask) if known else 0.0
                assert column[f"{who}.imbalance_{name}"][i] == pytest.approx(expected, abs=1e-6)
            spread = book[0, 2] - book[0, 0] if known else 0.0
            assert column[f"{who}.spread_bps"][i] == pytest.approx(spread)
            for lag in (1, 5, 15, 30):
                step = math.log(mid[row] / mid[row - lag]) if known else math.nan
                scaled = step / (dataset.index.sigma_N[n] * math.sqrt(lag / 30))
                expected = 0.0 if math.isnan(scaled) else scaled
                assert column[f"{who}.return_{lag}"][i] == pytest.approx(expected, abs=1e-9)
    np.testing.assert_array_equal(column["log_sigma"], dataset.x_time_NK[rows, 5])
    assert (column["reference.known"] == 0).any()


def test_a_reference_that_is_the_only_target_is_not_repeated(tmp_path: Path) -> None:
    dataset = Market(n_days=6).dataset(tmp_path)
    _, names = anchor_features(dataset, np.arange(3))
    assert not [name for name in names if name.startswith("reference")]


def test_the_accessor_of_a_series_gives_the_whole_grid(tmp_path: Path) -> None:
    market = Market(n_days=6)
    market.gap("BBB", 100, 120)
    mid, flag = market.dataset(tmp_path).series("BBB")
    np.testing.assert_array_equal(mid, market.mid["BBB"])
    np.testing.assert_array_equal(flag, market.flag["BBB"])
