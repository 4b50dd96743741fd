"""``bml config check``, ``show`` and ``schema``."""

from __future__ import annotations

from typing import Annotated

import typer

from bml.cli import exits, options

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Check, show and describe configurations.")

Stage = Annotated[
    list[str] | None,
    typer.Option("--stage", metavar="NAME", help="Check the functions of this stage only; repeatable."),
]


@app.command(epilog=exits.EPILOG)
@exits.guarded
def check(
    config: options.ConfigPath,
    set_: options.Set = None,
    stage: Stage = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Check a configuration whole: every fault, each with its line."""
    from bml.config import InvalidConfig

    try:
        cfg = options.load(config, set_, tuple(stage) if stage else None)
    except InvalidConfig as error:
        if not json:
            raise
        options.print_json({"ok": False, "faults": [fault.to_json() for fault in error.faults]})
        return error.exit_code
    if json:
        digest = None if stage else cfg.digest()
        options.print_json({"ok": True, "faults": [], "name": cfg.name, "digest": digest})
    else:
        days = (cfg.data.stop - cfg.data.start).days
        print(f"{config}: ok ({len(cfg.data.symbols)} symbols, {days} days, every {cfg.data.cadence_s:g} s)")
    return exits.OK


@app.command()
@exits.guarded
def show(
    config: options.ConfigPath,
    set_: options.Set = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Print it resolved: defaults filled in, secrets hidden."""
    from bml.config import to_yaml

    cfg = options.load(config, set_)
    if json:
        options.print_json(cfg.document)
    else:
        print(to_yaml(cfg.document), end="")


@app.command()
@exits.guarded
def schema(debug: options.Debug = False) -> None:
    """Print a JSON Schema of it for editors."""
    from bml.config import json_schema

    options.print_json(json_schema())
