"""Writing depth tables: a session that may write, the tables we make, and one symbol-day at a time into them.

PostgreSQL and TimescaleDB take a binary COPY, one transaction a symbol-day. GreptimeDB has neither COPY FROM STDIN
nor transactions: there rows go by multi-row INSERT, and writing a row again replaces it (last write wins by key).
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import psycopg
from psycopg import sql

from bml.sources import pgrows
from bml.sources.layout import did_you_mean
from bml.sources.pgquery import iso
from bml.sources.pgrows import TableRows
from bml.sources.pgsession import ServerError, Session
from bml.sources.postgres import depth_rows
from bml.types import BmlError, ConfigError, ConnectionLost, DataError, SourceError

#: column -> type in PostgreSQL and in GreptimeDB; numbers not named here are double precision
_TYPES = {
    "ts": ("timestamptz NOT NULL", "TIMESTAMP(6) NOT NULL"),
    "symbol": ("text NOT NULL", "STRING NOT NULL"),
    "batch_id": ("bigint NOT NULL", "BIGINT NOT NULL"),
    "side": ("text NOT NULL", "STRING NOT NULL"),
    "level": ("integer NOT NULL", "INT NOT NULL"),
    "sequence": ("bigint", "BIGINT"),
}
_NUMBER_TYPE = ("double precision", "DOUBLE")
#: type OIDs an existing column may have, so that our binary values are what it holds
_OIDS = {"ts": {1114, 1184}, "symbol": {25, 1043}, "batch_id": {20}, "side": {25, 1043}, "level": {21, 23, 20},
         "sequence": {20}}  # fmt: skip
_NUMBER_OIDS = {701}
_LEVEL_BYTES = {21: 2, 23: 4, 20: 8}
_INSERT_ROWS = 2000
_REFUSALS = frozenset({"09", "27", "44", "P0"})  # SQLSTATE classes: triggers, CHECK OPTION, PL/pgSQL's RAISE
_GONE = frozenset({"57P01", "57P02", "57P03"})  # the server shuts down, has crashed, or is not up yet


class WriteSession(Session):
    """A session that is not read-only; everything else (how it connects, what it hides) is the reader's."""

    READ_ONLY = False
    TIMEOUT = ("--statement-timeout", "raise it")

    @contextlib.contextmanager
    def bounded(self) -> Iterator[psycopg.Connection[Any]]:
        """The connection, for one statement: a server that stays silent past the statement timeout is given up."""
        conn = self.connection()
        with self._limit(conn, self._patience()):
            yield conn


@dataclass(frozen=True, slots=True)
class Written:
    """What was done with one symbol-day: ``state`` is written, replaced or unchanged."""

    state: str
    n_rows: int
    n_bytes: int = 0


def table_statements(name: tuple[str, str], layout: str, *, sequence: bool, greptimedb: bool) -> list[sql.Composed]:
    """What makes the table: on GreptimeDB the keys hold the level (and side), else it keeps one level a time."""
    table, kind = sql.Identifier(*name), int(greptimedb)
    columns: list[sql.Composable] = [
        sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(_TYPES.get(column, _NUMBER_TYPE)[kind]))
        for column in pgrows.column_names(layout, sequence=sequence)
    ]
    if greptimedb:
        keys = sql.SQL(", ").join(map(sql.Identifier, _key_columns(layout)))
        columns += [sql.SQL('TIME INDEX ("ts")'), sql.SQL("PRIMARY KEY ({})").format(keys)]
    made = sql.SQL("CREATE TABLE {} ({})").format(table, sql.SQL(", ").join(columns))
    if greptimedb:
        return [made]
    return [made, sql.SQL('CREATE INDEX ON {} ("symbol", "ts")').format(table)]


def _key_columns(layout: str) -> tuple[str, ...]:
    return ("symbol", "side", "level") if layout == "sided" else ("symbol", "level")


class DepthWriter:
    """One depth table on one server."""

    def __init__(
        self,
        session: WriteSession,
        dsn: str,
        name: tuple[str, str],
        layout: str,
        *,
        sequence: bool,
        insecure: bool = False,
    ) -> None:
        self._session = session
        self._dsn = dsn
        self._insecure = insecure
        self._name = name
        self._layout = layout
        self._columns = pgrows.column_names(layout, sequence=sequence)
        self._has_sequence = sequence
        self._level_bytes = 4
        self.label = ".".join(name)

    @property
    def is_greptimedb(self) -> bool:
        self._session.connection()
        return self._session.is_greptimedb

    def statements(self) -> list[sql.Composed]:
        """See :func:`table_statements`."""
        options = {"sequence": self._has_sequence, "greptimedb": self.is_greptimedb}
        return table_statements(self._name, self._layout, **options)

    def exists(self) -> bool:
        """Whether there is a table of that name; DataError when it is not one we would write into."""
        query = sql.SQL(
            "SELECT table_type FROM information_schema.tables WHERE table_schema = {} AND table_name = {}"
        ).format(*map(sql.Literal, self._name))
        found = self._rows(query)
        if not found:
            return False
        if "VIEW" in str(found[0][0]).upper():
            raise DataError(f"{self.label} is a view, not a table: name the table itself, or another, with --table")
        self._check_columns()
        return True

    def create(self) -> None:
        """Make the table; on PostgreSQL table and index together or not at all."""
        conn = self._session.connection()
        try:
            if self.is_greptimedb:
                for statement in self.statements():
                    conn.execute(statement)
            else:
                with conn.transaction():
                    for statement in self.statements():
                        conn.execute(statement)
        except psycopg.Error as error:
            self._refused(error, "making the table")
        self._check_columns()

    def write(self, rows: TableRows, start_ns: int, stop_ns: int, *, replace: bool) -> Written:
        """Make the table hold exactly ``rows`` of their symbol in [start_ns, stop_ns).

        Rows that are there already and equal stay ("unchanged"); others are a DataError unless ``replace``, and where
        there is nothing to put in their place. On
        PostgreSQL all of it is one transaction that excludes other writers of this symbol-day; on GreptimeDB rows
        of an earlier, interrupted run are completed.
        """
        where = self._where(rows.symbol, start_ns, stop_ns)
        if self.is_greptimedb:
            rows = pgrows.last_of_each_cell(rows)
            return self._write_greptimedb(rows, where, start_ns, stop_ns, replace=replace)
        conn = self._session.connection()
        try:
            with conn.transaction():
                lock = sql.SQL("SELECT pg_advisory_xact_lock({})").format(sql.Literal(self._lock(rows, start_ns)))
                self._execute(lock)
                there = self._count(where)
                if there and self._same(rows, there, start_ns, stop_ns):
                    return Written("unchanged", rows.n_rows)
                if there and not (replace and rows.n_rows):
                    raise self._other_rows(rows, there, start_ns)
                if there:
                    self._execute(sql.SQL("DELETE FROM {} WHERE {}").format(sql.Identifier(*self._name), where))
                n_bytes = self._copy(rows)
        except psycopg.Error as error:
            self._refused(error, f"{rows.symbol} {iso(start_ns)[:10]}")
        return Written("replaced" if there else "written", rows.n_rows, n_bytes)

    def _execute(self, statement: sql.Composed | bytes) -> None:
        with self._session.bounded() as conn:
            conn.execute(statement)

    def _copy(self, rows: TableRows) -> int:
        target = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
            sql.Identifier(*self._name), sql.SQL(", ").join(map(sql.Identifier, self._columns))
        )
        n_bytes = 0
        with self._session.bounded() as conn, conn.cursor() as cursor:
            with cursor.copy(target) as copy:
                copy.write(pgrows.COPY_HEADER)
                for block in pgrows.copy_blocks(rows, self._level_bytes):
                    copy.write(block)
                    n_bytes += len(block)
                copy.write(pgrows.COPY_TRAILER)
            if cursor.rowcount != rows.n_rows:
                raise SourceError(f"table {self.label}: sent {rows.n_rows} rows, the server took {cursor.rowcount}")
        return n_bytes

    def _write_greptimedb(
        self, rows: TableRows, where: sql.Composed, start_ns: int, stop_ns: int, *, replace: bool
    ) -> Written:
        conn = self._session.connection()
        try:
            there = self._count(where)
            if there and self._same(rows, there, start_ns, stop_ns):
                return Written("unchanged", rows.n_rows)
            if there and not rows.n_rows:
                raise self._other_rows(rows, there, start_ns)
            if there and not replace and not self._part_of(rows, start_ns, stop_ns):
                raise self._other_rows(rows, there, start_ns)
            if there and replace:
                self._execute(sql.SQL("DELETE FROM {} WHERE {}").format(sql.Identifier(*self._name), where))
            n_bytes = self._insert(conn, rows)
        except psycopg.Error as error:
            self._refused(error, f"{rows.symbol} {iso(start_ns)[:10]}")
        if self._count(where) != rows.n_rows:
            raise DataError(
                f"table {self.label}, {rows.symbol} {iso(start_ns)[:10]}: {self._count(where)} rows are there after "
                f"{rows.n_rows} were written: its keys must be {', '.join(self._keys())} and ts, without append mode"
            )
        return Written("replaced" if there else "written", rows.n_rows, n_bytes)

    def _insert(self, conn: psycopg.Connection[Any], rows: TableRows) -> int:
        head = sql.SQL("INSERT INTO {} ({}) VALUES ").format(
            sql.Identifier(*self._name), sql.SQL(", ").join(map(sql.Identifier, self._columns))
        )
        text, n_bytes = head.as_bytes(conn), 0
        for values in pgrows.insert_values(rows, _INSERT_ROWS):
            statement = text + values.encode()
            self._execute(statement)
            n_bytes += len(statement)
        return n_bytes

    # -- what is there

    def _check_columns(self) -> None:
        query = sql.SQL("SELECT * FROM {} LIMIT 0").format(sql.Identifier(*self._name))
        try:
            found = dict(self._session.probe(query.as_bytes(self._session.connection())))
        except ServerError as error:
            raise self._session.explain(error, f"table {self.label}") from None
        extra = [name for name in found if name not in self._columns]
        for name in self._columns:
            if name not in found:
                others = f"; it has {', '.join(extra)} instead" if extra else did_you_mean(name, found)
                raise DataError(f"table {self.label} has no column {name}{others}: name another table with --table")
            if found[name] not in _OIDS.get(name, _NUMBER_OIDS):
                expected = _TYPES.get(name, _NUMBER_TYPE)[0].removesuffix(" NOT NULL")
                raise DataError(f"table {self.label}: column {name} is not {expected}: name another table with --table")
        if extra:
            raise DataError(
                f"table {self.label} has other columns too ({', '.join(extra)}): name another table with --table"
            )
        self._level_bytes = _LEVEL_BYTES[found["level"]]
        if self.is_greptimedb:
            self._check_keys()

    def _check_keys(self) -> None:
        shown = self._rows(sql.SQL("SHOW CREATE TABLE {}").format(sql.Identifier(*self._name)))
        text = " ".join(str(value) for row in shown for value in row)
        keys = re.search(r"PRIMARY KEY\s*\(([^)]*)\)", text, flags=re.IGNORECASE)
        named = set(re.findall(r"\w+", keys[1])) if keys else set()
        if named != set(self._keys()) or re.search(r"append_mode['\"]?\s*=\s*['\"]?true", text, flags=re.IGNORECASE):
            raise DataError(
                f"table {self.label}: its PRIMARY KEY must be ({', '.join(self._keys())}), without append mode, or "
                "levels overwrite each other or double: name another table with --table"
            )

    def _keys(self) -> tuple[str, ...]:
        return _key_columns(self._layout)

    def _count(self, where: sql.Composed) -> int:
        found = self._rows(sql.SQL("SELECT count(*) FROM {} WHERE {}").format(sql.Identifier(*self._name), where))
        return int(found[0][0])

    def _same(self, rows: TableRows, there: int, start_ns: int, stop_ns: int) -> bool:
        if there != rows.n_rows:
            return False
        return int(self._hashes(rows.symbol, start_ns, stop_ns).sum()) == int(pgrows.row_hashes(rows).sum())

    def _part_of(self, rows: TableRows, start_ns: int, stop_ns: int) -> bool:
        found = self._hashes(rows.symbol, start_ns, stop_ns)
        return bool(np.isin(found, pgrows.row_hashes(rows)).all())

    def _hashes(self, symbol: str, start_ns: int, stop_ns: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """Of the rows that are there, read back by the reader everybody uses."""
        columns: dict[str, str | None] = {"batch": "batch_id"}
        if self._has_sequence:
            columns["sequence"] = "sequence"
        options: dict[str, Any] = {"layout": self._layout, "columns": columns, "insecure": self._insecure}
        options["statement_timeout_s"] = self._session.statement_timeout_s
        with depth_rows(dsn=self._dsn, schema=self._name[0], table=self._name[1], **options) as reader:
            return pgrows.row_hashes(pgrows.table_rows(reader.read(symbol, start_ns, stop_ns), self._layout))

    def _where(self, symbol: str, start_ns: int, stop_ns: int) -> sql.Composed:
        return sql.SQL('"symbol" = {} AND "ts" >= {} AND "ts" < {}').format(
            *map(sql.Literal, (symbol, iso(start_ns), iso(stop_ns)))
        )

    def _lock(self, rows: TableRows, start_ns: int) -> int:
        key = f"bml ingest {self.label} {rows.symbol} {start_ns}".encode()
        return int.from_bytes(hashlib.sha256(key).digest()[:8], "big", signed=True)

    def _other_rows(self, rows: TableRows, there: int, start_ns: int) -> BmlError:
        if not rows.n_rows:
            return DataError(
                f"table {self.label} holds {there} rows of {rows.symbol} on {iso(start_ns)[:10]}, and the source has "
                "none: nothing was changed, also not by --replace; check the source, or delete those rows by hand"
            )
        return DataError(
            f"table {self.label} already holds {there} other rows of {rows.symbol} on {iso(start_ns)[:10]} (to write: "
            f"{rows.n_rows}): nothing was changed; --replace --yes deletes them first"
        )

    def _rows(self, query: sql.Composed) -> list[tuple[Any, ...]]:
        try:
            return self._session.rows(query.as_bytes(self._session.connection()))
        except ServerError as error:
            raise self._session.explain(error, f"table {self.label}") from None

    def _refused(self, error: psycopg.Error, what: str) -> NoReturn:
        session, where = self._session, f"table {self.label}, {what}"
        state = error.sqlstate or ""
        if not state or state in _GONE or state.startswith("08"):
            session.close()
            raise ConnectionLost(
                f"{where}: the connection broke: {session.redact(error)}; run the command again, it goes on"
            ) from None
        told = session.redact(error.diag.message_primary or error)
        if state == "42501":
            raise SourceError(
                f"{where}: permission denied ({told}): the account needs SELECT, INSERT and DELETE on it, "
                "and CREATE on its schema where it is to be made"
            ) from None
        if state == "3F000":
            raise ConfigError(f"{where}: {told}: make the schema, or name another with --schema") from None
        if state[:2] in _REFUSALS:
            raise DataError(f"{where}: the table refuses these rows: {told} (SQLSTATE {state})") from None
        raise session.explain(ServerError(state, told), where) from None
