"""The grid: what each row holds, how old it is, and how it is flagged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bml.book.align import to_grid
from bml.types import ASK_PX, BID_PX, NS_PER_DAY, NS_PER_S, AlignedDay, ConfigError, DataError, Flag
from tests.book.book_days import DAY, MIDNIGHT, context, object_of, times, walk

CTX = context()  # every 600 s
MS = 1_000_000


def seconds(*values: float) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return MIDNIGHT + np.array([round(v * NS_PER_S) for v in values], dtype=np.int64)


def test_snapshots_on_the_grid_are_taken_as_they_are() -> None:
    book = walk(144)
    day = to_grid(object_of(times(144), book), CTX)
    np.testing.assert_array_equal(day.book_TLF, book)
    np.testing.assert_array_equal(day.grid_ns_T, times(144))
    np.testing.assert_array_equal(day.mid_T, (book[:, 0, BID_PX] + book[:, 0, ASK_PX]) / 2)
    assert not day.flag_T.any()
    assert not day.age_ms_T.any()
    assert day.age_ms_T.dtype == np.int32
    assert (day.symbol, day.day, day.units, day.cadence_ns) == ("BTCUSDT", DAY, "raw", 600 * NS_PER_S)
    assert {k: v for k, v in day.quality.counts.items() if v} == {}


def test_filled_and_gap_exactly() -> None:
    # grid rows 0, 600, 1200, ...: what each sees, with max_gap_s 1500 and a cadence of 600
    ts = seconds(-500, 0.001, 599.999, 600, 1799.5, 4200)
    day = to_grid(object_of(ts, walk(6)), CTX, max_gap_s=1500, tolerance_ms=500)
    #      row:    0        600    1200    1800   2400      3000        3600     4200
    ages = [500_000, 0, 600_000, 500, 600_500, 1_200_500, -1, 0]
    assert day.age_ms_T[:8].tolist() == ages
    F, G = int(Flag.FILLED), int(Flag.GAP)
    assert day.flag_T[:8].tolist() == [0, 0, F, 0, F, F, G, 0]
    assert day.flag_T[8:11].tolist() == [F, F, G]
    assert (day.flag_T[11:] == G).all()
    gap = day.flag_T == G
    assert np.isnan(day.book_TLF[gap]).all()
    assert np.isnan(day.mid_T[gap]).all()
    assert (day.age_ms_T[gap] == -1).all()
    counts = day.quality.counts
    assert counts["n_filled"] == 5
    assert counts["n_late"] == 3  # 600 s, 600.5 s and 600 s old
    assert counts["n_gap"] == gap.sum()
    first, second = [e for e in day.quality.events if e.flag == Flag.GAP]
    assert (first.start_ns, first.stop_ns, first.count) == (seconds(3600)[0], seconds(3600)[0], 1)
    assert (second.start_ns, second.count) == (seconds(6000)[0], int(gap.sum()) - 1)


def test_the_limit_is_inclusive_to_the_nanosecond() -> None:
    for late, expected in ((0, Flag.FILLED), (1, Flag.GAP)):
        ts = np.array([MIDNIGHT + 600 * NS_PER_S - late])
        day = to_grid(object_of(ts, walk(1)), CTX, max_gap_s=1200)
        assert day.flag_T[3] == expected


@given(st.lists(st.integers(-12_000, 864_000), min_size=0, max_size=80, unique=True), st.integers(1, 4000))
def test_against_the_plain_rule(tenths: list[int], max_gap_s: int) -> None:
    ts = MIDNIGHT + np.sort(np.array(tenths, dtype=np.int64)) * 100 * MS
    book = walk(len(ts), levels=2)
    day = to_grid(object_of(ts, book), CTX, max_gap_s=max_gap_s)
    previous = max((t for t in range(len(ts)) if ts[t] <= MIDNIGHT - 600 * NS_PER_S), default=-1)
    for k, g in enumerate(day.grid_ns_T.tolist()):
        last = max((t for t in range(len(ts)) if ts[t] <= g), default=-1)
        if last < 0 or g - ts[last] > max_gap_s * NS_PER_S:
            assert day.flag_T[k] == Flag.GAP
            assert np.isnan(day.book_TLF[k]).all()
        else:
            np.testing.assert_array_equal(day.book_TLF[k], book[last])
            assert day.age_ms_T[k] == (g - int(ts[last])) // MS
            assert day.flag_T[k] == (Flag.FILLED if last == previous else 0)
        previous = last


def test_flags_of_the_snapshot_in_use_are_carried() -> None:
    flags = np.array([Flag.STUCK, Flag.CROSSED | Flag.BACKWARDS, 0, Flag.FILLED], np.uint16)
    day = to_grid(object_of(seconds(0, 500, 1200, 1800), walk(4), flag_T=flags), CTX, max_gap_s=1500)
    carried = int(Flag.CROSSED | Flag.BACKWARDS)
    assert day.flag_T[:5].tolist() == [int(Flag.STUCK), carried, 0, 0, int(Flag.FILLED)]


def test_an_absent_side_has_no_mid() -> None:
    book = walk(3)
    book[1, :, :2] = np.nan
    day = to_grid(object_of(times(3), book), CTX)
    assert day.flag_T[1] == Flag.ABSENT
    assert np.isnan(day.mid_T[1])
    np.testing.assert_array_equal(day.book_TLF[1], book[1])


def test_phase_and_look_back() -> None:
    ctx = context(phase_ms=250_000)
    day = to_grid(object_of(seconds(-900, 249, 250.5), walk(3)), ctx, max_gap_s=1200)
    assert day.grid_ns_T[0] == MIDNIGHT + 250 * NS_PER_S
    assert len(day.grid_ns_T) == 144
    assert day.age_ms_T[:2].tolist() == [1000, 599_500]
    assert not day.flag_T[:2].any()


def test_an_empty_object_is_a_day_of_gaps() -> None:
    day = to_grid(object_of(times(0), walk(0)), CTX)
    assert (day.flag_T == Flag.GAP).all()
    assert day.book_TLF.shape == (144, 6, 4)


@pytest.mark.parametrize("cadence_s", [7.0, 86_401.0, 0.0, -10.0, 1e-10])
def test_a_cadence_that_does_not_divide_a_day(cadence_s: float) -> None:
    with pytest.raises(ConfigError, match=r"data\.cadence_s.*does not divide a day"):
        to_grid(object_of(times(3), walk(3)), context(cadence_s=cadence_s))


@pytest.mark.parametrize("cadence_s", [0.5, 1.0, 86_400.0])
def test_cadences_that_do(cadence_s: float) -> None:
    day = to_grid(object_of(times(3), walk(3, levels=1)), context(cadence_s=cadence_s))
    assert len(day.grid_ns_T) * day.cadence_ns == NS_PER_DAY


def test_what_does_not_fit_the_day_is_refused() -> None:
    obj = object_of(times(3), walk(3))
    with pytest.raises(ConfigError, match="phase_ms"):
        to_grid(obj, context(phase_ms=600_000))
    with pytest.raises(ConfigError, match="phase_ms"):
        to_grid(obj, context(phase_ms=-1))
    with pytest.raises(DataError, match="of ETHUSDT"):
        to_grid(replace(obj, symbol="ETHUSDT"), CTX)
    with pytest.raises(DataError, match="does not cover the day"):
        to_grid(replace(obj, stop_ns=MIDNIGHT + NS_PER_DAY // 2), CTX)
    for wrong in ({"max_gap_s": 0.0}, {"max_gap_s": np.nan}, {"tolerance_ms": -1.0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            to_grid(obj, CTX, **wrong)


def test_days_meet_at_midnight_without_a_seam() -> None:
    """The first row of a day is flagged as the row after the last one of the day before would be."""
    ts = seconds(-300.0)
    assert to_grid(object_of(ts, walk(1)), CTX, max_gap_s=2000).flag_T[:2].tolist() == [0, int(Flag.FILLED)]
    ts = seconds(-600.0)
    day: AlignedDay = to_grid(object_of(ts, walk(1)), CTX, max_gap_s=2000)
    assert day.flag_T[0] == Flag.FILLED
