"""Order-book rows from parquet and CSV files: tall tables (:func:`depth_rows`) and wide ones (:func:`wide_rows`).

Formats of known vendors have sources of their own: :mod:`bml.sources.vendors`; the formats, with examples, are in
docs/files.md. Row order is arrival order (``ordered``): files are read in the order of their names, rows as they
stand.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from bml.registry import source
from bml.sources.frames import Field, FrameSpec, Kind
from bml.sources.layout import (
    Columns,
    Layout,
    OneSymbol,
    TsUnit,
    check_numbers,
    resolve_columns,
    resolve_sides,
)
from bml.sources.paths import PathPattern
from bml.sources.plain import CsvForm
from bml.sources.scan import Frames
from bml.sources.tall import TallSource
from bml.sources.wide import WideColumns, WideSource
from bml.types import ConfigError


@source
def depth_rows(
    *,
    path: str,
    layout: Layout = "paired",
    columns: dict[str, str | None] | None = None,
    side_values: dict[str, str | int | bool] | None = None,
    symbols: dict[str, str] | None = None,
    ts_unit: TsUnit | None = None,
    ts_format: str | None = None,
    time_zone: str | None = None,
    first_level: Literal[0, 1] = 1,
    depth: int | None = None,
    thousands: Literal[",", " ", "'", "_"] | None = None,
    delimiter: str = ",",
    comment: str | None = None,
    partitions: dict[str, str] | None = None,
    scratch_gb: float = 20.0,
    data: Any = None,
) -> TallSource:
    """Open tall files: .parquet, .csv, .csv.gz, or .zip with one .csv inside.

    path: a file, a folder or a glob, here or on an object store (s3://bucket/...); may hold {symbol}, as the
    configuration calls it, and {date} or {date:%Y%m%d} (UTC dates of the read, and with a ``time_zone`` the days beside
    them). A * beside {symbol} stands for text
    that does not go on with a letter or digit. Below a folder of partitions (symbol=BTCUSDT/dt=2024-01-31/) only
    those of the symbol and time are looked into; a partition's key is a column.
    partitions: which value of a key that is neither symbol nor date, e.g. {exchange: BINANCE}.
    columns: logical name -> column. paired: ts symbol level bid_px bid_qty ask_px ask_qty; sided: ts symbol side
    level px qty; price_pair: ts symbol px bid_qty ask_qty; each [batch sequence]. A name left out is called as it
    is here; batch and sequence are read only when named. ``symbol: null``: a file holds one symbol, so
    a file that {symbol} filled with another configured symbol matches too is refused.
    ``level: null`` (sided) and price_pair: levels are ranked by price. A quantity of 0, or in price_pair an empty
    one, is no level; equal prices share a level; broken rows (see book.dataobject.build) rank after all good ones.
    Of several batches at one time the largest is the book, and the others' rows are left out and counted
    (``n_superseded``). Without a batch column, snapshots of equal time merge into one book.
    side_values: what the side column holds, e.g. {bid: B, ask: A}, {bid: false, ask: true}, {bid: 0, ask: 1}.
    symbols: symbol of the configuration -> its name in the files, where they differ.
    Times: timestamps (without zone: ``time_zone``, else UTC), integers (``ts_unit`` since 1970), or text, either
    ISO with an offset, or without one when ``time_zone`` says the zone, or of the form ``ts_format``.
    depth: read levels up to this one only (counted from 1; broken rows ranked by price are read all the same).
    thousands: the character that groups digits in texts such as "8,142.01"; unannounced it is refused.
    delimiter, comment: of CSV files. scratch_gb: limit on temporary files made from CSV ($TMPDIR).

    Empty numbers and texts that are no number become NaN. A wrong time, level or side is a DataError, and so is
    a missing file or column. Cost: parquet reads the row groups of the asked time; CSV is parsed once a source.
    """
    check_numbers(first_level=first_level, depth=depth)
    resolved = resolve_columns(layout, columns)
    spec = FrameSpec(
        fields=_fields(resolved),
        ts_unit=ts_unit,
        ts_format=ts_format,
        time_zone=time_zone,
        sides=resolve_sides(side_values),
        first_level=first_level,
        thousands=thousands,
    )
    pattern = PathPattern(path, symbol_key=resolved.symbol, partitions=partitions, margin_days=_margin_days(time_zone))
    return TallSource(
        Frames(pattern, spec, CsvForm(delimiter=delimiter, comment=comment), scratch_gb),
        resolved,
        depth=depth,
        symbols=symbols or {},
        guard=_guard(pattern, resolved.symbol, data),
        others=() if resolved.symbol else getattr(data, "symbols", ()),
    )


@source
def wide_rows(
    *,
    path: str,
    timestamp: str,
    levels: int,
    bid_px: str = "bid_px_{k}",
    bid_qty: str = "bid_qty_{k}",
    ask_px: str = "ask_px_{k}",
    ask_qty: str = "ask_qty_{k}",
    first: Literal[0, 1] = 1,
    symbol: str | None = None,
    sequence: str | None = None,
    symbols: dict[str, str] | None = None,
    ts_unit: TsUnit | None = None,
    ts_format: str | None = None,
    time_zone: str | None = None,
    thousands: Literal[",", " ", "'", "_"] | None = None,
    delimiter: str = ",",
    comment: str | None = None,
    header: list[str] | None = None,
    price_scale: float = 1.0,
    absent_px: list[float] | None = None,
    last_of_time: bool = False,
    partitions: dict[str, str] | None = None,
    scratch_gb: float = 20.0,
    data: Any = None,
) -> WideSource:
    """Open wide files, one row a snapshot and a numbered column per level, as paired rows.

    timestamp, symbol (None: a file holds one symbol), sequence: column names. bid_px, bid_qty, ask_px, ask_qty:
    column names in which {k} stands for the level's number, ``first`` (0 or 1) for the best one; ``levels`` of
    them are read. One level may have names without {k}.
    header: the columns of CSV files without a line of names, in order; names with {k} are repeated for every level
    there is. price_scale: prices are divided by it (10000 where 5853300 means 585.33). absent_px: prices, as they
    stand in the file, that say "no such level", e.g. [9999999999, -9999999999].
    last_of_time: of several snapshots of one time only the last is the book; the others' rows are counted as
    superseded. Else they are duplicates: see book.dataobject.build.
    Everything else as in :func:`depth_rows`. A read of T snapshots gives T * levels rows.
    """
    if levels < 1:
        raise ConfigError(f"levels: {levels}: at least 1")
    check_numbers(first_level=first, depth=None)
    wide = WideColumns.resolve(
        {"bid_px": bid_px, "bid_qty": bid_qty, "ask_px": ask_px, "ask_qty": ask_qty},
        first=first,
        levels=levels,
        price_scale=price_scale,
        absent_px=absent_px or (),
    )
    fields = [Field(name="ts", kind="time", column=timestamp)]
    if symbol is not None:
        fields.append(Field(name="symbol", kind="text", column=symbol))
    if sequence is not None:
        fields.append(Field(name="sequence", kind="count", column=sequence))
    spec = FrameSpec(
        fields=(*fields, *wide.fields()),
        ts_unit=ts_unit,
        ts_format=ts_format,
        time_zone=time_zone,
        thousands=thousands,
    )
    pattern = PathPattern(path, symbol_key=symbol, partitions=partitions, margin_days=_margin_days(time_zone))
    names = None if header is None else tuple(header)
    form = CsvForm(delimiter=delimiter, comment=comment, header=names, first_level=first)
    return WideSource(
        Frames(pattern, spec, form, scratch_gb),
        wide,
        has_symbol=symbol is not None,
        has_sequence=sequence is not None,
        symbols=symbols or {},
        guard=_guard(pattern, symbol, data),
        others=() if symbol else getattr(data, "symbols", ()),
        last_of_time=last_of_time,
    )


def _fields(c: Columns) -> tuple[Field, ...]:
    keys: Iterable[tuple[str, Kind, str | None]] = (
        ("ts", "time", c.ts),
        ("symbol", "text", c.symbol),
        ("level", "level", c.level),
        ("side", "side", c.side),
        ("batch", "count", c.batch),
        ("sequence", "count", c.sequence),
    )
    fields = [Field(name=name, kind=kind, column=column) for name, kind, column in keys if column is not None]
    numbers = zip(c.number_names, c.numbers, strict=True)
    return (*fields, *(Field(name=name, kind="number", column=column) for name, column in numbers))


def _margin_days(time_zone: str | None) -> int:
    """Files with times of a zone may be named by its days, which are not UTC's."""
    return 0 if time_zone in (None, "UTC") else 1


def _guard(pattern: PathPattern, symbol_column: str | None, data: Any) -> OneSymbol | None:
    if symbol_column is not None or pattern.has_symbol:
        return None
    return OneSymbol(f"path {pattern.path!r}", getattr(data, "symbols", ()))
