"""The canonical two-channel network: convolutions over a long window, an LSTM over few steps, daily context.

    short (B, A, T, L, F) -> row-GEMM stem -> strided Conv1d stages -> LSTM -> last + mean --+
                          -> newest snapshot and newest block, directly ---------------------+-> MLP -> logits
    long  (B, D, A, S)    -> Conv1d -> masked mean over days --------------------------------+
    calendar (B, K) -------------------------------------------------------------------------+

Two choices were measured. ``block`` consecutive times of one asset lie in one run of memory, so the first
convolution (kernel = stride = block over all levels and fields) is a matrix product on a view, at the plain
GEMM speed and without a copy. And the last hidden state alone forgets: with torch's default forget gate the
gradient at the first of 270 steps is exactly 0, hence the forget bias and the pooling by last + mean.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bml.models.base import Inputs, InputShape
from bml.registry import model
from bml.types import ConfigError


@model
def cnn_lstm(
    shape: InputShape,
    *,
    block: int = 4,
    stem: int = 64,
    channels: int = 96,
    hidden: int = 96,
    lstm_steps: int = 135,
    recent: int = 64,
    long_channels: int = 32,
    head: int = 96,
    dropout: float = 0.1,
    forget_bias: float = 2.0,
) -> nn.Module:
    """The network described in this file.

    ``block`` times are folded into one stem step (the oldest T % block times are left out); stages of stride 2
    follow until at most ``lstm_steps`` steps remain. ``recent`` is the width of the direct path. Sizes must be
    positive, dropout in [0, 1): ConfigError otherwise.
    """
    sizes = {"block": block, "stem": stem, "channels": channels, "hidden": hidden, "lstm_steps": lstm_steps}
    sizes |= {"recent": recent, "long_channels": long_channels, "head": head}
    for key, size in sizes.items():
        if size < 1:
            raise ConfigError(f"cnn_lstm: {key} is {size}, it must be at least 1")
    if not 0.0 <= dropout < 1.0:
        raise ConfigError(f"cnn_lstm: dropout is {dropout}, it must be in [0, 1)")
    return CnnLstm(shape, dropout=dropout, forget_bias=forget_bias, **sizes)


def search_space() -> dict[str, list[Any]]:
    """What tuning varies by default (form: :mod:`bml.training.space`)."""
    return {
        "learning_rate": [1e-4, 3e-3, "log"],
        "weight_decay": [1e-4, 1e-1, "log"],
        "params.dropout": [0.0, 0.4],
        "params.hidden": [32, 160],
        "params.channels": [32, 160],
        "params.block": [2, 4, 8],
    }


class CnnLstm(nn.Module):
    def __init__(
        self, shape: InputShape, *, block: int, stem: int, channels: int, hidden: int, lstm_steps: int,
        recent: int, long_channels: int, head: int, dropout: float, forget_bias: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.shape = shape
        self.stem = BlockStem(shape, block=min(block, shape.steps), out=stem)
        self.stages = _stages(shape.steps // self.stem.block, stem, channels, lstm_steps)
        self.lstm = nn.LSTM(channels, hidden, batch_first=True)
        _set_forget_bias(self.lstm, forget_bias)
        self.recent = nn.Linear(shape.assets * (shape.levels * shape.fields + 1), recent)
        self.long = LongChannel(shape, long_channels) if shape.days else None
        width = 2 * hidden + stem + recent + shape.calendar + (self.long.width if self.long else 0)
        self.head = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(width, head), nn.GELU(), nn.Dropout(dropout), nn.Linear(head, shape.classes)
        )

    def forward(self, batch: Inputs) -> Tensor:
        """``logits_BC`` of one batch."""
        stem_BTH = self.stem(batch.x_short_BATLF, batch.present_BA)
        steps_BTC = self.stages(stem_BTH.transpose(1, 2)).transpose(1, 2)
        parts = [*self.recur(steps_BTC), stem_BTH[:, -1], self._newest(batch), batch.x_time_BK]
        if self.long is not None:
            parts.append(self.long(batch.x_long_BDAS, batch.long_present_BDA))
        logits_BC: Tensor = self.head(torch.cat(parts, dim=1))
        return logits_BC

    def recur(self, steps_BTC: Tensor) -> tuple[Tensor, Tensor]:
        """Last and mean hidden state; the mean keeps the gradient of early steps alive."""
        # A method of its own: torch.compile breaks the graph at nn.LSTM and leaves what follows it inline eager.
        states_BTH, _ = self.lstm(steps_BTC)
        return states_BTH[:, -1], states_BTH.mean(dim=1)

    def _newest(self, batch: Inputs) -> Tensor:
        """The newest snapshot of all assets by a layer of its own: short-memory signals need no recurrence."""
        newest_BAX = batch.x_short_BATLF[:, :, -1].flatten(2) * batch.present_BA[:, :, None]
        return F.gelu(self.recent(torch.cat([newest_BAX.flatten(1), batch.present_BA], dim=1)))


class BlockStem(nn.Module):
    """(B, A, T, L, F) -> (B, T / block, out): per-asset matrix products over blocks of times, summed, GELU.

    Levels are not translation-invariant, so every (time in block, level, field) has a weight of its own.
    """

    def __init__(self, shape: InputShape, *, block: int, out: int) -> None:
        super().__init__()
        self.block = block
        self.run = block * shape.levels * shape.fields
        bound = 1.0 / math.sqrt(self.run * shape.assets)
        self.weight_AXH = nn.Parameter(torch.empty(shape.assets, self.run, out).uniform_(-bound, bound))
        self.bias_AH = nn.Parameter(torch.empty(shape.assets, out).uniform_(-bound, bound))

    def forward(self, x_BATLF: Tensor, present_BA: Tensor) -> Tensor:
        n, assets, steps = x_BATLF.shape[:3]
        newest_BATLF = x_BATLF[:, :, steps % self.block :]  # the oldest times are cut, never the newest
        x_BATX = newest_BATLF.reshape(n, assets, steps // self.block, self.run)  # a view when nothing was cut
        out_BTH = torch.einsum("ba,ah->bh", present_BA, self.bias_AH)[:, None]
        for asset in range(assets):
            # bmm, not matmul: matmul first copies the strided view (measured 1.4 times slower).
            weight_BXH = self.weight_AXH[asset].expand(n, -1, -1)
            out_BTH = out_BTH + torch.bmm(x_BATX[:, asset], weight_BXH) * present_BA[:, asset, None, None]
        return F.gelu(out_BTH)


class LongChannel(nn.Module):
    """(B, D, A, S) -> (B, 2 * channels): Conv1d over days, mean over the days that any asset has, newest day."""

    def __init__(self, shape: InputShape, channels: int) -> None:
        super().__init__()
        self.width = 2 * channels
        self.mix = nn.Conv1d(shape.assets * (shape.stats + 1), channels, 1)
        self.conv = nn.Conv1d(channels, channels, 3, padding=1)

    def forward(self, x_BDAS: Tensor, present_BDA: Tensor) -> Tensor:
        seen_BDAS = x_BDAS * present_BDA[..., None]
        rows_BDX = torch.cat([seen_BDAS.flatten(2), present_BDA], dim=2)
        mixed_BHD = F.gelu(self.mix(rows_BDX.transpose(1, 2)))
        days_BHD = F.gelu(self.conv(mixed_BHD))
        any_B1D = (present_BDA.amax(dim=2) > 0).to(days_BHD.dtype)[:, None]
        mean_BH = (days_BHD * any_B1D).sum(dim=2) / any_B1D.sum(dim=2).clamp(min=1.0)
        return torch.cat([mean_BH, days_BHD[:, :, -1]], dim=1)


def _stages(steps: int, width: int, channels: int, lstm_steps: int) -> nn.Sequential:
    """One convolution of stride 1, then stride 2 until at most ``lstm_steps`` steps remain."""
    layers: list[nn.Module] = [nn.Conv1d(width, channels, 3, padding=1), nn.GELU()]
    while steps > lstm_steps:
        layers += [nn.Conv1d(channels, channels, 4, stride=2, padding=1), nn.GELU()]
        steps //= 2
    return nn.Sequential(*layers)


def _set_forget_bias(lstm: nn.LSTM, value: float) -> None:
    """torch adds two biases and orders gates (input, forget, cell, output): set one, clear the other."""
    forget = slice(lstm.hidden_size, 2 * lstm.hidden_size)
    with torch.no_grad():
        lstm.get_parameter("bias_ih_l0")[forget] = value
        lstm.get_parameter("bias_hh_l0")[forget] = 0.0
