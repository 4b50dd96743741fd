"""Days from a real PostgreSQL: planned, failed, repaired, built by worker processes that die, cut off and resumed."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import os
import signal
import sys
import time
from pathlib import Path

import psycopg
import pytest

from bml.config.model import Written
from bml.types import ConfigError
from bml.worker import Job, prepared
from tests.end_to_end import tiny
from tests.unattended import fed_market as fed

N_DAYS, CADENCE_S, LEVELS = 4, 120.0, 4
N_FILES = N_DAYS * len(fed.SYMBOLS)
BAD = ("ETHUSDT", fed.START + dt.timedelta(days=1))


@pytest.fixture(scope="module")
def dsn(postgres_dsn: str) -> str:
    fed.load(fed.market(N_DAYS, cadence_s=CADENCE_S, levels=LEVELS), postgres_dsn)
    return postgres_dsn


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fed")
    return tiny.write_config(folder / "c.yaml", fed.document(N_DAYS, cadence_s=CADENCE_S, levels=LEVELS))


@pytest.fixture(scope="module")
def undisturbed(config: Path, dsn: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    store = tmp_path_factory.mktemp("undisturbed")
    code, told = fed.build(config, store, dsn, "--workers", "0")
    assert code == 0, told
    return tiny.published(store)


def test_two_workers_give_the_same_bytes(config: Path, dsn: str, tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    code, told = fed.build(config, tmp_path, dsn, "--workers", "2")
    assert code == 0, told
    assert len(undisturbed) == N_FILES
    assert tiny.published(tmp_path) == undisturbed


def test_the_plan_before_between_and_after(config: Path, dsn: str, tmp_path: Path) -> None:
    env = {"FED_STORE": str(tmp_path / "s"), "FED_DSN": dsn}
    before = json.loads(tiny.bml("preprocess", config, "--dry-run", "--json", env=env).out)
    assert (before["total"]["missing"], before["total"]["to_build"], before["total"]["seconds"]) == (12, 12, None)
    assert not (tmp_path / "s").exists(), "a dry run wrote something"
    n_rows = N_FILES * 720 * LEVELS
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(f"ANALYZE public.{fed.TABLE}")
    guess = tiny.bml("preprocess", config, "--dry-run", "--json", env=env)
    assert n_rows / 2 < json.loads(guess.out)["total"]["rows"] < n_rows * 2
    assert "the rows are the server's estimate" in tiny.bml("preprocess", config, "--dry-run", env=env).out
    away = tiny.bml("preprocess", config, "--dry-run", "--json", env={**env, "FED_DSN": "host=127.0.0.1 port=9"})
    assert json.loads(away.out)["total"]["rows"] is None
    assert "in vain: cannot reach PostgreSQL at 127.0.0.1:9" in json.loads(away.out)["notes"][0]
    assert tiny.bml("preprocess", config, "-q", env=env).code == 0
    (tmp_path / "s" / "days" / "BTCUSDT" / "2024").rename(tmp_path / "elsewhere")
    between = json.loads(tiny.bml("preprocess", config, "--dry-run", "--json", env=env).out)
    btc = between["symbols"]["BTCUSDT"]
    assert (btc["missing"], btc["present"], between["symbols"]["ETHUSDT"]["present"]) == (N_DAYS, 0, N_DAYS)
    assert between["notes"] == []
    assert btc["rows"] == pytest.approx(N_DAYS * 720 * LEVELS, rel=0.01)
    assert btc["bytes"] == sum(file.stat().st_size for file in (tmp_path / "elsewhere").iterdir())
    assert 0 < btc["seconds"] < 60
    assert between["total"]["to_build"] == N_DAYS
    table = tiny.bml("preprocess", config, "--dry-run", env=env)
    assert table.out.splitlines()[0].split()[:4] == ["symbol", "wanted", "present", "evicted"]
    other = ("--set", "data.phase_ms=500")
    stale = json.loads(tiny.bml("preprocess", config, "--dry-run", "--json", *other, env=env).out)
    assert stale["symbols"]["ETHUSDT"]["stale"] == N_DAYS


def test_one_bad_day_does_not_stop_the_rest(
    config: Path, dsn: str, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    assert fed.build(config, tmp_path, dsn, "-q")[0] == 0
    for file in (tmp_path / "days").rglob("*_2024-03-0[12]_*.h5"):
        file.unlink()
    fed.sabotage(dsn, *BAD, fed.TABLE)
    try:
        code, told = fed.build(config, tmp_path, dsn)
        assert code == 5
        assert f"failed {BAD[0]} {BAD[1]}: " in told
        assert "1 days failed; everything else is done" in told
        assert "level" in told.splitlines()[-2]
        assert fed.n_files(tmp_path) == N_FILES - 1
        (record,) = (tmp_path / "quarantine").rglob("*.json")
        document = json.loads(record.read_bytes())
        assert (document["symbol"], document["day"], document["attempts"]) == (BAD[0], str(BAD[1]), 1)

        code, told = fed.build(config, tmp_path, dsn)
        assert code == 5
        assert f"skipped {BAD[0]} {BAD[1]}: it failed before" in told
        code, told = fed.build(config, tmp_path, dsn, "--retry-failed")
        assert code == 5
        assert json.loads(record.read_bytes())["attempts"] == 2
    finally:
        fed.repair(dsn, fed.TABLE)
    assert fed.build(config, tmp_path, dsn, "--retry-failed")[0] == 0
    assert not record.exists()
    assert tiny.published(tmp_path) == undisturbed


def test_a_worker_killed_in_a_day_is_replaced(
    config: Path, dsn: str, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    process = fed.start(config, tmp_path, dsn, "--workers", "2")
    assert fed.wait_for(lambda: fed.n_files(tmp_path) >= 1, process)
    for pid in fed.workers_of(process.pid):
        fed.kill(pid)
    code, told = fed.finish(process)
    assert code == 0, told
    assert "its worker process ended with signal 9 (Killed); building it once more" in told
    assert tiny.published(tmp_path) == undisturbed


@pytest.mark.parametrize("workers", [pytest.param("0", marks=pytest.mark.slow), "2"])
def test_killed_and_run_again(
    config: Path, dsn: str, tmp_path: Path, undisturbed: dict[str, bytes], workers: str
) -> None:
    process = fed.start(config, tmp_path, dsn, "--workers", workers)
    assert fed.wait_for(lambda: fed.n_files(tmp_path) >= 3, process)
    children = fed.workers_of(process.pid)
    process.kill()
    fed.finish(process)
    assert len(children) == int(workers)
    code, told = fed.build(config, tmp_path, dsn, "--workers", workers)
    assert code == 0, told
    assert tiny.published(tmp_path) == undisturbed
    end = time.monotonic() + 10
    while any(Path(f"/proc/{pid}/fd").exists() and _alive(pid) for pid in children):
        assert time.monotonic() < end, "a worker outlived its run"
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), pytest.param(15, 143, "terminated", marks=pytest.mark.slow)],
)
def test_interrupted_ends_cleanly(
    config: Path, dsn: str, tmp_path: Path, undisturbed: dict[str, bytes], number: int, code: int, word: str
) -> None:
    for attempt in range(8):  # on a fast machine every day may be there before the signal
        store = tmp_path / str(attempt)
        process = fed.start(config, store, dsn, "--workers", "2")
        assert fed.wait_for(lambda: fed.n_files(store) >= 1, process)  # noqa: B023
        children = fed.workers_of(process.pid)
        process.send_signal(number)
        got, told = fed.finish(process)
        if got != 0:
            break
    assert (got, told.splitlines()[-1]) == (code, word)
    assert not any(_alive(pid) for pid in children)
    for name, content in tiny.published(store).items():
        assert content == undisturbed[name]
    assert not [p for p in (store / "days").rglob(".*") if p.is_file()]


def test_a_cut_connection_is_made_again(config: Path, dsn: str, tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    process = fed.start(config, tmp_path, dsn, "--workers", "1")
    assert fed.wait_for(lambda: fed.n_files(tmp_path) >= 2, process)
    assert fed.cut_connections(dsn) >= 1
    code, told = fed.finish(process)
    assert code == 0, told
    assert "trying again in" in told
    assert tiny.published(tmp_path) == undisturbed


def test_a_day_that_takes_too_long_is_given_up(config: Path, dsn: str, tmp_path: Path) -> None:
    code, told = fed.build(config, tmp_path, dsn, "--day-timeout", "0.001", "--workers", "1")
    assert code == 4
    assert "not done after 0.001 s (run.day_timeout_s), so it was given up" in told
    assert "3 days failed like this one after the other, so the run was stopped" in told
    assert not (tmp_path / "quarantine").exists()


@pytest.mark.slow
def test_two_dask_workers_give_the_same_bytes(
    config: Path, dsn: str, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    pytest.importorskip("distributed")
    code, told = fed.build(config, tmp_path, dsn, "--local-cluster", "2")
    assert code == 0, told
    assert tiny.published(tmp_path) == undisturbed
    assert not list((tmp_path / "state").glob("*.probe"))


def test_one_way_to_run_at_a_time(config: Path, dsn: str, tmp_path: Path) -> None:
    code, told = fed.build(config, tmp_path, dsn, "--local-cluster", "2", "--workers", "2")
    assert (code, "choose one" in told) == (2, True)


@pytest.mark.slow
def test_a_scheduler_that_is_not_there(config: Path, dsn: str, tmp_path: Path) -> None:
    code, told = fed.build(config, tmp_path, dsn, "-q", "--scheduler", "tcp://127.0.0.1:9")
    assert code == 4
    assert told.startswith("error: the Dask scheduler tcp://127.0.0.1:9 cannot be reached")
    assert len(told.splitlines()) == 1


def test_a_machine_that_sees_another_store_is_refused(config: Path, dsn: str, tmp_path: Path) -> None:
    """A worker first looks for the run's probe in the store, and at what configuration its environment makes."""
    written = Written(config.read_text(), (), ("collect", "data_object", "preprocess", "features"))
    job = Job(
        key="k", path=str(config), written=written, root=str(tmp_path), digest="ab" * 32, learned={}, origin={},
        force=False, threads=1, probe="state/run-k.probe",
    )  # fmt: skip
    env = {"FED_STORE": str(tmp_path), "FED_DSN": dsn}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        for changed, words in (
            ({}, "does not see the run's store.root .*all machines must share that folder"),
            ({"version": "0.0"}, "has bml .*, the run has 0.0: install the same version"),
            ({"probe": ""}, "its environment makes another configuration"),
        ):
            with pytest.raises(ConfigError, match=words):
                prepared(dataclasses.replace(job, **changed), lambda text, seconds: None)  # type: ignore[arg-type]


@pytest.mark.slow
def test_dask_that_is_not_installed_is_named(config: Path, dsn: str, tmp_path: Path) -> None:
    """The extra is missing: one line says which."""
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "distributed.py").write_text("raise ModuleNotFoundError('No module', name='distributed')\n")
    env = {"FED_STORE": str(tmp_path / "s"), "FED_DSN": dsn, "PYTHONPATH": os.pathsep.join([str(blocked), *sys.path])}
    done = tiny.bml("preprocess", config, "-q", "--local-cluster", "2", env=env)
    assert done.code == 2
    assert done.err == (
        "error: a Dask cluster (--scheduler, --local-cluster) needs the package 'distributed': "
        "run pip install 'bml[dask]'\n"
    )


@pytest.mark.slow
def test_workers_that_always_die_stop_the_run(config: Path, dsn: str, tmp_path: Path) -> None:
    process = fed.start(config, tmp_path, dsn, "--workers", "2")
    while process.poll() is None:
        for pid in fed.workers_of(process.pid):
            with contextlib.suppress(ProcessLookupError):
                fed.kill(pid)
        time.sleep(0.01)
    code, told = fed.finish(process)
    assert code == 1
    assert "2 worker processes ended while building it, the last with signal 9 (Killed); killed so, it may have" in told
    assert "3 days failed like this one after the other, so the run was stopped" in told
    assert not (tmp_path / "quarantine").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_dask_interrupted_ends_cleanly(
    config: Path, dsn: str, tmp_path: Path, undisturbed: dict[str, bytes], number: int
) -> None:
    pytest.importorskip("distributed")
    process = fed.start(config, tmp_path, dsn, "--local-cluster", "2")
    assert fed.wait_for(lambda: fed.n_files(tmp_path) >= 1, process)
    process.send_signal(number)
    code, told = fed.finish(process, 60)
    assert code == (130 if number == signal.SIGINT else 143), told
    assert not list((tmp_path / "state").glob("*.probe"))
    for name, content in tiny.published(tmp_path).items():
        assert content == undisturbed[name]
