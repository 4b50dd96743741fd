"""One published day, read through the page cache: arrays are views of the mapped file, nothing is copied."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from bml.book import layout, report
from bml.book.hdf5 import Attribute, Place, read_header
from bml.book.mapping import Identity, identity, map_file
from bml.types import DailyMoments, Float32, Float64, Floats, Int32, Int64, QualityReport, StoreError, UnreadableFile

Parsed = TypeVar("Parsed")


def open_file(path: Path | str, *, verify: bool = False) -> DayFile:
    """The day file at ``path``, checked by its header and mapped; ``verify`` reads all of it as well.

    Raises StoreError: missing, truncated, not HDF5, foreign, of another schema, incomplete, of the wrong type, byte
    order or layout, or damaged; UnreadableFile where only the system refuses.
    Cost: about two milliseconds; no file stays open.
    """
    path = Path(path)
    try:
        file = _open(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(f"{path}: there is no such day file: build it with  bml run") from error
    except IsADirectoryError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}: remove it") from error
    except OSError as error:
        raise UnreadableFile(
            f"{path}: cannot be read: {error.strerror or error}; check its owner, its mode and the disk"
        ) from error
    if verify:
        file.verify()
    return file


def _open(path: Path) -> DayFile:
    for _ in range(10):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            attributes, places = read_header(path)
            layout.check_header(path, attributes, places)
            here, there = os.fstat(fd), os.stat(path)
            if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
                return DayFile(path, attributes, places, map_file(fd), identity(fd))
        finally:
            os.close(fd)
    raise StoreError(f"{path}: is being replaced all the time: let its writer finish")


class DayFile:
    """A read-only day: mapped arrays, moments, quality. Open it with :func:`open_file` or ``DayStore.open``.

    Every array is read-only and stays valid after :meth:`close` as long as it is referred to; the file's pages
    are the kernel's to keep or drop. It holds no file descriptor. Pickled, it opens its path again.
    """

    def __init__(
        self,
        path: Path,
        attributes: Mapping[str, Attribute],
        places: Mapping[str, Place],
        data: npt.NDArray[np.uint8],
        identity: Identity,
    ) -> None:
        self.path, self.identity = path, identity
        self._attributes = dict(attributes)
        self._places = dict(places)
        self._data: npt.NDArray[np.uint8] | None = data

    def _array(self, name: str) -> npt.NDArray[Any]:
        if self._data is None:
            raise ValueError(f"{self.path}: the day file is closed")
        place = self._places[name]
        return self._data[place.offset : place.stop].view(place.dtype).reshape(place.shape)

    def place(self, name: str) -> Place:
        """Where an array lies in the file, for who reads it by other means."""
        return self._places[name]

    @property
    def book_TLF(self) -> Floats:
        """(T, L, 4) float32 or float16: bps from the mid and log1p quantity, NaN where absent."""
        return self._array("book")

    @cached_property
    def grid_ns_T(self) -> Int64:
        """(T,) int64: the time of every row."""
        rows, start, step = (int(self._attributes[name]) for name in ("rows", "start_ns", "step_ns"))
        grid_ns_T = start + step * np.arange(rows, dtype=np.int64)
        grid_ns_T.flags.writeable = False
        return grid_ns_T

    @property
    def mid_T(self) -> Float64:
        """(T,) float64 absolute mid, NaN where unknown."""
        return self._array("mid")

    @property
    def age_ms_T(self) -> Int32:
        """(T,) int32 age of the snapshot in use, -1 where there is none."""
        return self._array("age")

    @property
    def flag_T(self) -> npt.NDArray[np.uint16]:
        """(T,) uint16 masks of :class:`bml.types.Flag`."""
        return self._array("flags")

    @property
    def coverage_TL2(self) -> Float32:
        """(T, L, 2) float32 share of each bin's levels that were present, bid and ask."""
        return self._array("coverage")

    @property
    def edges_L1(self) -> Int64:
        """(L + 1,) int64 level edges of the depth bins."""
        return self._array("edges")

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the K window features; () without any."""
        return tuple(json.loads(str(self._attributes.get(layout.FEATURES, "[]"))))

    @property
    def feature_TK(self) -> Float32:
        """(T, K) float32 window features of the raw book, NaN where unknown; K = 0 without any."""
        if not self.feature_names:
            return np.empty((int(self._attributes["rows"]), 0), np.float32)
        return self._array("features")

    @cached_property
    def moments(self) -> DailyMoments:
        """The day's statistics."""
        return DailyMoments(
            symbol=self.symbol,
            day=self.day,
            names_V=tuple(json.loads(str(self._attributes["series"]))),
            stats_SV=self._array("moments").copy(),  # small, and so kept without the mapping
            scaler_SLF=self._array("scaler").copy(),
            feature_SK=self._array("feature_scaler").copy() if self.feature_names else None,
        )

    @cached_property
    def quality(self) -> QualityReport:
        """What was found in the day. Raises StoreError when its text is damaged."""
        return _parsed(self.path, "quality", self._array("quality"), report.from_json)

    @cached_property
    def attrs(self) -> dict[str, Any]:
        """The header (see :mod:`bml.book.layout`), ``edges``, the source's ``query``, the writer's ``meta``."""
        lists = {name: json.loads(str(self._attributes[name])) for name in ("fields", "series")}
        texts = _parsed(self.path, "meta", self._array("meta"), json.loads)
        return {**self._attributes, **lists, "edges": self.edges_L1.tolist(), **texts}

    @property
    def header(self) -> Mapping[str, Attribute]:
        """The attributes alone, without reading an array."""
        return MappingProxyType(self._attributes)

    @property
    def symbol(self) -> str:
        """Whose day it is."""
        return str(self._attributes["symbol"])

    @property
    def day(self) -> dt.date:
        """The UTC day."""
        return dt.date.fromisoformat(str(self._attributes["date"]))

    @property
    def cadence_ns(self) -> int:
        """The step of the grid."""
        return int(self._attributes["step_ns"])

    def verify(self) -> None:
        """Read every byte and compare it with the checksums; StoreError names the part that is damaged."""
        names = set(self._places)
        actual = layout.checksums({name: self._array(name) for name in names})
        wrong = np.flatnonzero(actual != self._array("crc"))
        if len(wrong) == 0:
            return
        part = int(wrong[0])
        what = "the arrays beside /book"
        if part < layout.PARTS:
            start, stop = layout.part_rows(len(self.book_TLF))[part]
            what = f"part {part} of {layout.PARTS} of /book (rows {start} to {stop - 1})"
        raise StoreError(
            f"{self.path}: {what} does not match its checksum ({len(wrong) - 1} more parts), the file is damaged: "
            "delete it and build the day again"
        )

    def close(self) -> None:
        """Let go of the mapping; it is undone when the last array taken from it is gone."""
        self._data = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., DayFile], tuple[Path]]:
        return open_file, (self.path,)

    def __repr__(self) -> str:
        return f"<DayFile {self.path}>"


def _parsed(path: Path, name: str, text: npt.NDArray[np.uint8], parse: Callable[[str], Parsed]) -> Parsed:
    try:
        return parse(text.tobytes().decode())
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: /{name} is damaged: delete the file and build the day again") from error
