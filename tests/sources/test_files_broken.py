"""Broken rows and wrong columns in files: what is kept as NaN and what is refused."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from bml.types import DataError
from tests.depth_files import read, write
from tests.depth_frames import NUMBERS, START, paired_frame

LINES = "ts,symbol,level,bid_px,bid_qty,ask_px,ask_qty\n"
TIME = "2024-03-10T00:00:00Z"


def csv(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(LINES + "".join(row + "\n" for row in rows))
    return path


def test_broken_numbers_become_nan_and_the_row_stays(tmp_path: Path) -> None:
    path = csv(
        tmp_path,
        f"{TIME},A,1,1.5,2,3,4",
        f"{TIME},A,2,0.0001.44.95,,NaN,inf",
        f"{TIME},A,3, 7 ,8,9,-1e3",
        f"{TIME},B,1,x,2,3,4",
    )
    rows = read(path)
    np.testing.assert_array_equal(rows.columns[0], [1.5, np.nan, 7.0])
    np.testing.assert_array_equal(rows.columns[1], [2.0, np.nan, 8.0])
    np.testing.assert_array_equal(rows.columns[2], [3.0, np.nan, 9.0])
    np.testing.assert_array_equal(rows.columns[3], [4.0, np.inf, -1000.0])


def test_a_file_that_breaks_off_is_refused(tmp_path: Path) -> None:
    path = csv(tmp_path, f"{TIME},A,1,5,1,6,1", f"{TIME},A,2,4,1,7,1")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])  # the last line is whole: only its end is missing
    assert read(path).n_rows == 2
    path.write_bytes(whole[:-5])
    with pytest.raises(DataError, match=r"rows\.csv breaks off: its last line has 5 of 7 fields .* fetch it again"):
        read(path)


@pytest.mark.parametrize(("rows", "line"), [(["ROW", "", "ROW"], 3), (["ROW", "ROW", " \t"], 4), (["", "ROW"], 2)])
def test_a_blank_line_is_told_by_its_number(tmp_path: Path, rows: list[str], line: int) -> None:
    path = csv(tmp_path, *(row.replace("ROW", f"{TIME},A,1,5,1,6,1") for row in rows))
    with pytest.raises(DataError, match=rf"rows\.csv: line {line} is blank, which is no row: remove blank lines"):
        read(path)
    path.write_text("\n" + LINES + f"{TIME},A,0,5,1,6,1\n")
    with pytest.raises(DataError, match=r"'level' is 0, but levels are"):  # blank lines above the names are none
        read(path)


def test_grouped_digits(tmp_path: Path) -> None:
    path = csv(tmp_path, f'{TIME},A,1,5,"1",3,4', f'{TIME},A,2,5,"8,142.0187",3,4')
    with pytest.raises(
        DataError, match=r"rows\.csv: column 'bid_qty' groups digits, as in '8,142\.0187': set thousands"
    ):
        read(path)
    assert read(path, thousands=",").columns[1].tolist() == [1.0, 8142.0187]


def test_a_column_that_holds_no_numbers(tmp_path: Path) -> None:
    path = csv(tmp_path, f"{TIME},A,1,5,1,3,4")
    with pytest.raises(DataError, match="column 'symbol' holds 'A', not numbers"):
        read(path, columns={"bid_px": "symbol", "symbol": None})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2024-03-10 00:00:00,A,1,1,1,1,1", r"row 1: 'ts' is '2024-03-10 00:00:00', not an ISO time with an offset"),
        (",A,1,1,1,1,1", "row 1: 'ts' is empty"),
        (f"{TIME},A,0,1,1,1,1", r"row 1: 'level' is '?0'?, but levels are whole numbers from 1"),
        (f"{TIME},A,1.5,1,1,1,1", "row 1: 'level' is '1.5'"),
        (f"{TIME},A,,1,1,1,1", "row 1: 'level' is empty"),
        (f"{TIME},A,1,1,1,1,1,9", "cannot be read: found more fields"),
    ],
)
def test_broken_keys_are_refused_with_their_row(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(csv(tmp_path, f"{TIME},A,1,1,1,1,1", row))


def test_broken_keys_in_parquet(tmp_path: Path) -> None:
    frame = paired_frame(2, 2)
    write(frame.with_columns(pl.when(pl.int_range(pl.len()) != 2).then("ts").alias("ts")), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: row \d: 'ts' is empty"):
        read(tmp_path / "a.parquet")
    write(frame.with_columns(level=pl.lit(0)), tmp_path / "b.parquet")
    with pytest.raises(DataError, match="'level' is 0, but levels are whole numbers from 1"):
        read(tmp_path / "b.parquet")
    sided = frame.select("ts", "symbol", "level", side=pl.lit("offer"), px="bid_px", qty="bid_qty")
    write(sided, tmp_path / "c.parquet")
    with pytest.raises(DataError, match=r"'side' is 'offer', neither 'bid' \(bid\) nor 'ask' \(ask\)"):
        read(tmp_path / "c.parquet", layout="sided")


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"bid_px": pl.Boolean}, {}, "column 'bid_px' is Boolean, but bid_px must be a number"),
        ({"level": pl.Float64}, {}, "column 'level' is Float64, but level must be an integer"),
        ({"ts": pl.Date}, {}, "column 'ts' is Date, but ts must be a timestamp"),
        ({"ts": pl.Int64}, {}, "needs to know what it counts since 1970: set ts_unit"),
        ({}, {"ts_unit": "ms"}, "needs neither ts_unit nor ts_format"),
        ({}, {"time_zone": "UTC"}, "has its own zone then"),
        ({}, {"columns": {"bid_px": "bid_price"}}, r"has no column 'bid_price' \(for bid_px\)"),
        ({}, {"columns": {"bid_px": "bid_pxx"}}, "did you mean 'bid_px'"),
    ],
)
def test_wrong_columns(tmp_path: Path, change: dict[str, Any], options: dict[str, Any], message: str) -> None:
    frame = paired_frame(1, 1)
    if "bid_px" in change:
        frame = frame.with_columns(bid_px=pl.lit(True))
    else:
        frame = frame.with_columns(pl.col(name).cast(dtype) for name, dtype in change.items())
    write(frame, tmp_path / "w.parquet")
    with pytest.raises(DataError, match=message):
        read(tmp_path / "w.parquet", **options)


def test_side_values_of_another_type(tmp_path: Path) -> None:
    frame = paired_frame(1, 1).select("ts", "symbol", "level", side=pl.lit(True), px="bid_px", qty="bid_qty")
    write(frame, tmp_path / "s.parquet")
    with pytest.raises(DataError, match="column 'side' is Boolean, but side is told apart by values such as 'bid'"):
        read(tmp_path / "s.parquet", layout="sided")


def test_a_local_time_that_happened_twice_is_refused(tmp_path: Path) -> None:
    twice = dt.datetime(2024, 11, 3, 1, 30)
    frame = pl.DataFrame({"ts": [twice], "symbol": ["A"], "level": [1], **{n: [1.0] for n in NUMBERS}})
    frame.write_parquet(tmp_path / "dst.parquet")
    frame.write_csv(tmp_path / "dst.csv")
    for name in ("dst.parquet", "dst.csv"):
        with pytest.raises(DataError, match="ambiguous"):
            read(tmp_path / name, time_zone="America/New_York", start=0, stop=2**62)


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("year", [1969, 2262])
def test_the_ends_of_time(tmp_path: Path, unit: Any, year: int) -> None:
    moment = dt.datetime(year, 3, 1, 12, tzinfo=dt.UTC)
    ns = int((moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)).total_seconds()) * 10**9
    ts = pl.Series("ts", [moment]).cast(pl.Datetime(unit, "UTC"))
    write(paired_frame(1, 1, ("A",)).with_columns(ts), tmp_path / "y.parquet")
    write(paired_frame(1, 1, ("A",)).with_columns(ts), tmp_path / "y.csv")
    for name in ("y.parquet", "y.csv"):
        assert read(tmp_path / name, start=ns, stop=ns + 1).ts_ns_N.tolist() == [ns]
        assert read(tmp_path / name).n_rows == 0


@pytest.mark.parametrize("year", [2500, 2608])
def test_years_beyond_are_refused_not_wrapped(tmp_path: Path, year: int) -> None:
    path = csv(tmp_path, f"{year}-03-10T00:00:00Z,A,1,1,1,1,1")
    with pytest.raises(DataError, match=f"row 0: 'ts' is '{year}-03-10T00:00:00Z', not an ISO time"):
        read(path)
    ts = pl.Series("ts", [dt.datetime(year, 3, 10)]).cast(pl.Datetime("us"))
    write(paired_frame(1, 1, ("A",)).with_columns(ts), tmp_path / "y.parquet")
    assert read(tmp_path / "y.parquet", start=-(2**63), stop=2**63 - 1).n_rows == 0
    with pytest.raises(DataError, match="row 0: 'ts' is"):
        read(tmp_path / "y.parquet", time_zone="Asia/Tokyo")


def test_offsets_of_each_row_are_honoured_and_must_be_there(tmp_path: Path) -> None:
    times = ("2024-03-10T02:00:00+02:00", "2024-03-10T00:00:01Z", "2024-03-09T19:00:02-0500")
    path = csv(tmp_path, *(f"{time},A,1,1,1,1,1" for time in times))
    assert ((read(path).ts_ns_N - START) // 10**9).tolist() == [0, 1, 2]
    path = csv(tmp_path, f"{TIME},A,1,1,1,1,1", "2024-03-10T00:00:01,A,1,1,1,1,1")
    with pytest.raises(DataError, match="row 1: 'ts' is '2024-03-10T00:00:01', not an ISO time with an offset"):
        read(path)


def test_files_that_are_no_table(tmp_path: Path) -> None:
    write(paired_frame(), tmp_path / "whole.parquet")
    (tmp_path / "short.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:-40])
    (tmp_path / "empty.parquet").touch()
    (tmp_path / "empty.csv").touch()
    (tmp_path / "noise.csv").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "latin.csv").write_bytes(LINES.encode() + f"{TIME},\xe9,1,1,1,1,1\n".encode("latin1"))
    for name in ("short.parquet", "empty.parquet", "empty.csv", "noise.csv", "latin.csv"):
        with pytest.raises(DataError, match=name) as error:
            read(tmp_path / name)
        assert str(error.value).isprintable()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "readme.txt").write_text("hello")
    with pytest.raises(DataError, match="no file matches"):
        read(tmp_path / "other")


@pytest.mark.parametrize("name", ["u.parquet", "u.csv"])
@pytest.mark.parametrize(("said", "meant"), [("ns", "ms"), ("us", "ms"), ("ms", "s")])
def test_a_finer_unit_than_the_times_have(tmp_path: Path, name: str, said: str, meant: str) -> None:
    scale = {"ms": 10**6, "s": 10**9}[meant]
    count = pl.col("ts").dt.epoch("ns") // scale
    write(paired_frame().with_columns(count.alias("ts")), tmp_path / name)
    with pytest.raises(DataError, match=f"column 'ts' holds {START // scale}, which counts {meant} since 1970"):
        read(tmp_path / name, ts_unit=said)
