"""Runs, parameters, metrics and artifacts in MLflow; with :mod:`bml.trackstore` all that imports it, and late.

Every stage is one run of its own experiment, tagged with the runs it builds on, so lineage needs no care. By
default runs go to an SQLite file below the store.

A run ends FINISHED, FAILED (an exception) or KILLED (Ctrl-C, or SIGTERM where it raises SystemExit, as the
command line makes it). A run whose process died without a word is found RUNNING with a process id that is gone,
and marked KILLED when a tracker of the same host opens the store next.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bml import __version__, trackstore
from bml.config.digest import digest
from bml.config.model import TrackingSpec
from bml.config.output import to_yaml
from bml.config.secret import redact, redact_text, redact_values
from bml.host import git_state, process_tags, system
from bml.trackstore import reachable
from bml.types import RunRef, StoreError

#: experiments of a prefix, in pipeline order -> the tag that later runs carry
EXPERIMENTS = {
    "data-collection": "data_collection_run_id",
    "data-object": "data_object_run_id",
    "preprocessing": "preprocessing_run_id",
    "dataset-preparation": "dataset_run_id",
    "hyperparameter-optimization": "optimization_run_id",
    "model-training": "training_run_id",
}

MAX_METRICS, MAX_PARAMS = 1000, 100  # of one log_batch, by MLflow's own limits
MAX_VALUE = 500  # characters of a parameter or tag; longer ones are cut (the whole document is an artifact)
_KEY = re.compile(r"[^A-Za-z0-9_\-. :/]")


class StageRun:
    """One run of a stage; every method is a no-op when tracking is off (then ``run_id`` is "")."""

    def __init__(self, client: Any, stage: str, experiment: str, run_id: str) -> None:
        self._client = client
        self.stage, self.experiment, self.run_id = stage, experiment, run_id
        self._skipped: set[str] = set()

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Log ``values`` as one batch. Non-finite values are left out and named in tag ``bml.metrics_skipped``."""
        finite = {_key(name): float(value) for name, value in values.items() if math.isfinite(value)}
        skipped = {_key(name) for name in values} - set(finite)
        if skipped - self._skipped:
            self._skipped |= skipped
            self.tag("bml.metrics_skipped", ", ".join(sorted(self._skipped)))
        if self._client is None:
            return
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        batch = [Metric(name, value, now_ms, step or 0) for name, value in finite.items()]
        for first in range(0, len(batch), MAX_METRICS):
            with reachable():
                self._client.log_batch(self.run_id, metrics=batch[first : first + MAX_METRICS])

    def params(self, values: Mapping[str, Any]) -> None:
        """Log ``values`` flattened (``a.b``) and short; secrets are replaced. A parameter cannot change later."""
        if self._client is None:
            return
        from mlflow.entities import Param

        batch = [Param(name, value) for name, value in flatten(redact_values(redact(dict(values)))).items()]
        for first in range(0, len(batch), MAX_PARAMS):
            with reachable():
                self._client.log_batch(self.run_id, params=batch[first : first + MAX_PARAMS])

    def tag(self, key: str, value: object) -> None:
        """Set one tag; a later value replaces an earlier one."""
        if self._client is not None:
            with reachable():
                self._client.set_tag(self.run_id, _key(key), _short(redact_text(str(value))))

    def artifact(self, path: str | os.PathLike[str], folder: str | None = None) -> None:
        """Copy a file, or a folder with everything below it, to the run's artifacts."""
        source = Path(path)
        if not source.exists():
            raise StoreError(f"{source}: not there, so it cannot be logged")
        if self._client is None:
            return
        with reachable():
            if source.is_dir():
                self._client.log_artifacts(self.run_id, str(source), folder or source.name)
            else:
                self._client.log_artifact(self.run_id, str(source), folder)

    def figure(self, path: str | os.PathLike[str]) -> None:
        """Copy a picture to the run's folder ``figures``."""
        self.artifact(path, "figures")

    def text(self, name: str, text: str) -> None:
        """Write ``text``, without secrets, as the artifact ``name``."""
        if self._client is not None:
            with reachable():
                self._client.log_text(self.run_id, redact_text(text), name)

    def ref(self, digest: str, outputs: Mapping[str, str] | None = None) -> RunRef:
        """The hand-over to later stages; the digest becomes tag ``bml.digest``."""
        self.tag("bml.digest", digest)
        return RunRef(
            stage=self.stage, experiment=self.experiment, run_id=self.run_id, digest=digest, outputs=dict(outputs or {})
        )


class Tracker:
    """Opens runs in the store ``spec`` names; nothing is opened, and MLflow not imported, before the first run.

    ``root`` is the store's folder; ``document`` the resolved, redacted configuration, kept with every run.
    One tracker belongs to one process: do not carry it over a fork.
    """

    def __init__(
        self, spec: TrackingSpec, root: str | os.PathLike[str], *, document: Mapping[str, Any] | None = None
    ) -> None:
        self.spec, self.root = spec, Path(root).absolute()
        self._document = None if document is None else dict(document)
        self._client: Any = None
        self._experiments: dict[str, str] = {}

    @property
    def uri(self) -> str:
        """Where runs go: ``spec.uri``, else the SQLite file below the store."""
        return self.spec.uri or trackstore.sqlite_uri(self.root / "mlflow.db")

    def open(self) -> None:
        """Open the store, or make it, now rather than at the first run; nothing when tracking is off.

        Raises what :meth:`stage` raises, before hours of work. Any number of calls is one.
        """
        if self.spec.enabled:
            self._open()

    @contextlib.contextmanager
    def stage(
        self,
        stage: str,
        params: Mapping[str, Any] | None = None,
        upstream: Sequence[RunRef] = (),
        *,
        name: str | None = None,
        parent: StageRun | None = None,
    ) -> Iterator[StageRun]:
        """A run of ``stage`` (a key of :data:`EXPERIMENTS`) that ends with the block, however the block ends.

        ``name`` is the run's name (default: the stage); ``parent`` nests it below another run.
        Raises SourceError when the store cannot be reached, StoreError when its database is too old, ConfigError when
        MLflow or the driver of its database is not installed.
        """
        experiment = f"{self.spec.prefix}-{stage}"
        if stage not in EXPERIMENTS:
            raise ValueError(f"there is no experiment for stage {stage!r}; there are: {', '.join(EXPERIMENTS)}")
        if not self.spec.enabled:
            yield StageRun(None, stage, experiment, "")
            return
        client = self._open()
        tags = self._tags(stage, upstream) | ({"mlflow.parentRunId": parent.run_id} if parent else {})
        with reachable():
            made = client.create_run(
                self._experiments[stage], tags=redact_values(tags), run_name=redact_text(name or stage)
            )
        run = StageRun(client, stage, experiment, made.info.run_id)
        with _Ending(client, run):
            run.params(params or {})
            run.text("system.json", json.dumps(system(), indent=1))
            if self._document is not None:
                run.text("config.resolved.yaml", to_yaml(redact(self._document)))
            yield run

    def _tags(self, stage: str, upstream: Sequence[RunRef]) -> dict[str, str]:
        tags = {"bml.stage": stage, "bml.version": __version__, **process_tags(), **git_state()}
        if self._document is not None:
            tags["bml.config_sha256"] = digest(self._document)
            tags["bml.name"] = str(self._document.get("name", ""))
        return tags | {EXPERIMENTS[ref.stage]: ref.run_id for ref in upstream if ref.run_id}

    def _open(self) -> Any:
        """The client of an opened, migrated store with its experiments; stale runs of this host marked KILLED."""
        if self._client is not None:
            return self._client
        client_type = trackstore.mlflow_client()
        database = trackstore.database_of(self.uri, self.root, is_default=not self.spec.uri)
        has_own = trackstore.keeps_artifacts(self.uri)
        beside = self.root / "mlflow" if database is None else database
        lock = contextlib.nullcontext() if has_own else trackstore.locked(beside.with_name(f"{beside.name}.lock"))
        with lock, reachable(redact_text(self.uri)):
            if database is not None:
                trackstore.make(database, (self.root / "artifacts").as_uri())
            client = client_type(tracking_uri=self.uri)
            found = {
                stage: self._experiment(client, f"{self.spec.prefix}-{stage}", has_own=has_own) for stage in EXPERIMENTS
            }
            if database is not None and not self.spec.uri:
                trackstore.follow(database, self.root)
            trackstore.reap(client, found.values())
        self._client, self._experiments = client, found
        return client

    def _experiment(self, client: Any, name: str, *, has_own: bool) -> str:
        found = client.get_experiment_by_name(name)
        if found is None:
            # else the place would be ./mlruns of whatever directory this runs in
            place = None if has_own else (self.root / "artifacts" / name).as_uri()
            return str(client.create_experiment(name, artifact_location=place))
        if found.lifecycle_stage != "active":
            told = f"experiment {name!r} was deleted; restore it:  mlflow experiments restore -x {found.experiment_id}"
            raise StoreError(told)
        return str(found.experiment_id)


class NullTracker(Tracker):
    """A tracker that is off: the same interface, no MLflow, no files, empty run ids."""

    def __init__(self) -> None:
        super().__init__(TrackingSpec(enabled=False), ".")


class _Ending:
    """Ends a run by what ended its block; a failure to say so never hides the block's own exception."""

    def __init__(self, client: Any, run: StageRun) -> None:
        self._client, self._run = client, run

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status = "FINISHED" if error is None else "FAILED" if isinstance(error, Exception) else "KILLED"
        try:
            if error is not None:
                self._run.tag("bml.error", f"{type(error).__name__}: {error}".splitlines()[0])
            with reachable():
                self._client.set_terminated(self._run.run_id, status)
        except Exception as trouble:
            if error is None:
                raise
            error.add_note(f"run {self._run.run_id} could not be marked {status}: {trouble}")


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested ``values`` as ``a.b`` -> short text; short lists of scalars stay one value, others are numbered."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{_key(str(key))}"
        if isinstance(value, (list, tuple)) and any(isinstance(inner, (dict, list, tuple)) for inner in value):
            value = {str(i): inner for i, inner in enumerate(value)}
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = _short(value if isinstance(value, str) else json.dumps(value, default=str))
    return flat


def _key(name: str) -> str:
    return _KEY.sub("_", name)[:250]


def _short(text: str) -> str:
    return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 3] + "..."
