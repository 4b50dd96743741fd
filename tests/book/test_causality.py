"""No row of a day depends on anything later than its own time, through every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bml.types import NS_PER_S, AlignedDay, DepthRows, Float64, Int64
from tests.book.book_days import MIDNIGHT, finished, finished_fused, rows_of, walk

CHECKS: dict[str, Any] = {"max_jump_bps": 30.0, "stuck_after_s": 30, "jump_memory_s": 900}


def step_by_step(rows: DepthRows) -> AlignedDay:
    return finished(rows, max_gap_s=1500, outliers="drop", **CHECKS)


def in_one_pass(rows: DepthRows) -> AlignedDay:
    return finished_fused(rows, max_gap_s=1500, outliers="keep", **CHECKS)


Way = Callable[[DepthRows], AlignedDay]
both_ways = pytest.mark.parametrize("way", [step_by_step, in_one_pass])


def messy(seed: int) -> tuple[Int64, Float64, Int64]:
    """Irregular times, and a book with every defect."""
    rng = np.random.default_rng(seed)
    ts = MIDNIGHT + np.sort(rng.choice(np.arange(-1200, 86_400), 180, replace=False)) * NS_PER_S
    book = walk(180, seed=seed)
    book[rng.integers(0, 180, 9), 0, 0] += 1.0  # crossed
    book[rng.integers(0, 180, 9), :, 2:] = np.nan  # absent
    book[rng.integers(0, 180, 5), 3, 1] = -1.0  # broken
    book[rng.integers(0, 180, 9), :, 0::2] *= 1.01  # outlier
    stuck = rng.integers(1, 180, 40)
    book[stuck] = book[stuck - 1]
    return ts, book, rng.integers(0, 50, 180)


def day_of(way: Way, ts: Int64, book: Float64, sequence: Int64) -> AlignedDay:
    return way(rows_of(ts, book, sequence_N=np.repeat(sequence, 6)))


def until(day: AlignedDay, ts_ns: int) -> list[bytes]:
    """Everything dated up to ``ts_ns``, as bytes."""
    past = day.grid_ns_T <= ts_ns
    assert day.coverage_TL2 is not None
    return [x[past].tobytes() for x in (day.book_TLF, day.mid_T, day.age_ms_T, day.flag_T, day.coverage_TL2)]


@both_ways
@given(seed=st.integers(0, 50), cut=st.integers(1, 179), how=st.sampled_from(["other", "gone", "more"]))
def test_the_future_changes_nothing(way: Way, seed: int, cut: int, how: str) -> None:
    ts, book, sequence = messy(seed)
    day = day_of(way, ts, book, sequence)
    if how == "other":
        book, sequence = book.copy(), sequence.copy()
        book[cut:] = walk(180, seed=seed + 1000)[cut:] * 1.3
        sequence[cut:] = 0
    elif how == "gone":
        ts, book, sequence = ts[:cut], book[:cut], sequence[:cut]
    else:
        later = np.setdiff1d(np.arange(int(ts[cut]), int(ts[-1]), 7 * NS_PER_S), ts)
        order = np.argsort(np.concatenate([ts, later]), kind="stable")
        book = np.concatenate([book, walk(len(later), seed=seed + 7)])[order]
        sequence = np.concatenate([sequence, np.full(len(later), 99)])[order]
        ts = np.concatenate([ts, later])[order]
    last_common = int(messy(seed)[0][cut]) - 1
    assert until(day_of(way, ts, book, sequence), last_common) == until(day, last_common)


@both_ways
def test_the_comparison_sees_a_peek(way: Way) -> None:
    """Snapshots dated 700 s before they were taken are a look ahead: the same comparison must find it."""
    ts = MIDNIGHT + 480 * np.arange(1, 180) * NS_PER_S
    book = walk(179)
    other = book.copy()
    other[90:] = walk(179, seed=9)[90:]
    early = ts - 700 * NS_PER_S
    moment = int(ts[90]) - 1
    sequence = np.arange(179)
    known, peeked = ([until(day_of(way, t, b, sequence), moment) for b in (book, other)] for t in (ts, early))
    assert known[0] == known[1]
    assert peeked[0] != peeked[1]


@both_ways
def test_row_order_is_no_information(way: Way) -> None:
    ts, book, sequence = messy(11)
    rows = rows_of(ts, book, sequence_N=np.repeat(sequence, 6))
    order = np.random.default_rng(0).permutation(rows.n_rows)
    mixed: DepthRows = replace(
        rows,
        ts_ns_N=rows.ts_ns_N[order],
        level_N=rows.level_N[order],
        columns=tuple(x[order] for x in rows.columns),
        sequence_N=np.repeat(sequence, 6)[order],
    )
    one, two = (way(r) for r in (rows, mixed))
    end = MIDNIGHT + 86_400 * NS_PER_S
    assert until(one, end) == until(two, end)
    assert one.quality == two.quality
