"""What stops a run and what does not: connections that come back or stay away, failures of one day or of all."""

from __future__ import annotations

import datetime as dt
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

from bml import config, learned, unattended, worker
from bml.book import records
from bml.book.days import store_digest
from bml.book.store import DayStore
from bml.cli.progress import Progress
from bml.types import BmlError, ConfigError, ConnectionLost, DataError, DepthRows, SourceError, StoreError
from bml.unattended import Choices, build_days, workers_of
from bml.worker import DayWorker, Outcome, Supply, failure
from tests.book.test_days import Feed
from tests.end_to_end import tiny

DAYS = 12
GIVEN_UP = "not done after 60 s (run.day_timeout_s), so it was given up"


class Frail(Feed):
    """A feed that raises what ``trouble`` says at the reads it says it, and may stay away when opened again."""

    trouble: dict[int, Exception]
    reads_so_far = opened = 0
    stays_away = 0

    def read(self, symbol: str, first_ns: int, stop_ns: int) -> DepthRows:
        Frail.reads_so_far += 1
        error = self.trouble.get(Frail.reads_so_far)
        if error is not None:
            raise error
        return super().read(symbol, first_ns, stop_ns)

    def __enter__(self) -> Self:
        Frail.opened += 1
        if Frail.opened > 1 and Frail.stays_away > 0:
            Frail.stays_away -= 1
            raise ConnectionLost("still away")
        return self


@pytest.fixture
def cfg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> config.Config:
    tree: dict[str, Any] = tiny.document(tmp_path, tmp_path / "store")
    tree["data"] |= {"symbols": ["BTCUSDT"], "reference": "BTCUSDT", "stop": str(tiny.START + dt.timedelta(days=DAYS))}
    tree["stages"]["preprocess"][2]["with"] = {"edges": [0, 1, 3]}
    tree["run"] = {"retry_s": 0.5}
    monkeypatch.setattr(worker, "open_source", lambda cfg: Frail())
    monkeypatch.setattr(worker, "FIRST_PAUSE_S", 0.01)
    Frail.trouble, Frail.reads_so_far, Frail.opened, Frail.stays_away = {}, 0, 0, 0
    return config.load(tiny.write_config(tmp_path / "c.yaml", tree))


def run(
    cfg: config.Config,
    *,
    origin: dict[str, Any] | None = None,
    say: Callable[[str], None] | None = None,
    **choices: Any,
) -> unattended.Built:
    told: list[str] = []
    with Supply(cfg, lambda text, _: told.append(text)) as supply:
        plan = learned.learn(cfg, supply.source)
        store = DayStore(cfg.store.root, store_digest(cfg, plan))
        progress = Progress(quiet=True)
        progress.say = say or progress.say  # type: ignore[method-assign]
        origin = origin or {"kind": "feed"}
        return build_days(cfg, supply, store, plan, origin, progress, Choices(workers=0, **choices))


def day(number: int) -> str:
    return str(tiny.START + dt.timedelta(days=number))


def test_a_lost_connection_is_made_again(cfg: config.Config) -> None:
    Frail.trouble, Frail.stays_away = {3: ConnectionLost("gone"), 4: ConnectionLost("gone")}, 2
    built = run(cfg)
    assert (len(built.summaries), built.failed) == (DAYS, [])
    assert Frail.opened == 5


def test_a_server_that_stays_away_stops_the_run(cfg: config.Config) -> None:
    Frail.trouble, Frail.stays_away = {4: ConnectionLost("gone")}, 10_000
    with pytest.raises(ConnectionLost, match="still away"):
        run(cfg)
    assert not (cfg.store.root / "quarantine").exists()
    Frail.trouble, Frail.stays_away = {}, 0
    assert sum(one.built for one in run(cfg).summaries) == DAYS - 3


def test_a_day_that_breaks_the_connection_each_time_is_that_days_fault(cfg: config.Config) -> None:
    Frail.trouble = {n: ConnectionLost("cut off") for n in range(3, 3 + worker.MOST_BREAKS)}
    built = run(cfg)
    assert [one.day for one in built.failed] == [day(2)]
    assert "broke 5 times while this was read; the last time: cut off" in built.failed[0].reason


def test_failures_are_recorded_skipped_and_tried_again(cfg: config.Config) -> None:
    Frail.trouble = {2: DataError("rotten, password=hunter2 inside"), 5: MemoryError(), 7: SourceError("too slow")}
    built = run(cfg)
    assert [one.day for one in built.failed] == [day(1), day(4), day(6)]
    assert built.failed[0].reason == "rotten, password=*** inside"
    assert built.failed[1].reason.startswith("out of memory")
    assert len(built.summaries) == DAYS - 3
    again = run(cfg)
    assert (len(again.failed), again.n_skipped, sum(one.built for one in again.summaries)) == (3, 3, 0)
    last = run(cfg, retry_failed=True)
    assert (last.failed, sum(one.built for one in last.summaries)) == ([], 3)


def test_trouble_that_is_no_days_fault_stops_after_three(cfg: config.Config) -> None:
    Frail.trouble = {n: SourceError("permission denied") for n in range(4, 100)}
    with pytest.raises(SourceError, match="permission denied") as caught:
        run(cfg)
    assert "3 days failed like this one after the other" in caught.value.__notes__[0]
    assert Frail.reads_so_far == 6
    assert not (cfg.store.root / "quarantine").exists()


@pytest.mark.parametrize(
    ("origin", "code", "words"),
    [
        ({"kind": "feed"}, 1, r"^not done after 60 s .* given up: raise run\.day_timeout_s"),
        (
            {"kind": "postgres", "host": "db.example", "port": "5432", "database": "market"},
            4,
            r"^db\.example:5432/market does not give a day's rows in time \(not done after 60 s .*bml doctor --source",
        ),
    ],
)
def test_a_frozen_server_does_not_cost_a_time_out_a_day(
    cfg: config.Config, monkeypatch: pytest.MonkeyPatch, origin: dict[str, Any], code: int, words: str
) -> None:
    """Time-outs between which nothing is built stop the run; the days are set aside, so the next one goes on."""
    build, built = DayWorker.build, []

    def freezes(self: DayWorker, symbol: str, at: dt.date) -> Outcome:
        built.append(at)
        if len(built) in (2, 3) or len(built) >= 5:
            return Outcome(symbol=symbol, day=at, blame="timeout", error=("BmlError", GIVEN_UP))
        return build(self, symbol, at)

    with monkeypatch.context() as patch:
        patch.setattr(DayWorker, "build", freezes)
        with pytest.raises(BmlError, match=words) as caught:
            run(cfg, origin=origin)
    assert caught.value.exit_code == code
    assert "3 days failed like this one after the other" in caught.value.__notes__[0]
    assert len(built) == 7, "two time-outs before a day that was built are those days' own"
    assert run(cfg, origin=origin).n_skipped == 5
    assert run(cfg, origin=origin, retry_failed=True).failed == []


def test_neighbours_that_no_step_can_build_do_not_stand_in_the_way_for_ever(cfg: config.Config) -> None:
    Frail.trouble = {n: ValueError("a step's own error") for n in range(4, 7)}
    with pytest.raises(BmlError, match="a step's own error") as caught:
        run(cfg)
    assert "the next run goes on behind them" in caught.value.__notes__[1]
    Frail.trouble = {}
    built = run(cfg)
    assert (len(built.summaries), built.n_skipped) == (DAYS - 3, 3)
    assert [one.day for one in built.failed] == [day(3), day(4), day(5)]
    assert run(cfg, retry_failed=True).failed == []


def test_nothing_but_bad_days_stops_after_ten(cfg: config.Config) -> None:
    Frail.trouble = {n: DataError("no such column") for n in range(1, 100)}
    with pytest.raises(DataError, match="no such column") as caught:
        run(cfg)
    assert "the first 10 days all failed" in caught.value.__notes__[0]
    assert Frail.reads_so_far == 10


@pytest.mark.parametrize("error", [ConfigError("wrong"), StoreError("disk full"), OSError(28, "No space left")])
def test_what_concerns_every_day_stops_at_once(cfg: config.Config, error: Exception) -> None:
    Frail.trouble = {1: DataError("this day only"), 3: error}
    with pytest.raises((ConfigError, StoreError), match=r"wrong|disk full|No space left"):
        run(cfg)
    assert Frail.reads_so_far == 3
    (record,) = (cfg.store.root / "quarantine").rglob("*.json")
    assert day(0) in record.name


def test_a_damaged_record_is_told(cfg: config.Config) -> None:
    Frail.trouble = {2: DataError("rotten")}
    run(cfg)
    (record,) = (cfg.store.root / "quarantine").rglob("*.json")
    record.write_text("{")
    with pytest.raises(StoreError, match=r"damaged.*delete it"):
        run(cfg)


def test_a_torn_line_costs_an_estimate_and_no_more(cfg: config.Config) -> None:
    run(cfg)
    (log,) = (cfg.store.root / "state").glob("built-*.jsonl")
    store = DayStore(cfg.store.root, store_digest(cfg, learned.load(cfg)))
    n = len(list(records.history(store)))
    log.write_text(log.read_text() + '{"symbol": "BTC')
    (cfg.store.root / "days").rename(cfg.store.root / "gone")
    run(cfg)
    assert (n, len(list(records.history(store)))) == (DAYS, 2 * DAYS)


def test_errors_cross_processes_as_what_they_were() -> None:
    at = dt.date(2024, 1, 1)
    for error in (DataError("a"), SourceError("b"), ConnectionLost("c"), ConfigError("d")):
        assert type(failure("BTC", at, error).exception()) is type(error)
    internal = failure("BTC", at, ValueError("bad\nthing"))
    assert (internal.blame, str(internal.exception())) == ("internal", "ValueError: bad thing")
    assert Outcome(symbol="BTC", day=at, error=("os", "x")).exception().args == ("os: x",)


def test_how_many_workers(cfg: config.Config) -> None:
    def count(n: int, *, is_remote: bool = False, **choices: Any) -> int:
        return workers_of(cfg, Choices(**choices), n, is_remote=is_remote)

    assert count(7) == 0
    assert count(8) == 1
    assert count(2555, is_remote=True) == 1
    assert count(2555) >= 1
    assert count(3, workers=4) == 4
    assert count(3, day_timeout_s=5.0) == 1
    with pytest.raises(ConfigError, match="choose one"):
        Choices(workers=2, local_cluster=2)


def test_what_travels_to_workers_holds_no_secret(tmp_path: Path) -> None:
    tree: dict[str, Any] = tiny.document(tmp_path, tmp_path / "store")
    tree["stages"]["collect"] = {"fn": "sources.postgres.depth_rows", "with": {"dsn": "${FED_DSN}", "table": "depth"}}
    environ = {"FED_DSN": "postgresql://me:very-secret@db.example/market"}
    cfg = config.load(tiny.write_config(tmp_path / "c.yaml", tree), environ=environ)
    assert b"very-secret" in pickle.dumps(cfg)  # which is why it does not travel
    assert b"very-secret" not in pickle.dumps((cfg.written, str(cfg.path)))
    assert cfg.written is not None
    again = config.load(cfg.path, cfg.written.overrides, text=cfg.written.text, environ=environ)
    assert again.document == cfg.document


def test_a_full_disk_below_a_worker_stops_the_run_with_one_line(tmp_path: Path) -> None:
    """The limit on a file's size stands for the disk: the worker meets it, the run tells it."""
    tree: dict[str, Any] = tiny.document(tmp_path, tmp_path / "store")
    # rows from no file: polars, which unpacks files to the disk, may tell of the limit in words of its own
    tree["stages"]["collect"] = {"fn": "sources.synthetic.depth_rows", "with": {"seed": 5, "levels": 4}}
    path = tiny.write_config(tmp_path / "c.yaml", tree)
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 16; exec "$0" -W error -m bml preprocess "$1" --workers 2 -q', sys.executable, path],
        capture_output=True, text=True, timeout=120, env=tiny.environment(),
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot write ")
    assert "raise the limit (ulimit -f)" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not [file for file in (tmp_path / "store").rglob("*") if file.is_file() and file.suffix in (".h5", ".tmp")]
