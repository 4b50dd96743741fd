"""Table definitions that lose, keep or slow rows without a word, found before the first row is read."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from psycopg import sql

from bml.sources.pgdialect import Dialect
from bml.sources.pgsession import ServerError, Session
from bml.types import DataError

if TYPE_CHECKING:
    from bml.sources.pgquery import DepthTable

_log = logging.getLogger(__name__)
_APPEND = re.compile(r"append_mode'?\s*=\s*'?true", re.IGNORECASE)
_LAST_NON_NULL = re.compile(r"merge_mode'?\s*=\s*'?last_non_null", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trap:
    """``refuse``: rows are lost or wrong; ``warn``: they may be; ``hint``: only slower than need be."""

    name: str
    severity: Literal["refuse", "warn", "hint"]
    told: str


def server_traps(dialect: Dialect) -> tuple[Trap, ...]:
    """What the server itself does that its user should know."""
    found: list[Trap] = []
    if not dialect.is_greptimedb:
        return ()
    if not dialect.read_only:
        account = "give bml an account with the right to read only (name:ro=password in the user file)"
        if not dialect.read_only_accounts:
            account = "upgrade to 1.0 or newer, which has accounts that only read"
        told = f"SET default_transaction_read_only has no effect there: {account}"
        found.append(Trap(name="read-only", severity="warn", told=told))
    if not dialect.cancel:
        told = "a running query cannot be cancelled: to stop one, bml closes the connection"
        found.append(Trap(name="cancel", severity="hint", told=told))
    if not dialect.statement_timeout:
        told = "SET statement_timeout has no effect there: only silence on the wire ends a query"
        found.append(Trap(name="time limit", severity="warn", told=told))
    if dialect.shifts_timestamps:
        told = "it shifts times by the session's time zone, so bml sets UTC; rows outside the asked time are refused"
        found.append(Trap(name="time zone", severity="warn", told=told))
    if dialect.cleartext_only:
        told = "passwords arrive in clear text: use TLS (bml refuses to send one without, unless insecure)"
        found.append(Trap(name="password", severity="hint", told=told))
    return tuple(found)


def table_traps(session: Session, table: DepthTable) -> tuple[Trap, ...]:
    """What the definition of ``table`` does to depth rows. Raises SourceError when the connection breaks."""
    try:
        return _greptimedb(session, table) if session.is_greptimedb else _postgres(session, table)
    except ServerError as error:
        told = f"the definition of table {table.label} could not be read ({error}): check its keys by hand"
        return (Trap(name="definition", severity="warn", told=told),)


def refuse_lossy(session: Session, table: DepthTable) -> None:
    """Raise DataError for a table that loses rows, log what may do so; PostgreSQL loses none and is not asked."""
    if not session.is_greptimedb:
        return
    for trap in table_traps(session, table):
        if trap.severity == "refuse":
            raise DataError(trap.told)
        if trap.severity == "warn":
            _log.warning("%s", trap.told)


def create_table(table: DepthTable, *, greptimedb: bool) -> sql.Composed:
    """The statement that makes ``table`` right for its columns: level (and side) in the key, times in microseconds."""
    c = table.columns
    name = sql.Identifier
    text, number = ("STRING", "DOUBLE") if greptimedb else ("text", "double precision")
    count = "BIGINT" if greptimedb else "bigint"
    when = "TIMESTAMP(6)" if greptimedb else "timestamptz" if table.ts_unit is None else count
    side = {str: text, bool: "BOOLEAN", int: "SMALLINT"}[type(table.sides.bid)]
    typed = [(c.symbol, text), (c.side, side), (c.level, "INT" if greptimedb else "integer")]
    columns = [(c.ts, f"{when} NOT NULL")] + [(column, f"{kind} NOT NULL") for column, kind in typed if column]
    columns += [(column, number) for column in c.numbers]
    columns += [(column, count) for column in (c.batch, c.sequence) if column]
    parts = [name(column) + sql.SQL(" " + kind) for column, kind in columns]
    tags = [column for column in (c.symbol, c.side, c.level) if column]
    end = sql.SQL(")")
    if greptimedb:
        parts.append(sql.SQL("TIME INDEX ({})").format(name(c.ts)))
        if c.level is None:  # a price is no key: keep every row
            tags, end = tags[:1] if c.symbol else [], sql.SQL(") WITH ('append_mode' = 'true')")
    elif c.level is None or c.batch is not None:
        tags = []  # several rows of one time and level are what the batch is for
    key = [*([c.symbol] if c.symbol else []), c.ts, *(t for t in tags if t != c.symbol)] if not greptimedb else tags
    if tags:
        parts.append(sql.SQL("PRIMARY KEY ({})").format(sql.SQL(", ").join(map(name, key))))
    head = sql.SQL("CREATE TABLE {} (").format(sql.Identifier(*table.name))
    return head + sql.SQL(", ").join(parts) + end


def _greptimedb(session: Session, table: DepthTable) -> tuple[Trap, ...]:
    """Its rows are one per (tags, time) unless it only appends; tags are the columns of PRIMARY KEY."""
    conn = session.connection()
    where = sql.SQL("table_name = {}").format(sql.Literal(table.name[-1]))
    if len(table.name) == 2:
        where = sql.SQL("table_schema = {} AND ").format(sql.Literal(table.name[0])) + where
    query = sql.SQL("SELECT column_name, semantic_type FROM information_schema.columns WHERE {}").format(where)
    kinds = {str(name): str(kind).upper() for name, kind in session.rows(query.as_bytes(conn))}
    made = sql.SQL("SHOW CREATE TABLE {}").format(sql.Identifier(*table.name))
    definition = " ".join(str(cell) for row in session.rows(made.as_bytes(conn)) for cell in row)
    if not kinds:
        raise ServerError("42P01", "information_schema.columns has nothing about it")
    c = table.columns
    place = f"table {table.label}"
    if _APPEND.search(definition):
        if c.batch is not None:
            return ()
        told = (
            f"{place} only appends (append_mode): a row written twice is there twice, and without a batch column "
            "nothing says which counts; name one in columns.batch, or rely on data_object.duplicates"
        )
        return (Trap(name="append mode", severity="warn", told=told),)
    tags = {name for name, kind in kinds.items() if kind == "TAG"}
    time_index = [name for name, kind in kinds.items() if kind not in ("TAG", "FIELD")]
    needed = [c.symbol, c.side, c.level if c.level is not None else c.numbers[0]]
    missing = [column for column in needed if column is not None and column not in tags]
    if missing:
        key = ", ".join([*sorted(tags), *time_index])
        right = create_table(table, greptimedb=True).as_string(conn)
        told = (
            f"{place} keeps one row for each ({key}), so of rows that differ in {' and '.join(missing)} only "
            f"the last one written is left: write them into a table made by  {right}"
        )
        return (Trap(name="primary key", severity="refuse", told=told),)
    if _LAST_NON_NULL.search(definition):
        told = f"{place} merges by last_non_null: a level that became NULL keeps its older price; use last_row"
        return (Trap(name="merge mode", severity="warn", told=told),)
    return ()


def _postgres(session: Session, table: DepthTable) -> tuple[Trap, ...]:
    """Rows a policy hides, and an index to be missed; views and foreign tables have none of their own."""
    conn = session.connection()
    name = sql.Literal(sql.Identifier(*table.name).as_string(conn))
    about = sql.SQL("SELECT relkind::text, relrowsecurity FROM pg_class WHERE oid = to_regclass({})").format(name)
    kinds = session.rows(about.as_bytes(conn))
    traps: list[Trap] = []
    if any(row_security for _, row_security in kinds):
        told = f"table {table.label} has row security: rows a policy hides are missing without a word"
        traps.append(Trap(name="row security", severity="warn", told=told))
    if not kinds or kinds[0][0] not in ("r", "p", "m"):
        return tuple(traps)
    found = session.rows(
        sql.SQL(
            "SELECT i.indexrelid, a.attname FROM pg_index i CROSS JOIN LATERAL "
            "unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n) "
            "JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum "
            "WHERE i.indrelid = to_regclass({}) AND i.indisvalid AND i.indpred IS NULL ORDER BY 1, k.n"
        )
        .format(name)
        .as_bytes(conn)
    )
    indexes: dict[object, list[str]] = {}
    for index, column in found:
        indexes.setdefault(index, []).append(str(column))
    c = table.columns
    wanted = [column for column in (c.symbol, c.ts) if column is not None]
    if any(set(columns[: len(wanted)]) == set(wanted) for columns in indexes.values()):
        return tuple(traps)
    statement = sql.SQL("CREATE INDEX ON {} ({})").format(
        sql.Identifier(*table.name), sql.SQL(", ").join(map(sql.Identifier, wanted))
    )
    told = (
        f"table {table.label} has no index that begins with {' and '.join(wanted)}, so each day is looked for in the "
        f"whole table:  {statement.as_string(conn)}"
    )
    return (*traps, Trap(name="index", severity="hint", told=told))
