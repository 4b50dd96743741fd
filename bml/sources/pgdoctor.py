"""A first look at a depth table: the server's abilities, the table's traps, one minute read by two paths."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bml.sources.layout import NS_PER_UNIT
from bml.sources.levels import key_by_price
from bml.sources.pgdialect import Dialect
from bml.sources.pgquery import DepthTable, Field, iso
from bml.sources.pgsession import ServerError
from bml.sources.pgtraps import Trap, server_traps, table_traps
from bml.sources.postgres import PostgresSource
from bml.types import NS_PER_S, BmlError, DepthRows

WINDOW_NS = 60 * NS_PER_S
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """One minute of one symbol: rows found, seconds of the source's own path and of psycopg's, what differs or ""."""

    symbol: str
    start_ns: int
    stop_ns: int
    n_rows: int
    source_s: float
    select_s: float
    difference: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Examination:
    """All that was found out about the server and the table. ``encryption`` is the sslmode in use, "" without TLS."""

    place: str
    dialect: Dialect
    encryption: str
    traps: tuple[Trap, ...]


def examine(source: PostgresSource) -> Examination:
    """Connect, probe, look at the table's definition. Raises what a read would, but for a trap: that is reported."""
    session = source.session
    dialect = session.dialect
    traps = (*server_traps(dialect), *table_traps(session, source.table))
    return Examination(place=session.place, dialect=dialect, encryption=session.encryption, traps=traps)


def compare(source: PostgresSource, symbol: str, start_ns: int, stop_ns: int, *, at_ns: int | None = None) -> Window:
    """Read one minute as ``source`` does and again as plain rows through psycopg, and compare every bit.

    The minute begins at ``at_ns``, or with the first row in [start_ns, stop_ns). Raises what a read raises.
    """
    first_ns = at_ns if at_ns is not None else _first(source, symbol, start_ns, stop_ns)
    if first_ns is None:
        return Window(symbol=symbol, start_ns=start_ns, stop_ns=stop_ns, n_rows=0, source_s=0.0, select_s=0.0,
                      difference="")  # fmt: skip
    window = (first_ns, first_ns + WINDOW_NS)
    rows, source_s = _timed(lambda: source.read(symbol, *window))
    again, select_s = _timed(lambda: _select(source, symbol, *window))
    return Window(
        symbol=symbol,
        start_ns=window[0],
        stop_ns=window[1],
        n_rows=rows.n_rows,
        source_s=source_s,
        select_s=select_s,
        difference=difference(rows, again),
    )


def difference(a: DepthRows, b: DepthRows) -> str:
    """What differs between two reads, rows in any order and numbers bit by bit (NaN is NaN); "" if nothing does."""
    if a.n_rows != b.n_rows:
        return f"{a.n_rows} rows by the source's path, {b.n_rows} by SELECT"
    left, right = _columns(a), _columns(b)
    if left.keys() != right.keys():
        return f"columns {', '.join(left)} against {', '.join(right)}"
    order_a, order_b = np.lexsort(tuple(left.values())), np.lexsort(tuple(right.values()))
    for name in left:
        wrong = np.flatnonzero(left[name][order_a] != right[name][order_b])
        if wrong.size:
            return f"{name} differs in {wrong.size} of {a.n_rows} rows"
    return ""


def _columns(rows: DepthRows) -> dict[str, Any]:
    """Integer arrays that are equal exactly when the values are; the time is the last key, so sorts first."""
    found: dict[str, Any] = {}
    for i, column in enumerate(rows.columns):
        found[f"number {i + 1}"] = np.where(np.isnan(column), np.nan, column).view(np.int64)
    optional = {"sequence": rows.sequence_N, "batch": rows.batch_N, "side": rows.side_N}
    found |= {name: column for name, column in optional.items() if column is not None}
    return found | {"level": rows.level_N, "ts": rows.ts_ns_N}


def _timed(work: Callable[[], DepthRows]) -> tuple[DepthRows, float]:
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def _first(source: PostgresSource, symbol: str, start_ns: int, stop_ns: int) -> int | None:
    session, table = source.session, source.table
    query = table.first(source.name_of(symbol), start_ns, stop_ns).as_bytes(session.connection())
    ((value,),) = _rows(source, query, f"table {table.label}, {symbol}")
    return None if value is None else _ns(value, table)


def _rows(source: PostgresSource, query: bytes, where: str) -> list[tuple[Any, ...]]:
    try:
        return source.session.rows(query, binary=source.session.dialect.chunked)
    except ServerError as error:
        fault: BmlError = source.session.explain(error, where)
        raise fault from None


def _select(source: PostgresSource, symbol: str, start_ns: int, stop_ns: int) -> DepthRows:
    """The rows as psycopg loads them, Python value by Python value: no code in common with the compiled decoder."""
    session, table = source.session, source.table
    fields = table.probe(session)
    query = table.select(fields, source.name_of(symbol), start_ns, stop_ns).as_bytes(session.connection())
    found = _rows(source, query, f"table {table.label}, {symbol}")
    columns = {field.name: [row[i] for row in found] for i, field in enumerate(fields)}
    made = {field.name: _loaded(columns[field.name], field, table) for field in fields}
    rows = DepthRows(
        symbol=symbol,
        start_ns=start_ns,
        stop_ns=stop_ns,
        ts_ns_N=made["ts"],
        level_N=made.get("level", np.zeros(len(found), dtype=np.int32)),
        columns=tuple(made[name] for name in table.columns.number_names),
        side_N=made.get("side"),
        batch_N=made.get("batch"),
        sequence_N=made.get("sequence"),
    )
    return rows if "level" in made else key_by_price(rows, table.depth)


def _loaded(values: Sequence[Any], field: Field, table: DepthTable) -> Any:
    if field.kind == "number":
        column = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
        return column.astype(np.float32).astype(np.float64) if field.wire == "float4" else column
    if field.kind == "time":
        return np.array([_ns(value, table) for value in values], dtype=np.int64)
    if field.kind == "level":
        return np.array([int(value) - table.first_level + 1 for value in values], dtype=np.int32)
    if field.kind == "side":
        trimmed = [value.rstrip(" ") if isinstance(value, str) else value for value in values]
        return np.array([0 if value == table.sides.bid else 1 for value in trimmed], dtype=np.int8)
    counts = [
        -1 if value is None else _moment_ns(value) if isinstance(value, dt.datetime) else value for value in values
    ]
    return np.array(counts, dtype=np.int64)


def _ns(value: Any, table: DepthTable) -> int:
    return _moment_ns(value) if isinstance(value, dt.datetime) else int(value) * NS_PER_UNIT[table.ts_unit or "ns"]


def _moment_ns(moment: dt.datetime) -> int:
    """A time without zone is UTC."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=dt.UTC)
    return (aware - _EPOCH) // dt.timedelta(microseconds=1) * 1000


def told(window: Window) -> str:
    """One line about a window."""
    if window.n_rows == 0:
        return f"{window.symbol}: no rows in [{iso(window.start_ns)}, {iso(window.stop_ns)})"
    place = f"{window.symbol}, one minute from {iso(window.start_ns)}: {window.n_rows} rows"
    times = f"source {window.source_s:.3f} s, SELECT {window.select_s:.3f} s"
    return f"{place}, {times}, " + (f"DIFFERENT: {window.difference}" if window.difference else "every bit equal")
