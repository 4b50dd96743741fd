"""The audit finds every leak that is planted, none where none is, and says the same twice."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from audit_market import config, document

from bml.audit import certificate, compare, cuts, dating, labels
from bml.audit.builds import Builds
from bml.audit.leak import Audit, audit
from bml.audit.planted import LEAKS, Leak
from bml.audit.replay import Replay
from bml.audit.scramble import scramble_of
from bml.audit.tally import Tally
from bml.audit.world import World, WorldSource
from bml.dataset.dataset import Dataset
from bml.dataset.windows import REASONS
from bml.types import ConfigError, DataError
from bml.worker import open_source
from tests.end_to_end import tiny

#: each has been made by somebody, and is among the planted ones
PLANTED = {
    "scaler of all days", "z-score over the whole day", "mids smoothed by a centred mean",
    "old rows filled from behind", "label off by one row", "class edges of the test block's own",
    "labels that straddle the border of blocks", "volatility of the whole day",
    "calibration rows shared with early stopping", "calibrator fitted on the test block",
    "depth plan of the test span", "moments of the unfinished day", "presence that looks ahead",
    "windows kept for what follows them", "rows kept for what came of them", "weights scaled over all rows",
    "last label that is not known yet", "label that begins a row before its anchor",
    "test rows left out for what came of them", "falls called unknown", "inputs centred over their batch",
    "input window a row too late", "calendar scale of all rows", "regime by the whole span",
}  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    return audit(config(tmp_path_factory.mktemp("audited")), cuts=12, seed=1, self_test=True)


def test_the_pipeline_is_clean(found: Audit) -> None:
    assert found.tally.findings == []
    assert found.is_clean
    assert len({cut.at_ns for cut, _, _ in found.cuts}) == 12
    assert {cut.spell for cut, _, _ in found.cuts} == {"none", "silence", "bids only"}
    assert min(compared for _, compared, _ in found.cuts) > 10_000


def test_every_planted_leak_is_caught(found: Audit) -> None:
    assert {caught.leak for caught in found.planted} >= PLANTED
    assert found.missed == []


#: what each leak must change: a leak caught by something else would be caught by chance
@pytest.mark.parametrize(
    ("leak", "by"),
    [
        ("scaler of all days", "scaler.mean_ALF"),
        ("depth plan of the test span", "learned"),
        ("moments of the unfinished day", "moments_DAS"),
        ("weights scaled over all rows", "weights.row_weights_N"),
        ("calendar scale of all rows", "calendar.log_sigma_mean"),
        ("windows kept for what follows them", "windows.reason_N"),
        ("calibration rows shared with early stopping", "rows: each in one block"),
        ("rows kept for what came of them", "rows: all anchors without a reason to drop them"),
        ("labels that straddle the border of blocks", "labels: known before later blocks begin"),
        ("label off by one row", "index.return_N"),
        ("falls called unknown", "labels: unknown only for a bad row"),
        ("label that begins a row before its anchor", "labels: from the mid of the anchor to that of their end"),
        ("test rows left out for what came of them", "rows: none left out of its block but for its label"),
        ("inputs centred over their batch", "batch.x_time_BK"),
    ],
)
def test_a_leak_is_caught_by_what_it_changes(found: Audit, leak: str, by: str) -> None:
    assert next(caught.by for caught in found.planted if caught.leak == leak) == by


def test_every_date_is_compared(found: Audit) -> None:
    """A field nothing is compared of is not audited."""
    compared = {name for name, one in found.tally.fields.items() if one.compared}
    apart = (dating.When.ROWS, dating.When.DATA, dating.When.PLACE)
    for name, when in dating.DATASET.items():
        is_barrier = name.startswith("outcomes.")  # of triple barriers: see test_clean_configs
        assert when in apart or is_barrier or name in compared, name
    for name, when in dating.BATCH.items():
        assert when is not dating.When.ANCHOR or f"batch.{name}" in found.tally.fields, name
    assert {"fold.block_N", "index.rows", "windows.reason_N", "calibrator.persistence", "early_stop.choice"} <= compared


def test_equal_seeds_give_equal_certificates(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    one, two, other = (certificate.document(cfg, audit(cfg, cuts=4, seed=seed)) for seed in (5, 5, 6))
    assert certificate.to_bytes(one) == certificate.to_bytes(two)
    assert certificate.to_bytes(one) != certificate.to_bytes(other)


def test_a_field_without_a_date_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(dating.DATASET, "vol_N")
    with pytest.raises(DataError, match=r"^dataset.vol_N: nobody says when it is known; date it in .*dating\.py$"):
        audit(config(tmp_path), cuts=1, seed=1)


def test_every_field_and_reason_has_a_date() -> None:
    nested = {"index", "fold", "scaler", "calendar", "grid", "more", "outcomes"}
    plain = {field.name for field in dataclasses.fields(Dataset)} - nested
    assert plain == {name for name in dating.DATASET if "." not in name}
    assert set(REASONS) == set(dating.REASONS)
    monkey = ("a reason nobody dated",)
    with pytest.raises(DataError, match="a reason nobody dated"):
        dating.label_reasons(monkey)


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A replay of the market, and how to compare a cut of it."""
    folder = tmp_path_factory.mktemp("replayed")
    cfg = config(folder)
    with open_source(cfg) as source:
        worlds = WorldSource(source, scramble_of(cfg, 1))
        yield Replay(cfg, worlds, Builds(cfg, worlds, folder / "days"))


def test_only_days_after_the_cut_are_built_again(replayed: Replay) -> None:
    grid = replayed.real.dataset.grid
    before = replayed.builds.n_built
    noon = World(cut_ns=int(grid.time_ns(np.asarray(2 * grid.rows_per_day + grid.rows_per_day // 2))))
    store = replayed.run(noon).store
    again = {name for name, built in store.built.items() if built is not replayed.real.store.built[name]}
    assert again == {(symbol, grid.day(number)) for symbol in replayed.cfg.data.symbols for number in (2, 3)}
    assert replayed.builds.n_built - before == 4
    replayed.run(noon)
    assert replayed.builds.n_built - before == 4
    cut_files = {built.path for (_, day), built in store.built.items() if day == grid.day(2)}
    replayed.builds.forget(noon)
    assert not any(path.exists() for path in cut_files)
    assert all(built.path.exists() for name, built in store.built.items() if name[1] != grid.day(2))


def test_another_future_is_another(replayed: Replay) -> None:
    """Else equal bytes would say nothing: what is dated after the cut does change."""
    dataset = replayed.real.dataset
    cut_ns = int(dataset.index.anchor_ns_N[len(dataset) // 2])
    other = replayed.run(World(cut_ns=cut_ns)).dataset
    late, late_other = dataset.index.anchor_ns_N > cut_ns, other.index.anchor_ns_N > cut_ns
    assert not np.isin(dataset.index.return_N[late], other.index.return_N[late_other]).any()
    assert not np.isin(dataset.index.sigma_N[late], other.index.sigma_N[late_other]).any()
    assert other.scaler.mean_ALF.tobytes() == dataset.scaler.mean_ALF.tobytes()  # held: not known yet
    assert (np.nan_to_num(other.moments_DAS[-1]) != np.nan_to_num(dataset.moments_DAS[-1])).mean() > 0.9


def test_one_differing_byte_is_told_with_its_place(replayed: Replay) -> None:
    dataset, tally = replayed.real.dataset, Tally()
    world = World(cut_ns=int(dataset.index.anchor_ns_N[300]))
    other = replayed.run(world)
    wrong_N = other.dataset.vol_N.copy()
    wrong_N.view(np.uint8)[8 * 17] ^= 1
    compare.Comparison(replayed, tally).at(
        dataclasses.replace(other, dataset=dataclasses.replace(other.dataset, vol_N=wrong_N))
    )
    (only,) = tally.findings
    assert (only.field, only.differing) == ("vol_N", 1)
    assert only.symbol == dataset.symbols[dataset.index.target_N[17]]
    assert only.at_ns == dataset.index.anchor_ns_N[17]


def test_a_label_that_leaves_the_data_is_broken(replayed: Replay) -> None:
    dataset = replayed.real.dataset
    late = dataclasses.replace(dataset, horizon_rows=dataset.horizon_rows + dataset.grid.n_rows)
    assert labels.returns(dataset)[1] == ""
    assert labels.returns(late)[1].startswith(f"{(dataset.index.target_N == 0).sum()} of BTCUSDT do not; first ")


def test_as_many_cuts_as_asked_and_the_same_ones(replayed: Replay) -> None:
    chosen = cuts.choose(replayed, 50, 9)
    assert len({cut.at_ns for cut in chosen}) == 50
    assert chosen == cuts.choose(replayed, 50, 9) == sorted(chosen)
    assert {"midnight", "begin of test", "anchor", "label stop", "time", "last moment"} <= {cut.kind for cut in chosen}
    assert len(cuts.choose(replayed, 1, 9)) == 1


def test_the_command_writes_a_certificate(tmp_path: Path) -> None:
    config(tmp_path)
    out = tmp_path / "certificate.json"
    done = tiny.bml("audit", "leak", tmp_path / "audited.yaml", "--cuts", "3", "--out", out, "-q")
    assert (done.code, done.err) == (0, "")
    assert "no leak found" in done.out
    assert json.loads(out.read_bytes())["bytes"]["differing"] == 0
    assert not (tmp_path / "store").exists()


def test_the_command_names_the_leak(tmp_path: Path, capsys: Any) -> None:
    """In this process, so that a leak can be planted below the command."""
    from bml.cli.main import app

    config(tmp_path)
    scaler = next(leak for leak in LEAKS if leak.name == "scaler of all days")
    with scaler.plant(), pytest.raises(SystemExit) as ended:
        app(["audit", "leak", str(tmp_path / "audited.yaml"), "--cuts", "12", "-q"])
    told = capsys.readouterr()
    assert ended.value.code == 1
    (line,) = told.err.splitlines()
    assert line.startswith("error: leak: scaler.mean_ALF of BTCUSDT changes with rows after 2024-01-0")


def test_a_leak_that_stays_hidden_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bml.audit.leak.LEAKS", [Leak(name="nothing at all", plant=contextlib.nullcontext)])
    cfg = config(tmp_path)
    told = certificate.document(cfg, audit(cfg, cuts=1, seed=1, self_test=True))
    assert certificate.fault(told) == "the audit missed 1 planted leaks: nothing at all"


def test_the_certificate_is_an_artifact_of_the_datasets_run(tmp_path: Path) -> None:
    with warnings.catch_warnings():  # MLflow's own, when its store is first made
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient
        from mlflow.store.tracking import sqlalchemy_store  # noqa: F401 (imported here, under the filter)

    tree = document(tmp_path / "store")
    tree["tracking"] = {"enabled": True}
    config(tmp_path, tree)
    done = tiny.bml("audit", "leak", tmp_path / "audited.yaml", "--cuts", "2", "--json", "-q")
    assert done.code == 0, done.err
    client = MlflowClient(f"sqlite:///{tmp_path}/store/mlflow.db")
    experiment = client.get_experiment_by_name("binance-dataset-preparation")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.tags["bml.dataset_digest"] == json.loads(done.out)["dataset_digest"]
    assert run.data.metrics["audit_differing"] == 0
    assert {item.path for item in client.list_artifacts(run.info.run_id)} >= {
        "leak-certificate.json",
        "leak-certificate.md",
    }


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (tmp_path / "audited.yaml").write_text(yaml.safe_dump(document(tmp_path / "store")))
    command = [sys.executable, "-m", "bml", "audit", "leak", str(tmp_path / "audited.yaml"), "--cuts", "400"]
    running = subprocess.Popen(
        command, env=tiny.environment({"TMPDIR": str(scratch)}), stderr=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(scratch.glob("bml-audit-*/days/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGINT)
    _, err = running.communicate(timeout=120)
    assert running.returncode == 130, err
    assert list(scratch.iterdir()) == []


def test_an_interrupt_that_a_destructor_swallows_ends_it_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from bml.cli.main import app

    config(tmp_path)
    real, seen = compare.Comparison.at, []

    def at(self: Any, other: Any) -> None:
        real(self, other)
        seen.append(other)
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(compare.Comparison, "at", at)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as ended:
            app(["audit", "leak", str(tmp_path / "audited.yaml"), "--cuts", "5", "-q"])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert (ended.value.code, len(seen)) == (130, 1)
    assert "no leak found" not in capsys.readouterr().out


def test_a_leak_that_can_do_no_harm_is_no_miss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    harmless = ("depth plan of the test span", "old rows filled from behind")
    monkeypatch.setattr("bml.audit.leak.LEAKS", [leak for leak in LEAKS if leak.name in harmless])
    tree = document(tmp_path / "store")
    tree["stages"]["collect"]["with"]["faults"] = {}
    tree["stages"]["preprocess"][2]["with"]["edges"] = [0, 1, 2, 4]
    cfg = config(tmp_path, tree)
    told = certificate.document(cfg, audit(cfg, cuts=1, seed=1, self_test=True))
    assert [one["pointless"] for one in told["planted"]] == [
        "every row has a new snapshot",
        "the plan is given, not learned",
    ]
    assert certificate.fault(told) == ""


def test_a_configuration_that_splits_nothing_is_refused(tmp_path: Path) -> None:
    tree = document(tmp_path / "store")
    del tree["stages"]["features"]
    with pytest.raises(ConfigError, match=r"stages.features is missing, .*: write it"):
        audit(config(tmp_path, tree), cuts=1, seed=1)
