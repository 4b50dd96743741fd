"""Forecasts of a network for rows of a dataset, in the order of the rows."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from bml.models.base import forward
from bml.types import DataError, Float64, Int64

if TYPE_CHECKING:
    from bml.dataset.dataset import Dataset


class DivergedError(DataError):
    """A loss or a forecast is no longer a number."""


def pick_device(name: str) -> torch.device:
    """``auto`` is the first CUDA device if there is one, else the CPU; other names are torch's."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def to_device(batch: Any, device: torch.device) -> Any:
    """The batch (a dataclass of tensors) on ``device``; itself on the CPU.

    Blocking: the loader reuses its buffers as soon as the next batch is asked for.
    """
    if device.type == "cpu":
        return batch
    moved = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
    tensors = {k: v.to(device) for k, v in moved.items() if isinstance(v, torch.Tensor)}
    return dataclasses.replace(batch, **tensors)


def softmax(logits_NC: Float64) -> Float64:
    """Rows of probabilities, float64, each summing to 1 within rounding."""
    shifted_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
    proba_NC: Float64 = shifted_NC / shifted_NC.sum(axis=1, keepdims=True)
    return proba_NC


def logits(net: nn.Module, dataset: Dataset, rows: Int64, *, batch_size: int = 64, device: str = "auto") -> Float64:
    """(N, C) float64 logits of ``rows`` in their order; the network is left in evaluation mode.

    Deterministic on the CPU for a given batch size. Raises DivergedError on a logit that is not finite.
    """
    from bml.dataset.loader import WindowLoader

    where = pick_device(device)
    net.to(where).eval()
    out_NC = np.empty((rows.shape[0], len(dataset.class_names)))
    done = 0
    loader = WindowLoader(dataset, rows, batch_size=batch_size, device=where)
    with torch.inference_mode():
        for batch in loader:
            logits_BC = forward(net, to_device(batch, where)).double().cpu().numpy()
            stop = done + logits_BC.shape[0]
            if not np.array_equal(batch.row_B.cpu().numpy(), rows[done:stop]):
                raise DataError(f"the loader handed out other rows than asked for (rows {done} to {stop})")
            out_NC[done:stop] = logits_BC
            done = stop
    if done != rows.shape[0]:
        raise DataError(f"the loader handed out {done} of {rows.shape[0]} rows")
    if not np.isfinite(out_NC).all():
        bad = int(np.flatnonzero(~np.isfinite(out_NC).all(axis=1))[0])
        raise DivergedError(f"the forecast of dataset row {int(rows[bad])} is not finite: the network has diverged")
    return out_NC
