"""A loader for a torch DataLoader with workers, for programs that are built around one.

By itself a :class:`bml.dataset.loader.WindowLoader` is faster: workers hand every batch over through shared memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, get_worker_info

from bml.dataset.batches import ArrayLoader
from bml.dataset.loader import Batch

#: a sample by the names of the fields of ``Batch``; collated, a batch by these names
Sample = dict[str, Tensor]


class BatchStream(IterableDataset[Batch]):
    """The batches of one epoch: for ``DataLoader(stream, batch_size=None, num_workers=...)``.

    Any number of workers gives the batches of ``loader.epoch(epoch, start_step=start_step)`` in their order.
    """

    def __init__(self, loader: ArrayLoader, *, epoch: int = 0, start_step: int = 0) -> None:
        self.loader, self.epoch, self.start_step = loader, epoch, start_step

    def __len__(self) -> int:
        return len(self.loader) - self.start_step

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        first, every = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for places in self.loader.order.steps(self.epoch, self.start_step)[first::every]:
            yield Batch.of(self.loader.batch(places))


class WindowSamples(TorchDataset[Sample]):
    """One sample a row of the loader's ``rows``, without the batch axis: for a DataLoader with a sampler of its own."""

    def __init__(self, loader: ArrayLoader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return int(self.loader.rows.shape[0])

    def __getitem__(self, place: int) -> Sample:
        return self.__getitems__([place])[0]

    def __getitems__(self, places: list[int]) -> list[Sample]:
        batch = Batch.of(self.loader.batch(np.asarray(places, dtype=np.int64)))
        return [{f.name: getattr(batch, f.name)[b] for f in fields(Batch)} for b in range(len(places))]
