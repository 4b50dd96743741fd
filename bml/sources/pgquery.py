"""The SQL of a depth table: what its columns are (asked once) and the SELECT of one read.

Only literals, no bound parameters, no ORDER BY, a cast only where the type asks for one: GreptimeDB and PostgreSQL
both run it as fast as they can.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from psycopg import sql
from psycopg.postgres import types as pg_types

from bml.sources.layout import NS_PER_UNIT, Columns, SideValues, TsUnit, did_you_mean
from bml.sources.pgsession import ServerError, Session
from bml.sources.pgtraps import refuse_lossy
from bml.types import BmlError, ConfigError, DataError

_WIRES = {21: "int2", 23: "int4", 20: "int8", 700: "float4", 701: "float8", 1114: "timestamp", 1184: "timestamp",
          16: "bool", 25: "text", 1043: "text", 1042: "text", 19: "text"}  # fmt: skip
_NUMERIC = 1700
_FIRST_USER_OID = 16384  # types above were made by a user: an enum arrives as its label
_INTS = frozenset({"int2", "int4", "int8"})
_TEXT, _BOOL = frozenset({"text"}), frozenset({"bool"})
#: kind -> wire types it can be decoded from, what to cast numeric to, and its name in messages
_TAKES = {
    "time": (frozenset({"timestamp", "int4", "int8"}), None, "a timestamp, timestamptz or bigint"),
    "level": (_INTS, "BIGINT", "an integer"),
    "number": (_INTS | {"float4", "float8"}, "DOUBLE PRECISION", "a number"),
    "count": (_INTS | {"timestamp"}, "BIGINT", "an integer or a timestamp"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One column of a read: its logical name, what it becomes, its wire type, and the cast it needs."""

    name: str
    kind: str
    wire: str
    column: str
    cast: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthTable:
    """A table and what its columns mean; builds statements, holds no connection."""

    name: tuple[str, ...]
    columns: Columns
    sides: SideValues
    ts_unit: TsUnit | None
    first_level: int
    depth: int | None

    def __post_init__(self) -> None:
        c = self.columns
        for name in (*self.name, c.ts, c.symbol, c.level, c.side, *c.numbers, c.batch, c.sequence):
            if name is not None:
                _check_text(name, "the name of a table or column")
        for value in (self.sides.bid, self.sides.ask):
            if isinstance(value, str):
                _check_text(value, "side_values")

    @property
    def label(self) -> str:
        """Schema and table, for messages."""
        return ".".join(self.name)

    def probe(self, session: Session) -> tuple[Field, ...]:
        """The fields of a read, the time first; DataError for a missing table or column, a wrong type, or lost rows."""
        wanted = self._wanted()
        names = [column for _, _, column in wanted] + ([self.columns.symbol] if self.columns.symbol else [])
        query = sql.SQL("SELECT {} FROM {} LIMIT 0").format(
            sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier(*self.name)
        )
        try:
            found = session.probe(query.as_bytes(session.connection()))
        except ServerError as error:
            raise self._missing(session, error, names) from None
        fields = tuple(self._field(*what, oid) for what, (_, oid) in zip(wanted, found, strict=False))
        refuse_lossy(session, self)
        return fields

    def select(self, fields: tuple[Field, ...], symbol: str, start_ns: int, stop_ns: int) -> sql.Composed:
        """The rows of ``symbol`` (as the table calls it) with ``start_ns <= ts < stop_ns``."""
        c = self.columns
        conditions = self._lies_in(symbol, start_ns, stop_ns)
        if c.level is not None and self.depth is not None:
            last = sql.SQL(str(self.first_level + self.depth - 1))
            level = sql.Identifier(c.level)  # NULL is wrong, so it must arrive to be refused
            conditions.append(sql.SQL("({} <= {} OR {} IS NULL)").format(level, last, level))
        if c.layout == "sided" and c.level is None and c.batch is None:  # else zeros too say which batch is the latest
            qty = sql.Identifier(c.numbers[1])
            conditions.append(sql.SQL("({} <> 0 OR {} IS NULL)").format(qty, qty))
        return sql.SQL("SELECT {} FROM {} WHERE {}").format(
            sql.SQL(", ").join(map(_selected, fields)), sql.Identifier(*self.name), sql.SQL(" AND ").join(conditions)
        )

    def first(self, symbol: str, start_ns: int, stop_ns: int) -> sql.Composed:
        """The time of the first row of ``symbol`` with ``start_ns <= ts < stop_ns``."""
        conditions = sql.SQL(" AND ").join(self._lies_in(symbol, start_ns, stop_ns))
        ts, name = sql.Identifier(self.columns.ts), sql.Identifier(*self.name)
        return sql.SQL("SELECT min({}) FROM {} WHERE {}").format(ts, name, conditions)

    def _lies_in(self, symbol: str, start_ns: int, stop_ns: int) -> list[sql.Composable]:
        ts = sql.Identifier(self.columns.ts)
        conditions: list[sql.Composable] = [
            ts + sql.SQL(" >= ") + self._time_literal(start_ns),
            ts + sql.SQL(" < ") + self._time_literal(stop_ns),
        ]
        if self.columns.symbol is not None:
            _check_text(symbol, "a symbol")
            conditions.insert(0, sql.Identifier(self.columns.symbol) + sql.SQL(" = ") + sql.Literal(symbol))
        return conditions

    def _wanted(self) -> list[tuple[str, str, str]]:
        """(logical name, kind, column) of what is read."""
        c = self.columns
        out = [("ts", "time", c.ts)]
        if c.level is not None:
            out.append(("level", "level", c.level))
        if c.side is not None:
            out.append(("side", "side", c.side))
        out += [(name, "number", column) for name, column in zip(c.number_names, c.numbers, strict=True)]
        optional = (("batch", c.batch), ("sequence", c.sequence))
        return out + [(name, "count", column) for name, column in optional if column is not None]

    def _field(self, name: str, kind: str, column: str, oid: int) -> Field:
        wire = _WIRES.get(oid, "text" if oid >= _FIRST_USER_OID else "")
        info = pg_types.get(oid)
        place = f"table {self.label}: column {column} has type {info.name if info else f'oid {oid}'}"
        if kind == "side":
            bid = self.sides.bid
            if wire not in (_TEXT if isinstance(bid, str) else _BOOL if isinstance(bid, bool) else _INTS):
                raise DataError(f"{place}, but side_values has {bid!r}: give values of the column's type")
            return Field(name=name, kind=kind, wire=wire, column=column)
        takes, target, expected = _TAKES[kind]
        if oid == _NUMERIC and target is not None:
            return Field(
                name=name, kind=kind, wire="int8" if target == "BIGINT" else "float8", column=column, cast=target
            )
        if wire not in takes:
            type_name = target or "BIGINT"
            raise DataError(
                f"{place}, but {name} must be {expected}: map another column, or read a view with "
                f"CAST({column} AS {type_name})"
            )
        if kind == "time":
            self._check_unit(place, wire)
        return Field(name=name, kind=kind, wire=wire, column=column)

    def _check_unit(self, place: str, wire: str) -> None:
        if wire == "timestamp" and self.ts_unit is not None:
            raise DataError(f"{place}, so ts_unit has no effect: leave it out")
        if wire != "timestamp" and self.ts_unit is None:
            raise DataError(f"{place}: say what it counts since 1970 with ts_unit: s, ms, us or ns")

    def _time_literal(self, ns: int) -> sql.Composable:
        """The first moment not before ``ns`` that the column can hold."""
        if self.ts_unit is not None:
            return sql.SQL(str(-(-ns // NS_PER_UNIT[self.ts_unit])))
        return sql.Literal(iso(-(-ns // 1000) * 1000))

    def _missing(self, session: Session, error: ServerError, names: list[str]) -> BmlError:
        """Says which table or columns there are instead."""
        where = f"table {self.label}"
        every = sql.SQL("SELECT * FROM {} LIMIT 0").format(sql.Identifier(*self.name))
        try:
            known = [name for name, _ in session.probe(every.as_bytes(session.connection()))]
        except ServerError as refused:
            if refused.sqlstate == "42501":
                return session.explain(refused, where)
            return DataError(f"{where} in database {session.database}: {refused}{self._other_tables(session)}")
        for name in names:
            if name not in known:
                return DataError(f"{where} has no column {name}{did_you_mean(name, known)}")
        return session.explain(error, where)

    def _other_tables(self, session: Session) -> str:
        where: sql.Composable = sql.SQL("")
        if len(self.name) == 2:
            where = sql.SQL(" WHERE table_schema = {}").format(sql.Literal(self.name[0]))
        query = sql.SQL("SELECT table_name FROM information_schema.tables{} LIMIT 500").format(where)
        try:
            found = session.rows(query.as_bytes(session.connection()))
        except ServerError:
            return ""  # only a hint is lost; the error that led here is raised
        return did_you_mean(self.name[-1], sorted(str(name) for (name,) in found))


def identity(session: Session, name: tuple[str, ...]) -> tuple[int, int, int] | None:
    """What a table is, whatever host, port and names lead to it: of its cluster, its database and itself.

    A standby is its primary. None where there is no such table, or the server does not tell (GreptimeDB).
    """
    conn = session.connection()
    query = sql.SQL(
        "SELECT system_identifier, pg_database.oid::bigint, to_regclass({})::oid::bigint "
        "FROM pg_control_system(), pg_database WHERE datname = current_database()"
    ).format(sql.Literal(sql.Identifier(*name).as_string(conn)))
    try:
        ((cluster, database, table),) = session.rows(query.as_bytes(conn))
    except ServerError:
        return None
    return None if table is None else (cluster, database, table)


def _check_text(text: str, what: str) -> None:
    """ConfigError for what no SQL text can hold, quoted or not; everything else is only quoted."""
    if "\0" in text or (not text.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in text)):
        raise ConfigError(f"{what} cannot be {text!r}: it holds a NUL or half a character")


def _selected(field: Field) -> sql.Composable:
    column = sql.Identifier(field.column)
    if field.cast is None:
        return column
    return sql.SQL("CAST({} AS {})").format(column, sql.SQL("BIGINT" if field.cast == "BIGINT" else "DOUBLE PRECISION"))


def iso(ns: int) -> str:
    """ISO UTC with an explicit offset, to the microsecond: GreptimeDB honours the offset, ``timestamp`` ignores it."""
    moment = dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=ns // 1000)
    return moment.isoformat(sep=" ") + "+00:00"
