"""Class schemes: the line is parted, exact zeros have a place, and what is fitted is fitted to training rows."""

from __future__ import annotations

import importlib
import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_market import SYMBOLS, Market
from hypothesis import assume, given
from hypothesis import strategies as st

from bml.dataset.classes import FixedClasses, QuantileClasses, VolatilityClasses, class_scheme
from bml.dataset.cuts import MIN_OF_SHARE, MIN_ROWS, ZERO_STOP, quantile_cuts
from bml.dataset.dataset import Dataset
from bml.dataset.labels import assign
from bml.types import NS_PER_S, ConfigError, GateError

ROOT = Path(__file__).resolve().parents[2]
TRAIN_END = 4 * 1440  # row: half of 8 days


def test_an_edge_itself_belongs_to_the_class_above_and_zero_has_one_class() -> None:
    scheme = FixedClasses()
    edges = scheme.edges("X", np.ones(3))
    exact = edges[0, [2, 3, 4]]  # -2 %, 0 and 2 %
    assert assign(exact, edges).tolist() == [3, 4, 5]
    assert assign(np.nextafter(exact, -1), edges).tolist() == [2, 3, 4]
    assert scheme.names[4] == "0..2%"
    assert scheme.names[0] == "< -10%"
    assert scheme.names[-1] == ">= 10%"


def test_volatility_edges_follow_sigma() -> None:
    scheme = VolatilityClasses(multiples=(-1.0, 0.0, 1.0))
    np.testing.assert_array_equal(scheme.edges("X", np.array([0.5, 2.0])), [[-0.5, 0, 0.5], [-2, 0, 2]])
    assert scheme.names == ("< -1 sd", "-1..0 sd", "0..1 sd", ">= 1 sd")


def test_per_symbol_edges_replace_the_common_ones() -> None:
    scheme = class_scheme({"method": "fixed", "edges_pct": [-1, 1], "per_symbol": {"ETH": [-2, 2]}})
    assert scheme.edges("ETH", np.ones(1))[0, 1] == pytest.approx(math.log(1.02))
    assert scheme.edges("BTC", np.ones(1))[0, 1] == pytest.approx(math.log(1.01))
    assert scheme.names == ("class 0", "class 1", "class 2")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"method": "fixed", "edges_pct": [1, 1]}, "rise strictly"),
        ({"method": "fixed", "edges_pct": [0, math.inf]}, "finite"),
        ({"method": "fixed", "edges_pct": [-100, 0]}, "finite edge above -100"),
        ({"method": "fixed", "edges_pct": []}, "at least one"),
        ({"method": "fixed", "edges_pct": "0, 1"}, "list of numbers"),
        ({"method": "fixed", "multiples": [0]}, "unknown key for method 'fixed'"),
        ({"method": "fixed", "edges_pct": [0], "per_symbol": {"ETH": [0, 1]}}, "same number of classes"),
        ({"multipels": [0]}, "did you mean 'multiples'"),
        ({"multiples": [True]}, "not a number"),
        ({"multiples": [math.nan]}, "finite"),
        ({"sigma_half_life_h": 0}, "above 0"),
        ({"method": "octiles"}, "not known"),
        ({"method": "quantile", "n_classes": 1}, "from 2 to 1000"),
        ({"method": "quantile", "n_classes": 10**12}, "from 2 to 1000"),
        ({"sigma_half_life_h": 1e300}, "sigma_half_life_h: expected a number above 0, up to 87600"),
        ({"method": "quantile", "n_classes": 8.0}, "whole number"),
        ({"method": "quantile", "n_classes": 8, "zero": "own"}, "take an odd number, not 8"),
        ({"method": "quantile", "n_classes": 8, "shares": [0.5, 0.5]}, "one of n_classes and shares"),
        ({"method": "quantile", "shares": [0.5, 0.6]}, "sum to 1"),
        ({"method": "quantile", "shares": [0.5, 0.5], "zero": "own"}, "give n_classes"),
        ({"multiples": [0], "n_classes": 3}, "one of multiples and n_classes"),
        ({"zero": "split"}, "there are: above, own"),
        ({"multiples": [-1e-300, 1]}, "as good as 0"),
        ({"method": "fixed", "edges_pct": [-1, 0], "per_symbol": {"E": [0, 1]}, "zero": "own"}, "same class for every"),
        ({"method": "triple_barrier", "take_profit": 0}, "volatilities above 0"),
        ({"method": "triple_barrier", "zero": "own"}, "unknown key for method 'triple_barrier'"),
    ],
)
def test_bad_schemes_are_refused(params: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        class_scheme(params)


def training(zeros: float = 0.05, n: int = 4000, seed: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns of two symbols, some exactly zero, beside their volatilities."""
    rng = np.random.default_rng(seed)
    sigma = rng.uniform(0.5e-2, 2e-2, n)
    moves = np.where(rng.random(n) < zeros, 0.0, sigma * rng.standard_t(4, n))
    return {"AAA": (moves, sigma), "BBB": (moves * 3.0 + 0.0, sigma * 3.0)}


SCHEMES: list[dict[str, Any]] = [
    {"method": "fixed"},
    {"method": "fixed", "edges_pct": [-1, 1], "zero": "own"},
    {"method": "fixed", "edges_pct": [-1, 0, 1], "per_symbol": {"BBB": [-3, 0, 2]}, "zero": "own"},
    {"method": "quantile", "n_classes": 11},
    {"method": "quantile", "shares": [0.1, 0.2, 0.4, 0.2, 0.1]},
    {"method": "quantile", "n_classes": 7, "zero": "own"},
    {},
    {"zero": "own"},
    {"n_classes": 8},
    {"n_classes": 5, "zero": "own"},
    {"method": "triple_barrier", "take_profit": 2, "stop": 1},
]

anything = st.one_of(
    st.floats(allow_nan=False),
    st.floats(-0.05, 0.05),
    st.sampled_from([0.0, -0.0, 5e-324, -5e-324, ZERO_STOP, np.nextafter(ZERO_STOP, 0), math.inf, -math.inf, 1e-17]),
)


@given(
    value=anything,
    params=st.sampled_from(SCHEMES),
    symbol=st.sampled_from(["AAA", "BBB"]),
    sigma=st.floats(1e-6, 1.0),
    near=st.integers(0, 12),
)
def test_every_float_has_exactly_one_class(
    value: float, params: dict[str, Any], symbol: str, sigma: float, near: int
) -> None:
    scheme = class_scheme(params).fitted(training())
    edges = scheme.edges(symbol, np.array([sigma]))
    assert edges.shape == (1, len(scheme.names) - 1)
    bounds = [-math.inf, *edges[0], math.inf]
    assert all(low < high for low, high in pairwise(bounds))
    edge = edges[0, near % edges.shape[1]]
    for v in (value, edge, np.nextafter(edge, -1), np.nextafter(edge, 1)):
        holds = [low <= v < high for low, high in pairwise(bounds)]
        holds[-1] |= v == math.inf
        assert holds.count(True) == 1
        assert assign(np.array([v]), edges).tolist() == [holds.index(True)]


@pytest.mark.parametrize("params", [p for p in SCHEMES if p.get("zero") == "own"])
@pytest.mark.parametrize("symbol", ["AAA", "BBB"])
def test_exact_zeros_alone_have_the_class_of_their_own(params: dict[str, Any], symbol: str) -> None:
    fitted = class_scheme(params).fitted(training())
    own = fitted.names.index("zero")
    values = np.array([0.0, -0.0, 1e-16, -1e-16, -5e-324])  # no log return but 0 is below 1e-16
    edges = np.repeat(fitted.edges(symbol, np.array([1e-3])), values.size, axis=0)
    assert assign(values, edges).tolist() == [own, own, own + 1, own - 1, own - 1]


FLUSHED = """
import numpy as np, torch
from bml.dataset.classes import class_scheme
from bml.dataset.labels import assign
if not torch.set_flush_denormal(True):
    print("SKIP"); raise SystemExit
assert (np.array([5e-324]) > 0).tolist() == [False], "denormals are not flushed"
for params in ({"zero": "own"}, {"method": "fixed", "zero": "own"}):
    scheme = class_scheme(params)
    edges = np.repeat(scheme.edges("AAA", np.array([1e-3])), 3, axis=0)
    own = scheme.names.index("zero")
    assert assign(np.array([0.0, 1e-16, -1e-16]), edges).tolist() == [own, own + 1, own - 1]
print("OK")
"""


def test_the_class_of_zeros_does_not_depend_on_how_a_process_treats_denormals() -> None:
    done = subprocess.run([sys.executable, "-c", FLUSHED], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    if "SKIP" in done.stdout:
        pytest.skip("this processor does not flush denormals")
    assert done.stdout == "OK\n"


def test_names_tell_the_numbers_or_the_number() -> None:
    assert class_scheme({"method": "fixed", "edges_pct": [-1, 0], "zero": "own"}).names == (
        "< -1%", "-1..0%", "zero", "> 0%"
    )  # fmt: skip
    assert class_scheme({"multiples": [-1, 1], "zero": "own"}).names == (
        "< -1 sd", "-1..0 sd", "zero", "0..1 sd", ">= 1 sd"
    )  # fmt: skip
    assert class_scheme({"n_classes": 3, "zero": "own"}).names == ("class 0", "zero", "class 2")
    assert class_scheme({"method": "quantile"}).names == tuple(f"class {k}" for k in range(8))
    assert class_scheme({"method": "triple_barrier"}).names == ("stop -1.5 sd", "time-out", "take-profit 1.5 sd")


@given(
    seed=st.integers(0, 2**32 - 1),
    extra=st.integers(0, 90),
    spread=st.floats(0.5, 30.0),
    parts=st.lists(st.integers(1, 5), min_size=1, max_size=6),
)
def test_quantile_cuts_equal_the_search_over_all_values(seed: int, extra: int, spread: float, parts: list[int]) -> None:
    """Ties everywhere: each cut is the value with the nearest share below it, or there is an error."""
    n, shares = MIN_ROWS * len(parts) + extra, [part / sum(parts) for part in parts]
    values = np.random.default_rng(seed).normal(0, spread, n).round().tolist()
    distinct = sorted(set(values))
    below = {v: sum(x < v for x in values) / n for v in distinct}
    gaps = [[abs(below[v] - sum(shares[: k + 1])) for v in distinct] for k in range(len(shares) - 1)]
    ambiguous = any(sorted(gap)[1] - min(gap) < 1e-9 for gap in gaps if len(gap) > 1)
    assume(not ambiguous)
    best = [distinct[gap.index(min(gap))] for gap in gaps]
    bounds = [0.0, *(below[v] for v in best), 1.0]
    achieved = [(high - low) / share for (low, high), share in zip(pairwise(bounds), shares, strict=True)]
    if abs(min(achieved) - MIN_OF_SHARE) < 1e-9:
        return
    if min(achieved) < MIN_OF_SHARE:
        with pytest.raises(GateError, match=r"AAA: \d+\.\d% of \d+ training values are exactly"):
            quantile_cuts(np.array(values), shares, "AAA")
    else:
        assert list(quantile_cuts(np.array(values), shares, "AAA")) == best


@pytest.mark.parametrize("n_classes", [8, 9, 12, 16])
@pytest.mark.parametrize("params", [{"method": "quantile"}, {"method": "volatility_scaled"}])
def test_three_percent_of_zeros_fit_and_thirty_are_refused_by_name(params: dict[str, Any], n_classes: int) -> None:
    scheme = class_scheme(params | {"n_classes": n_classes})
    few = training(0.03)
    fitted = scheme.fitted(few)
    for symbol, (return_N, sigma_N) in few.items():
        edges_NE = fitted.edges(symbol, sigma_N)
        assert (np.diff(edges_NE, axis=1) > 0).all()
        share = np.bincount(assign(return_N, edges_NE), minlength=n_classes) / return_N.size
        assert np.abs(share - 1 / n_classes).max() < 0.02
    share = np.mean(training(0.3)["AAA"][0] == 0)
    with pytest.raises(GateError, match=rf"AAA: {share:.1%} of 4000 training values are exactly 0: .* or zero: own"):
        scheme.fitted(training(0.3))


@pytest.mark.parametrize("zeros", [0.03, 0.3, 0.7])
@pytest.mark.parametrize("method", ["quantile", "volatility_scaled"])
def test_a_class_of_zeros_leaves_equal_classes_on_either_side(method: str, zeros: float) -> None:
    scheme = class_scheme({"method": method, "n_classes": 9, "zero": "own"}).fitted(training(zeros))
    for symbol, (return_N, sigma_N) in training(zeros).items():
        count = np.bincount(assign(return_N, scheme.edges(symbol, sigma_N)), minlength=9)
        assert count[4] == (return_N == 0).sum()
        assert np.ptp(count[:4]) <= 2
        assert np.ptp(count[5:]) <= 2


def test_what_cannot_be_fitted_is_said() -> None:
    octiles = QuantileClasses()
    with pytest.raises(GateError, match="BBB: 79 training rows for 8 classes, fewer than 10 each"):
        octiles.fitted({"BBB": (np.linspace(-1, 1, 79), np.ones(79))})
    with pytest.raises(GateError, match=r"AAA: 100\.0% of 500 training values are exactly 0\.25"):
        octiles.fitted({"AAA": (np.full(500, 0.25), np.ones(500))})
    own = class_scheme({"method": "quantile", "zero": "own"})
    with pytest.raises(GateError, match="AAA: 9 of 509 training returns are exactly 0, fewer than 10"):
        own.fitted({"AAA": (np.concatenate([np.linspace(-1, 1, 500), np.zeros(9)]), np.ones(509))})
    with pytest.raises(KeyError):
        octiles.edges("AAA", np.ones(3))


FITTED: list[dict[str, Any]] = [
    {"method": "quantile", "n_classes": 6},
    {"method": "volatility_scaled", "n_classes": 6},
    {"method": "quantile", "n_classes": 5, "zero": "own"},
]
OPTIONS: dict[str, Any] = {"targets": ["AAA", "CCC"], "min_assets": 2}
SPLIT: dict[str, Any] = {
    "split": {"fractions": {"train": 0.5, "early_stop": 0.15, "calibrate": 0.15, "test": 0.2}, "embargo_s": 1800}
}


def market(cut: int | None = None, scale: float = 2.0) -> Market:
    """Prices on a tick (so some returns are 0); after row ``cut``, if there is one, another market."""
    made = Market(n_days=8)
    if cut is not None:
        for symbol in SYMBOLS:
            other = Market(n_days=8, seed=77).mid[symbol]
            made.mid[symbol][cut + 1 :] = made.mid[symbol][cut] * (other[cut + 1 :] / other[cut]) ** scale
    for symbol in SYMBOLS:
        made.mid[symbol] = np.round(made.mid[symbol] / 0.05) * 0.05
    return made


@pytest.fixture(scope="module", params=FITTED, ids=lambda params: "-".join(map(str, params.values())))
def fitted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Dataset]:
    options = OPTIONS | SPLIT | {"classes": request.param}
    return options, market().dataset(tmp_path_factory.mktemp("fitted"), **options)


def test_exactly_the_rows_of_the_training_block_are_fitted(fitted: tuple[dict[str, Any], Dataset]) -> None:
    options, dataset = fitted
    index = dataset.index
    train_stop = dataset.fold.bounds_ns[0][1]
    block = np.flatnonzero(index.label_stop_ns_N + 1800 * NS_PER_S <= train_stop)
    assert block.tolist() == dataset.fold.train.tolist()
    parts = {}
    for a, symbol in ((0, "AAA"), (2, "CCC")):
        rows = block[index.target_N[block] == a]
        parts[symbol] = (index.return_N[rows], index.sigma_N[rows])
    again = class_scheme(options["classes"]).fitted(parts)
    for a, symbol in ((0, "AAA"), (2, "CCC")):
        mine = index.target_N == a
        assert index.edges_NE[mine].tobytes() == again.edges(symbol, index.sigma_N[mine]).tobytes()
    assert np.array_equal(index.y_N, assign(index.return_N, index.edges_NE))
    assert np.bincount(index.y_N[block], minlength=len(dataset.class_names)).min() > 0
    assert dataset.class_names == again.names


def test_what_was_fitted_is_told_and_kept(fitted: tuple[dict[str, Any], Dataset], tmp_path: Path) -> None:
    options, dataset = fitted
    (told,) = dataset.summary()["labelling"]
    assert told["horizon_s"] == 1800
    assert told["classes"]["method"] == options["classes"]["method"]
    cuts = told["classes"]["cuts"]
    assert list(cuts) == ["AAA", "CCC"]
    assert cuts["AAA"] != cuts["CCC"]
    assert any(note.startswith("AAA: class edges fitted on training rows: ") for note in dataset.notes)
    loaded = Dataset.load(dataset.save(tmp_path / "d.h5"), dataset.store)
    assert loaded.labelling == dataset.labelling
    assert loaded.digest == dataset.digest


def differing(one: Dataset, two: Dataset) -> set[str]:
    """What differs of all that is known at the end of training: the fitted numbers, and edges and classes of rows."""
    until = one.fold.bounds_ns[0][1]
    out = {"cuts"} if one.labelling != two.labelling else set()
    for name in ("edges_NE", "y_N"):
        values = [getattr(d.index, name)[d.index.label_stop_ns_N <= until].tobytes() for d in (one, two)]
        out |= {name} if values[0] != values[1] else set()
    anchors = [d.index.anchor_ns_N <= until for d in (one, two)]
    last = [d.last_y_N[at].tobytes() for d, at in zip((one, two), anchors, strict=True)]
    return out | ({"last_y_N"} if last[0] != last[1] else set())


def test_edges_do_not_know_what_comes_after_the_training_block(
    fitted: tuple[dict[str, Any], Dataset], tmp_path: Path
) -> None:
    options, dataset = fitted
    after = market(TRAIN_END).dataset(tmp_path / "after", **options)
    assert differing(dataset, after) == set()
    assert dataset.index.return_N[-1] != after.index.return_N[-1]
    embargoed = market(TRAIN_END - 30).dataset(tmp_path / "embargoed", **options)
    assert dataset.labelling == embargoed.labelling
    inside = market(TRAIN_END - 200).dataset(tmp_path / "inside", **options)
    assert dataset.labelling != inside.labelling


def test_edges_fitted_to_all_rows_are_seen(
    fitted: tuple[dict[str, Any], Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, _ = fitted
    samples = importlib.import_module("bml.dataset.samples")
    honest = samples.classify

    def leak(scheme: Any, symbols: Any, target_N: Any, return_N: Any, sigma_N: Any, train_N: Any) -> Any:
        return honest(scheme, symbols, target_N, return_N, sigma_N, np.arange(target_N.shape[0]))

    monkeypatch.setattr(samples, "classify", leak)
    one = market().dataset(tmp_path / "one", **options)
    two = market(TRAIN_END).dataset(tmp_path / "two", **options)
    assert {"cuts", "edges_NE", "y_N"} <= differing(one, two)
