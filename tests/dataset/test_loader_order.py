"""Which rows come when: ranks, epochs, and going on in the middle of one, also after a kill."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dataset_market import Market
from hypothesis import given
from hypothesis import strategies as st

import bml
from bml.dataset.batches import ArrayLoader
from bml.dataset.dataset import Dataset
from bml.dataset.loader import WindowLoader
from bml.dataset.order import Order

CHILD = """
import hashlib, sys, time
from pathlib import Path
from bml.book.store import DayStore
from bml.dataset.batches import ArrayLoader
from bml.dataset.dataset import Dataset
root, start, pause = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
dataset = Dataset.load(root / "dataset.h5", DayStore(root, "ab" * 32))
loader = ArrayLoader(dataset, dataset.fold.train[::3], batch_size=8, shuffle=True, seed=5)
for batch in loader.epoch(2, start_step=start):
    print(*batch.row_B.tolist(), hashlib.sha256(batch.x_short_BATLF.tobytes()).hexdigest(), flush=True)
    time.sleep(pause)
"""


@given(
    n=st.integers(0, 60), batch=st.integers(1, 7), world=st.integers(1, 5), seed=st.integers(0, 3),
    epoch=st.integers(0, 3), shuffle=st.booleans(), start=st.integers(0, 70),
)  # fmt: skip
def test_ranks_share_every_step_and_any_step_can_be_the_first(
    n: int, batch: int, world: int, seed: int, epoch: int, shuffle: bool, start: int
) -> None:
    alone = Order(n_rows=n, batch_size=batch * world, shuffle=shuffle, seed=seed).steps(epoch)
    ranks = [Order(n_rows=n, batch_size=batch, shuffle=shuffle, seed=seed, rank=r, world=world) for r in range(world)]
    steps = [order.steps(epoch) for order in ranks]
    for r, order in enumerate(ranks):
        assert len(order) == len(steps[r])
        assert all(1 <= len(places) <= batch for places in steps[r])
        assert len(alone) - len(order) in (0, 1)
        if start <= len(order):
            rest = order.steps(epoch, start)
            assert [x.tolist() for x in rest] == [x.tolist() for x in steps[r][start:]]
    for k, places in enumerate(alone):
        mine = [x[k].tolist() for x in steps if k < len(x)]
        assert sorted(place for x in mine for place in x) == sorted(places.tolist())
    everything = [place for x in steps for places in x for place in places.tolist()]
    assert sorted(everything) == list(range(n))
    if not shuffle and world == 1:
        assert everything == list(range(n))


def test_seed_and_epoch_each_make_another_order() -> None:
    orders = {
        tuple(np.concatenate(Order(n_rows=50, batch_size=8, shuffle=True, seed=seed).steps(epoch)).tolist())
        for seed in range(3) for epoch in range(3)
    }  # fmt: skip
    assert len(orders) == 9
    one = Order(n_rows=50, batch_size=50, shuffle=True, seed=4).steps(7)[0]
    np.testing.assert_array_equal(one, np.random.default_rng([4, 7]).permutation(50))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"world": 0}, "rank must lie in"),
        ({"rank": 2, "world": 2}, r"rank must lie in 0\.\.1, the ranks of world 2, got 2"),
        ({"rank": -1}, r"rank must lie in 0\.\.0"),
    ],
)
def test_what_is_no_order_is_refused(options: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Order(**({"n_rows": 5, "batch_size": 2} | options))  # type: ignore[arg-type]
    for step in (-1, 4):
        with pytest.raises(ValueError, match=r"start_step must lie in 0\.\.3, the steps of an epoch"):
            Order(n_rows=5, batch_size=2).steps(0, step)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("order")
    made = Market(n_days=6).dataset(root)
    made.save(root / "dataset.h5")
    return made


def told(dataset: Dataset, start: int = 0) -> list[str]:
    loader = ArrayLoader(dataset, dataset.fold.train[::3], batch_size=8, shuffle=True, seed=5)
    return [
        f"{' '.join(map(str, batch.row_B.tolist()))} {hashlib.sha256(batch.x_short_BATLF.tobytes()).hexdigest()}"
        for batch in loader.epoch(2, start_step=start)
    ]


def child(dataset: Dataset, start: int, pause: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(dataset.store.root), str(start), str(pause)]
    env = os.environ | {"PYTHONPATH": str(Path(bml.__file__).parents[1])}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def test_killed_and_resumed_in_the_middle_exactly_the_rest_comes(dataset: Dataset) -> None:
    with child(dataset, 0, 0.2) as first:
        assert first.stdout is not None
        seen = [first.stdout.readline().strip() for _ in range(5)]
        first.send_signal(signal.SIGKILL)
        first.wait(timeout=60)
    assert first.returncode == -signal.SIGKILL
    with child(dataset, len(seen), 0.0) as second:
        assert second.stdout is not None
        rest = second.stdout.read().splitlines()
    assert second.returncode == 0
    assert len(rest) > 5
    assert seen + rest == told(dataset)
    rows = [int(row) for line in seen + rest for row in line.split()[:-1]]
    assert sorted(rows) == dataset.fold.train[::3].tolist()


def test_the_rest_of_an_epoch_is_that_of_the_whole(dataset: Dataset) -> None:
    whole = told(dataset)
    for start in (0, 1, len(whole) - 1, len(whole)):
        assert told(dataset, start) == whole[start:]


def test_a_torch_loader_goes_on_likewise(dataset: Dataset) -> None:
    rows = dataset.fold.train[: dataset.fold.train.shape[0] // 8 * 8]
    loader = WindowLoader(dataset, rows, batch_size=8, shuffle=True, seed=5)
    whole = [batch.row_B.tolist() for batch in loader.epoch(3)]
    assert [batch.row_B.tolist() for batch in loader.epoch(3, start_step=4)] == whole[4:]
    ranks = [
        WindowLoader(dataset, rows, batch_size=4, shuffle=True, seed=5, rank=r, world=2).epoch(3) for r in range(2)
    ]
    for together, *parts in zip(whole, *ranks, strict=True):
        assert sorted(together) == sorted(row for part in parts for row in part.row_B.tolist())
