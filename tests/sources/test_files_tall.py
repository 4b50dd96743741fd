"""sources.files.depth_rows on small files written here."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from bml.sources.files import depth_rows
from bml.types import NS_PER_DAY, ConfigError, DataError
from tests.depth_files import read, write
from tests.depth_frames import DAY, NUMBERS, START, STOP, paired_frame, same_rows


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv", "rows.csv.gz", "rows.zip"])
def test_paired_in_every_kind_of_file(tmp_path: Path, name: str) -> None:
    frame = paired_frame().sample(fraction=1.0, shuffle=True, seed=4)  # order must stay as it is
    frame = frame.with_columns(pl.when(pl.int_range(pl.len()) % 5 != 1).then("ask_qty").alias("ask_qty"))
    write(frame, tmp_path / name)
    assert read(tmp_path / name).ordered
    same_rows(read(tmp_path / name), frame.filter(pl.col("symbol") == "A"))
    same_rows(read(tmp_path, "B", depth=2), frame.filter((pl.col("symbol") == "B") & (pl.col("level") <= 2)))


def test_half_open_edges_and_empty_range(tmp_path: Path) -> None:
    us = dt.timedelta(microseconds=1)
    edges = [DAY - us, DAY, DAY + dt.timedelta(days=1) - us, DAY + dt.timedelta(days=1)]
    frame = pl.DataFrame(
        {"ts": edges, "symbol": ["A"] * 4, "level": [1] * 4, **{n: [1.0, 2.0, 3.0, 4.0] for n in NUMBERS}}
    )
    for unit in ("ns", "us", "ms"):
        write(frame.with_columns(pl.col("ts").dt.cast_time_unit(unit)), tmp_path / f"{unit}.parquet")
        assert read(tmp_path / f"{unit}.parquet").columns[0].tolist() == [2.0, 3.0]
        assert read(tmp_path / f"{unit}.parquet", start=START + 1).columns[0].tolist() == [3.0]
    write(frame, tmp_path / "rows.csv")
    assert read(tmp_path / "rows.csv").columns[0].tolist() == [2.0, 3.0]
    for name in ("ns.parquet", "rows.csv"):
        empty = read(tmp_path / name, start=START + 5 * NS_PER_DAY, stop=STOP + 5 * NS_PER_DAY)
        assert (empty.n_rows, empty.level_N.dtype, empty.columns[0].dtype) == (0, np.int32, np.float64)
        assert read(tmp_path / name, "NOBODY").n_rows == 0


@pytest.mark.parametrize(
    ("texts", "options"),
    [
        (["2024-03-10T00:00:00Z", "2024-03-10T00:00:01.5Z"], {}),
        (["2024-03-10 00:00:00+00:00", "2024-03-10 00:00:01.500000+00:00"], {}),
        (["2024-03-09 19:00:00-0500", "2024-03-09 19:00:01.5-0500"], {}),
        (["2024-03-10 09:00:00+09", " 2024-03-10 09:00:01.5 +09 "], {}),
        (["2024-03-10 00:00:00", "2024-03-10T00:00:01.500000000"], {"time_zone": "UTC"}),
        (["2024-03-09 19:00:00", "2024-03-09 19:00:01.5"], {"time_zone": "America/New_York"}),
        (["10.03.2024 00:00:00.0", "10.03.2024 00:00:01.5"], {"ts_format": "%d.%m.%Y %H:%M:%S%.f", "time_zone": "UTC"}),
        (["10.03.2024 01:00:00.0+0100", "10.03.2024 01:00:01.5+0100"], {"ts_format": "%d.%m.%Y %H:%M:%S%.f%z"}),
        ([str(START // 10**6), str(START // 10**6 + 1500)], {"ts_unit": "ms"}),
        ([str(START), str(START + 1_500_000_000)], {"ts_unit": "ns"}),
    ],
)
def test_spellings_of_time(tmp_path: Path, texts: list[str], options: dict[str, Any]) -> None:
    frame = pl.DataFrame({"ts": texts, "symbol": ["A"] * 2, "level": [1, 1], **{n: [1.0, 2.0] for n in NUMBERS}})
    frame.write_csv(tmp_path / "rows.csv")
    frame.write_parquet(tmp_path / "text.parquet")
    for name in ("rows.csv", "text.parquet"):
        assert read(tmp_path / name, **options).ts_ns_N.tolist() == [START, START + 1_500_000_000]


def test_naive_and_integer_parquet_times(tmp_path: Path) -> None:
    frame = paired_frame(2, 1).with_columns(pl.col("ts").dt.replace_time_zone(None))
    write(frame, tmp_path / "naive.parquet")
    assert read(tmp_path / "naive.parquet").ts_ns_N[0] == START
    shifted = read(tmp_path / "naive.parquet", time_zone="Asia/Tokyo", start=START - NS_PER_DAY)
    assert shifted.ts_ns_N[0] == START - 9 * 3600 * 10**9
    write(frame.with_columns(pl.col("ts").dt.timestamp("us")), tmp_path / "int.parquet")
    assert read(tmp_path / "int.parquet", ts_unit="us").ts_ns_N.tolist() == [START, START + 10_000_001_000]


@pytest.mark.parametrize(
    ("bid", "ask", "dtype"),
    [
        ("bid", "ask", pl.String),
        ("B", "A", pl.Categorical),
        (False, True, pl.Boolean),
        (0, 1, pl.Int64),
        (1, -1, pl.Int8),
    ],
)
@pytest.mark.parametrize("name", ["s.parquet", "s.csv"])
def test_sided(tmp_path: Path, bid: Any, ask: Any, dtype: Any, name: str) -> None:
    n = 6
    frame = pl.DataFrame(
        {
            "t": [DAY] * n,
            "is": pl.Series([bid, ask] * 3).cast(dtype),
            "level": [0, 0, 1, 1, 2, 2],
            "px": np.arange(6.0),
            "qty": np.arange(6.0) + 1,
        }
    )
    write(frame, tmp_path / name)
    columns: dict[str, str | None] = {"ts": "t", "side": "is", "symbol": None}
    sides = {"bid": bid, "ask": ask}
    rows = read(tmp_path / name, layout="sided", columns=columns, side_values=sides, first_level=0, depth=2)
    assert rows.side_N is not None
    assert rows.side_N.dtype == np.int8
    assert rows.side_N.tolist() == [0, 1, 0, 1]
    assert rows.level_N.tolist() == [1, 1, 2, 2]
    assert rows.columns[1].tolist() == [1.0, 2.0, 3.0, 4.0]


def test_price_keyed_sided_rows(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "ts": [DAY] * 6,
            "side": ["bid", "ask", "bid", "ask", "bid", "ask"],
            "px": [98.0, 103.0, 99.0, 101.0, 97.0, 102.0],
            "qty": [1.0, 2.0, 3.0, 4.0, 0.0, None],
        }
    )
    write(frame, tmp_path / "k.parquet")
    columns: dict[str, str | None] = {"level": None, "symbol": None}
    rows = read(tmp_path / "k.parquet", layout="sided", columns=columns)
    assert rows.level_N.tolist() == [2, 2, 1, 1, 3]  # the bid of quantity 0 is no level, the empty ask comes last
    assert rows.columns[0].tolist() == [98.0, 103.0, 99.0, 101.0, 102.0]
    assert np.isnan(rows.columns[1][4])
    assert rows.price_keyed
    cut = read(tmp_path / "k.parquet", layout="sided", columns=columns, depth=1)
    assert cut.columns[0].tolist() == [99.0, 101.0, 102.0]  # a broken row is read whatever the depth


@pytest.mark.parametrize("depth", [None, 2])
@pytest.mark.parametrize("name", ["k.parquet", "k.csv"])
def test_price_keyed_rows_of_the_largest_batch_only(tmp_path: Path, name: str, depth: int | None) -> None:
    later = DAY + dt.timedelta(seconds=1)
    frame = pl.DataFrame(
        {
            "ts": [DAY] * 6 + [later] * 2,
            "side": ["bid", "ask", "bid", "ask", "bid", "ask", "bid", "ask"],
            "px": [98.0, 101.0, 99.0, 102.0, 97.0, 99.0, 98.0, 103.0],
            "qty": [1.0, 2.0, 3.0, 4.0, 0.0, 5.0, 6.0, 7.0],
            "batch": [1, 1, 2, 2, 1, None, 1, 1],
        }
    )
    write(frame, tmp_path / name)
    columns: dict[str, str | None] = {"level": None, "symbol": None, "batch": "batch"}
    rows = read(tmp_path / name, layout="sided", columns=columns, depth=depth)
    assert rows.columns[0].tolist() == [99.0, 102.0, 98.0, 103.0]
    assert rows.level_N.tolist() == [1, 1, 1, 1]
    assert rows.superseded_ns_N is not None
    assert rows.superseded_ns_N.tolist() == [START] * 3  # the bid of quantity 0 was no level to begin with
    merged = read(tmp_path / name, layout="sided", columns={**columns, "batch": None})
    assert merged.n_rows == 7  # without a batch column all rows of a time are one book
    assert merged.superseded_ns_N is None


def test_a_batch_of_zeros_supersedes_too(tmp_path: Path) -> None:
    frame = {"ts": [DAY] * 2, "side": ["bid"] * 2, "px": [98.0, 98.0], "qty": [1.0, 0.0], "batch": [1, 2]}
    write(pl.DataFrame(frame), tmp_path / "k.parquet")
    columns: dict[str, str | None] = {"level": None, "symbol": None, "batch": "batch"}
    assert read(tmp_path / "k.parquet", layout="sided", columns=columns).n_rows == 0


def test_price_pair(tmp_path: Path) -> None:
    later = DAY + dt.timedelta(seconds=1)
    frame = pl.DataFrame(
        {
            "ts": [DAY, DAY, DAY, DAY, later, later],
            "price": [10.0, 11.0, 12.0, 13.0, 11.0, 12.0],
            "buy": [5.0, 6.0, 0.0, 0.0, 1.0, None],
            "sell": [0.0, 7.0, 8.0, 0.0, None, 2.0],
            "n": [1, 2, 3, 4, 5, 6],
        }
    )
    columns: dict[str, str | None] = {
        "px": "price",
        "bid_qty": "buy",
        "ask_qty": "sell",
        "symbol": None,
        "sequence": "n",
    }
    for name in ("p.parquet", "p.csv"):
        write(frame, tmp_path / name)
        rows = read(tmp_path / name, layout="price_pair", columns=columns)
        assert rows.side_N is not None
        assert rows.sequence_N is not None
        assert rows.columns[0].tolist() == [10.0, 11.0, 11.0, 12.0, 11.0, 12.0]
        assert rows.side_N.tolist() == [0, 0, 1, 1, 0, 1]
        assert rows.columns[1].tolist() == [5.0, 6.0, 7.0, 8.0, 1.0, 2.0]
        assert rows.level_N.tolist() == [2, 1, 1, 2, 1, 1]
        assert rows.sequence_N.tolist() == [1, 2, 2, 3, 5, 6]
        assert rows.ts_ns_N.tolist() == [START] * 4 + [START + 10**9] * 2


def test_price_pair_of_the_largest_batch_only(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "ts": [DAY] * 3,
            "px": [10.0, 11.0, 12.0],
            "bid_qty": [5.0, 6.0, None],
            "ask_qty": [0.0, 0.0, 7.0],
            "b": [1, 2, 2],
        }
    )
    write(frame, tmp_path / "p.parquet")
    columns: dict[str, str | None] = {"symbol": None, "batch": "b"}
    rows = read(tmp_path / "p.parquet", layout="price_pair", columns=columns)
    assert rows.columns[0].tolist() == [11.0, 12.0]
    assert rows.superseded_ns_N is not None
    assert rows.superseded_ns_N.tolist() == [START]


@pytest.mark.parametrize("depth", [None, 10])
@pytest.mark.parametrize(("level", "shown"), [(None, "empty"), (0, "0"), (-3, "-3")])
def test_a_level_that_is_none_is_refused_whatever_the_depth(
    tmp_path: Path, level: int | None, shown: str, depth: int | None
) -> None:
    frame = paired_frame(2, 3, ("A",))
    frame = frame.with_columns(pl.when(pl.int_range(pl.len()) == 4).then(level).otherwise("level").alias("level"))
    for name in ("x.parquet", "x.csv"):
        write(frame, tmp_path / name)
        message = rf"{name}: row 4: 'level' is '?{shown}'?, but levels are whole numbers from 1"
        with pytest.raises(DataError, match=message):
            read(tmp_path / name, depth=depth)


def test_batch_and_sequence(tmp_path: Path) -> None:
    frame = paired_frame(1, 2).with_columns(b=pl.int_range(pl.len()), s=pl.lit(None, pl.Int64))
    for name in ("x.parquet", "x.csv"):
        write(frame, tmp_path / name)
        rows = read(tmp_path / name, columns={"batch": "b", "sequence": "s"})
        assert rows.batch_N is not None
        assert rows.sequence_N is not None
        assert rows.batch_N.tolist() == [0, 2]
        assert rows.sequence_N.tolist() == [-1, -1]


def test_one_parse_for_many_reads_and_nothing_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    write(paired_frame(2, 1), tmp_path / "one.csv.gz")
    write(paired_frame(3, 1), tmp_path / "two.csv.gz")
    with depth_rows(path=str(tmp_path / "*.csv.gz"), scratch_gb=0.0) as source:
        assert source.read("A", START, STOP).n_rows == 5
        assert len(list(scratch.rglob("*.parquet"))) == 1  # over the limit only the last file is kept
    assert not list(scratch.iterdir())
    with depth_rows(path=str(tmp_path / "*.csv.gz")) as source:
        source.read("A", START, STOP)
        made = {p: p.stat().st_mtime_ns for p in scratch.rglob("*.parquet")}
        source.read("B", START, STOP)
        assert made == {p: p.stat().st_mtime_ns for p in scratch.rglob("*.parquet")}
        assert len(made) == 2
        write(paired_frame(4, 1), tmp_path / "two.csv.gz")
        os.utime(tmp_path / "two.csv.gz", ns=(1, 1))
        assert source.read("A", START, STOP).n_rows == 6  # a file that changed is parsed again
    assert not list(scratch.iterdir())


def test_options_that_make_no_sense() -> None:
    for options, message in [
        ({"ts_unit": "ms", "ts_format": "%s"}, "give one of them"),
        ({"ts_format": "%H"}, "has no offset: say the zone"),
        ({"ts_format": "%H%z", "time_zone": "UTC"}, "leave time_zone out"),
        ({"time_zone": "Mars/Olympus"}, "not a zone"),
        ({"delimiter": ";;"}, "not one ASCII character"),
        ({"layout": "price_pair", "columns": {"level": "x"}}, "unknown in layout 'price_pair'"),
        ({"layout": "nested"}, "is none of paired, sided, price_pair"),
    ]:
        with pytest.raises(ConfigError, match=message):
            depth_rows(path="x.csv", **options)  # type: ignore[arg-type]
