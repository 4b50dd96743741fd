"""Other processes and other frameworks: a torch DataLoader with workers, pickles, forks, numpy alone."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_market import Market
from torch.utils.data import DataLoader

import bml
from bml.dataset.batches import ArrayLoader
from bml.dataset.dataset import Dataset
from bml.dataset.loader import Batch, WindowLoader
from bml.dataset.workers import BatchStream, WindowSamples


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("workers")
    made = Market(n_days=6, n_features=2).dataset(root, targets=["AAA", "CCC"])
    made.save(root / "dataset.h5")
    return made


def same(one: Batch, two: Batch) -> bool:
    return all(torch.equal(getattr(one, f.name), getattr(two, f.name)) for f in fields(Batch))


def loader(dataset: Dataset, **options: object) -> ArrayLoader:
    rows = dataset.fold.test[:45]
    return ArrayLoader(dataset, rows, batch_size=4, shuffle=True, seed=2, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("workers", "method"), [(0, None), (1, "fork"), (2, "fork"), (2, "spawn")])
def test_workers_give_the_same_batches_in_the_same_order(dataset: Dataset, workers: int, method: str | None) -> None:
    arrays = loader(dataset)
    wanted = [Batch.of(batch.copy()) for batch in arrays.epoch(3, start_step=2)]  # used before the fork
    stream = BatchStream(arrays, epoch=3, start_step=2)
    found = list(DataLoader(stream, batch_size=None, num_workers=workers, multiprocessing_context=method))
    assert len(found) == len(wanted) == len(stream) == 10
    assert all(same(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_for_a_sampler_of_ones_own(dataset: Dataset, workers: int) -> None:
    arrays = loader(dataset)
    samples = WindowSamples(arrays)
    assert len(samples) == 45
    found = list(DataLoader(samples, batch_size=6, num_workers=workers))
    for k, got in enumerate(found):
        wanted = Batch.of(arrays.batch(np.arange(6 * k, min(45, 6 * k + 6))))
        assert same(Batch(**got), wanted)
    assert torch.equal(samples[7]["x_short_BATLF"], Batch.of(arrays.batch(np.array([7]))).x_short_BATLF[0])


def test_a_loader_is_pickled_without_what_it_has_open(dataset: Dataset) -> None:
    fresh = len(pickle.dumps(loader(dataset)))
    used = loader(dataset)
    wanted = [batch.copy() for batch in used]
    data = pickle.dumps(used)
    assert len(data) < fresh + 1000
    again = pickle.loads(data)  # noqa: S301 - our own
    for one, two in zip(again, wanted, strict=True):
        assert one.x_short_BATLF.tobytes() == two.x_short_BATLF.tobytes()
        assert one.row_B.tolist() == two.row_B.tolist()


def test_an_iteration_does_not_hang_in_a_forked_child(dataset: Dataset) -> None:
    batches = loader(dataset).epoch(0)
    next(batches)
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        code = 1
        try:
            list(batches)
        except RuntimeError as error:
            code = 0 if "cannot go on in a forked process" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert sum(map(len, batches)) == 41


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (np.ones(9, dtype=np.bool_), "rows must be 1-D integers, places in the index, got 1-D bool"),
        (np.array([0.0, 1.0]), "got 1-D float64"),
        (np.zeros((2, 2), dtype=np.int64), "got 2-D int64"),
        (np.array([0, -1]), "rows must lie in 0.., the rows of the index, got -1 to 0"),
        (np.array([0, 1 << 40]), "got 0 to 1099511627776"),
    ],
)
def test_rows_that_are_no_places_in_the_index(dataset: Dataset, rows: np.ndarray, fault: str) -> None:
    with pytest.raises(ValueError, match=fault.replace("0..", r"0\.\.\d+")):
        ArrayLoader(dataset, rows)


def test_arrays_are_the_bytes_of_the_tensors(dataset: Dataset) -> None:
    tensors = WindowLoader(dataset, dataset.fold.test[:45], batch_size=4, shuffle=True, seed=2)
    for one, two in zip(loader(dataset).epoch(1), tensors.epoch(1), strict=True):
        assert len(one) == len(two)
        for f in fields(Batch):
            x, y = getattr(one, f.name), getattr(two, f.name).numpy()
            assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes()), f.name


def test_arrays_need_no_torch(dataset: Dataset) -> None:
    code = """
import sys
sys.modules["torch"] = None
from pathlib import Path
from bml.book.store import DayStore
from bml.dataset.batches import ArrayLoader
from bml.dataset.dataset import Dataset
from bml.dataset.features import newest_book
root = Path(sys.argv[1])
dataset = Dataset.load(root / "dataset.h5", DayStore(root, "ab" * 32))
rows = dataset.fold.test
print(sum(map(len, ArrayLoader(dataset, rows))), len(newest_book(dataset, rows)[0]))
"""
    env = os.environ | {"PYTHONPATH": str(Path(bml.__file__).parents[1])}
    command = [sys.executable, "-c", code, str(dataset.store.root)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == [str(len(dataset.fold.test))] * 2, done.stderr
