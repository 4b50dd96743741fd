"""Order-book rows from PostgreSQL, TimescaleDB or GreptimeDB (>= 1.0) by binary COPY.

One ``COPY (SELECT ...) TO STDOUT (FORMAT BINARY)`` a read, decoded by compiled code as it arrives. Rows have no
order. On GreptimeDB a SET of default_transaction_read_only does nothing, so it is skipped there: use an account
with the right to read only.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, Self, cast

import numpy as np
import numpy.typing as npt

from bml.registry import source
from bml.sources._copy_rows import CopyRows
from bml.sources.layout import NS_PER_UNIT, OneSymbol, TsUnit, check_numbers, resolve_columns, resolve_sides
from bml.sources.levels import key_by_price
from bml.sources.pgcopy import Transport
from bml.sources.pgquery import DepthTable, Field, iso
from bml.sources.pgsession import ServerError, Session
from bml.types import ConfigError, DepthRows, Float64, Int32, Int64, SourceError


@source
def depth_rows(
    *,
    dsn: str,
    table: str,
    schema: str | None = "public",
    layout: Literal["paired", "sided"] = "paired",
    columns: dict[str, str | None] | None = None,
    side_values: dict[str, str | int | bool] | None = None,
    symbols: dict[str, str] | None = None,
    ts_unit: TsUnit | None = None,
    first_level: Literal[0, 1] = 1,
    depth: int | None = None,
    statement_timeout_s: float = 600.0,
    connect_timeout_s: float = 10.0,
    max_rows: int = 200_000_000,
    insecure: bool = False,
    data: Any = None,
) -> PostgresSource:
    """Open a tall depth table; connects on first use.

    dsn: libpq connection string or URI, written ``${BML_DSN}`` in the YAML; "" takes libpq's own environment.
    columns: logical name -> column. paired: ts symbol level bid_px bid_qty ask_px ask_qty [batch sequence];
    sided: ts symbol side level px qty [batch sequence]. A name left out is called as it is here; batch and
    sequence are read only when named. ``symbol: null``: the table holds one symbol. ``level: null`` (sided):
    rows are ranked by price. A quantity of 0 is no level, equal prices share a level, broken rows (see
    book.dataobject.build) rank after all good ones. Of several batches at one time the largest is the book, and the
    others' rows are left out and counted (``n_superseded``). Without a batch column, snapshots of equal time merge.
    side_values: what the side column holds, e.g. {bid: B, ask: A}, {bid: false, ask: true}, {bid: 0, ask: 1}.
    symbols: symbol of the configuration -> its name in the table, where they differ.
    ts_unit: unit of an integer time column since 1970; a ``timestamp`` without zone is UTC.
    first_level: the number of the best level. depth: read levels up to this one only (counted from 1; broken rows
    ranked by price are read all the same). max_rows: a read of more rows is refused.
    insecure: believe another machine without its certificate, and send passwords in clear text.

    NULL is NaN in prices and quantities, -1 in batch and sequence, and refused in a level or side. A row whose time
    or symbol is NULL lies in no time range and belongs to no symbol: SQL never finds it, so it is not read. Numbers
    of type numeric are cast by the server to double precision (numeric levels and counters to bigint).
    Memory: 8 bytes a number and time, 4 a level, 1 a side, up to twice that while columns grow.
    """
    if statement_timeout_s < 0 or connect_timeout_s <= 0 or max_rows < 1:
        raise ConfigError("statement_timeout_s must be >= 0, connect_timeout_s > 0 and max_rows >= 1")
    if layout not in ("paired", "sided"):
        raise ConfigError(f"layout: {layout!r} is neither 'paired' nor 'sided'")
    check_numbers(first_level=first_level, depth=depth)
    if not table:
        raise ConfigError("table: a name is needed")
    resolved = resolve_columns(layout, columns)
    guard = OneSymbol(f"table {table!r}", getattr(data, "symbols", ())) if resolved.symbol is None else None
    return PostgresSource(
        Session(dsn, statement_timeout_s=statement_timeout_s, connect_timeout_s=connect_timeout_s, insecure=insecure),
        DepthTable(
            name=(schema, table) if schema else (table,),
            columns=resolved,
            sides=resolve_sides(side_values),
            ts_unit=ts_unit,
            first_level=first_level,
            depth=depth,
        ),
        symbols=symbols or {},
        max_rows=max_rows,
        guard=guard,
    )


class PostgresSource:
    """See :func:`depth_rows`. One connection, for one thread."""

    def __init__(
        self,
        session: Session,
        table: DepthTable,
        *,
        symbols: Mapping[str, str],
        max_rows: int,
        guard: OneSymbol | None,
    ) -> None:
        self._session = session
        self._transport = Transport(session)
        self._table = table
        self._symbols = symbols
        self._max_rows = max_rows
        self._guard = guard
        self._fields: tuple[Field, ...] | None = None

    @property
    def session(self) -> Session:
        """The connection, opened when first used."""
        return self._session

    @property
    def table(self) -> DepthTable:
        """What is read."""
        return self._table

    def name_of(self, symbol: str) -> str:
        """What the table calls ``symbol``."""
        return self._symbols.get(symbol, symbol)

    def __enter__(self) -> Self:
        self._session.connection()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def describe(self) -> dict[str, str | int | float]:
        """Host, port, database, table, layout, server version ("" before the first connection), reader."""
        session = self._session
        return {
            "kind": "postgres",
            "host": session.host,
            "port": session.port,
            "database": session.database,
            "table": self._table.label,
            "layout": self._table.columns.layout,
            "server": session.server,
            "reader": "libpq" if self._transport.libpq else "psycopg",
        }

    def read(self, symbol: str, start_ns: int, stop_ns: int) -> DepthRows:
        """Rows with ``start_ns <= ts < stop_ns`` (at the server's resolution, microseconds), in no order."""
        if self._guard is not None:
            self._guard.check(symbol)
        session, table = self._session, self._table
        if self._fields is None:
            self._fields = table.probe(session)
        query = table.select(self._fields, self._symbols.get(symbol, symbol), start_ns, stop_ns)
        text = query.as_string(session.connection())
        where = f"table {table.label}, {symbol}"
        decoder = CopyRows(
            [(field.name, field.kind, field.wire) for field in self._fields],
            where=where,
            ns_per_unit=NS_PER_UNIT[table.ts_unit or "ns"],
            first_level=table.first_level,
            bid=_side_value(table.sides.bid),
            ask=_side_value(table.sides.ask),
            max_rows=self._max_rows,
        )
        try:
            expected = self._transport.copy(f"COPY ({text}) TO STDOUT (FORMAT BINARY)".encode(), decoder)
        except ServerError as error:
            raise session.explain(error, where) from None
        found = decoder.finish(expected)
        return self._depth_rows(symbol, start_ns, stop_ns, text, where, found)

    def _depth_rows(
        self, symbol: str, start_ns: int, stop_ns: int, text: str, where: str, found: dict[str, npt.NDArray[np.generic]]
    ) -> DepthRows:
        ts_ns_N = cast(Int64, found["ts"])
        if ts_ns_N.size and (ts_ns_N.min() < start_ns // 1000 * 1000 or ts_ns_N.max() >= stop_ns):
            raise SourceError(
                f"{where}: the server sent rows outside the asked time, such as {iso(int(ts_ns_N.min()))}: "
                "it shifts time zones (GreptimeDB before 1.0 does): upgrade the server"
            )
        level_N = cast("Int32 | None", found.get("level"))
        rows = DepthRows(
            symbol=symbol,
            start_ns=start_ns,
            stop_ns=stop_ns,
            ts_ns_N=ts_ns_N,
            level_N=np.zeros(len(ts_ns_N), dtype=np.int32) if level_N is None else level_N,
            columns=tuple(cast(Float64, found[name]) for name in self._table.columns.number_names),
            side_N=cast("npt.NDArray[np.int8] | None", found.get("side")),
            batch_N=cast("Int64 | None", found.get("batch")),
            sequence_N=cast("Int64 | None", found.get("sequence")),
            query=text,
        )
        return key_by_price(rows, self._table.depth) if level_N is None else rows


def _side_value(value: str | int | bool) -> bytes | int:
    return value.encode() if isinstance(value, str) else int(value)
