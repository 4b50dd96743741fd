"""Files read as frames: parquet in place, anything textual converted once.

CSV is parsed once a source, projected to the columns in use, into a private temporary parquet file from which
each read takes only the row groups of its time. So many reads of one big CSV cost one parse, and memory stays
at one read's rows. The temporary files go when the source closes.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
import weakref
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import polars as pl

from bml.sources.frames import FrameSpec, refuse_wrong_text
from bml.sources.paths import PathPattern
from bml.types import BmlError, ConfigError, DataError

_ROWS_PER_GROUP = 1 << 17


@dataclass(frozen=True, kw_only=True, slots=True)
class CsvForm:
    """How CSV files are written."""

    delimiter: str = ","
    comment: str | None = None

    def __post_init__(self) -> None:
        if len(self.delimiter) != 1 or ord(self.delimiter) > 127:
            raise ConfigError(f"delimiter: {self.delimiter!r} is not one ASCII character")


class Frames:
    """The files of one source as frames of the columns its ``spec`` asks for."""

    def __init__(self, pattern: PathPattern, spec: FrameSpec, csv: CsvForm, scratch_gb: float) -> None:
        self.pattern = pattern
        self._spec = spec
        self._csv = csv
        self._scratch_bytes = int(scratch_gb * 1e9)
        self._scratch: Path | None = None
        self._remove: weakref.finalize[..., Frames] | None = None
        self._staged: OrderedDict[tuple[str, int, int], Path] = OrderedDict()
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
            for file in self.pattern.files(symbol, start_ns, stop_ns, others)
        ]
        if parts:
            return pl.concat(parts)
        types = {"number": pl.Float64(), "side": pl.Int8(), "text": pl.String()}
        return pl.DataFrame(schema={f.name: types.get(f.kind, pl.Int64()) for f in self._spec.fields})

    def _read_file(
        self, file: Path, name: str | None, start_ns: int, stop_ns: int, keep: Sequence[pl.Expr]
    ) -> pl.DataFrame:
        where = str(file)
        with _as_data_error(where):
            if not file.name.endswith(".parquet"):
                return self._from_staged(self._stage(file), name, start_ns, stop_ns, keep)
            raw = pl.scan_parquet(file, glob=False)
            schema = raw.collect_schema()
            self._spec.check(schema, where)
            if any(self._spec.is_text(f, schema[f.column]) for f in self._spec.fields):
                return self._from_staged(self._stage(file), name, start_ns, stop_ns, keep)
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

    def _stage(self, file: Path) -> Path:
        """The parquet file made from ``file``; made now unless it is there."""
        stat = file.stat()
        key = (str(file), stat.st_mtime_ns, stat.st_size)
        if key not in self._staged:
            if self._scratch is None:
                self._scratch = Path(tempfile.mkdtemp(prefix="bml-files-"))
                self._remove = weakref.finalize(self, _remove, self._scratch, os.getpid())
            self._n_staged += 1
            target = self._scratch / f"{self._n_staged}.parquet"
            self._convert(file, target)
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

    def _convert(self, file: Path, target: Path) -> None:
        if file.name.endswith(".parquet"):
            self._sink(pl.scan_parquet(file, glob=False), target, str(file))
            return
        assert self._scratch is not None
        with _plain_csv(file, self._scratch) as plain:
            raw = self._scan_csv(plain, {})
            header = raw.collect_schema()
            self._spec.check(header, str(file))
            if self._spec.thousands is None:
                try:  # polars' own number parser is several times faster, but stops at the first broken number
                    types = self._csv_types()
                    self._sink(self._scan_csv(plain, types), target, str(file))
                    return
                except pl.exceptions.ComputeError:
                    pass  # some field is not what it should be: parse text, which tells or keeps what is wrong
            self._sink(raw, target, str(file))

    def _sink(self, raw: pl.LazyFrame, target: Path, where: str) -> None:
        schema = raw.collect_schema()
        refuse_wrong_text(self._spec, raw, schema, where)
        frame = raw.select(self._spec.expressions(schema))
        frame.sink_parquet(target, compression="lz4", row_group_size=_ROWS_PER_GROUP)
        keys = [f.name for f in self._spec.fields if f.kind in ("time", "level", "side")]
        self._spec.refuse_null(pl.scan_parquet(target, glob=False).select(keys).collect(), raw, schema, where)

    def _scan_csv(self, plain: Path, types: dict[str, pl.DataType]) -> pl.LazyFrame:
        return pl.scan_csv(
            plain,
            separator=self._csv.delimiter,
            comment_prefix=self._csv.comment,
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


@contextmanager
def _plain_csv(file: Path, scratch: Path) -> Iterator[Path]:
    """``file`` itself, or a temporary copy of what is compressed in it."""
    if file.name.endswith(".csv"):
        yield file
        return
    plain = scratch / "plain.csv"
    try:
        with _opened(file) as packed, plain.open("wb") as out:
            shutil.copyfileobj(packed, out, 1 << 20)
        yield plain
    finally:
        plain.unlink(missing_ok=True)


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    if file.name.endswith(".gz"):
        with gzip.open(file, "rb") as packed:
            yield cast(IO[bytes], packed)
        return
    with zipfile.ZipFile(file) as archive:
        inside = [n for n in archive.namelist() if n.lower().endswith(".csv") and not n.startswith("__MACOSX/")]
        if len(inside) != 1:
            raise DataError(f"{file}: a zip file must hold one .csv, this one has {len(inside)}")
        with archive.open(inside[0]) as member:
            yield member


@contextmanager
def _as_data_error(where: str) -> Iterator[None]:
    try:
        yield
    except BmlError:
        raise
    except (pl.exceptions.PolarsError, OSError, EOFError, zipfile.BadZipFile, RuntimeError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(f"{where}: cannot be read: {first}") from error


def _remove(folder: Path, pid: int) -> None:
    if os.getpid() == pid:  # a forked child must not remove its parent's files
        shutil.rmtree(folder, ignore_errors=True)
