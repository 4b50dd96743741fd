"""Batches of a dataset as torch tensors: windows of mapped day files, or of days that lie on the device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from bml.dataset.batches import ArrayBatch, ArrayLoader
from bml.dataset.dataset import Dataset
from bml.dataset.resident import ResidentDays, fits, resident
from bml.dataset.standard import Standard
from bml.types import Float32, Float64, Int64

__all__ = ["Batch", "Residency", "Standard", "WindowLoader"]

#: where days are kept: in files and the host's memory, on the device, or there if it is a GPU with room for them
Residency = Literal["auto", "host", "device"]


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

    @classmethod
    def of(cls, batch: ArrayBatch) -> Batch:
        """Tensors over the same memory."""
        with torch.inference_mode(False):  # else they could not be used outside of the caller's inference mode
            return cls(**{f.name: torch.from_numpy(getattr(batch, f.name)) for f in fields(cls)})

    def clone(self) -> Batch:
        """A copy that outlives the loader's buffers."""
        return replace(self, **{f.name: getattr(self, f.name).clone() for f in fields(self)})


class WindowLoader:
    """:class:`bml.dataset.batches.ArrayLoader` for torch: the same options, order, buffers and bytes, as ``Batch``.

    ``device`` is where the batches will be used. ``residency`` "host": batches lie in the host's memory, pinned where
    ``device`` is a GPU. "device": every symbol-day is uploaded when first needed and stays, windows are gathered
    there, and so batches lie on ``device``; loaders of one dataset share the days. "auto" is "device" for a GPU with
    room for all days in 0.6 of its free memory, else "host". Either way the batches are the same, bit for bit.
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
        rank: int = 0,
        world: int = 1,
        depth: int = 2,
        threads: int | None = None,
        device: str | torch.device = "cpu",
        residency: Residency = "auto",
    ) -> None:
        if residency not in ("auto", "host", "device"):
            raise ValueError(f"WindowLoader: residency must be 'auto', 'host' or 'device', got {residency!r}")
        self.device, self._epoch = torch.device(device), epoch
        is_gpu = self.device.type == "cuda"
        self.arrays = ArrayLoader(
            dataset, rows, batch_size=batch_size, shuffle=shuffle, seed=seed, epoch=epoch, weights_N=weights_N,
            rank=rank, world=world, depth=depth, threads=threads, allocate=_pinned if is_gpu else None,
        )  # fmt: skip
        self._days: ResidentDays | None = None
        if residency == "device" or (residency == "auto" and is_gpu and fits(dataset, self.device)):
            self._days = resident(dataset, self.device)

    def __len__(self) -> int:
        return len(self.arrays)

    @property
    def is_resident(self) -> bool:
        """Whether the days are kept on the device."""
        return self._days is not None

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(self._epoch)

    def epoch(self, number: int, *, start_step: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``number`` from step ``start_step`` on, as a whole pass over it would give them."""
        if self._days is None:
            return (Batch.of(batch) for batch in self.arrays.epoch(number, start_step=start_step))
        parts = self.arrays.order.steps(number, start_step)
        return (self._on_device(self._days, part) for part in parts)

    def batch(self, places: Int64) -> Batch:
        """The batch of any places in ``rows``, in memory of its own."""
        if self._days is None:
            return Batch.of(self.arrays.batch(places))
        return self._on_device(self._days, places)

    def _on_device(self, days: ResidentDays, places: Int64) -> Batch:
        arrays = self.arrays
        columns, order_BA, present_BA = arrays.columns(places)
        with torch.inference_mode(False):
            moved = {name: torch.from_numpy(x).to(self.device) for name, x in columns.items()}
            stop_B = arrays.dataset.row_N[arrays.rows[places]] + 1
            book, *feature = days.windows(order_BA, present_BA, stop_B)
            none = book.new_empty(*book.shape[:3], 0)
            return Batch(x_short_BATLF=book, x_feature_BATK=feature[0] if feature else none, **moved)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_days": None if self._days is None else self.arrays.dataset}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        if state["_days"] is not None:
            self._days = resident(state["_days"], self.device)


def _pinned(shape: tuple[int, ...]) -> Float32:
    """Memory a GPU reads by itself."""
    with torch.inference_mode(False):
        memory: Float32 = torch.empty(shape, pin_memory=True).numpy()
    return memory
