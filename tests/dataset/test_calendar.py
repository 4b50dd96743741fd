"""The clock as features."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from bml.dataset.calendar import fit_scale, time_features
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
