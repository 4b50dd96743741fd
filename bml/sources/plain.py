"""Text files on their way to a parser: how they are written, fetched and unpacked."""

from __future__ import annotations

import gzip
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import polars as pl

from bml.sources.remote import File
from bml.types import BmlError, ConfigError, DataError

#: bytes of the longest line whose end is looked at
MOST_LINE = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class CsvForm:
    """How CSV files are written.

    ``header`` names the columns of files that do not name them themselves; names that hold {k} stand together and
    are repeated for k = ``first_level``, ... as often as the file has columns for.
    ``may_be_empty``: a file without a single byte is a day without rows; else it is a DataError.
    """

    delimiter: str = ","
    comment: str | None = None
    header: tuple[str, ...] | None = None
    first_level: int = 1
    may_be_empty: bool = False

    def __post_init__(self) -> None:
        if len(self.delimiter) != 1 or ord(self.delimiter) > 127:
            raise ConfigError(f"delimiter: {self.delimiter!r} is not one ASCII character")
        numbered = ["{k}" in name for name in self.header or ()]
        if self.header is not None and len(set(self.header)) != len(self.header):
            raise ConfigError("header: a name stands there twice")
        if any(numbered) and not all(numbered[numbered.index(True) : len(numbered) - numbered[::-1].index(True)]):
            raise ConfigError("header: the names that hold {k} must stand together")

    def names(self, file: Path, where: str) -> list[str] | None:
        """The names of all columns of a file without header; None for one with. DataError when they do not fit it."""
        if self.header is None:
            return None
        with file.open("rb") as opened:  # polars would fill up short lines and drop what is too much
            width = opened.readline().count(self.delimiter.encode()) + 1
        numbered = [name for name in self.header if "{k}" in name]
        n_levels, rest = divmod(width - len(self.header) + len(numbered), len(numbered)) if numbered else (0, 0)
        if rest or n_levels < 0 or (not numbered and width != len(self.header)):
            raise DataError(f"{where} has {width} columns, which header does not fit: {', '.join(self.header)}")
        names: list[str] = []
        for name in self.header:
            if name not in numbered:
                names.append(name)
            elif name == numbered[0]:
                levels = range(self.first_level, self.first_level + n_levels)
                names += [one.replace("{k}", str(k)) for k in levels for one in numbered]
        return names


def refuse_cut_short(plain: Path, delimiter: str, where: str) -> None:
    """DataError when the last line breaks off: fewer fields than the first one, and no end of line.

    A parser would fill up what is missing with nulls. Lines with quotes are not judged: theirs may hold delimiters.
    """
    comma = delimiter.encode()
    with plain.open("rb") as opened:
        first = opened.readline()
        opened.seek(max(0, plain.stat().st_size - MOST_LINE))
        last = opened.read().rpartition(b"\n")[2]
    n_first, n_last = first.count(comma) + 1, last.count(comma) + 1
    if last and n_last < n_first and b'"' not in first + last:
        raise DataError(
            f"{where} breaks off: its last line has {n_last} of {n_first} fields and no end of line; fetch it again"
        )


@contextmanager
def blank_line_told(plain: Path, where: str) -> Iterator[None]:
    """DataError that names the first blank line below the first line with text, where the block finds rows wrong."""
    try:
        yield
    except DataError:
        has_begun = False
        with plain.open("rb") as opened:
            for number, line in enumerate(opened, 1):
                is_blank = not line.strip()
                if is_blank and has_begun:
                    told = f"{where}: line {number} is blank, which is no row: remove blank lines, or fetch it again"
                    raise DataError(told) from None
                has_begun |= not is_blank
        raise


@contextmanager
def local(file: File, scratch: Path) -> Iterator[Path]:
    """``file`` itself, or a temporary copy of what lies elsewhere."""
    if isinstance(file, Path):
        yield file
        return
    copy = scratch / f"copy-{file.name}"
    try:
        with file.disk.reached(), file.open() as far, copy.open("wb") as out:
            shutil.copyfileobj(far, out, 1 << 20)
        yield copy
    finally:
        copy.unlink(missing_ok=True)


@contextmanager
def plain_csv(file: Path, scratch: Path) -> Iterator[Path]:
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
        if not file.stat().st_size:  # gzip takes that for an empty text
            raise DataError(f"{file}: has no bytes at all, not even a compressed file's own: fetch it again")
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
def as_data_error(where: str) -> Iterator[None]:
    try:
        yield
    except BmlError:
        raise
    except (pl.exceptions.PolarsError, OSError, EOFError, zipfile.BadZipFile, RuntimeError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(f"{where}: cannot be read: {first}") from error


def remove(folder: Path, pid: int) -> None:
    if os.getpid() == pid:  # a forked child must not remove its parent's files
        shutil.rmtree(folder, ignore_errors=True)
