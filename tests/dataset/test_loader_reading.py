"""Windows from mappings and from files: the same bits, few descriptors, whatever happens to the files."""

from __future__ import annotations

import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_market import Market

from bml.book.mapping import resident_share
from bml.dataset import cold, reading
from bml.dataset.batches import ArrayBatch, ArrayLoader
from bml.dataset.context import INPUT_LIMIT
from bml.dataset.dataset import Dataset
from bml.dataset.days import Days
from bml.dataset.standard import Standard
from bml.types import StoreError

KINDS = [np.float32, np.float16]


def market(dtype: type = np.float32) -> Market:
    made = Market(n_days=6, n_features=3, dtype=dtype)
    made.gap("BBB", 3000, 3200)
    made.book["CCC"][::3, 1] = np.nan
    made.feature["CCC"][::7, 1] = np.nan
    return made


@pytest.fixture(scope="module", params=KINDS)
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return market(request.param).dataset(tmp_path_factory.mktemp("reading"), targets=["AAA", "CCC"])


def some(dataset: Dataset) -> np.ndarray:
    """Rows of every kind: over midnight, not over it, with a symbol missing."""
    return np.concatenate([np.arange(0, len(dataset), 41), np.flatnonzero(~dataset.present_NA[:, 1])[::5]])


def batches(dataset: Dataset, rows: np.ndarray, **options: object) -> list[ArrayBatch]:
    return [batch.copy() for batch in ArrayLoader(dataset, rows, batch_size=7, **options)]  # type: ignore[arg-type]


def assert_same(one: list[ArrayBatch], two: list[ArrayBatch]) -> None:
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        for name in ArrayBatch.__slots__:
            x, y = getattr(a, name), getattr(b, name)
            assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes()), name


def evict(path: Path) -> bool:
    """Whether the file left the page cache; some file systems keep it."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)
    return resident_share(np.memmap(path, np.uint8, "r")) < 0.5


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_read_from_files_or_mapped_the_bytes_are_the_same(
    dataset: Dataset, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = some(dataset)
    warm = batches(dataset, rows)
    monkeypatch.setattr(reading, "WARM", 2.0)  # nothing is ever so warm
    assert_same(batches(dataset, rows, threads=threads), warm)
    monkeypatch.setattr(cold, "CHUNK", 1000)  # a few rows at a time
    monkeypatch.setattr(cold, "PART", 5000)
    assert_same(batches(dataset, rows, threads=threads), warm)


def test_some_windows_cold_and_some_warm(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    warm, seen = batches(dataset, some(dataset)), [0]

    def every_third(x: np.ndarray) -> float:
        seen[0] += 1
        return float(seen[0] % 3 > 0)

    monkeypatch.setattr(reading, "resident_share", every_third)
    assert_same(batches(dataset, some(dataset)), warm)
    assert seen[0] > 100


def test_really_evicted_files(tmp_path: Path) -> None:
    dataset = market().dataset(tmp_path)
    rows = some(dataset)
    warm = batches(dataset, rows)
    paths = sorted(tmp_path.rglob("*.h5"))
    if len([path for path in paths if evict(path)]) < len(paths):
        pytest.skip("this file system keeps its pages in memory")
    found = Days(dataset)
    assert resident_share(found.get(0, 1).arrays[0]) < reading.WARM
    assert_same(batches(dataset, rows), warm)
    assert resident_share(found.get(0, 1).arrays[0]) == 1.0


def test_residency_of_parts_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    np.zeros(1 << 20, np.uint8).tofile(path)
    mapped = np.memmap(path, np.uint8, "r")
    assert resident_share(mapped[:0]) == 1.0
    if not evict(path):
        pytest.skip("this file system keeps its pages in memory")
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # no read-ahead
        os.pread(file.fileno(), 8192, 8192)
    assert resident_share(mapped[8192:16384]) == 1.0
    assert resident_share(mapped[10_000:10_001]) == 1.0
    assert resident_share(mapped[4096:16384]) == pytest.approx(2 / 3)
    assert resident_share(mapped[8191:16385]) == 0.5


@pytest.mark.parametrize("is_cold", [False, True])
def test_few_mappings_and_descriptors(dataset: Dataset, is_cold: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, most, done = some(dataset), [0], threading.Event()
    wanted = batches(dataset, rows)
    monkeypatch.setattr(reading, "WARM", 2.0 if is_cold else 0.0)
    loader = ArrayLoader(dataset, rows, batch_size=7)
    loader._reader._days = days = Days(dataset, max_mapped=2)
    before = len(os.listdir("/proc/self/fd"))

    def watch() -> None:
        while not done.is_set():
            most[0] = max(most[0], len(os.listdir("/proc/self/fd")) - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        got = [batch.copy() for batch in loader]
    finally:
        done.set()
        watcher.join()
    assert_same(got, wanted)
    assert most[0] <= 8
    assert len(os.listdir("/proc/self/fd")) <= before
    assert len(days._mapped) == 2
    assert len(days._known) > 10


def test_a_day_that_is_replaced_or_removed_stays_what_it_was_while_it_is_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = market()
    dataset = made.dataset(tmp_path)
    rows = np.flatnonzero(dataset.row_N // 1440 == 3)[::20]
    loader = ArrayLoader(dataset, rows)
    (before,) = [batch.copy() for batch in loader]
    made.book["AAA"] += 1.0
    dataset.store.write(made.day("AAA", 3), meta={})
    dataset.store.path("BBB", dataset.grid.day(3)).unlink()
    for warm in (0.0, 2.0):
        monkeypatch.setattr(reading, "WARM", warm)
        assert_same([batch.copy() for batch in loader], [before])
        with pytest.raises(StoreError, match="BBB"):
            batches(dataset, rows)
    dataset.store.write(made.day("BBB", 3), meta={})
    assert batches(dataset, rows)[0].x_short_BATLF.tobytes() != before.x_short_BATLF.tobytes()


def test_a_day_mapped_again_is_the_file_of_now(tmp_path: Path) -> None:
    made = market()
    dataset = made.dataset(tmp_path)
    days = Days(dataset, max_mapped=1)
    first = days.get(0, 2)
    old = first.arrays[0].copy()
    days.get(0, 1)
    assert days.get(0, 2).path == first.path
    made.book["AAA"] += 1.0
    dataset.store.write(made.day("AAA", 2), meta={})
    days.get(0, 1)
    np.testing.assert_array_equal(days.get(0, 2).arrays[0], old + 1.0)


def test_a_file_that_shrinks_while_it_is_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = market().dataset(tmp_path)
    days = Days(dataset)
    day = days.get(0, 3)
    os.truncate(day.path, day.places[0].offset + 100)
    day = replace(day, identity=(lambda s: (s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns))(os.stat(day.path)))
    monkeypatch.setattr(Days, "get", lambda self, a, number: day)
    monkeypatch.setattr(reading, "resident_share", lambda x: 0.0)
    with pytest.raises(StoreError, match="truncated while it was read"):
        batches(dataset, some(dataset))


def test_a_file_that_was_cut_short_while_it_was_mapped_is_told(tmp_path: Path) -> None:
    """In a process of its own, which would be killed by SIGBUS."""
    dataset = market().dataset(tmp_path)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            loader = ArrayLoader(dataset, some(dataset), batch_size=7)
            list(loader)
            for path in tmp_path.rglob("*.h5"):
                os.truncate(path, path.stat().st_size // 2)
            list(loader)
        except StoreError as error:
            code = 0 if "truncated while it was in use" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("dtype", KINDS)
def test_standardised_as_torch_does_step_by_step(dtype: type) -> None:
    rng = np.random.default_rng(2)
    x_TLF = rng.normal(0, 30, (500, 5, 4)).astype(dtype)
    x_TLF[rng.random(x_TLF.shape) < 0.05] = np.nan
    x_TLF[0, 0] = [np.inf, -np.inf, 0.0, -0.0]
    mean, std = rng.normal(0, 10, (2, 5, 4)), rng.uniform(0.1, 9, (2, 5, 4))
    scale, shift = (1.0 / torch.from_numpy(std)).float(), (-torch.from_numpy(mean) / torch.from_numpy(std)).float()
    wanted = torch.mul(torch.from_numpy(x_TLF), scale[1]).add_(shift[1])
    wanted.clamp_(-INPUT_LIMIT, INPUT_LIMIT).nan_to_num_(nan=0.0)
    got = Standard.of(mean, std).numpy(1, x_TLF)
    assert got.tobytes() == wanted.numpy().tobytes()


def test_half_the_threads_say_so(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BML_NUM_THREADS", "1")
    one = batches(dataset, some(dataset))
    monkeypatch.delenv("BML_NUM_THREADS")
    assert_same(batches(dataset, some(dataset)), one)
    monkeypatch.setenv("BML_NUM_THREADS", "two")
    with pytest.raises(ValueError, match="BML_NUM_THREADS must be a number of threads, not 'two'"):
        ArrayLoader(dataset, some(dataset))
    monkeypatch.delenv("BML_NUM_THREADS")
    with pytest.raises(ValueError, match="depth must be at least 1"):
        ArrayLoader(dataset, some(dataset), depth=0)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_a_batch_is_valid_until_the_next_is_asked_for(dataset: Dataset, depth: int) -> None:
    wanted = batches(dataset, some(dataset))
    for k, batch in enumerate(ArrayLoader(dataset, some(dataset), batch_size=7, depth=depth)):
        assert_same([batch], [wanted[k]])
        batch.x_short_BATLF[...] = 7.0


def test_a_store_that_moved_is_opened_where_it_is(dataset: Dataset, tmp_path: Path) -> None:
    shutil.copytree(dataset.store.root, tmp_path / "moved")
    moved = replace(dataset, store=replace(dataset.store, root=tmp_path / "moved"))
    assert_same(batches(moved, some(dataset)), batches(dataset, some(dataset)))
