"""Two markets that are the same from a row on and others before: what is known beyond a look-back is the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from dataset_market import SYMBOLS, Market

from bml.dataset import samples
from bml.dataset.calendar import time_features
from bml.dataset.dataset import Dataset
from bml.dataset.features import anchor_features

PER_DAY = 1440
SHORT: dict[str, Any] = {
    "volatility_h": 6.0,
    "volume_days": 2,
    "regime": {"trend_days": 1, "volatility_days": 1, "memory_days": 2, "high_volatility": 0.9},
}


def column(dataset: Dataset, name: str) -> np.ndarray:
    return dataset.x_time_NK[:, dataset.time_names.index(name)]


#: row before which the past is made another one
OLD = 2 * PER_DAY + 500


def markets() -> tuple[Market, Market]:
    """Two that agree from row ``OLD`` on, feeds frozen across it."""
    one, other = Market(n_days=12), Market(n_days=12, seed=77)
    one.freeze("BBB", OLD - 40, OLD + 12)  # is longer stale in one past than in the other
    for target in ("AAA", "CCC"):
        one.freeze(target, OLD - 15, OLD + 1)
    two = Market(n_days=12)
    for symbol in SYMBOLS:
        for name, factor in (("mid", 3.0), ("book", 2.0)):
            mine, theirs = getattr(two, name)[symbol], getattr(other, name)[symbol]
            mine[:OLD] = factor * theirs[:OLD]
            mine[OLD:] = getattr(one, name)[symbol][OLD:]
        two.flag[symbol][OLD:] = one.flag[symbol][OLD:]
    return one, two


def known_by(name: str, dataset: Dataset) -> np.ndarray:
    """What the look-back ``name`` is of, a row a sample."""
    index, at = dataset.index, np.arange(len(dataset))
    by_name: dict[str, Callable[[], np.ndarray]] = {
        "input": lambda: np.column_stack([dataset.present_NA, anchor_features(dataset, at)[0][:, :4]]),
        "last_label": lambda: dataset.last_y_N >= 0,
        "sigma": lambda: np.column_stack([index.sigma_N, dataset.vol_N, index.edges_NE, column(dataset, "log_sigma")]),
        "volatility": lambda: np.column_stack([column(dataset, "log_volatility")]),
        "volume": lambda: column(dataset, "volume_rank"),
        "regime": lambda: np.column_stack(
            [dataset.regime_N, *(column(dataset, f"regime_{name}") for name in dataset.regime_names)]
        ),
        "daily_moments": lambda: np.stack(
            [
                dataset.moments_DAS[day - dataset.context_days : day].ravel()
                for day in np.maximum(dataset.row_N // PER_DAY, dataset.context_days)
            ]
        ),
    }
    return by_name[name]()


@pytest.fixture(scope="module")
def pasts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset]:
    """Datasets of both markets, scaled alike, sample for sample those after ``OLD``."""
    root = tmp_path_factory.mktemp("pasts")
    one, two = markets()
    options: dict[str, Any] = {
        "targets": ["AAA", "CCC"],
        "classes": {
            "method": "volatility_scaled",
            "sigma": {"method": "absolute", "windows_h": [6.0], "span_s": 300.0},
        },
        "context": SHORT,
        "context_days": 2,
        "max_stale_s": 600.0,
        "max_filled": 0.05,
    }
    first = one.dataset(root / "one", **options)
    fitted = samples.trained_features

    def as_the_first(index: Any, train: Any, bounds: Any, targets: Any, found: Any) -> Any:
        given = (index.anchor_ns_N, index.sigma_N, index.target_N, targets)
        return *time_features(*given, first.calendar, found), first.calendar

    samples.trained_features = as_the_first
    try:
        second = two.dataset(root / "two", **options)
    finally:
        samples.trained_features = fitted
    return first, second


def after(pasts: tuple[Dataset, Dataset], start_ns: Callable[[Dataset], np.ndarray]) -> list[np.ndarray]:
    """Rows of the samples of both whose ``start_ns`` is not before row ``OLD``."""
    out = []
    for dataset in pasts:
        old_ns = int(dataset.grid.time_ns(np.int64(OLD)))
        out.append(np.flatnonzero(start_ns(dataset) >= old_ns))
    one, two = (d.index.anchor_ns_N[rows].tolist() for d, rows in zip(pasts, out, strict=True))
    assert one == two
    assert len(one) > 10
    return out


@pytest.mark.parametrize("name", ["input", "last_label", "sigma", "volatility", "volume", "regime", "daily_moments"])
def test_nothing_older_than_its_look_back_enters(pasts: tuple[Dataset, Dataset], name: str) -> None:
    one, two = after(pasts, lambda dataset: dataset.index.anchor_ns_N - dataset.lookbacks[name])
    values = [known_by(name, dataset)[rows] for dataset, rows in zip(pasts, (one, two), strict=True)]
    assert values[0].tobytes() == values[1].tobytes()
    first_ns = pasts[0].index.anchor_ns_N[one[0]]
    old_ns = int(pasts[0].grid.time_ns(np.int64(OLD)))
    told: list[dict[tuple[int, int], bytes]] = []
    for dataset in pasts:
        anchor_ns_N, target_N, known_N = dataset.index.anchor_ns_N, dataset.index.target_N, known_by(name, dataset)
        between = np.flatnonzero((anchor_ns_N >= old_ns) & (anchor_ns_N < first_ns))
        told.append({(int(anchor_ns_N[n]), int(target_N[n])): known_N[n].tobytes() for n in between})
    assert any(told[0][key] != told[1][key] for key in told[0].keys() & told[1].keys())  # the other past shows before


def test_nothing_older_than_the_context_of_a_sample_enters_it(pasts: tuple[Dataset, Dataset]) -> None:
    chosen = after(pasts, lambda dataset: dataset.index.context_start_ns_N)
    for dataset in pasts:
        starts_N = dataset.index.anchor_ns_N - np.array(list(dataset.lookbacks.values()))[:, None]
        assert (dataset.index.context_start_ns_N >= starts_N.min(axis=0)).all()
        assert (dataset.index.context_start_ns_N <= dataset.index.input_start_ns_N).all()
    for name in pasts[0].lookbacks:
        one, two = (known_by(name, dataset)[rows] for dataset, rows in zip(pasts, chosen, strict=True))
        assert one.tobytes() == two.tobytes(), name
    one, two = (d.x_time_NK[rows] for d, rows in zip(pasts, chosen, strict=True))
    assert one.tobytes() == two.tobytes()
