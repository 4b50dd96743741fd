"""``bml ingest``: rows of any configured source into a depth table."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bml.cli import exits, options

Into = Annotated[
    str | None,
    typer.Option(
        "--into",
        metavar="VARIABLE",
        help="Environment variable that holds the dsn (default: BML_DSN), or embedded:FOLDER.",
    ),
]
Table = Annotated[str, typer.Option("--table", help="Table to write, or schema.table; made when not there.")]
Schema = Annotated[
    str | None, typer.Option("--schema", help="Schema of the table (default: public); then dots belong to the table.")
]
Layout = Annotated[
    str, typer.Option("--layout", help="paired: a row a level, bid and ask. sided: a row a side and level.")
]
Replace = Annotated[bool, typer.Option("--replace", help="Delete other rows of a symbol-day first (asks for --yes).")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do delete.")]
StatementTimeout = Annotated[
    float,
    typer.Option("--statement-timeout", metavar="SECONDS", help="A statement is given up after this long; 0: never."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, write nothing.")]


@exits.guarded
def ingest(
    config: options.ConfigPath,
    table: Table,
    into: Into = None,
    schema: Schema = None,
    layout: Layout = "paired",
    replace: Replace = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    insecure: options.Insecure = False,
    statement_timeout: StatementTimeout = 600.0,
    set_: options.Set = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Write the configured rows into a PostgreSQL, TimescaleDB or GreptimeDB depth table."""
    from bml import ingest as job
    from bml.cli.progress import Progress
    from bml.types import ConfigError

    options.start_logging(quiet, debug)
    options.warn_insecure(insecure)
    if replace and not yes and not dry_run:
        raise ConfigError("--replace deletes rows of the table: say --yes too, or look first with --dry-run")
    schema, table = job.name_of(table, schema)
    target = job.Target(
        dsn=job.dsn_of(into),
        schema=schema,
        table=table,
        layout=layout,
        into=into,
        replace=replace,
        insecure=insecure,
        statement_timeout_s=statement_timeout,
    )
    cfg = options.load(config, set_, ("collect",))
    if dry_run:
        document: dict[str, Any] = job.plan(cfg, target)
        text = _plan(document)
    else:
        with Progress(quiet=quiet) as progress:
            report = job.ingest(cfg, target, progress)
        document = report.document()
        text = _report(document)
    if json:
        options.print_json(document)
    else:
        print(text)
    return exits.OK


def _plan(told: dict[str, Any]) -> str:
    state = "is there" if told["exists"] else "would be made:\n  " + ";\n  ".join(told["statements"])
    size = f"{told['symbol_days']} symbol-days, about {told['rows_about']:,} rows"
    return f"{size} into {told['place']} ({told['server']})\ntable {told['table']} {state}"


def _report(told: dict[str, Any]) -> str:
    import yaml

    days = ", ".join(f"{n} {state}" for state, n in told["n_days"].items() if n)
    lines = [
        f"table {told['table']} of {told['place']} ({told['server']}): symbol-days {days}",
        f"{told['n_rows']:,} rows, {told['n_written']:,} of them written now ({told['n_bytes'] / 1e6:,.1f} MB); "
        f"read in {told['read_s']:.1f} s, written in {told['write_s']:.1f} s: {told['rows_per_s']:,.0f} rows/s",
    ]
    notes = (
        ("n_cut", "times were rounded to whole microseconds"),
        ("n_merged", "rows were left out, another snapshot being within their microsecond"),
        ("n_superseded", "rows of replaced batches were left out by the source"),
        ("n_empty_rows", "sided rows without price and quantity were left out"),
    )
    lines += [f"{told[key]:,} {what}" for key, what in notes if told[key]]
    reader = yaml.safe_dump({"collect": told["reader"]}, sort_keys=False, default_flow_style=None, width=1000)
    return "\n".join([*lines, "", "to read it (under stages):", reader.rstrip()])
