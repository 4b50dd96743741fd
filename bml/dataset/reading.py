"""Windows of many day files into one array: from the mapping where the pages are in memory, else read from the file."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from bml.book.mapping import resident_share
from bml.dataset.dataset import Dataset
from bml.dataset.days import Day, Days
from bml.dataset.standard import Standard, standards
from bml.types import Float32, Floats, Int64, StoreError

#: a slice of which less is in memory is read from its file: faults of a mapping are served one after another
WARM = 0.95

#: bytes read from a file at a time; small enough to be converted out of the cache
CHUNK = 1 << 20

#: threads that read files: one converts while the other waits
READERS = 2


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows [start, start + count) of a day, which become rows from ``to`` on of window ``w``."""

    w: int
    day: Day
    start: int
    count: int
    to: int


class WindowReader:
    """Reads windows of a dataset, each of one symbol and as many rows as the dataset's windows have.

    Both ways give the same bits. A file is opened to be read and closed again: no descriptor is kept. May cross a
    fork and be pickled. ``threads`` copy what is in memory, ``READERS`` read what is not.
    """

    def __init__(self, dataset: Dataset, *, threads: int) -> None:
        self._days, self._threads = Days(dataset), threads
        self._per_day, self._rows = dataset.grid.rows_per_day, dataset.window_rows
        self._standards = standards(dataset.scaler)

    def read(self, asset_W: Int64, stop_W: Int64, outs: tuple[Float32, ...]) -> None:
        """The rows before row ``stop_W`` of the grid, of symbols ``asset_W`` (-1: zeros throughout), standardised.

        ``outs``: the books (W, T, L, F) and, where there are window features, those (W, T, K). Raises StoreError.
        """
        slices = self._slices(asset_W, stop_W)
        for which, (standard, out_WTX) in enumerate(zip(self._standards, outs, strict=False)):
            cold = {x.w for x in slices if resident_share(_rows(x, which)) < WARM}
            if not cold:
                self._gather(which, standard, asset_W, slices, out_WTX)
                continue
            for w in set(range(out_WTX.shape[0])) - cold:
                one = slice(w, w + 1)
                mine = [replace(x, w=0) for x in slices if x.w == w]
                self._gather(which, standard, asset_W[one], mine, out_WTX[one])
            self._read_files(which, standard, asset_W, [x for x in slices if x.w in cold], out_WTX)

    def _slices(self, asset_W: Int64, stop_W: Int64) -> list[Slice]:
        found = []
        for w, (a, stop) in enumerate(zip(asset_W.tolist(), stop_W.tolist(), strict=True)):
            row = begin = stop - self._rows
            while a >= 0 and row < stop:
                number, start = divmod(row, self._per_day)
                count = min(self._per_day - start, stop - row)
                found.append(Slice(w, self._days.get(a, number), start, count, row - begin))
                row += count
        return found

    def _gather(
        self, which: int, standard: Standard, asset_W: Int64, slices: list[Slice], out_WTX: Float32
    ) -> None:
        """Every window from the mappings, in one call."""
        windows = {w: list(mine) for w, mine in groupby(slices, key=lambda x: x.w)}
        day_WK = np.full((len(asset_W), max(map(len, windows.values()), default=1)), -1, dtype=np.int64)
        start_W = np.zeros(len(asset_W), dtype=np.int64)
        places: dict[int, int] = {}
        days: list[Floats] = []
        for w, mine in windows.items():
            start_W[w] = mine[0].start
            for k, x in enumerate(mine):
                if id(x.day) not in places:
                    places[id(x.day)] = len(days)
                    days.append(x.day.arrays[which])
                day_WK[w, k] = places[id(x.day)]
        if not days:
            out_WTX[...] = 0.0
            return
        which_W = np.maximum(asset_W, 0)
        standard.into(tuple(days), day_WK, start_W, which_W, out_WTX, rows=self._rows, threads=self._threads)

    def _read_files(
        self, which: int, standard: Standard, asset_W: Int64, slices: list[Slice], out_WTX: Float32
    ) -> None:
        """By several threads, a chunk at a time; the system is told of a window's slices one window ahead."""
        windows = [list(mine) for _, mine in groupby(slices, key=lambda x: x.w)]
        tasks: deque[tuple[Slice, bool]] = deque()
        for now, ahead in zip([[], *windows], [*windows, []], strict=True):
            tasks += [(x, True) for x in ahead]
            tasks += [(chunk, False) for x in now for chunk in _chunks(x, which)]

        def work() -> None:
            scratch = np.empty(CHUNK, dtype=np.uint8)
            while tasks:
                try:
                    x, is_advice = tasks.popleft()
                except IndexError:  # the other thread took the last
                    return
                if is_advice:
                    _advise(x, which)
                else:
                    rows_TX = _read(x, which, scratch)
                    out = out_WTX[x.w, x.to : x.to + x.count][None]
                    standard.into((rows_TX,), _FIRST[:, None], _FIRST, _FIRST + asset_W[x.w], out, rows=x.count)

        with ThreadPoolExecutor(READERS, thread_name_prefix="bml-reader") as pool:
            for reader in [pool.submit(work) for _ in range(READERS)]:
                reader.result()


_FIRST: Int64 = np.zeros(1, dtype=np.int64)


def _rows(x: Slice, which: int) -> Floats:
    return x.day.arrays[which][x.start : x.start + x.count]


def _chunks(x: Slice, which: int) -> Iterator[Slice]:
    most = max(1, CHUNK // x.day.row_bytes(which))
    for done in range(0, x.count, most):
        yield replace(x, start=x.start + done, count=min(most, x.count - done), to=x.to + done)


def _advise(x: Slice, which: int) -> None:
    fd = x.day.descriptor()
    if fd is not None:
        try:
            each = x.day.row_bytes(which)
            begin = x.day.places[which].offset + x.start * each
            os.posix_fadvise(fd, begin, x.count * each, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(fd)


def _read(x: Slice, which: int, scratch: npt.NDArray[np.uint8]) -> Floats:
    """The rows read into ``scratch``; those of the mapping where the path leads to another file by now."""
    fd = x.day.descriptor()
    if fd is None:
        return _rows(x, which)
    place, each = x.day.places[which], x.day.row_bytes(which)
    size = x.count * each
    try:
        _fill(fd, memoryview(scratch)[:size], place.offset + x.start * each, x.day)
    finally:
        os.close(fd)
    rows_TX: npt.NDArray[Any] = scratch[:size].view(place.dtype).reshape(x.count, *place.shape[1:])
    return rows_TX


def _fill(fd: int, into: memoryview, offset: int, day: Day) -> None:
    done = 0
    while done < len(into):
        count = os.preadv(fd, [into[done:]], offset + done)
        if count == 0:
            raise StoreError(f"{day.path}: truncated while it was read: delete it and build the day again")
        done += count
