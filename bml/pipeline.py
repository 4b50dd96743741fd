"""The stages in their order, what they hand over, and where it is recorded.

Each stage writes its outputs below ``store.root`` and leaves a :class:`~bml.types.RunRef` (see
:mod:`bml.handover`), so that stages can run in one process or on different days: the next stage reads the
reference, checks that it still fits the configuration, and links its MLflow run to it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bml import handover, learned, openings
from bml.book import summary
from bml.book.days import DaySummary, Learned, check_over, days_between, no_rows, store_digest
from bml.book.report import to_json
from bml.book.rolling import is_diagnostic, reading
from bml.book.store import DayStore
from bml.config import Config, digest
from bml.config.secret import redact_text, redact_values
from bml.plan import Plan, plan, with_rows
from bml.sources.base import HasTruth
from bml.types import ConfigError, DataError, RunRef
from bml.unattended import Built, Choices, build_days, failed_words, is_remote, workers_of
from bml.worker import Supply, open_source

if TYPE_CHECKING:
    from bml.cli.progress import Progress
    from bml.dataset.dataset import Dataset
    from bml.openings import Opening
    from bml.tracking import StageRun, Tracker


DEFAULT = Choices()


@dataclass(frozen=True, kw_only=True, slots=True)
class StageResult:
    """What a stage shows: a text table for people, a document for programs, references for what follows."""

    table: str
    document: dict[str, Any]
    ref: RunRef
    places: dict[str, str] = field(default_factory=dict)
    failed: str = ""  # what failed though the stage went on to its end, for people


def preprocess(cfg: Config, tracker: Tracker, progress: Progress, choices: Choices = DEFAULT) -> StageResult:
    """Collect, build and publish every symbol-day of the configuration that is not there yet.

    ``choices``: how (see :mod:`bml.unattended`); ``force`` builds days again that are there (a day file is replaced
    whole, never changed). Days that failed are the result's ``failed``; the others are done.
    Raises DataError when a symbol has no rows at all; whatever was finished before an error stays.
    """
    check_over(days_between(cfg.data.start, cfg.data.stop)[-1])
    tracker.open()  # hours of work must not end at a tracking server that was never there
    with Supply(cfg, lambda text, _: progress.say(text)) as supply:
        progress.phase("learn from the training span", None)
        taught = supply.use("learning", lambda source: learned.learn(cfg, source, again=choices.force))
        progress.done()
        store = DayStore(cfg.store.root, store_digest(cfg, taught))
        origin = redact_values(supply.source.describe())
        if choices.force:  # labels and models made from the files that were there are of other rows
            handover.forget(cfg, "train", "evaluate")
        built = build_days(cfg, supply, store, taught, origin, progress, choices)
        _check_rows(cfg, built)
        outputs = {"days": "days"}
        if isinstance(supply.source, HasTruth):
            outputs["truth"] = _write_truth(cfg, supply.source, store)
    refs = _record_preprocess(cfg, tracker, built, origin, taught, store, outputs)
    handover.save(cfg, "preprocess", refs[-1])
    totals = summary.by_symbol(built.summaries)
    failed = [asdict(one) for one in built.failed]
    evicted = [f"{symbol} {day}" for symbol, day in built.evicted]
    document = {"store": str(cfg.store.root), "digest": store.digest, "symbols": totals, "failed": failed}
    return StageResult(
        table=summary.table(totals),
        document={**document, "evicted": evicted},
        ref=refs[-1],
        places={"day files": str(cfg.store.root / "days")},
        failed=failed_words(built.failed, cfg.path) if built.failed else "",
    )


def plan_days(cfg: Config, choices: Choices = DEFAULT) -> Plan:
    """What :func:`preprocess` would build, and what it would take; nothing is written.

    The source is opened only where its server may estimate the rows of symbols of which no day was built yet.
    """
    check_over(days_between(cfg.data.start, cfg.data.stop)[-1])
    flags = {"force": choices.force, "retry_failed": choices.retry_failed}
    source = open_source(cfg)
    first = with_rows(plan(cfg, workers=1, **flags), source)
    if choices.local_cluster is not None or choices.scheduler is not None:
        return replace(first, workers=choices.local_cluster or 1)
    remote = is_remote(source.describe())
    return replace(first, workers=max(1, workers_of(cfg, choices, len(first.build), is_remote=remote)))


def train(cfg: Config, tracker: Tracker, progress: Progress) -> StageResult:
    """Index the windows, split them by time and fit the configured model; needs the day files."""
    with reading(cfg.store.root):
        return _train(cfg, tracker, progress)


def _train(cfg: Config, tracker: Tracker, progress: Progress) -> StageResult:
    from bml.dataset import describe
    from bml.dataset.advice import advise_on, require_live
    from bml.dataset.classes import allows_dead

    tracker.open()
    store, upstream = handover.day_store(cfg), handover.load(cfg, "preprocess")
    progress.phase("dataset", None)
    dataset = cfg.features.function()(cfg, store, **cfg.features.params)
    if not allows_dead(cfg.features.params.get("classes")):
        require_live(advise_on(dataset))
    path = cfg.store.root / "datasets" / f"{cfg.name}-{dataset.digest[:8]}.h5"
    dataset.save(path)
    prepared = _record_dataset(cfg, tracker, dataset, upstream, path)
    progress.done()

    key = _trained_digest(cfg, store, dataset)
    folder = cfg.store.root / "models" / f"{cfg.name}-{key[:8]}"
    with tracker.stage("model-training", params=cfg.document["stages"]["train"], upstream=[upstream, prepared]) as run:
        result = cfg.train.function()(
            dataset, out=folder, on_epoch=run.metrics, progress=progress.show, **cfg.train.params
        )
        run.metrics({"best_epoch": result.best_epoch, "best_early_stop_nll": result.best_nll})
        run.metrics({"n_train": result.n, "n_eff_train": result.n_eff})
        run.artifact(result.checkpoint)
        run.artifact(result.checkpoint.with_suffix(".json"))
        outputs = {
            "checkpoint": handover.below(cfg, result.checkpoint),
            "checkpoint_sha256": result.sha256,
            "dataset": handover.below(cfg, path),
        }
        ref = run.ref(digest=key, outputs=outputs)
    handover.save(cfg, "train", ref, upstream=[upstream, prepared])
    document = {"epochs": len(result.history), "best_epoch": result.best_epoch, "best_nll": result.best_nll}
    told = dataset.summary()
    fitted = (
        f"learnt from {result.n:,} rows, n_eff {result.n_eff:,.1f}; best epoch {result.best_epoch} of "
        f"{len(result.history)}: early-stop NLL {result.best_nll:.4f}"
    )
    return StageResult(
        table=f"{describe.table(told)}\n{fitted}",
        document={**document, "checkpoint": str(result.checkpoint), "dataset": told},
        ref=ref,
        places={"checkpoint": str(result.checkpoint), "dataset": str(path)},
    )


def evaluate(cfg: Config, tracker: Tracker, progress: Progress, *, open_test: bool = False) -> StageResult:
    """Calibrate the trained model on its own slice and score it beside every baseline.

    ``open_test`` scores the test block, which is counted and logged first; without it a half of the calibrate block
    is scored and nothing is computed from a row of the test block (see :mod:`bml.evaluation.scored`).
    """
    with reading(cfg.store.root):
        return _evaluate(cfg, tracker, progress, open_test=open_test)


def _evaluate(cfg: Config, tracker: Tracker, progress: Progress, *, open_test: bool) -> StageResult:
    from bml.dataset.dataset import Dataset

    tracker.open()
    store = handover.day_store(cfg)
    trained, upstream = handover.load(cfg, "train"), handover.upstream(cfg, "train")
    dataset = Dataset.load(cfg.store.root / trained.outputs["dataset"], store)
    if trained.digest != _trained_digest(cfg, store, dataset):
        raise ConfigError(
            "data, day files, stages.features or stages.train changed since the model was trained; run  "
            f"bml train {cfg.path}"
        )
    truth = next((ref.outputs["truth"] for ref in upstream if "truth" in ref.outputs), None)
    block = "test" if open_test else "development"
    folder = cfg.store.root / "reports" / f"{cfg.name}-{trained.digest[:8]}-{block}"
    progress.phase("evaluate", None)
    with tracker.stage(
        "model-training",
        name=f"{cfg.name}-evaluation-{block}",
        params=cfg.document["stages"]["evaluate"],
        upstream=[*upstream, trained],
    ) as run:
        run.tag("bml.scored_block", block)
        model = trained.outputs["checkpoint_sha256"]
        opening = count_opening(cfg, dataset, run, model=model) if open_test else None
        report = cfg.evaluate.function()(
            dataset,
            cfg.store.root / trained.outputs["checkpoint"],
            out=folder,
            truth=None if truth is None else cfg.store.root / truth,
            sha256=model,
            open_test=open_test,
            opening=opening,
            **cfg.evaluate.params,
        )
        run.metrics(report.scalars())
        for file in sorted(folder.iterdir()):
            run.artifact(file)
        ref = run.ref(
            digest=digest(trained.digest, cfg.document["stages"]["evaluate"], block),
            outputs={"report": handover.below(cfg, folder)},
        )
    progress.done()
    handover.save(cfg, "evaluate", ref)
    places = {"report and pictures": str(folder)}
    if cfg.tracking.enabled:
        places["MLflow store"] = redact_text(tracker.uri)
    return StageResult(table=report.table(), document=report.to_json(), ref=ref, places=places)


def count_opening(cfg: Config, dataset: Dataset, run: StageRun, *, model: str) -> Opening:
    """Count an opening of the test block in the ledger and in MLflow, before anything is computed from it."""
    opening = openings.opened(cfg, dataset, model=model)
    run.metrics({"test_opening": opening.number, "test_opening_of_days": opening.number_of_days})
    for key, value in asdict(opening).items():
        run.tag(f"bml.test_opening.{key}", value)
    return opening


def _trained_digest(cfg: Config, store: DayStore, dataset: Dataset) -> str:
    """Names a trained model: how it was trained, on which windows of which day files."""
    stages = cfg.document["stages"]
    return digest(cfg.document["data"], stages["features"], stages["train"], store.digest, dataset.digest)


def run(cfg: Config, tracker: Tracker, progress: Progress, *, open_test: bool = False) -> list[StageResult]:
    """preprocess, train, evaluate; nothing after a stage that something failed in."""
    first = preprocess(cfg, tracker, progress)
    if first.failed:
        return [first]  # a model of fewer days than were asked for would be another model
    return [first, train(cfg, tracker, progress), evaluate(cfg, tracker, progress, open_test=open_test)]


def _write_truth(cfg: Config, source: HasTruth, store: DayStore) -> str:
    """The truth covers symbols and days, which the store's digest does not: another range has its own file."""
    key = digest(store.digest, list(cfg.data.symbols), str(cfg.data.start), str(cfg.data.stop))
    return handover.below(cfg, source.write_truth(cfg.store.root / "truth" / key[:16]))


def _check_rows(cfg: Config, built: Built) -> None:
    """A symbol without any row is misspelt, or not in the source; one with failed days may have had some."""
    for symbol in cfg.data.symbols:
        mine = [s for s in built.summaries if s.symbol == symbol]
        failed = any(one.symbol == symbol for one in built.failed)
        if not failed and not any(s.counts.get("n_rows", 0) for s in mine):
            raise DataError(no_rows(symbol, f"in [{cfg.data.start}, {cfg.data.stop})"))


def _record_preprocess(
    cfg: Config,
    tracker: Tracker,
    built: Built,
    origin: dict[str, str | int | float],
    plan: Learned,
    store: DayStore,
    outputs: dict[str, str],
) -> list[RunRef]:
    """One run in each of the three experiments left of the dataset, linked in a chain."""
    stages = cfg.document["stages"]
    totals = summary.by_symbol(built.summaries)
    refs: list[RunRef] = []
    for stage, params, keys in (
        ("data-collection", {"collect": stages["collect"], "origin": origin}, ("n_rows",)),
        ("data-object", {"data_object": stages["data_object"]}, ("n_rows", "n_snapshots")),
        ("preprocessing", {"preprocess": stages["preprocess"], "learned": plan, "data": cfg.document["data"]}, None),
    ):
        with tracker.stage(stage, params=params, upstream=refs) as run:
            run.metrics(
                {
                    f"{symbol}.{key}": float(value)
                    for symbol, total in totals.items()
                    for key, value in total.items()
                    if keys is None or key in keys
                }
            )
            if stage == "preprocessing":
                run.text("quality.json", json.dumps([_plain(s) for s in built.summaries], indent=1))
                run.text("failed.json", json.dumps([asdict(one) for one in built.failed], indent=1))
                _record_diagnostics(cfg, run, built, store)
            refs.append(run.ref(digest=digest(stage, store.digest, origin), outputs=outputs))
    return refs


def _record_diagnostics(cfg: Config, run: StageRun, built: Built, store: DayStore) -> None:
    """Day file and quality report of the days built now that a rolling store never removes."""
    if cfg.store.keep != "rolling":
        return
    for one in built.summaries:
        if one.built and is_diagnostic(one.symbol, one.day, cfg.store.diagnostic_fraction):
            with store.open(one.symbol, one.day) as file:
                run.artifact(file.path, "diagnostics")
                run.text(f"diagnostics/{file.path.stem}.json", to_json(file.quality))


def _record_dataset(cfg: Config, tracker: Tracker, dataset: Dataset, upstream: RunRef, path: Path) -> RunRef:
    from bml.dataset import describe

    params = {"features": cfg.document["stages"]["features"]}
    with tracker.stage("dataset-preparation", params=params, upstream=[upstream]) as run:
        told = dataset.summary()
        run.text("dataset.json", json.dumps(told, indent=1))
        run.metrics(describe.counts(told))
        return run.ref(digest=dataset.digest, outputs={"dataset": handover.below(cfg, path)})


def _plain(day: DaySummary) -> dict[str, Any]:
    return {**asdict(day), "day": str(day.day)}
