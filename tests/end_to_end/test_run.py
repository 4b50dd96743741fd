"""`bml run` from rows to report on a small synthetic market, with a real MLflow store."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.end_to_end import tiny

STAGES = ("preprocess", "train", "evaluate")


def _document(store: Path) -> dict[str, Any]:
    tree: dict[str, Any] = tiny.document(store, store)
    del tree["tracking"]
    features = ["book.features.order_flow_imbalance", "book.features.microprice_bps"]
    tree["stages"]["preprocess"].insert(2, {"fn": "book.features.window", "with": {"features": features}})
    tree["data"]["stop"] = "2024-01-07"
    tree["stages"]["collect"] = {
        "fn": "sources.synthetic.depth_rows",
        "with": {"seed": 3, "levels": 4, "faults": {"gaps_per_day": 1.0, "crossed_per_day": 3.0}},
    }
    return tree


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """Configuration, store and the JSON document of one whole run."""
    folder = tmp_path_factory.mktemp("run")
    config = tiny.write_config(folder / "tiny.yaml", _document(folder / "store"))
    outcome = tiny.bml("run", config, "--open-test", "--json")
    assert outcome.code == 0, outcome.err
    return config, folder / "store", json.loads(outcome.out)


def test_every_stage_hands_over(ran: tuple[Path, Path, dict[str, Any]]) -> None:
    _, store, document = ran
    assert [stage["stage"] for stage in document["stages"]] == ["preprocessing", "model-training", "model-training"]
    for place in (place for stage in document["stages"] for place in stage["places"].values()):
        assert Path(place.removeprefix("sqlite:///")).exists()
    report = document["stages"][2]["result"]
    assert set(report["scores"]) == {
        "model", "model_raw", "prior", "persistence", "volatility_only", "logistic", "logistic_book", "bayes"
    }  # fmt: skip
    assert report["scores"]["bayes"]["nll"] < report["scores"]["prior"]["nll"]
    (folder,) = (store / "reports").iterdir()
    assert {"report.json", "report.md", "reliability.png", "confusion.png"} <= {f.name for f in folder.iterdir()}
    with np.load(folder / "forecast.npz", allow_pickle=False) as forecast:
        proba = forecast["proba_model_NC"]
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-6)


def test_lineage_in_mlflow(ran: tuple[Path, Path, dict[str, Any]]) -> None:
    with warnings.catch_warnings():
        # MLflow's own table definitions use a loader strategy SQLAlchemy 2.1 deprecates
        warnings.filterwarnings("ignore", message=r"The ``noload`` loader strategy is deprecated")
        from mlflow import MlflowClient
        from mlflow.store.tracking import sqlalchemy_store  # noqa: F401 (imported here, under the filter)

    _, store, document = ran
    client = MlflowClient(f"sqlite:///{store / 'mlflow.db'}")
    runs = {}
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id]):
            runs[run.info.run_id] = (experiment.name, run)
    names = {name for name, _ in runs.values()}
    assert {f"binance-{stage}" for stage in (
        "data-collection", "data-object", "preprocessing", "dataset-preparation", "model-training"
    )} <= names  # fmt: skip
    assert all(run.info.status == "FINISHED" for _, run in runs.values())
    name, evaluated = runs[document["stages"][2]["run_id"]]
    assert name == "binance-model-training"
    for tag, upstream in (
        ("dataset_run_id", "binance-dataset-preparation"),
        ("preprocessing_run_id", "binance-preprocessing"),
    ):
        assert runs[evaluated.data.tags[tag]][0] == upstream
    opened = {"number": "1", "dataset": document["stages"][2]["result"]["about"]["dataset_digest"]}
    assert evaluated.data.tags["bml.scored_block"] == "test"
    assert evaluated.data.metrics["test_opening"] == 1
    assert evaluated.data.tags["bml.test_opening.config"] == evaluated.data.tags["bml.config_sha256"]
    assert {key: evaluated.data.tags[f"bml.test_opening.{key}"] for key in opened} == opened
    assert evaluated.data.metrics["model.nll"] == pytest.approx(
        document["stages"][2]["result"]["scores"]["model"]["nll"], rel=1e-9
    )


def test_stages_one_by_one_give_the_same(ran: tuple[Path, Path, dict[str, Any]], tmp_path: Path) -> None:
    """Another process per stage, another folder, no tracking: the same days byte for byte, the same losses."""
    config, store, document = ran
    other = ("--set", f"store.root={tmp_path / 'store'}", "--set", "tracking.enabled=false")
    results = {}
    for stage in STAGES:
        outcome = tiny.bml(stage, config, "--json", "-q", *other, *(["--open-test"] if stage == "evaluate" else []))
        assert outcome.code == 0, outcome.err
        results[stage] = json.loads(outcome.out)["stages"][0]["result"]
    assert tiny.published(tmp_path / "store") == tiny.published(store)
    before = {stage: found["result"] for stage, found in zip(STAGES, document["stages"], strict=True)}
    assert results["train"]["best_nll"] == before["train"]["best_nll"]
    assert results["evaluate"]["scores"] == before["evaluate"]["scores"]


def test_the_test_block_stays_sealed_without_the_flag(ran: tuple[Path, Path, dict[str, Any]], tmp_path: Path) -> None:
    """Sealed evaluations count nothing; openings are counted, whatever was forced, trained or reported between them."""
    shutil.copytree(ran[1], tmp_path / "store")
    config, store = ran[0], tmp_path / "store"
    own = ("--set", f"store.root={store}", "--set", "tracking.enabled=false")
    ledger = store / "state" / "openings.jsonl"
    first = ledger.read_text()
    (opened,) = (store / "reports").iterdir()
    before = {file.name: file.read_bytes() for file in opened.iterdir()}

    sealed = tiny.bml("evaluate", config, "-q", *own)
    assert sealed.code == 0, sealed.err
    assert sealed.out.startswith("development block (second half of calibrate; the test block is sealed, --open-test")
    assert "opened for" not in sealed.out
    assert ledger.read_text() == first
    assert {file.name: file.read_bytes() for file in opened.iterdir()} == before
    document = json.loads(
        (store / "reports" / opened.name.replace("-test", "-development") / "report.json").read_text()
    )
    test = json.loads(before["report.json"])
    assert document["stop"] < test["start"]
    assert document["scores"] != test["scores"]

    for command in (["preprocess", "--force"], ["train"]):
        assert tiny.bml(*command, config, "-q", *own).code == 0
    again = tiny.bml("evaluate", config, "--open-test", "-q", *own)
    assert again.code == 0, again.err
    assert "\nThe test block was opened for the 2nd time.\n" in again.out
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert ledger.read_text().startswith(first)
    assert [line["number"] for line in lines] == [1, 2]
    assert lines[0]["dataset"] == lines[1]["dataset"] == test["about"]["dataset_digest"]

    ledger.write_text("no ledger\n")
    damaged = tiny.bml("evaluate", config, "--open-test", "-q", *own)
    assert damaged.code == 1
    (line,) = damaged.error_lines
    assert "openings.jsonl: line 1 is damaged" in line
    assert damaged.out == ""


def test_nothing_is_built_twice(ran: tuple[Path, Path, dict[str, Any]]) -> None:
    config, store, _ = ran
    before = {name: (store / name).stat().st_mtime_ns for name in tiny.published(store)}
    outcome = tiny.bml("preprocess", config, "--json", "-q")
    assert outcome.code == 0, outcome.err
    symbols = json.loads(outcome.out)["stages"][0]["result"]["symbols"]
    assert {total["built"] for total in symbols.values()} == {0}
    assert {name: (store / name).stat().st_mtime_ns for name in tiny.published(store)} == before


@pytest.mark.slow
def test_the_demo_learns_what_was_planted(tmp_path: Path) -> None:
    """The demo of the README: the model closes at least half of the gap to the best possible forecast."""
    outcome = tiny.bml(
        "run", ROOT / "configs" / "demo.yaml", "--open-test", "--json", "-q", env={"BML_STORE": str(tmp_path)}
    )
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)["stages"][2]["result"]
    nll = {name: score["nll"] for name, score in report["scores"].items()}
    assert nll["prior"] - nll["bayes"] > 0.2
    assert (nll["prior"] - nll["model"]) / (nll["prior"] - nll["bayes"]) >= 0.5
    assert report["gap_closed"] == pytest.approx((nll["prior"] - nll["model"]) / (nll["prior"] - nll["bayes"]))
