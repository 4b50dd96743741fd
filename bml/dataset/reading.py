"""Windows of many day files into one array: from the mapping where the pages are in memory, else read from the file."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby

import numpy as np

from bml.book.mapping import resident_share
from bml.dataset.cold import Slice, read_files
from bml.dataset.dataset import Dataset
from bml.dataset.days import Days
from bml.dataset.standard import Standard, standards
from bml.types import Float32, Floats, Int64

#: a window with a slice of which less is in memory is read from its files: a mapping waits for one page after another
WARM = 0.95

_FIRST: Int64 = np.zeros(1, dtype=np.int64)


def _share(x: Slice) -> float:
    """How much of a slice is in memory. Raises StoreError if its file has been shortened; such pages never are."""
    share = resident_share(x.rows)
    if share < 1.0:
        x.day.check_length()
    return share


class WindowReader:
    """Reads windows of a dataset, each of one symbol and as many rows as the dataset's windows have.

    Both ways give the same bits. A file is opened to be read and closed again: no descriptor is kept. May cross a
    fork and be pickled. ``threads`` copy what is in memory, ``cold.READERS`` read what is not.
    """

    def __init__(self, dataset: Dataset, *, threads: int) -> None:
        self._days, self._threads = Days(dataset), threads
        self._per_day, self._rows = dataset.grid.rows_per_day, dataset.window_rows
        self._standards = standards(dataset.scaler)

    def read(self, asset_W: Int64, stop_W: Int64, outs: tuple[Float32, ...]) -> None:
        """The rows before row ``stop_W`` of the grid, of symbols ``asset_W`` (-1: zeros throughout), standardised.

        ``outs``: the books (W, T, L, F) and, where there are window features, those (W, T, K). Raises StoreError.
        """
        books = self._slices(asset_W, stop_W)
        for which, (standard, out_WTX) in enumerate(zip(self._standards, outs, strict=False)):
            slices = [replace(x, which=which) for x in books] if which else books
            cold = {x.w for x in slices if _share(x) < WARM}
            if not cold:
                self._gather(standard, asset_W, slices, out_WTX)
                continue
            for w in set(range(out_WTX.shape[0])) - cold:
                one = slice(w, w + 1)
                self._gather(standard, asset_W[one], [replace(x, w=0) for x in slices if x.w == w], out_WTX[one])
            self._read_files(standard, asset_W, [x for x in slices if x.w in cold], out_WTX)

    def _slices(self, asset_W: Int64, stop_W: Int64) -> list[Slice]:
        found = []
        for w, (a, stop) in enumerate(zip(asset_W.tolist(), stop_W.tolist(), strict=True)):
            row = begin = stop - self._rows
            while a >= 0 and row < stop:
                number, start = divmod(row, self._per_day)
                count = min(self._per_day - start, stop - row)
                found.append(Slice(w, self._days.get(a, number), 0, start, count, row - begin))
                row += count
        return found

    def _gather(self, standard: Standard, asset_W: Int64, slices: list[Slice], out_WTX: Float32) -> None:
        """Every window from the mappings, in one call."""
        windows = {w: list(mine) for w, mine in groupby(slices, key=lambda x: x.w)}
        if not windows:
            out_WTX[...] = 0.0
            return
        day_WK = np.full((len(asset_W), max(map(len, windows.values()))), -1, dtype=np.int64)
        start_W = np.zeros(len(asset_W), dtype=np.int64)
        days: list[Floats] = []
        for w, mine in windows.items():
            start_W[w] = mine[0].start
            day_WK[w, : len(mine)] = np.arange(len(days), len(days) + len(mine))
            days += [x.day.arrays[x.which] for x in mine]
        which_W = np.maximum(asset_W, 0)
        standard.into(tuple(days), day_WK, start_W, which_W, out_WTX, rows=self._rows, threads=self._threads)

    def _read_files(self, standard: Standard, asset_W: Int64, slices: list[Slice], out_WTX: Float32) -> None:
        def put(x: Slice, rows_TX: Floats) -> None:
            out = out_WTX[x.w, x.to : x.to + x.count][None]
            standard.into((rows_TX,), _FIRST[:, None], _FIRST, _FIRST + asset_W[x.w], out, rows=x.count)

        read_files(slices, put)
