"""Batches gathered from mapped day files: a window is two or three contiguous slices a symbol, never materialised."""

from __future__ import annotations

import math
import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from bml.dataset.context import INPUT_LIMIT
from bml.dataset.dataset import Dataset
from bml.types import Float32, Float64, Floats, Int64

#: values scaled at a time: few enough to stay in the cache between the two passes, and for torch to use the one
#: thread it is called from (its parallel loops, from 32768 on, lose to the model's own when cores are few)
_PIECE = 32_767

#: mapped books kept; a mapping costs address space, not memory nor a file descriptor
_MAX_OPEN = 8192


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """One batch; the asset axis begins with the target, then the other symbols in their order.

    ``x_short_BATLF`` float32, oldest row first, standardised, clipped at +-``INPUT_LIMIT`` standard deviations, 0
    where missing; all 0 where ``present_BA`` (float32, 1 or 0) is 0. ``x_feature_BATK`` float32 likewise, the window
    features of the same rows (K = 0 without any). ``x_long_BDAS`` float32 likewise, oldest day first, with
    ``long_present_BDA``.
    ``x_time_BK`` float32, ``y_B`` int64, ``w_B`` float32, ``row_B`` int64 (rows of the dataset's index).
    """

    x_short_BATLF: Tensor
    x_feature_BATK: Tensor
    present_BA: Tensor
    x_long_BDAS: Tensor
    long_present_BDA: Tensor
    x_time_BK: Tensor
    y_B: Tensor
    w_B: Tensor
    row_B: Tensor

    def __len__(self) -> int:
        return int(self.row_B.shape[0])

    def clone(self) -> Batch:
        """A copy that outlives the loader's buffers."""
        return replace(self, **{f.name: getattr(self, f.name).clone() for f in fields(self)})


class Standard:
    """Rows as networks see them: (x - mean) / std, clipped at +-``INPUT_LIMIT``, 0 where missing; float32.

    ``mean`` and ``std`` are of every symbol: (A, L, F) those of the books, (A, K) those of the window features.
    """

    def __init__(self, mean: Float64, std: Float64) -> None:
        with torch.inference_mode(False):  # else they could not be used outside of the caller's inference mode
            self._scale = (1.0 / torch.from_numpy(std)).float()
            self._shift = (-torch.from_numpy(mean) / torch.from_numpy(std)).float()

    def into(self, a: int, rows: Tensor, out: Tensor) -> None:
        """Write the standardised ``rows`` of symbol ``a``, (T, L, F) or (T, K), to ``out``."""
        torch.addcmul(self._shift[a], rows, self._scale[a], out=out)
        out.clamp_(-INPUT_LIMIT, INPUT_LIMIT).nan_to_num_(nan=0.0)

    def numpy(self, a: int, book_TLF: Floats) -> Float32:
        """The standardised ``book_TLF`` of symbol ``a`` as a new array."""
        with torch.inference_mode():
            out_TLF = torch.empty(book_TLF.shape, dtype=torch.float32)
            self.into(a, torch.from_numpy(book_TLF), out_TLF)
            standard_TLF: Float32 = out_TLF.numpy()
        return standard_TLF


class WindowLoader:
    """Iterates over ``rows`` of a dataset in batches; the last may be short.

    The order is a function of (seed, epoch) alone: that of ``rows``, or with ``shuffle`` a permutation of it.
    Iterating twice gives the same; set ``epoch`` between iterations for another permutation. ``weights_N``
    (one per row of ``rows``) become ``w_B``, ones without.

    A batch is filled by a background thread while the previous one is used, into one of two buffers: it is
    valid until the next is asked for (``clone`` it to keep it). Files are opened lazily and per process, so a
    loader may be used after a fork. Cost per window: one read and one write of its bytes.
    Raises StoreError if a day file the index names is gone or damaged.
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
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"WindowLoader: batch_size must be at least 1, got {batch_size}")
        if weights_N is not None and weights_N.shape != rows.shape:
            raise ValueError(f"WindowLoader: {weights_N.shape[0]} weights for {rows.shape[0]} rows")
        self.epoch = epoch
        self._dataset, self._rows, self._weights_N = dataset, np.asarray(rows, dtype=np.int64), weights_N
        self._batch_size, self._shuffle, self._seed = batch_size, shuffle, seed
        self._days = _Days(dataset)
        scaler = dataset.scaler
        self._standards = [Standard(scaler.mean_ALF, scaler.std_ALF)]
        if scaler.mean_AK is not None and scaler.std_AK is not None:
            self._standards.append(Standard(scaler.mean_AK, scaler.std_AK))
        n_assets = len(dataset.symbols)
        # order[a] = the target a, then the others
        self._order_AA = np.array([[a, *(b for b in range(n_assets) if b != a)] for a in range(n_assets)])
        with torch.inference_mode(False):
            self._long_DAS, self._long_present_DA = _long_tables(dataset)

    def __len__(self) -> int:
        return math.ceil(len(self._rows) / self._batch_size)

    def order(self) -> Int64:
        """Positions into ``rows`` in the order of this epoch."""
        if not self._shuffle:
            return np.arange(self._rows.shape[0])
        return np.random.default_rng([self._seed, self.epoch]).permutation(self._rows.shape[0])

    def __iter__(self) -> Iterator[Batch]:
        order = self.order()
        parts = [order[start : start + self._batch_size] for start in range(0, order.shape[0], self._batch_size)]
        if not parts:
            return
        buffers = [self._buffer(len(parts[0])) for _ in range(min(2, len(parts)))]
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="bml-loader") as pool:
            pending = pool.submit(self._fill, buffers[0], parts[0])
            for k in range(1, len(parts) + 1):
                batch = pending.result()
                if k < len(parts):
                    pending = pool.submit(self._fill, buffers[k % 2], parts[k])
                yield batch

    def _buffer(self, n: int) -> tuple[Tensor, Tensor]:
        """Room for the books and the window features of ``n`` windows."""
        shape = self._dataset.shape
        with torch.inference_mode(False):  # else it could not be filled outside of the caller's inference mode
            book = torch.empty(n, *(shape[key] for key in ("assets", "steps", "levels", "fields")))
            return book, torch.empty(n, *(shape[key] for key in ("assets", "steps", "features")))

    def _fill(self, buffer: tuple[Tensor, Tensor], part: Int64) -> Batch:
        dataset = self._dataset
        rows = self._rows[part]
        order_BA = self._order_AA[dataset.index.target_N[rows]]
        present_BA = np.take_along_axis(dataset.present_NA[rows], order_BA, axis=1)
        x_short_BATLF, x_feature_BATK = (x[: rows.shape[0]] for x in buffer)
        for b, stop in enumerate((dataset.row_N[rows] + 1).tolist()):
            for slot, a in enumerate(order_BA[b].tolist()):
                if present_BA[b, slot]:
                    self._gather(a, stop, (x_short_BATLF[b, slot], x_feature_BATK[b, slot]))
                else:
                    x_short_BATLF[b, slot].zero_()
                    x_feature_BATK[b, slot].zero_()
        first_B = dataset.row_N[rows] // dataset.grid.rows_per_day  # the tables begin context_days early
        day_BD1 = torch.from_numpy(first_B[:, None, None] + np.arange(dataset.context_days)[None, :, None])
        asset_B1A = torch.from_numpy(order_BA[:, None, :])
        weights = np.ones(part.shape[0]) if self._weights_N is None else self._weights_N[part]
        return Batch(
            x_short_BATLF=x_short_BATLF,
            x_feature_BATK=x_feature_BATK,
            present_BA=torch.from_numpy(present_BA.astype(np.float32)),
            x_long_BDAS=self._long_DAS[day_BD1, asset_B1A],
            long_present_BDA=self._long_present_DA[day_BD1, asset_B1A],
            x_time_BK=torch.from_numpy(dataset.x_time_NK[rows]),
            y_B=torch.from_numpy(dataset.index.y_N[rows]),
            w_B=torch.from_numpy(weights.astype(np.float32)),
            row_B=torch.from_numpy(rows),
        )

    def _gather(self, a: int, stop: int, outs: tuple[Tensor, Tensor]) -> None:
        """Rows [stop - window, stop) of symbol ``a``, books and features, standardised."""
        per_day = self._dataset.grid.rows_per_day
        row = stop - self._dataset.window_rows
        piece_rows = max(1, _PIECE // outs[0][0].numel())
        done = 0
        while row < stop:
            number, within = divmod(row, per_day)
            count = min(per_day - within, stop - row, piece_rows)
            views = self._days.get(a, number)
            for view, standard, out in zip(views, self._standards, outs, strict=False):  # the features may not be there
                standard.into(a, view[within : within + count], out[done : done + count])
            row, done = row + count, done + count


class _Days:
    """Views of the arrays of recently used days, least recently used forgotten first; opened per process."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._views: OrderedDict[tuple[int, int], tuple[Tensor, ...]] = OrderedDict()
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def get(self, a: int, number: int) -> tuple[Tensor, ...]:
        """The mapped book (T, L, F) of symbol ``a`` on day ``number`` and, if there are any, its features (T, K)."""
        if self._pid != os.getpid():
            self._views, self._lock, self._pid = OrderedDict(), threading.Lock(), os.getpid()
        with self._lock:
            view = self._views.get((a, number))
            if view is None:
                view = self._views[a, number] = self._open(a, number)
                if len(self._views) > _MAX_OPEN:
                    self._views.popitem(last=False)
            self._views.move_to_end((a, number))
            return view

    def _open(self, a: int, number: int) -> tuple[Tensor, ...]:
        dataset = self._dataset
        file = dataset.store.open(dataset.symbols[a], dataset.grid.day(number))
        with warnings.catch_warnings():
            # torch has no read-only tensors; these are only ever read
            warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
            arrays = (file.book_TLF, file.feature_TK) if file.feature_names else (file.book_TLF,)
            return tuple(torch.from_numpy(x) for x in arrays)


def _long_tables(dataset: Dataset) -> tuple[Tensor, Tensor]:
    """Standardised, clipped daily statistics and presence, (context_days + D, A, ...): missing before the data."""
    scaler = dataset.scaler
    scaled_DAS = ((dataset.moments_DAS - scaler.mean_AS) / scaler.std_AS).clip(-INPUT_LIMIT, INPUT_LIMIT)
    pad = ((dataset.context_days, 0), (0, 0))
    long_DAS = np.pad(np.nan_to_num(scaled_DAS), (*pad, (0, 0)))
    present_DA = np.pad(dataset.moments_present_DA, pad)
    return torch.from_numpy(long_DAS.astype(np.float32)), torch.from_numpy(present_DA.astype(np.float32))
