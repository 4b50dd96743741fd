"""Day files of any world, built once for the same rows: a moment costs the days it touches, not the whole store.

A day is a pure function of the rows it was built from, what was learned, and its name. Every read of its building is
written down, so a day is built again where one of these reads gives other rows, and nowhere else.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bml.audit.world import Key, Read, World, WorldSource
from bml.book.dayfile import DayFile
from bml.book.days import DayBuilder, Learned, days_between, store_digest
from bml.book.hdf5 import Attribute, Place, read_header
from bml.book.mapping import Identity, identity, map_file
from bml.book.store import DayStore
from bml.config import Config
from bml.config.secret import redact_values

Name = tuple[str, dt.date]


@dataclass(frozen=True, eq=False, slots=True)
class Built:
    """A day file that was written here, with its header read: opening it again costs nothing."""

    path: Path
    attributes: Mapping[str, Attribute]
    places: Mapping[str, Place]
    data: npt.NDArray[np.uint8]
    identity: Identity

    def open(self) -> DayFile:
        return DayFile(self.path, self.attributes, self.places, self.data, self.identity)


@dataclass(frozen=True, slots=True)
class WorldStore(DayStore):
    """A store whose days may lie anywhere: those of one world. It is only read."""

    built: Mapping[Name, Built] = field(default_factory=dict)

    def path(self, symbol: str, day: dt.date) -> Path:
        return self.built[symbol, day].path

    def open(self, symbol: str, day: dt.date) -> DayFile:
        return self.built[symbol, day].open()


class Builds:
    """Days of a configuration in any world of ``source``, kept below ``folder``."""

    def __init__(self, cfg: Config, source: WorldSource, folder: Path) -> None:
        self._cfg, self._source, self._folder = cfg, source, folder
        self._known: dict[tuple[str, Name], list[tuple[tuple[tuple[Read, Key], ...], Built]]] = {}
        self._numbers = count()
        self._origin: Any = redact_values(source.describe())
        self.n_built = 0

    def store(self, world: World, learned: Learned) -> WorldStore:
        """Every day of the data as this world has it. Raises what building a day raises."""
        digest = store_digest(self._cfg, learned)
        days = days_between(self._cfg.data.start, self._cfg.data.stop)
        names = [(symbol, day) for symbol in self._cfg.data.symbols for day in days]
        built = {name: self._day(name, world, learned, digest) for name in names}
        return WorldStore(self._folder, digest, built=built)

    def forget(self, world: World) -> None:
        """Remove the days no other world can have."""
        own = (world.cut_ns, world.spell_ns, world.spell)
        for key, entries in self._known.items():
            kept = [entry for entry in entries if all(told != own for _, told in entry[0])]
            for reads, built in entries:
                if any(told == own for _, told in reads):
                    built.path.unlink()
            self._known[key] = kept

    def _day(self, name: Name, world: World, learned: Learned, digest: str) -> Built:
        entries = self._known.setdefault((digest, name), [])
        for reads, built in entries:
            if all(world.key(read) == key for read, key in reads):
                return built
        self._source.enter(world)
        value = DayBuilder(self._cfg, self._source, learned).build(*name)
        written = DayStore(self._folder, digest).write(value, meta={"origin": self._origin, "learned": learned})
        built = _opened(written.rename(self._folder / f"{next(self._numbers)}.h5"))
        entries.append((tuple((read, world.key(read)) for read in self._source.reads), built))
        self.n_built += 1
        return built


def _opened(path: Path) -> Built:
    attributes, places = read_header(path)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return Built(path, attributes, places, map_file(fd), identity(fd))
    finally:
        os.close(fd)
