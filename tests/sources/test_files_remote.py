"""Partitions and object stores: only what can hold the rows is looked into, and no secret is told."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from bml.sources.files import depth_rows
from bml.types import BmlError, ConfigError, DataError, SourceError
from tests.depth_files import read
from tests.depth_frames import NUMBERS, START, STOP, paired_frame, same_rows

fsspec: Any = pytest.importorskip("fsspec")
pytest.importorskip("pyarrow")
DAY_NS = STOP - START


@pytest.fixture
def memory() -> Iterator[Any]:
    """fsspec's file system of this process's memory, empty before and after."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    yield fs
    fs.store.clear()


def day_frame(day: int, symbol: str, n_times: int = 50) -> pl.DataFrame:
    """Day 0 is the day of START; every day and symbol has other numbers."""
    frame = paired_frame(n_times, 4, (symbol,))
    values = np.random.default_rng([day + 100, *symbol.encode()]).normal(size=(frame.height, 4))
    ts = pl.col("ts") + pl.duration(days=day)
    return frame.with_columns(ts, *(pl.Series(name, values[:, i]) for i, name in enumerate(NUMBERS)))


def write_lake(root: Path, symbols: tuple[str, ...] = ("A", "B"), key: str = "dt") -> None:
    """symbol=.../dt=.../part.parquet of nine days, the symbol in the folder's name alone."""
    for symbol in symbols:
        for day in range(-4, 5):
            folder = root / f"symbol={symbol}" / f"{key}=2024-03-{10 + day:02}"
            folder.mkdir(parents=True)
            day_frame(day, symbol).drop("symbol").write_parquet(folder / "part.parquet")


# -- hive partitions


def test_partitions_of_other_days_and_symbols_are_never_opened(tmp_path: Path) -> None:
    write_lake(tmp_path)
    for path in tmp_path.rglob("part.parquet"):  # whoever opens one of these finds no parquet
        if "symbol=B" in str(path) or not any(f"-{day:02}" in str(path) for day in (9, 10, 11)):
            path.write_bytes(b"not parquet")
    same_rows(read(tmp_path, "A"), day_frame(0, "A"))
    with pytest.raises(DataError, match=r"symbol=B.*cannot be read"):
        read(tmp_path, "B")


@pytest.mark.parametrize("key", ["date", "day"])
def test_other_names_of_the_date(tmp_path: Path, key: str) -> None:
    write_lake(tmp_path, ("A",), key)
    (tmp_path / "symbol=A" / f"{key}=2024-03-06" / "part.parquet").write_bytes(b"no")
    same_rows(read(tmp_path, "A"), day_frame(0, "A"))


def test_year_month_day_partitions(tmp_path: Path) -> None:
    for year, month, day, at in ((2024, 3, 10, 0), (2024, 2, 28, None), (2023, 3, 10, None), (2024, 12, 31, None)):
        folder = tmp_path / f"year={year}" / f"month={month:02}" / f"day={day:02}"
        folder.mkdir(parents=True)
        if at is None:
            (folder / "x.parquet").write_bytes(b"no")
        else:
            day_frame(at, "A").write_parquet(folder / "x.parquet")
    same_rows(read(tmp_path, "A"), day_frame(0, "A"))


def test_a_key_with_several_values_must_be_named(tmp_path: Path) -> None:
    for exchange in ("K", "B"):
        write_lake(tmp_path / f"exchange={exchange}", ("A",))
    with pytest.raises(ConfigError, match=r"several exchange= \(B, K\): say which with partitions: \{exchange: B\}"):
        read(tmp_path, "A")
    same_rows(read(tmp_path, "A", partitions={"exchange": "B"}), day_frame(0, "A"))
    with pytest.raises(DataError, match="no file matches"):
        read(tmp_path, "A", partitions={"exchange": "C"})


def test_partitioned_csv_and_files_beside_them(tmp_path: Path) -> None:
    folder = tmp_path / "symbol=A%2FB" / "dt=20240310"
    folder.mkdir(parents=True)
    text = day_frame(0, "A").drop("symbol").write_csv(datetime_format="%Y-%m-%dT%H:%M:%S%.f%:z")
    (folder / "x.csv.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "_SUCCESS").touch()
    (folder / "notes.txt").write_text("hello")
    same_rows(read(tmp_path, "AB", symbols={"AB": "A/B"}), day_frame(0, "A"))


# -- row groups


def test_row_groups_of_another_time_are_not_read(tmp_path: Path) -> None:
    """The bytes of all row groups but one day's are destroyed; the rows of that day come all the same."""
    pq: Any = pytest.importorskip("pyarrow.parquet")
    frame = pl.concat([day_frame(day, "A", 400) for day in range(-3, 4)])
    path = tmp_path / "week.parquet"
    frame.write_parquet(path, row_group_size=1600, use_pyarrow=False)
    metadata, data = pq.ParquetFile(path).metadata, bytearray(path.read_bytes())
    assert metadata.num_row_groups == 7
    spared = 0
    for i in (0, 1, 2, 4, 5, 6):
        for j in range(metadata.num_columns):
            column = metadata.row_group(i).column(j)
            first = column.dictionary_page_offset or column.data_page_offset
            data[first : first + column.total_compressed_size] = b"\xff" * column.total_compressed_size
            spared += column.total_compressed_size
    path.write_bytes(data)
    assert spared > 0.8 * len(data)
    same_rows(read(path, "A"), day_frame(0, "A", 400))
    with pytest.raises(DataError, match="cannot be read"):
        read(path, "A", start=START - DAY_NS)


class Counting:
    """A file of the store that counts the bytes it hands out."""

    def __init__(self, file: Any, counts: list[int]) -> None:
        self._file, self._counts = file, counts

    def read(self, n: int = -1) -> bytes:
        data: bytes = self._file.read(n)
        self._counts.append(len(data))
        return data

    def __enter__(self) -> Counting:
        return self

    def __exit__(self, *error: object) -> None:
        """What is in memory stays open."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_of_an_object_only_the_needed_bytes_are_fetched(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pl.concat([day_frame(day, "A", 2000) for day in range(-3, 4)])
    frame = frame.with_columns(pl.col("bid_px").alias("other_1"), pl.col("ask_px").reverse().alias("other_2"))
    with memory.open("/bucket/week.parquet", "wb") as out:
        frame.write_parquet(out, row_group_size=8000, compression="uncompressed")
    size = memory.size("/bucket/week.parquet")
    counts: list[int] = []
    opened = type(memory).open
    monkeypatch.setattr(type(memory), "open", lambda fs, *a, **k: Counting(opened(fs, *a, **k), counts))
    same_rows(read("memory://bucket/week.parquet", "A"), day_frame(0, "A", 2000))
    fetched = sum(counts) / 2  # read() reads twice
    assert 0.06 * size < fetched < 0.16 * size  # one of seven row groups, without two of its nine columns


# -- object stores


def test_memory_holds_what_files_hold(memory: Any, tmp_path: Path) -> None:
    write_lake(tmp_path / "lake", ("A",))
    memory.put(str(tmp_path / "lake"), "/bucket/lake", recursive=True)
    text = day_frame(0, "A").write_csv(datetime_format="%Y-%m-%dT%H:%M:%S%.f%:z").encode()
    memory.pipe("/bucket/csv/A_2024-03-10.csv.gz", gzip.compress(text))
    memory.pipe("/bucket/csv/A_2024-03-11.csv", b"not, looked, at")
    for path in (
        "memory://bucket/lake",
        "memory://bucket/csv/{symbol}_{date}.csv*",
        "memory://bucket/csv/A_*10.csv.gz",
    ):
        same_rows(read(path, "A"), day_frame(0, "A"))
    with pytest.raises(DataError, match="no file matches memory://bucket/none"):
        read("memory://bucket/none/*.csv", "A")
    with pytest.raises(DataError, match="has no column"):
        read("memory://bucket/csv/{symbol}_2024-03-11.csv", "A")


def test_text_times_in_a_parquet_object(memory: Any) -> None:
    frame = day_frame(0, "A").with_columns(pl.col("ts").dt.to_string("%Y-%m-%dT%H:%M:%S%.6f%:z"))
    with memory.open("/b/t.parquet", "wb") as out:
        frame.write_parquet(out)
    same_rows(read("memory://b/t.parquet", "A"), day_frame(0, "A"))


def test_file_addresses_are_local_files(tmp_path: Path) -> None:
    day_frame(0, "A").write_parquet(tmp_path / "a.parquet")
    same_rows(read(f"file://{tmp_path}/a.parquet", "A"), day_frame(0, "A"))


def test_an_object_cut_short(memory: Any, tmp_path: Path) -> None:
    day_frame(0, "A").write_parquet(tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    memory.pipe("/b/short.parquet", whole[:-100])
    memory.pipe("/b/empty.parquet", b"")
    for name in ("short", "empty"):
        with pytest.raises(DataError, match=rf"memory://b/{name}\.parquet: cannot be read"):
            read(f"memory://b/{name}.parquet", "A")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("s3://AKIAXXXX:hunter2secret@bucket/x.csv", "holds credentials or a query"),
        ("s3://bucket/x.csv?X-Amz-Signature=hunter2secret", "holds credentials or a query"),
        ("https://example.com/x.csv", "https:// is none of s3"),
        ("ftp://example.com/x.csv", "download such files first"),
    ],
)
def test_paths_that_are_no_place(path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as told:
        depth_rows(path=path)
    assert "hunter2" not in str(told.value)


# -- S3 for real: the protocol, served by moto on this machine


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    server_module = pytest.importorskip("moto.server", reason="needs moto[server] (extra dev)")
    pytest.importorskip("s3fs")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An s3fs file system; endpoint and credentials stand in the environment alone."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs: Any = pytest.importorskip("s3fs")
    s3fs.S3FileSystem.clear_instance_cache()
    yield s3fs.S3FileSystem()
    s3fs.S3FileSystem.clear_instance_cache()


def test_s3(s3: Any, tmp_path: Path) -> None:
    write_lake(tmp_path / "lake", ("A",))
    s3.mkdir("bucket")
    s3.put(str(tmp_path / "lake"), "bucket/lake", recursive=True)
    text = day_frame(0, "A").write_csv(datetime_format="%Y-%m-%dT%H:%M:%S%.f%:z").encode()
    s3.pipe("bucket/A_2024-03-10.csv.gz", gzip.compress(text))
    for path in ("s3://bucket/lake", "s3://bucket/lake/symbol={symbol}/dt={date}/*.parquet", "s3://bucket/*.csv.gz"):
        same_rows(read(path, "A"), day_frame(0, "A"))
    for path, told in (("s3://bucket/none/*.csv", "no file matches"), ("s3://no-bucket/*.csv", "no")):
        with pytest.raises(BmlError, match=told) as error:
            read(path, "A")
        assert "\n" not in str(error.value)


def test_s3_that_is_not_there(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    type(s3).clear_instance_cache()
    with pytest.raises(SourceError, match="s3://bucket: cannot be reached") as error:
        read("s3://bucket/x.parquet", "A")
    assert "hunter2" not in str(error.value)
    assert "\n" not in str(error.value)
