"""The loss and its weights."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bml.training.losses import row_weights, weighted_cross_entropy
from bml.types import NS_PER_DAY


def test_loss_is_the_weighted_sum_over_the_batch_size() -> None:
    torch.manual_seed(0)
    logits_BC, y_B, w_B = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0]), torch.tensor([2.0, 0.0, 1.0, 0.5, 0.1])
    each = torch.stack([-torch.log_softmax(logits_BC[k], 0)[y_B[k]] * w_B[k] for k in range(5)])
    torch.testing.assert_close(weighted_cross_entropy(logits_BC, y_B, w_B), each.sum() / 5)


def test_weights_halve_per_half_life_and_have_mean_one() -> None:
    anchor_ns_N = np.arange(10) * NS_PER_DAY
    index = SimpleNamespace(anchor_ns_N=anchor_ns_N, label_stop_ns_N=anchor_ns_N + 1)
    dataset, rows = SimpleNamespace(index=index), np.array([1, 2, 4])
    w_N = row_weights(dataset, rows, 2.0)  # type: ignore[arg-type]
    assert w_N.mean() == pytest.approx(1.0)
    assert w_N[2] / w_N[1] == pytest.approx(2.0)
    assert row_weights(dataset, rows, None).tolist() == [1.0, 1.0, 1.0]  # type: ignore[arg-type]
