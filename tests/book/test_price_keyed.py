"""Books whose levels are ranked by price: broken rows neither move a good level nor go unseen, batches never mix."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bml.book.broken import broken_rows
from bml.book.dataobject import build
from bml.sources.levels import key_by_price, latest_batch, rank_by_price
from bml.types import NS_PER_S, DataError, DataObject, DepthRows, Flag, Float64
from tests.book.book_days import MIDNIGHT

BID, ASK = 0, 1
GOOD = [(BID, 100.0, 1.0), (BID, 99.0, 2.0), (ASK, 101.0, 3.0), (ASK, 102.0, 4.0)]
BROKEN = [
    (ASK, 0.0, 1.0, "zero ask price 0.0"),
    (ASK, -5.0, 1.0, "negative ask price -5.0"),
    (BID, np.inf, 1.0, "infinite bid price"),
    (ASK, -np.inf, 1.0, "infinite ask price"),
    (BID, 101.0, -1.0, "negative bid quantity -1.0"),
    (BID, 100.5, np.nan, "bid quantity is missing beside price 100.5"),
    (ASK, 100.5, np.inf, "infinite ask quantity"),
    (BID, 100.0, -1.0, "negative bid quantity -1.0"),  # at the price of a good level
    (ASK, np.nan, 5.0, "ask price is missing beside quantity 5.0"),
    (BID, np.nan, np.nan, "a row without bid price and quantity"),
]
IDS = [what[3] for what in BROKEN]


def keyed(cells: list[tuple[int, float, float]], depth: int | None = None, **more: object) -> DepthRows:
    n = len(cells)
    rows = DepthRows(
        symbol="BTC",
        start_ns=MIDNIGHT,
        stop_ns=MIDNIGHT + NS_PER_S,
        ts_ns_N=np.full(n, MIDNIGHT),
        level_N=np.zeros(n, np.int32),
        columns=(np.array([c[1] for c in cells]), np.array([c[2] for c in cells])),
        side_N=np.array([c[0] for c in cells], np.int8),
    )
    return key_by_price(replace(rows, **more), depth)  # type: ignore[arg-type]


def counts(obj: DataObject) -> dict[str, int]:
    return {name: n for name, n in obj.quality.counts.items() if n}


@pytest.mark.parametrize("levels", [1, 2, 3, 9])
@pytest.mark.parametrize(("side", "px", "qty", "words"), BROKEN, ids=IDS)
def test_a_broken_row_is_seen_and_moves_nothing(side: int, px: float, qty: float, words: str, levels: int) -> None:
    """Whether the book has room beside its good levels (3, 9), none (2) or is cut (1)."""
    clean = build(keyed(GOOD), levels=levels)
    for depth in (None, 1, 2):
        rows = keyed([(side, px, qty), *GOOD], depth)
        with pytest.raises(DataError, match=words):
            build(rows, levels=levels)
        obj = build(rows, levels=levels, bad_rows="drop")
        want = clean if depth is None else build(keyed(GOOD, depth), levels=levels)
        np.testing.assert_array_equal(obj.book_TLF, want.book_TLF)
        assert obj.flag_T.tolist() == [Flag.BROKEN]
        assert counts(obj) == counts(want) | {"n_rows": want.quality.counts["n_rows"] + 1, "n_broken": 1}


def test_broken_rows_are_counted_once_each() -> None:
    cells = [(side, px, qty) for side, px, qty, _ in BROKEN]
    for levels in (1, 2, 4, 20):
        obj = build(keyed([*cells, *cells, *GOOD]), levels=levels, bad_rows="drop")
        assert obj.quality.counts["n_broken"] == 2 * len(cells)
        assert obj.quality.counts["n_deep"] == (2 if levels == 1 else 0)
        assert obj.quality.counts["n_duplicate"] == 0
        (event,) = obj.quality.events
        assert event.detail == f"{2 * len(cells)} broken rows dropped"


def test_a_book_of_broken_rows_only_is_an_empty_snapshot() -> None:
    obj = build(keyed([(ASK, 0.0, 1.0), (ASK, np.nan, 1.0)]), levels=1, bad_rows="drop")
    assert np.isnan(obj.book_TLF).all()
    assert counts(obj) == {"n_rows": 2, "n_snapshots": 1, "n_broken": 2}


def test_where_the_source_numbers_the_levels_a_broken_deep_row_stays_deep() -> None:
    rows = replace(keyed([*GOOD, (ASK, np.nan, 5.0)]), price_keyed=False)
    assert counts(build(rows, levels=2)) == {"n_rows": 5, "n_snapshots": 1, "n_deep": 1}


def test_batches_of_one_time_do_not_mix() -> None:
    newer = [(BID, 101.5, 5.0), (ASK, 102.5, 6.0), (ASK, 103.0, 7.0)]
    batch_N = np.array([1] * 4 + [2] * 3)
    obj = build(keyed(GOOD + newer, batch_N=batch_N), levels=2)
    np.testing.assert_array_equal(obj.book_TLF[0], [[101.5, 5.0, 102.5, 6.0], [np.nan, np.nan, 103.0, 7.0]])
    assert counts(obj) == {"n_rows": 3, "n_snapshots": 1, "n_superseded": 4}
    merged = build(keyed(GOOD + newer), levels=9)
    assert merged.book_TLF[0, :3, 0].tolist() == [101.5, 100.0, 99.0]


def test_superseded_rows_of_the_look_back_belong_to_another_day() -> None:
    n = len(GOOD)
    rows = keyed(
        GOOD * 4,
        ts_ns_N=np.repeat([MIDNIGHT, MIDNIGHT + 1], 2 * n),
        batch_N=np.tile(np.repeat([1, 2], n), 2),
        counted_from_ns=MIDNIGHT + 1,
    )
    assert counts(build(rows, levels=2)) == {"n_rows": n, "n_snapshots": 1, "n_superseded": n}


def rank_oracle(rows: list[tuple[int, int, float, float]]) -> list[int]:
    """The definition for good rows: 1 + how many distinct better good prices their side of the book has."""
    out = []
    for t, s, p, _ in rows:
        mine = {px for u, v, px, qty in rows if (u, v) == (t, s) and not broken_rows(np.array(px), np.array(qty))}
        out.append(1 + sum((px > p) if s == BID else (px < p) for px in mine))
    return out


NUMBERS = st.sampled_from([1.0, 2.0, 3.0, 5.0, 0.0, -1.0, np.nan, np.inf, -np.inf])


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), NUMBERS, NUMBERS), max_size=40))
def test_rank_by_price_is_its_definition(rows: list[tuple[int, int, float, float]]) -> None:
    px_N, qty_N = (np.array([row[i] for row in rows], np.float64) for i in (2, 3))
    ts_N, side_N = np.array([row[0] for row in rows], np.int64), np.array([row[1] for row in rows], np.int8)
    level_N = rank_by_price(ts_N, side_N, px_N, qty_N)
    assert level_N.dtype == np.int32
    bad_N = broken_rows(px_N, qty_N)
    np.testing.assert_array_equal(level_N[~bad_N], np.array(rank_oracle(rows), np.int32)[~bad_N])
    for t in range(3):
        for s in (BID, ASK):
            mine = (ts_N == t) & (side_N == s)
            last = int(level_N[mine & ~bad_N].max(initial=0))
            assert sorted(level_N[mine & bad_N].tolist()) == [last + 1 + i for i in range(int((mine & bad_N).sum()))]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 3)), max_size=30))
def test_latest_batch_is_its_definition(rows: list[tuple[int, int]]) -> None:
    ts_N, batch_N = (np.array([row[i] for row in rows], np.int64) for i in (0, 1))
    want = [batch == max(b for t, b in rows if t == ts) for ts, batch in rows]
    assert latest_batch(ts_N, batch_N).tolist() == want


def test_what_a_broken_row_is() -> None:
    px: Float64 = np.array([1.0, 5e-324, 0.0, -1.0, np.nan, np.inf, 1.0, 1.0, 1.0, 1.0])
    qty: Float64 = np.array([0.0, -0.0, 1.0, 1.0, 1.0, 1.0, -5e-324, np.nan, np.inf, 5e-324])
    assert broken_rows(px, qty).tolist() == [False, False] + [True] * 7 + [False]
