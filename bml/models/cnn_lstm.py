"""The canonical two-channel network: convolutions over a long window, an LSTM over few steps, daily context.

    short (B, A, T, L, F) and window features (B, A, T, K)
                          -> row-GEMM stem -> strided Conv1d stages -> LSTM -> last + mean --+
                          -> newest snapshot and newest block ---------------------------+-> MLP -+-> logits
    long  (B, D, A, S)    -> Conv1d -> masked mean over days --------------------------------+     |
    calendar (B, K) -------------------------------------------------------------------------+     |
    newest snapshot -> a few linear factors, scaled by the calendar -------------------------------+

Four choices were measured. ``block`` consecutive times of one asset lie in one run of memory, so the first
convolution (kernel = stride = block over all levels and fields) is a matrix product on a view, at the plain
GEMM speed and without a copy. The last hidden state alone forgets: with torch's default forget gate the
gradient at the first of 270 steps is exactly 0, hence the forget bias and the pooling by last + mean. Samples are
fewer than they look, since their labels overlap: without much dropout on every way in, one pass over the data
fits noise. And most of what a book tells is linear in its newest snapshot, in few directions, but not alike for
every target and volatility: hence the direct path, and a start from equal probabilities.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from bml.models.base import Inputs, InputShape
from bml.registry import model
from bml.types import ConfigError

Size = Annotated[int, Field(ge=1)]


@model
def cnn_lstm(
    shape: InputShape,
    *,
    block: Size = 4,
    stem: Size = 32,
    channels: Size = 48,
    hidden: Size = 48,
    lstm_steps: Size = 135,
    recent: Size = 32,
    factors: Size = 16,
    long_channels: Size = 16,
    head: Size = 48,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5,
    forget_bias: Annotated[float, Field(allow_inf_nan=False)] = 2.0,
) -> nn.Module:
    """The network described in this file.

    ``block`` times are folded into one stem step (the oldest T % block times are left out); stages of stride 2
    follow until at most ``lstm_steps`` steps remain. ``recent`` is the width of the newest snapshot on its way to
    the head, ``factors`` that of the direct path. ``dropout`` acts on the snapshot's cells, the stem's channels,
    the long channel as a whole, and in the head. Sizes must be positive, dropout in [0, 1): ConfigError otherwise.
    """
    sizes = {"block": block, "stem": stem, "channels": channels, "hidden": hidden, "lstm_steps": lstm_steps}
    sizes |= {"recent": recent, "factors": factors, "long_channels": long_channels, "head": head}
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
        "weight_decay": [1e-3, 1.0, "log"],
        "params.dropout": [0.0, 0.7],
        "params.hidden": [16, 128],
        "params.channels": [16, 128],
        "params.block": [2, 4, 8],
    }


class CnnLstm(nn.Module):
    def __init__(
        self, shape: InputShape, *, block: int, stem: int, channels: int, hidden: int, lstm_steps: int,
        recent: int, factors: int, long_channels: int, head: int, dropout: float, forget_bias: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.shape = shape
        self.stem = BlockStem(shape, block=min(block, shape.steps), out=stem)
        self.stem_dropout = nn.Dropout1d(dropout)
        self.stages = _stages(shape.steps // self.stem.block, stem, channels, lstm_steps)
        self.lstm = nn.LSTM(channels, hidden, batch_first=True)
        _set_forget_bias(self.lstm, forget_bias)
        newest = shape.assets * (shape.levels * shape.fields + shape.features + 1)
        self.newest_dropout = nn.Dropout(dropout)
        self.recent = nn.Linear(newest, recent)
        self.direct = DirectPath(newest, shape.calendar, factors, shape.classes)
        self.long = LongChannel(shape, long_channels) if shape.days else None
        self.long_dropout = nn.Dropout(dropout)
        width = 2 * hidden + stem + recent + shape.calendar + (self.long.width if self.long else 0)
        self.head = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(width, head), nn.GELU(), nn.Dropout(dropout), _silent(head, shape.classes)
        )

    def forward(self, batch: Inputs) -> Tensor:
        """``logits_BC`` of one batch."""
        x_feature_BATK = batch.x_feature_BATK if self.shape.features else None
        stem_BHT = self.stem(batch.x_short_BATLF, batch.present_BA, x_feature_BATK).transpose(1, 2)
        stem_BHT = self.stem_dropout(stem_BHT)
        newest_BX = self.newest_dropout(_newest(batch.x_short_BATLF, batch.present_BA, x_feature_BATK))
        parts = [*self.recur(self.stages(stem_BHT).transpose(1, 2)), stem_BHT[:, :, -1]]
        parts += [F.gelu(self.recent(newest_BX)), batch.x_time_BK]
        if self.long is not None:
            long_BH = self.long(batch.x_long_BDAS, batch.long_present_BDA)
            parts.append(long_BH * self.long_dropout(torch.ones_like(long_BH[:, :1])))  # all of a sample or nothing
        logits_BC: Tensor = self.head(torch.cat(parts, dim=1)) + self.direct(newest_BX, batch.x_time_BK)
        return logits_BC

    def recur(self, steps_BTC: Tensor) -> tuple[Tensor, Tensor]:
        """Last and mean hidden state; the mean keeps the gradient of early steps alive."""
        # A method of its own: torch.compile breaks the graph at nn.LSTM and leaves what follows it inline eager.
        states_BTH, _ = self.lstm(steps_BTC)
        return states_BTH[:, -1], states_BTH.mean(dim=1)


class DirectPath(nn.Module):
    """Newest snapshot (B, X) -> ``factors`` linear combinations, each times 1 + a linear function of the calendar
    features (the target and the volatility are among them) -> logits; 0 at the start."""

    def __init__(self, newest: int, calendar: int, factors: int, classes: int) -> None:
        super().__init__()
        self.factors = nn.Linear(newest, factors)
        self.gate = _silent(calendar, factors)
        self.out = _silent(factors, classes)

    def forward(self, newest_BX: Tensor, x_time_BK: Tensor) -> Tensor:
        logits_BC: Tensor = self.out(self.factors(newest_BX) * (1.0 + self.gate(x_time_BK)))
        return logits_BC


class BlockStem(nn.Module):
    """(B, A, T, L, F) -> (B, T / block, out): per-asset matrix products over blocks of times, summed, GELU.

    Levels are not translation-invariant, so every (time in block, level, field) has a weight of its own, and so has
    every window feature (B, A, T, K).
    """

    def __init__(self, shape: InputShape, *, block: int, out: int) -> None:
        super().__init__()
        self.block = block
        self.run = block * shape.levels * shape.fields
        more = block * shape.features
        bound = 1.0 / math.sqrt((self.run + more) * shape.assets)
        self.weight_AXH = nn.Parameter(torch.empty(shape.assets, self.run, out).uniform_(-bound, bound))
        self.bias_AH = nn.Parameter(torch.empty(shape.assets, out).uniform_(-bound, bound))
        self.feature_AXH: nn.Parameter | None = None
        if more:
            self.feature_AXH = nn.Parameter(torch.empty(shape.assets, more, out).uniform_(-bound, bound))

    def forward(self, x_BATLF: Tensor, present_BA: Tensor, x_feature_BATK: Tensor | None = None) -> Tensor:
        out_BTH = torch.einsum("ba,ah->bh", present_BA, self.bias_AH)[:, None]
        out_BTH = self.add_blocks(out_BTH, x_BATLF, present_BA, self.weight_AXH)
        if self.feature_AXH is not None and x_feature_BATK is not None:
            out_BTH = self.add_blocks(out_BTH, x_feature_BATK, present_BA, self.feature_AXH)
        return F.gelu(out_BTH)

    def add_blocks(self, out_BTH: Tensor, x: Tensor, present_BA: Tensor, weight_AXH: Tensor) -> Tensor:
        """``out_BTH`` plus the products of the blocks of ``x`` (B, A, T, ...) with the weights of each asset."""
        n, assets, steps = x.shape[:3]
        newest = x[:, :, steps % self.block :]  # the oldest times are cut, never the newest
        x_BATX = newest.reshape(n, assets, steps // self.block, weight_AXH.shape[1])  # a view when nothing was cut
        for asset in range(assets):
            # bmm, not matmul: matmul first copies the strided view (measured 1.4 times slower).
            weight_BXH = weight_AXH[asset].expand(n, -1, -1)
            out_BTH = out_BTH + torch.bmm(x_BATX[:, asset], weight_BXH) * present_BA[:, asset, None, None]
        return out_BTH


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


def _newest(x_BATLF: Tensor, present_BA: Tensor, x_feature_BATK: Tensor | None) -> Tensor:
    """(B, A L F + A K + A) the newest snapshot and features of all assets, and which assets there are."""
    inputs = [x_BATLF] if x_feature_BATK is None else [x_BATLF, x_feature_BATK]
    newest = [(x[:, :, -1].flatten(2) * present_BA[:, :, None]).flatten(1) for x in inputs]
    return torch.cat([*newest, present_BA], dim=1)


def _silent(inputs: int, outputs: int) -> nn.Linear:
    """A layer that gives 0 until it has learned something."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


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
