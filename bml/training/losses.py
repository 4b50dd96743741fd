"""The training loss and the weights in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional as F

from bml.types import Float64, Int64

if TYPE_CHECKING:
    from bml.dataset.dataset import Dataset


def weighted_cross_entropy(logits_BC: Tensor, y_B: Tensor, w_B: Tensor) -> Tensor:
    """Mean over the batch of w * -log p(y), in nats.

    Divided by the batch size, not by the sum of the batch's weights: with weights of mean 1 over the training
    rows every batch then is an unbiased estimate of the same weighted risk, whatever its own mix of ages.
    """
    loss_B = F.cross_entropy(logits_BC, y_B, reduction="none")
    return (loss_B * w_B).mean()


def row_weights(dataset: Dataset, rows: Int64, half_life_days: float | Sequence[float] | None) -> Float64:
    """(N,) weights of training ``rows``, mean 1: decay by age at the end of the training block (None: ones).

    The age counts from the last label known within ``rows``, so pass training rows only.
    """
    from bml.dataset.weights import exponential_decay

    anchor_ns_N = dataset.index.anchor_ns_N[rows]
    reference_ns = int(dataset.index.label_stop_ns_N[rows].max()) if rows.shape[0] else 0
    return exponential_decay(anchor_ns_N, reference_ns, half_life_days)
