"""The canonical network: shapes, the stem against a plain loop, what may and may not influence a forecast."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from bml.config.params import parameter_model
from bml.models.base import InputShape, build
from bml.models.cnn_lstm import BlockStem, CnnLstm, cnn_lstm, search_space
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
    x_feature_BATK: Tensor


def batch(shape: InputShape, n: int = 3, seed: int = 0) -> Hand:
    draw = torch.Generator().manual_seed(seed)
    return Hand(
        torch.randn(n, shape.assets, shape.steps, shape.levels, shape.fields, generator=draw),
        torch.ones(n, shape.assets),
        torch.randn(n, shape.days, shape.assets, shape.stats, generator=draw),
        torch.ones(n, shape.days, shape.assets),
        torch.randn(n, shape.calendar, generator=draw),
        torch.randn(n, shape.assets, shape.steps, shape.features, generator=draw),
    )


def small(shape: InputShape = SHAPE, **params: object) -> CnnLstm:
    torch.manual_seed(1)
    net = build(NAME, shape, SMALL | params)
    assert isinstance(net, CnnLstm)
    for layer in (net.head[-1], net.direct.gate, net.direct.out):  # they begin at 0: as if trained
        assert isinstance(layer, nn.Linear)
        nn.init.normal_(layer.weight, std=0.3)
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
    shape = replace(SHAPE, features=3)
    net, given = small(shape), batch(shape)
    leaves = [value.clone().requires_grad_() for value in vars(given).values()]
    net(Hand(*leaves)).square().sum().backward()
    for name, leaf in zip(vars(given), leaves, strict=True):
        assert leaf.grad is not None, name
        assert leaf.grad.abs().sum() > 0, name


def test_features_are_in_the_stem_and_in_the_newest_snapshot() -> None:
    shape = replace(SHAPE, features=2)
    net, given = small(shape), batch(shape)
    before = net(given)
    for step, matters in ((1, False), (2, True), (21, True)):  # 22 = 5 * 4 + 2: the oldest two are cut
        moved = given.x_feature_BATK.clone()
        moved[:, 0, step] += 1.0
        assert torch.equal(net(replace(given, x_feature_BATK=moved)), before) != matters
    absent = replace(given, present_BA=torch.tensor([[1.0, 0.0]]).repeat(3, 1))
    other = given.x_feature_BATK.clone()
    other[:, 1] = 7.0
    assert torch.equal(net(absent), net(replace(absent, x_feature_BATK=other)))


def test_the_stem_adds_a_product_over_the_features_of_a_block() -> None:
    shape = replace(SHAPE, steps=8, features=2)
    stem, given = BlockStem(shape, block=4, out=6), batch(shape)
    assert stem.feature_AXH is not None
    out_BTH = stem(given.x_short_BATLF, given.present_BA, given.x_feature_BATK)
    for k in range(2):
        block = slice(4 * k, 4 * k + 4)
        total_BH = stem.bias_AH.sum(dim=0)
        for a in range(2):
            total_BH = total_BH + given.x_short_BATLF[:, a, block].reshape(3, -1) @ stem.weight_AXH[a]
            total_BH = total_BH + given.x_feature_BATK[:, a, block].reshape(3, -1) @ stem.feature_AXH[a]
        torch.testing.assert_close(out_BTH[:, k], nn.functional.gelu(total_BH))


def test_without_features_the_network_is_the_one_without_them() -> None:
    assert not [name for name in small().state_dict() if "feature" in name]
    assert "features" not in SHAPE.as_dict()
    assert InputShape(**SHAPE.as_dict()) == SHAPE
    assert replace(SHAPE, features=2).as_dict()["features"] == 2


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


def test_the_start_is_equal_probabilities_and_not_a_dead_end() -> None:
    torch.manual_seed(1)
    net, given = build(NAME, SHAPE, SMALL | {"dropout": 0.0}), batch(SHAPE)
    assert torch.equal(net(given), torch.zeros(3, 5))
    y_B = torch.tensor([0, 1, 2])
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(given), y_B).backward()
        optimiser.step()
    still = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still == []


def test_direct_path_is_linear_in_the_newest_snapshot_at_a_given_calendar() -> None:
    direct = small().direct
    x_BX, time_BK = torch.randn(4, direct.factors.in_features), torch.randn(4, SHAPE.calendar)

    def effect(x: Tensor, at: Tensor) -> Tensor:
        return direct(x, at) - direct(torch.zeros_like(x), at)

    torch.testing.assert_close(effect(2 * x_BX, time_BK), 2 * effect(x_BX, time_BK))
    assert not torch.allclose(effect(x_BX, time_BK), effect(x_BX, time_BK + 1), atol=1e-3)


def test_dropout_acts_on_every_way_in_while_training_only() -> None:
    net, given = small(dropout=0.5), batch(SHAPE, n=64)
    assert torch.equal(net(given), net(given))
    net.train()
    way: dict[str, Tensor] = {}
    net.stages.register_forward_hook(lambda m, i, o: way.__setitem__("stem", i[0]))
    net.direct.register_forward_hook(lambda m, i, o: way.__setitem__("newest", i[0]))
    net.head.register_forward_hook(lambda m, i, o: way.__setitem__("head", i[0]))
    net(given)
    dead_BH = (way["stem"] == 0).all(dim=2)  # a channel of the stem is dropped for all steps
    assert 0.35 < dead_BH.float().mean() < 0.65
    assert 0.35 < (way["newest"] == 0).float().mean() < 0.65
    assert net.long is not None
    dead_B = (way["head"][:, -net.long.width :] == 0).all(dim=1)  # the long channel goes as a whole
    assert 0.25 < dead_B.float().mean() < 0.75


def test_forget_bias_is_what_was_asked_for() -> None:
    lstm = small(forget_bias=2.0).lstm
    total = (lstm.bias_ih_l0 + lstm.bias_hh_l0)[8:16]
    torch.testing.assert_close(total, torch.full((8,), 2.0))


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"factors": 0}, "factors is 0"),
        ({"hiden": 8}, "did you mean 'hidden'"),
        ({"hidden": 0}, "hidden is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_bad_parameters_are_told(params: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        build(NAME, SHAPE, params)


def test_search_space_names_parameters_that_exist() -> None:
    own = {key.removeprefix("params."): options[0] for key, options in search_space().items() if "params." in key}
    build(NAME, SHAPE, own)


@pytest.mark.parametrize("given", [{"hidden": 0}, {"factors": 0}, {"dropout": 1.0}, {"forget_bias": float("nan")}])
def test_the_configuration_refuses_the_same(given: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        parameter_model(cnn_lstm).model_validate_json(json.dumps(given))
