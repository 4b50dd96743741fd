"""Rows without overlap, what rows count, and weights that know the training rows alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_market import Market
from hypothesis import given
from hypothesis import strategies as st
from test_dataset_leaks import OPTIONS, PER_DAY, scrambled

from bml.dataset import describe
from bml.dataset.dataset import Dataset
from bml.dataset.sampling import seeded_offset_ns, stride_by_horizon
from bml.dataset.weights import uniqueness
from bml.training.losses import row_weights, training_rows
from bml.types import DEVELOPMENT, SPLITS, SampleIndex


def index_of(labels: list[tuple[int, int, int]]) -> SampleIndex:
    """Samples of (anchor, length of label, target), in order of anchor and target as datasets are."""
    ordered = sorted(labels, key=lambda label: (label[0], label[2]))
    anchor, length, target = np.array(ordered, dtype=np.int64).reshape(-1, 3).T
    nothing = np.zeros(anchor.shape[0])
    return SampleIndex(
        anchor_ns_N=anchor, target_N=target.astype(np.int32), input_start_ns_N=anchor, context_start_ns_N=anchor,
        label_stop_ns_N=anchor + length, return_N=nothing, sigma_N=nothing, edges_NE=nothing[:, None],
        y_N=np.zeros(anchor.shape[0], dtype=np.int64),
    )  # fmt: skip


LABELS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 15), st.integers(0, 2)), max_size=40)


@given(LABELS, st.integers(0, 20), st.randoms(use_true_random=False))
def test_no_two_labels_overlap_and_none_could_be_put_between(labels: Any, offset: int, random: Any) -> None:
    index = index_of(labels)
    rows = np.array([n for n in range(len(index)) if random.random() < 0.8], dtype=np.int64)
    taken = stride_by_horizon(index, rows, offset_ns=offset)
    assert (np.diff(taken) > 0).all()
    assert np.isin(taken, rows).all()
    begin = int(index.anchor_ns_N[rows].min()) + offset if rows.shape[0] else 0
    for code in range(3):
        mine = [(int(index.anchor_ns_N[n]), int(index.label_stop_ns_N[n])) for n in taken if index.target_N[n] == code]
        assert all(stop <= start for (_, stop), (start, _) in pairwise(mine))
        free = begin  # by hand: the first row whose anchor is free is always the one taken
        for n in rows[index.target_N[rows] == code]:
            if index.anchor_ns_N[n] >= free:
                assert n in taken
                free = int(index.label_stop_ns_N[n])


def test_of_180_rows_a_label_one_is_taken() -> None:
    index = index_of([(10 * k, 1800, 0) for k in range(18_000)])
    rows = np.arange(18_000)
    taken = stride_by_horizon(index, rows)
    np.testing.assert_array_equal(taken, np.arange(0, 18_000, 180))
    np.testing.assert_array_equal(uniqueness(index, taken), np.ones(100))
    offsets = {seeded_offset_ns(index, rows, seed) for seed in range(50)}
    assert len(offsets) > 40
    assert all(0 <= offset < 1800 for offset in offsets)
    assert seeded_offset_ns(index, rows, 3) == seeded_offset_ns(index, rows, 3)
    assert seeded_offset_ns(index, rows[:0], 3) == 0
    np.testing.assert_array_equal(stride_by_horizon(index, rows, offset_ns=15), np.arange(2, 18_000, 180))


def test_rows_that_span_less_than_a_label_are_never_all_left_out() -> None:
    """Five anchors within one label, of which those of one target end early: something is left of both to learn."""
    index = index_of([(k, 1000, 0) for k in range(5)] + [(k, 1000, 1) for k in range(2)])
    rows = np.arange(len(index))
    for seed in range(30):
        taken = stride_by_horizon(index, rows, offset_ns=seeded_offset_ns(index, rows, seed))
        assert index.target_N[taken].tolist() in ([0, 1], [1, 0])


def test_nonsense_is_refused() -> None:
    index = index_of([(0, 5, 0)])
    with pytest.raises(ValueError, match="not be negative"):
        stride_by_horizon(index, np.array([0]), offset_ns=-1)
    with pytest.raises(ValueError, match="end after its anchor"):
        stride_by_horizon(replace(index, label_stop_ns_N=index.anchor_ns_N), np.array([0]))


@given(LABELS)
def test_each_target_counts_for_itself(labels: Any) -> None:
    """Counted by hand, moment by moment."""
    index = index_of(labels)
    spans = list(zip(index.anchor_ns_N, index.label_stop_ns_N, index.target_N, strict=True))
    expected = [
        np.mean([1.0 / sum(a <= t < z and c == code for a, z, c in spans) for t in range(start, stop)])
        for start, stop, code in spans
    ]
    np.testing.assert_allclose(uniqueness(index, np.arange(len(index))), expected, rtol=1e-12)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Market(n_days=8, n_features=2).dataset(tmp_path_factory.mktemp("market"), **OPTIONS)


def test_every_count_comes_with_its_effective_number(dataset: Dataset) -> None:
    told = dataset.summary()
    for split in SPLITS:
        rows = getattr(dataset.fold, split)
        assert sum(told["by_symbol"][s][split]["rows"] for s in dataset.targets) == rows.shape[0]
        total = sum(told["by_symbol"][s][split]["n_eff"] for s in dataset.targets)
        assert total == pytest.approx(told["n_eff"][split])
        if split in DEVELOPMENT:  # what the labels of the test block are is for its report
            assert sum(told["n_eff_by_class"][split]) == pytest.approx(told["n_eff"][split])
    logged = describe.counts(told)
    assert {name.replace("n_eff_", "n_") for name in logged if "n_eff_" in name} == {
        name for name in logged if "n_eff_" not in name
    }
    assert logged["n_eff_train"] == pytest.approx(uniqueness(dataset.index, dataset.fold.train).sum())
    assert logged["CCC.n_train"] + logged["AAA.n_train"] == logged["n_train"]
    lines = describe.table(told).splitlines()
    assert f"{told['rows']['train']:,} / {told['n_eff']['train']:,.1f}" in lines[1]
    assert [line.split()[0] for line in lines[2:4]] == ["AAA", "CCC"]


def weights(dataset: Dataset) -> dict[str, bytes]:
    """Everything that is derived from the training rows."""
    rows = dataset.fold.train
    thinned = training_rows(dataset, "stride_by_horizon", 5)
    return {
        "decay": row_weights(dataset, rows, [7.0, 30.0, 90.0]).tobytes(),
        "unique": row_weights(dataset, rows, [7.0, 30.0, 90.0], uniqueness=True).tobytes(),
        "thinned": thinned.tobytes(),
        "of thinned": row_weights(dataset, thinned, 30.0).tobytes(),
    }


def test_weights_and_sampling_know_nothing_after_the_training_block(dataset: Dataset, tmp_path: Path) -> None:
    stop = dataset.fold.bounds_ns[0][1]
    cut = int(dataset.grid.row(np.int64(stop)))
    assert cut == 4 * PER_DAY
    other = scrambled(cut, 3).dataset(tmp_path, **OPTIONS)
    assert not np.array_equal(other.index.return_N, dataset.index.return_N)
    assert weights(other) == weights(dataset)


def test_weights_depend_on_training_rows_alone_and_a_wider_view_is_seen(dataset: Dataset) -> None:
    """Other blocks may be anything; uniqueness among all rows would differ where blocks meet."""
    train = dataset.fold.train
    rest = np.setdiff1d(np.arange(len(dataset)), train)
    stop_ns_N = dataset.index.label_stop_ns_N.copy()
    stop_ns_N[rest] += 10**12
    anchor_ns_N = dataset.index.anchor_ns_N.copy()
    anchor_ns_N[rest] = dataset.index.anchor_ns_N[train][-1] - 10**11  # on top of the last training labels
    changed = replace(dataset, index=replace(dataset.index, anchor_ns_N=anchor_ns_N, label_stop_ns_N=stop_ns_N))
    assert weights(changed) == weights(dataset)
    everything = np.arange(len(dataset))
    assert not np.array_equal(uniqueness(changed.index, everything)[train], uniqueness(dataset.index, train))


def test_weights_multiply_and_keep_mean_one(dataset: Dataset) -> None:
    rows = dataset.fold.train
    decay_N, unique_N = row_weights(dataset, rows, [7.0, 30.0, 90.0]), uniqueness(dataset.index, rows)
    w_N = row_weights(dataset, rows, [7.0, 30.0, 90.0], uniqueness=True)
    assert w_N.mean() == pytest.approx(1.0)
    np.testing.assert_allclose(w_N, decay_N * unique_N / (decay_N * unique_N).mean(), rtol=1e-12)
    assert unique_N.std() > 0  # else the product says nothing
