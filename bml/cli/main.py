"""The command ``bml``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bml import __version__
from bml.cli import audit, classes, configs, coverage, diagnosis, exits, ingest, inspection, stages

# plain help: the rich one takes twice as long to import, and pages and greps worse
app = typer.Typer(
    name="bml",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=exits.EPILOG,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"bml {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Order-book rows into tensors, calibrated models and honest reports."""


for command in (
    stages.preprocess, stages.train, stages.evaluate, stages.run, ingest.ingest, inspection.inspect,
    classes.classes, coverage.coverage, diagnosis.doctor,
):  # fmt: skip
    app.command(epilog=exits.EPILOG)(command)
app.add_typer(configs.app, name="config")
app.add_typer(audit.app, name="audit")


def main() -> None:
    """Entry point of the console script."""
    exits.open_missing_streams()
    exits.handle_signals()
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(exits.INTERRUPTED)


if __name__ == "__main__":
    main()
