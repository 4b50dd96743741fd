"""A store that keeps its size: days that are built make room for the next ones, and what is small of them stays.

    {root}/kept/{symbol}/{yyyy}/{symbol}_{date}_{digest[:8]}.h5

A kept file holds what is small of a day: header, where its rows came from, daily moments, scaler, quality report, how
the grid was filled, and the SHA-256 of the day file, which a rebuild from the same rows reproduces. It is published
before the day file is removed, so a day is always there in one form at least. The rows themselves stay where they
came from: nothing that cannot be built again is removed.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from bml.book import report
from bml.book.days import DaySummary, summarised
from bml.book.hdf5 import pack
from bml.book.publish import publish
from bml.book.store import DayStore
from bml.config.storing import StoreSpec
from bml.types import DailyMoments, QualityReport, StoreError, UnreadableFile

SCHEMA = "bml.kept/1"
GB = 1e9


class DamagedFile(StoreError):
    """A day file whose bytes are not those that were written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptDay:
    """What is left of a day whose file was removed; ``sha256`` and ``size`` are those of the file.

    ``origin``: where its rows came from, None where its writer did not say.
    """

    summary: DaySummary
    moments: DailyMoments
    quality: QualityReport
    origin: dict[str, Any] | None
    sha256: str
    size: int


def kept_path(store: DayStore, symbol: str, day: dt.date) -> Path:
    """Where the remains of a day are, there or not."""
    path = store.path(symbol, day)
    return Path(store.root) / "kept" / path.relative_to(Path(store.root) / "days")


def kept(store: DayStore, symbol: str, day: dt.date) -> KeptDay | None:
    """What is left of a removed day of this digest; None when nothing is. Raises StoreError when it is damaged."""
    path = kept_path(store, symbol, day)
    try:
        with h5py.File(path, "r", locking=False) as file:
            meta = json.loads(bytes(file["about"][:]))
            if (meta["schema"], meta["config_digest"]) != (SCHEMA, store.digest):
                return None
            features = file["feature_scaler"][:] if "feature_scaler" in file else None
            moments = DailyMoments(
                symbol=symbol,
                day=day,
                names_V=tuple(meta["series"]),
                stats_SV=file["moments"][:],
                scaler_SLF=file["scaler"][:],
                feature_SK=features,
            )
            quality = report.from_json(bytes(file["quality"][:]).decode())
    except FileNotFoundError:
        return None
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise StoreError(f"{path}: damaged ({error}); delete it and build the day again") from error
    summary = DaySummary(**{**meta["summary"], "day": day, "built": False})
    origin, sha256, size = meta.get("origin"), meta["sha256"], meta["size"]
    return KeptDay(summary=summary, moments=moments, quality=quality, origin=origin, sha256=sha256, size=size)


def daily_moments(store: DayStore, symbol: str, day: dt.date) -> DailyMoments:
    """The day's moments, from its file or from what is left of it. Raises StoreError when there is neither."""
    remains = None if store.path(symbol, day).exists() else kept(store, symbol, day)
    if remains is not None:
        return remains.moments
    with store.open(symbol, day) as file:
        return file.moments


def is_diagnostic(symbol: str, day: dt.date, fraction: float) -> bool:
    """Whether a day belongs to the share that is never removed: by its name alone, so the same on every machine."""
    drawn = int.from_bytes(hashlib.sha256(f"{symbol} {day}".encode()).digest()[:8], "big")
    return drawn < fraction * 2.0**64


def evict(store: DayStore, symbol: str, day: dt.date) -> int:
    """Keep what is small of a day and remove its file; returns the bytes freed.

    Raises StoreError when the day cannot be read (DamagedFile: its bytes are wrong) or what is left of it cannot be
    written: then the file stays.
    """
    try:
        image, size = _remains(store, symbol, day)
    except UnreadableFile:
        raise
    except StoreError as error:
        raise DamagedFile(str(error)) from error
    publish(kept_path(store, symbol, day), image)
    store.path(symbol, day).unlink()
    return size


def _remains(store: DayStore, symbol: str, day: dt.date) -> tuple[bytes, int]:
    """What is kept of a day as a file's bytes, and the size of the day file. Raises StoreError."""
    path = store.path(symbol, day)
    with store.open(symbol, day) as file:
        file.verify()  # what is kept must be what was built
        moments, quality = file.moments, file.quality
        about: dict[str, Any] = {
            "schema": SCHEMA,
            "config_digest": store.digest,
            "series": list(moments.names_V),
            "summary": {**asdict(summarised(file, built=False)), "day": str(day)},
            "header": dict(file.header),
            "origin": file.attrs["meta"].get("origin"),
        }
    data = path.read_bytes()
    about |= {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    arrays: dict[str, npt.NDArray[Any]] = {
        "moments": moments.stats_SV,
        "scaler": moments.scaler_SLF,
        "quality": np.frombuffer(report.to_json(quality).encode(), np.uint8),
        "about": np.frombuffer(json.dumps(about, sort_keys=True).encode(), np.uint8),
    }
    if moments.feature_SK is not None:
        arrays["feature_scaler"] = moments.feature_SK
    return pack(arrays, {"schema": SCHEMA, "complete": 1}), len(data)


@contextlib.contextmanager
def reading(root: Path) -> Iterator[None]:
    """While the block runs, no process of whatever configuration removes day files below ``root``."""
    with _lock(root, "reading", fcntl.LOCK_SH):
        yield


@contextlib.contextmanager
def _lock(root: Path, name: str, kind: int) -> Iterator[None]:
    """A lock that ends with the block or the process. Raises BlockingIOError as flock does."""
    path = root / "state" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, kind)
        yield
    finally:
        os.close(fd)


class Rolling:
    """Keeps the day files of a store below ``spec.max_gb``, oldest day first; with ``keep: all`` it does nothing.

    Only days of ``candidates`` are removed, and of those none that is a diagnostic. Day files of other
    configurations count towards the limit, but are nobody's to remove. A damaged file has no moments to keep: it is
    removed too and its day is in ``damaged``, with what is wrong, for whoever builds it again.
    """

    def __init__(self, spec: StoreSpec, store: DayStore, candidates: Iterable[tuple[str, dt.date]]) -> None:
        self._spec, self._store = spec, store
        self._limit = None if spec.keep == "all" or spec.max_gb is None else spec.max_gb * GB
        mine = [(day, symbol) for symbol, day in candidates]
        self._waiting = sorted(
            (day, symbol) for day, symbol in mine if not is_diagnostic(symbol, day, spec.diagnostic_fraction)
        )
        self.evicted: list[tuple[str, dt.date]] = []
        self.damaged: dict[tuple[str, dt.date], str] = {}

    def make_room(self, *, spare: Iterable[tuple[str, dt.date]] = ()) -> None:
        """Remove days until the others are below the limit; ``spare`` are still wanted now.

        Raises StoreError when the limit cannot be met with what may be removed. Cost: one walk over the folder.
        """
        if self._limit is None:
            return
        size = _folder_size(Path(self._store.root) / "days")
        if size <= self._limit:
            return
        with self._alone():
            size = _folder_size(Path(self._store.root) / "days")  # another run may have made room meanwhile
            if size > self._limit:
                size = self._remove(size, set(spare))
        if size <= self._limit:
            return
        raise StoreError(
            f"{self._store.root}/days: {size / GB:.3f} GB cannot be removed (the day just built, diagnostics, days of "
            f"other configurations), but store.max_gb is {self._spec.max_gb:g}: raise it, or remove day files by hand"
        )

    def _remove(self, size: int, spared: set[tuple[str, dt.date]]) -> int:
        """Remove the oldest days until the others are below the limit; returns what is left."""
        assert self._limit is not None
        for day, symbol in list(self._waiting):
            if (symbol, day) in spared or not self._store.path(symbol, day).exists():
                continue
            size -= self._evict(symbol, day)
            if size <= self._limit:
                break
        return size

    def _evict(self, symbol: str, day: dt.date) -> int:
        """Remove one day; returns the bytes freed. Raises StoreError for one that is damaged a second time."""
        try:
            freed = evict(self._store, symbol, day)
        except DamagedFile as error:
            if (symbol, day) in self.damaged:
                raise StoreError(f"{error}; it was built again in this run already: check the disk") from error
            path = self._store.path(symbol, day)
            freed = path.stat().st_size
            path.unlink()
            self.damaged[symbol, day] = str(error)
            return freed
        self._waiting.remove((day, symbol))
        self.evicted.append((symbol, day))
        return freed

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        root = Path(self._store.root)
        with _lock(root, "evicting", fcntl.LOCK_EX):  # other runs that make room are waited for, readers are not
            try:
                with _lock(root, "reading", fcntl.LOCK_EX | fcntl.LOCK_NB):
                    yield
            except BlockingIOError:
                raise StoreError(
                    f"{root}: store.max_gb is reached, and another process (bml train or evaluate) "
                    "reads the day files, so none can be removed: run this again when it is done, or raise store.max_gb"
                ) from None


def _folder_size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*.h5"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # a worker replaced or another run removed it
            continue
    return total
