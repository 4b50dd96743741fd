"""A synthetic market in a real PostgreSQL, the configuration that preprocesses it, and ways to disturb the run."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import psycopg

from bml.sources.market_faults import Faults
from bml.sources.synthetic import SyntheticSource, depth_rows
from tests.end_to_end import tiny
from tests.postgres_fixture import load_frame

SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT")
START = dt.date(2024, 3, 1)
TABLE = "unattended_depth"
STEPS: list[dict[str, Any]] = [
    {"fn": "book.quality.check"},
    {"fn": "book.align.to_grid", "with": {"max_gap_s": 300}},
    {"fn": "book.depth.adaptive", "with": {"near_levels": 3, "deep_bins": 1}},
    {"fn": "book.moments.daily"},
]


def market(n_days: int, *, cadence_s: float, levels: int, faults: Faults | None = None) -> SyntheticSource:
    """The market: three symbols, ``n_days`` from START."""
    data = SimpleNamespace(
        symbols=SYMBOLS, start=START, stop=START + dt.timedelta(days=n_days), reference=SYMBOLS[0], cadence_s=cadence_s
    )
    return depth_rows(data=data, seed=17, levels=levels, faults=faults)


def load(source: SyntheticSource, dsn: str, table: str = TABLE) -> None:
    """Every row of the market into ``table``, in random order."""
    frames = []
    for symbol in SYMBOLS:
        rows = source.read(symbol, 0, 2**62)
        names = ("bid_px", "bid_qty", "ask_px", "ask_qty")
        columns = dict(zip(names, rows.columns, strict=True))
        ts = np.asarray(rows.ts_ns_N // 1000).view("datetime64[us]")
        frames.append(
            pl.DataFrame({"ts": ts, "level": rows.level_N, **columns, "batch_id": rows.batch_N}).with_columns(
                pl.lit(symbol).alias("symbol")
            )
        )
    shuffled = pl.concat(frames).sample(fraction=1.0, shuffle=True, seed=3)
    load_frame(dsn, shuffled, table)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(f"CREATE INDEX ON public.{table} (symbol, ts)")


def document(n_days: int, *, cadence_s: float, levels: int, table: str = TABLE, **store: Any) -> dict[str, Any]:
    """The configuration: rows from the table, files below ${FED_STORE}."""
    return {
        "version": 1,
        "name": "fed",
        "data": {
            "symbols": list(SYMBOLS),
            "start": str(START),
            "stop": str(START + dt.timedelta(days=n_days)),
            "cadence_s": cadence_s,
        },
        "store": {"root": "${FED_STORE}", **store},
        "tracking": {"enabled": False},
        "run": {"retry_s": 60},
        "stages": {
            "collect": {
                "fn": "sources.postgres.depth_rows",
                "with": {"dsn": "${FED_DSN}", "table": table, "columns": {"batch": "batch_id"}},
            },
            "data_object": {"with": {"levels": levels}},
            "preprocess": STEPS,
        },
    }


def environment(store: Path, dsn: str) -> dict[str, str]:
    return tiny.environment({"FED_STORE": str(store), "FED_DSN": dsn})


def start(config: Path, store: Path, dsn: str, *options: str) -> subprocess.Popen[str]:
    """``bml preprocess`` as a process, its words in a pipe."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "bml", "preprocess", str(config), *options],
        env=environment(store, dsn),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], timeout_s: float = 240) -> tuple[int, str]:
    _, told = process.communicate(timeout=timeout_s)
    return process.returncode, told


def build(config: Path, store: Path, dsn: str, *options: str) -> tuple[int, str]:
    return finish(start(config, store, dsn, *options))


def n_files(store: Path) -> int:
    return len(list((store / "days").rglob("[!.]*.h5")))


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 60.0) -> bool:
    """Whether ``condition`` came true before the process ended."""
    end = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            return False
        assert time.monotonic() < end, "what was waited for never came"
        time.sleep(0.002)
    return True


def workers_of(pid: int) -> list[int]:
    """The worker processes a run started."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == pid and b"bml.worker" in command:
            found.append(int(entry.name))
    return found


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    os.kill(pid, number)


def cut_connections(dsn: str) -> int:
    """End every connection of bml at the server; returns how many there were."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        found = conn.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'bml/%'"
        ).fetchone()
    return int(found[0]) if found else 0


def sabotage(dsn: str, symbol: str, day: dt.date, table: str) -> None:
    """Make one day unreadable: one row names a level no book has."""
    at = dt.datetime.combine(day, dt.time(12), dt.UTC).replace(tzinfo=None)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(
            f"INSERT INTO public.{table} (ts, level, bid_px, bid_qty, ask_px, ask_qty, batch_id, symbol) "
            "VALUES (%s, 0, 1, 1, 2, 1, 0, %s)",
            (at, symbol),
        )


def repair(dsn: str, table: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(f"DELETE FROM public.{table} WHERE level = 0")
