"""The training loss and the weights in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor
from torch.nn import functional as F

from bml.types import Float64, Int64

if TYPE_CHECKING:
    from bml.dataset.dataset import Dataset

Sampling = Literal["all", "stride_by_horizon"]


def weighted_cross_entropy(logits_BC: Tensor, y_B: Tensor, w_B: Tensor) -> Tensor:
    """Mean over the batch of w * -log p(y), in nats.

    Divided by the batch size, not by the sum of the batch's weights: with weights of mean 1 over the training
    rows every batch then is an unbiased estimate of the same weighted risk, whatever its own mix of ages.
    """
    loss_B = F.cross_entropy(logits_BC, y_B, reduction="none")
    return (loss_B * w_B).mean()


def training_rows(dataset: Dataset, sampling: Sampling, seed: int) -> Int64:
    """The rows of the train block that are learnt from.

    "all", or "stride_by_horizon": those of :func:`bml.dataset.sampling.stride_by_horizon` from an offset drawn from
    ``seed``, so that no two labels of a target overlap.
    """
    from bml.dataset.sampling import seeded_offset_ns, stride_by_horizon

    rows = dataset.fold.train
    if sampling == "all":
        return rows
    return stride_by_horizon(dataset.index, rows, offset_ns=seeded_offset_ns(dataset.index, rows, seed))


def row_weights(
    dataset: Dataset, rows: Int64, half_life_days: float | Sequence[float] | None, *, uniqueness: bool = False
) -> Float64:
    """(N,) weights of training ``rows``, mean 1: decay by age at the end of the training block (None: ones).

    With ``uniqueness`` multiplied by how little of its label each row shares with others of ``rows`` and scaled to
    mean 1 again. The age counts from the last label known within ``rows``, so pass training rows only.
    """
    from bml.dataset.weights import combined, exponential_decay
    from bml.dataset.weights import uniqueness as unique

    anchor_ns_N = dataset.index.anchor_ns_N[rows]
    reference_ns = int(dataset.index.label_stop_ns_N[rows].max()) if rows.shape[0] else 0
    decay_N = exponential_decay(anchor_ns_N, reference_ns, half_life_days)
    return combined(decay_N, unique(dataset.index, rows)) if uniqueness else decay_N


def weights_of(dataset: Dataset, training: Mapping[str, Any]) -> tuple[Int64, Float64]:
    """The rows a checkpoint was trained on and their weights, by the settings it keeps."""
    rows = training_rows(dataset, training.get("sampling", "all"), int(training.get("seed", 0)))
    half_life_days, is_unique = training.get("half_life_days"), bool(training.get("uniqueness", False))
    return rows, row_weights(dataset, rows, half_life_days, uniqueness=is_unique)
