"""Combinatorial splits: every choice of groups, purged on both sides of each, and whole paths."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interval_cases import index_of, indices, witnesses

from bml.dataset.cpcv import cpcv, paths, time_groups
from bml.types import GateError, SampleIndex

SIZES = st.sampled_from([(2, 1), (4, 1), (4, 2), (5, 3), (6, 2)])


def check(index: SampleIndex, n_groups: int, k_test: int, embargo: int) -> None:
    rows = np.arange(len(index))
    if np.unique(index.anchor_ns_N).shape[0] < n_groups:
        with pytest.raises(GateError, match="fewer groups"):
            cpcv(index, rows, n_groups=n_groups, k_test=k_test)
        return
    groups = [part.tolist() for part in time_groups(index, rows, n_groups)]
    assert [row for group in groups for row in group] == rows.tolist()
    expected = []
    for chosen in combinations(range(n_groups), k_test):
        test = [row for g in chosen for row in groups[g]]
        rest = [row for row in rows.tolist() if row not in test]
        known = witnesses(index, rest, test, embargo)
        expected.append((chosen, [t for t in rest if t not in known], test, len(known)))
    if not all(train for _, train, _, _ in expected):
        with pytest.raises(GateError, match="no row is left to train on"):
            cpcv(index, rows, n_groups=n_groups, k_test=k_test, embargo_ns=embargo)
        return
    made = cpcv(index, rows, n_groups=n_groups, k_test=k_test, embargo_ns=embargo)
    assert [(one.groups, one.train.tolist(), one.test.tolist(), one.n_purged) for one in made] == expected


@given(index=indices(), sizes=SIZES, embargo=st.sampled_from([0, 0, 3]))
@settings(max_examples=100, deadline=None)
def test_every_split_equals_the_pairwise_oracle(index: SampleIndex, sizes: tuple[int, int], embargo: int) -> None:
    check(index, *sizes, embargo)


@pytest.mark.slow
@given(index=indices(max_size=14), sizes=SIZES, embargo=st.sampled_from([0, 0, 3]))
@settings(max_examples=10_000, deadline=None)
def test_ten_thousand_cases(index: SampleIndex, sizes: tuple[int, int], embargo: int) -> None:
    check(index, *sizes, embargo)


@pytest.mark.parametrize(("n_groups", "k_test"), [(2, 1), (5, 2), (6, 3), (7, 1)])
def test_paths_use_every_forecast_once(n_groups: int, k_test: int) -> None:
    table = paths(n_groups, k_test)
    assert table.shape == (comb(n_groups - 1, k_test - 1), n_groups)
    chosen = list(combinations(range(n_groups), k_test))
    used = [(int(number), g) for path in table for g, number in enumerate(path)]
    assert sorted(used) == sorted((number, g) for number, groups in enumerate(chosen) for g in groups)


def test_symbols_at_one_anchor_stay_together() -> None:
    anchor = np.repeat(np.arange(0, 100, 10), 3)
    index = index_of(anchor, anchor + 5, target=[0, 1, 2] * 10)
    for part in time_groups(index, np.arange(30)[::-1], 4):
        assert sorted(np.unique(index.anchor_ns_N[part], return_counts=True)[1]) in ([3, 3], [3, 3, 3])


def test_a_context_that_reaches_over_everything_is_told() -> None:
    anchor = np.arange(0, 100, 10)
    index = index_of(anchor, anchor + 5, context_start=anchor - 1_000)
    with pytest.raises(GateError, match="groups 0 as the test no row is left"):
        cpcv(index, np.arange(10), n_groups=5, k_test=1)


@pytest.mark.parametrize(("n_groups", "k_test"), [(4, 0), (4, 4), (1, 1)])
def test_impossible_choices_are_refused(n_groups: int, k_test: int) -> None:
    with pytest.raises(ValueError, match="1 <= k_test < n_groups"):
        paths(n_groups, k_test)
