"""The same days on a Dask cluster: every task is one day, built in a process of its own beside the Dask worker.

Workers on other machines need bml of the same version, the same environment variables (a password never travels)
and ``store.root`` under the same path. A Dask worker that is lost costs the days it was at: they are built elsewhere.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from bml.book.publish import host_label, sweep
from bml.registry import missing_extra
from bml.scheduling import Processes, SymbolDay, threads_of
from bml.types import ConfigError, ConnectionLost, SourceError
from bml.worker import Job, Outcome, Tell, failure

#: seconds to reach a scheduler, and to see a first worker
CONNECT_S = 10.0

#: seconds between looks for a finished day, and for workers while none is
PAUSE_S, LOOK_S = 0.1, 5.0

_lock = threading.Lock()
#: on a worker: pools without a day at the moment, by run and threads
_pools: dict[tuple[str, int], list[Processes]] = {}

_log = logging.getLogger(__name__)


#: what every machine must see of a run, named like a temporary file
_PROBE = re.compile(r"run-(?P<host>[0-9A-Za-z_-]+)\.(?P<pid>\d+)-[0-9a-f]+\.probe")


def probe_of(key: str) -> str:
    """The probe of this process's run ``key``, relative to the store's root."""
    return f"state/run-{host_label()}.{os.getpid()}-{key}.probe"


def sweep_probes(root: Path) -> None:
    """Remove the probes of runs of this machine that were killed."""
    with contextlib.suppress(FileNotFoundError):  # there is no state yet
        sweep(root / "state", _PROBE)


class Cluster:
    """Days on the Dask scheduler at ``address``, or on ``local`` Dask workers of this machine. A context manager."""

    def __init__(
        self, job: Job, *, address: str | None, local: int, timeout_s: float, retry_s: float, tell: Tell
    ) -> None:
        self._distributed = _import()
        self._job, self._timeout_s, self._retry_s, self._tell = job, timeout_s, retry_s, tell
        self._look_again = 0.0
        self._alone_since: float | None = None
        self._address, self._local = address, local
        self._where = address or "of this machine"
        self._cluster: Any = None
        self._client: Any = None
        self._probe = Path(job.root) / job.probe

    def __enter__(self) -> Self:
        self._probe.parent.mkdir(parents=True, exist_ok=True)
        self._probe.write_text("the workers of a run look for this file\n")
        try:
            self._connect()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _connect(self) -> None:
        if self._address is None:
            self._cluster = self._distributed.LocalCluster(
                n_workers=self._local, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=logging.ERROR
            )
        to = self._address if self._cluster is None else self._cluster
        try:
            self._client = self._distributed.Client(to, timeout=CONNECT_S)
            self._client.wait_for_workers(1, timeout=CONNECT_S)
        except (OSError, ValueError) as error:  # the time-outs of both are OSErrors
            what = "has no worker" if self._client is not None else "cannot be reached"
            raise SourceError(f"the Dask scheduler {self._where} {what}: {error}") from None

    def run(self, days: Sequence[SymbolDay]) -> Iterator[Outcome]:
        """See :class:`bml.scheduling.Scheduler`."""
        job = replace(self._job, threads=0)
        futures = {
            self._client.submit(
                build, job, self._timeout_s, symbol, day, key=f"bml-{job.key}-{symbol}-{day}", pure=False
            ): (symbol, day)
            for symbol, day in days
        }
        completed = self._distributed.as_completed(list(futures))
        while not completed.is_empty():
            batch = completed.next_batch(block=False)
            for future in batch:
                symbol, day = futures[future]
                yield self._result(future, symbol, day)
                future.release()
            if not batch:
                self._look_for_workers()
                time.sleep(PAUSE_S)

    def _look_for_workers(self) -> None:
        """Days wait for workers without a word from Dask: say so, and stop when none came back for ``retry_s``."""
        now = time.monotonic()
        if now < self._look_again:
            return
        self._look_again = now + LOOK_S
        if self._slots():
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = now
            self._tell(f"the Dask scheduler {self._where} has no worker left: waiting for one", 0.0)
        elif now - self._alone_since > self._retry_s:
            raise ConnectionLost(
                f"the Dask scheduler {self._where} had no worker for {self._retry_s:g} s: run this again when it has"
            )

    def _result(self, future: Any, symbol: str, day: Any) -> Outcome:
        error = future.exception()
        if error is None:
            try:
                outcome: Outcome = future.result()
            except (OSError, CancelledError):
                told = f"the Dask scheduler {self._where} went away: run this again when it is back"
                raise ConnectionLost(told) from None
            return outcome
        if isinstance(error, self._distributed.KilledWorker):
            told = "every Dask worker that built it was lost"
            return Outcome(symbol=symbol, day=day, blame="died", error=("BmlError", told))
        if isinstance(error, ImportError):
            raise ConfigError(f"a Dask worker has no bml of this version ({error}): install it there") from None
        return failure(symbol, day, error)

    def _slots(self) -> dict[str, int]:
        """See :func:`slots_of`."""
        return slots_of(self._client.scheduler_info(n_workers=-1).get("workers", {}))

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            with contextlib.suppress(Exception):  # lost workers took their processes with them
                self._client.run(forget, self._job.key)
            self._client.close(timeout=CONNECT_S)
        if self._cluster is not None:
            self._cluster.close(timeout=CONNECT_S)
        self._probe.unlink(missing_ok=True)


def slots_of(workers: Mapping[str, Any]) -> dict[str, int]:
    """Host -> days it may build at a time, of the scheduler's workers by address."""
    slots: collections.Counter[str] = collections.Counter()
    for worker in workers.values():
        slots[worker["host"]] += worker["nthreads"]
    return dict(slots)


def threads_here() -> int:
    """On a Dask worker: the kernels' threads for one day, by what its host builds at a time now.

    Asked anew for every day, since workers may join and leave while a run lasts.
    """
    from distributed import get_worker
    from distributed.utils import sync

    worker = get_worker()
    workers = sync(worker.loop, worker.scheduler.identity, n_workers=-1)["workers"]
    return threads_of(slots_of(workers)[workers[worker.address]["host"]])


def build(job: Job, timeout_s: float, symbol: str, day: Any) -> Outcome:
    """On a Dask worker: build one day in a worker process that stays for the next day of the run."""
    job = replace(job, threads=threads_here())
    kind = job.key, job.threads
    with _lock:
        others = [pool for key, pools in _pools.items() if key != kind for pool in pools]
        mine = _pools.get(kind, [])
        pool = mine.pop() if mine else None
        _pools.clear()
        _pools[kind] = mine
    for other in others:  # of runs that ended without a word, or with another share of the CPUs
        other.stop()
    pool = pool or Processes(job, 1, timeout_s=timeout_s, tell=lambda text, _: _log.warning("%s", text))
    try:
        (outcome,) = pool.run([(symbol, day)])
    except BaseException:
        pool.stop()
        raise
    with _lock:
        _pools.setdefault(kind, []).append(pool)
    return outcome


def forget(key: str) -> None:
    """On a Dask worker: end the processes of a run."""
    with _lock:
        mine = [kind for kind in _pools if kind[0] == key]
        pools = [pool for kind in mine for pool in _pools.pop(kind)]
    for pool in pools:
        pool.stop()


def _import() -> Any:
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise missing_extra(error.name or "distributed", "a Dask cluster (--scheduler, --local-cluster)") from error
    logging.getLogger("distributed").setLevel(logging.ERROR)  # it tells every connection
    return distributed
