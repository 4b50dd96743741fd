"""Rows out of a real PostgreSQL by every way, in every order: one book, one day file."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psycopg
import pytest

from bml import kernels
from bml.book.days import DayBuilder
from bml.sources import pgcopy, pgdialect
from bml.sources.base import ReadsBook
from bml.sources.postgres import PostgresSource, depth_rows
from bml.types import NS_PER_DAY, AlignedDay, BmlError, DataError, DepthRows
from tests.book.fused_days import Given, Settings, file_bytes
from tests.depth_frames import NUMBERS, START, STOP, paired_frame

LoadTable = Callable[..., None]
WAYS = ("copy", "chunked", "portable")
ORDERS = ("time-major", "level-major", "random")
LEVELS = 6


def in_order(frame: pl.DataFrame, order: str) -> pl.DataFrame:
    if order == "random":
        return frame.sample(fraction=1.0, shuffle=True, seed=4)
    return frame.sort(("ts", "level") if order == "time-major" else ("level", "ts"), maintain_order=True)


@pytest.fixture
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A server and a libpq that leave only this way."""
    if request.param == "chunked":
        monkeypatch.setattr(pgdialect, "_copy_fault", lambda conn: "refused")
    if request.param == "portable":
        monkeypatch.setattr(pgcopy, "_libpq", lambda: None)
    return str(request.param)


def opened(dsn: str, table: str, **options: Any) -> PostgresSource:
    return depth_rows(dsn=dsn, table=table, **options)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("way", WAYS, indirect=True)
def test_every_way_and_order_is_the_same_book(postgres_dsn: str, load_table: LoadTable, way: str, order: str) -> None:
    frame = paired_frame(400, LEVELS, ("BTCUSDT", "ETHUSDT"))  # more than an hour, more than a chunk
    n = frame.height
    holes = [pl.when(pl.int_range(n) % (7 + i) != 0).then(pl.col(name)).alias(name) for i, name in enumerate(NUMBERS)]
    frame = frame.with_columns(holes).filter(pl.int_range(n) % 11 != 3)
    load_table(in_order(frame, order), "ways")
    with opened(postgres_dsn, "ways") as source:
        assert source.describe()["reader"] == way
        rows = source.read("BTCUSDT", START, STOP)
        book = source.read_book("BTCUSDT", START, STOP, levels=LEVELS, duplicates="error")
        assert source.read_book("NOBODY", START, STOP, levels=LEVELS, duplicates="error").book_TLF.shape == (0, 6, 4)
    mine = frame.filter(pl.col("symbol") == "BTCUSDT")
    us, t = np.unique(mine["ts"].dt.timestamp("us").to_numpy(), return_inverse=True)
    want = np.full((len(us), LEVELS, 4), np.nan)
    want[t, mine["level"].to_numpy() - 1] = mine.select(NUMBERS).fill_null(float("nan")).to_numpy()
    np.testing.assert_array_equal(book.ts_ns_T, us * 1000)
    assert book.book_TLF.tobytes() == want.tobytes()
    assert book.n_rows == rows.n_rows == mine.height
    placed = kernels.tall_to_wide(rows.ts_ns_N, rows.level_N, rows.columns, levels=LEVELS)
    assert placed.book_TLF.tobytes() == want.tobytes()


class RowsOnly:
    """A source that does not place rows itself."""

    def __init__(self, inner: PostgresSource) -> None:
        self._inner = inner

    def read(self, symbol: str, start_ns: int, stop_ns: int) -> DepthRows:
        return self._inner.read(symbol, start_ns, stop_ns)

    __enter__, __exit__, describe = Given.__enter__, Given.__exit__, Given.describe


def hard(seed: int, *, sided: bool, batches: bool, faults: bool, conflicts: bool) -> pl.DataFrame:
    """A day and an evening before it: gaps, deep rows, duplicates, batches, and broken rows among ``faults``."""
    rng = np.random.default_rng(seed)
    start = dt.datetime(2024, 1, 14, 23, 30, tzinfo=dt.UTC)
    n_times, levels = 140, LEVELS + 2
    t, level = (x.ravel() for x in np.meshgrid(np.arange(n_times), np.arange(1, levels + 1), indexing="ij"))
    away = 0.01 * level
    numbers = {"bid_px": 100 - away, "bid_qty": 1.0 + t % 7, "ask_px": 100 + away, "ask_qty": 2.0 + t % 5}
    frame = pl.DataFrame({"t": t, "level": level.astype(np.int32), **numbers}).with_columns(
        ts=pl.lit(start) + pl.duration(minutes=10) * pl.col("t"), symbol=pl.lit("BTCUSDT")
    )
    frame = frame.filter(pl.Series(rng.random(frame.height) < 0.97), ~pl.col("t").is_between(50, 60)).drop("t")
    if sided:
        frame = pl.concat(
            frame.select("ts", "symbol", "level", pl.lit(i, pl.Int16).alias("side"), px=f"{name}_px", qty=f"{name}_qty")
            for i, name in enumerate(("bid", "ask"))
        )
    px, qty = ("px", "qty") if sided else ("ask_px", "ask_qty")
    if batches:
        frame = frame.with_columns(batch=pl.lit(1, pl.Int64))
    if faults:
        pick = pl.Series(rng.random(frame.height))
        frame = frame.with_columns(
            pl.when(pick < 0.01).then(None).when(pick < 0.02).then(-1.0).otherwise(px).alias(px),
            pl.when(pick < 0.005).then(None).when(pick > 0.99).then(float("inf")).otherwise(qty).alias(qty),
        )
    again = frame.sample(60, seed=seed)
    if conflicts:
        again = pl.concat([again, again[:30].with_columns(pl.col(qty) + 5), again[10:40]])
    if batches:  # whatever they say, a larger batch decides and a smaller one loses
        batch = pl.Series(rng.integers(0, 3, again.height)).replace(1, 2)
        again = pl.concat([again, again.with_columns(pl.col(px) + 9, batch=batch)])
        if not conflicts:
            again = again.unique(["ts", "level", *(["side"] if sided else []), "batch"], maintain_order=True)
    return pl.concat([frame, again]).sample(fraction=1.0, shuffle=True, seed=seed)


def outcome(settings: Settings, source: Any, folder: Path) -> bytes | str:
    """The day file's bytes, or the words of a refusal."""
    folder.mkdir()
    builder = DayBuilder(settings.load(folder), source, {"book.depth.adaptive": {"edges": [0, 1, 2, 3, 6]}},
                         step_by_step=True)  # fmt: skip
    try:
        day = builder.build("BTCUSDT", dt.date(2024, 1, 15))
    except BmlError as error:
        return str(error)
    assert isinstance(day, AlignedDay)
    return file_bytes(day, folder)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("faults", [False, True])
@pytest.mark.parametrize("batches", [False, True])
@pytest.mark.parametrize("sided", [False, True])
def test_day_files_are_the_same_to_the_byte(
    postgres_dsn: str, load_table: LoadTable, tmp_path: Path, sided: bool, batches: bool, faults: bool, order: str
) -> None:
    frame = hard(7, sided=sided, batches=batches, faults=faults, conflicts=order != "time-major")
    load_table(in_order(frame, order), "days")
    options: dict[str, Any] = {"columns": {"batch": "batch"}} if batches else {}
    if sided:
        options |= {"layout": "sided", "side_values": {"bid": 0, "ask": 1}}
    rule = {"time-major": "error", "level-major": "first", "random": "last"}[order]
    settings = Settings(data_object={"levels": LEVELS, "duplicates": rule, "bad_rows": "drop"})
    with opened(postgres_dsn, "days", **options) as source:
        assert isinstance(source, ReadsBook)
        assert source.reads_book
        got, want = (outcome(settings, one, tmp_path / name) for one, name in ((source, "a"), (RowsOnly(source), "b")))
        assert got == want
        assert isinstance(want, bytes)
        settings.data_object["bad_rows"] = "error"
        got, want = (outcome(settings, one, tmp_path / name) for one, name in ((source, "c"), (RowsOnly(source), "d")))
        assert isinstance(want, str) == faults
        assert got == want


def test_duplicates_that_differ_are_refused_by_name(postgres_dsn: str, load_table: LoadTable) -> None:
    frame = paired_frame(3, 2, ("BTCUSDT",))
    load_table(pl.concat([frame, frame[2:3].with_columns(pl.col("bid_px") + 1)]), "twice")
    with opened(postgres_dsn, "twice") as source:
        with pytest.raises(DataError, match=r"twice, BTCUSDT 2024-03-10T00:00:10.*: duplicate rows of level 1 that"):
            source.read_book("BTCUSDT", START, STOP, levels=2, duplicates="error")
        book = source.read_book("BTCUSDT", START, STOP, levels=2, duplicates="first")
        assert book.duplicate_T.tolist() == [0, 1, 0]
        assert book.n_conflict == 1


@pytest.mark.parametrize(
    ("columns", "can"), [({}, True), ({"sequence": "seq"}, False), ({"batch": "b"}, True)], ids=str
)
def test_who_needs_rows_reads_rows(columns: dict[str, str | None], can: bool) -> None:
    assert opened("postgresql://h/d", "t", columns=columns).reads_book == can


def test_ranked_by_price_reads_rows() -> None:
    assert not opened("postgresql://h/d", "t", layout="sided", columns={"level": None}).reads_book


@pytest.mark.parametrize("way", ["chunked"], indirect=True)
def test_chunks_refused_cut_and_limited(postgres_dsn: str, load_table: LoadTable, way: str) -> None:
    load_table(paired_frame(60, 50, ("BTCUSDT",)), "chunks")
    with psycopg.connect(postgres_dsn, autocommit=True) as conn:
        conn.execute("DROP VIEW IF EXISTS falls")
        conn.execute(
            "CREATE VIEW falls AS SELECT ts, symbol, level / (CASE WHEN ts > '2024-03-10 00:05:00' THEN 0 ELSE 1 END) "
            "AS level, bid_px, bid_qty, ask_px, ask_qty FROM chunks"
        )
    with opened(postgres_dsn, "falls") as source, pytest.raises(DataError, match=r"falls, BTCUSDT: division by zero"):
        source.read_book("BTCUSDT", START, START + NS_PER_DAY, levels=50, duplicates="error")
    with opened(postgres_dsn, "chunks", max_rows=2000) as source:
        with pytest.raises(DataError, match="more than max_rows = 2000"):
            source.read("BTCUSDT", START, STOP)
        assert source.read("BTCUSDT", START, START + 10**10).n_rows == 50
    with psycopg.connect(postgres_dsn, autocommit=True) as conn:
        conn.execute("DROP VIEW falls")


@pytest.mark.parametrize(
    ("version", "copies"),
    [("16.4", True), ("15.18 (Debian 15.18-0)", True), ("16.3-greptimedb-1.1.0", True),
     ("16.3-greptimedb-0.17.2", False), ("16.3-greptimedb-v0.9.4", False), ("16.3-GreptimeDB-1.0.0-rc.2", True)],
)  # fmt: skip
def test_what_a_server_can(version: str, copies: bool) -> None:
    assert pgdialect.by_version(version).copy_binary is copies
