"""Runs in a real SQLite store: what is logged, how runs end, what survives processes that die."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bml.config import TrackingSpec
from bml.host import started
from bml.tracking import EXPERIMENTS, NullTracker, Tracker, flatten
from bml.types import RunRef, SourceError, StoreError

SECRET = "hunter2-canary"
DOCUMENT = {"name": "demo", "stages": {"collect": {"with": {"dsn": "***", "place": f"postgresql://me:{SECRET}@h/d"}}}}


#: six children at once open a fresh store; mlflow is imported before, so that nothing spreads them out
TOGETHER = """
import os, sys, time, traceback
from bml.cli.exits import handle_signals
from bml.config import TrackingSpec
from bml.tracking import Tracker
from bml.trackstore import mlflow_client
mlflow_client()
for stay_s in (0, 0, 0, 300, 300, 300):
    if os.fork():
        continue
    code = 1
    try:
        handle_signals()
        with Tracker(TrackingSpec(), sys.argv[1]).stage("data-object", {"n": 1}) as run:
            run.metrics({"x": 1.0})
            print(stay_s, os.getpid(), run.run_id, flush=True)
            time.sleep(stay_s)
        code = 0
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Child:
    pid: int
    run_id: str


@dataclass(frozen=True)
class Crowd:
    root: Path
    finished: list[Child]
    staying: list[Child]


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    """A fresh store that six processes opened at the same moment, three of them still running; a space in its path."""
    root = tmp_path_factory.mktemp("track") / "a store"
    with subprocess.Popen([sys.executable, "-W", "error", "-c", TOGETHER, root], env=environment(), text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:  # fmt: skip
        assert parent.stdout is not None
        lines = [parent.stdout.readline().split() for _ in range(6)]  # an empty line: a child gave up
        assert all(len(line) == 3 for line in lines), lines
        by_stay = {stay: [Child(int(pid), run_id) for s, pid, run_id in lines if s == stay] for stay in ("0", "300")}
        yield Crowd(root, by_stay["0"], by_stay["300"])
        for child in by_stay["300"]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def root(crowd: Crowd) -> Path:
    return crowd.root


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.fixture(scope="module")
def tracker(root: Path) -> Tracker:
    return Tracker(TrackingSpec(), root, document=DOCUMENT)


@pytest.fixture(scope="module")
def client(tracker: Tracker) -> Any:
    return tracker._open()  # the reader's own view would be the same class on the same file


def test_six_processes_made_one_whole_store(root: Path, client: Any) -> None:
    names = {e.name: e for e in client.search_experiments() if e.name != "Default"}
    assert sorted(names) == sorted(f"binance-{stage}" for stage in EXPERIMENTS)
    for name, experiment in names.items():
        assert experiment.artifact_location == (root / "artifacts" / name).as_uri()
    runs = client.search_runs([names["binance-data-object"].experiment_id])
    assert len(runs) == 6
    assert {run.data.metrics["x"] for run in runs} == {1.0}


def test_what_a_run_holds(tracker: Tracker, client: Any, root: Path, tmp_path: Path) -> None:
    upstream = [RunRef(stage="preprocessing", experiment="e", run_id="abc", digest="d"),
                RunRef(stage="dataset-preparation", experiment="e", run_id="", digest="d")]  # fmt: skip
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "a.txt").write_text("a")
    (tmp_path / "p.png").write_bytes(b"png")
    params = {
        "fn": "x.y",
        "with": {"dsn": SECRET, "edges": [1, 2], "long": "z" * 900},
        "calls": [{"fn": "a"}, {"fn": "b"}],
    }
    with tracker.stage("model-training", params, upstream, name="night") as run:
        run.metrics({"loss": 1.0, "nan": float("nan"), "odd[0]": 2.0}, step=0)
        run.metrics({"loss": 0.5, "inf": float("inf")}, step=1)
        run.metrics({f"m{i}": float(i) for i in range(1500)})
        run.params({f"p{i}": i for i in range(150)})
        run.tag("note", f"postgresql://u:{SECRET}@h/d")
        run.text("notes/hello.txt", "hello")
        run.artifact(tmp_path / "report")
        run.figure(tmp_path / "p.png")
        with pytest.raises(StoreError, match="not there"):
            run.artifact(tmp_path / "none")
        ref = run.ref("f" * 64, {"checkpoint": "models/x"})
    assert (ref.stage, ref.experiment, ref.outputs) == (
        "model-training",
        "binance-model-training",
        {"checkpoint": "models/x"},
    )

    found = client.get_run(ref.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.metrics | {"loss": 0.5, "odd_0_": 2.0, "m1499": 1499.0} == found.data.metrics
    assert [m.value for m in client.get_metric_history(ref.run_id, "loss")] == [1.0, 0.5]
    assert found.data.params | {"fn": "x.y", "with.dsn": "***", "with.edges": "[1, 2]", "calls.1.fn": "b",
                                "p149": "149"} == found.data.params  # fmt: skip
    assert len(found.data.params["with.long"]) == 500
    tags = found.data.tags
    assert tags["bml.metrics_skipped"] == "inf, nan"
    assert (tags["preprocessing_run_id"], tags["bml.stage"], tags["mlflow.runName"]) == (
        "abc",
        "model-training",
        "night",
    )
    assert "dataset_run_id" not in tags
    assert tags["bml.digest"] == "f" * 64
    assert len(tags["bml.config_sha256"]) == 64
    artifacts = root / "artifacts" / "binance-model-training" / ref.run_id / "artifacts"
    assert json.loads((artifacts / "system.json").read_text())["cpus"] >= 1
    assert (artifacts / "notes" / "hello.txt").read_text() == "hello"
    assert (artifacts / "report" / "a.txt").exists()
    assert (artifacts / "figures" / "p.png").exists()
    assert "name: demo" in (artifacts / "config.resolved.yaml").read_text()
    logged = "".join(p.read_text(errors="replace") for p in artifacts.rglob("*") if p.is_file())
    assert SECRET not in logged + json.dumps(dict(tags)) + json.dumps(dict(found.data.params))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("bad\nworse"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(143), "KILLED"),
    ],
)
def test_how_a_run_ends(tracker: Tracker, client: Any, error: BaseException, status: str) -> None:
    with pytest.raises(type(error)), tracker.stage("preprocessing") as run:
        raise error
    found = client.get_run(run.run_id)
    assert found.info.status == status
    assert found.info.end_time is not None
    assert found.data.tags["bml.error"] == f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def test_nested_runs(tracker: Tracker, client: Any) -> None:
    with tracker.stage("hyperparameter-optimization") as study, tracker.stage("model-training", parent=study) as trial:
        pass
    assert client.get_run(trial.run_id).data.tags["mlflow.parentRunId"] == study.run_id


def test_runs_of_dead_processes_are_marked_and_live_ones_left(crowd: Crowd, client: Any) -> None:
    killed, living, terminated = crowd.staying
    os.kill(killed.pid, signal.SIGKILL)  # remains as a zombie: its parent does not look
    os.kill(terminated.pid, signal.SIGTERM)  # the command line's handler unwinds it
    status = wait_for_end(client, terminated.run_id)
    assert (status, client.get_run(terminated.run_id).data.tags["bml.error"]) == ("KILLED", "SystemExit: 143")
    assert client.get_run(killed.run_id).info.status == "RUNNING"
    with Tracker(TrackingSpec(), crowd.root).stage("preprocessing"):
        pass
    dead = client.get_run(killed.run_id)
    assert dead.info.status == "KILLED"
    assert dead.data.tags["bml.error"] == f"process {killed.pid} is gone"
    assert client.get_run(living.run_id).info.status == "RUNNING"
    assert wait_for_end(client, crowd.finished[0].run_id) == "FINISHED"


def wait_for_end(client: Any, run_id: str) -> str:
    for _ in range(300):
        status = str(client.get_run(run_id).info.status)
        if status != "RUNNING":
            return status
        time.sleep(0.1)
    return "RUNNING"


def test_a_reused_process_id_is_not_mistaken() -> None:
    mine = started(os.getpid())
    assert mine.isdigit()
    assert started(os.getpid()) == mine
    assert started(2**22 + 1) == ""


def test_tracking_that_is_off_costs_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from bml.config import TrackingSpec; from bml.tracking import NullTracker, Tracker\n"
        "for tracker in (NullTracker(), Tracker(TrackingSpec(enabled=False), sys.argv[1])):\n"
        "    with tracker.stage('preprocessing', {'a': 1}) as run:\n"
        "        run.metrics({'x': float('nan')}); run.params({}); run.tag('a', 1); run.text('a', 'b')\n"
        "        run.artifact(sys.executable); ref = run.ref('d', {'o': 'p'})\n"
        "    assert (ref.run_id, ref.outputs, run.run_id) == ('', {'o': 'p'}, '')\n"
        "assert 'mlflow' not in sys.modules and 'sqlalchemy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code, tmp_path / "s"], env=environment(), check=True)
    assert not (tmp_path / "s").exists()


def test_unknown_stage() -> None:
    with pytest.raises(ValueError, match="there is no experiment for stage 'fit'"), NullTracker().stage("fit"):
        pass


def test_a_server_that_is_gone_is_told_soon(tmp_path: Path) -> None:
    tracker = Tracker(TrackingSpec(uri=f"http://me:{SECRET}@127.0.0.1:9"), tmp_path)
    began = time.monotonic()
    with pytest.raises(SourceError, match="tracking") as caught, tracker.stage("preprocessing"):
        pass
    assert caught.value.exit_code == 4
    assert SECRET not in str(caught.value)
    assert time.monotonic() - began < 40
    assert not (tmp_path / "mlflow.db").exists()


def test_a_missing_mlflow_names_the_extra(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['mlflow'] = None\n"
        "from bml.config import TrackingSpec; from bml.tracking import Tracker\n"
        "with Tracker(TrackingSpec(), sys.argv[1]).stage('preprocessing'): pass"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], env=environment(), capture_output=True, text=True)
    assert "pip install 'bml[train]'" in done.stderr.splitlines()[-1]


def test_flatten() -> None:
    assert flatten({"a": {"b": 1, "c": None, "d": {}}, "e": [], "f": True, "g": "x", "h": [{"i": 1}, 2]}) == {
        "a.b": "1", "a.c": "null", "a.d": "{}", "e": "[]", "f": "true", "g": "x", "h.0.i": "1", "h.1": "2",
    }  # fmt: skip
