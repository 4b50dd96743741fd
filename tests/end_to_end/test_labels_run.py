"""Every kind of label from rows to report, as a user would have it run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.end_to_end import tiny

FORECASTS = {"model", "model_raw", "prior", "persistence", "volatility_only", "logistic", "logistic_book"}


def run(folder: Path, *, synthetic: bool = False, **features: Any) -> tuple[Path, dict[str, Any]]:
    """Store and JSON document of a whole run of the tiny configuration with these features."""
    rows = folder / "rows"
    tree: dict[str, Any] = tiny.document(rows, folder / "store")
    if synthetic:
        tree["data"]["stop"] = "2024-01-07"
        tree["stages"]["collect"] = {"fn": "sources.synthetic.depth_rows", "with": {"seed": 3, "levels": 4}}
    else:
        tiny.write_books(rows)
    tree["stages"]["features"]["with"] |= features
    done = tiny.bml("run", tiny.write_config(folder / "tiny.yaml", tree), "--json", "--open-test")
    assert done.code == 0, done.err
    return folder / "store", json.loads(done.out)


def test_quantile_classes_over_several_horizons(tmp_path: Path) -> None:
    store, document = run(
        tmp_path, horizon_s=[1200, 600, 2400], classes={"method": "quantile", "n_classes": 4}, stride_s=360
    )
    _, trained, evaluated = document["stages"]
    labelling = trained["result"]["dataset"]["labelling"]
    assert [told["horizon_s"] for told in labelling] == [1200, 600, 2400]
    assert all(len(told["classes"]["cuts"]["BTCUSDT"]) == 3 for told in labelling)
    shares = trained["result"]["dataset"]["class_shares"]["train"]
    assert shares == pytest.approx([0.25] * 4, abs=0.02)
    assert set(evaluated["result"]["scores"]) == FORECASTS
    (folder,) = (store / "reports").iterdir()
    with np.load(folder / "forecast.npz", allow_pickle=False) as forecast:
        assert (np.ptp(forecast["edges_NE"], axis=0) == 0).all()
        assert forecast["proba_model_NC"].shape[1] == 4


def test_triple_barriers_where_the_truth_is_known(tmp_path: Path) -> None:
    store, document = run(
        tmp_path, synthetic=True, classes={"method": "triple_barrier", "take_profit": 1.0, "stop": 1.0}
    )
    report = document["stages"][2]["result"]
    assert set(report["scores"]) == FORECASTS  # the truth knows returns at the horizon, not first touches
    assert any(line.startswith("no best possible forecast") for line in report["warnings"])
    (folder,) = (store / "reports").iterdir()
    with np.load(folder / "forecast.npz", allow_pickle=False) as forecast:
        assert forecast["class_names_C"].tolist() == ["stop -1 sd", "time-out", "take-profit 1 sd"]
        np.testing.assert_allclose(forecast["proba_model_NC"].sum(axis=1), 1.0, atol=1e-6)


def test_faults_of_labels_are_told_with_their_place(tmp_path: Path) -> None:
    tree: dict[str, Any] = tiny.document(tmp_path / "rows", tmp_path / "store")
    features = tree["stages"]["features"]["with"]
    for faulty, told in (
        ({"classes": {"method": "quantile", "n_classes": 8, "zero": "own"}}, "take an odd number, not 8"),
        ({"classes": {"method": "triple_barrier"}, "label": "smoothed", "smooth_s": 600}, "cannot be smoothed"),
        ({"label": "anchored"}, "smooth_s: goes with label: smoothed"),
        ({"horizon_s": [1200, 650]}, "horizon_s: 650 is not a whole number of rows at a cadence of 120 s"),
        ({"targets": ["BTCUSDT", "BTCUSDT"]}, "targets: named twice in BTCUSDT, BTCUSDT"),
        (
            {"targets": None, "classes": {"method": "fixed", "per_symbol": {"XRPUSDT": [-9, -5, -2, 0, 2, 5, 9]}}},
            "classes.per_symbol: 'XRPUSDT' is not one of data.symbols (BTCUSDT, ETHUSDT)",
        ),
    ):
        features |= faulty
        done = tiny.bml("config", "check", tiny.write_config(tmp_path / "tiny.yaml", tree))
        assert done.code == 2
        assert told in done.err
