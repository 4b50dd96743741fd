"""Stores as they are found: half made, moved, in another database, out of reach, under odd names."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import psycopg
import pytest

from bml import trackstore
from bml.config import TrackingSpec, secret
from bml.tracking import EXPERIMENTS, NullTracker, Tracker
from bml.types import ConfigError, SourceError, StoreError

SECRET = "hunter2-canary"

#: children open a fresh store and are ended as soon as a database file of any name is there, then a bit later
INTERRUPTED = """
import os, signal, sys, time
from pathlib import Path
from bml.config import TrackingSpec
from bml.tracking import Tracker
from bml.trackstore import mlflow_client
mlflow_client()
root = Path(sys.argv[1])
for number, delay_s in ((signal.SIGKILL, 0.0), (signal.SIGINT, 0.02), (signal.SIGKILL, 0.1)):
    child = os.fork()
    if not child:
        try:
            Tracker(TrackingSpec(), root).open()
        finally:
            os._exit(1)
    while not any(p.suffix != ".lock" and p.stat().st_size for p in root.glob("*mlflow.db*")):
        time.sleep(0.001)
    time.sleep(delay_s)
    os.kill(child, number)
    os.waitpid(child, 0)
    print(*[p.name for p in root.iterdir()], flush=True)
    assert not (root / "mlflow.db").exists(), "too late: the store was whole"
"""


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def read(database: Path, query: str) -> list[Any]:
    connection = sqlite3.connect(database)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def local(uri: str) -> Path:
    return Path(url2pathname(urlsplit(uri).path))


def test_a_store_whose_making_was_interrupted_is_made_again(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", INTERRUPTED, tmp_path], env=environment(),
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert any(".tmp" in line for line in done.stdout.splitlines()), "the first one was killed at work"
    with Tracker(TrackingSpec(), tmp_path).stage("preprocessing") as run:
        run.metrics({"x": 1.0})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["artifacts", "mlflow.db", "mlflow.db.lock"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole store under a hard name, with one run; its database is the template of other tests."""
    root = tmp_path_factory.mktemp("hard") / "q%20x?y#z"
    tracker = Tracker(TrackingSpec(), root)
    tracker.open()
    with tracker.stage("preprocessing") as run:
        run.text("a.txt", "first")
    return root


def test_a_root_of_hard_characters(store: Path) -> None:
    assert (store / "mlflow.db").stat().st_size > 0
    assert [p.name for p in store.parent.iterdir()] == [store.name], "no folder by a quoted name"
    assert [p.read_text() for p in (store / "artifacts").rglob("a.txt")] == ["first"]
    assert trackstore.sqlite_file(trackstore.sqlite_uri(store / "mlflow.db")) == store / "mlflow.db"


def test_a_path_the_database_layer_cannot_name_is_refused(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with SQLAlchemy before 2.1, which takes the path as it is spelled."""
    monkeypatch.setattr(trackstore, "sqlite_file", lambda uri: Path(uri.partition("://")[2][1:].partition("?")[0]))
    with pytest.raises(StoreError, match=r"store.root.*needs SQLAlchemy 2\.1"):
        Tracker(TrackingSpec(), store).open()


@pytest.mark.parametrize("is_copy", [False, True])
def test_a_moved_store_is_followed(store: Path, tmp_path: Path, *, is_copy: bool) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    shutil.copytree(store, before)
    with Tracker(TrackingSpec(), before).stage("preprocessing") as run:
        run.text("a.txt", "second")
    if is_copy:
        shutil.copytree(before, after)
    else:
        before.rename(after)
    old = {p.relative_to(before) for p in before.rglob("*")}
    with Tracker(TrackingSpec(), after).stage("preprocessing") as run:
        run.text("a.txt", "third")

    assert {p.relative_to(before) for p in before.rglob("*")} == old, "nothing is written where it was"
    places = read(after / "mlflow.db", "select name, artifact_location from experiments where name != 'Default'")
    assert {name: local(place) for name, place in places} == {
        f"binance-{stage}": after / "artifacts" / f"binance-{stage}" for stage in EXPERIMENTS
    }
    runs = [local(uri) for (uri,) in read(after / "mlflow.db", "select artifact_uri from runs order by start_time")]
    assert [(place / "a.txt").read_text() for place in runs] == ["first", "second", "third"]
    assert all(place.is_relative_to(after) for place in runs)


def test_the_same_store_by_another_name_stays(store: Path, tmp_path: Path) -> None:
    root = tmp_path / "real"
    shutil.copytree(store, root)
    Tracker(TrackingSpec(), root).open()
    (tmp_path / "link").symlink_to(root)
    Tracker(TrackingSpec(), tmp_path / "link").open()
    (place,) = read(root / "mlflow.db", "select artifact_location from experiments where name like '%preprocessing'")
    assert local(place[0]) == root / "artifacts" / "binance-preprocessing"


def test_another_place_for_artifacts_stays(store: Path, tmp_path: Path) -> None:
    root = tmp_path / "real"
    shutil.copytree(store, root)
    connection = sqlite3.connect(root / "mlflow.db")
    with connection:
        connection.execute(
            "update experiments set artifact_location = 's3://bucket/artifacts/x' where name = 'Default'"
        )
    connection.close()
    Tracker(TrackingSpec(), root).open()
    assert read(root / "mlflow.db", "select artifact_location from experiments where name = 'Default'") == [
        ("s3://bucket/artifacts/x",)
    ]


def test_opening_early_and_twice(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    NullTracker().open()
    Tracker(TrackingSpec(enabled=False), tmp_path / "off").open()
    assert not (tmp_path / "off").exists()
    shutil.copy(store / "mlflow.db", tmp_path / "own.db")
    tracker = Tracker(TrackingSpec(uri=f"sqlite:///{tmp_path / 'own.db'}", prefix="early"), tmp_path / "on")
    tracker.open()
    assert len(read(tmp_path / "own.db", "select * from experiments where name like 'early-%'")) == len(EXPERIMENTS)
    monkeypatch.setattr(trackstore, "mlflow_client", lambda: pytest.fail("opened twice"))
    tracker.open()


@pytest.mark.parametrize(
    ("uri", "has_own"),
    [
        ("http://h:5000", True), ("https://h", True), ("databricks", True), ("databricks://profile", True),
        ("postgresql://h/d", False), ("mysql+pymysql://h/d", False), ("sqlite:///x.db", False), ("./runs", False),
    ],
)  # fmt: skip
def test_who_keeps_artifacts(uri: str, *, has_own: bool) -> None:
    assert trackstore.keeps_artifacts(uri) == has_own


def test_artifacts_of_a_database_lie_below_the_store(
    postgres_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("drop database if exists tracked")
        connection.execute("create database tracked")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    uri = postgres_dsn.replace("/postgres?", "/tracked?")
    with Tracker(TrackingSpec(uri=uri), tmp_path / "store").stage("preprocessing") as run:
        run.text("a.txt", "x")
    found = list((tmp_path / "store" / "artifacts" / "binance-preprocessing").rglob("a.txt"))
    assert [p.read_text() for p in found] == ["x"]
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize("is_silent", [True, False])
def test_a_database_that_is_gone_is_told_soon_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, is_silent: bool
) -> None:
    """A port nobody listens on, and a server that takes the connection and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        if is_silent:
            server.listen()
        tracker = Tracker(TrackingSpec(uri=f"postgresql://me:{SECRET}@127.0.0.1:{port}/d"), tmp_path)
        began = time.monotonic()
        with pytest.raises(SourceError, match="tracking: postgresql") as caught:
            tracker.open()
    assert time.monotonic() - began < 15
    assert SECRET not in str(caught.value)
    assert caplog.records == []


def test_a_missing_driver_and_a_broken_uri_are_told(tmp_path: Path) -> None:
    for uri, told in (("mysql+nosuch://h/d", "mysql"), ("sqlite:nonsense", "not a database URI")):
        with pytest.raises((ConfigError, SourceError), match=told):
            Tracker(TrackingSpec(uri=uri), tmp_path).open()
    with pytest.raises(ConfigError, match="needs the Python package 'MySQLdb'"):
        Tracker(TrackingSpec(uri="mysql://h/d"), tmp_path).open()


def test_values_of_secret_variables_are_in_no_param_tag_or_text(store: Path, tmp_path: Path) -> None:
    root = tmp_path / "s"
    shutil.copytree(store, root)
    secret.remember("t0ps/ecret x")
    with Tracker(TrackingSpec(), root, document={"name": "t0ps/ecret x"}).stage(
        "preprocessing", {"origin": {"path": "/data/t0ps/ecret x/day.csv"}, "t0ps/ecret x": 1}, name="t0ps/ecret x"
    ) as run:
        run.tag("note", "at t0ps/ecret x")
        run.text("b.json", '{"path": "t0ps/ecret x"}')
    kept = read(root / "mlflow.db", "select key, value from params union select key, value from tags")
    texts = [p.read_text() for p in (root / "artifacts" / "binance-preprocessing" / run.run_id).rglob("*.*")]
    assert ("origin.path", "/data/***/day.csv") in kept
    assert ("note", "at ***") in kept
    assert '{"path": "***"}' in texts
    assert "ecret" not in str(kept) + str(texts)
