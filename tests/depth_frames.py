"""Small depth tables for the tests of the sources."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl

from bml.types import NS_PER_DAY, DepthRows

DAY = dt.datetime(2024, 3, 10, tzinfo=dt.UTC)
START = int(DAY.timestamp()) * 10**9
STOP = START + NS_PER_DAY
NUMBERS = ("bid_px", "bid_qty", "ask_px", "ask_qty")


def paired_frame(n_times: int = 5, levels: int = 3, symbols: tuple[str, ...] = ("A", "B")) -> pl.DataFrame:
    """Snapshots 10 s and 1 us apart, sorted by time, level and symbol; normal numbers."""
    ts = [DAY + dt.timedelta(seconds=10 * i, microseconds=i) for i in range(n_times)]
    frame = pl.DataFrame({"ts": ts}).join(pl.DataFrame({"level": list(range(1, levels + 1))}), how="cross")
    frame = frame.join(pl.DataFrame({"symbol": list(symbols)}), how="cross")
    values = np.random.default_rng(1).normal(size=(frame.height, 4))
    return frame.with_columns(pl.Series(name, values[:, i]) for i, name in enumerate(NUMBERS))


def same_rows(rows: DepthRows, frame: pl.DataFrame) -> None:
    """Paired rows equal ``frame`` row by row."""
    np.testing.assert_array_equal(rows.ts_ns_N, frame["ts"].dt.timestamp("us").to_numpy() * 1000)
    np.testing.assert_array_equal(rows.level_N, frame["level"].to_numpy())
    for values, name in zip(rows.columns, NUMBERS, strict=True):
        np.testing.assert_array_equal(values, frame[name].fill_null(float("nan")).to_numpy())
    assert [x.dtype for x in (rows.ts_ns_N, rows.level_N, *rows.columns)] == [np.int64, np.int32] + [np.float64] * 4
