"""Parquet files of an object store: the footer and, of the row groups that can hold the rows, the needed columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

import polars as pl

from bml.registry import missing_extra
from bml.sources.layout import NS_PER_UNIT
from bml.types import NS_PER_DAY, DataError

if TYPE_CHECKING:
    from bml.sources.frames import Field, FrameSpec


class RowGroups:
    """An open file: ``schema`` is known from the footer, rows are fetched by :meth:`read`.

    DataError, naming ``where``, for what is no whole parquet file.
    """

    def __init__(self, handle: IO[bytes], where: str) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ModuleNotFoundError as error:
            raise missing_extra("pyarrow", "reading parquet from an object store") from error
        self._where, self._broken = where, pa.ArrowInvalid
        try:
            self._file: Any = pq.ParquetFile(handle, pre_buffer=True)
        except self._broken as error:
            raise self._unreadable(error) from error
        empty = pl.from_arrow(self._file.schema_arrow.empty_table())
        assert isinstance(empty, pl.DataFrame)
        self.schema = dict(empty.schema)

    def read(self, spec: FrameSpec, name: str | None, start_ns: int, stop_ns: int) -> pl.LazyFrame:
        """The needed columns of every row group that may hold rows of the time and symbol; whole groups."""
        columns = [field.column for field in spec.fields if field.column in self.schema]
        groups = [
            i for i in range(self._file.metadata.num_row_groups) if self._may_hold(i, spec, name, start_ns, stop_ns)
        ]
        try:
            found = pl.from_arrow(self._file.read_row_groups(groups, columns=list(dict.fromkeys(columns))))
        except self._broken as error:
            raise self._unreadable(error) from error
        assert isinstance(found, pl.DataFrame)
        return found.lazy()

    def _unreadable(self, error: Exception) -> DataError:
        return DataError(f"{self._where}: cannot be read: {next(iter(str(error).splitlines()), 'no parquet')}")

    def _may_hold(self, group: int, spec: FrameSpec, name: str | None, start_ns: int, stop_ns: int) -> bool:
        for field in spec.fields:
            bounds = self._bounds(group, field)
            if bounds is None:
                continue
            first, last = bounds
            if field.kind == "time" and not self._in_time(field, spec, first, last, start_ns, stop_ns):
                return False
            if field.name == "symbol" and name is not None and isinstance(first, str) and not first <= name <= last:
                return False
        return True

    def _in_time(self, field: Field, spec: FrameSpec, first: Any, last: Any, start_ns: int, stop_ns: int) -> bool:
        dtype = self.schema[field.column]
        slack = 0
        if isinstance(dtype, pl.Datetime):
            scale = NS_PER_UNIT[dtype.time_unit]
            if dtype.time_zone is None and spec.time_zone not in (None, "UTC"):
                slack = NS_PER_DAY  # a zone is less than a day away
        elif dtype.is_integer() and spec.ts_unit is not None:
            scale = NS_PER_UNIT[spec.ts_unit]
        else:
            return True
        return bool(first * scale < stop_ns + slack and last * scale >= start_ns - slack)

    def _bounds(self, group: int, field: Field) -> tuple[Any, Any] | None:
        """Smallest and largest value by the footer, as stored; None where it does not say, or where nulls are."""
        if field.column not in self.schema or field.kind not in ("time", "text"):
            return None
        names: Sequence[str] = self._file.schema.names
        statistics = self._file.metadata.row_group(group).column(list(names).index(field.column)).statistics
        if statistics is None or not statistics.has_min_max or statistics.null_count:
            return None
        if field.kind == "text":
            return statistics.min, statistics.max
        return statistics.min_raw, statistics.max_raw
