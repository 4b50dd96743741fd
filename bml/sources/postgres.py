"""Order-book rows from PostgreSQL, TimescaleDB or GreptimeDB (>= 1.0) by binary COPY.

One ``COPY (SELECT ...) TO STDOUT (FORMAT BINARY)`` a read, decoded by compiled code as it arrives. Rows have no
order. On GreptimeDB a SET of default_transaction_read_only does nothing, so it is skipped there: use an account
with the right to read only.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, Self, TypedDict, cast

import numpy as np
import numpy.typing as npt

from bml.host import memory_bytes
from bml.registry import same_rows, source
from bml.sources._copy_rows import CopyBook, CopyRows, Decoder
from bml.sources.layout import NS_PER_UNIT, OneSymbol, TsUnit, check_numbers, resolve_columns, resolve_sides
from bml.sources.levels import key_by_price
from bml.sources.pgcopy import Transport
from bml.sources.pgquery import DepthTable, Field, iso
from bml.sources.pgsession import ServerError, Session
from bml.types import ConfigError, DepthBook, DepthRows, Float64, Int32, Int64, SourceError


@source
@same_rows("insecure", "statement_timeout_s", "connect_timeout_s", "max_rows")
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


class Meaning(TypedDict):
    """What every decoder of a table is told; see :class:`bml.sources._copy_rows.CopyRows`."""

    where: str
    ns_per_unit: int
    first_level: int
    bid: bytes | int
    ask: bytes | int
    max_rows: int


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
        self._transport.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def describe(self) -> dict[str, str | int | float]:
        """Host, port, database, table, layout, server version and the way rows come ("" before a connection)."""
        session = self._session
        return {
            "kind": "postgres",
            "host": session.host,
            "port": session.port,
            "database": session.database,
            "table": self._table.label,
            "layout": self._table.columns.layout,
            "server": session.server,
            "reader": self._transport.taken,
        }

    @property
    def reads_book(self) -> bool:
        """Whether :meth:`read_book` can: levels are a column, and no sequence number is asked for."""
        columns = self._table.columns
        return columns.level is not None and columns.sequence is None

    def read(self, symbol: str, start_ns: int, stop_ns: int) -> DepthRows:
        """Rows with ``start_ns <= ts < stop_ns`` (at the server's resolution, microseconds), in no order."""
        decoder = CopyRows(self._wire_fields(symbol), **self._meaning(symbol))
        text, expected = self._fetch(symbol, start_ns, stop_ns, decoder)
        return self._depth_rows(symbol, start_ns, stop_ns, text, self._where(symbol), decoder.finish(expected))

    def read_book(
        self, symbol: str, start_ns: int, stop_ns: int, *, levels: int, duplicates: Literal["error", "first", "last"]
    ) -> DepthBook:
        """The rows of :meth:`read` as the book they come to, placed while they arrive.

        levels, duplicates: as of :func:`bml.book.dataobject.build`; rows that differ are refused here.
        Memory: the book (T, levels, 4) float64 and a bit a cell, in any order of rows; 72 bytes more for every
        surplus row of a table with batches, or by the rule "last".
        """
        decoder = CopyBook(
            self._wire_fields(symbol),
            levels=levels,
            duplicates=duplicates,
            max_bytes=memory_bytes(),
            **self._meaning(symbol),
        )
        text, expected = self._fetch(symbol, start_ns, stop_ns, decoder)
        ts_ns_T, book_TLF, count_T4, n_conflict, void = decoder.finish(expected)
        self._check_time(ts_ns_T[:1], ts_ns_T[-1:], start_ns, stop_ns, self._where(symbol))
        n_rows_T, duplicate_T, deep_T, void_T = (np.ascontiguousarray(column) for column in count_T4.T)
        return DepthBook(
            symbol=symbol,
            start_ns=start_ns,
            stop_ns=stop_ns,
            ts_ns_T=ts_ns_T,
            book_TLF=book_TLF,
            n_rows_T=n_rows_T,
            duplicate_T=duplicate_T,
            deep_T=deep_T,
            void_T=void_T,
            first_void=void,
            n_conflict=n_conflict,
            query=text,
        )

    def estimated_rows(self, symbol: str, start_ns: int, stop_ns: int) -> float | None:
        """The planner's estimate of :meth:`read`, as old as the table's statistics (ANALYZE); None on GreptimeDB."""
        session = self._session
        session.connection()
        if session.is_greptimedb:
            return None
        self._wire_fields(symbol)
        select = self._table.select(self._fields or (), self.name_of(symbol), start_ns, stop_ns)
        query = b"EXPLAIN (FORMAT JSON) " + select.as_bytes(session.connection())
        try:
            ((told,),) = session.rows(query)
        except ServerError as error:
            raise session.explain(error, self._where(symbol)) from None
        return float(told[0]["Plan"]["Plan Rows"])

    def _where(self, symbol: str) -> str:
        return f"table {self._table.label}, {symbol}"

    def _wire_fields(self, symbol: str) -> list[tuple[str, str, str]]:
        """What the columns are: asked of the server once."""
        if self._guard is not None:
            self._guard.check(symbol)
        if self._fields is None:
            self._fields = self._table.probe(self._session)
        return [(field.name, field.kind, field.wire) for field in self._fields]

    def _meaning(self, symbol: str) -> Meaning:
        table = self._table
        return {
            "where": self._where(symbol),
            "ns_per_unit": NS_PER_UNIT[table.ts_unit or "ns"],
            "first_level": table.first_level,
            "bid": _side_value(table.sides.bid),
            "ask": _side_value(table.sides.ask),
            "max_rows": self._max_rows,
        }

    def _fetch(self, symbol: str, start_ns: int, stop_ns: int, decoder: Decoder) -> tuple[str, int | None]:
        """Rows into ``decoder``; the query over the whole time, and how many rows the server says there are."""
        fields, session = self._fields or (), self._session

        def select(start: int, stop: int) -> str:
            query = self._table.select(fields, self._symbols.get(symbol, symbol), start, stop)
            return query.as_string(session.connection())

        try:
            expected = self._transport.fetch(select, start_ns, stop_ns, decoder)
        except ServerError as error:
            raise session.explain(error, self._where(symbol)) from None
        return select(start_ns, stop_ns), expected

    @staticmethod
    def _check_time(least: Int64, most: Int64, start_ns: int, stop_ns: int, where: str) -> None:
        """Of the first and last time found, if any."""
        if least.size and (least[0] < start_ns // 1000 * 1000 or most[0] >= stop_ns):
            raise SourceError(
                f"{where}: the server sent rows outside the asked time, such as {iso(int(least[0]))}: "
                "it shifts time zones (GreptimeDB before 1.0 does): upgrade the server"
            )

    def _depth_rows(
        self, symbol: str, start_ns: int, stop_ns: int, text: str, where: str, found: dict[str, npt.NDArray[np.generic]]
    ) -> DepthRows:
        ts_ns_N = cast(Int64, found["ts"])
        if ts_ns_N.size:
            self._check_time(ts_ns_N.min(keepdims=True), ts_ns_N.max(keepdims=True), start_ns, stop_ns, where)
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
