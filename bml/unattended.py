"""A run over many days that nobody watches: one bad day does not stop the rest, what concerns all of them does."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bml.book import records
from bml.book.days import DaySummary, Learned, check_origin, found
from bml.book.records import BuiltDay, FailedDay
from bml.book.rolling import Rolling, kept, kept_path
from bml.book.store import DayStore
from bml.cluster import Cluster, probe_of, sweep_probes
from bml.config import Config
from bml.plan import PlannedDay, State, survey, wanted
from bml.scheduling import Processes, Scheduler, Serial, SymbolDay, threads_of
from bml.types import BmlError, ConfigError, SourceError, StoreError
from bml.worker import DayWorker, Job, Outcome, Supply

if TYPE_CHECKING:
    from bml.cli.progress import Progress

#: failures in a row that are no fault of the rows stop the run: the next day would fail the same way
SAME_TROUBLE = 3

#: failures before the first success stop the run, whatever they are
NEVER_A_SUCCESS = 10

#: by default, worker processes are started when each has this many days to build, and at most so many of them
DAYS_A_WORKER, MOST_WORKERS = 8, 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Choices:
    """What the command line says of a run; None: what the configuration says."""

    force: bool = False
    retry_failed: bool = False
    workers: int | None = None
    day_timeout_s: float | None = None
    scheduler: str | None = None
    local_cluster: int | None = None

    def __post_init__(self) -> None:
        given = [self.workers is not None, self.scheduler is not None, self.local_cluster is not None]
        if sum(given) > 1:
            raise ConfigError("--workers, --scheduler and --local-cluster: choose one")
        if self.day_timeout_s is not None and not self.day_timeout_s > 0:  # not a number is no limit either
            raise ConfigError("--day-timeout: must be a number of seconds above 0")


@dataclass(kw_only=True, slots=True)
class Built:
    """What a run leaves: summaries in the order of the plan, days that failed (now or before), days removed."""

    summaries: list[DaySummary] = field(default_factory=list)
    failed: list[FailedDay] = field(default_factory=list)
    n_skipped: int = 0
    evicted: list[SymbolDay] = field(default_factory=list)


def workers_of(cfg: Config, choices: Choices, to_build: int, *, is_remote: bool) -> int:
    """How many worker processes build ``to_build`` days; 0: this process.

    Asked for: that many. Otherwise none for a few days, one for a database (it is somebody's, and one connection is
    polite), and for files as many as there are CPUs, each with enough days to be worth its start. At least one where
    a day may have to be ended: a time limit is asked for, or days are tried again that may have met it.
    """
    asked = choices.workers if choices.workers is not None else cfg.run.workers
    if asked is not None:
        return asked
    is_limited = choices.day_timeout_s is not None or "day_timeout_s" in cfg.run.model_fields_set
    least = 1 if is_limited or choices.retry_failed else 0
    worth = to_build // DAYS_A_WORKER
    return max(least, min(worth, 1 if is_remote else min(len(os.sched_getaffinity(0)), MOST_WORKERS)))


def is_remote(origin: dict[str, Any]) -> bool:
    """Whether rows come from a server, by what the source tells of itself."""
    return "host" in origin


def build_days(
    cfg: Config,
    supply: Supply,
    store: DayStore,
    learned: Learned,
    origin: dict[str, str | int | float],
    progress: Progress,
    choices: Choices,
) -> Built:
    """Build every day of the plan that is not there; the others are looked at.

    Raises ConfigError, StoreError or SourceError for what concerns every day (days finished before it stay), and
    the last failure when days keep failing in a way that is no fault of their rows.
    """
    sweep_probes(store.root)
    progress.phase("look at the store", None)
    planned = survey(cfg, store)
    progress.done()
    to_build = wanted(store, planned, force=choices.force, retry_failed=choices.retry_failed)
    run = _Run(cfg, store, planned, origin, progress, force=choices.force)
    run.look(planned, to_build)
    todo = [(one.symbol, one.day) for one in to_build] + run.damaged()
    if not todo:
        return run.finished()
    progress.phase("preprocess", len(todo))
    with _scheduler(cfg, supply, store, learned, origin, progress, choices, len(todo)) as scheduler:
        while todo:
            for outcome in scheduler.run(todo):
                run.take(outcome)
            progress.done()
            todo = run.damaged()
            if todo:
                progress.phase("preprocess again", len(todo))
    return run.finished()


class _Run:
    """Takes outcomes one by one: records, ledgers, room on the disk, and when enough is enough."""

    def __init__(
        self,
        cfg: Config,
        store: DayStore,
        planned: Sequence[PlannedDay],
        origin: dict[str, Any],
        progress: Progress,
        *,
        force: bool,
    ) -> None:
        self._cfg, self._store, self._origin, self._progress, self._force = cfg, store, origin, progress, force
        self._order = {(one.symbol, one.day): place for place, one in enumerate(planned)}
        self._rolling = Rolling(cfg.store, store, self._order)
        self._summaries: dict[SymbolDay, DaySummary] = {}
        self._failed: dict[SymbolDay, FailedDay] = {}
        self._again: set[SymbolDay] = set()
        self._held: list[Outcome] = []  # failures not recorded yet: they may concern every day
        self._n_skipped = self._n_built = 0

    def look(self, planned: Sequence[PlannedDay], building: Sequence[PlannedDay]) -> None:
        """Take what is there already: summaries of days that are, records of days that failed before."""
        to_build = {(one.symbol, one.day) for one in building}
        if self._force and len(to_build) < len(planned):
            self._progress.say(
                f"going on with a run with --force that did not end: {len(planned) - len(to_build)} days are built "
                f"again already; to build them once more delete {records.forced_path(self._store)}"
            )
        for one in planned:
            where = (one.symbol, one.day)
            if where in to_build:
                continue
            if one.state is State.FAILED:
                record = records.failed(self._store, *where)
                if record is not None:
                    self._failed[where] = record
                    self._n_skipped += 1
                    self._progress.say(f"skipped {one.symbol} {one.day}: it failed before ({record.reason})")
                continue
            summary = self._known(one)
            if summary is None:
                raise StoreError(
                    f"{one.symbol} {one.day}: was {one.state.value} and is gone: another process changes "
                    f"{self._store.root}; run this again when it is done"
                )
            self._summaries[where] = summary
            records.absolve(self._store, *where)  # a run that died may have left its record
        if self._n_skipped:
            self._progress.say(f"{self._n_skipped} days skipped; --retry-failed tries them again")
        self._rolling.make_room()

    def _known(self, one: PlannedDay) -> DaySummary | None:
        if one.state is State.EVICTED:
            remains = kept(self._store, one.symbol, one.day)
            if remains is None:
                return None
            if remains.origin is not None and not self._cfg.store.any_origin:
                check_origin(kept_path(self._store, one.symbol, one.day), remains.origin, self._origin)
            return remains.summary
        meta = {"origin": self._origin}
        return found(self._store, one.symbol, one.day, meta=meta, any_origin=self._cfg.store.any_origin)

    def take(self, outcome: Outcome) -> None:
        """Record one outcome. Raises what stops the run."""
        where = (outcome.symbol, outcome.day)
        if outcome.summary is None:
            self._take_failure(outcome)
            return
        if outcome.summary.built and outcome.size:
            rows, seconds = outcome.summary.counts.get("n_rows", 0), round(outcome.seconds, 3)
            record = BuiltDay(
                symbol=outcome.symbol, day=str(outcome.day), seconds=seconds, rows=rows, size=outcome.size
            )
            records.built(self._store, record)
        if self._force:
            records.force(self._store, *where)
        records.absolve(self._store, *where)
        self._failed.pop(where, None)
        self._summaries[where] = outcome.summary
        self._n_built += 1
        self._settle()
        self._progress.advance(note=f"{outcome.symbol} {outcome.day}")
        self._rolling.make_room(spare=[where])

    def damaged(self) -> list[SymbolDay]:
        """Days that were there until their files were found damaged, and removed, while room was made."""
        again = [where for where in self._rolling.damaged if where in self._summaries and where not in self._again]
        for symbol, day in again:
            told = self._rolling.damaged[symbol, day]
            self._progress.say(f"{symbol} {day}: removed and built again, it was damaged: {told}")
            del self._summaries[symbol, day]
        self._again.update(again)
        return again

    def _take_failure(self, outcome: Outcome) -> None:
        told = outcome.exception()
        if outcome.blame == "every":
            if self._n_built:
                self._settle()
            raise told
        self._held.append(outcome)
        self._progress.say(f"failed {outcome.symbol} {outcome.day}: {told}")
        self._progress.advance(note=f"{outcome.symbol} {outcome.day} failed")
        tail = self._held[-SAME_TROUBLE:]
        if len(tail) == SAME_TROUBLE and all(one.blame in ("source", "internal", "timeout", "died") for one in tail):
            if all(one.blame == "timeout" for one in tail):
                told = self._frozen(told)
            told.add_note(f"{SAME_TROUBLE} days failed like this one after the other, so the run was stopped")
            if self._summaries and all(one.blame != "source" for one in tail):
                # other days can be built: these must not stand in the way of those behind them for good
                self._settle()
                told.add_note("they are set aside: the next run goes on behind them")
            raise told
        if not self._summaries and len(self._held) == NEVER_A_SUCCESS:
            told.add_note(f"the first {NEVER_A_SUCCESS} days all failed, so the run was stopped")
            raise told

    def _frozen(self, told: BmlError) -> BmlError:
        """What time-outs one after the other come to: a server that answers no more, or too short a limit."""
        if not is_remote(self._origin):
            return type(told)(f"{told}: raise run.day_timeout_s if days take that long")
        place = "{host}:{port}/{database}".format_map({"port": "", "database": "", **self._origin})
        return SourceError(
            f"{place} does not give a day's rows in time ({told}): see whether it answers with  bml doctor --source "
            f"{self._cfg.path}  and run this again, or raise run.day_timeout_s if days take that long"
        )

    def _settle(self) -> None:
        """Put the held failures into quarantine: another day was built, so they are those days' own."""
        for outcome in self._held:
            where = (outcome.symbol, outcome.day)
            self._failed[where] = records.fail(self._store, *where, reason=str(outcome.exception()))
        self._held.clear()

    def finished(self) -> Built:
        """Everything in the order of the plan. Raises the first failure when there is nothing but failures."""
        if self._held and not self._summaries:
            first = self._held[0].exception()
            if len(self._held) > 1:
                first.add_note(f"all {len(self._held)} days failed, this one first")
            raise first
        self._settle()
        if self._force:
            records.forced_path(self._store).unlink(missing_ok=True)
        in_order = sorted(self._order, key=lambda where: self._order[where])
        return Built(
            summaries=[self._summaries[where] for where in in_order if where in self._summaries],
            failed=[self._failed[where] for where in in_order if where in self._failed],
            n_skipped=self._n_skipped,
            evicted=self._rolling.evicted,
        )


def _scheduler(
    cfg: Config,
    supply: Supply,
    store: DayStore,
    learned: Learned,
    origin: dict[str, str | int | float],
    progress: Progress,
    choices: Choices,
    to_build: int,
) -> Scheduler:
    def tell(text: str, _: float) -> None:
        progress.say(text)

    timeout_s = choices.day_timeout_s if choices.day_timeout_s is not None else cfg.run.day_timeout_s
    workers = workers_of(cfg, choices, to_build, is_remote=is_remote(origin))
    on_dask = choices.scheduler is not None or choices.local_cluster is not None
    if workers == 0 and not on_dask:
        return Serial(DayWorker(cfg, supply, store, learned, origin, force=choices.force))
    if cfg.written is None:
        raise ConfigError("worker processes load the configuration again: make it with bml.config.load")
    key = secrets.token_hex(8)
    job = Job(
        key=key,
        path=str(cfg.path),
        written=cfg.written,
        root=str(cfg.store.root),
        digest=store.digest,
        learned=learned,
        origin=origin,
        force=choices.force,
        threads=threads_of(workers),
        probe=probe_of(key) if on_dask else "",
    )
    if not on_dask:
        return Processes(job, workers, timeout_s=timeout_s, tell=tell)
    local, retry_s = choices.local_cluster or 0, cfg.run.retry_s
    return Cluster(job, address=choices.scheduler, local=local, timeout_s=timeout_s, retry_s=retry_s, tell=tell)


def failed_words(failed: Sequence[FailedDay], config: object) -> str:
    """The days that failed, one a line, and what to do."""
    lines = [f"{len(failed)} days failed; everything else is done:"]
    lines += [f"  {one.symbol} {one.day}: {one.reason} (attempt {one.attempts}, {one.at})" for one in failed]
    return "\n".join([*lines, f"repair what they say and run  bml preprocess {config} --retry-failed"])
