"""Real books of 1000 levels out of a real PostgreSQL: the tensor equals one made with polars alone, cell for cell."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from bml.book.store import DayFile, open_file
from bml.types import FIELDS, Flag
from tests.end_to_end import tiny
from tests.postgres_fixture import load_frame

FILES = ("spot_BTCUSDT", "spot_ETHUSDT", "cm_BTCUSD_PERP", "cm_ETHUSD_PERP", "usdm_BTCUSDT", "usdm_ETHUSDT")
DAYS = (dt.date(2024, 8, 8), dt.date(2024, 8, 9))
EDGES = [*range(50), 50, 145, 240, 335, 430, 525, 620, 715, 810, 905, 1000]
MAX_GAP_S = 60
#: relative: one float32 rounding of the stored value
TOLERANCE = 2.0**-23


def _frame(market_data: Path, name: str) -> pl.DataFrame:
    frame = pl.read_parquet(market_data / "derived-10s-l1000" / f"binance_{name}_20240808.parquet")
    return frame.with_columns(pl.lit(name.upper().replace("_PERP", "")).alias("symbol"))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, postgres_dsn: str, market_data: Path) -> Path:
    """The six books in one sided table, and the configuration that preprocesses them from there."""
    rows = pl.concat([_frame(market_data, name) for name in FILES]).drop("market")
    load_frame(postgres_dsn, rows.sample(fraction=1.0, shuffle=True, seed=5), "depth_10s")
    folder = tmp_path_factory.mktemp("database")
    tree: dict[str, Any] = {
        "version": 1,
        "name": "derived",
        "data": {
            "symbols": [name.upper().replace("_PERP", "") for name in FILES],
            "start": str(DAYS[0]),
            "stop": str(DAYS[1] + dt.timedelta(days=1)),
            "cadence_s": 10,
        },
        "store": {"root": str(folder / "store")},
        "tracking": {"enabled": False},
        "stages": {
            "collect": {
                "fn": "sources.postgres.depth_rows",
                "with": {
                    "dsn": "${BML_DSN}",
                    "table": "depth_10s",
                    "layout": "sided",
                    "columns": {"px": "price", "qty": "qty"},
                },
            },
            "data_object": {"with": {"levels": 1000}},
            "preprocess": [
                {"fn": "book.quality.check"},
                {"fn": "book.align.to_grid", "with": {"max_gap_s": MAX_GAP_S}},
                {"fn": "book.depth.adaptive", "with": {"edges": EDGES}},
                {"fn": "book.moments.daily"},
            ],
        },
    }
    path = tiny.write_config(folder / "derived.yaml", tree)
    outcome = tiny.bml("preprocess", path, "-q", env={"BML_DSN": postgres_dsn})
    assert outcome.code == 0, outcome.err
    return path


@pytest.mark.data
@pytest.mark.parametrize("day", DAYS, ids=str)
@pytest.mark.parametrize("name", FILES)
def test_tensor_equals_polars(config: Path, market_data: Path, name: str, day: dt.date) -> None:
    symbol = name.upper().replace("_PERP", "")
    (path,) = (config.parent / "store" / "days" / symbol).rglob(f"{symbol}_{day}_*.h5")
    with open_file(path) as file:
        expected = _tensor(_frame(market_data, name), day)
        assert np.isfinite(expected).any()
        np.testing.assert_array_equal(np.isnan(file.book_TLF), np.isnan(expected))
        np.testing.assert_allclose(file.book_TLF, expected, rtol=TOLERANCE, atol=1e-6)
        _check_times(file, _frame(market_data, name))


def _tensor(frame: pl.DataFrame, day: dt.date) -> npt.NDArray[np.float64]:
    """(8640, bins, 4) by joins and group-bys: bps from the mid and log1p of quantity, float64."""
    midnight = dt.datetime.combine(day, dt.time(), dt.UTC)
    grid = pl.DataFrame({"grid": [midnight + dt.timedelta(seconds=10 * k) for k in range(8640)]}).with_columns(
        pl.col("grid").cast(pl.Datetime("ms", "UTC"))
    )
    snapshots = frame.select("ts").unique().sort("ts").with_columns(pl.col("ts").alias("used"))
    used = grid.join_asof(
        snapshots, left_on="grid", right_on="ts", strategy="backward", tolerance=f"{MAX_GAP_S}s"
    ).drop_nulls("used")
    best = frame.filter(pl.col("level") == 1).group_by("ts").agg(pl.col("price").mean().alias("mid"))
    bin_of = pl.DataFrame(
        {
            "level": range(1, EDGES[-1] + 1),
            "bin": np.repeat(np.arange(len(EDGES) - 1), np.diff(EDGES)),
        },
        schema_overrides={"level": pl.Int16},
    )
    cells = (
        frame.join(bin_of, on="level")
        .group_by("ts", "side", "bin")
        .agg(
            px=(pl.col("price") * pl.col("qty")).sum() / pl.col("qty").sum(),
            qty=pl.col("qty").sum(),
        )
        .join(best, on="ts")
        .with_columns(px=(pl.col("px") / pl.col("mid") - 1) * 1e4, qty=pl.col("qty").log1p())
        .join(used, left_on="ts", right_on="used")
    )
    out = np.full((8640, len(EDGES) - 1, len(FIELDS)), np.nan)
    row = ((cells["grid"] - midnight).dt.total_seconds() // 10).to_numpy()
    is_ask = (cells["side"] == "ask").cast(pl.Int64).to_numpy()
    for offset, column in enumerate(("px", "qty")):
        out[row, cells["bin"].to_numpy(), 2 * is_ask + offset] = cells[column].to_numpy()
    return out


def _check_times(file: DayFile, frame: pl.DataFrame) -> None:
    """Rows with a snapshot of their own are fresh, those up to a minute after are filled, all others are gaps."""
    seen = np.isin(file.grid_ns_T, frame["ts"].dt.timestamp("ns").unique().to_numpy())
    assert not (file.flag_T[seen] & (Flag.FILLED | Flag.GAP)).any()
    rest = file.flag_T[~seen]
    assert ((rest & Flag.FILLED != 0) | (rest & Flag.GAP != 0)).all()
    assert (file.age_ms_T[seen] == 0).all()
