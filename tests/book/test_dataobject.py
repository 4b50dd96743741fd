"""Tall rows to the data object: placing, refusing, dropping, counting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bml.book.dataobject import build
from bml.types import ASK_PX, ASK_QTY, BID_PX, BID_QTY, NS_PER_S, DataError, DepthRows, Flag
from tests.book.book_days import MIDNIGHT, rows_of, shuffled, times, walk


def test_clean_rows_in_any_order_give_the_book() -> None:
    book = walk(20)
    rows = rows_of(times(20), book)
    for given_rows in (rows, shuffled(rows)):
        obj = build(given_rows, levels=6)
        np.testing.assert_array_equal(obj.book_TLF, book)
        np.testing.assert_array_equal(obj.ts_ns_T, times(20))
        assert obj.book_TLF.dtype == np.float64
        assert obj.flag_T.dtype == np.uint16
        assert not obj.flag_T.any()
        assert obj.quality.events == ()
        assert {k: v for k, v in obj.quality.counts.items() if v} == {"n_rows": 120, "n_snapshots": 20}


def test_levels_beyond_the_book_are_counted_and_missing_ones_are_nan() -> None:
    book = walk(5)
    cut = build(rows_of(times(5), book), levels=4)
    np.testing.assert_array_equal(cut.book_TLF, book[:, :4])
    assert cut.quality.counts["n_deep"] == 10
    padded = build(rows_of(times(5), book), levels=9)
    assert np.isnan(padded.book_TLF[:, 6:]).all()


def test_no_rows_is_an_object_without_snapshots() -> None:
    rows = rows_of(times(0), walk(0), sequence_N=np.empty(0, np.int64))
    obj = build(rows, levels=6)
    assert obj.book_TLF.shape == (0, 6, 4)
    assert obj.quality.counts["n_rows"] == 0


BREAKS = [
    (BID_QTY, -3.0, "negative bid quantity -3.0 at level 4"),
    (ASK_PX, -1.0, "negative ask price -1.0 at level 4"),
    (BID_PX, 0.0, "zero bid price 0.0 at level 4"),
    (ASK_QTY, np.inf, "infinite ask quantity at level 4"),
    (BID_PX, -np.inf, "infinite bid price at level 4"),
    (ASK_PX, np.nan, "ask price is missing beside quantity"),
    (BID_QTY, np.nan, "bid quantity is missing beside price"),
    (BID_PX, -5e-324, "negative bid price"),
]


@pytest.mark.parametrize(("field", "value", "words"), BREAKS, ids=[b[2][:24] for b in BREAKS])
def test_broken_cells(field: int, value: float, words: str) -> None:
    book = walk(20)
    book[7, 3, field] = value
    book[8, 2, field] = value
    book[15, 5, field] = value
    rows = rows_of(times(20), book)
    with pytest.raises(DataError) as caught:
        build(rows, levels=6)
    message = str(caught.value)
    assert message.startswith("BTCUSDT 2024-01-15T01:10:00Z: ")
    assert words in message
    assert "(2 more like it); set data_object.bad_rows: drop to drop and count such cells" in message
    assert "\n" not in message

    obj = build(rows, levels=6, bad_rows="drop")
    side = slice(0, 2) if field < 2 else slice(2, 4)
    expected = walk(20)
    for t, level in ((7, 3), (8, 2), (15, 5)):
        expected[t, level, side] = np.nan
    np.testing.assert_array_equal(obj.book_TLF, expected)
    assert np.flatnonzero(obj.flag_T).tolist() == [7, 8, 15]
    assert set(obj.flag_T[[7, 8, 15]].tolist()) == {int(Flag.BROKEN)}
    assert obj.quality.counts["n_broken"] == 3
    first, second = obj.quality.events
    assert (first.flag, first.start_ns, first.stop_ns, first.count) == (Flag.BROKEN, times(20)[7], times(20)[8], 2)
    assert (second.start_ns, second.detail) == (times(20)[15], "1 broken rows dropped")


def test_zero_quantity_and_an_absent_side_are_data() -> None:
    book = walk(3)
    book[0, 0, BID_QTY] = 0.0
    book[1, 2, BID_QTY] = -0.0
    book[1, 5, 2:] = np.nan
    obj = build(rows_of(times(3), book), levels=6)
    np.testing.assert_array_equal(obj.book_TLF, book)
    assert obj.quality.counts["n_broken"] == 0


def sided(px: list[float], qty: list[float], level: list[int], side: list[int]) -> DepthRows:
    n = len(px)
    return replace(
        rows_of(times(1), walk(1)),
        ts_ns_N=np.full(n, MIDNIGHT + NS_PER_S // 2),
        level_N=np.array(level, np.int32),
        side_N=np.array(side, np.int8),
        columns=(np.array(px), np.array(qty)),
    )


def test_sided_rows_without_price_and_quantity_are_broken() -> None:
    rows = sided([99.0, np.nan, 101.0, np.nan], [1.0, np.nan, 2.0, np.nan], [1, 2, 1, 9], [0, 0, 1, 1])
    with pytest.raises(DataError, match=r"15T00:00:00\.5Z: a row without bid price and quantity at level 2 \(0 more"):
        build(rows, levels=6)
    obj = build(rows, levels=6, bad_rows="drop")
    assert obj.quality.counts["n_broken"] == 1
    assert obj.quality.counts["n_deep"] == 1
    assert obj.flag_T.tolist() == [int(Flag.BROKEN)]
    assert obj.book_TLF[0, 0].tolist() == [99.0, 1.0, 101.0, 2.0]


@given(st.lists(st.sampled_from([1.0, 2.5, 0.0, -1.0, np.nan, np.inf, -np.inf]), min_size=24, max_size=24))
def test_what_is_broken_against_the_plain_rule(values: list[float]) -> None:
    book = np.array(values).reshape(2, 3, 4)
    expected, count = book.copy(), [0, 0]
    for t in range(2):
        for level in range(3):
            for side in (0, 2):
                px, qty = book[t, level, side : side + 2]
                absent = np.isnan(px) and np.isnan(qty)
                if not absent and not (0 < px < np.inf and 0 <= qty < np.inf):
                    expected[t, level, side : side + 2] = np.nan
                    count[t] += 1
    obj = build(rows_of(times(2), book), levels=3, bad_rows="drop")
    np.testing.assert_array_equal(obj.book_TLF, expected)
    assert obj.quality.counts["n_broken"] == sum(count)
    assert (obj.flag_T != 0).tolist() == [c > 0 for c in count]


def doubled(rows: DepthRows, extra: float) -> DepthRows:
    """The first six rows once more, with ``extra`` added to the bid quantity."""
    again = tuple(x[:6] + (extra if f == BID_QTY else 0.0) for f, x in enumerate(rows.columns))
    return replace(
        rows,
        ts_ns_N=np.concatenate([rows.ts_ns_N, rows.ts_ns_N[:6]]),
        level_N=np.concatenate([rows.level_N, rows.level_N[:6]]),
        columns=tuple(np.concatenate(pair) for pair in zip(rows.columns, again, strict=True)),
    )


def test_duplicates() -> None:
    rows = rows_of(times(4), walk(4))
    same = build(doubled(rows, 0.0), levels=6)
    assert same.quality.counts["n_duplicate"] == 6
    assert same.flag_T.tolist() == [int(Flag.DUPLICATE), 0, 0, 0]
    assert same.quality.events[0].detail == "6 surplus rows"

    with pytest.raises(DataError, match=r"^BTCUSDT 2024-01-15T00:00:00Z: row \d+ repeats .*data_object.duplicates"):
        build(doubled(rows, 1.0), levels=6)
    last = build(doubled(rows, 1.0), levels=6, duplicates="last")
    np.testing.assert_array_equal(last.book_TLF[0, :, BID_QTY], walk(4)[0, :, BID_QTY] + 1.0)
    assert last.quality.counts["n_conflict"] == 6


def test_a_larger_batch_settles_duplicates() -> None:
    rows = doubled(rows_of(times(4), walk(4)), 1.0)
    batch = np.zeros(rows.n_rows, np.int64)
    batch[:6] = 7
    obj = build(replace(rows, batch_N=batch), levels=6)
    np.testing.assert_array_equal(obj.book_TLF, walk(4))


def test_a_level_below_one_is_refused_with_its_time() -> None:
    rows = rows_of(times(2), walk(2))
    with pytest.raises(DataError, match=r"^BTCUSDT 2024-01-15T00:00:00Z: level 0 at row 0"):
        build(replace(rows, level_N=rows.level_N - np.int32(1)), levels=6)


def test_time_that_goes_back() -> None:
    ts = times(4)[[0, 2, 1, 3]]
    rows = rows_of(ts, walk(4), ordered=True)
    with pytest.raises(DataError) as caught:
        build(rows, levels=6)
    assert "at row 12, from 2024-01-15T00:20:00Z to 2024-01-15T00:10:00Z (0 more like it)" in str(caught.value)
    obj = build(rows, levels=6, monotonic_time=False)
    assert obj.quality.counts["n_time_back"] == 1
    assert obj.quality.events[0].flag == Flag.BACKWARDS
    assert np.all(np.diff(obj.ts_ns_T) > 0)
    assert build(replace(rows, ordered=False), levels=6).quality.counts["n_time_back"] == 0


def test_rows_outside_the_range_are_refused() -> None:
    rows = rows_of(times(3) // 1000, walk(3))
    with pytest.raises(DataError, match="unit of the source's time column"):
        build(rows, levels=6)


@pytest.mark.parametrize("mixed", [False, True])
def test_sequence_numbers(mixed: bool) -> None:
    number = np.array([10, 11, -1, 9, 9, 12, 11, 13])
    rows = rows_of(times(8), walk(8), sequence_N=np.repeat(number, 6))
    obj = build(shuffled(rows) if mixed else rows, levels=6)
    assert obj.sequence_T is not None
    assert obj.sequence_T.tolist() == number.tolist()
    assert np.flatnonzero(obj.flag_T & Flag.BACKWARDS).tolist() == [3, 6]
    assert obj.quality.counts["n_backwards"] == 2
    assert [e.detail for e in obj.quality.events] == ["sequence from 11 to 9", "sequence from 12 to 11"]


def test_the_largest_sequence_number_of_a_snapshot_counts() -> None:
    sequence = np.repeat(np.array([5, 6]), 6)
    sequence[2] = 8
    obj = build(rows_of(times(2), walk(2), sequence_N=sequence), levels=6)
    assert obj.sequence_T is not None
    assert obj.sequence_T.tolist() == [8, 6]
