"""Returns over one or several horizons, smoothed ones, causal volatility and half-open classes."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_market import SMALL, Market
from hypothesis import given
from hypothesis import strategies as st

from bml.dataset.dataset import Dataset
from bml.dataset.labels import assign, assign_known, log_return, smoothed_return
from bml.dataset.samples import book_windows
from bml.types import NS_PER_S, SPLITS, ConfigError, Flag, GateError


def walk(n: int, seed: int = 0, sigma: float = 1e-3) -> np.ndarray:
    return 100.0 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, sigma, n)))


def test_log_return_is_anchored_at_the_row_and_nan_where_unknown() -> None:
    mid = np.array([100.0, 101.0, np.nan, 99.0, 100.0])
    expected = [math.nan, math.log(99 / 101), math.nan]
    np.testing.assert_array_equal(log_return(mid, 2), [*expected, math.nan, math.nan])
    assert np.isnan(log_return(mid, 9)).all()


@given(
    st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=30),
    st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=8, unique=True),
)
def test_classes_partition_the_line(returns: list[float], edges: list[float]) -> None:
    edges = sorted(edges)
    bounds = [-math.inf, *edges, math.inf]
    y = assign(np.array(returns), np.tile(edges, (len(returns), 1)))
    for value, k in zip(returns, y, strict=True):
        assert [low <= value < high for low, high in pairwise(bounds)].index(True) == k


def test_assign_refuses_unknown_returns() -> None:
    with pytest.raises(ValueError, match="NaN"):
        assign(np.array([np.nan]), np.zeros((1, 1)))


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(0, 7))
def test_smoothed_return_is_the_mean_of_the_last_mids_over_the_mid_now(seed: int, steps: int, shorter: int) -> None:
    rng = np.random.default_rng(seed)
    mid = walk(30, seed)
    mid[rng.random(30) < 0.1] = np.nan
    smooth = max(1, steps - shorter)
    found = smoothed_return(mid, steps, smooth)
    for t in range(30):
        if t + steps >= 30 or np.isnan([mid[t], *mid[t + steps - smooth + 1 : t + steps + 1]]).any():
            assert np.isnan(found[t])
        else:
            assert found[t] == pytest.approx(math.log(np.mean(mid[t + steps - smooth + 1 : t + steps + 1]) / mid[t]))


def test_a_mean_that_would_begin_before_the_anchor_is_refused() -> None:
    with pytest.raises(ValueError, match="smooth must be 1 to 4"):
        smoothed_return(walk(10), 4, 5)


def test_unknown_returns_have_no_class() -> None:
    edges = np.zeros((3, 1))
    assert assign_known(np.array([np.nan, -1.0, 0.0]), edges).tolist() == [-1, 0, 1]


def test_smoothing_makes_the_sign_easier_to_guess_from_noise_alone() -> None:
    """A random walk under noise of three steps: "now below the mean of the last 30" against what comes."""
    rng, n, steps = np.random.default_rng(3), 400_000, 30
    mid = walk(n, 4, 1e-4) * np.exp(rng.normal(0, 3e-4, n))
    past = np.lib.stride_tricks.sliding_window_view(mid, steps).mean(axis=-1)  # ends at row steps - 1 + k
    now = slice(steps - 1, n - steps)
    is_low = mid[now] < past[: n - 2 * steps + 1]
    right = [np.mean((smoothed_return(mid, steps, smooth)[now] > 0) == is_low) for smooth in (1, steps)]
    assert right == pytest.approx([0.60, 0.65], abs=0.01)


SMOOTHED: dict[str, Any] = {"label": "smoothed", "smooth_s": 1200.0}


def test_a_smoothed_dataset_labels_past_and_future_alike(tmp_path: Path) -> None:
    market = Market(n_days=6)
    market.gap("AAA", 4000, 4003)
    dataset = market.dataset(tmp_path, **SMOOTHED)
    mid = market.mid["AAA"]
    assert not {4000 + k for k in range(-30, 23)} & set(dataset.row_N)  # a row of the gap in the mean, or in the window
    for n in range(0, len(dataset), 53):
        row, edges = dataset.row_N[n], dataset.index.edges_NE[n]
        expected = math.log(mid[row + 11 : row + 31].mean() / mid[row])
        assert dataset.index.return_N[n] == pytest.approx(expected, abs=1e-13)
        last = math.log(mid[row - 19 : row + 1].mean() / mid[row - 30])
        assert dataset.last_y_N[n] == np.searchsorted(edges, last, side="right")
    assert (dataset.index.label_stop_ns_N - dataset.index.anchor_ns_N == 1800 * NS_PER_S).all()
    assert dataset.labelling[0]["smooth_s"] == 1200
    assert any("mean mid of their last 1200 s" in note for note in dataset.notes)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> tuple[Market, Dataset]:
    market = Market(n_days=8)
    market.flag["AAA"][3000] |= int(Flag.OUTLIER)  # no label may end there
    options: dict[str, Any] = {
        "horizon_s": [900.0, 1800.0, 3600.0], "label_horizon_s": 1800.0, "classes": {"method": "quantile"},
    }  # fmt: skip
    return market, market.dataset(tmp_path_factory.mktemp("several"), **options)


def test_all_horizons_are_labelled_and_purged_for(several: tuple[Market, Dataset], tmp_path: Path) -> None:
    market, dataset = several
    mid, more = market.mid["AAA"], dataset.more
    assert dataset.horizon_rows == 30
    assert more.horizons_ns_H.tolist() == [900 * NS_PER_S, 3600 * NS_PER_S]
    unknown = 0
    for n in range(len(dataset)):
        row = dataset.row_N[n]
        assert dataset.index.return_N[n] == pytest.approx(math.log(mid[row + 30] / mid[row]), abs=1e-13)
        for h, steps in enumerate((15, 60)):
            if row + steps == 3000 or row + steps >= mid.shape[0]:
                assert np.isnan(more.return_NH[n, h])
                assert more.y_NH[n, h] == -1
                unknown += 1
            else:
                assert more.return_NH[n, h] == pytest.approx(math.log(mid[row + steps] / mid[row]), abs=1e-13)
    assert unknown >= 3
    cuts = [told["classes"]["cuts"]["AAA"] for told in dataset.labelling]
    assert [told["horizon_s"] for told in dataset.labelling] == [1800, 900, 3600]
    for h, edges in enumerate(cuts[1:]):
        known = more.y_NH[:, h] >= 0
        expected = np.searchsorted(edges, more.return_NH[known, h], side="right")
        assert more.y_NH[known, h].tolist() == expected.tolist()
        train = dataset.fold.train[known[dataset.fold.train]]
        assert np.ptp(np.bincount(more.y_NH[train, h], minlength=8)) <= 1
    assert (dataset.index.label_stop_ns_N - dataset.index.anchor_ns_N == 3600 * NS_PER_S).all()
    later = [start for start, _ in dataset.fold.bounds_ns[1:]]
    for name, stop in zip(SPLITS, later, strict=False):
        assert dataset.index.anchor_ns_N[getattr(dataset.fold, name)].max() + 3600 * NS_PER_S <= stop
    loaded = Dataset.load(dataset.save(tmp_path / "d.h5"), dataset.store)
    assert loaded.digest == dataset.digest
    assert loaded.more.y_NH.tobytes() == more.y_NH.tobytes()


def test_further_horizons_leave_the_label_as_it_is(several: tuple[Market, Dataset], tmp_path: Path) -> None:
    market, dataset = several
    alone = market.dataset(tmp_path)
    for name in ("anchor_ns_N", "return_N", "sigma_N"):
        assert getattr(alone.index, name).tobytes() == getattr(dataset.index, name).tobytes()
    assert alone.more.y_NH.shape == (len(alone), 0)
    assert alone.outcomes is None


def test_a_further_horizon_that_classes_cannot_be_fitted_to_is_named(tmp_path: Path) -> None:
    """A price that is every day the same: after a day it is where it was."""
    market = Market(n_days=10)
    market.mid["AAA"] = np.tile(market.mid["AAA"][:1440], 10)
    classes = {"method": "quantile", "n_classes": 4}
    assert len(market.dataset(tmp_path / "one", classes=classes)) > 100
    with pytest.raises(
        GateError, match=r"^horizon_s 86400: classes: AAA: 100\.0% of \d+ training values are exactly 0"
    ):
        market.dataset(tmp_path / "two", classes=classes, horizon_s=[1800.0, 86400.0])


#: a row of the training block; of 3600 s labels the last ones known then begin an hour before
CUT = 3 * 1440


def test_further_labels_known_at_a_moment_do_not_change_with_what_follows(
    several: tuple[Market, Dataset], tmp_path: Path
) -> None:
    market, dataset = several
    other = Market(n_days=8)
    for symbol in other.symbols:
        other.mid[symbol] = market.mid[symbol].copy()
        other.mid[symbol][CUT + 1 :] *= 1.5 + np.sin(np.arange(other.mid[symbol].shape[0] - CUT - 1))
    other.flag["AAA"][3000] |= int(Flag.OUTLIER)
    changed = other.dataset(tmp_path, horizon_s=[900.0, 1800.0, 3600.0], label_horizon_s=1800.0)
    for h, steps in enumerate((15, 60)):
        values = [d.more.return_NH[d.row_N + steps <= CUT, h].tobytes() for d in (dataset, changed)]
        sigmas = [d.more.sigma_NH[d.row_N <= CUT, h].tobytes() for d in (dataset, changed)]
        assert values[0] == values[1]
        assert sigmas[0] == sigmas[1]
        late = dataset.row_N + steps > CUT
        assert dataset.more.return_NH[late, h].tobytes() != changed.more.return_NH[late, h].tobytes()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"horizon_s": []}, "horizon_s: expected one horizon or several different ones"),
        ({"horizon_s": [1800.0, 1800.0]}, "several different ones"),
        ({"horizon_s": [1800.0, 90.0]}, "horizon_s: 90 is not a whole number of rows"),
        ({"label_horizon_s": 900.0}, r"label_horizon_s: 900 is none of horizon_s \(1800\)"),
        ({"label": "smoothed"}, "smooth_s: goes with label: smoothed"),
        ({"smooth_s": 600.0}, "smooth_s: goes with label: smoothed"),
        (SMOOTHED | {"horizon_s": [1800.0, 600.0]}, "smooth_s: 1200 is longer than a horizon"),
        (SMOOTHED | {"classes": {"method": "triple_barrier"}}, "label: a triple barrier is about the path"),
    ],
)
def test_labels_that_make_no_sense_are_refused(tmp_path: Path, params: dict[str, Any], message: str) -> None:
    market = Market(n_days=6)
    store = market.write(tmp_path, skip=lambda symbol, number: True)
    with pytest.raises(ConfigError, match=message):
        book_windows(market.config(), store, **(SMALL | params))
