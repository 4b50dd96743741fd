"""The store of finished days: one HDF5 file per symbol-day, published whole and never changed afterwards.

    {root}/days/{symbol}/{yyyy}/{symbol}_{date}_{digest[:8]}.h5

The digest names the configuration that decides the content, so days of different configurations never mix.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bml import __version__
from bml.book import layout, report
from bml.book.dayfile import DayFile, open_file
from bml.book.hdf5 import Attribute, pack
from bml.book.layout import SCHEMA
from bml.book.publish import publish
from bml.types import FIELDS, NS_PER_DAY, AlignedDay, ConfigError, DailyMoments, DataError, StoreError, UnreadableFile

__all__ = ["SCHEMA", "DayFile", "DayStore", "open_file"]


@dataclass(frozen=True, slots=True)
class DayStore:
    """Where days are kept. Holds no open file, so it may cross a fork and be pickled.

    ``digest`` (at least 8 hex characters) is that of the configuration; ``verify`` makes :meth:`open` read and
    check every byte of a file. Raises ConfigError for a digest that is none.
    """

    root: Path
    digest: str
    verify: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{8,128}", self.digest):
            raise ConfigError(f"a store's digest is at least 8 hex characters, not {self.digest!r}")

    def path(self, symbol: str, day: dt.date) -> Path:
        """The file of a symbol-day, there or not. Raises ConfigError when the symbol cannot be a file name."""
        if not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}", symbol):
            raise ConfigError(
                f"symbol {symbol!r} cannot name a file: use letters, digits, '.', '_', '-', first a letter or digit"
            )
        name = f"{symbol}_{day.isoformat()}_{self.digest[:8]}.h5"
        return Path(self.root) / "days" / symbol / f"{day.year:04d}" / name

    def has(self, symbol: str, day: dt.date) -> bool:
        """Whether the day is there, complete and of this digest, judged by its header. A damaged file is not there.

        Raises UnreadableFile where the system does not let it be known.
        """
        try:
            _open(self, symbol, day, verify=False).close()
        except UnreadableFile:
            raise
        except StoreError:
            return False
        return True

    def open(self, symbol: str, day: dt.date) -> DayFile:
        """The day, mapped read-only. Raises StoreError (see :func:`open_file`), also for another digest or day."""
        return _open(self, symbol, day, verify=self.verify)

    def write(self, day: AlignedDay, *, meta: dict[str, Any]) -> Path:
        """Publish a day, replacing an older file of it; ``meta`` is JSON of the writer's own, kept in ``attrs``.

        Equal input gives equal bytes. The day must be model-ready ("bps_log1p", float32 or float16) and have
        coverage, edges and moments.
        Raises DataError (not so, or arrays that contradict each other), StoreError (disk full, read-only, ...:
        nothing is left behind), TypeError (``meta`` is not JSON). Cost: about two copies of the day.
        """
        path = self.path(day.symbol, day.day)
        arrays = _arrays(day, meta)
        attributes: dict[str, Attribute] = {
            "schema": layout.SCHEMA_FEATURES if day.feature_names else SCHEMA,
            "symbol": day.symbol,
            "date": day.day.isoformat(),
            "start_ns": int(day.grid_ns_T[0]),
            "step_ns": day.cadence_ns,
            "rows": len(day.grid_ns_T),
            "depth": day.book_TLF.shape[1],
            "fields": json.dumps(FIELDS),
            "units": day.units,
            "dtype": day.book_TLF.dtype.name,
            "series": json.dumps(_moments(day).names_V),
            "config_digest": self.digest,
            "code_version": __version__,
        }
        if day.feature_names:
            attributes[layout.FEATURES] = json.dumps(day.feature_names)
        attributes["crc_header"] = layout.header_checksum(attributes)
        attributes["complete"] = 1
        publish(path, pack({**arrays, "crc": layout.checksums(arrays)}, attributes))
        return path


def _open(store: DayStore, symbol: str, day: dt.date, *, verify: bool) -> DayFile:
    path = store.path(symbol, day)
    file = open_file(path, verify=verify)
    written = str(file.header["config_digest"])
    if written != store.digest:
        raise StoreError(f"{path}: of configuration {written[:16]}, not {store.digest[:16]}: build the day again")
    if (file.symbol, file.day) != (symbol, day):
        raise StoreError(f"{path}: holds {file.symbol} {file.day}: it was renamed, build the day again")
    return file


def _moments(day: AlignedDay) -> DailyMoments:
    if day.moments is None:
        raise DataError(f"{day.symbol} {day.day}: a stored day needs its moments: add book.moments.daily to preprocess")
    return day.moments


def _arrays(day: AlignedDay, meta: dict[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """Every array of the file but /crc, checked against each other."""
    if day.edges_L1 is None or day.coverage_TL2 is None or day.units != "bps_log1p":
        raise DataError(f"{day.symbol} {day.day}: is not model-ready: add book.depth.adaptive to preprocess")
    moments = _moments(day)
    rows, depth = day.book_TLF.shape[:2]
    arrays: dict[str, npt.NDArray[Any]] = {
        "book": day.book_TLF,
        "mid": day.mid_T,
        "age": day.age_ms_T,
        "flags": day.flag_T,
        "coverage": day.coverage_TL2,
        "edges": day.edges_L1,
        "moments": moments.stats_SV,
        "scaler": moments.scaler_SLF,
        "quality": np.frombuffer(report.to_json(day.quality).encode(), np.uint8),
        "meta": np.frombuffer(json.dumps({"meta": meta, "query": day.query}, sort_keys=True).encode(), np.uint8),
    }
    if day.feature_names:
        arrays |= _features(day, moments)
    uniform = rows == len(day.grid_ns_T) and bool(np.all(np.diff(day.grid_ns_T) == day.cadence_ns))
    if not uniform or rows * day.cadence_ns != NS_PER_DAY:
        raise DataError(f"{day.symbol} {day.day}: {rows} rows are not a day's grid: use book.align.to_grid")
    expected = layout.shapes(rows, depth, day.book_TLF.dtype.name, len(day.feature_names))
    for name, x in arrays.items():
        wrong = layout.mismatch(x.dtype, x.shape, expected[name])
        if wrong:
            raise DataError(f"{day.symbol} {day.day}: {name} {wrong}: it cannot be stored")
    return arrays


def _features(day: AlignedDay, moments: DailyMoments) -> dict[str, npt.NDArray[Any]]:
    if day.feature_TK is None or moments.feature_SK is None:
        raise DataError(
            f"{day.symbol} {day.day}: its moments know nothing of its features: put book.moments.daily after "
            "book.features.window"
        )
    return {"features": day.feature_TK, "feature_scaler": moments.feature_SK}
