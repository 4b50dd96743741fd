"""The arrays of many day files: mapped, a bounded number at a time, and where they lie for who reads the files."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bml.book.hdf5 import Place
from bml.book.mapping import Identity, identity, map_file
from bml.dataset.dataset import Dataset
from bml.types import Floats, StoreError

#: days mapped at a time: a mapping holds no descriptor, but pages read through it count as the process's
MAX_MAPPED = 1024


@dataclass(frozen=True, slots=True)
class Day:
    """A file, the places of the book and, if there are any, of the window features, and both mapped."""

    path: Path
    identity: Identity
    places: tuple[Place, ...]
    arrays: tuple[Floats, ...]

    def row_bytes(self, which: int) -> int:
        """Of an array's row in the file."""
        place = self.places[which]
        return (place.stop - place.offset) // place.shape[0]

    def descriptor(self) -> int | None:
        """The file opened for reading, close it; None if the path does not lead to it any more."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        if identity(fd) == self.identity:
            return fd
        os.close(fd)
        return None

    def check_length(self) -> None:
        """Raise StoreError where the mapped file has been shortened: reading beyond its end would kill the process."""
        try:
            now = os.stat(self.path)
        except FileNotFoundError:
            return
        device, inode, size, _ = self.identity
        if (now.st_dev, now.st_ino) == (device, inode) and now.st_size < size:
            raise StoreError(f"{self.path}: truncated while it was in use: delete it and build the day again")


class Days:
    """Days by symbol and number; opened when first asked for, in each process anew, and forgotten the oldest first.

    Its header is read and checked once for each file and process. May cross a fork and be pickled.
    """

    def __init__(self, dataset: Dataset, *, max_mapped: int = MAX_MAPPED) -> None:
        self._dataset, self._max_mapped = dataset, max_mapped
        self._begin()

    def _begin(self) -> None:
        self._pid, self._lock = os.getpid(), threading.Lock()
        self._mapped: OrderedDict[tuple[int, int], Day] = OrderedDict()
        self._known: dict[tuple[int, int], tuple[Path, Identity, tuple[Place, ...]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"_dataset": self._dataset, "_max_mapped": self._max_mapped}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_dataset"], max_mapped=state["_max_mapped"])  # type: ignore[misc]

    def get(self, a: int, number: int) -> Day:
        """Symbol ``a`` on day ``number`` of the grid. Raises StoreError if its file is gone or damaged."""
        if self._pid != os.getpid():
            self._begin()
        key = (a, number)
        with self._lock:
            day = self._mapped.get(key)
            if day is None:
                day = self._mapped[key] = self._again(key) or self._open(key)
                if len(self._mapped) > self._max_mapped:
                    self._mapped.popitem(last=False)
            self._mapped.move_to_end(key)
            return day

    def _again(self, key: tuple[int, int]) -> Day | None:
        """A day whose header is known, mapped again; None if it is not known or another file has its path."""
        if key not in self._known:
            return None
        path, which, places = self._known[key]
        fd = Day(path, which, places, ()).descriptor()
        if fd is None:
            return None
        try:
            data = map_file(fd)
        finally:
            os.close(fd)
        views = (data[x.offset : x.stop].view(x.dtype).reshape(x.shape) for x in places)
        return Day(path, which, places, tuple(views))

    def _open(self, key: tuple[int, int]) -> Day:
        a, number = key
        dataset = self._dataset
        with dataset.store.open(dataset.symbols[a], dataset.grid.day(number)) as file:
            names = ("book", "features") if file.feature_names else ("book",)
            self._known[key] = file.path, file.identity, tuple(file.place(name) for name in names)
            arrays = (file.book_TLF, file.feature_TK) if file.feature_names else (file.book_TLF,)
        return Day(*self._known[key], arrays)
