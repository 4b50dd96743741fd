"""sources.postgres against a real PostgreSQL."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import psycopg
import pytest

from bml.sources.postgres import depth_rows
from bml.types import NS_PER_DAY, DataError, DepthRows
from tests.depth_frames import DAY, START, STOP, paired_frame, same_rows

LoadTable = Callable[..., None]


def hard_frame(n_times: int = 40, levels: int = 6, symbols: tuple[str, ...] = ("BTCUSDT", "ETHUSDT")) -> pl.DataFrame:
    """Shuffled rows, every 7th ask price NULL, one NaN and one infinite quantity."""
    frame = paired_frame(n_times, levels, symbols)
    n = frame.height
    frame = frame.with_columns(
        pl.when(pl.int_range(n) % 7 != 0).then(pl.col("ask_px")).alias("ask_px"),
        pl.when(pl.int_range(n) == 5).then(float("inf")).otherwise("bid_qty").alias("bid_qty"),
        pl.when(pl.int_range(n) == 6).then(float("nan")).otherwise("ask_qty").alias("ask_qty"),
    )
    return frame.sample(fraction=1.0, shuffle=True, seed=1)


def read(dsn: str, symbol: str = "BTCUSDT", start: int = START, stop: int = STOP, **options: Any) -> DepthRows:
    with depth_rows(dsn=dsn, **options) as source:
        return source.read(symbol, start, stop)


def same_sorted(rows: DepthRows, frame: pl.DataFrame) -> None:
    """Paired rows equal ``frame`` up to order."""
    order = np.lexsort((rows.level_N, rows.ts_ns_N))
    columns = tuple(values[order] for values in rows.columns)
    ts, level = rows.ts_ns_N[order], rows.level_N[order]
    same_rows(replace(rows, ts_ns_N=ts, level_N=level, columns=columns), frame.sort("ts", "level"))


@pytest.mark.parametrize("ts_type", ["timestamptz", "timestamp"])
@pytest.mark.parametrize("level_type", ["smallint", "integer", "bigint"])
def test_paired_table_under_another_time_zone(
    postgres_dsn: str, load_table: LoadTable, ts_type: str, level_type: str
) -> None:
    frame = hard_frame()
    stored = frame.with_columns(pl.col("ts").dt.replace_time_zone(None)) if ts_type == "timestamp" else frame
    load_table(stored, "depth", types={"level": level_type})
    tokyo = f"{postgres_dsn}&options=-c%20timezone%3DAsia/Tokyo"
    rows = read(tokyo, table="depth")
    same_sorted(rows, frame.filter(pl.col("symbol") == "BTCUSDT"))
    assert rows.side_N is None
    assert not rows.ordered
    assert "ORDER BY" not in rows.query


def test_half_open_edges_and_empty_day(postgres_dsn: str, load_table: LoadTable) -> None:
    edges = [
        DAY - dt.timedelta(microseconds=1),
        DAY,
        DAY + dt.timedelta(days=1, microseconds=-1),
        DAY + dt.timedelta(days=1),
    ]
    numbers = {name: [1.0, 2.0, 3.0, 4.0] for name in ("bid_px", "bid_qty", "ask_px", "ask_qty")}
    load_table(pl.DataFrame({"ts": edges, "symbol": ["A"] * 4, "level": [1] * 4, **numbers}), "edges")
    assert sorted(read(postgres_dsn, "A", table="edges").columns[0]) == [2.0, 3.0]
    assert sorted(read(postgres_dsn, "A", START + 1, STOP, table="edges").columns[0]) == [3.0]
    empty = read(postgres_dsn, "A", START + 30 * NS_PER_DAY, STOP + 30 * NS_PER_DAY, table="edges")
    assert empty.n_rows == 0
    assert [x.dtype for x in (empty.ts_ns_N, empty.level_N, *empty.columns)] == [np.int64, np.int32] + [np.float64] * 4
    assert read(postgres_dsn, "NOBODY", table="edges").n_rows == 0


def test_hostile_names_and_symbols(postgres_dsn: str, load_table: LoadTable) -> None:
    evil = "'; DROP TABLE x; --\\"
    frame = pl.DataFrame(
        {"select": [DAY], 'sy"mbol': [evil], "Level %s": [1], "{}": [1.0], "b": [2.0], "ask px": [3.0], "d;": [4.0]}
    )
    load_table(frame, 'ta"ble %(x)s', schema='we"ird')
    columns: dict[str, str | None] = {
        "ts": "select", "symbol": 'sy"mbol', "level": "Level %s", "bid_px": "{}", "bid_qty": "b", "ask_px": "ask px",
        "ask_qty": "d;",
    }  # fmt: skip
    rows = read(postgres_dsn, evil, table='ta"ble %(x)s', schema='we"ird', columns=columns)
    assert [c[0] for c in rows.columns] == [1.0, 2.0, 3.0, 4.0]
    rows = read(postgres_dsn, "X", table='ta"ble %(x)s', schema='we"ird', columns=columns, symbols={"X": evil})
    assert rows.n_rows == 1


def sided_frame(bid: object, ask: object) -> pl.DataFrame:
    frame = hard_frame(12, 4, ("BTCUSDT",)).sort("ts", "level")
    parts = [
        frame.select("ts", "symbol", "level", pl.lit(value).alias("side"), px=f"{name}_px", qty=f"{name}_qty")
        for name, value in (("bid", bid), ("ask", ask))
    ]
    return pl.concat(parts)


@pytest.mark.parametrize(
    ("bid", "ask", "side_type"),
    [
        ("bid", "ask", "text"),
        ("B", "A", "char(4)"),
        ("b", "a", "varchar(9)"),
        (False, True, "boolean"),
        (1, -1, "smallint"),
        (0, 1, "bigint"),
    ],
)
def test_sided_table(postgres_dsn: str, load_table: LoadTable, bid: Any, ask: Any, side_type: str) -> None:
    frame = sided_frame(bid, ask)
    load_table(frame, "sided", types={"side": side_type})
    rows = read(postgres_dsn, table="sided", layout="sided", side_values={"bid": bid, "ask": ask}, depth=3)
    want = frame.filter(pl.col("level") <= 3)
    assert rows.side_N is not None
    order = np.lexsort((rows.level_N, rows.ts_ns_N, rows.side_N))
    assert rows.side_N[order].tolist() == [0] * (want.height // 2) + [1] * (want.height // 2)
    np.testing.assert_array_equal(rows.columns[0][order], want["px"].fill_null(float("nan")).to_numpy())
    np.testing.assert_array_equal(rows.columns[1][order], want["qty"].to_numpy())


def test_enum_side(postgres_dsn: str, load_table: LoadTable) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True) as conn:
        conn.execute("DROP TABLE IF EXISTS enum_sided; DROP TYPE IF EXISTS book_side")
        conn.execute("CREATE TYPE book_side AS ENUM ('bid', 'ask')")
    load_table(sided_frame("bid", "ask"), "enum_sided", types={"side": "book_side"})
    rows = read(postgres_dsn, table="enum_sided", layout="sided")
    assert rows.side_N is not None
    assert sorted(set(rows.side_N.tolist())) == [0, 1]


def test_side_value_nobody_named(postgres_dsn: str, load_table: LoadTable) -> None:
    load_table(sided_frame("bid", "offer"), "sided_bad")
    with pytest.raises(DataError, match=r"BTCUSDT: a row of 2024-03-10T.*side is 'offer', neither"):
        read(postgres_dsn, table="sided_bad", layout="sided")
    with pytest.raises(DataError, match="column side has type text, but side_values has False"):
        read(postgres_dsn, table="sided_bad", layout="sided", side_values={"bid": False, "ask": True})


def test_price_keyed_rows_are_ranked(postgres_dsn: str, load_table: LoadTable) -> None:
    frame = pl.DataFrame(
        {
            "ts": [DAY] * 8,
            "symbol": ["A"] * 8,
            "side": ["bid", "ask", "bid", "ask", "bid", "ask", "bid", "ask"],
            "px": [99.0, 101.0, 98.0, 103.0, 97.0, 102.0, 98.0, None],
            "qty": [1.0, 2.0, 3.0, 4.0, 0.0, 6.0, 3.0, 8.0],
        }
    )
    load_table(frame, "by_price")
    rows = read(postgres_dsn, "A", table="by_price", layout="sided", columns={"level": None})
    assert rows.side_N is not None
    got = sorted(zip(rows.side_N.tolist(), rows.level_N.tolist(), map(str, rows.columns[0]), strict=True))
    bids = [(0, 1, "99.0"), (0, 2, "98.0"), (0, 2, "98.0")]  # the same price twice is one level; quantity 0 is none
    assert got == [*bids, (1, 1, "101.0"), (1, 2, "102.0"), (1, 3, "103.0"), (1, 4, "nan")]
    rows = read(postgres_dsn, "A", table="by_price", layout="sided", columns={"level": None}, depth=1)
    assert sorted(map(str, rows.columns[0])) == ["101.0", "99.0", "nan"]  # a broken row is read whatever the depth


def test_price_keyed_rows_of_the_largest_batch_only(postgres_dsn: str, load_table: LoadTable) -> None:
    frame = pl.DataFrame(
        {
            "ts": [DAY] * 6 + [DAY + dt.timedelta(seconds=1)] * 3,
            "symbol": ["A"] * 9,
            "side": ["bid", "ask", "bid", "ask", "bid", "ask", "bid", "ask", "bid"],
            "px": [98.0, 101.0, 99.0, 102.0, 97.0, 99.0, 98.0, 103.0, 98.0],
            "qty": [1.0, 2.0, 3.0, 4.0, 0.0, 5.0, 6.0, 7.0, 0.0],
            "batch": [1, 1, 2, 2, 1, None, 1, 1, 2],
        }
    )
    load_table(frame, "by_batch")
    columns: dict[str, str | None] = {"level": None, "batch": "batch"}
    rows = read(postgres_dsn, "A", table="by_batch", layout="sided", columns=columns)
    assert sorted(rows.columns[0]) == [99.0, 102.0]  # a second later the largest batch has a quantity of 0 only
    assert rows.level_N.tolist() == [1, 1]
    assert rows.superseded_ns_N is not None
    assert sorted(rows.superseded_ns_N) == [START] * 3 + [START + 10**9] * 2
    merged = read(postgres_dsn, "A", table="by_batch", layout="sided", columns={"level": None})
    assert merged.n_rows == 7
    assert merged.superseded_ns_N is None


@pytest.mark.parametrize(("unit", "scale"), [("s", 10**9), ("ms", 10**6), ("us", 1000), ("ns", 1)])
def test_integer_time(postgres_dsn: str, load_table: LoadTable, unit: Any, scale: int) -> None:
    numbers = {name: [1.0, 2.0] for name in ("bid_px", "bid_qty", "ask_px", "ask_qty")}
    frame = pl.DataFrame({"ts": [START // scale, STOP // scale], "symbol": ["A"] * 2, "level": [0, 0], **numbers})
    load_table(frame, "epoch")
    rows = read(postgres_dsn, "A", table="epoch", ts_unit=unit, first_level=0)
    assert (rows.ts_ns_N.tolist(), rows.level_N.tolist()) == ([START], [1])
    with pytest.raises(DataError, match="ts has type int8: say what it counts"):
        read(postgres_dsn, "A", table="epoch", first_level=0)
    for depth in (None, 5):
        with pytest.raises(DataError, match="level is 0, but levels count from 1"):
            read(postgres_dsn, "A", table="epoch", ts_unit=unit, depth=depth)


def test_types_that_are_cast_or_refused(postgres_dsn: str, load_table: LoadTable) -> None:
    frame = hard_frame(5).with_columns(pl.col("bid_qty").fill_nan(None), batch=pl.lit(7), seq=pl.lit(None, pl.Int64))
    frame = frame.with_columns(pl.when(pl.col("bid_qty").is_finite()).then("bid_qty").alias("bid_qty"))
    types = {"bid_px": "real", "bid_qty": "numeric", "ask_qty": "numeric", "level": "numeric", "seq": "numeric"}
    load_table(frame, "casts", types=types)
    rows = read(postgres_dsn, table="casts", columns={"batch": "batch", "sequence": "seq"})
    assert 'CAST("bid_qty" AS DOUBLE PRECISION)' in rows.query
    assert 'CAST("bid_px"' not in rows.query
    same_sorted(
        rows,
        frame.filter(pl.col("symbol") == "BTCUSDT").with_columns(pl.col("bid_px").cast(pl.Float32).cast(pl.Float64)),
    )
    assert rows.batch_N is not None
    assert rows.sequence_N is not None
    assert set(rows.batch_N.tolist()) == {7}
    assert set(rows.sequence_N.tolist()) == {-1}

    load_table(frame, "texts", types={"bid_px": "text", "ts": "date"})
    with pytest.raises(DataError, match=r"public\.texts: column ts has type date, but ts must be a timestamp"):
        read(postgres_dsn, table="texts")
    load_table(frame, "texts", types={"bid_px": "text"})
    with pytest.raises(DataError, match="column bid_px has type text, but bid_px must be a number"):
        read(postgres_dsn, table="texts")
    with pytest.raises(DataError, match="so ts_unit has no effect"):
        read(postgres_dsn, table="casts", ts_unit="ms")


def test_rows_that_must_not_be_null(postgres_dsn: str, load_table: LoadTable) -> None:
    frame = hard_frame(3).with_columns(pl.when(pl.col("level") != 2).then("level").alias("level"))
    load_table(frame, "nulls")
    for depth in (None, 3):
        with pytest.raises(DataError, match=r"nulls, BTCUSDT: a row of 2024-03-10T00:00:\d\d\S*Z: level is NULL"):
            read(postgres_dsn, table="nulls", depth=depth)
    clean = hard_frame(3)
    gone = pl.int_range(pl.len()) % 5 == 0
    for column in ("ts", "symbol"):  # in no time range, of no symbol
        load_table(clean.with_columns(pl.when(~gone).then(column).alias(column)), "unplaced")
        same_sorted(read(postgres_dsn, table="unplaced"), clean.filter(~gone & (pl.col("symbol") == "BTCUSDT")))
    load_table(hard_frame(3).with_columns(ts=pl.lit("infinity")), "forever", types={"ts": "timestamptz"})
    assert read(postgres_dsn, table="forever").n_rows == 0  # outside every finite range
