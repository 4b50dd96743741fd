"""Which files a path, a folder or a pattern names, and damaged files."""

from __future__ import annotations

import datetime as dt
import gzip
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from bml.sources.files import depth_rows, wide_rows
from bml.sources.paths import PathPattern
from bml.types import NS_PER_DAY, ConfigError, DataError

DAY = dt.date(2024, 3, 10)
START = (DAY - dt.date(1970, 1, 1)).days * NS_PER_DAY
STOP = START + NS_PER_DAY


def day_file(path: Path, day: dt.date, price: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ts = dt.datetime.combine(day, dt.time(12), tzinfo=dt.UTC)
    pl.DataFrame(
        {"ts": [ts], "level": [1], "bid_px": [price], "bid_qty": [1.0], "ask_px": [2.0], "ask_qty": [1.0]}
    ).write_parquet(path)


def prices(path: str, symbol: str = "BTC", start: int = START, stop: int = STOP, **options: Any) -> list[float]:
    with depth_rows(path=path, columns={"symbol": None}, **options) as source:
        return list(source.read(symbol, start, stop).columns[0])


def test_files_named_by_the_days_of_their_time_zone(tmp_path: Path) -> None:
    """Tokyo's first nine hours are the day before in UTC: no row of the file is in no day."""
    times = [dt.datetime(2024, 3, 10, hour) for hour in (0, 8, 9, 23)]
    frame = pl.DataFrame({"ts": times, "level": 1, "bid_px": [1.0, 2.0, 3.0, 4.0]})
    frame.with_columns(bid_qty=1.0, ask_px=5.0, ask_qty=1.0).write_parquet(tmp_path / "BTC_2024-03-10.parquet")
    pattern = str(tmp_path / "{symbol}_{date}.parquet")
    days = [(START + i * NS_PER_DAY, STOP + i * NS_PER_DAY) for i in (-1, 0, 1)]
    found = [prices(pattern, start=start, stop=stop, time_zone="Asia/Tokyo") for start, stop in days]
    assert found == [[1.0, 2.0], [3.0, 4.0], []]


def test_symbol_and_date_in_the_path(tmp_path: Path) -> None:
    for i in range(3):
        day = DAY + dt.timedelta(days=i)
        day_file(tmp_path / "BTC" / f"{day:%Y%m%d}.parquet", day, float(i))
        day_file(tmp_path / "ETH" / f"{day:%Y%m%d}.parquet", day, 10.0 + i)
    pattern = str(tmp_path / "{symbol}" / "{date:%Y%m%d}.parquet")
    assert prices(pattern) == [0.0]
    assert prices(pattern, "ETH", START + 1, STOP + NS_PER_DAY) == [10.0, 11.0]
    assert prices(pattern, stop=STOP + 1) == [0.0]
    assert prices(pattern, start=START - NS_PER_DAY) == [0.0]  # the day before has no file, hence no rows
    assert prices(pattern, start=START - 9 * NS_PER_DAY, stop=START) == []
    with pytest.raises(DataError, match=r"no file matches .*SOL.*\{date:%Y%m%d\}\.parquet"):
        prices(pattern, "SOL")


def test_folders_globs_and_odd_names(tmp_path: Path) -> None:
    day_file(tmp_path / "b [1]" / "2.parquet", DAY, 2.0)
    day_file(tmp_path / "b [1]" / "1.parquet", DAY, 1.0)
    day_file(tmp_path / "b [1]" / ".hidden.parquet", DAY, 9.0)
    (tmp_path / "b [1]" / "SOURCE.md").write_text("not data")
    assert prices(str(tmp_path / "b [1]")) == [1.0, 2.0]
    assert prices(str(tmp_path / "b [1]" / "2.parquet")) == [2.0]
    assert prices(str(tmp_path / "b*" / "*")) == [1.0, 2.0]
    with pytest.raises(DataError, match=r"SOURCE\.md: not one of the kinds"):
        prices(str(tmp_path / "b [1]" / "SOURCE.md"))
    for missing in ("nothing.parquet", "*.parquet", "b [1]/{date}.parquet"):
        with pytest.raises(DataError, match="no file matches"):
            prices(str(tmp_path / missing))


@pytest.mark.parametrize("symbol", ["../secret", "a/b", "", ".", "..", "*", "x" * 65, "a\x00"])
def test_symbols_that_would_leave_the_folder(tmp_path: Path, symbol: str) -> None:
    with pytest.raises(ConfigError, match="cannot be part of a file name"):
        prices(str(tmp_path / "{symbol}.parquet"), symbol)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "a file, a folder"),
        ("{sybol}.csv", "did you mean 'symbol'"),
        ("{}.csv", "unknown"),
        ("{symbol:x}", "unknown"),
    ],
)
def test_faulty_patterns(path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PathPattern(path)


def test_two_symbols_cannot_share_a_file_without_symbol_column(tmp_path: Path) -> None:
    day_file(tmp_path / "x.parquet", DAY, 1.0)
    two = SimpleNamespace(symbols=("BTC", "ETH"))
    with pytest.raises(ConfigError, match="cannot be both BTC and ETH"):
        prices(str(tmp_path / "x.parquet"), data=two)
    assert prices(str(tmp_path / "x.parquet"), data=SimpleNamespace(symbols=("BTC",))) == [1.0]


def zip_of(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "ts\n")


def test_damaged_files(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 this is none")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"ts,level\n" * 1000)[:-9])
    (tmp_path / "c.csv.gz").write_bytes(b"plain text")
    (tmp_path / "d.zip").write_bytes(b"PK\x03\x04 torn")
    (tmp_path / "e.csv").write_bytes(b"")
    for name in "abcde":
        file = next(tmp_path.glob(f"{name}.*"))
        with pytest.raises(DataError, match=f"{file.name}: cannot be read: .+") as caught:
            prices(str(file))
        assert "\n" not in str(caught.value)
    zip_of(tmp_path / "two.zip", "a.csv", "b.csv")
    zip_of(tmp_path / "none.zip", "readme.txt")
    for name, count in (("two", 2), ("none", 0)):
        with pytest.raises(DataError, match=rf"{name}\.zip: a zip file must hold one \.csv, this one has {count}"):
            prices(str(tmp_path / f"{name}.zip"))


def test_a_symbol_is_not_the_beginning_or_end_of_another(tmp_path: Path) -> None:
    """A star beside {symbol} never goes on with a letter or digit, whatever symbols are configured."""
    for i, name in enumerate(["BTC", "BTC_1", "BTC.2", "BTCX", "BTC3", "1BTC", "x-BTC", "x1BTC-5"]):
        day_file(tmp_path / f"{name}.parquet", DAY, float(i))
    assert prices(f"{tmp_path}/{{symbol}}*") == [2.0, 0.0, 1.0]  # BTC.2, BTC.parquet, BTC_1
    assert prices(f"{tmp_path}/{{symbol}}*.parquet") == [2.0, 0.0, 1.0]
    assert prices(f"{tmp_path}/*{{symbol}}.parquet") == [0.0, 6.0]
    assert prices(f"{tmp_path}/*{{symbol}}*.parquet") == [2.0, 0.0, 1.0, 6.0]
    assert prices(f"{tmp_path}/{{symbol}}[0-9].parquet") == [4.0]  # what is spelled out is meant
    with pytest.raises(DataError, match=r"no file matches .*/BT\*\.parquet .*; a \* beside \{symbol\} does not begin"):
        prices(f"{tmp_path}/{{symbol}}*.parquet", "BT")


def test_two_symbols_side_by_side_keep_their_files(tmp_path: Path) -> None:
    day_file(tmp_path / "BTCUSD_1.parquet", DAY, 1.0)
    day_file(tmp_path / "BTCUSDT_1.parquet", DAY, 2.0)
    both = SimpleNamespace(symbols=("BTCUSD", "BTCUSDT"))
    for pattern in ("{symbol}*.parquet", "{symbol}_*.parquet", "{symbol}_1.parquet"):
        assert prices(str(tmp_path / pattern), "BTCUSD", data=both) == [1.0]
        assert prices(str(tmp_path / pattern), "BTCUSDT", data=both) == [2.0]


@pytest.mark.parametrize("form", ["{symbol}*.parquet", "{symbol}-*.parquet", "{symbol}-*{date:%Y%m%d}.parquet"])
def test_a_file_that_two_configured_symbols_match_is_refused(tmp_path: Path, form: str) -> None:
    day_file(tmp_path / "BTC-20240310.parquet", DAY, 1.0)
    day_file(tmp_path / "BTC-PERP-20240310.parquet", DAY, 2.0)
    path = str(tmp_path / form)
    both = SimpleNamespace(symbols=("BTC-PERP", "BTC", "ETH"))
    for symbol, other in (("BTC", "BTC-PERP"), ("BTC-PERP", "BTC")):
        words = rf"/BTC-PERP-20240310\.parquet matches it for {symbol} and for {other}, and there is no symbol column"
        with pytest.raises(ConfigError, match=words) as caught:
            prices(path, symbol, data=both)
        assert "\n" not in str(caught.value)
    with (
        wide_rows(path=path, timestamp="ts", levels=1, data=both, bid_px="bid_px{k}") as source,
        pytest.raises(ConfigError, match="matches it for BTC and for BTC-PERP"),
    ):
        source.read("BTC", START, STOP)
    with depth_rows(path=path, columns={"symbol": "who"}, data=both) as source, pytest.raises(DataError, match="'who'"):
        source.read("BTC", START, STOP)  # a symbol column tells the rows apart, so only that column is missing
