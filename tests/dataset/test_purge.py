"""Purging against a pairwise oracle: nothing that knows the scored rows stays, nothing else goes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interval_cases import index_of, indices, witnesses

from bml.dataset.purge import purged, require_apart, touches
from bml.types import NS_PER_S, DataError, SampleIndex

CADENCE, HORIZON = 10 * NS_PER_S, 1800 * NS_PER_S


def check(index: SampleIndex, is_scored: list[bool], embargo: int) -> None:
    rows = np.arange(len(index))
    scored = rows[np.array(is_scored[: len(index)])]
    train = np.setdiff1d(rows, scored)[::-1]  # the order of rows is no matter
    kept = purged(index, train, scored, embargo_ns=embargo)
    known = witnesses(index, train, scored, embargo)
    assert kept.tolist() == [t for t in train if t not in known]


cases = given(
    index=indices(), is_scored=st.lists(st.booleans(), min_size=24, max_size=24), embargo=st.sampled_from([0, 0, 1, 17])
)


@cases
@settings(max_examples=300)
def test_what_stays_overlaps_nothing_and_what_goes_has_a_witness(
    index: SampleIndex, is_scored: list[bool], embargo: int
) -> None:
    check(index, is_scored, embargo)


@pytest.mark.slow
@cases
@settings(max_examples=10_000, deadline=None)
def test_ten_thousand_cases(index: SampleIndex, is_scored: list[bool], embargo: int) -> None:
    check(index, is_scored, embargo)


def from_the_end_of_the_first_label(index: SampleIndex, train: np.ndarray, scored: np.ndarray) -> np.ndarray:
    """The rule of a public library: the scored block is taken to begin where its first label *ends*.

    Training labels that start in, end in or span that window go. Those that end before it, but inside the block, stay.
    """
    low, high = index.label_stop_ns_N[scored[0]], index.label_stop_ns_N[scored].max()
    start, stop = index.anchor_ns_N[train], index.label_stop_ns_N[train]
    return train[((start < low) | (start > high)) & ((stop < low) | (stop > high)) & ~((start < low) & (stop > high))]


def test_the_left_boundary_does_not_leak() -> None:
    """Five blocks of anchors every 10 s with labels of 30 min, no embargo.

    The known wrong rule keeps, in each fold with a left side, 180 rows whose labels end inside the scored block: 179
    overlap the first scored label, the 180th ends on the moment it starts from, which an embargo of 1 ns takes too.
    """
    n, size = 5_000, 1_000
    anchor = np.arange(n, dtype=np.int64) * CADENCE
    index = index_of(anchor, anchor + HORIZON, input_start=anchor - CADENCE, context_start=anchor)
    wrong, ours, embargoed = [], [], []
    for first in range(0, n, size):
        scored = np.arange(first, first + size)
        train = np.setdiff1d(np.arange(n), scored)
        for kept, ends in (
            (from_the_end_of_the_first_label(index, train, scored), wrong),
            (purged(index, train, scored), ours),
            (purged(index, train, scored, embargo_ns=1), embargoed),
        ):
            stop = index.label_stop_ns_N[kept[kept < first]]
            ends.append((int((stop >= anchor[first]).sum()), int((stop > anchor[first]).sum())))
    assert wrong == [(0, 0)] + [(180, 179)] * 4
    assert ours == [(0, 0)] + [(1, 0)] * 4
    assert embargoed == [(0, 0)] * 5


def test_an_early_long_label_is_not_forgotten() -> None:
    """The latest end of a block is not that of its last row."""
    index = index_of([0, 10, 500], [400, 20, 510], input_start=[-1, 9, 390], context_start=[0, 10, 500])
    assert purged(index, np.array([2]), np.array([0, 1])).tolist() == []
    assert purged(index, np.array([2]), np.array([1])).tolist() == [2]


@pytest.mark.parametrize(("reach", "kept"), [(301, []), (300, [1]), (299, [1])])
def test_the_embargo_after_a_block_is_the_look_back_in_use(reach: int, kept: list[int]) -> None:
    """An input that starts where the label ends does not use its last moment; a context uses the one it starts with."""
    by_input = index_of([0, 400], [100, 410], input_start=[-1, 400 - reach], context_start=[0, 400])
    by_context = index_of([0, 400], [100, 410], input_start=[-1, 399], context_start=[0, 401 - reach])
    for index in (by_input, by_context):
        assert purged(index, np.array([1]), np.array([0])).tolist() == kept


def test_looking_back_over_earlier_labels_is_no_leak() -> None:
    index = index_of([0, 400], [100, 410], input_start=[-1, -500], context_start=[0, -900])
    assert purged(index, np.array([0]), np.array([1])).tolist() == [0]


def test_nothing_scored_purges_nothing() -> None:
    index, none = index_of([0, 5], [10, 15]), np.array([], dtype=np.int64)
    assert purged(index, np.array([1, 0]), none, embargo_ns=99).tolist() == [1, 0]
    assert purged(index, none, np.array([1])).tolist() == []


def test_bad_intervals_are_refused() -> None:
    zero, one = np.zeros(1, np.int64), np.ones(1, np.int64)
    with pytest.raises(ValueError, match="stop > start"):
        touches(zero, zero, zero, one)
    with pytest.raises(ValueError, match="must not be negative"):
        touches(zero, one, zero, one, gap_ns=-1)


def test_rows_of_two_fits_are_apart() -> None:
    index = index_of([0, 10, 20, 30], [11, 20, 30, 40])
    require_apart(index, np.array([2, 3]), np.array([0, 1]), "x")
    with pytest.raises(DataError, match="calibrate and early_stop: 1 of 3 rows have labels that overlap"):
        require_apart(index, np.array([1, 2, 3]), np.array([0]), "calibrate and early_stop")
