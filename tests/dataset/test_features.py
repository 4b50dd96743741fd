"""The numbers of the book that baselines get."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from dataset_market import SYMBOLS, Market

from bml.dataset.features import anchor_features, lag_rows, newest_book
from bml.dataset.loader import WindowLoader
from bml.types import StoreError


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


def test_the_books_of_all_rows_are_never_held_at_once(tmp_path: Path) -> None:
    market = Market(n_days=6, symbols=("AAA", "BBB"), levels=60)
    dataset = market.dataset(tmp_path)
    rows = np.tile(np.arange(len(dataset)), 25)
    everything = len(rows) * 60 * 4 * 8
    tracemalloc.start()
    x, _ = anchor_features(dataset, rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(x) > 15_000
    assert peak < 0.7 * everything


@pytest.mark.parametrize(("levels", "dtype"), [(3, np.float32), (5, np.float16), (13, np.float32)])
def test_the_newest_book_is_the_loaders_last_time_step(tmp_path: Path, levels: int, dtype: type) -> None:
    market = Market(n_days=6, levels=levels, dtype=dtype)
    market.gap("BBB", 3000, 3200)
    market.book["CCC"][::3, 1] = np.nan
    market.book["AAA"][4500:, 0, 1] *= 50.0  # after training: beyond the limit
    dataset = market.dataset(tmp_path, targets=["AAA", "CCC"])
    rows = np.random.default_rng(1).permutation(len(dataset))
    x, names = newest_book(dataset, rows)
    batches = [batch.x_short_BATLF[:, :, -1].flatten(1).numpy().copy() for batch in WindowLoader(dataset, rows)]
    assert x.dtype == np.float32
    assert x.tobytes() == np.concatenate(batches).tobytes()
    assert x.shape == (len(rows), len(names)) == (len(rows), 3 * levels * 4)
    assert len(set(names)) == len(names)
    assert x.max() == 10.0
    first = names.index("other_1.level_0.bid_px")
    gone = ~dataset.present_NA[rows, 1] & (dataset.index.target_N[rows] == 0)
    assert gone.any()
    assert not x[gone, first : first + levels * 4].any()


def test_the_newest_book_opens_a_day_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Market(n_days=6).dataset(tmp_path)
    opened = []
    real = type(dataset.store).open

    def counting(store: object, symbol: str, day: object) -> object:
        opened.append((symbol, day))
        return real(store, symbol, day)  # type: ignore[arg-type]

    monkeypatch.setattr(type(dataset.store), "open", counting)
    newest_book(dataset, np.arange(len(dataset)))
    assert len(opened) == len(set(opened)) == 3 * 6
    assert newest_book(dataset, np.empty(0, np.int64))[0].shape == (0, 48)
    dataset.store.path("BBB", dataset.grid.day(2)).unlink()
    with pytest.raises(StoreError):
        newest_book(dataset, np.arange(len(dataset)))
