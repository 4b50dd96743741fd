"""Windows ahead of the test block, and slices after the end of training."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from dataset_market import SMALL, Market
from hypothesis import given, settings
from hypothesis import strategies as st
from interval_cases import index_of, indices

from bml.dataset.ageing import ageing_slices
from bml.dataset.folds import Window, window_fold, window_spec, windows
from bml.dataset.samples import book_windows
from bml.dataset.splits import block_bounds, day_start_ns, split_spec
from bml.types import NS_PER_DAY, NS_PER_S, SPLITS, ConfigError, GateError, SampleIndex

DAY = dt.date(2024, 1, 1)
SPEC = {"kind": "expanding", "n": 3, "train_days": 4, "step_days": 2}


def day(number: int) -> dt.date:
    return DAY + dt.timedelta(days=number)


def in_days(window: Window) -> list[tuple[float, float]]:
    zero = day_start_ns(DAY)
    return [((low - zero) / NS_PER_DAY, (high - zero) / NS_PER_DAY) for low, high in window.bounds_ns]


def test_expanding_windows_keep_the_first_day_and_rolling_ones_the_length() -> None:
    expanding = windows(DAY, day(20), window_spec(SPEC))
    assert [in_days(one) for one in expanding] == [
        [(0, 4), (4, 6), (6, 8), (8, 10)],
        [(0, 6), (6, 8), (8, 10), (10, 12)],
        [(0, 8), (8, 10), (10, 12), (12, 14)],
    ]
    rolling = windows(DAY, day(20), window_spec(SPEC | {"kind": "rolling", "block_days": 1}))
    assert [in_days(one) for one in rolling] == [
        [(0, 4), (4, 5), (5, 6), (6, 7)],
        [(2, 6), (6, 7), (7, 8), (8, 9)],
        [(4, 8), (8, 9), (9, 10), (10, 11)],
    ]


@given(
    kind=st.sampled_from(["expanding", "rolling"]),
    numbers=st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 5), st.integers(1, 4)),
    n_days=st.integers(8, 60),
    share=st.floats(0.05, 0.4),
)
def test_no_window_reaches_the_test_block(
    kind: str, numbers: tuple[int, int, int, int], n_days: int, share: float
) -> None:
    rest = (1 - share) / 3
    params = {"fractions": {"train": 1 - 2 * rest - share, "early_stop": rest, "calibrate": rest, "test": share}}
    given_spec = dict(zip(("n", "train_days", "step_days", "block_days"), numbers, strict=True), kind=kind)
    sealed_ns = block_bounds(DAY, day(n_days), split_spec(params))[-1][0]
    spec = window_spec(given_spec)
    try:
        made = windows(DAY, day(n_days), spec, params)
    except ConfigError:
        assert day_start_ns(day(spec.days)) > sealed_ns
        return
    assert made[-1].bounds_ns[-1][1] <= sealed_ns
    assert day_start_ns(made[-1].stop) == day_start_ns(day(spec.days))
    assert all(low < high for one in made for low, high in one.bounds_ns)


@given(index=indices(), embargo=st.sampled_from([0, 5]), cuts=st.lists(st.integers(0, 120), min_size=5, max_size=5))
@settings(max_examples=300)
def test_a_fold_of_a_window_has_no_overlap_and_ends_inside_it(
    index: SampleIndex, embargo: int, cuts: list[int]
) -> None:
    """The rule of blocks, with the end of the window as one more start; days are nanoseconds here."""
    edges = np.unique(cuts)
    if edges.shape[0] < 5:
        return

    class Tiny(Window):
        @property
        def bounds_ns(self) -> tuple[tuple[int, int], ...]:
            return tuple((int(low), int(high)) for low, high in pairwise(edges))

    fold = window_fold(index, Tiny(start=DAY, starts=(DAY, DAY, DAY), stop=DAY, embargo_ns=embargo))
    for k, name in enumerate(SPLITS):
        inside = [n for n, at in enumerate(index.anchor_ns_N) if edges[k] <= at < edges[k + 1]]
        assert getattr(fold, name).tolist() == [n for n in inside if index.label_stop_ns_N[n] + embargo <= edges[k + 1]]


def test_a_dataset_of_a_window_has_the_rows_of_its_fold(tmp_path: Path) -> None:
    """Built anew from the window's own days: the same blocks, and nothing fitted on a day after its training."""
    market = Market(n_days=10)
    whole = market.dataset(tmp_path)
    (window,) = windows(DAY, day(10), window_spec({"kind": "expanding", "n": 1, "train_days": 4, "step_days": 1}))
    fold = window_fold(whole.index, window)
    cfg = market.config()
    cfg = cfg.model_copy(update={"data": cfg.data.model_copy(update={"stop": window.stop})})
    own = book_windows(cfg, whole.store, **(SMALL | {"split": window.split}))
    for name in SPLITS:
        rows, theirs = getattr(fold, name), getattr(own.fold, name)
        # the row at the window's last midnight is the next day's
        rows = rows[whole.index.label_stop_ns_N[rows] < window.bounds_ns[-1][1]]
        assert rows.shape[0] > 0
        assert whole.index.anchor_ns_N[rows].tolist() == own.index.anchor_ns_N[theirs].tolist()
    assert own.fold.bounds_ns == window.bounds_ns
    assert own.calendar != whole.calendar  # what is fitted on train is fitted on less


def test_windows_have_the_embargo_of_the_dataset() -> None:
    """Whoever asks for time between blocks gets it in the windows, too, by rows and by a dataset of their own."""
    anchor = np.arange(0, 20 * 24, dtype=np.int64) * (NS_PER_DAY // 24) + day_start_ns(DAY)
    index = index_of(anchor, anchor + NS_PER_DAY // 24)
    spec = window_spec({"kind": "rolling", "n": 2, "train_days": 4, "step_days": 1})
    for window in windows(DAY, day(20), spec, {"embargo_s": 7200}):
        assert split_spec(window.split).embargo_ns == 7200 * NS_PER_S
        fold = window_fold(index, window)
        assert fold.embargo_ns == 7200 * NS_PER_S
        assert fold.n_purged == 4 * 2
        assert index.label_stop_ns_N[fold.train].max() + 7200 * NS_PER_S == window.bounds_ns[1][0]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "windows: missing kind, n, train_days, step_days"),
        (SPEC | {"kind": "growing"}, "windows.kind: expected expanding or rolling, got 'growing'"),
        (SPEC | {"n": 0}, "windows.n: expected a whole number, 1 or more, got 0"),
        (SPEC | {"step_days": 1.5}, "windows.step_days: expected a whole number"),
        (SPEC | {"block_days": True}, "windows.block_days: expected a whole number"),
        (SPEC | {"step": 3}, "did you mean 'step_days'"),
    ],
)
def test_bad_windows_are_refused(params: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        window_spec(params)


def test_windows_that_do_not_fit_are_told_with_the_days_there_are() -> None:
    with pytest.raises(ConfigError, match="3 windows take 14 days, 8 whole days lie between 2024-01-01 and the test"):
        windows(DAY, day(10), window_spec(SPEC))


@given(index=indices(), n=st.integers(1, 3), width=st.integers(1, 60), learnt=st.integers(1, 24))
@settings(max_examples=300)
def test_slices_lie_ahead_of_all_that_was_learnt(index: SampleIndex, n: int, width: int, learnt: int) -> None:
    learnt_rows, rows = np.arange(len(index))[:learnt], np.arange(len(index))
    end = max(index.label_stop_ns_N[learnt_rows].tolist())
    expected = [
        [row for row in rows.tolist() if end + k * width <= index.anchor_ns_N[row] < end + (k + 1) * width]
        for k in range(n)
    ]
    if not all(expected):
        with pytest.raises(GateError, match="take fewer or longer slices"):
            ageing_slices(index, learnt_rows, rows, slice_days=width / NS_PER_DAY, n=n)
        return
    made = ageing_slices(index, learnt_rows, rows, slice_days=width / NS_PER_DAY, n=n)
    assert [one.rows.tolist() for one in made] == expected
    assert [(one.start_ns, one.stop_ns) for one in made] == [(end + k * width, end + (k + 1) * width) for k in range(n)]
    for one in made:
        for row in one.rows:
            assert all(index.label_stop_ns_N[t] <= index.anchor_ns_N[row] for t in learnt_rows)


def test_ages_are_days_after_the_last_known_label() -> None:
    anchor = np.arange(0, 10, dtype=np.int64) * NS_PER_DAY
    index = index_of(anchor, anchor + NS_PER_DAY // 2)
    made = ageing_slices(index, np.arange(3), np.arange(10)[::-1], slice_days=2, n=3)
    assert [one.age_days for one in made] == [(0, 2), (2, 4), (4, 6)]
    assert [one.rows.tolist() for one in made] == [[4, 3], [6, 5], [8, 7]]
    for options in ({"slice_days": 0, "n": 1}, {"slice_days": 1, "n": 0}):
        with pytest.raises(ValueError, match="ageing_slices"):
            ageing_slices(index, np.arange(3), np.arange(10), **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="after 0 learnt rows"):
        ageing_slices(index, np.arange(0), np.arange(10), slice_days=1, n=1)
