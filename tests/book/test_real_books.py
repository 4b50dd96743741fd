"""Real dirty books: every defect their description names must be reported, with its time range."""

from __future__ import annotations

import datetime as dt
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bml.book import align, dataobject, depth, moments, quality
from bml.book.report import to_text
from bml.book.store import DayStore
from bml.types import NS_PER_DAY, NS_PER_S, AlignedDay, DataError, DataObject, DayContext, DepthRows, Flag

pytestmark = pytest.mark.data


def ns(text: str) -> int:
    return int(np.datetime64(text, "ns").astype(np.int64))


def day_context(day: dt.date) -> DayContext:
    midnight = int(np.datetime64(day, "ns").astype(np.int64))
    return DayContext(
        symbol="REAL", day=day, start_ns=midnight, stop_ns=midnight + NS_PER_DAY, cadence_ns=10 * NS_PER_S
    )


THIN = dt.date(2021, 12, 17)


@pytest.fixture(scope="module")
def thin_rows(market_data: Path) -> DepthRows:
    """One thin market, 50 to 300 levels, polled about every 10 s (fullbook-1sym-10s)."""
    frame = pl.read_parquet(market_data / "fullbook-1sym-10s" / "tall_0950_1430.parquet")
    ctx = day_context(THIN)
    return DepthRows(
        symbol="REAL",
        start_ns=ctx.start_ns - 60 * NS_PER_S,
        stop_ns=ctx.stop_ns,
        ts_ns_N=frame["ts"].dt.cast_time_unit("ns").to_physical().to_numpy(),
        level_N=frame["level"].cast(pl.Int32).to_numpy(),
        columns=tuple(frame[name].fill_null(np.nan).to_numpy() for name in ("price", "amount")),
        side_N=(frame["side"] == "ask").cast(pl.Int8).to_numpy(),
        ordered=True,
    )


@pytest.fixture(scope="module")
def thin(thin_rows: DepthRows) -> DataObject:
    built = dataobject.build(thin_rows, levels=300, bad_rows="drop")
    return quality.check(built, day_context(THIN))


def test_thin_market_broken_row(thin_rows: DepthRows, thin: DataObject) -> None:
    with pytest.raises(
        DataError, match=r"^REAL 2021-12-17T13:42:09\.122Z: a row without bid price .* at level 248 \(0"
    ):
        dataobject.build(thin_rows, levels=300)
    assert thin.quality.counts["n_broken"] == 1
    (event,) = [e for e in thin.quality.events if e.flag == Flag.BROKEN]
    assert event.start_ns == event.stop_ns == ns("2021-12-17T13:42:09.122")


def test_thin_market_gaps(thin: DataObject) -> None:
    gaps = [e for e in thin.quality.events if e.flag == Flag.GAP]
    inside = [(e.start_ns, round((e.stop_ns - e.start_ns) / 1e9, 3)) for e in gaps[1:-1]]
    assert inside == [
        (ns("2021-12-17T10:07:28.719"), 19.910),
        (ns("2021-12-17T11:28:00.137"), 903.349),
        (ns("2021-12-17T11:43:03.486"), 19.462),
        (ns("2021-12-17T11:43:44.258"), 571.376),
        (ns("2021-12-17T11:53:37.470"), 249.807),
    ]
    assert gaps[0].stop_ns == thin.ts_ns_T[0]  # before the file begins, and after it ends
    assert gaps[-1].stop_ns == thin.stop_ns
    assert gaps[1].detail == "no snapshot for 19.91 s"


def test_thin_market_crossed_and_locked(thin_rows: DepthRows, thin: DataObject) -> None:
    counts = thin.quality.counts
    assert counts["n_crossed"] + counts["n_locked"] == 10
    assert counts["n_crossed"] == 5
    found = [e.start_ns for e in thin.quality.events if e.flag in (Flag.CROSSED, Flag.LOCKED)]
    expected = [
        "09:53:18.355", "09:54:18.556", "09:55:58.487", "10:53:29.625", "12:05:26.222",
        "12:14:27.067", "12:34:58.820", "13:12:07.781", "13:48:58.513", "13:51:28.303",
    ]  # fmt: skip
    assert found == [ns(f"2021-12-17T{time}") for time in expected]
    assert counts["n_snapshots"] == 1509
    assert len(thin.ts_ns_T) == 1504
    assert counts["n_disorder"] == counts["n_duplicate"] == counts["n_absent"] == 0
    assert counts["n_stuck"] > 20  # a quiet market
    assert "CROSSED: 5 events" in to_text(thin.quality)
    with pytest.raises(DataError, match=r"best bid 0\.26899999 above best ask 0\.2688 \(4 more"):
        quality.check(dataobject.build(thin_rows, levels=300, bad_rows="drop"), day_context(THIN), crossed="error")


@pytest.fixture(scope="module")
def thin_day(thin: DataObject) -> AlignedDay:
    return align.to_grid(thin, day_context(THIN))


def test_thin_market_on_the_grid(thin: DataObject, thin_day: AlignedDay) -> None:
    day = thin_day
    gap = day.flag_T & Flag.GAP != 0
    assert gap[: 35_400 // 10].all()  # the file begins at 09:50
    assert gap[(14 * 3600 + 31 * 60 + 10) // 10 :].all()
    hole = slice((11 * 3600 + 29 * 60 + 10) // 10, (11 * 3600 + 43 * 60) // 10)
    assert gap[hole].all()
    assert (~gap).sum() == day.quality.counts["n_gap"] * -1 + 8640
    source = np.searchsorted(thin.ts_ns_T, day.grid_ns_T, side="right") - 1
    np.testing.assert_array_equal(day.book_TLF[~gap], thin.book_TLF[source[~gap]])
    age = day.grid_ns_T[~gap] - thin.ts_ns_T[source[~gap]]
    assert ((age >= 0) & (age <= 60 * NS_PER_S)).all()
    np.testing.assert_array_equal(age >= 10 * NS_PER_S, day.flag_T[~gap] & Flag.FILLED != 0)


def test_thin_market_to_a_day_file(thin_day: AlignedDay, tmp_path: Path) -> None:
    ctx = day_context(THIN)
    learned = depth.learn([thin_day])
    assert learned["edges"][:51] == list(range(51))
    assert len(learned["edges"]) == 61
    assert 295 <= learned["edges"][-1] <= 300
    ready = depth.adaptive(thin_day, replace(ctx, learned={depth.NAME: learned}))
    fresh = thin_day.flag_T & Flag.GAP == 0
    bid, ask = ready.book_TLF[fresh, 0, 0], ready.book_TLF[fresh, 0, 2]
    np.testing.assert_allclose(bid, -ask, rtol=1e-3, atol=1e-4)  # the touch lies around the mid
    np.testing.assert_allclose(np.median(ask - bid), 37, atol=8)  # bps, of the whole set
    day = moments.daily(ready, ctx)
    store = DayStore(tmp_path, "0123456789abcdef", verify=True)
    store.write(day, meta={})
    with store.open("REAL", THIN) as file:
        np.testing.assert_array_equal(file.book_TLF, day.book_TLF)
        assert file.quality == day.quality


EASTER = dt.date(2020, 4, 12)


@pytest.fixture(scope="module")
def polled(market_data: Path) -> DataObject:
    """BTC-USD polled every second from a cached endpoint (coinbase-btcusd-l50-1s), 50 levels."""
    with zipfile.ZipFile(market_data / "coinbase-btcusd-l50-1s" / "BTC_Book_14.zip") as archive:
        frame = pl.read_csv(archive.read("BTC_Book_14.csv"))
    levels, n = 50, frame.height
    ts = frame["Timestamp"].str.to_datetime("%Y-%m-%d %H:%M:%S%.f%:z", time_unit="ns").to_physical().to_numpy()

    def column(side: str, what: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        names = [f"{side}_{k}_{what}" for k in range(1, levels + 1)]
        return frame.select(pl.col(names).cast(pl.Float64)).to_numpy().ravel()

    ctx = day_context(EASTER)
    rows = DepthRows(
        symbol="REAL",
        start_ns=ctx.start_ns - 600 * NS_PER_S,
        stop_ns=ctx.stop_ns,
        ts_ns_N=np.repeat(ts, levels),
        level_N=np.tile(np.arange(1, levels + 1, dtype=np.int32), n),
        columns=tuple(column(side, what) for side in ("Bid", "Ask") for what in ("Price", "Size")),
        sequence_N=np.repeat(frame["Sequence"].to_numpy(), levels),
        ordered=True,
    )
    return quality.check(dataobject.build(rows, levels=levels), ctx, stuck_after_s=10)


def test_polled_feed_repeats_and_goes_back(polled: DataObject) -> None:
    counts = polled.quality.counts
    assert counts["n_snapshots"] == 50_000
    assert counts["n_repeat"] == 24_787
    assert counts["n_stuck"] == 24_861  # 74 more: the sequence went on, these levels did not change
    assert counts["n_backwards"] == 70
    back = [e for e in polled.quality.events if e.flag == Flag.BACKWARDS]
    assert sum(e.count for e in back) == 70
    assert all("sequence from" in e.detail for e in back)
    assert counts["n_crossed"] == counts["n_broken"] == counts["n_absent"] == counts["n_disorder"] == 0
    every, *long = [e for e in polled.quality.events if e.flag == Flag.STUCK]
    assert every.count == 24_861
    assert every.stop_ns - every.start_ns > 13.8 * 3600 * NS_PER_S
    assert all(e.stop_ns - e.start_ns >= 10 * NS_PER_S for e in long)


def test_polled_feed_gap(polled: DataObject) -> None:
    gaps = [e for e in polled.quality.events if e.flag == Flag.GAP]
    (gap,) = [e for e in gaps if e.start_ns >= polled.ts_ns_T[0] and e.stop_ns <= polled.ts_ns_T[-1]]
    assert round((gap.stop_ns - gap.start_ns) / 1e9, 1) == 16.4
    assert gap.start_ns == ns("2020-04-12T11:29:49.598707")
    assert gaps[-1].start_ns == polled.ts_ns_T[-1]


def test_polled_feed_on_the_grid(polled: DataObject) -> None:
    day = align.to_grid(polled, day_context(EASTER))
    inside = day.grid_ns_T <= polled.ts_ns_T[-1]
    assert inside.sum() == 4966
    assert not np.any(day.flag_T[inside] & Flag.GAP)
    assert day.quality.counts["n_gap"] == 8640 - 4966 - 6  # a minute is filled after the file ends
    # 1 s polls leave no 10 s step without a snapshot, but for the one within the 16.4 s
    assert np.flatnonzero(day.flag_T[inside] & Flag.FILLED).tolist() == [4140]
    assert day.age_ms_T[inside & (day.flag_T & Flag.FILLED == 0)].max() < 10_000
    assert np.sum(day.flag_T[inside] & Flag.STUCK != 0) > 1000
