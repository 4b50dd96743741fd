"""The clock as features."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from bml.dataset.calendar import CalendarScale, fit_scale, held_notes, hold_constant, time_features
from bml.dataset.conditions import Conditions
from bml.dataset.regime import REGIMES, likeliest
from bml.types import NS_PER_DAY, NS_PER_S


def at(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp()) * NS_PER_S


def test_hours_weekdays_and_age_are_where_they_belong() -> None:
    monday = at("2024-01-01T00:00")
    anchors = np.array([monday, at("2024-01-01T06:00"), at("2024-01-04T12:00"), monday + 14 * NS_PER_DAY])
    scale = fit_scale(monday, monday + 7 * NS_PER_DAY, np.array([0.01, 0.04]))
    x, names = time_features(anchors, np.full(4, 0.02), np.zeros(4, np.int32), {0: "BTC"}, scale)
    column = dict(zip(names, x.T, strict=True))
    np.testing.assert_allclose(column["hour_sin"], [0, 1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(column["hour_cos"], [1, 0, -1, 1], atol=1e-6)
    assert column["week_cos"][0] == pytest.approx(1)
    assert column["week_cos"][2] == pytest.approx(-1)  # the middle of the week
    np.testing.assert_allclose(column["age"], [0, 0.25 / 7, 3.5 / 7, 1], atol=1e-6)
    np.testing.assert_allclose(column["log_sigma"], 0, atol=1e-6)  # the geometric middle of training
    assert x.dtype == np.float32


def test_several_targets_get_a_one_hot() -> None:
    scale = fit_scale(0, NS_PER_DAY, np.ones(2))
    x, names = time_features(np.zeros(2, np.int64), np.ones(2), np.array([2, 0], np.int32), {0: "A", 2: "C"}, scale)
    assert names[-2:] == ("is_A", "is_C")
    assert x[:, -2:].tolist() == [[0, 1], [1, 0]]


def test_what_one_value_is_all_of_training_is_held() -> None:
    scale = CalendarScale(start_ns=0, span_ns=NS_PER_DAY, log_sigma_mean=0.0, log_sigma_std=1.0)
    regime_NR = np.eye(4)[[2, 2, 0, 3]]
    regime_NR[1] = np.nan
    found = Conditions(
        volatility_N=np.array([np.nan, 1.0, np.e, np.nan]),
        volume_N=np.array([0.0, 1.0, np.nan, 0.5]),
        regime_NR=regime_NR,
        regime_N=likeliest(regime_NR),
        regime_model={},
    )
    given = (np.arange(4) * NS_PER_DAY // 5, np.ones(4), np.zeros(4, np.int32), {0: "A"})
    x, names = time_features(*given, scale, found)
    column = dict(zip(names, x.T.tolist(), strict=True))
    assert column["log_volatility"] == [0, 0, 1, 0]
    assert column["log_volatility_known"] == [0, 1, 1, 0]
    assert column["volume_rank"] == pytest.approx([-np.sqrt(3), np.sqrt(3), 0, 0])
    assert column["volume_rank_known"] == [1, 1, 0, 1]
    assert [column[f"regime_{name}"] for name in REGIMES] == [[0, 0, 1, 0], [0] * 4, [1, 0, 0, 0], [0, 0, 0, 1]]
    held = hold_constant(scale, x[:2], names)
    assert held.held.keys() == {
        "log_sigma", "log_volatility", "volume_rank_known", "regime_bull", "regime_bear", "regime_high_volatility",
    }  # fmt: skip
    again, _ = time_features(*given, held, found)
    seen = dict(zip(names, again.T.tolist(), strict=True))
    assert seen["regime_bull"] == seen["regime_high_volatility"] == [0] * 4
    assert seen["volume_rank_known"] == [1] * 4
    assert seen["log_volatility"] == [0] * 4
    assert seen["log_volatility_known"] == column["log_volatility_known"]
    assert [name for name in held_notes(held)[0].split(":")[0].split(", ") if name.endswith("_known")] == []
    assert held_notes(scale) == ()


def test_the_scale_of_volatility_is_of_what_is_known() -> None:
    volatility = np.array([np.nan, 1.0, np.e**2])
    scale = fit_scale(0, NS_PER_DAY, np.ones(3), volatility)
    assert (scale.log_volatility_mean, scale.log_volatility_std) == pytest.approx((1.0, 1.0))
    unknown = fit_scale(0, NS_PER_DAY, np.ones(3), np.full(3, np.nan))
    assert (unknown.log_volatility_mean, unknown.log_volatility_std) == (0.0, 1.0)
