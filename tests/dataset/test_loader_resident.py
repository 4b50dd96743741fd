"""Days in the memory of a device: the same batches, uploaded once. The device is the CPU where there is no other."""

from __future__ import annotations

import pickle
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_market import Market

from bml.dataset import resident
from bml.dataset.dataset import Dataset
from bml.dataset.loader import Batch, WindowLoader
from bml.types import StoreError

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def same(one: Batch, two: Batch) -> bool:
    """To the bit: torch.equal takes -0 for 0."""
    return all(
        getattr(one, f.name).cpu().numpy().tobytes() == getattr(two, f.name).cpu().numpy().tobytes()
        for f in fields(Batch)
    )


@pytest.fixture(scope="module", params=[(np.float32, 3), (np.float16, 0)], ids=["float32", "float16"])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    dtype, n_features = request.param
    market = Market(n_days=6, n_features=n_features, dtype=dtype)
    market.gap("BBB", 3000, 3200)
    market.book["CCC"][::3, 1] = np.nan
    return market.dataset(tmp_path_factory.mktemp("resident"), targets=["AAA", "CCC"])


@pytest.mark.parametrize("device", DEVICES)
def test_batches_are_those_of_the_host(dataset: Dataset, device: str) -> None:
    rows = np.concatenate([np.arange(0, len(dataset), 41), np.flatnonzero(~dataset.present_NA[:, 1])[::5]])
    options = {"batch_size": 7, "shuffle": True, "seed": 3, "weights_N": rows * 1.5}
    host = WindowLoader(dataset, rows, **options, residency="host")
    there = WindowLoader(dataset, rows, **options, residency="device", device=device)
    assert (host.is_resident, there.is_resident) == (False, True)
    for epoch, start in ((0, 0), (2, 3)):
        pairs = zip(there.epoch(epoch, start_step=start), host.epoch(epoch, start_step=start), strict=True)
        for one, two in pairs:
            assert one.x_short_BATLF.device.type == device
            assert same(one, two)
    places = np.array([5, 1, 1])
    assert same(there.batch(places), host.batch(places))


def test_a_day_is_uploaded_once_and_shared(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[int, int]] = []
    get = resident.Days.get
    monkeypatch.setattr(resident.Days, "get", lambda self, a, n: opened.append((a, n)) or get(self, a, n))
    one = WindowLoader(dataset, dataset.fold.train[::9], residency="device")
    kept = list(one)
    first = len(opened)
    assert first == len(set(opened)) > 5
    two = WindowLoader(dataset, dataset.fold.train[::9], residency="device")
    assert all(same(a, b) for a, b in zip(two, kept, strict=True))
    assert all(same(a, b) for a, b in zip(one, kept, strict=True))
    assert len(opened) == first
    list(WindowLoader(dataset, dataset.fold.test[:3], residency="device"))  # other days
    assert len(opened) == len(set(opened)) > first


def test_days_go_with_the_last_loader(dataset: Dataset) -> None:
    one = WindowLoader(dataset, dataset.fold.test, residency="device")
    assert len(resident._known) == 1
    two = WindowLoader(dataset, dataset.fold.test, residency="device")
    assert one._days is two._days
    del one, two
    assert len(resident._known) == 0


def test_the_callers_inference_mode_does_not_reach_the_days(dataset: Dataset) -> None:
    loader = WindowLoader(dataset, dataset.fold.test[:8], batch_size=4, residency="device")
    with torch.inference_mode():
        inside = list(loader)
    assert all(same(a, b) for a, b in zip(inside, loader, strict=True))
    layer = torch.nn.Linear(4, 2)
    for batch in inside:
        layer(batch.x_short_BATLF).sum().backward()


def test_auto_is_the_device_when_it_is_a_gpu_with_room(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = dataset.fold.test
    assert not WindowLoader(dataset, rows).is_resident
    assert not WindowLoader(dataset, rows, device="cpu", residency="auto").is_resident
    needed = 3 * dataset.grid.n_rows * (4 * 4 + len(dataset.feature_names)) * 4
    for free, fits in ((needed / resident.SHARE + 64, True), (needed / resident.SHARE - 64, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (int(free), 1 << 40))
        assert resident.fits(dataset, torch.device("cuda")) is fits
    with pytest.raises(ValueError, match="residency must be 'auto', 'host' or 'device', got 'gpu'"):
        WindowLoader(dataset, rows, residency="gpu")  # type: ignore[arg-type]


def test_pickled_it_finds_its_days_again(dataset: Dataset) -> None:
    loader = WindowLoader(dataset, dataset.fold.test[:6], batch_size=4, residency="device")
    again = pickle.loads(pickle.dumps(loader))  # noqa: S301 - our own
    assert again.is_resident
    assert all(same(a, b) for a, b in zip(again, loader, strict=True))


def test_a_day_file_that_went_away_is_an_error(tmp_path: Path) -> None:
    dataset = Market(n_days=6).dataset(tmp_path)
    day = dataset.grid.day(int(dataset.row_N[-1]) // 1440)
    dataset.store.path("AAA", day).unlink()
    with pytest.raises(StoreError):
        list(WindowLoader(dataset, np.arange(len(dataset))[-5:], residency="device"))
