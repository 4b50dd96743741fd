"""Triple barriers against an oracle over whole paths, what a gap does to them, and what is known of them when."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from dataset_market import Market
from hypothesis import given
from hypothesis import strategies as st

from bml.dataset.barriers import first_touches, outcomes
from bml.dataset.dataset import Dataset
from bml.dataset.labels import assign
from bml.models.baselines import VolatilityOutcome, baselines_for
from bml.types import NS_PER_S, Flag

CLASSES: dict[str, Any] = {"method": "triple_barrier", "take_profit": 1.0, "stop": 0.75}
OPTIONS: dict[str, Any] = {"classes": CLASSES, "targets": ["AAA", "CCC"]}
STEPS = 30  # rows of the horizon


def oracle(mid: np.ndarray, valid: np.ndarray, row: int, low: float, high: float, steps: int) -> tuple[float, ...]:
    """(touch, return, up, down) from whole paths: where the sets of touched and of bad rows begin."""
    unknown = (-1, math.nan, math.nan, math.nan)
    if row < 0 or row + steps >= len(mid) or not valid[row]:
        return unknown
    ahead = np.arange(row + 1, row + steps + 1)
    with np.errstate(invalid="ignore"):
        path = np.log(mid[ahead] / mid[row])
    ends = [*ahead[(path < low) | (path >= high)], row + steps]
    bad = ahead[~valid[ahead]]
    touch = min(ends)
    if bad.size and bad.min() <= touch:
        return unknown
    way = path[: touch - row]
    return (touch, way[-1], max(0.0, way.max()), min(0.0, way.min()))


@given(
    seed=st.integers(0, 2**32 - 1),
    steps=st.integers(1, 12),
    bad=st.floats(0, 0.3),
    tick=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_touches_equal_the_oracle(seed: int, steps: int, bad: float, tick: float) -> None:
    rng = np.random.default_rng(seed)
    mid = 100.0 * np.exp(np.cumsum(rng.normal(0, 3e-3, 60)))
    mid = np.round(mid / tick) * tick if tick else mid
    valid = rng.random(60) >= bad
    mid[~valid & (rng.random(60) < 0.5)] = np.nan
    rows = np.arange(-5, 62)
    barriers = np.stack([-rng.uniform(1e-3, 2e-2, rows.size), rng.uniform(1e-3, 2e-2, rows.size)], axis=1)
    found = first_touches(mid, valid, rows, barriers, steps)
    for n, row in enumerate(rows.tolist()):
        expected = oracle(mid, valid, row, *barriers[n], steps)
        np.testing.assert_allclose([part[n] for part in found], expected, rtol=0, atol=1e-14)
    plain = first_touches.py_func(mid, valid, rows, barriers, steps)
    for one, two in zip(found, plain, strict=True):
        assert one.tobytes() == two.tobytes()
    known = found[0] >= 0
    y = assign(found[1][known], barriers[known])
    early = found[0][known] < rows[known] + steps
    assert (y[early] != 1).all()  # only the end of the horizon is a time-out


def path_of(*returns: float) -> np.ndarray:
    return 100.0 * np.exp(np.array([0.0, *returns]))


def told(mid: np.ndarray, valid: np.ndarray | None = None, steps: int = 4) -> tuple[float, ...]:
    """(touch row, class, run-up, draw-down) of the path from row 0, barriers at -0.02 and 0.03, sigma 0.01."""
    barriers = np.array([[-0.02, 0.03]])
    valid = np.ones(mid.shape, bool) if valid is None else valid
    out = outcomes(mid, valid, np.array([0]), barriers, np.array([0.01]), steps)
    y = -1 if np.isnan(out["return_N"][0]) else int(assign(out["return_N"], barriers)[0])
    return (int(out["touch_row_N"][0]), y, float(out["run_up_N"][0]), float(out["draw_down_N"][0]))


def test_what_comes_first_counts() -> None:
    assert told(path_of(0.01, -0.025, 0.05, 0.05)) == pytest.approx((2, 0, 1.0, 2.5))
    assert told(path_of(-0.01, 0.035, -0.05, 0.0)) == pytest.approx((2, 2, 3.5, 1.0))
    assert told(path_of(0.01, -0.01, 0.02, 0.015)) == pytest.approx((4, 1, 2.0, 1.0))
    assert told(path_of(-0.01, -0.01, -0.01, -0.03)) == pytest.approx((4, 0, 0.0, 3.0))


def test_the_take_profit_is_reached_at_it_and_the_stop_below_it() -> None:
    mid = np.array([1.0, 0.5, 2.0, 1.0])
    exact = np.log(np.array([[0.5, 2.0]]))
    every = np.ones(4, bool)
    touch, moved, _, _ = first_touches(mid, every, np.array([0]), exact, 3)
    assert touch.tolist() == [2]
    assert assign(moved, exact).tolist() == [2]
    inside = np.array([[np.nextafter(exact[0, 0], 0), 9.0]])
    assert first_touches(mid, every, np.array([0]), inside, 3)[0].tolist() == [1]


def test_a_gap_before_the_touch_makes_it_unknown_and_one_after_it_nothing() -> None:
    mid = path_of(0.01, -0.025, 0.05, 0.05)
    for bad, known in ((0, False), (1, False), (2, False), (3, True), (4, True)):
        valid = np.ones(5, bool)
        valid[bad] = False
        gapped = mid.copy()
        gapped[bad] = np.nan
        assert (told(gapped, valid)[0] == 2) == known
    assert told(mid, steps=5)[0] == -1  # the horizon ends after the data: only the quick ones would be known


@pytest.fixture(scope="module")
def barriers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Market, Dataset]:
    market = Market(n_days=8)
    market.flag["AAA"][5000] |= int(Flag.OUTLIER)
    return market, market.dataset(tmp_path_factory.mktemp("barriers"), **OPTIONS)


def test_the_dataset_holds_the_outcomes_of_its_anchors(barriers: tuple[Market, Dataset]) -> None:
    market, dataset = barriers
    index, found = dataset.index, dataset.outcomes
    assert found is not None
    assert dataset.class_names == ("stop -0.75 sd", "time-out", "take-profit 1 sd")
    touch = dataset.grid.row(found.touch_ns_N)
    for n in range(len(dataset)):
        a = int(index.target_N[n])
        mid = market.mid[dataset.symbols[a]]
        valid = market.flag[dataset.symbols[a]] == 0
        low, high = index.edges_NE[n]
        assert (low, high) == (-0.75 * index.sigma_N[n], 1.0 * index.sigma_N[n])
        expected = oracle(mid, valid, int(dataset.row_N[n]), low, high, STEPS)
        values = (touch[n], index.return_N[n], found.run_up_N[n] * index.sigma_N[n])
        np.testing.assert_allclose(values, expected[:3], rtol=0, atol=1e-13)
        assert -found.draw_down_N[n] * index.sigma_N[n] == pytest.approx(expected[3], abs=1e-13)
        last = oracle(mid, valid, int(dataset.row_N[n]) - STEPS, low, high, STEPS)
        assert dataset.last_y_N[n] == (-1 if last[0] < 0 else np.searchsorted([low, high], last[1], side="right"))
    assert np.array_equal(index.y_N, assign(index.return_N, index.edges_NE))
    assert np.bincount(index.y_N[dataset.fold.train]).min() > 100
    near = dataset.row_N[(index.target_N == 0) & (dataset.row_N < 5000) & (dataset.row_N >= 5000 - STEPS)]
    touched = touch[np.isin(dataset.row_N, near) & (index.target_N == 0)]
    assert (touched < 5000).all()


def test_which_samples_are_kept_does_not_depend_on_their_outcome(barriers: tuple[Market, Dataset]) -> None:
    """The label interval reaches to the end of the horizon, so near a border quick touches are purged like others."""
    _, dataset = barriers
    index, found = dataset.index, dataset.outcomes
    assert found is not None
    assert (index.label_stop_ns_N == index.anchor_ns_N + STEPS * 60 * NS_PER_S).all()
    assert (found.touch_ns_N > index.anchor_ns_N).all()
    assert (found.touch_ns_N <= index.label_stop_ns_N).all()
    border = dataset.fold.bounds_ns[1][0]
    inside = (index.anchor_ns_N < border) & (index.label_stop_ns_N > border)
    assert (found.touch_ns_N[inside] < border).any()
    kept = np.concatenate([dataset.fold.train, dataset.fold.early_stop])
    assert not np.isin(np.flatnonzero(inside), kept).any()


def test_outcomes_are_kept_with_the_dataset(barriers: tuple[Market, Dataset], tmp_path: Path) -> None:
    _, dataset = barriers
    loaded = Dataset.load(dataset.save(tmp_path / "d.h5"), dataset.store)
    assert loaded.digest == dataset.digest
    assert loaded.outcomes is not None
    assert dataset.outcomes is not None
    assert loaded.outcomes.touch_ns_N.tobytes() == dataset.outcomes.touch_ns_N.tobytes()
    assert loaded.summary()["labelling"][0]["classes"]["method"] == "triple_barrier"


@pytest.mark.parametrize("cut", [3000, 4 * 1440, 7001])
def test_an_outcome_known_at_a_moment_does_not_change_with_what_follows(
    barriers: tuple[Market, Dataset], tmp_path: Path, cut: int
) -> None:
    """Of samples touched by the cut all that is said of them is the same, though the horizon ends after it."""
    market, dataset = barriers
    other = Market(n_days=8)
    for symbol in other.symbols:
        other.mid[symbol][cut + 1 :] *= 1.2 + 0.1 * np.sin(np.arange(other.mid[symbol].shape[0] - cut - 1))
        other.flag[symbol] = market.flag[symbol].copy()
    changed = other.dataset(tmp_path, **OPTIONS)
    parts: list[dict[str, bytes]] = []
    for d in (dataset, changed):
        assert d.outcomes is not None
        touched = np.flatnonzero(d.grid.row(d.outcomes.touch_ns_N) <= cut)
        anchored = np.flatnonzero(d.row_N <= cut)
        part = {f"index.{k}": getattr(d.index, k)[touched].tobytes() for k in d.index.__dataclass_fields__}
        part |= {k: getattr(d.outcomes, k)[touched].tobytes() for k in d.outcomes.__dataclass_fields__}
        parts.append(part | {"last": d.last_y_N[anchored].tobytes(), "edges": d.index.edges_NE[anchored].tobytes()})
    assert parts[0] == parts[1]
    quick = (dataset.row_N <= cut) & (dataset.row_N + STEPS > cut)
    assert quick.any()
    assert dataset.index.return_N.tobytes() != changed.index.return_N.tobytes()


def test_every_baseline_forecasts_outcomes(barriers: tuple[Market, Dataset]) -> None:
    _, dataset = barriers
    families = baselines_for(dataset)
    assert families["volatility_only"] is VolatilityOutcome
    train = dataset.fold.train
    for family in families.values():
        proba_NC = family.fit(dataset, train, np.ones(train.shape[0])).proba(dataset, dataset.fold.test)
        assert proba_NC.shape == (dataset.fold.test.shape[0], 3)
        assert (proba_NC > 0).all()
        np.testing.assert_allclose(proba_NC.sum(axis=1), 1.0)


def test_volatility_only_tells_time_outs_by_how_wide_the_barriers_are_for_the_market() -> None:
    """Planted: barriers 4 volatilities apart are never touched, those 1 apart always, weight 3 on a stop."""
    wide = np.tile([True, False], 200)
    edges = np.where(wide, 2.0, 0.5)[:, None] * np.array([[-0.01, 0.01]])
    y = np.where(wide, 1, np.repeat([0, 2], 200))
    index = SimpleNamespace(y_N=y, edges_NE=edges)
    dataset: Any = SimpleNamespace(index=index, vol_N=np.full(400, 0.01), class_names=("stop", "time-out", "take"))
    rows = np.arange(400)
    proba = VolatilityOutcome.fit(dataset, rows, np.where(y == 0, 3.0, 1.0)).proba(dataset, rows)
    np.testing.assert_allclose(proba[0], [0, 1, 0], atol=0.03)
    np.testing.assert_allclose(proba[1], [0.75, 0, 0.25], atol=0.03)


def test_a_price_that_does_not_move_has_no_volatility_to_measure_an_outcome_in(tmp_path: Path) -> None:
    """Its anchors are dropped without a division by nil, until it moves."""
    market = Market(n_days=6)
    market.mid["CCC"][:2000] = 100.0
    dataset = market.dataset(tmp_path, **OPTIONS)
    assert dataset.drop_reasons["CCC"]["sigma_unknown"] > dataset.drop_reasons["AAA"]["sigma_unknown"]
    assert dataset.outcomes is not None
    assert np.isfinite(dataset.outcomes.run_up_N).all()
    assert np.isfinite(dataset.outcomes.draw_down_N).all()
