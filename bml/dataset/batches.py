"""Batches of a dataset as numpy arrays, for any framework: this module and what it imports know no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import numpy as np

from bml.dataset.columns import Arrays, Columns
from bml.dataset.dataset import Dataset
from bml.dataset.labels import Bools
from bml.dataset.order import Order
from bml.dataset.prefetch import prefetched
from bml.dataset.reading import WindowReader
from bml.kernels import empty
from bml.types import Float32, Float64, Int64

#: float32 memory of a shape
Allocate = Callable[[tuple[int, ...]], Float32]
#: where a batch's books and window features are put
Room = tuple[Float32, Float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrayBatch:
    """One batch, field by field what :class:`bml.dataset.loader.Batch` holds as tensors."""

    x_short_BATLF: Float32
    x_feature_BATK: Float32
    present_BA: Float32
    x_long_BDAS: Float32
    long_present_BDA: Float32
    x_time_BK: Float32
    y_B: Int64
    w_B: Float32
    row_B: Int64

    def __len__(self) -> int:
        return int(self.row_B.shape[0])

    def copy(self) -> ArrayBatch:
        """One that outlives the loader's buffers."""
        return replace(self, **{f.name: getattr(self, f.name).copy() for f in fields(self)})


class ArrayLoader:
    """Iterates over ``rows`` of a dataset in batches of arrays; the last may be short.

    The order is a function of (seed, epoch, rank, world) alone: that of ``rows``, or with ``shuffle`` a permutation
    of it, dealt out to ``world`` ranks (:class:`bml.dataset.order.Order`). Iterating twice gives the same, ``epoch``
    iterates over another one, or over the rest of one. ``weights_N`` (one per row of ``rows``) become ``w_B``, ones
    without.

    A background thread fills ``depth`` buffers by turns, each when nobody uses it any more: a batch is valid until
    the next is asked for (``copy`` it to keep it). ``threads`` gather (None: ``BML_NUM_THREADS``, else 2 where there
    are as many processors). Files are opened lazily and per process, so a loader may be used after a fork, and
    pickled. ``allocate`` gives the buffers' memory. Cost per window: one read and one write of its bytes.
    Raises ValueError (rows that are no places in the index, weights of another number, options out of range);
    StoreError if a day file the index names is gone or damaged.
    """

    def __init__(
        self,
        dataset: Dataset,
        rows: Int64,
        *,
        batch_size: int = 32,
        shuffle: bool = False,
        seed: int = 0,
        epoch: int = 0,
        weights_N: Float64 | None = None,
        rank: int = 0,
        world: int = 1,
        depth: int = 2,
        threads: int | None = None,
        allocate: Allocate | None = None,
    ) -> None:
        if depth < 1:
            raise ValueError(f"{type(self).__name__}: depth must be at least 1, got {depth}")
        if weights_N is not None and weights_N.shape != rows.shape:
            raise ValueError(f"{type(self).__name__}: {weights_N.shape[0]} weights for {rows.shape[0]} rows")
        self.dataset, self.rows, self._weights_N = dataset, _places(rows, len(dataset)), weights_N
        self.order = Order(
            n_rows=self.rows.shape[0], batch_size=batch_size, shuffle=shuffle, seed=seed, rank=rank, world=world
        )
        self._epoch, self._depth, self._allocate = epoch, depth, allocate or _floats
        self._reader = WindowReader(dataset, threads=_threads() if threads is None else threads)
        self._columns = Columns(dataset)

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[ArrayBatch]:
        return self.epoch(self._epoch)

    def epoch(self, number: int, *, start_step: int = 0) -> Iterator[ArrayBatch]:
        """The batches of epoch ``number`` from step ``start_step`` on, as a whole pass over it would give them."""
        parts = self.order.steps(number, start_step)
        rooms = [self._room(len(parts[0])) for _ in range(min(self._depth, len(parts)))] or [self._room(0)]
        return prefetched(self._fill, parts, rooms)

    def batch(self, places: Int64) -> ArrayBatch:
        """The batch of any places in ``rows``, in memory of its own."""
        return self._fill(self._room(places.shape[0]), places)

    def _room(self, n: int) -> Room:
        book, feature = shapes(self.dataset, n)
        return self._allocate(book), self._allocate(feature)

    def columns(self, places: Int64) -> tuple[Arrays, Int64, Bools]:
        """All fields of a batch but its windows, by name; (B, A) symbols, the target first, and which are present."""
        rows = self.rows[places]
        weights = np.ones(places.shape[0]) if self._weights_N is None else self._weights_N[places]
        order_BA, present_BA = self._columns.assets(rows)
        columns = self._columns.of(rows, order_BA, present_BA)
        return columns | {"w_B": weights.astype(np.float32)}, order_BA, present_BA

    def _fill(self, room: Room, places: Int64) -> ArrayBatch:
        columns, order_BA, present_BA = self.columns(places)
        x_short_BATLF, x_feature_BATK = (x[: places.shape[0]] for x in room)
        asset_W = np.where(present_BA, order_BA, -1).reshape(-1)
        stop_W = np.repeat(self.dataset.row_N[self.rows[places]] + 1, order_BA.shape[1])
        self._reader.read(asset_W, stop_W, (_windows(x_short_BATLF), _windows(x_feature_BATK)))
        return ArrayBatch(x_short_BATLF=x_short_BATLF, x_feature_BATK=x_feature_BATK, **columns)


def shapes(dataset: Dataset, n: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of the books and the window features of ``n`` windows."""
    sizes = dataset.shape
    first = (n, sizes["assets"], sizes["steps"])
    return (*first, sizes["levels"], sizes["fields"]), (*first, sizes["features"])


def _windows(x: Float32) -> Float32:
    """(B, A, ...) as (B A, ...)."""
    windows: Float32 = x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])
    return windows


def _floats(shape: tuple[int, ...]) -> Float32:
    """Memory of huge pages, to be used again."""
    return empty(shape, np.float32)


def _places(rows: Int64, n: int) -> Int64:
    """``rows`` as int64; ValueError for a mask, or for a place outside of the index."""
    found = np.asarray(rows)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise ValueError(f"rows must be 1-D integers, places in the index, got {found.ndim}-D {found.dtype}")
    if found.size and not 0 <= found.min() <= found.max() < n:
        raise ValueError(f"rows must lie in 0..{n - 1}, the rows of the index, got {found.min()} to {found.max()}")
    return found.astype(np.int64, copy=False)


def _threads() -> int:
    told = os.environ.get("BML_NUM_THREADS")
    if told is not None and not told.isdigit():
        raise ValueError(f"BML_NUM_THREADS must be a number of threads, not {told!r}")
    return min(2, len(os.sched_getaffinity(0))) if told is None else int(told)
