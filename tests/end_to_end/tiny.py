"""A small real thing to break: a parquet book of two symbols over three days, and a configuration that reads it."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import yaml

SYMBOLS = ("BTCUSDT", "ETHUSDT")
START = dt.date(2024, 1, 1)
N_DAYS = 3
CADENCE_S = 120
LEVELS = 4


@dataclass(frozen=True)
class Outcome:
    """What a user sees of one command."""

    code: int
    out: str
    err: str

    @property
    def error_lines(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("error")]


def bml(*args: str | Path, env: dict[str, str] | None = None) -> Outcome:
    """Run the command line as a user would: another process, no terminal."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "bml", *map(str, args)],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment(env),
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("BML_", "MLFLOW_"))}
    if "BML_KERNELS" in os.environ:
        clean["BML_KERNELS"] = os.environ["BML_KERNELS"]
    return clean | (extra or {})


def book(symbol: str, *, seed: int = 1) -> pl.DataFrame:
    """Paired rows of a random walk, one snapshot every CADENCE_S, LEVELS levels a side."""
    rng = np.random.default_rng([seed, SYMBOLS.index(symbol)])
    n = N_DAYS * 86_400 // CADENCE_S
    mid_T = 100.0 * np.exp(np.cumsum(rng.normal(0, 5e-4, n)))
    level_TL = np.tile(np.arange(1, LEVELS + 1), (n, 1))
    start = dt.datetime.combine(START, dt.time(), dt.UTC)
    ts_T = [start + dt.timedelta(seconds=CADENCE_S * k) for k in range(n)]
    qty = rng.lognormal(size=(2, n, LEVELS))
    return pl.DataFrame(
        {
            "ts": pl.Series(np.repeat(np.array([t.replace(tzinfo=None) for t in ts_T], "datetime64[us]"), LEVELS)),
            "symbol": symbol,
            "level": level_TL.ravel().astype(np.int32),
            "bid_px": (mid_T[:, None] - 0.01 * level_TL).ravel(),
            "bid_qty": qty[0].ravel(),
            "ask_px": (mid_T[:, None] + 0.01 * level_TL).ravel(),
            "ask_qty": qty[1].ravel(),
        }
    )


def write_books(folder: Path) -> Path:
    """One parquet file a symbol in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for symbol in SYMBOLS:
        book(symbol).write_parquet(folder / f"{symbol}.parquet")
    return folder


def document(rows: Path, store: Path) -> dict[str, object]:
    """The configuration as a tree, for tests to change."""
    return {
        "version": 1,
        "name": "tiny",
        "data": {
            "symbols": list(SYMBOLS),
            "start": str(START),
            "stop": str(START + dt.timedelta(days=N_DAYS)),
            "reference": SYMBOLS[0],
            "cadence_s": CADENCE_S,
        },
        "store": {"root": str(store)},
        "tracking": {"enabled": False},
        "stages": {
            "collect": {
                "fn": "sources.files.depth_rows",
                "with": {"path": str(rows / "{symbol}.parquet"), "layout": "paired"},
            },
            "data_object": {"fn": "book.dataobject.build", "with": {"levels": LEVELS}},
            "preprocess": [
                {"fn": "book.quality.check"},
                {"fn": "book.align.to_grid", "with": {"max_gap_s": 600}},
                {"fn": "book.depth.adaptive", "with": {"near_levels": 2, "deep_bins": 1}},
                {"fn": "book.moments.daily"},
            ],
            "features": {
                "fn": "dataset.samples.book_windows",
                "with": {
                    "window_h": 2,
                    "stride_s": 600,
                    "horizon_s": 1200,
                    "context_days": 2,
                    "split": {"fractions": {"train": 0.5, "early_stop": 0.15, "calibrate": 0.15, "test": 0.2}},
                },
            },
            "train": {"fn": "training.fit.train", "with": {"epochs": 1, "batch_size": 32}},
            "evaluate": {"fn": "evaluation.report.evaluate"},
        },
    }


def write_config(path: Path, tree: dict[str, object]) -> Path:
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


def published(store: Path) -> dict[str, bytes]:
    """Every file under its final name in the store's day folder: relative path -> bytes."""
    return {
        str(file.relative_to(store)): file.read_bytes()
        for file in sorted((store / "days").rglob("*"))
        if file.is_file() and not file.name.startswith(".")
    }
