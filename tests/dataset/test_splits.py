"""Blocks of time against a brute-force oracle; the training span against the bounds."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interval_cases import index_of

from bml.dataset.splits import block_bounds, day_start_ns, halves, split, split_spec, train_span
from bml.types import NS_PER_DAY, NS_PER_S, SPLITS, ConfigError, Fold

DAY = dt.date(2024, 1, 1)


def kept_of(fold: Fold) -> list[list[int]]:
    return [getattr(fold, name).tolist() for name in SPLITS]


cases = given(
    anchors=st.lists(st.integers(0, 400), max_size=60),
    horizons=st.lists(st.integers(1, 130), min_size=60, max_size=60),
    cuts=st.lists(st.integers(0, 400), min_size=8, max_size=8),
    embargo=st.integers(0, 60),
)


@cases
def test_split_equals_the_pairwise_oracle(
    anchors: list[int], horizons: list[int], cuts: list[int], embargo: int
) -> None:
    check(anchors, horizons, cuts, embargo)


@pytest.mark.slow
@cases
@settings(max_examples=10_000, deadline=None)
def test_ten_thousand_cases(anchors: list[int], horizons: list[int], cuts: list[int], embargo: int) -> None:
    check(anchors, horizons, cuts, embargo)


def check(anchors: list[int], horizons: list[int], cuts: list[int], embargo: int) -> None:
    """Irregular anchors, horizons and bounds, with gaps between blocks and empty blocks among them."""
    anchor = np.sort(np.array(anchors, dtype=np.int64))
    stop = anchor + np.array(horizons[: len(anchors)], dtype=np.int64)
    edges = sorted(cuts)
    bounds = [(edges[2 * k], edges[2 * k + 1]) for k in range(4)]
    fold = split(index_of(anchor, stop), bounds, embargo_ns=embargo)
    kept = kept_of(fold)

    assert len({row for rows in kept for row in rows}) == sum(map(len, kept))
    purged = 0
    for k, (low, high) in enumerate(bounds):
        later = [b for b in bounds[k + 1 :] if b[0] < b[1]]
        inside = [n for n in range(len(anchor)) if low <= anchor[n] < high]
        clean = [n for n in inside if not later or stop[n] + embargo <= later[0][0]]
        assert kept[k] == clean
        purged += len(inside) - len(clean)
        for later_rows in kept[k + 1 :]:
            for i in kept[k]:
                for j in later_rows:
                    assert stop[i] + embargo <= anchor[j]  # known before, so the intervals cannot overlap
                    assert max(anchor[i], anchor[j]) >= min(stop[i], stop[j])
    assert fold.n_purged == purged


def test_no_label_crosses_the_left_boundary_of_a_later_block() -> None:
    """10 s anchors, 1800 s labels: cutting by anchor alone leaves 180 labels that reach the boundary."""
    cadence, horizon, cut = 10 * NS_PER_S, 1800 * NS_PER_S, 5000 * 10 * NS_PER_S
    anchor = np.arange(10_000, dtype=np.int64) * cadence
    index = index_of(anchor, anchor + horizon)
    by_anchor = (anchor < cut) & (anchor + horizon >= cut)
    assert by_anchor.sum() == 180
    bounds = [(0, cut), (cut, cut), (cut, cut), (cut, 10_000 * cadence)]
    fold = split(index, bounds)
    assert (index.label_stop_ns_N[fold.train] > anchor[fold.test].min()).sum() == 0
    assert fold.n_purged == 179  # the one that ends on the boundary is known there
    assert anchor[fold.train].max() == cut - horizon
    embargoed = split(index, bounds, embargo_ns=cadence)
    assert embargoed.n_purged == 180
    assert embargoed.test.tolist() == fold.test.tolist()


def test_nothing_reaches_what_is_sealed() -> None:
    """The last block is purged too, and no block may lie behind the seal."""
    index = index_of(np.arange(0, 40, 5), np.arange(0, 40, 5) + 7)
    bounds = [(0, 10), (10, 20), (20, 30), (30, 40)]
    assert split(index, bounds).test.tolist() == [6, 7]
    assert split(index, bounds, sealed_ns=40).test.tolist() == [6]
    assert split(index, bounds, sealed_ns=40, embargo_ns=4).test.tolist() == []
    assert split(index, bounds, sealed_ns=42).n_purged == split(index, bounds).n_purged == 3
    with pytest.raises(ValueError, match="past what is sealed"):
        split(index, bounds, sealed_ns=39)


@given(
    anchors=st.lists(st.integers(0, 100), max_size=40),
    horizons=st.lists(st.integers(1, 60), min_size=40, max_size=40),
    embargo=st.integers(0, 20),
    stop=st.integers(1, 101),
)
def test_halves_are_apart_and_lose_no_more_than_that_takes(
    anchors: list[int], horizons: list[int], embargo: int, stop: int
) -> None:
    anchor = np.sort(np.array([a for a in anchors if a < stop], dtype=np.int64))
    index = index_of(anchor, anchor + np.array(horizons[: len(anchor)], dtype=np.int64))
    first, second = halves(index, np.arange(len(anchor)), (0, stop), embargo_ns=embargo)
    middle = stop // 2
    assert second.tolist() == [n for n, a in enumerate(anchor) if a >= middle]
    assert first.tolist() == [
        n for n, a in enumerate(anchor) if a < middle and index.label_stop_ns_N[n] + embargo <= middle
    ]


@pytest.mark.parametrize("bounds", [[(0, 5), (4, 6), (6, 7), (7, 9)], [(0, 5), (5, 3), (6, 7), (7, 9)], [(0, 5)]])
def test_split_refuses_bounds_out_of_order(bounds: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="split:"):
        split(index_of(np.arange(3), np.arange(3) + 1), bounds)


def test_bounds_tile_the_data_and_follow_from_the_configuration_alone() -> None:
    bounds = block_bounds(DAY, DAY + dt.timedelta(days=10), split_spec())
    assert bounds[0] == (day_start_ns(DAY), day_start_ns(DAY) + 6 * NS_PER_DAY)
    assert [high for _, high in bounds[:-1]] == [low for low, _ in bounds[1:]]
    assert bounds[-1][1] == day_start_ns(DAY) + 10 * NS_PER_DAY


def test_starts_are_days() -> None:
    starts = {"early_stop": "2024-01-04", "calibrate": dt.date(2024, 1, 5), "test": "2024-01-07"}
    bounds = block_bounds(DAY, dt.date(2024, 1, 9), split_spec({"starts": starts}))
    assert [(high - low) // NS_PER_DAY for low, high in bounds] == [3, 1, 2, 2]
    assert train_span(DAY, dt.date(2024, 1, 9), {"starts": starts}) == (DAY, dt.date(2024, 1, 4))


@given(st.integers(1, 400), st.floats(0.05, 0.9))
def test_train_span_is_the_whole_days_of_the_training_block(n_days: int, share: float) -> None:
    rest = (1 - share) / 3
    params = {"fractions": {"train": share, "early_stop": rest, "calibrate": rest, "test": 1 - share - 2 * rest}}
    stop = DAY + dt.timedelta(days=n_days)
    (low, high), *_ = block_bounds(DAY, stop, split_spec(params))
    if high - low < NS_PER_DAY:
        with pytest.raises(ConfigError, match="whole day"):
            train_span(DAY, stop, params)
        return
    first, last = train_span(DAY, stop, params)
    assert first == DAY
    assert day_start_ns(last) <= high < day_start_ns(last + dt.timedelta(days=1))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"fraction": {}}, "did you mean 'fractions'"),
        ({"fractions": {"train": 0.5, "early_stop": 0.1, "calibrate": 0.1, "test": 0.2}}, "sum to 1"),
        ({"fractions": {"train": 0.9, "early_stop": 0.1, "calibrate": 0.0, "test": 0.0}}, "above 0"),
        ({"fractions": {"train": 1}}, "missing early_stop"),
        ({"fractions": {"train": 0.5, "early_stp": 0.1}}, "did you mean 'early_stop'"),
        ({"fractions": {}, "starts": {}}, "not both"),
        ({"starts": {"early_stop": "January", "calibrate": "x", "test": "y"}}, "date"),
        ({"embargo_s": -1}, "0 or more"),
    ],
)
def test_bad_splits_are_refused(params: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        split_spec(params)


def test_a_block_without_time_is_refused() -> None:
    starts = {"early_stop": "2024-01-04", "calibrate": "2024-01-04", "test": "2024-01-07"}
    with pytest.raises(ConfigError, match="'early_stop'"):
        block_bounds(DAY, dt.date(2024, 1, 9), split_spec({"starts": starts}))
