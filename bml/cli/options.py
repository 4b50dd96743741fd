"""Options that several commands share, and what they do before a command starts."""

from __future__ import annotations

import json
import logging
import math
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bml.cli import exits

if TYPE_CHECKING:
    from bml.config import Config

ConfigPath = Annotated[str, typer.Argument(metavar="CONFIG", help="YAML file of the run.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace one value, such as data.cadence_s=5; repeatable."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only warnings and errors on stderr.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug messages.")]

Insecure = Annotated[
    bool, typer.Option("--insecure", help="Connect without proof of who answers, passwords in clear text if asked.")
]


class _Redacting(logging.Formatter):
    """Takes secrets out of messages and tracebacks, whoever logs them."""

    def format(self, record: logging.LogRecord) -> str:
        from bml.config.secret import redact_text

        return redact_text(super().format(record))


def start_logging(quiet: bool, debug: bool) -> None:
    """Logs go to stderr, without secrets: warnings when quiet, ours in detail when debugging."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Redacting("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("bml").setLevel(logging.WARNING if quiet else logging.DEBUG if debug else logging.INFO)


def warn_insecure(insecure: bool) -> None:
    """Say on stderr what ``--insecure`` gives up, also when quiet."""
    if insecure:
        exits.say(
            "WARNING: --insecure: whoever answers is believed to be the database, passwords and rows may cross the "
            "network in clear text; use it on a network you trust only"
        )


def load(config: str, overrides: list[str] | None, stages: tuple[str, ...] | None = None) -> Config:
    """The configuration named on the command line, with its ``--set`` values."""
    from bml import config as configuration

    return configuration.load(config, overrides or (), stages=stages)


def print_json(document: Any) -> None:
    """One JSON document on stdout, without secrets; NaN and infinity, which JSON has no word for, become null."""
    from bml.config.secret import redact_values

    print(json.dumps(redact_values(_finite(document)), indent=2, default=_plain))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return _finite(value.tolist())
    return value


def _plain(value: object) -> str:
    return str(value)
