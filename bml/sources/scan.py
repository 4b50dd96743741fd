"""Files read as frames: parquet in place (of an object store: the row groups of the time), text converted once.

CSV is parsed once a source, projected to the columns in use, into a private temporary parquet file from which
each read takes only the row groups of its time. So many reads of one big CSV cost one parse, and memory stays
at one read's rows. The temporary files go when the source closes.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import polars as pl

from bml.sources.frames import FrameSpec, Schema, refuse_wrong_text
from bml.sources.layout import NS_PER_UNIT
from bml.sources.paths import PathPattern
from bml.sources.plain import CsvForm, as_data_error, blank_line_told, local, plain_csv, refuse_cut_short, remove
from bml.sources.remote import File
from bml.sources.rowgroups import RowGroups

_ROWS_PER_GROUP = 1 << 17


class Frames:
    """The files of one source as frames of the columns its ``spec`` asks for."""

    def __init__(self, pattern: PathPattern, spec: FrameSpec, csv: CsvForm, scratch_gb: float) -> None:
        self.pattern = pattern
        self._spec = spec
        self._csv = csv
        self._scratch_bytes = int(scratch_gb * 1e9)
        self._scratch: Path | None = None
        self._remove: weakref.finalize[..., Frames] | None = None
        self._staged: OrderedDict[tuple[object, ...], Path] = OrderedDict()
        self._n_staged = 0

    def close(self) -> None:
        """Remove the temporary files."""
        if self._remove is not None:
            self._remove()
        self._scratch, self._remove = None, None
        self._staged.clear()

    def read(
        self,
        symbol: str,
        name: str | None,
        start_ns: int,
        stop_ns: int,
        keep: Sequence[pl.Expr] = (),
        others: Sequence[str] = (),
    ) -> pl.DataFrame:
        """Rows of the time (and of ``symbol == name`` unless that is None) for which every ``keep`` is true.

        ``keep`` works on the logical columns. Rows come in file order, files in the order of their names. ``others``:
        see :meth:`bml.sources.paths.PathPattern.files`.
        """
        parts = [
            self._read_file(file, name, start_ns, stop_ns, keep)
            for file in self._book_files(self.pattern.files(symbol, start_ns, stop_ns, others, name))
        ]
        if parts:
            return pl.concat(parts)
        types = {"number": pl.Float64(), "side": pl.Int8(), "text": pl.String()}
        return pl.DataFrame(schema={f.name: types.get(f.kind, pl.Int64()) for f in self._spec.fields})

    def _book_files(self, files: list[File]) -> list[File]:
        """Those of ``files`` that hold books; all of them, but a format may put others beside them."""
        return files

    def _read_file(
        self, file: File, name: str | None, start_ns: int, stop_ns: int, keep: Sequence[pl.Expr]
    ) -> pl.DataFrame:
        where = str(file)
        with as_data_error(where), ExitStack() as opened:
            if not file.name.endswith(".parquet"):
                return self._from_staged(self._stage(file), name, start_ns, stop_ns, keep)
            raw: pl.LazyFrame
            if isinstance(file, Path):
                raw = pl.scan_parquet(file, glob=False, hive_partitioning=False)
                schema = dict(raw.collect_schema())
            else:
                with file.disk.reached():
                    groups = RowGroups(opened.enter_context(file.open()), where)
                raw, schema = pl.LazyFrame(), dict(groups.schema)
            given = {key: value for key, value in self.pattern.partitions(file).items() if key not in schema}
            schema |= dict.fromkeys(given, pl.String())
            self._spec.check(schema, where)
            if any(self._spec.is_text(f, schema[f.column]) for f in self._spec.fields):
                return self._from_staged(self._stage(file), name, start_ns, stop_ns, keep)
            if not isinstance(file, Path):
                with file.disk.reached():
                    raw = groups.read(self._spec, name, start_ns, stop_ns)
            raw = raw.with_columns(pl.lit(value).alias(key) for key, value in given.items())
            return self._selected(raw, schema, where, name, start_ns, stop_ns, keep)

    def _selected(
        self,
        raw: pl.LazyFrame,
        schema: Schema,
        where: str,
        name: str | None,
        start_ns: int,
        stop_ns: int,
        keep: Sequence[pl.Expr],
    ) -> pl.DataFrame:
        time = self._spec.fields[0]
        here = raw.filter(self._spec.in_range(time, schema[time.column], start_ns, stop_ns))
        for field in self._spec.fields:
            if field.name == "symbol" and name is not None:
                here = here.filter(self._spec.expression(field, schema[field.column]) == name)
        frame = here.select(self._spec.expressions(schema))
        for condition in keep:
            frame = frame.filter(condition)
        found = frame.collect()
        self._spec.refuse_null(found, here, schema, where)
        if not found.height and schema[time.column].is_integer():  # all of it in another year: a wrong unit?
            column = pl.col(time.column)
            first, last = raw.select(column.min().alias("first"), column.max().alias("last")).collect().row(0)
            self._spec.refuse_unit(first, last, schema[time.column], where)
        return found

    def _from_staged(
        self, staged: Path, name: str | None, start_ns: int, stop_ns: int, keep: Sequence[pl.Expr]
    ) -> pl.DataFrame:
        frame = pl.scan_parquet(staged, glob=False).filter((pl.col("ts") >= start_ns) & (pl.col("ts") < stop_ns))
        if name is not None:
            frame = frame.filter(pl.col("symbol") == name)
        for condition in keep:
            frame = frame.filter(condition)
        return frame.collect()

    # -- conversion of text

    def _stage(self, file: File) -> Path:
        """The parquet file made from ``file``; made now unless it is there."""
        if isinstance(file, Path):
            stat = file.stat()
            key: tuple[object, ...] = (str(file), stat.st_mtime_ns, stat.st_size)
        else:
            key = (str(file), *file.version())
        if key not in self._staged:
            if self._scratch is None:
                self._scratch = Path(tempfile.mkdtemp(prefix="bml-files-"))
                self._remove = weakref.finalize(self, remove, self._scratch, os.getpid())
            self._n_staged += 1
            target = self._scratch / f"{self._n_staged}.parquet"
            with local(file, self._scratch) as here:
                self._convert(here, target, self.pattern.partitions(file), str(file))
            self._staged[key] = target
            self._evict()
        self._staged.move_to_end(key)
        return self._staged[key]

    def _evict(self) -> None:
        """Forget the least recently used files beyond the limit, never the newest."""
        sizes = [path.stat().st_size for path in self._staged.values()]
        while len(self._staged) > 1 and sum(sizes) > self._scratch_bytes:
            _, path = self._staged.popitem(last=False)
            path.unlink()
            sizes.pop(0)

    def _convert(self, file: Path, target: Path, given: dict[str, str], where: str) -> None:
        """Write what ``file`` holds to ``target``; ``given`` are columns its folders name, ``where`` its name."""
        values = [pl.lit(value).alias(key) for key, value in given.items()]
        if file.name.endswith(".parquet"):
            self._sink(pl.scan_parquet(file, glob=False, hive_partitioning=False).with_columns(values), target, where)
            return
        assert self._scratch is not None
        with plain_csv(file, self._scratch) as plain:
            if self._csv.may_be_empty and not plain.stat().st_size:
                self._no_rows(target)
                return
            if self._csv.comment is None:
                refuse_cut_short(plain, self._csv.delimiter, where)
            raw = self._scan_csv(plain, {}, where)
            names = raw.collect_schema().names()
            raw = raw.with_columns(value for value in values if value.meta.output_name() not in names)
            self._spec.check(raw.collect_schema(), where)
            with blank_line_told(plain, where):
                if self._spec.thousands is None:
                    try:  # polars' own number parser is several times faster, but stops at the first broken number
                        typed = self._scan_csv(plain, self._csv_types(), where)
                        typed = typed.with_columns(value for value in values if value.meta.output_name() not in names)
                        self._sink(typed, target, where)
                        return
                    except pl.exceptions.ComputeError:
                        pass  # some field is not what it should be: parse text, which tells or keeps what is wrong
                self._sink(raw, target, where)

    def _no_rows(self, target: Path) -> None:
        types = {"number": pl.Float64(), "side": pl.Int8(), "text": pl.String()}
        pl.DataFrame(schema={f.name: types.get(f.kind, pl.Int64()) for f in self._spec.fields}).write_parquet(target)

    def _sink(self, raw: pl.LazyFrame, target: Path, where: str) -> None:
        schema = raw.collect_schema()
        refuse_wrong_text(self._spec, raw, schema, where)
        frame = raw.select(self._spec.expressions(schema))
        frame.sink_parquet(target, compression="lz4", row_group_size=_ROWS_PER_GROUP)
        keys = [f.name for f in self._spec.fields if f.kind in ("time", "level", "side")]
        found = pl.scan_parquet(target, glob=False).select(keys).collect()
        self._spec.refuse_null(found, raw, schema, where)
        if self._spec.ts_unit is not None and found.height:
            scale = NS_PER_UNIT[self._spec.ts_unit]
            bounds = found.select(pl.col("ts").min().alias("first"), pl.col("ts").max().alias("last")).row(0)
            self._spec.refuse_unit(bounds[0] // scale, bounds[1] // scale, schema[self._spec.fields[0].column], where)

    def _scan_csv(self, plain: Path, types: dict[str, pl.DataType], where: str) -> pl.LazyFrame:
        names = self._csv.names(plain, where)
        return pl.scan_csv(
            plain,
            separator=self._csv.delimiter,
            comment_prefix=self._csv.comment,
            has_header=names is None,
            new_columns=names,
            infer_schema=False,
            schema_overrides=types,
            glob=False,
        )

    def _csv_types(self) -> dict[str, pl.DataType]:
        types: dict[str, pl.DataType] = {}
        for field in self._spec.fields:
            if field.kind == "number":
                types[field.column] = pl.Float64()
            elif field.kind in ("level", "count") or (field.kind == "time" and self._spec.ts_unit):
                types[field.column] = pl.Int64()
        return types
