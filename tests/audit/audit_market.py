"""A synthetic market of a few days with the defects of a real feed, small enough to be audited in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from bml.config import Config, load

#: short enough for a few days
REGIME = {"trend_days": 1, "volatility_days": 1, "memory_days": 3, "trend": 0.3, "high_volatility": 0.6}


def document(store: Path, **features: Any) -> dict[str, Any]:
    """The configuration as a tree, for tests to change; ``features`` are parameters of book_windows."""
    windows = {
        "window_h": 2,
        "stride_s": 600,
        "horizon_s": [1200, 600],
        "context_days": 2,
        "context": {"volatility_h": 6, "volume_days": 2, "regime": REGIME},
        "min_assets": 2,
        "max_filled": 0.1,
        "targets": ["BTCUSDT", "ETHUSDT"],
        "split": {"fractions": {"train": 0.5, "early_stop": 0.15, "calibrate": 0.15, "test": 0.2}},
    }
    faults = {"jitter_ms": 400, "gaps_per_day": 2.0, "gap_s": [300, 1500], "duplicates_per_day": 2.0}
    return {
        "version": 1,
        "name": "audited",
        "data": {
            "symbols": ["BTCUSDT", "ETHUSDT"],
            "start": "2024-01-01",
            "stop": "2024-01-05",
            "reference": "BTCUSDT",
            "cadence_s": 120,
        },
        "store": {"root": str(store)},
        "tracking": {"enabled": False},
        "stages": {
            "collect": {"fn": "sources.synthetic.depth_rows", "with": {"seed": 3, "levels": 8, "faults": faults}},
            "data_object": {"with": {"levels": 8}},
            "preprocess": [
                {"fn": "book.quality.check"},
                {"fn": "book.align.to_grid", "with": {"max_gap_s": 300}},
                {"fn": "book.depth.adaptive", "with": {"near_levels": 4, "deep_bins": 2}},
                {"fn": "book.moments.daily"},
            ],
            "features": {"with": windows | features},
            "train": {"with": {"epochs": 1, "half_life_days": 2.0}},
        },
    }


def config(folder: Path, tree: dict[str, Any] | None = None) -> Config:
    """``tree`` as a file in ``folder``, loaded."""
    path = folder / "audited.yaml"
    path.write_text(yaml.safe_dump(document(folder / "store") if tree is None else tree, sort_keys=False))
    return load(path)
