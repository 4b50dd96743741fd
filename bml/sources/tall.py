"""Tall files (one row a level, or a side of a level) as depth rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import numpy as np
import polars as pl

from bml.sources.layout import Columns, OneSymbol
from bml.sources.levels import key_by_price
from bml.sources.scan import Frames
from bml.types import DepthRows, Float64


class TallSource:
    """See :func:`bml.sources.files.depth_rows`."""

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
