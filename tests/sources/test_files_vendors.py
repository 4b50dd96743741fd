"""Files in the exact layouts of vendors, written here: Tardis, Crypto Lake, LOBSTER, and header-less wide ones."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from bml.sources.files import depth_rows, wide_rows
from bml.sources.vendors import crypto_lake_book, lobster_books, tardis_snapshots
from bml.types import NS_PER_DAY, NS_PER_S, ConfigError, DataError, DepthRows

START = 19_792 * NS_PER_DAY  # 2024-03-10
STOP = START + NS_PER_DAY
TARDIS = "binance_book_snapshot_25_2024-03-10_BTCUSDT.csv.gz"


def book_of(n_times: int, levels: int) -> np.ndarray:
    """(T, L, 4) rounded prices and quantities, one absent bid level."""
    rng = np.random.default_rng(4)
    book = np.round(100 + rng.normal(size=(n_times, levels, 4)), 4)
    book[1, levels - 1, :2] = np.nan
    return book


def wide_of(rows: DepthRows, levels: int) -> np.ndarray:
    return np.stack(rows.columns, axis=1).reshape(-1, levels, 4)


# -- Tardis


def tardis_text(book: np.ndarray, ts_us: np.ndarray, symbol: str = "BTCUSDT") -> str:
    head = ["exchange", "symbol", "timestamp", "local_timestamp"]
    for i in range(book.shape[1]):
        head += [f"asks[{i}].price", f"asks[{i}].amount", f"bids[{i}].price", f"bids[{i}].amount"]
    lines = [",".join(head)]
    for t, levels in zip(ts_us, book, strict=True):
        cells = ["" if np.isnan(x) else repr(float(x)) for level in levels for x in level[[2, 3, 0, 1]]]
        lines.append(",".join(["binance", symbol, str(t - 5000), str(t), *cells]))
    return "\n".join(lines) + "\n"


def test_tardis_snapshots(tmp_path: Path) -> None:
    book = book_of(6, 25)
    ts_us = START // 1000 + np.array([2000, 1_000_000, 2_000_000, 2_000_000, 3_000_000, 4_000_000])
    (tmp_path / TARDIS).write_bytes(gzip.compress(tardis_text(book, ts_us).encode()))
    path = str(tmp_path / "binance_book_snapshot_25_{date}_{symbol}.csv.gz")
    with tardis_snapshots(path=path) as source:
        rows = source.read("BTCUSDT", START, STOP)
        assert source.describe()["layout"] == "Tardis book_snapshot"
    kept = [0, 1, 3, 4, 5]  # two had one time: the last is the book
    np.testing.assert_array_equal(wide_of(rows, 25), book[kept])
    np.testing.assert_array_equal(rows.ts_ns_N[::25], ts_us[kept] * 1000)
    assert rows.superseded_ns_N is not None
    np.testing.assert_array_equal(rows.superseded_ns_N, np.full(25, ts_us[2] * 1000))
    with tardis_snapshots(path=path, levels=3, clock="exchange") as source:
        few = source.read("BTCUSDT", START, STOP)
        before = source.read("BTCUSDT", START - NS_PER_DAY, START)  # 5 ms earlier is yesterday
    np.testing.assert_array_equal(wide_of(few, 3), book[kept[1:], :3])
    np.testing.assert_array_equal(wide_of(before, 3), book[:1, :3])


def test_a_tardis_day_without_data_is_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / TARDIS).write_bytes(gzip.compress(b""))
    with tardis_snapshots(path=str(tmp_path / "*_{symbol}.csv.gz")) as source:
        assert source.read("BTCUSDT", START, STOP).n_rows == 0
    (tmp_path / TARDIS).write_bytes(b"")  # a download that failed
    with (
        tardis_snapshots(path=str(tmp_path / "*_{symbol}.csv.gz")) as source,
        pytest.raises(DataError, match="has no bytes at all"),
    ):
        source.read("BTCUSDT", START, STOP)
    (tmp_path / "a.csv").write_bytes(b"")
    with (
        depth_rows(path=str(tmp_path / "a.csv")) as source,
        pytest.raises(DataError, match=r"a\.csv: cannot be read: empty"),
    ):
        source.read("BTCUSDT", START, STOP)


@pytest.mark.parametrize(
    ("scale", "told"),
    [
        (1000, "is 17100288.*, not a count of us"),
        (0.001, "which counts ms since 1970, not us"),
        (1e-6, "counts s since 1970"),
    ],
    ids=["nanoseconds", "milliseconds", "seconds"],
)
def test_tardis_times_in_another_unit(tmp_path: Path, scale: float, told: str) -> None:
    ts = ((START // 1000 + np.arange(1, 4) * 1_000_000) * scale).astype(np.int64)
    (tmp_path / TARDIS).write_bytes(gzip.compress(tardis_text(book_of(3, 25), ts).encode()))
    with (
        tardis_snapshots(path=str(tmp_path / TARDIS)) as source,
        pytest.raises(DataError, match=told),
    ):
        source.read("BTCUSDT", START, STOP)


def test_a_gz_cut_short(tmp_path: Path) -> None:
    whole = gzip.compress(tardis_text(book_of(400, 25), START // 1000 + np.arange(1, 401) * 1000).encode())
    (tmp_path / TARDIS).write_bytes(whole[: len(whole) // 2])
    with (
        tardis_snapshots(path=str(tmp_path / TARDIS)) as source,
        pytest.raises(DataError, match="cannot be read: Compressed file ended"),
    ):
        source.read("BTCUSDT", START, STOP)


def test_levels_a_format_has_not() -> None:
    with pytest.raises(ConfigError, match="levels: 26: these files have 1 to 25"):
        tardis_snapshots(path="x.csv", levels=26)
    with pytest.raises(ConfigError, match="levels: 21: these files have 1 to 20"):
        crypto_lake_book(path="x.parquet", levels=21)


# -- Crypto Lake


def lake_frame(book: np.ndarray, ts_ns: np.ndarray, *, symbol: str | None) -> pl.DataFrame:
    received = pl.Series(ts_ns).cast(pl.Datetime("ns"))
    columns: dict[str, Any] = {"origin_time": pl.Series(ts_ns - 5_000_000).cast(pl.Datetime("ns"))}
    columns |= {"received_time": received, "sequence_number": np.arange(len(ts_ns)) + 7}
    if symbol is not None:
        columns |= {"symbol": symbol, "exchange": "BINANCE"}
    for side, at in (("bid", 0), ("ask", 2)):
        for k in range(book.shape[1]):
            columns |= {f"{side}_{k}_price": book[:, k, at], f"{side}_{k}_size": book[:, k, at + 1]}
    return pl.DataFrame(columns)


@pytest.mark.parametrize("symbol", [None, "BTC-USDT"], ids=["partition", "column"])
def test_crypto_lake_book(tmp_path: Path, symbol: str | None) -> None:
    book = book_of(8, 20)
    for day in range(4):
        for exchange in ("BINANCE", "KRAKEN"):
            folder = tmp_path / f"exchange={exchange}" / "symbol=BTC-USDT" / f"dt=2024-03-{9 + day:02}"
            folder.mkdir(parents=True)
            ts = START + (day - 1) * NS_PER_DAY + NS_PER_S * np.arange(1, 9) + 123
            lake_frame(book + day, ts, symbol=symbol).write_parquet(folder / "1.snappy.parquet")
    with crypto_lake_book(path=str(tmp_path), exchange="KRAKEN", symbols={"BTCUSDT": "BTC-USDT"}) as source:
        rows = source.read("BTCUSDT", START, STOP)
    np.testing.assert_array_equal(wide_of(rows, 20), book + 1)
    np.testing.assert_array_equal(rows.ts_ns_N[::20], START + NS_PER_S * np.arange(1, 9) + 123)
    assert rows.sequence_N is not None
    np.testing.assert_array_equal(rows.sequence_N[::20], np.arange(8) + 7)
    with (
        crypto_lake_book(path=str(tmp_path)) as source,
        pytest.raises(ConfigError, match=r"several exchange= \(BINANCE, KRAKEN\): say which with partitions"),
    ):
        source.read("BTC-USDT", START, STOP)


# -- LOBSTER


def lobster_pair(folder: Path, n: int = 5, n_messages: int | None = None) -> str:
    """AMZN of 2024-03-11 (New York is four hours behind UTC), two levels; the second ask of row 1 is a dummy."""
    book = [[2239500 + i, 100, 2231800, 200 + i, 2239900, 300, 2230700, 400] for i in range(n)]
    book[1][4:6] = [9999999999, 0]
    times = ["34200.017459617", "34200.2", "34200.2", "34201", "57599.999999999"][:n]
    messages = [f"{t},1,11885113,21,2238100,1" for t in times][: n if n_messages is None else n_messages]
    name = "AMZN_2024-03-11_34200000_57600000_{}_2.csv"
    (folder / name.format("orderbook")).write_text("".join(",".join(map(str, row)) + "\n" for row in book))
    (folder / name.format("message")).write_text("\n".join(messages) + "\n")
    return name


def check_lobster(path: str) -> None:
    with lobster_books(path=path, levels=2) as source:
        rows = source.read("AMZN", START + NS_PER_DAY, STOP + NS_PER_DAY)
    open_ns = START + NS_PER_DAY + (13 * 3600 + 1800) * NS_PER_S
    expected = [open_ns + 17459617, open_ns + 200_000_000, open_ns + NS_PER_S, open_ns + 23_399_999_999_999]
    assert rows.ts_ns_N[::2].tolist() == expected
    book = wide_of(rows, 2)
    np.testing.assert_array_equal(book[0], [[223.18, 200, 223.95, 100], [223.07, 400, 223.99, 300]])
    assert rows.superseded_ns_N is not None
    assert len(rows.superseded_ns_N) == 2  # one row of two levels at the time of another


def test_lobster_pairs(tmp_path: Path) -> None:
    name = lobster_pair(tmp_path)
    check_lobster(str(tmp_path / "{symbol}_{date}_*_orderbook_2.csv"))
    check_lobster(str(tmp_path))  # the folder: message files are no books
    with zipfile.ZipFile(tmp_path / "sample.zip", "w") as archive:
        for kind in ("orderbook", "message"):
            archive.write(tmp_path / name.format(kind), name.format(kind))
        archive.writestr("ReadMe.txt", "terms")
    check_lobster(str(tmp_path / "sample.zip"))


def test_a_lobster_day_is_the_exchanges_own(tmp_path: Path) -> None:
    """Sydney's morning is the evening before in UTC: the file of the next day has it."""
    (tmp_path / "BHP_2024-03-12_36000_57600_orderbook_1.csv").write_text("1010000,5,1000000,7\n" * 2)
    (tmp_path / "BHP_2024-03-12_36000_57600_message_1.csv").write_text("36000,1,1,1,1,1\n39600,1,1,1,1,1\n")
    path = str(tmp_path / "{symbol}_{date}_36000_57600_orderbook_1.csv")
    with lobster_books(path=path, levels=1, time_zone="Australia/Sydney") as source:
        days = [source.read("BHP", START + i * NS_PER_DAY, STOP + i * NS_PER_DAY).n_rows for i in range(4)]
    assert days == [0, 1, 1, 0]


def test_lobster_dummies_are_no_levels(tmp_path: Path) -> None:
    lobster_pair(tmp_path, n=2)
    with lobster_books(path=str(tmp_path), levels=2) as source:
        book = wide_of(source.read("AMZN", START, STOP + NS_PER_DAY), 2)
    assert np.isnan(book[1, 1, 2:]).all()
    assert np.isfinite(book[1, 0]).all()


def test_lobster_pairs_that_do_not_fit(tmp_path: Path) -> None:
    name = lobster_pair(tmp_path, n_messages=4)
    for change, message in [
        (lambda: None, "has 5 rows, but its message file 4: they belong together"),
        (lambda: (tmp_path / name.format("message")).unlink(), r"its message file AMZN_.*_message_2\.csv is not there"),
        (lambda: (tmp_path / name.format("orderbook")).write_text("1,2,3\n"), "is not there"),
    ]:
        change()
        with lobster_books(path=str(tmp_path), levels=2) as source, pytest.raises(DataError, match=message):
            source.read("AMZN", START, STOP + NS_PER_DAY)
    (tmp_path / "AMZN_orderbook_2.csv").write_text("1,2,3,4\n")
    (tmp_path / "AMZN_message_2.csv").write_text("1,1,1,1,1,1\n")
    with (
        lobster_books(path=str(tmp_path / "AMZN_orderbook_2.csv"), levels=1) as source,
        pytest.raises(DataError, match="its name must hold the day"),
    ):
        source.read("AMZN", START, STOP)


@pytest.mark.data
def test_a_real_lobster_sample(market_data: Path) -> None:
    with lobster_books(path=str(market_data / "lobster-2012-06-21" / "*.zip"), levels=5) as source:
        rows = source.read("AMZN", 0, 2**62)
    assert rows.superseded_ns_N is not None
    assert rows.n_rows + len(rows.superseded_ns_N) >= 155_935 * 5
    book = wide_of(rows, 5)
    np.testing.assert_array_equal(book[0, 0], [223.18, 100, 223.95, 100])
    assert (book[:, 0, 0] < book[:, 0, 2]).all()
    assert (np.diff(rows.ts_ns_N) >= 0).all()


# -- header-less wide files


def test_wide_files_without_a_header(tmp_path: Path) -> None:
    lines = [
        "1710028800500,5853300,2,5853200,3,5853400,5,5853100,7",
        "1710028801500,5853300,2,5853200,3,-1,0,5853100,7",
    ]
    (tmp_path / "w.csv").write_text("\n".join(lines) + "\n")
    names = {"bid_px": "bp{k}", "bid_qty": "bq{k}", "ask_px": "ap{k}", "ask_qty": "aq{k}"}
    options: dict[str, Any] = {"timestamp": "ms", "ts_unit": "ms", "price_scale": 10_000, "absent_px": [-1], **names}
    header = ["ms", "ap{k}", "aq{k}", "bp{k}", "bq{k}"]
    with wide_rows(path=str(tmp_path / "w.csv"), levels=2, header=header, **options) as source:
        book = wide_of(source.read("A", START, STOP), 2)
    np.testing.assert_array_equal(book[0], [[585.32, 3, 585.33, 2], [585.31, 7, 585.34, 5]])
    np.testing.assert_array_equal(book[1, 1], [585.31, 7, np.nan, np.nan])
    for wrong, message in [
        (["ms", "day", *header[1:]], "has 9 columns, which header does not fit: ms, day, ap"),
        (["ap{k}", "ms", "aq{k}"], "must stand together"),
        (["ms", "ms"], "a name stands there twice"),
    ]:
        with pytest.raises((DataError, ConfigError), match=message):  # noqa: SIM117
            with wide_rows(path=str(tmp_path / "w.csv"), levels=2, header=wrong, **options) as source:
                source.read("A", START, STOP)
    with (
        wide_rows(path=str(tmp_path / "w.csv"), levels=2, **options) as source,
        pytest.raises(DataError, match="holds numbers where the names of columns are expected"),
    ):
        source.read("A", START, STOP)


# -- what is no order book

NO_BOOKS = {
    "timestamp,percentage,depth,notional": "bookDepth: quantity summed within percentages",
    "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount": "use Tardis book_snapshot_25",
    "timestamp,receipt_timestamp,sequence_number,side_is_bid,price,size": "use Crypto Lake book",
    "exchange,symbol,timestamp,local_timestamp,id,side,price,amount": "holds trades, no order book",
    "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker": "trades, no order book",
    "id,price,qty,quote_qty,time,is_buyer_maker": "holds trades, no order book",
    "update_id,best_bid_price,best_bid_qty,best_ask_price,best_ask_qty,transaction_time,event_time": "one level",
    "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount": "one level, no depth",
    "open_time,open,high,low,close,volume,close_time,quote_volume,count": r"candles \(klines\), no order book",
    "1710028800000,1.0,2.0,0.5,1.5,100.0,1710028859999,150.0,9,50.0,75.0,0": "numbers where the names of columns",
}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("header", list(NO_BOOKS))
def test_what_is_no_order_book_is_refused(tmp_path: Path, header: str, kind: str) -> None:
    names = header.split(",")
    frame = pl.DataFrame({name: ["1", "2"] for name in names})
    path = tmp_path / f"rows.{kind}"
    if kind == "csv":
        frame.write_csv(path)
    else:
        frame.write_parquet(path)
    with depth_rows(path=str(path)) as source, pytest.raises(DataError, match=NO_BOOKS[header]):
        source.read("BTCUSDT", START, STOP)


def test_changes_mapped_to_a_book_are_refused_all_the_same(tmp_path: Path) -> None:
    header = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount"
    (tmp_path / "l2.csv").write_text(header + "\nbinance,A,1710028800000000,1710028800000000,true,bid,1.5,2\n")
    columns = {"ts": "timestamp", "px": "price", "qty": "amount", "level": None}
    options: dict[str, Any] = {"layout": "sided", "columns": columns, "ts_unit": "us"}
    with (
        depth_rows(path=str(tmp_path / "l2.csv"), **options) as source,
        pytest.raises(DataError, match="holds changes of a book"),
    ):
        source.read("A", START, STOP)


def test_one_level_asked_for_is_one_level(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("time,b,bq,a,aq\n1710028800000,1,2,3,4\n")
    names = {"bid_px": "b", "bid_qty": "bq", "ask_px": "a", "ask_qty": "aq"}
    with wide_rows(path=str(tmp_path / "t.csv"), timestamp="time", ts_unit="ms", levels=1, **names) as source:
        assert [x.tolist() for x in source.read("A", START, STOP).columns] == [[1], [2], [3], [4]]
