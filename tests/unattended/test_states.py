"""What is believed of a day after a crash, a race or damage: never that it is there when it is not."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bml import config, handover, learned, pipeline, unattended
from bml.book import records, rolling
from bml.book.days import days_between, start_ns, store_digest
from bml.book.store import DayStore, open_file
from bml.cli.progress import Progress
from bml.cluster import probe_of
from bml.config.model import TrackingSpec, Written
from bml.config.storing import RunSpec
from bml.plan import State, plan, survey
from bml.scheduling import Processes
from bml.tracking import NullTracker, Tracker
from bml.types import NS_PER_DAY, AlignedDay, ConfigError, DataError, DepthRows, RunRef, StoreError
from bml.unattended import Choices, build_days, workers_of
from bml.worker import DayWorker, Job, Supply
from tests.end_to_end import tiny
from tests.unattended.test_trouble import DAYS, Frail, cfg, day, run

__all__ = ["cfg"]  # a fixture

SYMBOL = "BTCUSDT"


def store_of(cfg: config.Config) -> DayStore:
    return DayStore(cfg.store.root, store_digest(cfg, learned.load(cfg)))


def rolls(cfg: config.Config, max_gb: float = 1.0) -> config.Config:
    spec = cfg.store.model_copy(update={"keep": "rolling", "max_gb": max_gb, "diagnostic_fraction": 0.0})
    return cfg.model_copy(update={"store": spec})


def states(cfg: config.Config) -> list[State]:
    return [one.state for one in survey(cfg, store_of(cfg))]


def test_ten_bad_days_in_a_row_do_not_keep_a_store_with_good_ones_from_going_on(cfg: config.Config) -> None:
    Frail.trouble = {2: ConfigError("stopped here")}
    with pytest.raises(ConfigError):
        run(cfg)
    Frail.reads_so_far = 0
    Frail.trouble = {n: DataError("rotten") for n in range(1, 11)}
    built = run(cfg)
    assert (len(built.failed), len(built.summaries)) == (10, DAYS - 10)


def test_a_run_that_dies_before_it_clears_a_record_leaves_a_day_that_is_there(
    cfg: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    Frail.trouble = {2: DataError("rotten")}
    run(cfg)

    def dies(store: DayStore, symbol: str, at: dt.date) -> None:
        if str(at) == day(1):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(records, "absolve", dies)
        with pytest.raises(KeyboardInterrupt):
            run(cfg, retry_failed=True)
    built = run(cfg)
    assert (built.failed, len(built.summaries)) == ([], DAYS)
    assert not list((cfg.store.root / "quarantine").rglob("*.json"))


def test_a_day_that_fails_when_it_is_forced_is_not_trained_on(
    cfg: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(cfg)
    Frail.reads_so_far, Frail.trouble = 0, {2: DataError("rotten")}
    assert [one.day for one in run(cfg, force=True).failed] == [day(1)]
    assert states(cfg)[1] is State.FAILED
    monkeypatch.setattr(handover, "load", lambda *_: None)
    with pytest.raises(ConfigError, match=f"1 of {DAYS} days failed .*{day(1)}: rotten"):
        handover.day_store(cfg)


def test_a_day_whose_report_is_damaged_is_built_again(cfg: config.Config) -> None:
    run(cfg)
    file = store_of(cfg).path(SYMBOL, tiny.START)
    with open_file(file) as opened:
        at = opened._places["quality"].offset
    before = file.read_bytes()
    file.write_bytes(before[:at] + b"#" + before[at + 1 :])
    assert states(cfg)[:2] == [State.MISSING, State.PRESENT]
    assert sum(one.built for one in run(cfg).summaries) == 1
    assert file.read_bytes() == before


@pytest.mark.parametrize("n_there", [DAYS, DAYS - 2])
def test_a_damaged_old_day_is_built_again_while_room_is_made(cfg: config.Config, n_there: int) -> None:
    """Found before anything is built, or after a day was: either way the others go on, and nothing is missing."""
    run(cfg)
    store = store_of(cfg)
    file = store.path(SYMBOL, tiny.START)
    whole, size = file.read_bytes(), file.stat().st_size
    with open_file(file) as opened:
        at = opened._places["book"].offset
    file.write_bytes(whole[:at] + b"#" + whole[at + 1 :])
    for number in range(n_there, DAYS):
        store.path(SYMBOL, tiny.START + dt.timedelta(days=number)).unlink()
    told: list[str] = []
    built = run(rolls(cfg, max_gb=(DAYS - 0.5) * size / 1e9), say=told.append)
    assert [one.built for one in built.summaries] == [True] + [number >= n_there for number in range(1, DAYS)]
    assert next(line for line in told if "damaged" in line).startswith(f"{SYMBOL} {day(0)}: removed and built again")
    assert [at for _, at in built.evicted] == [tiny.START + dt.timedelta(days=1)]
    assert file.read_bytes() == whole
    assert states(rolls(cfg))[:3] == [State.PRESENT, State.EVICTED, State.PRESENT]


def test_a_removed_day_without_rows_is_asked_again(cfg: config.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(self: Frail, symbol: str, first_ns: int, stop_ns: int) -> DepthRows:
        rows = read(self, symbol, first_ns, stop_ns)
        if stop_ns > start_ns(tiny.START) + NS_PER_DAY:
            return rows
        none = tuple(x[:0] for x in rows.columns)
        return replace(rows, ts_ns_N=rows.ts_ns_N[:0], level_N=rows.level_N[:0], columns=none)

    read = Frail.read
    with monkeypatch.context() as patch:
        patch.setattr(Frail, "read", nothing)
        run(cfg)
    assert states(cfg)[:2] == [State.EMPTY, State.PRESENT]
    for number in range(2):
        rolling.evict(store_of(cfg), SYMBOL, tiny.START + dt.timedelta(days=number))
    assert states(rolls(cfg))[:3] == [State.EMPTY, State.EVICTED, State.PRESENT]
    built = run(rolls(cfg))
    assert [one.built for one in built.summaries[:2]] == [True, False]


def test_a_day_removed_before_its_worker_looked_again_is_built(
    cfg: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker's day, or another run, may need the room."""
    write = DayStore.write

    def write_and_lose(self: DayStore, one: AlignedDay, *, meta: dict[str, Any]) -> Path:
        path = write(self, one, meta=meta)
        rolling.evict(self, one.symbol, one.day)
        return path

    monkeypatch.setattr(DayStore, "write", write_and_lose)
    taught = learned.learn(cfg, Frail())
    store = DayStore(cfg.store.root, store_digest(cfg, taught))
    with Supply(cfg, lambda *_: None) as supply:
        worker = DayWorker(rolls(cfg), supply, store, taught, {"kind": "feed"}, force=False)
        outcome = worker.build(SYMBOL, tiny.START)
    assert outcome.error == ("", "")
    assert outcome.summary is not None
    assert outcome.summary.built


def test_a_day_that_vanishes_while_a_run_looks_is_not_passed_over(
    cfg: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(cfg)

    def then_gone(cfg: config.Config, store: DayStore) -> Any:
        planned = survey(cfg, store)
        store.path(SYMBOL, tiny.START).unlink(missing_ok=True)
        return planned

    monkeypatch.setattr(unattended, "survey", then_gone)
    with pytest.raises(StoreError, match=f"{SYMBOL} {tiny.START}: was present and is gone: another process"):
        run(cfg)


def test_days_another_run_built_do_not_count_as_built_in_no_time(
    cfg: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(cfg)
    n = len(list(records.history(store_of(cfg))))
    monkeypatch.setattr(
        unattended, "survey", lambda *a: [replace(one, state=State.MISSING) for one in survey(*a)]
    )  # as they were before the other run built them
    assert not any(one.built for one in run(cfg).summaries)
    assert len(list(records.history(store_of(cfg)))) == n


def test_removed_days_of_another_source_are_refused_as_files_are(cfg: config.Config) -> None:
    run(cfg)
    for number in range(DAYS):
        rolling.evict(store_of(cfg), SYMBOL, tiny.START + dt.timedelta(days=number))
    assert len(run(rolls(cfg)).summaries) == DAYS
    with Supply(cfg, lambda *_: None) as supply, pytest.raises(ConfigError, match="kind 'feed', now 'other'"):
        build_days(
            rolls(cfg), supply, store_of(cfg), learned.load(cfg), {"kind": "other"}, Progress(quiet=True), Choices()
        )


def test_two_runs_that_make_room_wait_for_each_other(cfg: config.Config) -> None:
    run(cfg)
    store = store_of(cfg)
    size = store.path(SYMBOL, tiny.START).stat().st_size
    days = [(SYMBOL, tiny.START + dt.timedelta(days=n)) for n in range(DAYS)]
    one, other = (rolling.Rolling(rolls(cfg, 4.5 * size / 1e9).store, store, days) for _ in range(2))
    with ThreadPoolExecutor(1) as pool:
        with one._alone():
            waiting = pool.submit(other.make_room)
            with pytest.raises(TimeoutError):
                waiting.result(0.3)
            one._remove(DAYS * size, set())
        waiting.result(10)
    assert len(one.evicted) == DAYS - 4
    assert other.evicted == []


def test_a_forced_run_that_is_cut_short_goes_on(cfg: config.Config) -> None:
    run(cfg)
    Frail.reads_so_far, Frail.trouble = 0, {5: ConfigError("stopped here")}
    with pytest.raises(ConfigError, match="stopped here"):
        run(cfg, force=True)
    store, told = store_of(cfg), []
    assert len(plan(cfg, workers=1, force=True).build) == DAYS - 4
    assert [one.built for one in run(cfg, force=True, say=told.append).summaries] == [False] * 4 + [True] * (DAYS - 4)
    assert told[0].startswith("going on with a run with --force that did not end: 4 days are built again already")
    assert not records.forced_path(store).exists()
    assert all(one.built for one in run(cfg, force=True).summaries), "the next one begins anew"


def test_a_forced_run_that_is_cut_short_leaves_no_model_of_the_days_before(cfg: config.Config) -> None:
    def go(**choices: Any) -> None:
        pipeline.preprocess(cfg, NullTracker(), Progress(quiet=True), Choices(workers=0, **choices))

    go()
    handover.save(cfg, "train", RunRef(stage="train", experiment="e", run_id="1", digest="0" * 8, outputs={}))
    go()
    handover.load(cfg, "train")
    Frail.reads_so_far, Frail.trouble = 0, {5: ConfigError("stopped here")}
    with pytest.raises(ConfigError, match="stopped here"):
        go(force=True)
    with pytest.raises(ConfigError, match="not there yet"):
        handover.load(cfg, "train")


def test_the_probe_of_a_killed_run_is_swept_by_the_next(cfg: config.Config) -> None:
    state = cfg.store.root / "state"
    state.mkdir(parents=True)
    probe = "from bml.cluster import probe_of; print(probe_of('ab12'))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, env=tiny.environment())
    dead, alive = cfg.store.root / done.stdout.strip(), cfg.store.root / probe_of("cd34")
    elsewhere = state / f"run-another-machine.{os.getpid() + 1}-ab12.probe"
    for one in (dead, alive, elsewhere):
        one.touch()
    run(cfg)
    assert sorted(state.glob("*.probe")) == sorted([alive, elsewhere])


def test_diagnostics_of_a_rolling_store_are_logged_once(cfg: config.Config) -> None:
    drawn = [at for at in days_between(cfg.data.start, cfg.data.stop) if rolling.is_diagnostic(SYMBOL, at, 0.3)]
    assert 0 < len(drawn) < DAYS
    spec = rolls(cfg).store.model_copy(update={"diagnostic_fraction": 0.3})
    folder = cfg.store.root / "artifacts"
    for store in (cfg.store, spec, spec):
        one = cfg.model_copy(update={"store": store})
        pipeline.preprocess(one, Tracker(TrackingSpec(), store.root), Progress(quiet=True), Choices(workers=0))
        if store is cfg.store:
            assert not list(folder.rglob("diagnostics"))
            for file in (store.root / "days").rglob("*.h5"):
                file.unlink()
    logged = {file.name: file.read_bytes() for file in folder.rglob("diagnostics/*")}
    paths = [store_of(cfg).path(SYMBOL, at) for at in drawn]
    assert sorted(logged) == sorted(path.with_suffix(end).name for path in paths for end in (".h5", ".json"))
    for path in paths:
        assert logged[path.name] == path.read_bytes()
        assert json.loads(logged[path.with_suffix(".json").name])["symbol"] == SYMBOL
    assert len(list(folder.rglob("diagnostics"))) == 1, "the last run built nothing"


def test_a_source_that_comes_back_is_opened_once(cfg: config.Config) -> None:
    Frail.opened, Frail.stays_away = 1, 1
    Supply(cfg, lambda *_: None).connect()
    assert Frail.opened == 3  # in vain, and again


def test_days_that_may_have_to_be_ended_are_built_by_a_process_that_can_be(cfg: config.Config) -> None:
    def count(cfg: config.Config, n: int, **choices: Any) -> int:
        return workers_of(cfg, Choices(**choices), n, is_remote=False)

    limited = cfg.model_copy(update={"run": RunSpec(day_timeout_s=60.0)})
    assert (count(cfg, 3), count(cfg, 3, retry_failed=True), count(limited, 3)) == (0, 1, 1)
    assert count(cfg, 2555, day_timeout_s=60.0) == count(cfg, 2555)


def test_the_plan_for_a_cluster_tells_the_time_of_one_worker(cfg: config.Config, monkeypatch: Any) -> None:
    monkeypatch.setattr(pipeline, "workers_of", lambda *_, **__: 7)
    monkeypatch.setattr(pipeline, "open_source", lambda _: Frail())
    assert pipeline.plan_days(cfg).workers == 7
    assert pipeline.plan_days(cfg, Choices(scheduler="tcp://somewhere:8786")).workers == 1
    assert pipeline.plan_days(cfg, Choices(local_cluster=3)).workers == 3


def test_a_day_may_take_for_ever(cfg: config.Config) -> None:
    job = Job(
        key="k", path="", written=Written("", (), ()), root="", digest="", learned={}, origin={}, force=False,
        threads=1, probe="", version="0",
    )  # fmt: skip
    with Processes(job, 1, timeout_s=math.inf, tell=lambda *_: None) as pool:
        (outcome,) = pool.run([(SYMBOL, tiny.START)])
    assert "install the same version" in str(outcome.exception())
    with pytest.raises(ConfigError, match="--day-timeout: must be a number of seconds above 0"):
        Choices(day_timeout_s=math.nan)
