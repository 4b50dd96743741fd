"""Books that suddenly break off: found by their number of rows, looking back only."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bml.book.truncated import MEMORY_NS, rows_per_snapshot, truncated
from bml.types import NS_PER_S

STEP_NS = 10 * NS_PER_S


def found(counts: list[int], step_ns: int = STEP_NS) -> list[int]:
    ts_ns_T = step_ns * np.arange(len(counts), dtype=np.int64)
    return np.flatnonzero(truncated(ts_ns_T, np.array(counts, np.int64))).tolist()


@pytest.mark.parametrize(
    ("counts", "short"),
    [
        ([], []),
        ([5], []),
        ([10, 10, 4, 10], [2]),
        ([10, 10, 5, 10], []),  # half is not fewer than half
        ([10, 4, 3, 2, 4, 10, 9], [1, 2, 3, 4]),
        ([4, 10, 4], [2]),  # the first has none before it
        ([10, 4, 6, 2, 6], [1, 3]),  # what is whole again is what the next is held against
        ([10, 4, 5, 2, 2], [1, 3, 4]),
    ],
)
def test_fewer_than_half_the_rows_of_the_last_whole_one(counts: list[int], short: list[int]) -> None:
    assert found(counts) == short


def test_a_book_that_stays_short_is_believed_after_an_hour() -> None:
    n = MEMORY_NS // STEP_NS
    assert found([10] + [3] * 1000) == list(range(1, n + 1))
    assert found([10] + [3] * 3, step_ns=2 * MEMORY_NS) == []  # too long ago to be compared with


@given(counts=st.lists(st.integers(0, 12), max_size=60), cut=st.integers(0, 60))
def test_what_comes_later_changes_nothing(counts: list[int], cut: int) -> None:
    assert found(counts[:cut]) == [at for at in found(counts) if at < cut]


@given(
    times=st.lists(st.integers(0, 2**40), min_size=1, max_size=40, unique=True),
    seed=st.integers(0, 2**32 - 1),
)
def test_rows_are_counted_in_any_order(times: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    ts_ns_T = np.sort(np.array(times, np.int64))
    count_T = rng.integers(1, 9, len(times))
    ts_ns_N = np.repeat(ts_ns_T, count_T)
    ordered: Any = SimpleNamespace(ts_ns_N=ts_ns_N, n_rows=len(ts_ns_N))
    shuffled: Any = SimpleNamespace(ts_ns_N=rng.permutation(ts_ns_N), n_rows=len(ts_ns_N))
    np.testing.assert_array_equal(rows_per_snapshot(ordered, ts_ns_T, in_order=True), count_T)
    np.testing.assert_array_equal(rows_per_snapshot(shuffled, ts_ns_T, in_order=False), count_T)


def test_no_rows() -> None:
    nothing: Any = SimpleNamespace(ts_ns_N=np.empty(0, np.int64), n_rows=0)
    for in_order in (True, False):
        assert len(rows_per_snapshot(nothing, np.empty(0, np.int64), in_order=in_order)) == 0
