"""Wide files (one row a snapshot, numbered columns) as paired rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
import polars as pl

from bml.sources.frames import Field
from bml.sources.layout import OneSymbol
from bml.sources.scan import Frames
from bml.types import FIELDS, ConfigError, DepthRows, Float64


@dataclass(frozen=True, kw_only=True, slots=True)
class WideColumns:
    """The numbered columns: per book field a name with {k}, the number of the best level, how many levels."""

    patterns: dict[str, str]
    first: int
    levels: int
    price_scale: float = 1.0
    absent_px: tuple[float, ...] = ()

    @classmethod
    def resolve(
        cls,
        patterns: dict[str, str],
        *,
        first: int,
        levels: int,
        price_scale: float = 1.0,
        absent_px: Sequence[float] = (),
    ) -> WideColumns:
        """ConfigError for a name without {k} (one level needs none), one that serves twice, or a wrong scale."""
        if not 0 < price_scale < float("inf"):
            raise ConfigError(f"price_scale: {price_scale}: prices are divided by it, so it is above 0")
        for name, pattern in patterns.items():
            if pattern.count("{k}") != 1 and (levels > 1 or "{k}" in pattern):
                raise ConfigError(f"{name}: {pattern!r} must hold {{k}} once, where the level's number stands")
        if len(set(patterns.values())) != len(patterns):
            raise ConfigError(f"two of {', '.join(patterns)} name the same columns")
        return cls(
            patterns=patterns,
            first=first,
            levels=levels,
            price_scale=price_scale,
            absent_px=tuple(map(float, absent_px)),
        )

    def fields(self) -> list[Field]:
        """All numbered columns, field by field."""
        return [
            Field(
                name=f"{name}.{k}",
                kind="number",
                column=pattern.replace("{k}", str(self.first + k)),
                absent=self.absent_px if name.endswith("_px") else (),
            )
            for name, pattern in self.patterns.items()
            for k in range(self.levels)
        ]

    def matrix(self, frame: pl.DataFrame, name: str) -> Float64:
        """(T, L) values of one book field, absent as NaN; so is the quantity of a price that is declared absent."""
        out = np.empty((frame.height, self.levels))
        for k in range(self.levels):
            column = frame[f"{name}.{k}"]
            if self.absent_px and name.endswith("_qty"):
                there = frame[f"{name.removesuffix('_qty')}_px.{k}"].is_not_null()
                column = column.to_frame().select(pl.when(there).then(pl.first())).to_series()
            out[:, k] = column.fill_null(float("nan")).to_numpy()
        if name.endswith("_px") and self.price_scale != 1.0:
            out /= self.price_scale  # here, since polars multiplies by the inverse, which is not the nearest number
        return out


class WideSource:
    """See :func:`bml.sources.files.wide_rows`."""

    def __init__(
        self,
        frames: Frames,
        columns: WideColumns,
        *,
        has_symbol: bool,
        has_sequence: bool,
        symbols: Mapping[str, str],
        guard: OneSymbol | None,
        others: Sequence[str],
        last_of_time: bool = False,
        kind: str = "wide",
    ) -> None:
        self._frames = frames
        self._columns = columns
        self._last_of_time = last_of_time
        self._kind = kind
        self._has_symbol = has_symbol
        self._has_sequence = has_sequence
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
        """The path as configured, the layout and the number of levels."""
        return {
            "kind": "files",
            "path": self._frames.pattern.path,
            "layout": self._kind,
            "levels": self._columns.levels,
        }

    def read(self, symbol: str, start_ns: int, stop_ns: int) -> DepthRows:
        """Snapshots with ``start_ns <= ts < stop_ns`` in the order of the files, one row a level.

        Where only the last snapshot of a time counts, the rows of the others are left out and counted.
        """
        if self._guard is not None:
            self._guard.check(symbol)
        name = self._symbols.get(symbol, symbol) if self._has_symbol else None
        frame = self._frames.read(symbol, name, start_ns, stop_ns, others=self._others)
        superseded_ns_N = None
        if self._last_of_time:
            is_last = pl.col("ts").is_last_distinct()
            superseded_ns_N = np.repeat(frame.filter(~is_last)["ts"].to_numpy(), self._columns.levels)
            frame = frame.filter(is_last)
        levels = self._columns.levels
        sequence_N = None
        if self._has_sequence:
            sequence_N = np.repeat(frame["sequence"].fill_null(-1).to_numpy(), levels)
        return DepthRows(
            symbol=symbol,
            start_ns=start_ns,
            stop_ns=stop_ns,
            ts_ns_N=np.repeat(frame["ts"].to_numpy(), levels),
            level_N=np.tile(np.arange(1, levels + 1, dtype=np.int32), frame.height),
            columns=tuple(self._columns.matrix(frame, field).ravel() for field in FIELDS),
            sequence_N=sequence_N,
            ordered=True,
            query=f"files {self._frames.pattern.path} ({self._kind}, {levels} levels)",
            superseded_ns_N=superseded_ns_N,
        )
