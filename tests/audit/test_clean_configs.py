"""No false alarm: more than twenty configurations without a leak, and the audit says so of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from audit_market import config, document

from bml.audit.leak import audit

Change = Callable[[dict[str, Any]], None]


def windows(**params: Any) -> Change:
    return lambda tree: tree["stages"]["features"]["with"].update(params)


def data(**fields: Any) -> Change:
    return lambda tree: tree["data"].update(fields)


def step(number: int, **params: Any) -> Change:
    return lambda tree: tree["stages"]["preprocess"][number].setdefault("with", {}).update(params)


def faults(**params: Any) -> Change:
    return lambda tree: tree["stages"]["collect"]["with"].update(faults=params)


def book_features(tree: dict[str, Any]) -> None:
    named = ["book.features.book_slope", {"fn": "book.features.order_flow_imbalance", "rows": 5}]
    tree["stages"]["preprocess"].insert(2, {"fn": "book.features.window", "with": {"features": named}})


FIXED = {"method": "fixed", "edges_pct": [-0.3, 0.0, 0.3]}
SCALED = {"method": "volatility_scaled", "multiples": [-1.0, -0.25, 0.25, 1.0], "sigma_half_life_h": 6.0}
STARTS = {"starts": {"early_stop": "2024-01-03", "calibrate": "2024-01-04", "test": "2024-01-05"}, "embargo_s": 1800}

#: name -> what differs from the market of audit_market
CLEAN: dict[str, list[Change]] = {
    "as it is": [],
    "fixed classes, window features": [windows(classes=FIXED), book_features],
    "split by dates, embargo": [data(stop="2024-01-07"), windows(split=STARTS)],
    "few wide classes": [windows(classes=SCALED)],
    "edges of a symbol's own": [windows(classes={**FIXED, "per_symbol": {"ETHUSDT": [-0.2, 0.1, 0.2]}})],
    "one target of two symbols": [windows(targets=["ETHUSDT"])],
    "no context": [windows(context_days=0)],
    "long context": [windows(context_days=30)],
    "windows over midnight": [windows(window_h=9, max_filled=0.2)],
    "horizon of four hours": [windows(horizon_s=14_400)],
    "an anchor every row": [windows(stride_s=120)],
    "a minute's grid": [data(cadence_s=60)],
    "five minutes' grid, phase": [data(cadence_s=300, phase_ms=1500), step(1, max_gap_s=900)],
    "stale rows are refused": [windows(max_stale_s=240), faults(stuck_per_day=3.0, stuck_s=[600, 1800])],
    "a plan that is given": [step(2, edges=[0, 1, 2, 4, 8])],
    "few levels, half floats": [step(2, near_levels=2, deep_bins=1, dtype="float16")],
    "outliers are looked for": [step(0, max_jump_bps=80, jump_memory_s=300)],
    "outliers are dropped": [step(0, max_jump_bps=60, outliers="drop")],
    "crossed books are kept": [step(0, crossed="keep"), faults(crossed_per_day=6.0, jitter_ms=900)],
    "one asset suffices, long forward fill": [windows(min_assets=1, max_filled=0.5), step(1, max_gap_s=3600)],
    "quantiles of the training rows": [windows(classes={"method": "quantile", "n_classes": 4})],
    "fitted multiples of volatility": [windows(classes={"method": "volatility_scaled", "n_classes": 4})],
    "triple barriers": [windows(classes={"method": "triple_barrier", "take_profit": 1.0, "stop": 1.0})],
    "several horizons": [windows(horizon_s=[1200, 600, 3600])],
    "smoothed labels": [windows(label="smoothed", smooth_s=600)],
    "no conditions": [windows(context={"volatility_h": 0, "volume_days": 0, "regime": "none"})],
    "a hidden Markov model of regimes": [
        data(stop="2024-04-10", cadence_s=1800),
        windows(stride_s=7200, horizon_s=7200, context={"regime": {"method": "hmm"}}, max_filled=0.5),
        step(1, max_gap_s=7200),
    ],
}
QUICK = ("as it is", "fixed classes, window features", "quantiles of the training rows", "triple barriers")


def names() -> list[Any]:
    return [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in CLEAN]


@pytest.mark.parametrize("name", names())
def test_nothing_is_found_where_nothing_is(tmp_path: Path, name: str) -> None:
    tree = document(tmp_path / "store")
    for change in CLEAN[name]:
        change(tree)
    found = audit(config(tmp_path, tree), cuts=9, seed=4)
    assert found.tally.findings == []
    assert [check.broken for check in found.structure if check.broken] == []
    assert found.tally.compared > 500_000
