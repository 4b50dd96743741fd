"""A Dask cluster that changes in the middle of a run: workers join, its scheduler goes away."""

from __future__ import annotations

import datetime as dt
import time
from concurrent.futures import CancelledError

import pytest

from bml import cluster as dask
from bml.cluster import Cluster
from bml.types import ConnectionLost, SourceError


@pytest.mark.parametrize("lost", [CancelledError("bml-1"), ConnectionResetError("Stream is closed")])
def test_a_dask_scheduler_that_goes_away_is_unreachable(lost: Exception) -> None:
    class Future:
        def exception(self) -> None:
            return None

        def result(self) -> None:
            raise lost

    cluster = object.__new__(Cluster)
    cluster._where = "tcp://somewhere:8786"
    with pytest.raises(SourceError, match="tcp://somewhere:8786 went away: run this again"):
        cluster._result(Future(), "BTCUSDT", dt.date(2024, 1, 1))


def test_a_worker_that_joins_late_shares_the_cpus_of_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    local = {"processes": False, "protocol": "tcp://", "dashboard_address": None, "threads_per_worker": 1}
    with distributed.LocalCluster(n_workers=1, **local) as cluster, distributed.Client(cluster) as client:
        assert client.submit(dask.threads_here, pure=False).result(30) == 8
        cluster.scale(4)
        client.wait_for_workers(4, timeout=30)
        each = client.scheduler_info()["workers"]
        asked = [client.submit(dask.threads_here, workers=[at], pure=False) for at in each]
        assert [one.result(30) for one in asked] == [2, 2, 2, 2]


def test_a_scheduler_without_workers_is_told_and_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask, "LOOK_S", 0.0)
    cluster, told = object.__new__(Cluster), []
    cluster._where, cluster._retry_s, cluster._look_again, cluster._alone_since = (
        "tcp://somewhere:8786",
        0.05,
        0.0,
        None,
    )
    cluster._tell = lambda text, _: told.append(text)
    left = {"10.0.0.1": 1}
    monkeypatch.setattr(cluster, "_slots", lambda: left, raising=False)
    cluster._look_for_workers()
    assert told == []
    left.clear()
    cluster._look_for_workers()
    cluster._look_for_workers()
    assert told == ["the Dask scheduler tcp://somewhere:8786 has no worker left: waiting for one"]
    left["10.0.0.2"] = 1
    cluster._look_for_workers()  # one came back: the clock starts again
    left.clear()
    cluster._look_for_workers()
    time.sleep(0.06)
    with pytest.raises(ConnectionLost, match=r"tcp://somewhere:8786 had no worker for 0\.05 s: run this again"):
        cluster._look_for_workers()
