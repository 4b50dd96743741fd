"""Quality of raw snapshots: every rule against its plain definition, drops, events, counts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bml.book import defects
from bml.book.quality import check
from bml.types import (
    ASK_PX,
    BID_PX,
    BID_QTY,
    NS_PER_S,
    ConfigError,
    DataError,
    DataObject,
    Flag,
    Float64,
    QualityReport,
)
from tests.book.book_days import MIDNIGHT, context, object_of, times, walk

CTX = context(cadence_s=10)


def obj_of(book: Float64, step_s: float = 10.0, **other: object) -> DataObject:
    return object_of(times(len(book), step_s), book, **other)


def events(obj: DataObject, flag: Flag) -> list[tuple[float, float, int]]:
    """(start, stop) in seconds after midnight, and count, of one kind of event."""
    return [
        ((e.start_ns - MIDNIGHT) / NS_PER_S, (e.stop_ns - MIDNIGHT) / NS_PER_S, e.count)
        for e in obj.quality.events
        if e.flag == flag
    ]


def crossed_book() -> Float64:
    book = walk(30)
    for t in (4, 5, 9):
        book[t, 0, BID_PX] = book[t, 0, ASK_PX] + 0.5
    book[20, 0, BID_PX] = book[20, 0, ASK_PX]
    return book


def test_crossed_snapshots_are_dropped_and_listed() -> None:
    obj = obj_of(crossed_book(), sequence_T=np.arange(30))
    done = check(obj, CTX)
    kept = [t for t in range(30) if t not in (4, 5, 9)]
    np.testing.assert_array_equal(done.ts_ns_T, obj.ts_ns_T[kept])
    np.testing.assert_array_equal(done.book_TLF, obj.book_TLF[kept])
    assert done.sequence_T is not None
    assert done.sequence_T.tolist() == kept
    assert events(done, Flag.CROSSED) == [(40.0, 50.0, 2), (90.0, 90.0, 1)]
    assert events(done, Flag.LOCKED) == [(200.0, 200.0, 1)]
    assert done.quality.counts["n_crossed"] == 3
    assert done.quality.counts["n_dropped"] == 3
    assert done.quality.counts["n_locked"] == 1
    assert np.flatnonzero(done.flag_T & Flag.LOCKED).tolist() == [kept.index(20)]
    assert not np.any(done.flag_T & Flag.CROSSED)
    assert len(obj.ts_ns_T) == 30  # the input is left alone
    assert not obj.flag_T.any()


def test_crossed_kept_locked_dropped() -> None:
    done = check(obj_of(crossed_book()), CTX, crossed="keep", locked="drop")
    assert len(done.ts_ns_T) == 29
    assert np.flatnonzero(done.flag_T & Flag.CROSSED).tolist() == [4, 5, 9]
    assert done.quality.counts["n_dropped"] == 1


def test_crossed_refused() -> None:
    with pytest.raises(
        DataError, match=r"^BTCUSDT 2024-01-15T00:00:40Z: best bid .* \(2 more like it\); set .*crossed"
    ):
        check(obj_of(crossed_book()), CTX, crossed="error")


def test_a_book_that_is_crossed_throughout_is_refused() -> None:
    book = walk(10)[:, :, [2, 3, 0, 1]]
    with pytest.raises(DataError, match=r"every snapshot would be dropped \(10 of 10"):
        check(obj_of(book), CTX)
    assert len(check(obj_of(book[:9]), CTX).ts_ns_T) == 0


def test_a_clean_book_passes_unchanged() -> None:
    obj = obj_of(walk(8641 - 1))
    done = check(obj, CTX, max_jump_bps=1000)
    assert done.book_TLF is obj.book_TLF  # no copy
    assert not done.flag_T.any()
    assert done.quality.events == ()
    assert not any(done.quality.counts.values())


def test_absent_side() -> None:
    book = walk(5)
    book[2, :, :2] = np.nan
    book[3, 0, 2:] = np.nan
    book[3, :, :2] = np.nan
    done = check(obj_of(book), CTX)
    assert np.flatnonzero(done.flag_T & Flag.ABSENT).tolist() == [2, 3]
    assert [e.detail for e in done.quality.events if e.flag == Flag.ABSENT] == ["no bid"]
    assert events(done, Flag.ABSENT) == [(20.0, 30.0, 2)]


prices = st.lists(st.sampled_from([1.0, 2.0, 3.0, 4.0, np.nan]), min_size=16, max_size=16)


@given(prices)
def test_disorder_against_the_plain_rule(values: list[float]) -> None:
    book = np.ones((2, 4, 4))
    book[:, :, 0::2] = np.array(values).reshape(2, 4, 2)
    expected = []
    for t in range(2):
        bids = [p for p in book[t, :, BID_PX] if not np.isnan(p)]
        asks = [p for p in book[t, :, ASK_PX] if not np.isnan(p)]
        expected.append(
            any(b >= a for a, b in itertools.combinations(bids, 2))
            or any(b <= a for a, b in itertools.combinations(asks, 2))
        )
    assert defects.disorder(book).tolist() == expected
    for t in np.flatnonzero(expected).tolist():
        assert "is not behind the levels before it" in defects.worst_level(book)(t, t)


def test_disorder_is_flagged_with_its_level() -> None:
    book = walk(5)
    book[2, 3, ASK_PX] = book[2, 2, ASK_PX]
    done = check(obj_of(book), CTX)
    assert np.flatnonzero(done.flag_T & Flag.DISORDER).tolist() == [2]
    (event,) = done.quality.events[:1]
    assert event.detail.startswith("ask price")
    assert "at level 4" in event.detail


def test_stuck_books_nan_equal_to_nan() -> None:
    book = walk(12)
    book[:, 4:] = np.nan
    book[3] = book[2]
    book[6:11] = book[5]
    book[8, 3, BID_QTY] += 1.0  # a change far from the touch ends the run, and begins another
    done = check(obj_of(book), CTX, stuck_after_s=20, max_jump_bps=1000)
    assert np.flatnonzero(done.flag_T & Flag.STUCK).tolist() == [3, 6, 7, 10]
    assert done.quality.counts["n_stuck"] == 4
    # all repeats, then the run 50 s .. 70 s that is long enough
    assert events(done, Flag.STUCK) == [(30.0, 100.0, 4), (50.0, 70.0, 2)]


def test_repeats_of_the_sequence_number_are_told_apart() -> None:
    book = walk(5)
    book[1:4] = book[0]
    done = check(obj_of(book, sequence_T=np.array([7, 7, 8, 8, 9])), CTX)
    assert done.quality.counts["n_stuck"] == 3
    assert done.quality.counts["n_repeat"] == 2


def test_gaps_between_before_and_after_the_snapshots() -> None:
    ts = times(8640, 10.0)
    ts = ts[(ts < MIDNIGHT + 100 * NS_PER_S) | (ts > MIDNIGHT + 150 * NS_PER_S)][3:-50]
    done = check(object_of(ts, walk(len(ts))), CTX)
    assert events(done, Flag.GAP) == [(0.0, 30.0, 2), (90.0, 160.0, 6), (85890.0, 86400.0, 50)]
    assert done.quality.counts["n_gap_raw"] == 3
    assert [e.detail for e in done.quality.events][1] == "no snapshot for 70 s"
    wide = check(object_of(ts, walk(len(ts))), CTX, gap_after_s=71)
    assert len(events(wide, Flag.GAP)) == 2


@pytest.mark.parametrize("phase_ms", [0, 9000])
def test_a_hole_across_midnight_is_cut_there(phase_ms: int) -> None:
    """The day's part is the day's, however short, because the hole itself is long enough."""
    ts = np.concatenate((times(3, 4.0, -20.0), times(8640, 10.0, 8.0)[:-1]))
    done = check(object_of(ts, walk(len(ts))), context(cadence_s=10, phase_ms=phase_ms), gap_after_s=15)
    assert events(done, Flag.GAP) == [(0.0, 8.0, 1)]
    assert [e.detail for e in done.quality.events] == ["no snapshot for 20 s"]


def test_a_day_without_snapshots_is_one_gap() -> None:
    done = check(obj_of(walk(0)), CTX, max_jump_bps=5)
    assert events(done, Flag.GAP) == [(0.0, 86400.0, 8639)]


def plain_outliers(ts: list[int], mid: list[float], limit_bps: float, memory: int) -> list[bool]:
    good, out = -1, []
    for t, m in enumerate(mid):
        if np.isnan(m):
            out.append(False)
            continue
        jumps = good >= 0 and abs(m / mid[good] - 1) > limit_bps * 1e-4 and ts[t] - ts[good] <= memory
        out.append(bool(jumps))
        if not jumps:
            good = t
    return out


@given(
    st.lists(st.sampled_from([100.0, 100.4, 101.0, 103.0, 103.2, np.nan]), max_size=40),
    st.lists(st.integers(1, 30), min_size=40, max_size=40),
    st.sampled_from([20.0, 70.0, 150.0, 400.0]),
    st.sampled_from([1, 25, 60, 10**6]),
)
def test_outliers_against_the_plain_rule(mid: list[float], steps: list[int], limit: float, memory: int) -> None:
    ts = np.cumsum(steps[: len(mid)]).astype(np.int64)
    found = defects.outlier(ts, np.array(mid, np.float64), limit, memory)
    assert found.tolist() == plain_outliers(ts.tolist(), mid, limit, memory)


def test_outliers_are_flagged_and_dropped_by_option() -> None:
    book = walk(40)
    book[10:12, :, 0::2] *= 1.05
    book[30:, :, 0::2] *= 1.05  # a new level: believed after jump_memory_s
    obj = obj_of(book)
    kept = check(obj, CTX, max_jump_bps=300)
    expected = [10, 11, *range(30, 36)]
    assert np.flatnonzero(kept.flag_T & Flag.OUTLIER).tolist() == expected
    assert events(kept, Flag.OUTLIER) == [(100.0, 110.0, 2), (300.0, 350.0, 6)]
    dropped = check(obj, CTX, max_jump_bps=300, outliers="drop")
    assert len(dropped.ts_ns_T) == 40 - len(expected)
    assert not np.any(check(obj, CTX).flag_T & Flag.OUTLIER)


def test_earlier_flags_and_findings_stay() -> None:
    flags = np.zeros(30, np.uint16)
    flags[7] = Flag.BROKEN
    done = check(obj_of(walk(30), flag_T=flags, quality=QualityReport(symbol="x", counts={"n_broken": 1})), CTX)
    assert done.flag_T[7] == Flag.BROKEN
    assert done.quality.counts["n_broken"] == 1


@pytest.mark.parametrize("name", ["max_jump_bps", "jump_memory_s", "stuck_after_s", "gap_after_s"])
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_parameters_must_be_positive(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        check(obj_of(walk(3)), CTX, **{name: value})
