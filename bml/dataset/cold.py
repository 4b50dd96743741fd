"""Slices of day files that are not in memory: read by threads, with the system told in time what comes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from bml.dataset.days import Day
from bml.types import Floats, StoreError

#: threads that read files: one converts while the other waits
READERS = 2

#: bytes of a file that one thread reads
PART = 4 << 20

#: bytes read at a time; few enough to be converted out of the cache
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows [start, start + count) of array ``which`` of a day, which become rows from ``to`` on of window ``w``."""

    w: int
    day: Day
    which: int
    start: int
    count: int
    to: int

    @property
    def rows(self) -> Floats:
        """The rows in the mapping."""
        return self.day.arrays[self.which][self.start : self.start + self.count]

    def cut(self, n_bytes: int) -> Iterator[Slice]:
        """The slice in parts of so many bytes, or of a row where that has more."""
        most = max(1, n_bytes // self.day.row_bytes(self.which))
        for done in range(0, self.count, most):
            count = min(most, self.count - done)
            yield replace(self, start=self.start + done, count=count, to=self.to + done)

    def place(self) -> tuple[int, int]:
        """Its first byte in the file and how many it has."""
        each = self.day.row_bytes(self.which)
        return self.day.places[self.which].offset + self.start * each, self.count * each


def read_files(slices: list[Slice], put: Callable[[Slice, Floats], object]) -> None:
    """``put(part, rows)`` for parts that together are all slices, by several threads; ``rows`` are valid meanwhile.

    Slices come in the order of their windows. The system reads a window while the one before is put. A slice whose
    path leads to another file by now is taken from its mapping. Raises StoreError for a file that is cut short.
    """
    windows = [list(mine) for _, mine in groupby(slices, key=lambda x: x.w)]
    tasks: deque[tuple[bool, Slice]] = deque()
    for now, ahead in zip([[], *windows], [*windows, []], strict=True):
        tasks += [(True, x) for x in ahead]
        tasks += [(False, part) for x in now for part in x.cut(PART)]

    def work() -> None:
        scratch = np.empty(0, dtype=np.uint8)
        while tasks:
            try:
                is_advice, x = tasks.popleft()
            except IndexError:  # another thread took the last
                return
            if is_advice:
                _advise(x)
                continue
            scratch = scratch if scratch.nbytes else np.empty(max(CHUNK, x.day.row_bytes(x.which)), dtype=np.uint8)
            for part, rows_TX in _read(x, scratch):
                put(part, rows_TX)

    with ThreadPoolExecutor(READERS, thread_name_prefix="bml-reader") as pool:
        for reader in [pool.submit(work) for _ in range(READERS)]:
            reader.result()


def _advise(x: Slice) -> None:
    fd = x.day.descriptor()
    if fd is not None:
        try:
            os.posix_fadvise(fd, *x.place(), os.POSIX_FADV_WILLNEED)
        finally:
            os.close(fd)


def _read(x: Slice, scratch: npt.NDArray[np.uint8]) -> Iterator[tuple[Slice, Floats]]:
    """Parts of a slice, one after another in ``scratch``."""
    fd = x.day.descriptor()
    if fd is None:
        yield x, x.rows
        return
    try:
        for part in x.cut(scratch.nbytes):
            first, size = part.place()
            _fill(fd, scratch[:size].data, first, x.day)
            place = x.day.places[x.which]
            rows_TX: npt.NDArray[Any] = scratch[:size].view(place.dtype)
            yield part, rows_TX.reshape(part.count, *place.shape[1:])
    finally:
        os.close(fd)


def _fill(fd: int, into: memoryview, offset: int, day: Day) -> None:
    done = 0
    while done < len(into):
        count = os.preadv(fd, [into[done:]], offset + done)
        if count == 0:
            raise StoreError(f"{day.path}: truncated while it was read: delete it and build the day again")
        done += count
