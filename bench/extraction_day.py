"""The symbol-day that is taken out: as rows of PGCOPY, as a table, and as a server's recorded answer."""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql

SYMBOL = "BTCUSDT"
DAY = dt.date(2025, 3, 1)
STEP_US = 10_000_000
TABLE = "bench_depth"
ORDERS = ("time-major", "level-major", "random")
COLUMNS = ("ts", "level", "bid_px", "bid_qty", "ask_px", "ask_qty")

_EPOCH = dt.datetime(2000, 1, 1)
_HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">II", 0, 0)
_BLOCK = 1 << 18
#: a row as PostgreSQL sends it: a count, and per field its length and its bytes
_FIELDS = [("n", ">i2"), ("ts_n", ">i4"), ("ts", ">i8"), ("level_n", ">i4"), ("level", ">i4")] + [
    pair for name in COLUMNS[2:] for pair in ((f"{name}_n", ">i4"), (name, ">f8"))
]
_LENGTHS = {"n": 6, "ts_n": 8, "level_n": 4} | {f"{name}_n": 8 for name in COLUMNS[2:]}
ROW = np.dtype(_FIELDS)
MESSAGE = np.dtype([("kind", "S1"), ("size", ">i4"), ("row", ROW)])
_STORED = np.dtype(
    [("n", ">i2"), ("symbol_n", ">i4"), ("symbol", "S7"), ("batch_n", ">i4"), ("batch", ">i8"), *_FIELDS[1:]]
)


def step_us(n_times: int) -> int:
    """Between snapshots: ten seconds, or less for more of them than the day then has."""
    return STEP_US * 8640 // max(n_times, 8640)


def blocks(n_times: int, levels: int, order: str) -> Iterator[npt.NDArray[np.void]]:
    """All rows of the day, some at a time; the same ones in every order."""
    start_us = (dt.datetime.combine(DAY, dt.time()) - _EPOCH) // dt.timedelta(microseconds=1)
    n = n_times * levels
    shuffle = np.random.default_rng(1).permutation(n) if order == "random" else None
    for first in range(0, n, _BLOCK):
        at = np.arange(first, min(first + _BLOCK, n)) if shuffle is None else shuffle[first : first + _BLOCK]
        t, level = (at % n_times, at // n_times) if order == "level-major" else (at // levels, at % levels)
        out = np.zeros(len(at), ROW)
        for name, size in _LENGTHS.items():
            out[name] = size
        out["ts"], out["level"] = start_us + t * step_us(n_times), level + 1
        mid = 65_000 + 100 * np.sin(t / 500)
        out["bid_px"], out["ask_px"] = (np.round(mid + side * 0.01 * (level + 1), 2) for side in (-1, 1))
        out["bid_qty"], out["ask_qty"] = (((t * 7919 + level * k) % 9973 + 1) / 1000 for k in (104_729, 1_299_709))
        yield out


def load(dsn: str, n_times: int, levels: int, order: str = "time-major") -> None:
    """(Re)create the table with the day's rows: timestamp, text, bigint batch, integer level, four float8."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(TABLE)))
        numbers = sql.SQL(", ").join(sql.SQL("{} float8").format(sql.Identifier(name)) for name in COLUMNS[2:])
        conn.execute(
            sql.SQL("CREATE UNLOGGED TABLE {} (symbol text, batch_id bigint, ts timestamp, level integer, {})").format(
                sql.Identifier(TABLE), numbers
            )
        )
        with conn.cursor().copy(sql.SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(sql.Identifier(TABLE))) as copy:
            copy.write(_HEADER)
            for block in blocks(n_times, levels, order):
                stored = np.zeros(len(block), _STORED)
                for name in ROW.names or ():
                    stored[name] = block[name]
                stored["n"], stored["symbol_n"], stored["symbol"] = 8, len(SYMBOL), SYMBOL.encode()
                stored["batch_n"], stored["batch"] = 8, 1
                copy.write(stored.tobytes())
            copy.write(b"\xff\xff")
        conn.execute(sql.SQL("CREATE INDEX ON {} (symbol, ts)").format(sql.Identifier(TABLE)))
        conn.execute(sql.SQL("VACUUM ANALYZE {}").format(sql.Identifier(TABLE)))


def record(path: Path, n_times: int, levels: int, order: str, kind: bytes) -> None:
    """The messages of all rows, as a server sends them: ``kind`` d is CopyData, D a DataRow; the bytes are the same."""
    with path.open("wb") as file:
        if kind == b"d":
            file.write(kind + struct.pack(">i", 4 + len(_HEADER)) + _HEADER)
        for block in blocks(n_times, levels, order):
            out = np.zeros(len(block), MESSAGE)
            out["kind"], out["size"], out["row"] = kind, 4 + ROW.itemsize, block
            file.write(out.tobytes())
        if kind == b"d":
            file.write(kind + struct.pack(">i", 6) + b"\xff\xff")
