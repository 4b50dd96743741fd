"""Order-book rows from parquet and CSV files: tall tables (:func:`depth_rows`) and wide ones (:func:`wide_rows`).

Row order is arrival order (``ordered``): files are read in the order of their names, rows as they stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import polars as pl

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
from bml.sources.levels import key_by_price
from bml.sources.paths import PathPattern
from bml.sources.scan import CsvForm, Frames
from bml.sources.wide import WideColumns, WideSource
from bml.types import ConfigError, DepthRows, Float64


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
    scratch_gb: float = 20.0,
    data: Any = None,
) -> TallSource:
    """Open tall files: .parquet, .csv, .csv.gz, or .zip with one .csv inside.

    path: a file, a folder or a glob; may hold {symbol}, as the configuration calls it, and {date} or {date:%Y%m%d}
    (UTC dates of the read). A * beside {symbol} stands for text that does not go on with a letter or digit.
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
    pattern = PathPattern(path)
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
    scratch_gb: float = 20.0,
    data: Any = None,
) -> WideSource:
    """Open wide files, one row a snapshot and a numbered column per level, as paired rows.

    timestamp, symbol (None: a file holds one symbol), sequence: column names. bid_px, bid_qty, ask_px, ask_qty:
    column names in which {k} stands for the level's number, ``first`` (0 or 1) for the best one; ``levels`` of
    them are read. Everything else as in :func:`depth_rows`. A read of T snapshots gives T * levels rows.
    """
    if levels < 1:
        raise ConfigError(f"levels: {levels}: at least 1")
    check_numbers(first_level=first, depth=None)
    wide = WideColumns.resolve(
        {"bid_px": bid_px, "bid_qty": bid_qty, "ask_px": ask_px, "ask_qty": ask_qty}, first=first, levels=levels
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
    pattern = PathPattern(path)
    return WideSource(
        Frames(pattern, spec, CsvForm(delimiter=delimiter, comment=comment), scratch_gb),
        wide,
        has_symbol=symbol is not None,
        has_sequence=sequence is not None,
        symbols=symbols or {},
        guard=_guard(pattern, symbol, data),
        others=() if symbol else getattr(data, "symbols", ()),
    )


class TallSource:
    """See :func:`depth_rows`."""

    def __init__(
        self,
        frames: Frames,
        columns: Columns,
        *,
        depth: int | None,
        symbols: Mapping[str, str],
        guard: OneSymbol | None,
        others: Sequence[str],
    ) -> None:
        self._frames = frames
        self._columns = columns
        self._depth = depth
        self._symbols = symbols
        self._guard = guard
        self._others = others

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._frames.close()

    def describe(self) -> dict[str, str | int | float]:
        """The path as configured and the layout."""
        return {"kind": "files", "path": self._frames.pattern.path, "layout": self._columns.layout}

    def read(self, symbol: str, start_ns: int, stop_ns: int) -> DepthRows:
        """Rows with ``start_ns <= ts < stop_ns`` in the order of the files."""
        if self._guard is not None:
            self._guard.check(symbol)
        c = self._columns
        keep = []
        if c.level is not None and self._depth is not None:
            keep.append((pl.col("level") <= self._depth) | pl.col("level").is_null())  # null: wrong, to be refused
        if c.layout == "sided" and c.level is None and c.batch is None:
            keep.append((pl.col("qty") != 0) | pl.col("qty").is_null())
        name = self._symbols.get(symbol, symbol)
        frame = self._frames.read(symbol, name if c.symbol else None, start_ns, stop_ns, keep, self._others)
        if c.layout == "price_pair":
            frame = _one_row_a_side(frame)
        rows = self._depth_rows(frame, symbol, start_ns, stop_ns)
        return rows if c.level is not None else key_by_price(rows, self._depth)

    def _depth_rows(self, frame: pl.DataFrame, symbol: str, start_ns: int, stop_ns: int) -> DepthRows:
        c = self._columns
        names = ("px", "qty") if c.layout == "price_pair" else c.number_names
        numbers: tuple[Float64, ...] = tuple(
            frame[name].fill_null(float("nan")).to_numpy(writable=True) for name in names
        )
        if c.level is None:
            level_N = np.zeros(frame.height, dtype=np.int32)
        else:
            level_N = frame["level"].cast(pl.Int32).to_numpy(writable=True)
        return DepthRows(
            symbol=symbol,
            start_ns=start_ns,
            stop_ns=stop_ns,
            ts_ns_N=frame["ts"].to_numpy(writable=True),
            level_N=level_N,
            columns=numbers,
            side_N=None if c.layout == "paired" else frame["side"].to_numpy(writable=True),
            batch_N=frame["batch"].fill_null(-1).to_numpy(writable=True) if c.batch else None,
            sequence_N=frame["sequence"].fill_null(-1).to_numpy(writable=True) if c.sequence else None,
            ordered=True,
            query=f"files {self._frames.pattern.path} ({c.layout})",
        )


def _one_row_a_side(frame: pl.DataFrame) -> pl.DataFrame:
    """price_pair rows to sided rows; an empty quantity becomes 0, which is no level."""
    n = frame.height
    source_row_N = np.repeat(np.arange(n), 2)  # both sides of a row stay together, so the order of rows is kept
    quantity = pl.concat([frame["bid_qty"], frame["ask_qty"]]).fill_null(0.0)
    interleaved = quantity.gather(np.arange(2 * n).reshape(2, n).T.ravel())
    side = pl.Series("side", np.tile(np.array([0, 1], dtype=np.int8), n))
    return frame.drop("bid_qty", "ask_qty")[source_row_N].with_columns(interleaved.alias("qty"), side)


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


def _guard(pattern: PathPattern, symbol_column: str | None, data: Any) -> OneSymbol | None:
    if symbol_column is not None or pattern.has_symbol:
        return None
    return OneSymbol(f"path {pattern.path!r}", getattr(data, "symbols", ()))
