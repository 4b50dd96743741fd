"""``bml audit leak``: a certificate that nothing known at a moment depends on rows after it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from bml.cli import exits, options

if TYPE_CHECKING:
    from bml.cli.progress import Progress
    from bml.config import Config

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Hold a dataset against its own promises.")

Cuts = Annotated[int, typer.Option("--cuts", min=1, metavar="N", help="Moments at which the world is cut.")]
Seed = Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Draws the moments and the other future.")]
SelfTest = Annotated[bool, typer.Option("--self-test", help="Plant every known leak too, and demand that it shows.")]
Out = Annotated[str | None, typer.Option("--out", metavar="FILE", help="Write the certificate (JSON) to FILE.")]


@app.callback()
def root() -> None:
    """Hold a dataset against its own promises."""  # a group of one command would else be the command itself


@app.command(epilog=exits.EPILOG)
@exits.guarded
def leak(
    config: options.ConfigPath,
    cuts: Cuts = 200,
    seed: Seed = 1,
    self_test: SelfTest = False,
    out: Out = None,
    set_: options.Set = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Scramble all rows after random moments, and demand that what was known by then stays the same, to the byte.

    Reads the source and builds all days anew in a temporary folder; the store is not touched. The certificate goes to
    MLflow, where tracking is on. Exits with 1 when anything differs, or a planted leak stays hidden.
    """
    from bml.audit import certificate
    from bml.audit.record import record
    from bml.book.publish import publish
    from bml.cli.progress import Progress
    from bml.tracking import Tracker
    from bml.types import DataError

    options.start_logging(quiet, debug)
    cfg = options.load(config, set_)
    tracker = Tracker(cfg.tracking, cfg.store.root, document=cfg.document)
    tracker.open()
    with Progress(quiet=quiet) as progress:
        told = _audited(cfg, progress, cuts=cuts, seed=seed, self_test=self_test)
    record(cfg, tracker, told)
    if out is not None:
        publish(Path(out).absolute(), certificate.to_bytes(told))
    if json:
        options.print_json(told)
    else:
        print(certificate.text(told) + (f"\ncertificate: {out}" if out is not None else ""))
    fault = certificate.fault(told)
    if fault:
        raise DataError(fault)
    return exits.OK


def _audited(cfg: Config, progress: Progress, **choices: Any) -> dict[str, Any]:
    from bml.audit import certificate
    from bml.audit.leak import audit

    with _kept_interrupt() as check:

        def phase(title: str, total: int) -> Callable[[str], None]:
            progress.phase(title, total)

            def done(note: str) -> None:
                check()
                progress.advance(note=note)

            return done

        told = certificate.document(cfg, audit(cfg, phase=phase, **choices))
        check()
    progress.done()
    return told


@contextmanager
def _kept_interrupt() -> Iterator[Callable[[], None]]:
    """What is given raises a Ctrl-C again that fell into a destructor, where Python drops what is raised."""
    is_pressed, before = False, signal.getsignal(signal.SIGINT)

    def press(number: int, frame: FrameType | None) -> NoReturn:
        nonlocal is_pressed
        is_pressed = True
        raise KeyboardInterrupt

    def check() -> None:
        if is_pressed:
            raise KeyboardInterrupt

    if before is signal.default_int_handler:  # else it is ignored, or somebody else's
        signal.signal(signal.SIGINT, press)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)
