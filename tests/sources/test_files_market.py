"""The file sources, and PostgreSQL loaded from them, on real market data."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from bml.sources import postgres
from bml.sources.files import depth_rows, wide_rows
from bml.types import BID, NS_PER_DAY, DepthRows

pytestmark = pytest.mark.data


def day(text: str) -> tuple[int, int]:
    start = (dt.date.fromisoformat(text) - dt.date(1970, 1, 1)).days * NS_PER_DAY
    return start, start + NS_PER_DAY


def order_of(rows: DepthRows) -> np.ndarray:
    assert rows.side_N is not None
    return np.lexsort((rows.level_N, rows.side_N, rows.ts_ns_N))


DERIVED: dict[str, Any] = {"layout": "sided", "columns": {"px": "price"}}


def test_derived_levels_ranked_by_price_are_the_levels_of_the_file(market_data: Path) -> None:
    path = str(market_data / "derived-10s-l1000" / "binance_spot_{symbol}_*.parquet")
    by_price: dict[str, Any] = {**DERIVED, "columns": {"px": "price", "level": None}}
    with depth_rows(path=path, **DERIVED) as source, depth_rows(path=path, **by_price) as ranked:
        a, b = (s.read("ETHUSDT", *day("2024-08-08")) for s in (source, ranked))
    assert a.n_rows > 60_000
    np.testing.assert_array_equal(a.level_N, b.level_N)
    np.testing.assert_array_equal(a.columns[0], b.columns[0])


def test_derived_through_postgres_equals_the_file(
    market_data: Path, postgres_dsn: str, load_table: Callable[..., None]
) -> None:
    file = market_data / "derived-10s-l1000" / "binance_spot_BTCUSDT_20240808.parquet"
    load_table(pl.read_parquet(file), "derived")
    columns: dict[str, str | None] = {"px": "price"}
    start, stop = day("2024-08-08")[0], day("2024-08-09")[1]
    with (
        depth_rows(path=str(file), **DERIVED) as source,
        postgres.depth_rows(dsn=postgres_dsn, table="derived", layout="sided", columns=columns) as database,
    ):
        want, got = (s.read("BTCUSDT", start, stop) for s in (source, database))
    assert want.n_rows == got.n_rows == 130_000
    a, b = order_of(want), order_of(got)
    for x, y in zip((want.ts_ns_N, want.level_N, *want.columns), (got.ts_ns_N, got.level_N, *got.columns), strict=True):
        np.testing.assert_array_equal(x[a], y[b])


def test_depth_bins(market_data: Path) -> None:
    columns: dict[str, str | None] = {"ts": "commit_time", "px": "price", "bid_qty": "buy_qty", "ask_qty": "sell_qty"}
    folder = market_data / "depth-bins-3sym-18min"
    with depth_rows(path=str(folder), layout="price_pair", columns=columns) as source:
        rows = source.read("LTCUSDT", *day("2025-09-10"))
    assert rows.side_N is not None
    assert (rows.columns[1] > 0).all()
    frame = pl.read_parquet(folder / "depth_bins_2025-09.parquet").filter(
        (pl.col("symbol") == "LTCUSDT") & (pl.col("commit_time").dt.date() == dt.date(2025, 9, 10))
    )
    assert rows.n_rows == frame.select((pl.col("buy_qty") > 0).sum() + (pl.col("sell_qty") > 0).sum()).item()
    best = frame.filter(pl.col("buy_qty") > 0).group_by("commit_time").agg(pl.col("price").max()).sort("commit_time")
    first = (rows.level_N == 1) & (rows.side_N == BID)
    np.testing.assert_array_equal(rows.ts_ns_N[first], best["commit_time"].dt.timestamp("us").to_numpy() * 1000)
    np.testing.assert_array_equal(rows.columns[0][first], best["price"].to_numpy())


def test_fullbook_keeps_its_broken_row(market_data: Path) -> None:
    path = str(market_data / "fullbook-1sym-10s" / "tall_*.parquet")
    columns: dict[str, str | None] = {"symbol": None, "px": "price", "qty": "amount"}
    with depth_rows(path=path, layout="sided", columns=columns) as source:
        rows = source.read("THIN", *day("2021-12-17"))
    assert rows.n_rows == 752_582
    assert int(rows.level_N.max()) == 299
    assert int(np.isnan(rows.columns[0]).sum()) == 1


def test_coinbase_wide_zip(market_data: Path) -> None:
    names = {
        f"{side}_{field}": f"{side.title()}_{{k}}_{word}"
        for side in ("bid", "ask")
        for field, word in (("px", "Price"), ("qty", "Size"))
    }
    path = str(market_data / "coinbase-btcusd-l50-1s" / "BTC_Book_14.zip")
    with wide_rows(path=path, timestamp="Timestamp", sequence="Sequence", levels=50, **names) as source:
        eve, easter = (source.read("BTC-USD", *day(d)) for d in ("2020-04-11", "2020-04-12"))
    assert eve.n_rows + easter.n_rows == 50_000 * 50
    assert eve.ts_ns_N[0] == day("2020-04-11")[0] + ((23 * 60 + 53) * 60 + 3) * 10**9 + 571_342_000
    assert [c[0] for c in eve.columns[:2]] == [6889.0, 2.82392258]
    assert eve.sequence_N is not None
    assert eve.sequence_N[0] == 13441934353
    assert not any(np.isnan(c).any() for c in easter.columns)
    assert (easter.columns[0][::50] < easter.columns[2][::50]).all()


def test_binance_wide_from_level_zero(market_data: Path) -> None:
    names = {
        f"{side}_{field}": f"{side}_{word}_{{k}}"
        for side in ("bid", "ask")
        for field, word in (("px", "price"), ("qty", "volume"))
    }
    path = str(market_data / "binance-btcusdt-l20-1h" / "orderbook_raw.csv.gz")
    reads = []
    for timestamp, unit in (("timestamp", None), ("timestamp_ms", "ms")):
        options: dict[str, Any] = {"timestamp": timestamp, "ts_unit": unit, "first": 0, "levels": 20, **names}
        with wide_rows(path=path, **options) as source:
            reads.append(source.read("BTCUSDT", *day("2026-03-17")))
    assert [r.n_rows for r in reads] == [1743 * 20] * 2
    assert int(np.abs(reads[0].ts_ns_N - reads[1].ts_ns_N).max()) < 1_000_000
    assert [c[0] for c in reads[0].columns] == [74512.46, 1.14535, 74512.47, 2.21253]


def test_tall_csv_with_comment_block_and_price_keys(market_data: Path) -> None:
    path = str(market_data / "binance-tall-samples" / "binance_depth_snapshot_spot_btcusdt_*.csv.gz")
    columns: dict[str, str | None] = {
        "ts": "TimestampOfReceive", "symbol": None, "side": "IsAsk", "level": None, "px": "Price", "qty": "Quantity",
        "sequence": "LastUpdateId",
    }  # fmt: skip
    options: dict[str, Any] = {
        "layout": "sided",
        "columns": columns,
        "side_values": {"bid": 0, "ask": 1},
        "ts_unit": "ms",
    }
    with depth_rows(path=path, comment="#", **options) as source:
        rows = source.read("BTCUSDT", *day("2025-04-14"))
    assert rows.n_rows == 20_000
    assert np.bincount(rows.level_N)[1:].tolist() == [4] * 5000
