"""Columns of a file, as found, into the columns a source works with: polars expressions and their checks.

The result's columns carry logical names: ``ts`` int64 ns UTC, numbers float64 (null where empty, NaN where the
text is no number), ``level`` int64 from 1, ``side`` int8 (0 bid, 1 ask), counters int64.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import polars as pl

from bml.sources import nobook
from bml.sources.layout import NS_PER_UNIT, SideValues, TsUnit, did_you_mean
from bml.types import ConfigError, DataError

Kind = Literal["time", "level", "side", "number", "count", "text"]
Schema = Mapping[str, pl.DataType]

_THOUSANDS = r"^\s*[+-]?\d{1,3}(,\d{3})+(\.\d*)?\s*$"
#: 2000 to 2100, in seconds: in two units one count is never both within
_PLAUSIBLE_S = (946_684_800, 4_102_444_800)
_TEXTS = (pl.String, pl.Categorical, pl.Enum)


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One column that is read: its logical name, what it is, its name in the file; ``absent`` numbers are none."""

    name: str
    kind: Kind
    column: str
    absent: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameSpec:
    """What is read from every file of a source, and how."""

    fields: tuple[Field, ...]
    ts_unit: TsUnit | None = None
    ts_format: str | None = None
    time_zone: str | None = None
    sides: SideValues | None = None
    first_level: int = 1
    thousands: str | None = None

    def __post_init__(self) -> None:
        has_offset = self.ts_format is not None and re.search(r"%[:#]*[zZ+]", self.ts_format) is not None
        if self.ts_format is not None and self.ts_unit is not None:
            raise ConfigError("ts_format is for text and ts_unit for integers: give one of them")
        if self.ts_format is not None and has_offset == (self.time_zone is not None):
            told = (
                "has an offset, so leave time_zone out" if has_offset else "has no offset: say the zone with time_zone"
            )
            raise ConfigError(f"ts_format: {self.ts_format!r} {told}")
        if self.time_zone is not None and self.time_zone not in zoneinfo.available_timezones():
            raise ConfigError(f"time_zone: {self.time_zone!r} is not a zone such as UTC or Europe/London")

    def check(self, schema: Schema, where: str) -> None:
        """DataError for what is no order book, and for a column that is missing or of the wrong type."""
        told = nobook.never(schema)
        if told is not None:
            raise DataError(f"{where} {told}")
        for field in self.fields:
            if field.column not in schema and not all(name.isprintable() for name in schema):
                raise DataError(f"{where}: its first line is no list of column names: not a text file?")
            if field.column not in schema:
                told = nobook.instead(schema)
                hint = did_you_mean(field.column, schema) if told is None else f"; it {told}"
                raise DataError(f"{where} has no column {field.column!r} (for {field.name}){hint}")
            dtype = schema[field.column]
            problem = self._problem(field, dtype)
            if problem:
                raise DataError(f"{where}: column {field.column!r} is {dtype}, but {field.name} {problem}")

    def _problem(self, field: Field, dtype: pl.DataType) -> str:
        if field.kind == "text":
            return "" if isinstance(dtype, _TEXTS) or dtype.is_integer() else "must be text"
        if field.kind == "side":
            return self._side_problem(dtype)
        if field.kind == "time":
            return self._time_problem(dtype)
        if isinstance(dtype, pl.String):
            return ""
        if field.kind == "number":
            return "" if dtype.is_numeric() else "must be a number"
        return "" if dtype.is_integer() else "must be an integer"

    def _side_problem(self, dtype: pl.DataType) -> str:
        assert self.sides is not None
        bid = self.sides.bid
        if isinstance(dtype, _TEXTS):
            return ""
        if isinstance(bid, str) or isinstance(bid, bool) != isinstance(dtype, pl.Boolean):
            return f"is told apart by values such as {bid!r}: set side_values, e.g. {{bid: {_example(dtype)}}}"
        return "" if dtype.is_integer() or isinstance(dtype, pl.Boolean) else "must be text, integer or boolean"

    def _time_problem(self, dtype: pl.DataType) -> str:
        if isinstance(dtype, pl.Datetime):
            if self.ts_unit or self.ts_format:
                return "needs neither ts_unit nor ts_format then: leave them out"
            return "has its own zone then: leave time_zone out" if dtype.time_zone and self.time_zone else ""
        if dtype.is_integer():
            return "" if self.ts_unit else "needs to know what it counts since 1970: set ts_unit to s, ms, us or ns"
        return "" if isinstance(dtype, pl.String) else "must be a timestamp, an integer (with ts_unit) or ISO text"

    def is_text(self, field: Field, dtype: pl.DataType) -> bool:
        """Whether text must be parsed to get this column."""
        return isinstance(dtype, pl.String) and field.kind in ("time", "level", "number", "count")

    def expressions(self, schema: Schema) -> list[pl.Expr]:
        """One expression a field, named by its logical name."""
        return [self.expression(field, schema[field.column]).alias(field.name) for field in self.fields]

    def expression(self, field: Field, dtype: pl.DataType) -> pl.Expr:
        """The column as described at the top of this module; null where a time, level or side is wrong."""
        column = pl.col(field.column)
        if field.kind == "time":
            return self._time(column, dtype)
        if field.kind == "side":
            return self._side(column, dtype)
        if field.kind == "text":
            return column.cast(pl.String)
        if field.kind == "number":
            number = number_text(column, self.thousands) if isinstance(dtype, pl.String) else column.cast(pl.Float64)
            if field.absent:
                number = pl.when(~number.is_in(list(field.absent))).then(number)
            return number
        text = column.str.strip_chars() if isinstance(dtype, pl.String) else column
        value = text.cast(pl.Int64, strict=False)
        if field.kind == "count":
            return value
        value = value - (self.first_level - 1)
        return pl.when((value >= 1) & (value < 2**31)).then(value)

    def _time(self, column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
        if isinstance(dtype, pl.Datetime):
            aware = column
            if dtype.time_zone is None and self.time_zone not in (None, "UTC"):
                aware = column.dt.replace_time_zone(self.time_zone).dt.convert_time_zone("UTC")
            return _scaled(aware.cast(pl.Int64), NS_PER_UNIT[dtype.time_unit])
        if self.ts_unit is not None:
            scale = NS_PER_UNIT[self.ts_unit]
            text = column.str.strip_chars() if isinstance(dtype, pl.String) else column
            return _scaled(text.cast(pl.Int64, strict=False), scale)
        if self.ts_format is not None:
            return self._parsed(column.str.strip_chars(), self.ts_format)
        return self._parsed(_iso_text(column), "%Y-%m-%d %H:%M:%S%.f" + ("" if self.time_zone else "%:z"))

    def _parsed(self, text: pl.Expr, form: str) -> pl.Expr:
        moment = text.str.to_datetime(form, time_unit="ns", strict=False)
        coarse = text.str.to_datetime(form, time_unit="ms", strict=False)  # years int64 ns cannot hold wrap around
        moment = pl.when(_scaled(coarse.cast(pl.Int64), 1_000_000).is_not_null()).then(moment)
        if self.time_zone is not None:
            moment = moment.dt.replace_time_zone(self.time_zone).dt.convert_time_zone("UTC")
        return moment.cast(pl.Int64)

    def _side(self, column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
        assert self.sides is not None
        bid, ask = self.sides.bid, self.sides.ask
        if isinstance(dtype, _TEXTS):
            column = column.cast(pl.String)
            if isinstance(bid, bool):
                column = column.str.to_lowercase()
            bid, ask = (str(x).lower() if isinstance(x, bool) else str(x) for x in (bid, ask))
        zero, one = pl.lit(0, dtype=pl.Int8), pl.lit(1, dtype=pl.Int8)
        return pl.when(column == pl.lit(bid)).then(zero).when(column == pl.lit(ask)).then(one)

    def in_range(self, field: Field, dtype: pl.DataType, start_ns: int, stop_ns: int) -> pl.Expr:
        """``start_ns <= ts < stop_ns``, or null; on the raw column where it can be, so that files skip row groups."""
        raw = pl.col(field.column)
        if isinstance(dtype, pl.Datetime) and (dtype.time_zone is not None or self.time_zone in (None, "UTC")):
            scale = NS_PER_UNIT[dtype.time_unit]
            start, stop = (pl.lit(-(-ns // scale)).cast(dtype) for ns in (start_ns, stop_ns))
        elif dtype.is_integer() and self.ts_unit is not None:
            scale = NS_PER_UNIT[self.ts_unit]
            start, stop = (pl.lit(-(-ns // scale)) for ns in (start_ns, stop_ns))
        else:
            raw = self._time(raw, dtype)
            start, stop = pl.lit(start_ns), pl.lit(stop_ns)
        return ((raw >= start) & (raw < stop)) | raw.is_null()

    def refuse_unit(self, first: int | None, last: int | None, dtype: pl.DataType, where: str) -> None:
        """DataError when integer times from ``first`` to ``last`` can only be meant in another unit than theirs.

        A day is then in this century in that other unit, and in no year that has an exchange in the given one.
        """
        if self.ts_unit is None or (not dtype.is_integer() and not isinstance(dtype, pl.String)):
            return
        for count in (first, last):
            if count is None or _is_plausible(count, self.ts_unit):
                continue
            meant = [unit for unit in NS_PER_UNIT if _is_plausible(count, unit)]
            if meant:
                column = self.fields[0].column
                raise DataError(
                    f"{where}: column {column!r} holds {count}, which counts {meant[0]} since 1970, not {self.ts_unit}"
                )

    def refuse_null(self, frame: pl.DataFrame, raw: pl.LazyFrame, schema: Schema, where: str) -> None:
        """DataError, with an example from ``raw``, when a time, level or side of ``frame`` came out null."""
        for field in self.fields:
            if field.kind not in ("time", "level", "side") or not frame[field.name].null_count():
                continue
            wrong = self.expression(field, schema[field.column]).is_null()
            example = raw.with_row_index("row").filter(wrong).select("row", field.column).head(1).collect()
            row, value = example.row(0) if example.height else ("?", None)
            shown = "empty" if value is None else repr(value)
            raise DataError(f"{where}: row {row}: {field.column!r} is {shown}, {self._expected(field)}")

    def _expected(self, field: Field) -> str:
        if field.kind == "level":
            return f"but levels are whole numbers from {self.first_level} (first_level)"
        if field.kind == "side":
            assert self.sides is not None
            return f"neither {self.sides.bid!r} (bid) nor {self.sides.ask!r} (ask): see side_values"
        if self.ts_unit is not None:
            return f"not a count of {self.ts_unit} since 1970"
        if self.ts_format is not None:
            return f"not a time of the form {self.ts_format!r}"
        return "not an ISO time " + ("without offset" if self.time_zone else "with an offset (else set time_zone)")


def _scaled(count: pl.Expr, scale: int) -> pl.Expr:
    """``count * scale``; null where int64 cannot hold it."""
    limit = (2**63 - 1) // scale
    return count * scale if scale == 1 else pl.when(count.is_between(-limit, limit)).then(count * scale)


def _is_plausible(count: int, unit: str) -> bool:
    return _PLAUSIBLE_S[0] <= count * NS_PER_UNIT[unit] // 10**9 < _PLAUSIBLE_S[1]


def number_text(column: pl.Expr, thousands: str | None) -> pl.Expr:
    """Text to float64: null where empty, NaN where it is no number."""
    text = column.str.strip_chars()
    if thousands:
        text = text.str.replace_all(thousands, "", literal=True)
    value = text.cast(pl.Float64, strict=False)
    return pl.when(text.is_null() | (text == "")).then(None).otherwise(value.fill_null(float("nan")))


def refuse_wrong_text(spec: FrameSpec, raw: pl.LazyFrame, schema: Schema, where: str) -> None:
    """DataError for a number column with thousands commas nobody announced, or in which nothing is a number."""
    fields = [f for f in spec.fields if f.kind == "number" and spec.is_text(f, schema[f.column])]
    if not fields:
        return
    checks: list[pl.Expr] = []
    for i, field in enumerate(fields):
        column = pl.col(field.column)
        text = column.str.replace_all(spec.thousands, "", literal=True) if spec.thousands else column
        filled = column.str.strip_chars() != ""
        parsed = text.str.strip_chars().cast(pl.Float64, strict=False).is_not_null()
        grouped = column.filter(column.str.contains(_THOUSANDS)).first() if not spec.thousands else pl.lit(None)
        checks += [
            grouped.alias(f"grouped{i}"),
            (filled.any() & ~(filled & parsed).any()).alias(f"hopeless{i}"),
            column.filter(filled).first().alias(f"example{i}"),
        ]
    found = raw.select(checks).collect().row(0, named=True)
    for i, field in enumerate(fields):
        if found[f"grouped{i}"] is not None:
            raise DataError(
                f"{where}: column {field.column!r} groups digits, as in {found[f'grouped{i}']!r}: set thousands: ','"
            )
        if found[f"hopeless{i}"]:
            raise DataError(f"{where}: column {field.column!r} holds {found[f'example{i}']!r}, not numbers")


def _iso_text(column: pl.Expr) -> pl.Expr:
    """ISO text in one spelling: a space before the time, an offset of the form +00:00."""
    return (
        column.str.strip_chars()
        .str.replace("T", " ", literal=True)
        .str.replace(r"[Zz]$", "+00:00")
        .str.replace(r"(:\d\d(?:\.\d+)?) *([+-]\d\d)(\d\d)?$", "${1}${2}:${3}")
        .str.replace(r"([+-]\d\d):$", "${1}:00")
    )


def _example(dtype: pl.DataType) -> str:
    return "false, ask: true" if isinstance(dtype, pl.Boolean) else "0, ask: 1"
