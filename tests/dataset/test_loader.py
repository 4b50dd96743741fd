"""Batches against a plain gather; order, buffers, forks and inference mode."""

from __future__ import annotations

import multiprocessing
from dataclasses import fields, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from dataset_market import SMALL, SYMBOLS, Market

from bml.dataset.dataset import Dataset
from bml.dataset.loader import Batch, WindowLoader
from bml.dataset.samples import book_windows
from bml.models.base import InputShape
from bml.types import DataError, StoreError

WINDOW = 120


def market_with_defects() -> Market:
    market = Market(n_days=6, n_features=3)
    market.feature["CCC"][::7, 1] = np.nan
    market.gap("BBB", 3000, 3200)
    market.book["AAA"][:, 2, 3] = np.nan  # a cell that is never there
    market.book["CCC"][::3, 1] = np.nan  # one that comes and goes
    return market


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Market, Dataset]:
    market = market_with_defects()
    return market, market.dataset(tmp_path_factory.mktemp("loader"), targets=["AAA", "CCC"])


def every(dataset: Dataset) -> np.ndarray:
    return np.arange(len(dataset), dtype=np.int64)


def same(one: Batch, two: Batch) -> bool:
    return all(torch.equal(getattr(one, f.name), getattr(two, f.name)) for f in fields(Batch))


def batches(dataset: Dataset, rows: np.ndarray, **options: object) -> list[Batch]:
    return [batch.clone() for batch in WindowLoader(dataset, rows, **options)]  # type: ignore[arg-type]


def plain_window(market: Market, dataset: Dataset, symbol: str, row: int) -> np.ndarray:
    a = SYMBOLS.index(symbol)
    book = market.book[symbol][row - dataset.window_rows + 1 : row + 1].astype(np.float64)
    scaled = (book - dataset.scaler.mean_ALF[a]) / dataset.scaler.std_ALF[a]
    return np.nan_to_num(scaled, nan=0.0)


def plain_features(market: Market, dataset: Dataset, symbol: str, row: int) -> np.ndarray:
    a, scaler = SYMBOLS.index(symbol), dataset.scaler
    assert scaler.mean_AK is not None
    assert scaler.std_AK is not None
    feature = market.feature[symbol][row - dataset.window_rows + 1 : row + 1].astype(np.float64)
    return np.nan_to_num((feature - scaler.mean_AK[a]) / scaler.std_AK[a], nan=0.0)


def test_a_batch_is_what_a_plain_gather_gives(made: tuple[Market, Dataset]) -> None:
    market, dataset = made
    rows = np.concatenate([every(dataset)[::37], np.flatnonzero(~dataset.present_NA[:, 1])[::5]])
    for batch in batches(dataset, rows, batch_size=7):
        for b, n in enumerate(batch.row_B.tolist()):
            target = int(dataset.index.target_N[n])
            order = [target, *(a for a in range(3) if a != target)]
            for slot, a in enumerate(order):
                present = bool(dataset.present_NA[n, a])
                assert batch.present_BA[b, slot] == present
                expected = plain_window(market, dataset, SYMBOLS[a], int(dataset.row_N[n]))
                np.testing.assert_allclose(batch.x_short_BATLF[b, slot], expected * present, rtol=1e-5, atol=1e-5)
                features = plain_features(market, dataset, SYMBOLS[a], int(dataset.row_N[n]))
                np.testing.assert_allclose(batch.x_feature_BATK[b, slot], features * present, rtol=1e-5, atol=1e-5)
            day = int(dataset.row_N[n]) // 1440
            for d in range(3):
                number = day - 3 + d
                known = [number >= 0 and bool(dataset.moments_present_DA[number, a]) for a in order]
                assert batch.long_present_BDA[b, d].tolist() == known
                if number >= 0:
                    scaled = (dataset.moments_DAS[number] - dataset.scaler.mean_AS) / dataset.scaler.std_AS
                    expected = np.nan_to_num(scaled[order], nan=0.0)
                    np.testing.assert_allclose(batch.x_long_BDAS[b, d], expected, rtol=1e-5, atol=1e-6)
                else:
                    assert not batch.x_long_BDAS[b, d].any()
        assert batch.y_B.tolist() == dataset.index.y_N[batch.row_B].tolist()
        np.testing.assert_array_equal(batch.x_time_BK, dataset.x_time_NK[batch.row_B])
        assert torch.isfinite(batch.x_short_BATLF).all()


def test_shapes_are_those_the_dataset_promises(made: tuple[Market, Dataset]) -> None:
    _, dataset = made
    first = next(iter(WindowLoader(dataset, every(dataset), batch_size=3)))
    _, assets, steps, levels, book_fields = first.x_short_BATLF.shape
    _, days, _, stats = first.x_long_BDAS.shape
    assert InputShape(**dataset.shape) == InputShape(
        assets=assets, steps=steps, levels=levels, fields=book_fields, days=days, stats=stats,
        calendar=first.x_time_BK.shape[1], classes=len(dataset.class_names), features=first.x_feature_BATK.shape[3],
    )  # fmt: skip
    assert {f.name: getattr(first, f.name).dtype for f in fields(Batch) if f.name not in ("y_B", "row_B")} == {
        f.name: torch.float32 for f in fields(Batch) if f.name not in ("y_B", "row_B")
    }


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_every_row_comes_once_and_the_last_batch_may_be_short(made: tuple[Market, Dataset], batch_size: int) -> None:
    _, dataset = made
    rows = dataset.fold.early_stop
    found = batches(dataset, rows, batch_size=batch_size)
    assert torch.cat([batch.row_B for batch in found]).tolist() == rows.tolist()
    assert len(found) == len(WindowLoader(dataset, rows, batch_size=batch_size))
    assert [len(batch) for batch in found[:-1]] == [batch_size] * (len(found) - 1)


def test_the_order_is_a_function_of_seed_and_epoch(made: tuple[Market, Dataset]) -> None:
    _, dataset = made
    rows = dataset.fold.train[::5]

    def order(seed: int, epoch: int) -> list[int]:
        loader = WindowLoader(dataset, rows, batch_size=16, shuffle=True, seed=seed, epoch=epoch)
        return torch.cat([batch.row_B.clone() for batch in loader]).tolist()

    assert order(1, 0) == order(1, 0)
    assert len({tuple(order(s, e)) for s, e in [(1, 0), (1, 1), (2, 0)]}) == 3
    assert sorted(order(1, 0)) == rows.tolist()
    loader = WindowLoader(dataset, rows, batch_size=16, shuffle=True, seed=1)
    loader.epoch = 1
    assert torch.cat([batch.row_B.clone() for batch in loader]).tolist() == order(1, 1)


def test_iterating_twice_and_at_the_same_time_gives_the_same(made: tuple[Market, Dataset]) -> None:
    _, dataset = made
    loader = WindowLoader(dataset, dataset.fold.calibrate, batch_size=8, shuffle=True, seed=3)
    for one, two in zip(loader, loader, strict=True):
        assert same(one, two)


def test_a_batch_lives_until_the_next_is_asked_for(made: tuple[Market, Dataset]) -> None:
    """The background thread must not write into the batch in use."""
    _, dataset = made
    clean = batches(dataset, dataset.fold.calibrate, batch_size=4)
    for batch, expected in zip(WindowLoader(dataset, dataset.fold.calibrate, batch_size=4), clean, strict=True):
        assert same(batch, expected)
        batch.x_short_BATLF.fill_(7.0)  # nor rely on what the user left there


def test_leaving_early_ends_the_thread(made: tuple[Market, Dataset]) -> None:
    _, dataset = made
    loader = iter(WindowLoader(dataset, every(dataset), batch_size=4))
    next(loader)
    loader.close()  # type: ignore[attr-defined]
    with pytest.raises(StopIteration):
        next(loader)


def test_weights_follow_their_rows(made: tuple[Market, Dataset]) -> None:
    _, dataset = made
    rows = dataset.fold.train
    for batch in WindowLoader(dataset, rows, batch_size=50, shuffle=True, weights_N=rows * 2.0):
        assert batch.w_B.tolist() == (batch.row_B * 2).tolist()
    assert next(iter(WindowLoader(dataset, rows))).w_B.unique().tolist() == [1.0]
    with pytest.raises(ValueError, match="weights for"):
        WindowLoader(dataset, rows, weights_N=np.ones(1))
    with pytest.raises(ValueError, match="batch_size"):
        WindowLoader(dataset, rows, batch_size=0)


def test_no_rows_no_batches(made: tuple[Market, Dataset]) -> None:
    _, dataset = made
    assert batches(dataset, np.empty(0, np.int64)) == []


def test_the_callers_inference_mode_does_not_reach_the_buffers(made: tuple[Market, Dataset]) -> None:
    _, dataset = made
    loader = WindowLoader(dataset, dataset.fold.test[:20], batch_size=4)
    with torch.inference_mode():
        inside = [batch.clone() for batch in loader]
    assert all(same(a, b) for a, b in zip(inside, loader, strict=True))
    layer = torch.nn.Linear(4, 2)
    for batch in loader:  # usable for training afterwards
        layer(batch.x_short_BATLF).sum().backward()


@pytest.mark.parametrize("window_h", [0.5, 30.0, 50.0])
def test_windows_of_any_length_cross_as_many_days_as_they_need(tmp_path: Path, window_h: float) -> None:
    market = Market(n_days=8, cadence_s=600, symbols=("AAA", "BBB"))
    dataset = market.dataset(
        tmp_path, window_h=window_h, stride_s=3600.0, horizon_s=3600.0, context_days=0,
        split={"fractions": {"train": 0.7, "early_stop": 0.1, "calibrate": 0.1, "test": 0.1}},
    )  # fmt: skip
    for batch in batches(dataset, every(dataset)[::5], batch_size=3):
        assert batch.x_long_BDAS.shape[1] == 0
        for b, n in enumerate(batch.row_B.tolist()):
            expected = plain_window(market, dataset, "AAA", int(dataset.row_N[n]))
            np.testing.assert_allclose(batch.x_short_BATLF[b, 0], expected, rtol=1e-5, atol=1e-5)


def test_half_precision_day_files_give_single_precision_batches(tmp_path: Path) -> None:
    market = Market(n_days=6, dtype=np.float16)
    dataset = market.dataset(tmp_path)
    for batch in batches(dataset, dataset.fold.test[:9], batch_size=4):
        assert batch.x_short_BATLF.dtype == torch.float32
        for b, n in enumerate(batch.row_B.tolist()):
            expected = plain_window(market, dataset, "AAA", int(dataset.row_N[n]))
            np.testing.assert_allclose(batch.x_short_BATLF[b, 0], expected, rtol=1e-5, atol=1e-5)


def _sum_in_child(loader: WindowLoader, out: multiprocessing.Queue[float]) -> None:  # type: ignore[type-arg]
    torch.set_num_threads(1)  # the parent's thread pool does not survive a fork
    out.put(sum(float(batch.x_short_BATLF.double().sum()) for batch in loader))


def test_a_loader_used_before_a_fork_works_after_it(made: tuple[Market, Dataset]) -> None:
    _, dataset = made
    loader = WindowLoader(dataset, dataset.fold.test[:40], batch_size=4)
    expected = sum(float(batch.x_short_BATLF.double().sum()) for batch in loader)
    context = multiprocessing.get_context("fork")
    out = context.Queue()
    children = [context.Process(target=_sum_in_child, args=(loader, out)) for _ in range(2)]
    for child in children:
        child.start()
    found = [out.get(timeout=60) for _ in children]
    for child in children:
        child.join(timeout=60)
        assert child.exitcode == 0
    assert found == pytest.approx([expected] * 2, rel=1e-12)


def test_a_day_file_that_went_away_is_an_error(tmp_path: Path) -> None:
    market = Market(n_days=6)
    dataset = market.dataset(tmp_path)
    day = dataset.grid.day(int(dataset.row_N[-1]) // 1440)
    dataset.store.path("AAA", day).unlink()
    with pytest.raises(StoreError):
        batches(dataset, every(dataset)[-5:])


def test_a_loaded_dataset_gives_the_same_batches(made: tuple[Market, Dataset], tmp_path: Path) -> None:
    _, dataset = made
    loaded = Dataset.load(dataset.save(tmp_path / "d.h5"), dataset.store)
    rows = dataset.fold.test[:10]
    assert all(same(a, b) for a, b in zip(batches(dataset, rows), batches(loaded, rows), strict=True))
    other = replace(dataset, scaler=replace(dataset.scaler, std_ALF=dataset.scaler.std_ALF * 2))
    assert not same(batches(other, rows)[0], batches(dataset, rows)[0])


def test_inputs_are_clipped_at_ten_standard_deviations(tmp_path: Path) -> None:
    market = Market(n_days=6)
    after = slice(4 * 1440, None)  # training is over by then, so the scaler does not know
    market.book["AAA"][after, 0, 0] = -1e6
    market.book["AAA"][after, 1, 1] = 100.0
    market.book["AAA"][after, 1, 3] = np.nan
    market.mid["AAA"][after] = 100.0 * np.exp(np.cumsum(np.random.default_rng(5).normal(0, 0.1, 2 * 1440)))
    dataset = market.dataset(tmp_path)
    std = dataset.scaler.std_AS[0]
    far = np.abs((dataset.moments_DAS[4, 0] - dataset.scaler.mean_AS[0]) / std) > 10
    assert far.any()
    late = np.flatnonzero(dataset.row_N >= 5 * 1440)
    for batch in batches(dataset, late):
        assert (batch.x_short_BATLF[:, 0, -1, 0, 0] == -10.0).all()
        assert (batch.x_short_BATLF[:, 0, -1, 1, 1] == 10.0).all()
        assert (batch.x_short_BATLF[:, 0, -1, 1, 3] == 0.0).all()
        assert batch.x_short_BATLF.abs().max() == 10.0
        assert (batch.x_long_BDAS[:, -1, 0, far].abs() == 10.0).all()
        assert batch.x_long_BDAS.abs().max() == 10.0


def test_the_scaler_of_features_knows_fresh_rows_of_training_days_only(made: tuple[Market, Dataset]) -> None:
    market, dataset = made
    scaler = dataset.scaler
    assert dataset.feature_names == ("feature_0", "feature_1", "feature_2")
    assert scaler.mean_AK is not None
    assert scaler.std_AK is not None
    for a, symbol in enumerate(SYMBOLS):
        known = market.feature[symbol][: 3 * 1440].astype(np.float64)  # half of six days
        np.testing.assert_allclose(scaler.mean_AK[a], np.nanmean(known, axis=0), rtol=1e-9)
        np.testing.assert_allclose(scaler.std_AK[a], np.nanstd(known, axis=0), rtol=1e-9)


def test_filled_rows_do_not_enter_the_scaler_of_features(tmp_path: Path) -> None:
    market = Market(n_days=6, n_features=1)
    market.feature["AAA"][100:110] = 1e6
    market.fill("AAA", 100, 110)
    assert (scaler := market.dataset(tmp_path).scaler).mean_AK is not None
    assert abs(scaler.mean_AK[0, 0]) < 1.0


def test_days_with_other_features_do_not_make_a_dataset(tmp_path: Path) -> None:
    one, other = Market(n_days=6, n_features=1), Market(n_days=6, n_features=2)
    store = one.write(tmp_path)
    store.write(other.day("BBB", 2), meta={})
    with pytest.raises(DataError, match=r"BBB 2024-01-03: window features \['feature_0', 'feature_1'\], other days"):
        book_windows(one.config(), store, **SMALL)


def test_without_features_there_are_none_in_batch_dataset_or_file(tmp_path: Path) -> None:
    dataset = Market(n_days=6).dataset(tmp_path)
    batch = next(iter(WindowLoader(dataset, dataset.fold.test, batch_size=2)))
    assert batch.x_feature_BATK.shape == (2, 3, WINDOW, 0)
    assert dataset.scaler.mean_AK is None
    with h5py.File(dataset.save(tmp_path / "d.h5")) as file:
        assert file.attrs["schema"] == b"bml.dataset/4"
        assert not [name for name in file if "feature" in name or "AK" in name]
        assert b"feature" not in bytes(file["document"][()])
