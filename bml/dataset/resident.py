"""The day files of a dataset in the memory of a device: uploaded once, windows are gathered there."""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bml.dataset.context import INPUT_LIMIT
from bml.dataset.dataset import Dataset
from bml.dataset.days import Days
from bml.dataset.standard import standards
from bml.types import Int64

#: of a device's free memory, what the days may take; the rest is the network's
SHARE = 0.6


class ResidentDays:
    """Books, and window features if there are any, (A, D T, ...) in the dtype of the day files.

    A symbol-day is uploaded when first needed. Raises StoreError, and torch.OutOfMemoryError where the device has too
    little memory for all of them.
    """

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        self._days, self._per_day = Days(dataset, max_mapped=1), dataset.grid.rows_per_day
        self._rows, self._device = dataset.window_rows, device
        self._shape = (len(dataset.symbols), dataset.grid.n_rows)
        self._lock = threading.Lock()
        self._there = np.zeros((len(dataset.symbols), dataset.grid.n_days), dtype=np.bool_)
        self._stores: list[Tensor] = []
        self._standards = [
            (torch.from_numpy(x.shift_AX).to(device), torch.from_numpy(x.scale_AX).to(device))
            for x in standards(dataset.scaler)
        ]

    def windows(self, order_BA: Int64, present_BA: npt.NDArray[np.bool_], stop_B: Int64) -> list[Tensor]:
        """(B, A, T, ...) float32 on the device: rows before ``stop_B`` of every present symbol, standardised."""
        self._upload(order_BA, present_BA, stop_B)
        start_BA = np.where(present_BA, order_BA * self._shape[1] + (stop_B - self._rows)[:, None], 0)
        first_W = torch.from_numpy(start_BA.reshape(-1)).to(self._device)
        row_WT = first_W[:, None] + torch.arange(self._rows, device=self._device)
        asset_BA = torch.from_numpy(order_BA).to(self._device)
        absent = [torch.from_numpy(x).to(self._device) for x in np.nonzero(~present_BA)]
        out = []
        for store_ATX, (shift_AX, scale_AX) in zip(self._stores, self._standards, strict=False):
            rows = store_ATX.flatten(0, 1).index_select(0, row_WT.reshape(-1))
            rows = rows.view(*order_BA.shape, self._rows, *store_ATX.shape[2:])
            # two steps, not addcmul: which may round once or twice, as the device has it
            x = torch.mul(rows, scale_AX[asset_BA].unsqueeze(2)).add_(shift_AX[asset_BA].unsqueeze(2))
            x.clamp_(-INPUT_LIMIT, INPUT_LIMIT).nan_to_num_(nan=0.0)
            x[absent[0], absent[1]] = 0.0
            out.append(x)
        return out

    def _upload(self, order_BA: Int64, present_BA: npt.NDArray[np.bool_], stop_B: Int64) -> None:
        first_B, last_B = (stop_B - self._rows) // self._per_day, (stop_B - 1) // self._per_day
        wanted = np.zeros_like(self._there)
        for assets, low, high in zip(
            (order[present] for order, present in zip(order_BA, present_BA, strict=True)), first_B, last_B, strict=True
        ):
            wanted[assets, low : high + 1] = True
        with self._lock:
            for a, number in np.argwhere(wanted & ~self._there).tolist():
                arrays: tuple[npt.NDArray[Any], ...] = self._days.get(a, number).arrays
                if not self._stores:
                    self._stores = [self._room(x) for x in arrays]
                rows = slice(number * self._per_day, (number + 1) * self._per_day)
                for store_ATX, x in zip(self._stores, arrays, strict=True):
                    store_ATX[a, rows].copy_(torch.from_numpy(x.copy()))
                self._there[a, number] = True

    def _room(self, day_TX: npt.NDArray[Any]) -> Tensor:
        dtype = torch.from_numpy(np.empty(0, day_TX.dtype)).dtype
        with torch.inference_mode(False):
            return torch.zeros((*self._shape, *day_TX.shape[1:]), dtype=dtype, device=self._device)


_known: WeakValueDictionary[tuple[object, ...], ResidentDays] = WeakValueDictionary()


def resident(dataset: Dataset, device: torch.device) -> ResidentDays:
    """The days of this dataset on this device; one store for all loaders that live at a time."""
    key = (dataset.digest, dataset.store.root, str(device))
    found = _known.get(key)
    if found is None:
        found = _known[key] = ResidentDays(dataset, device)
    return found


def fits(dataset: Dataset, device: torch.device) -> bool:
    """Whether all days take no more than ``SHARE`` of what is free on a CUDA device, or are there already."""
    if (dataset.digest, dataset.store.root, str(device)) in _known:
        return True
    sizes = dataset.shape
    each = sizes["levels"] * sizes["fields"] * 4 + sizes["features"] * 4  # day files of 2-byte floats take half
    free, _ = torch.cuda.mem_get_info(device)
    return len(dataset.symbols) * dataset.grid.n_rows * each <= SHARE * free
