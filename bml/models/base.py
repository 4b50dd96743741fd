"""What a model family is: a function decorated with ``@model`` that builds a network for given shapes.

    @model
    def my_net(shape: InputShape, *, hidden: int = 64, dropout: float = 0.1) -> nn.Module: ...

The module maps one batch (see :class:`Inputs`) to ``logits_BC``; the softmax belongs to the loss. Its keyword
parameters are the hyper-parameters a configuration may set. A family that can be tuned also has a function
``search_space()`` in the same file (form: :mod:`bml.training.space`).
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from bml import registry
from bml.types import ConfigError, DataError


class Inputs(Protocol):
    """The tensors of one batch: float32, standardised, missing cells 0 (presence says where).

    ``x_short_BATLF`` is the window, oldest time first, asset 0 is the target, and ``x_feature_BATK`` the window
    features of the same times (``InputShape.features`` of them, maybe none); ``present_BA`` and
    ``long_present_BDA`` are 1 where an asset (an asset-day) has data; ``x_long_BDAS`` are daily moments,
    oldest day first; ``x_time_BK`` are calendar features of the anchor.
    """

    @property
    def x_short_BATLF(self) -> Tensor: ...
    @property
    def x_feature_BATK(self) -> Tensor: ...
    @property
    def present_BA(self) -> Tensor: ...
    @property
    def x_long_BDAS(self) -> Tensor: ...
    @property
    def long_present_BDA(self) -> Tensor: ...
    @property
    def x_time_BK(self) -> Tensor: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class InputShape:
    """Sizes a network is built for (``InputShape(**dataset.shape)``); ``days`` may be 0: no long channel."""

    assets: int
    steps: int
    levels: int
    fields: int
    days: int
    stats: int
    calendar: int
    classes: int
    features: int = 0

    def as_dict(self) -> dict[str, int]:
        """The sizes; without window features as they were before there were any."""
        sizes = dataclasses.asdict(self)
        return sizes if self.features else {key: size for key, size in sizes.items() if key != "features"}


def build(name: str, shape: InputShape, params: Mapping[str, Any] | None = None) -> nn.Module:
    """The network family ``name`` (for example ``models.cnn_lstm.cnn_lstm``) for ``shape``.

    Raises ConfigError for an unknown family or parameter. Weights come from torch's global generator.
    """
    family = registry.resolve(name, "model")
    chosen = dict(params or {})
    known = [key for key, p in inspect.signature(family).parameters.items() if p.kind is p.KEYWORD_ONLY]
    for key in chosen:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"
            raise ConfigError(f"model {name!r} has no parameter {key!r}; {hint}")
    net = family(shape, **chosen)
    if not isinstance(net, nn.Module):
        raise ConfigError(f"model {name!r} built a {type(net).__name__}, not a torch module")
    return net


def forward(net: nn.Module, batch: Inputs) -> Tensor:
    """``logits_BC`` of ``batch``, checked to be one row of finite-width logits per sample."""
    logits_BC = net(batch)
    if not isinstance(logits_BC, torch.Tensor) or logits_BC.ndim != 2:
        raise DataError(f"{type(net).__name__} must return logits of shape (batch, classes)")
    return logits_BC
