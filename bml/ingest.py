"""A configured source's rows into a depth table, symbol-day by symbol-day; see docs/ingest.md."""

from __future__ import annotations

import datetime as dt
import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from bml.book.days import days_between
from bml.config import Config
from bml.config.params import accepts
from bml.config.secret import remember
from bml.registry import missing_extra
from bml.sources import embedded
from bml.sources.base import Source
from bml.types import NS_PER_DAY, ConfigError, DataError, DepthRows

if TYPE_CHECKING:
    from bml.cli.progress import Progress
    from bml.sources.pgwrite import DepthWriter, WriteSession

#: the variable that names the server when --into is left out; without it libpq's own (PGHOST, PGSERVICE) do
DSN_VARIABLE = "BML_DSN"
LAYOUTS = ("paired", "sided")
#: what a server takes: milliseconds in 31 bits
MOST_TIMEOUT_S = 2_147_483
_LIBPQ = ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE")
_EPOCH = dt.date(1970, 1, 1)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Where rows go. ``dsn`` comes from the environment and is shown by nothing; ``into`` says from which variable."""

    dsn: str = field(repr=False)
    schema: str
    table: str
    layout: str
    into: str | None = None
    replace: bool = False
    insecure: bool = False
    statement_timeout_s: float = 600.0


@dataclass(kw_only=True, slots=True)
class Report:
    """What an ingest did, all symbol-days together; ``reader`` is the collect stage that reads the rows again."""

    table: str
    place: str
    server: str
    layout: str
    n_days: dict[str, int] = field(default_factory=lambda: {"written": 0, "replaced": 0, "unchanged": 0, "empty": 0})
    n_rows: int = 0
    n_written: int = 0
    n_bytes: int = 0
    n_cut: int = 0
    n_merged: int = 0
    n_empty_rows: int = 0
    n_superseded: int = 0
    read_s: float = 0.0
    write_s: float = 0.0
    reader: dict[str, Any] = field(default_factory=dict)

    @property
    def rows_per_s(self) -> float:
        """Rows a second of the time spent writing (and, for what was there already, comparing)."""
        return self.n_rows / self.write_s if self.write_s else 0.0

    def document(self) -> dict[str, Any]:
        return asdict(self) | {"rows_per_s": self.rows_per_s}


def dsn_of(into: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """The dsn ``--into`` stands for: the name of an environment variable, or ``embedded:FOLDER``.

    None is the variable BML_DSN, else libpq's own variables. A dsn itself is refused and not repeated: arguments of
    a command are seen by everybody on the machine.
    """
    if into is not None and into.startswith(embedded.PREFIX):
        return into
    if into is not None and not _NAME.fullmatch(into):
        raise ConfigError(
            "--into takes the name of an environment variable that holds the dsn, or embedded:FOLDER; what was given "
            "is neither and is not shown, since a dsn on a command line is seen by everybody on the machine"
        )
    value = environ.get(into or DSN_VARIABLE, "")
    if value:
        if not value.startswith(embedded.PREFIX):
            remember(value)
        return value
    if into is None and any(environ.get(name) for name in _LIBPQ):
        return ""
    told = f"the environment variable {into} is not set" if into else f"{DSN_VARIABLE} is not set"
    raise ConfigError(f"{told}: put the server's dsn there, e.g. postgresql://user@host:5432/database, or give "
                      "--into embedded:FOLDER for a server of your own")  # fmt: skip


def name_of(table: str, schema: str | None) -> tuple[str, str]:
    """Schema and table of ``--table`` and ``--schema``: ``market.depth`` names both, unless a schema is given.

    Raises ConfigError where it is not clear which part is the schema.
    """
    if schema is not None or "." not in table:
        return schema if schema is not None else "public", table
    parts = table.split(".")
    if len(parts) != 2 or not all(parts):
        raise ConfigError(f"--table: {table!r}: which part is the schema? give it with --schema, and --table without")
    return parts[0], parts[1]


def ingest(cfg: Config, target: Target, progress: Progress) -> Report:
    """Write every symbol-day of ``cfg`` that is not there yet; days before an error stay written.

    Raises DataError when the table has other columns or other rows, or a symbol has no rows at all; SourceError when
    the server refuses or goes away (run again: it goes on).
    """
    _check(target)
    days = days_between(cfg.data.start, cfg.data.stop)
    counted = dict.fromkeys(cfg.data.symbols, 0)
    dsn = embedded.resolve(target.dsn)
    with _open_source(cfg) as source, _session(dsn, target) as session:
        run = _Run(source, session, dsn, target)
        progress.phase("ingest", len(days) * len(counted))
        for day in days:
            for symbol in counted:
                counted[symbol] += run.one_day(symbol, day)
                progress.advance(note=f"{symbol} {day}, {run.report.rows_per_s:,.0f} rows/s")
        progress.done()
    missing = [symbol for symbol, n_rows in counted.items() if not n_rows]
    if missing:
        told = f"no rows of {', '.join(missing)} in [{cfg.data.start}, {cfg.data.stop})"
        raise DataError(f"{told}: check the names and dates; nothing was written for them")
    return run.report


def plan(cfg: Config, target: Target) -> dict[str, Any]:
    """What :func:`ingest` would do, without writing: server, table, the statements that make it, and its size.

    An embedded server that is not there is not made either. The size is that of the first symbol-day, which is read,
    times their number.
    """
    _check(target)
    if embedded.is_new(target.dsn):
        return _plan_of_new(cfg, target)
    dsn = embedded.resolve(target.dsn)
    with _open_source(cfg) as source, _session(dsn, target) as session:
        run = _Run(source, session, dsn, target)
        first = source.read(cfg.data.symbols[0], *_range(cfg.data.start))
        writer = run.writer(sequence=first.sequence_N is not None)
        there = writer.exists()
        made = [] if there else [statement.as_string(session.connection()) for statement in writer.statements()]
        return {
            "place": session.place, "server": session.server, "table": writer.label, "exists": there,
            "statements": made, **_size(cfg, first),
        }  # fmt: skip


def _plan_of_new(cfg: Config, target: Target) -> dict[str, Any]:
    from bml.sources.pgwrite import table_statements

    with _open_source(cfg) as source:
        first = source.read(cfg.data.symbols[0], *_range(cfg.data.start))
    name, options = (target.schema, target.table), {"sequence": first.sequence_N is not None, "greptimedb": False}
    made = [statement.as_string() for statement in table_statements(name, target.layout, **options)]
    return {
        "place": target.dsn, "server": "a new PostgreSQL", "table": ".".join(name), "exists": False,
        "statements": made, **_size(cfg, first),
    }  # fmt: skip


def _size(cfg: Config, first: DepthRows) -> dict[str, int]:
    n_days = len(days_between(cfg.data.start, cfg.data.stop)) * len(cfg.data.symbols)
    return {"symbol_days": n_days, "rows_about": first.n_rows * n_days}


class _Run:
    """One source, one table."""

    def __init__(self, source: Source, session: WriteSession, dsn: str, target: Target) -> None:
        self._source, self._session, self._dsn, self._target = source, session, dsn, target
        self._writer: DepthWriter | None = None
        self.report = Report(
            table=f"{target.schema}.{target.table}", place=session.place, server=session.server, layout=target.layout
        )
        _refuse_itself(source, session, target)

    def writer(self, *, sequence: bool) -> DepthWriter:
        from bml.sources.pgwrite import DepthWriter

        target = self._target
        name, insecure = (target.schema, target.table), target.insecure
        return DepthWriter(self._session, self._dsn, name, target.layout, sequence=sequence, insecure=insecure)

    def one_day(self, symbol: str, day: dt.date) -> int:
        """Read and write one symbol-day; how many rows it has."""
        from bml.sources.pgrows import table_rows

        started = time.perf_counter()
        found = self._source.read(symbol, *_range(day))
        rows = table_rows(found, self._target.layout)
        read = time.perf_counter()
        if self._writer is None:
            self._writer = self.writer(sequence=rows.sequence_N is not None)
            if not self._writer.exists():
                self._writer.create()
            self.report.reader = _reader(self._target, found, rows.layout)
        done = self._writer.write(rows, *_range(day), replace=self._target.replace)
        report = self.report
        report.n_days["empty" if not rows.n_rows and done.state == "written" else done.state] += 1
        report.n_rows += rows.n_rows
        report.n_written += 0 if done.state == "unchanged" else rows.n_rows
        report.n_bytes += done.n_bytes
        report.n_cut += rows.n_cut
        report.n_merged += rows.n_merged
        report.n_empty_rows += rows.n_empty
        report.n_superseded += 0 if found.superseded_ns_N is None else len(found.superseded_ns_N)
        report.read_s += read - started
        report.write_s += time.perf_counter() - read
        return rows.n_rows


def _check(target: Target) -> None:
    if target.layout not in LAYOUTS:
        raise ConfigError(f"--layout: {target.layout!r} is neither 'paired' nor 'sided'")
    for option, name in (("--table", target.table), ("--schema", target.schema)):
        if not name or "\0" in name or len(name.encode()) > 63:
            raise ConfigError(f"{option}: a name of 1 to 63 bytes is needed")
    if not 0 <= target.statement_timeout_s <= MOST_TIMEOUT_S:  # not a number is neither
        raise ConfigError(f"--statement-timeout: must be a number of seconds from 0 (no limit) to {MOST_TIMEOUT_S}")


def _session(dsn: str, target: Target) -> WriteSession:
    try:
        from bml.sources.pgwrite import WriteSession
    except ModuleNotFoundError as error:
        raise missing_extra(error.name or "psycopg", "bml ingest") from error
    limits = {"statement_timeout_s": target.statement_timeout_s, "connect_timeout_s": 10.0}
    return WriteSession(dsn, **limits, insecure=target.insecure)


def _open_source(cfg: Config) -> Source:
    fn = cfg.collect.function()
    injected = {"data": cfg.data} if accepts(fn, "data") else {}
    source: Source = fn(**injected, **cfg.collect.params)
    return source


def _range(day: dt.date) -> tuple[int, int]:
    start_ns = (day - _EPOCH).days * NS_PER_DAY
    return start_ns, start_ns + NS_PER_DAY


def _refuse_itself(source: Source, session: WriteSession, target: Target) -> None:
    """ConfigError where rows are read from the table they go to, whatever either connection calls its server."""
    from bml.sources.pgquery import identity
    from bml.sources.postgres import PostgresSource

    if not isinstance(source, PostgresSource):
        return
    table = f"{target.schema}.{target.table}"
    where = (source.session.host, source.session.port, source.session.database)
    # a table read without a schema is looked for where the server looks first, which may be ours
    is_named = source.table.label in (table, target.table)
    is_same = is_named and where == (session.host, session.port, session.database)
    if not is_same:
        ours = identity(session, (target.schema, target.table))
        is_same = ours is not None and ours == identity(source.session, source.table.name)
    if is_same:
        raise ConfigError(f"the configuration reads table {table} of {session.place}, so it cannot be written too")


def _reader(target: Target, found: DepthRows, layout: str) -> dict[str, Any]:
    """The collect stage that gives the same books back."""
    columns: dict[str, str | None] = {"batch": "batch_id"}
    if found.price_keyed and layout == "sided":  # ranked again, so that broken rows are again known by their rank
        columns = {"level": None, **({} if found.batch_N is None else columns)}
    if found.sequence_N is not None:
        columns["sequence"] = "sequence"
    where = {"table": target.table} | ({} if target.schema == "public" else {"schema": target.schema})
    params: dict[str, Any] = {"dsn": _reader_dsn(target), **where, "layout": layout, "columns": columns}
    if target.insecure:
        params["insecure"] = True
    return {"fn": "sources.postgres.depth_rows", "with": params}


def _reader_dsn(target: Target) -> str:
    """What a configuration says for the server of ``target``: never the dsn itself, unless that is a folder."""
    if target.into is not None and target.into.startswith(embedded.PREFIX):
        return target.into
    return "${" + (target.into or DSN_VARIABLE) + "}" if target.dsn else ""
