"""Opening the store that runs are tracked in: made whole, found where it is now, refused in one line.

A fresh SQLite file is migrated under another name and renamed when it is done, under a lock: MLflow takes half a
schema, as a killed process or a second one at work leaves it, for a broken store. MLflow's own telemetry is off.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from bml.config.secret import redact_text
from bml.host import host_name, started
from bml.registry import missing_extra
from bml.types import ConfigError, SourceError, StoreError

#: attempts at, and seconds for, a connection to a tracking database: MLflow's own 10 attempts take 100 s
ATTEMPTS, CONNECT_S = 2, 4


def sqlite_uri(path: Path) -> str:
    """The URI of the SQLite file ``path``; characters that mean something in a URI are quoted."""
    plain = str(path)
    quoted = quote(plain, safe="/ " + "".join(one for one in plain if one not in "%?#"))
    # MLflow makes the folder of "sqlite:///...", as spelled: a quoted name would be a folder of its own
    return f"sqlite:///{plain}" if quoted == plain else f"sqlite+pysqlite:///{quoted}"


def database_of(uri: str, root: Path, *, is_default: bool) -> Path | None:
    """The SQLite file of ``uri``, if it has one; the default one must be the file it is meant to be."""
    database = sqlite_file(uri)
    if is_default and database != root / "mlflow.db":  # SQLAlchemy before 2.1 unquotes nothing
        told = "a path with '?', '#' or '%' needs SQLAlchemy 2.1 for MLflow"
        raise StoreError(f"store.root: {root}: {told}; choose another, or set tracking.uri")
    return database


def sqlite_file(uri: str) -> Path | None:
    """The file an SQLite URI means, or None for other stores and for databases in memory."""
    if not uri.startswith("sqlite"):
        return None
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        name = make_url(uri).database
    except ArgumentError as error:
        raise ConfigError(f"tracking.uri: {redact_text(uri)}: not a database URI") from error
    return None if not name or name == ":memory:" or name.startswith("file:") else Path(name).absolute()


def keeps_artifacts(uri: str) -> bool:
    """Whether the store is a server with an artifact place of its own."""
    return urlsplit(uri).scheme in ("http", "https", "databricks", "databricks-uc") or uri == "databricks"


def mlflow_client() -> Any:
    """MLflow's client class; the first call imports it, which takes seconds. Raises ConfigError without MLflow."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read while mlflow is imported
    # a server that is gone must not stop a run for minutes: MLflow's own default is 7 tries with growing pauses
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("PGCONNECT_TIMEOUT", str(CONNECT_S))  # what libpq waits where the URI does not say
    try:
        with warnings.catch_warnings():
            # MLflow's own table definitions use a loader strategy SQLAlchemy 2.1 deprecates; not ours to change
            warnings.filterwarnings("ignore", message=r"The ``noload`` loader strategy is deprecated")
            from mlflow import MlflowClient
            from mlflow.store.db import utils
            from mlflow.store.tracking import sqlalchemy_store  # noqa: F401 (imported here, under the filter)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("bml"):
            raise
        raise missing_extra(error.name or "mlflow", "tracking (or set tracking.enabled: false)") from error
    utils.MAX_RETRY_COUNT = min(utils.MAX_RETRY_COUNT, ATTEMPTS)
    for chatty in ("alembic", "mlflow.tracking"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it logs what it raises as well
    return MlflowClient


def make(database: Path, artifacts: str) -> None:
    """Make the SQLite store ``database`` unless it is there; call it under its lock.

    Killed at any moment, it leaves either no store or a whole one, and a temporary file the next call removes.
    """
    _sweep(database)  # whoever made these held the lock, and is gone
    if database.exists():
        return
    from mlflow.store.tracking import sqlalchemy_store

    new_store: Any = sqlalchemy_store.SqlAlchemyStore  # MLflow does not annotate it
    temporary = database.with_name(f".{database.name}.{os.getpid()}.tmp")
    try:
        new_store(sqlite_uri(temporary), artifacts).engine.dispose()
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(database)
    finally:
        _sweep(database)


def _sweep(database: Path) -> None:
    for left in database.parent.iterdir():
        if left.name.startswith(f".{database.name}.") and left.suffix.startswith(".tmp"):
            left.unlink(missing_ok=True)


def follow(database: Path, root: Path) -> None:
    """Let the experiments and runs of a store that was moved or copied to ``root`` use the artifacts there.

    MLflow keeps absolute places, so a moved store would go on writing where it was. Places outside of an
    ``artifacts`` folder, and places that are the same folder by another name, stay. Call it under the lock.
    """
    here = root.as_uri()
    with contextlib.closing(sqlite3.connect(database, timeout=20)) as connection, connection:
        told = "select experiment_id, artifact_location from experiments"
        for experiment, place in connection.execute(told).fetchall():
            there, found, name = str(place).rpartition("/artifacts/")
            if not found or "/" in name or not there.startswith("file:") or there == here or _same(there, root):
                continue
            moved = f"{here}/artifacts/{name}"
            connection.execute(
                "update experiments set artifact_location = ? where experiment_id = ?", (moved, experiment)
            )
            connection.execute(
                "update runs set artifact_uri = ? || substr(artifact_uri, ?)"
                " where experiment_id = ? and substr(artifact_uri, 1, ?) = ?",
                (moved, len(place) + 1, experiment, len(place) + 1, f"{place}/"),
            )


def _same(uri: str, folder: Path) -> bool:
    try:
        return os.path.samefile(url2pathname(urlsplit(uri).path), folder)
    except OSError:
        return False


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path`` (of this host and file system); released even if the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def reachable(uri: str = "the tracking store") -> Iterator[None]:
    """Turn MLflow's errors into one line: unreachable, out of date, or refused."""
    try:
        yield
    except ModuleNotFoundError as error:  # a database driver; MLflow itself is imported before
        told = f"tracking: {uri}: needs the Python package {error.name!r}: run  pip install {error.name}"
        raise ConfigError(told) from error
    except Exception as error:
        if not type(error).__module__.startswith(("mlflow.", "requests.", "sqlalchemy.")):
            raise
        text = redact_text(" ".join(str(error).split()))
        if "db upgrade" in text:
            told = f"{uri}: its schema is older than the installed mlflow; copy it, then run  mlflow db upgrade {uri}"
            raise StoreError(told) from error
        raise SourceError(f"tracking: {uri}: {text[:300]} (set tracking.enabled: false to go on without)") from error


def reap(client: Any, experiments: Iterable[str]) -> None:
    """Mark runs of this host KILLED that are RUNNING by a process that is gone."""
    mine = f"attributes.status = 'RUNNING' and tags.`bml.host` = '{host_name()}'"
    for run in client.search_runs(list(experiments), filter_string=mine, max_results=1000):
        tags = run.data.tags
        pid = tags.get("bml.pid", "")
        if pid.isdigit() and started(int(pid)) != tags.get("bml.pid_start"):
            client.set_tag(run.info.run_id, "bml.error", f"process {pid} is gone")
            client.set_terminated(run.info.run_id, "KILLED")
