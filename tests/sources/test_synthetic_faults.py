"""Planted faults: each is where the ledger says, is what it says, and nothing else is touched."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from bml.sources.market_faults import KINDS, Faults, PlantedFault
from bml.sources.synthetic import SyntheticSource, depth_rows
from bml.types import ASK_PX, ASK_QTY, BID_PX, BID_QTY, NS_PER_DAY, NS_PER_S, DepthRows, Flag, Float64

LEVELS = 12
START_NS = (dt.date(2024, 3, 1) - dt.date(1970, 1, 1)).days * NS_PER_DAY
DATA = SimpleNamespace(
    symbols=("BTC", "ETH"), start=dt.date(2024, 3, 1), stop=dt.date(2024, 3, 4), reference="BTC", cadence_s=20.0
)
ALL = Faults(
    jitter_ms=500,
    gaps_per_day=2,
    gap_s=(60, 400),
    stuck_per_day=2,
    stuck_s=(100, 300),
    crossed_per_day=2,
    locked_per_day=2,
    outliers_per_day=3,
    outlier_bps=250,
    duplicates_per_day=2,
    conflicts_per_day=2,
    missing_levels_per_day=2,
    one_sided_per_day=3,
    truncated_per_day=2,
    truncated_s=(60, 200),
    absent={"ETH": (dt.date(2024, 3, 2),)},
)


def market(faults: Faults | None) -> SyntheticSource:
    return depth_rows(data=DATA, seed=11, levels=LEVELS, faults=faults)


@pytest.fixture(scope="module")
def clean() -> SyntheticSource:
    return market(Faults(jitter_ms=500))


@pytest.fixture(scope="module")
def faulty() -> SyntheticSource:
    return market(ALL)


def snapshots(rows: DepthRows) -> dict[int, Float64]:
    """Timestamp -> (rows, 6): level, four fields, batch."""
    assert rows.batch_N is not None
    table_NX = np.column_stack([rows.level_N, *rows.columns, rows.batch_N])
    ts_T, first_T = np.unique(rows.ts_ns_N, return_index=True)
    return dict(zip(ts_T.tolist(), np.split(table_NX, first_T[1:]), strict=True))


def whole(source: SyntheticSource, symbol: str) -> dict[int, Float64]:
    return snapshots(source.read(symbol, 0, 2**62))


def of(events: tuple[PlantedFault, ...], kind: str) -> list[PlantedFault]:
    return [event for event in events if event.kind == kind]


@pytest.mark.parametrize("symbol", ["BTC", "ETH"])
def test_the_ledger_names_every_change_and_nothing_else(
    clean: SyntheticSource, faulty: SyntheticSource, symbol: str
) -> None:
    before, after = whole(clean, symbol), whole(faulty, symbol)
    changed = {ts for ts in before if ts not in after or not np.array_equal(before[ts], after[ts], equal_nan=True)}
    assert set(after) <= set(before)
    named: Counter[int] = Counter()
    for event in faulty.ledger(symbol):
        times = [ts for ts in before if event.start_ns <= ts <= event.stop_ns]
        assert len(times) == event.count
        named.update(times)
    assert max(named.values()) == 1
    assert set(named) == changed


def test_counts_are_as_asked(faulty: SyntheticSource) -> None:
    counts = {symbol: Counter(event.kind for event in faulty.ledger(symbol)) for symbol in DATA.symbols}
    asked = {
        "gap": 2, "stuck": 2, "crossed": 2, "locked": 2, "outlier": 3,
        "duplicate": 2, "conflict": 2, "missing_levels": 2, "one_sided": 3, "truncated": 2,
    }  # fmt: skip
    assert counts["BTC"] == {kind: 3 * count for kind, count in asked.items()}
    assert counts["ETH"] == {kind: 2 * count for kind, count in asked.items()} | {"absent_day": 1}
    starts = [event.start_ns for event in faulty.ledger("BTC")]
    assert starts == sorted(starts)
    assert set(counts["ETH"]) == set(KINDS)


def test_gaps_and_absent_days_have_no_rows(faulty: SyntheticSource) -> None:
    for symbol in DATA.symbols:
        after = whole(faulty, symbol)
        for event in of(faulty.ledger(symbol), "gap") + of(faulty.ledger(symbol), "absent_day"):
            assert not [ts for ts in after if event.start_ns <= ts <= event.stop_ns]
            assert event.flag == Flag.GAP
    lengths = [event.count for event in of(faulty.ledger("BTC"), "gap")]
    assert min(lengths) >= 3
    assert max(lengths) <= 20
    assert of(faulty.ledger("ETH"), "absent_day")[0].count == 4320
    day = faulty.read("ETH", START_NS + NS_PER_DAY, START_NS + 2 * NS_PER_DAY - 20 * NS_PER_S)
    assert day.n_rows == 0


def test_prices_cross_lock_and_jump(clean: SyntheticSource, faulty: SyntheticSource) -> None:
    before, after = whole(clean, "BTC"), whole(faulty, "BTC")

    def best(book: Float64) -> tuple[float, float]:
        return float(book[0, 1 + BID_PX]), float(book[0, 1 + ASK_PX])

    signs = set()
    for event in faulty.ledger("BTC"):
        if event.kind not in ("crossed", "locked", "outlier"):
            continue
        (bid, ask), (old_bid, old_ask) = best(after[event.start_ns]), best(before[event.start_ns])
        if event.kind == "crossed":
            assert (bid, ask) == (old_ask, old_bid)
        elif event.kind == "locked":
            assert bid == ask
            assert old_bid < bid < old_ask
        else:
            jump = 1e4 * ((bid + ask) / (old_bid + old_ask) - 1)
            assert abs(jump) == pytest.approx(250, abs=0.01)
            signs.add(np.sign(jump))
        assert (np.diff(after[event.start_ns][:, 1 + BID_PX]) < 0).all()
        assert (np.diff(after[event.start_ns][:, 1 + ASK_PX]) > 0).all()
    assert signs == {-1.0, 1.0}


def test_stuck_books_repeat_the_last_sound_one(faulty: SyntheticSource) -> None:
    after = whole(faulty, "BTC")
    times = sorted(after)
    for event in of(faulty.ledger("BTC"), "stuck"):
        assert 5 <= event.count <= 15
        first = times.index(event.start_ns)
        for ts in times[first : first + event.count]:
            np.testing.assert_array_equal(after[ts][:, :5], after[times[first - 1]][:, :5])
        assert not np.array_equal(after[times[first - 2]][:, :5], after[times[first - 1]][:, :5])
        assert not np.array_equal(after[times[first + event.count]][:, :5], after[event.start_ns][:, :5])


def test_duplicates_agree_and_conflicts_are_settled_by_the_batch(
    clean: SyntheticSource, faulty: SyntheticSource
) -> None:
    before, after = whole(clean, "ETH"), whole(faulty, "ETH")
    for event in of(faulty.ledger("ETH"), "duplicate"):
        book = after[event.start_ns]
        np.testing.assert_array_equal(book, np.concatenate([before[event.start_ns]] * 2))
    for event in of(faulty.ledger("ETH"), "conflict"):
        book, sound = after[event.start_ns], before[event.start_ns]
        np.testing.assert_array_equal(book[:LEVELS], sound)
        np.testing.assert_array_equal(book[LEVELS:, 1 + BID_QTY], 0.5 * sound[:, 1 + BID_QTY])
        np.testing.assert_array_equal(book[LEVELS:, 1 + ASK_QTY], 0.5 * sound[:, 1 + ASK_QTY])
        assert (book[LEVELS:, 5] < book[:LEVELS, 5]).all()
        assert event.flag == Flag.DUPLICATE


def test_missing_levels_and_missing_sides(clean: SyntheticSource, faulty: SyntheticSource) -> None:
    before, after = whole(clean, "BTC"), whole(faulty, "BTC")
    for event in of(faulty.ledger("BTC"), "missing_levels"):
        book, sound = after[event.start_ns], before[event.start_ns]
        assert len(book) in (LEVELS - 3, LEVELS - 4)
        assert book[0, 0] == 1
        np.testing.assert_array_equal(book, sound[np.isin(sound[:, 0], book[:, 0])])
    sides = set()
    for event in of(faulty.ledger("BTC"), "one_sided"):
        is_nan_NF = np.isnan(after[event.start_ns][:, 1:5])
        assert is_nan_NF.all(axis=0).tolist() in ([True, True, False, False], [False, False, True, True])
        assert not is_nan_NF.any(axis=0).all()
        sides.add(bool(is_nan_NF[0, 0]))
    assert sides == {False, True}


def test_shuffled_rows_are_the_same_rows(clean: SyntheticSource) -> None:
    source = market(Faults(jitter_ms=500, shuffled=True))
    rows, sound = (
        source.read("BTC", START_NS, START_NS + NS_PER_DAY),
        clean.read("BTC", START_NS, START_NS + NS_PER_DAY),
    )
    assert not rows.ordered
    assert sound.ordered
    assert (np.diff(rows.ts_ns_N) < 0).mean() > 0.4
    order_N = np.lexsort((rows.level_N, rows.ts_ns_N))
    np.testing.assert_array_equal(rows.ts_ns_N[order_N], sound.ts_ns_N)
    for shuffled_N, sound_N in zip(rows.columns, sound.columns, strict=True):
        np.testing.assert_array_equal(shuffled_N[order_N], sound_N)
    again = source.read("BTC", START_NS, START_NS + NS_PER_DAY)
    np.testing.assert_array_equal(again.columns[1], rows.columns[1])


def test_faults_leave_the_latent_market_alone(clean: SyntheticSource, faulty: SyntheticSource) -> None:
    np.testing.assert_array_equal(clean.paths.log_mid_AT, faulty.paths.log_mid_AT)


@pytest.mark.parametrize("bad", [{"jitter_ms": -1}, {"gap_s": (90, 60)}, {"crossed": 1}, {"gaps_per_day": 1.5}])
def test_bad_faults_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError), match=next(iter(bad))):
        Faults(**bad)  # type: ignore[arg-type]
