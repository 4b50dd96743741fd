"""``bml preprocess``, ``train``, ``evaluate`` and ``run``: the pipeline's stages."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bml.cli import exits, options

if TYPE_CHECKING:
    from bml.cli.progress import Progress
    from bml.config import Config
    from bml.pipeline import StageResult
    from bml.tracking import Tracker

Force = Annotated[bool, typer.Option("--force", help="Build days again that are already there.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print which days would be built, and what they take.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Try days again that failed in an earlier run.")]
Workers = Annotated[
    int | None, typer.Option(min=0, max=256, metavar="N", help="Processes that build days; 0: this one.")
]
DayTimeout = Annotated[
    float | None, typer.Option(min=0.001, metavar="SECONDS", help="Give a day up after this long: it failed.")
]
SchedulerAt = Annotated[
    str | None, typer.Option("--scheduler", metavar="ADDRESS", help="Build days on a Dask cluster: tcp://host:8786.")
]
LocalCluster = Annotated[
    int | None, typer.Option(min=1, max=256, metavar="N", help="Build days on N Dask workers of this machine.")
]
OpenTest = Annotated[
    bool, typer.Option("--open-test", help="Score the sealed test block; counted, logged and told in the report.")
]

#: what `bml preprocess` needs to know; the rest may belong to an extra that is not installed
PREPROCESS_STAGES = ("collect", "data_object", "preprocess", "features")


@exits.guarded
def preprocess(
    config: options.ConfigPath,
    force: Force = False,
    dry_run: DryRun = False,
    retry_failed: RetryFailed = False,
    workers: Workers = None,
    day_timeout: DayTimeout = None,
    scheduler: SchedulerAt = None,
    local_cluster: LocalCluster = None,
    insecure: options.Insecure = False,
    set_: options.Set = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Clean, align and store every day that is not there yet."""
    from bml import pipeline
    from bml.unattended import Choices

    choices = Choices(
        force=force,
        retry_failed=retry_failed,
        workers=workers,
        day_timeout_s=day_timeout,
        scheduler=scheduler,
        local_cluster=local_cluster,
    )
    options.warn_insecure(insecure)
    if insecure:
        set_ = [*(set_ or ()), "stages.collect.with.insecure=true"]
    if dry_run:
        options.start_logging(quiet, debug)
        planned = pipeline.plan_days(options.load(config, set_, PREPROCESS_STAGES), choices)
        if json:
            options.print_json(planned.document())
        else:
            print(planned.table())
        return exits.OK

    def go(cfg: Config, tracker: Tracker, progress: Progress) -> list[StageResult]:
        return [pipeline.preprocess(cfg, tracker, progress, choices)]

    return _run(config, go, set_, as_json=json, quiet=quiet, debug=debug, stages=PREPROCESS_STAGES)


@exits.guarded
def train(
    config: options.ConfigPath,
    set_: options.Set = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Build the dataset from stored days and train the model."""
    from bml import pipeline

    return _run(config, lambda *a: [pipeline.train(*a)], set_, as_json=json, quiet=quiet, debug=debug)


@exits.guarded
def evaluate(
    config: options.ConfigPath,
    open_test: OpenTest = False,
    set_: options.Set = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Calibrate the trained model and score it beside the baselines, on half of the calibrate block."""
    from bml import pipeline

    return _run(
        config, lambda *a: [pipeline.evaluate(*a, open_test=open_test)], set_, as_json=json, quiet=quiet, debug=debug
    )


@exits.guarded
def run(
    config: options.ConfigPath,
    open_test: OpenTest = False,
    set_: options.Set = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Preprocess, train and evaluate, one after the other."""
    from bml import pipeline

    return _run(config, lambda *a: pipeline.run(*a, open_test=open_test), set_, as_json=json, quiet=quiet, debug=debug)


def _run(
    path: str,
    go: Callable[[Config, Tracker, Progress], list[StageResult]],
    overrides: list[str] | None,
    *,
    as_json: bool,
    quiet: bool,
    debug: bool,
    stages: tuple[str, ...] | None = None,
) -> int:
    from bml.cli.progress import Progress
    from bml.tracking import Tracker

    options.start_logging(quiet, debug)
    cfg = options.load(path, overrides, stages)
    tracker = Tracker(cfg.tracking, cfg.store.root, document=cfg.document)
    with Progress(quiet=quiet) as progress:
        results = go(cfg, tracker, progress)
    if as_json:
        options.print_json({"name": cfg.name, "stages": [_document(result) for result in results]})
    else:
        print("\n\n".join(_text(result) for result in results))
    failed = [result.failed for result in results if result.failed]
    for one in failed:
        exits.say(one)
    return exits.SOME_FAILED if failed else exits.OK


def _document(result: StageResult) -> dict[str, Any]:
    ref = {"stage": result.ref.stage, "run_id": result.ref.run_id, "digest": result.ref.digest}
    return {**ref, "result": result.document, "places": result.places}


def _text(result: StageResult) -> str:
    return "\n".join([result.table, *(f"{what}: {place}" for what, place in result.places.items())])
