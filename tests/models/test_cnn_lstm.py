"""The canonical network: shapes, the stem against a plain loop, what may and may not influence a forecast."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from bml.models.base import InputShape, build
from bml.models.cnn_lstm import BlockStem, CnnLstm, search_space
from bml.types import ConfigError

NAME = "models.cnn_lstm.cnn_lstm"
SMALL = {"stem": 8, "channels": 8, "hidden": 8, "recent": 8, "long_channels": 4, "head": 8}
SHAPE = InputShape(assets=2, steps=22, levels=3, fields=4, days=3, stats=5, calendar=4, classes=5)


@dataclass(frozen=True)
class Hand:
    x_short_BATLF: Tensor
    present_BA: Tensor
    x_long_BDAS: Tensor
    long_present_BDA: Tensor
    x_time_BK: Tensor


def batch(shape: InputShape, n: int = 3, seed: int = 0) -> Hand:
    draw = torch.Generator().manual_seed(seed)
    return Hand(
        torch.randn(n, shape.assets, shape.steps, shape.levels, shape.fields, generator=draw),
        torch.ones(n, shape.assets),
        torch.randn(n, shape.days, shape.assets, shape.stats, generator=draw),
        torch.ones(n, shape.days, shape.assets),
        torch.randn(n, shape.calendar, generator=draw),
    )


def small(shape: InputShape = SHAPE, **params: object) -> CnnLstm:
    torch.manual_seed(1)
    net = build(NAME, shape, SMALL | params)
    assert isinstance(net, CnnLstm)
    return net.eval()


@pytest.mark.parametrize("days", [0, 1, 3])
@pytest.mark.parametrize("steps", [2, 4, 22, 64])
def test_logits_for_any_sizes(days: int, steps: int) -> None:
    shape = replace(SHAPE, days=days, steps=steps)
    logits_BC = small(shape)(batch(shape))
    assert logits_BC.shape == (3, 5)
    assert torch.isfinite(logits_BC).all()


def test_stem_is_a_strided_convolution_over_all_assets() -> None:
    shape = replace(SHAPE, steps=11)
    stem = BlockStem(shape, block=4, out=6)
    given = batch(shape)
    present_BA = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    out_BTH = stem(given.x_short_BATLF, present_BA)
    for b in range(3):
        for k in range(2):  # 11 steps: the oldest 3 are cut, two blocks of 4 remain
            total_H = torch.zeros(6)
            for a in range(2):
                run_X = given.x_short_BATLF[b, a, 3 + 4 * k : 7 + 4 * k].reshape(-1)
                total_H += present_BA[b, a] * (run_X @ stem.weight_AXH[a] + stem.bias_AH[a])
            torch.testing.assert_close(out_BTH[b, k], nn.functional.gelu(total_H))


def test_only_the_oldest_incomplete_block_is_cut() -> None:
    net, given = small(), batch(SHAPE)  # 22 = 5 * 4 + 2
    before = net(given)
    oldest = given.x_short_BATLF.clone()
    oldest[:, :, :2] += 100.0
    assert torch.equal(net(replace(given, x_short_BATLF=oldest)), before)
    for step in (2, 21):
        moved = given.x_short_BATLF.clone()
        moved[:, 0, step] += 1.0
        assert not torch.allclose(net(replace(given, x_short_BATLF=moved)), before)


def test_an_absent_asset_or_day_cannot_matter() -> None:
    net, given = small(), batch(SHAPE)
    absent = replace(given, present_BA=torch.tensor([[1.0, 0.0]]).repeat(3, 1))
    other = given.x_short_BATLF.clone()
    other[:, 1] = 7.0
    assert torch.equal(net(absent), net(replace(absent, x_short_BATLF=other)))
    assert not torch.equal(net(given), net(absent))

    mask = torch.ones(3, 3, 2)
    mask[:, 0] = 0.0
    no_day = replace(given, long_present_BDA=mask)
    elsewhere = given.x_long_BDAS.clone()
    elsewhere[:, 0] = 9.0
    assert torch.equal(net(no_day), net(replace(no_day, x_long_BDAS=elsewhere)))
    assert torch.isfinite(net(replace(given, long_present_BDA=torch.zeros(3, 3, 2)))).all()


def test_every_input_reaches_the_logits() -> None:
    net, given = small(), batch(SHAPE)
    leaves = [value.clone().requires_grad_() for value in vars(given).values()]
    net(Hand(*leaves)).square().sum().backward()
    for name, leaf in zip(vars(given), leaves, strict=True):
        assert leaf.grad is not None, name
        assert leaf.grad.abs().sum() > 0, name


def test_recurrence_is_short_and_its_first_step_is_heard() -> None:
    shape = replace(SHAPE, steps=8640, assets=1, levels=1, days=0)
    net = small(shape, lstm_steps=270)
    steps_BTC = net.stages(net.stem(*list(vars(batch(shape, 1)).values())[:2]).transpose(1, 2)).transpose(1, 2)
    assert steps_BTC.shape[1] == 270
    ratio = first_to_last(net, steps_BTC.detach(), lambda pooled: pooled[0].sum() + pooled[1].sum())
    assert ratio >= 1e-3
    # what it protects from: torch's default forget gate and the last state alone
    plain = small(shape, lstm_steps=270, forget_bias=0.0)
    assert first_to_last(plain, steps_BTC.detach(), lambda pooled: pooled[0].sum()) < 1e-20


def first_to_last(net: CnnLstm, steps_BTC: Tensor, pool: object) -> float:
    leaf = steps_BTC.clone().requires_grad_()
    pool(net.recur(leaf)).backward()  # type: ignore[operator]
    size_T = leaf.grad.norm(dim=(0, 2))  # type: ignore[union-attr]
    return float(size_T[0] / size_T[-1])


def test_forget_bias_is_what_was_asked_for() -> None:
    lstm = small(forget_bias=2.0).lstm
    total = (lstm.bias_ih_l0 + lstm.bias_hh_l0)[8:16]
    torch.testing.assert_close(total, torch.full((8,), 2.0))


@pytest.mark.parametrize(
    ("params", "told"),
    [({"hiden": 8}, "did you mean 'hidden'"), ({"hidden": 0}, "hidden is 0"), ({"dropout": 1.0}, "dropout is 1.0")],
)
def test_bad_parameters_are_told(params: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        build(NAME, SHAPE, params)


def test_search_space_names_parameters_that_exist() -> None:
    own = {key.removeprefix("params."): options[0] for key, options in search_space().items() if "params." in key}
    build(NAME, SHAPE, own)
