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

#: what `bml preprocess` needs to know; the rest may belong to an extra that is not installed
PREPROCESS_STAGES = ("collect", "data_object", "preprocess", "features")


@exits.guarded
def preprocess(
    config: options.ConfigPath,
    force: Force = False,
    set_: options.Set = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Clean, align and store every day that is not there yet."""
    from bml import pipeline

    def go(cfg: Config, tracker: Tracker, progress: Progress) -> list[StageResult]:
        return [pipeline.preprocess(cfg, tracker, progress, force=force)]

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
    set_: options.Set = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Calibrate the trained model and score it beside the baselines."""
    from bml import pipeline

    return _run(config, lambda *a: [pipeline.evaluate(*a)], set_, as_json=json, quiet=quiet, debug=debug)


@exits.guarded
def run(
    config: options.ConfigPath,
    set_: options.Set = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Preprocess, train and evaluate, one after the other."""
    from bml import pipeline

    return _run(config, pipeline.run, set_, as_json=json, quiet=quiet, debug=debug)


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
    return exits.OK


def _document(result: StageResult) -> dict[str, Any]:
    ref = {"stage": result.ref.stage, "run_id": result.ref.run_id, "digest": result.ref.digest}
    return {**ref, "result": result.document, "places": result.places}


def _text(result: StageResult) -> str:
    return "\n".join([result.table, *(f"{what}: {place}" for what, place in result.places.items())])
