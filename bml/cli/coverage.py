"""``bml coverage``: what a store has of every symbol and day, what is wrong with it, and which windows that cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bml.cli import exits, options

if TYPE_CHECKING:
    from bml.book.coverage import Ledger
    from bml.config import Config
    from bml.dataset.dropped import Reasons

#: days listed as the worst
WORST = 5

StorePath = Annotated[str, typer.Argument(metavar="STORE", help="The store.root that bml preprocess filled.")]
ConfigOption = Annotated[
    str | None,
    typer.Option("--config", metavar="CONFIG", help="Whose day files, days and symbols; counts dropped windows too."),
]
Events = Annotated[bool, typer.Option("--events", help="List every range, with its exact times.")]
Verify = Annotated[bool, typer.Option("--verify", help="Compare every byte with its checksum: reads everything.")]
Csv = Annotated[str | None, typer.Option("--csv", metavar="OUT.csv", help="Write one line a symbol and day.")]
Plot = Annotated[str | None, typer.Option("--plot", metavar="OUT.png", help="Draw a calendar of the store.")]


@exits.guarded
def coverage(
    store: StorePath,
    config: ConfigOption = None,
    events: Events = False,
    plot: Plot = None,
    csv: Csv = None,
    verify: Verify = False,
    set_: options.Set = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Tell what is there of every symbol and day, and what is not.

    Rows are fresh (a snapshot of their own), filled (an older one carried forward) or missing; usable ones are
    fresh, and neither of a crossed book nor a jump. Crossed, locked, stuck, ... count raw snapshots. All of it comes
    from the content of the day files. With --config the windows that were dropped are counted by their reason.

    Totals go to MLflow: as CONFIG says, else into STORE's own database if it has one.
    """
    from bml.book import coverage as ledgers
    from bml.cli import coverage_text as words
    from bml.types import ConfigError

    options.start_logging(False, debug)
    for option, name, suffix in (("--plot", plot, ".png"), ("--csv", csv, ".csv")):
        if name is not None and Path(name).suffix.lower() != suffix:
            raise ConfigError(f"{option} {name}: the name must end in {suffix}")
    if set_ and config is None:
        raise ConfigError("--set replaces values of a configuration: give --config CONFIG with it")
    root = Path(store)
    cfg = None if config is None else _config(config, set_, root)
    ledger = ledgers.of_store(root, verify=verify) if cfg is None else _of(cfg, verify)
    reasons = _reasons(cfg, ledger)
    document = words.document(ledger, reasons, events=events)
    told = words.text(ledger, reasons, events=events, worst=WORST)
    if reasons is None and cfg is not None and cfg.features.written:
        told += "\nwindows: not counted while a day file is damaged or removed"
    if plot is not None:
        from bml.cli.coverage_picture import save_picture

        save_picture(ledger, Path(plot))
    if csv is not None:
        words.write_csv(ledger, reasons, Path(csv))
    if json:
        options.print_json(document)
    else:
        print(told)
    _track(cfg, root, ledger, document, plot)
    for reason in ledger.damaged.values():
        exits.say(f"damaged: {reason}")
    return exits.FAILED if ledger.damaged else exits.OK


def _config(path: str, overrides: list[str] | None, root: Path) -> Config:
    """The configuration as if its store were at ``root``: stores are moved and copied."""
    from bml.cli.stages import PREPROCESS_STAGES

    cfg = options.load(path, overrides, PREPROCESS_STAGES)
    return cfg.model_copy(update={"store": cfg.store.model_copy(update={"root": root})})


def _day_store(cfg: Config, verify: bool) -> Any:
    from bml import learned
    from bml.book.days import store_digest
    from bml.book.store import DayStore

    return DayStore(cfg.store.root, store_digest(cfg, learned.load(cfg)), verify)


def _of(cfg: Config, verify: bool) -> Ledger:
    from bml.book.coverage import of_config

    data = cfg.data
    return of_config(_day_store(cfg, verify), data.symbols, data.start, data.stop, rows_per_day=data.steps_per_day)


def _reasons(cfg: Config | None, ledger: Ledger) -> Reasons | None:
    """Dropped windows, where there is a rule for them and no file is damaged or removed: no count may leave it out."""
    from bml.book.coverage import State

    if cfg is None or not cfg.features.written or ledger.damaged:
        return None
    if not all(day.state in (State.PRESENT, State.EMPTY, State.ABSENT) for day in ledger.days):
        return None
    from bml.dataset.dropped import by_day

    return by_day(cfg, _day_store(cfg, False))


def _track(cfg: Config | None, root: Path, ledger: Ledger, document: dict[str, Any], plot: str | None) -> None:
    """One run of its own, linked to the run that built the days where that is known."""
    import json

    from bml.config.model import TrackingSpec
    from bml.tracking import Tracker

    if cfg is None:
        tracker = Tracker(TrackingSpec(enabled=(root / "mlflow.db").exists()), root)
    else:
        tracker = Tracker(cfg.tracking, root, document=cfg.document)
    params = {"store": str(root.absolute()), "digest": ledger.digest, "start": ledger.start, "stop": ledger.stop}
    with tracker.stage("preprocessing", params=params, upstream=_upstream(cfg), name="coverage") as run:
        for symbol, total in document["symbols"].items():
            run.metrics({f"{symbol}.{name}": float(value) for name, value in total.items()})
        for symbol, counts in document.get("windows", {}).items():
            run.metrics({f"{symbol}.windows.{reason}": float(count) for reason, count in counts["total"].items()})
        run.text("coverage.json", json.dumps(document, indent=1, default=str))
        if plot is not None:
            run.figure(plot)


def _upstream(cfg: Config | None) -> Any:
    from bml import handover
    from bml.types import ConfigError

    if cfg is None:
        return []
    try:
        return [handover.load(cfg, "preprocess")]
    except ConfigError:  # its days were built, but the run never ended
        return []
