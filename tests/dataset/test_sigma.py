"""Causal volatility: against the loop that specifies it, the future, and what is older than its look-back."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bml.dataset.classes import class_scheme
from bml.dataset.sigma import (
    DEFAULT,
    MIN_RETURNS,
    TAIL,
    SigmaSpec,
    causal_sigma,
    ewma,
    lookback_ns,
    sigma_spec,
    window_sum,
)
from bml.types import NS_PER_S, ConfigError

MINUTE = 60 * NS_PER_S
SPECS = {
    "absolute": SigmaSpec(hours=(0.25, 1.0, 2.0), span_s=300.0),
    "absolute, one-row returns": SigmaSpec(hours=(1.5,), span_s=60.0),
    "absolute, windows that are no whole rows": SigmaSpec(hours=(0.33, 0.71), span_s=150.0),
    "ewma": ewma(0.25),
    "ewma of two": ewma(0.1, 0.37),
    "ewma over a span": SigmaSpec(method="ewma", hours=(0.2,), span_s=300.0),
}
each_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())


def walk(n: int, seed: int = 0, sigma: float = 1e-3) -> np.ndarray:
    return 100.0 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, sigma, n)))


def holes(n: int, seed: int, share: float = 0.1) -> np.ndarray:
    """Valid rows: not some at random, and not a whole run."""
    rng = np.random.default_rng(seed)
    valid = rng.random(n) > share
    start = int(rng.integers(0, n))
    valid[start : start + n // 6] = False
    return valid


def specified(mid: np.ndarray, valid: np.ndarray, spec: SigmaSpec, t: int, steps: int) -> float:
    """The docstring of causal_sigma, written out for one row of a grid of minutes."""
    span = max(1, math.floor(spec.span_s / 60))
    power = 2 if spec.method == "ewma" else 1
    means = []
    enough = False
    for hours in sorted(spec.hours):
        rows = 60 * hours
        decay = 1.0 if spec.method == "absolute" else 0.5 ** (1 / rows)
        width = max(1, math.floor((TAIL if spec.method == "ewma" else 1) * rows + 1e-9))
        total = weight = 0.0
        for age in range(width):
            row = t - age
            if row >= span and valid[row] and valid[row - span]:
                total += decay**age * abs(math.log(mid[row] / mid[row - span])) ** power
                weight += decay**age
        enough = weight >= min(MIN_RETURNS, 0.5 * sum(decay**age for age in range(width)))
        if enough:
            means.append(total / weight)
    if not enough:
        return math.nan
    mean = sum(means) / len(means)
    return (math.sqrt(mean) if power == 2 else math.sqrt(math.pi / 2) * mean) * math.sqrt(steps / span)


@each_spec
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 400), steps=st.integers(1, 60))
def test_it_is_the_loop_written_out(spec: SigmaSpec, seed: int, n: int, steps: int) -> None:
    mid, valid = walk(n, seed), holes(n, seed)
    mid[~valid] = np.nan
    sigma = causal_sigma(mid, valid, spec, cadence_ns=MINUTE, steps=steps)
    expected = [specified(mid, valid, spec, t, steps) for t in range(n)]
    np.testing.assert_allclose(sigma, expected, rtol=1e-11, atol=0)


@each_spec
@pytest.mark.parametrize("seed", range(4))
def test_no_byte_depends_on_the_future(spec: SigmaSpec, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mid, valid = walk(1500, seed), holes(1500, seed)
    for cut in rng.integers(1, 1499, 20):
        other, known = mid.copy(), valid.copy()
        other[cut + 1 :] = walk(1499 - cut, seed + 1, 1e-2)
        known[cut + 1 :] = rng.random(1499 - cut) > 0.5
        before = causal_sigma(mid, valid, spec, cadence_ns=MINUTE)[: cut + 1]
        after = causal_sigma(other, known, spec, cadence_ns=MINUTE)[: cut + 1]
        assert before.tobytes() == after.tobytes()


@each_spec
@pytest.mark.parametrize("seed", range(4))
def test_no_byte_depends_on_what_is_older_than_the_lookback(spec: SigmaSpec, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mid, valid = walk(1500, seed), holes(1500, seed, 0.02)
    now = causal_sigma(mid, valid, spec, cadence_ns=MINUTE)
    for t in rng.integers(300, 1499, 20):
        old = np.arange(1500) <= t - lookback_ns(spec, MINUTE) / MINUTE
        other, known = mid.copy(), valid.copy()
        other[old] = rng.lognormal(0, 100, old.sum())
        known[old] = rng.random(old.sum()) > 0.5
        assert causal_sigma(other, known, spec, cadence_ns=MINUTE)[t].tobytes() == now[t].tobytes()


def test_the_lookback_is_not_longer_than_need_be() -> None:
    """The row right after it does enter, where windows and spans are whole rows."""
    spec, t = SPECS["absolute"], 1000
    mid, valid = walk(1500), np.ones(1500, bool)
    other = mid.copy()
    other[t - lookback_ns(spec, MINUTE) // MINUTE + 1] *= 1.5
    assert causal_sigma(other, valid, spec, cadence_ns=MINUTE)[t] > causal_sigma(mid, valid, spec, cadence_ns=MINUTE)[t]


def test_lookbacks_in_time() -> None:
    hour = 3600 * NS_PER_S
    assert lookback_ns(DEFAULT) == 24 * hour + hour // 4
    assert lookback_ns(DEFAULT, 10 * NS_PER_S) == lookback_ns(DEFAULT)
    assert lookback_ns(DEFAULT, hour) == 25 * hour
    assert lookback_ns(ewma(3.0, 24.0), 10 * NS_PER_S) == TAIL * 24 * hour + 10 * NS_PER_S


@each_spec
def test_the_planted_volatility_is_recovered_over_any_steps(spec: SigmaSpec) -> None:
    for steps in (1, 30):
        sigma = causal_sigma(walk(60_000, sigma=2e-3), np.ones(60_000, bool), spec, cadence_ns=MINUTE, steps=steps)
        assert np.sqrt(np.nanmean(sigma**2)) == pytest.approx(2e-3 * math.sqrt(steps), rel=0.05)


def sticky(price: np.ndarray, tick: float) -> np.ndarray:
    """A quote that follows by whole ticks, once the price is a tick away."""
    quote = price.copy()
    for t in range(1, price.shape[0]):
        quote[t] = quote[t - 1] + tick * math.trunc((price[t] - quote[t - 1]) / tick)
    return quote


def test_the_default_follows_a_volatility_that_moves_the_price_by_less_than_a_tick() -> None:
    """Over one row ticks are counted, which come with the variance, not with the volatility."""
    mids = [sticky(walk(30_000, seed=3, sigma=sigma), 0.05) for sigma in (1e-4, 4e-4)]
    valid = np.ones(30_000, bool)

    def ratio(spec: SigmaSpec) -> float:
        calm, wild = (np.nanmean(causal_sigma(mid, valid, spec, cadence_ns=10 * NS_PER_S)) for mid in mids)
        return float(wild / calm)

    assert ratio(DEFAULT) == pytest.approx(4.0, rel=0.15)
    assert ratio(SigmaSpec(span_s=10.0)) > 6.0


def test_a_window_without_enough_returns_is_left_out_and_the_longest_decides() -> None:
    spec = SigmaSpec(hours=(0.5, 4.0), span_s=60.0)
    mid, valid = walk(1000), np.ones(1000, bool)
    valid[500:560] = False
    sigma = causal_sigma(mid, valid, spec, cadence_ns=MINUTE)
    assert np.isnan(sigma[: int(MIN_RETURNS)]).all()
    assert np.isfinite(sigma[int(MIN_RETURNS) :]).all()
    long = causal_sigma(mid, valid, SigmaSpec(hours=(4.0,), span_s=60.0), cadence_ns=MINUTE)
    np.testing.assert_allclose(sigma[520:570], long[520:570], rtol=1e-12)  # the half hour is not half known
    assert (np.abs(sigma[600:] / long[600:] - 1) > 1e-3).any()


@given(st.integers(0, 2**32 - 1), st.integers(0, 50), st.integers(1, 60), st.floats(0.8, 1.0))
def test_window_sum_is_the_sum(seed: int, n: int, width: int, decay: float) -> None:
    values = np.random.default_rng(seed).random(n)
    expected = [sum(decay**k * values[t - k] for k in range(min(width, t + 1))) for t in range(n)]
    np.testing.assert_allclose(window_sum(values, width, decay), expected, rtol=1e-10)


@pytest.mark.parametrize("method", ["absolute", "ewma"])
def test_a_window_of_years_takes_no_more_memory_than_the_data(method: Any) -> None:
    """10 years of seconds would be gigabytes."""
    mid, valid = walk(500), np.ones(500, bool)
    long = SigmaSpec(method=method, hours=(87_600.0,), span_s=1.0)
    tracemalloc.start()
    sigma = causal_sigma(mid, valid, long, cadence_ns=NS_PER_S)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    assert np.isfinite(sigma[int(MIN_RETURNS) + 1 :]).all()


def test_steps_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="steps"):
        causal_sigma(walk(5), np.ones(5, bool), DEFAULT, cadence_ns=MINUTE, steps=0)


def test_specs_are_read() -> None:
    assert sigma_spec() == sigma_spec({"method": "absolute"}) == DEFAULT
    assert sigma_spec({"windows_h": [2, 12], "span_s": 60}) == SigmaSpec(hours=(2.0, 12.0), span_s=60.0)
    assert sigma_spec({"method": "ewma"}) == ewma(24.0)
    assert sigma_spec({"method": "ewma", "half_lives_h": [3, 24]}) == ewma(3.0, 24.0)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"method": "garch"}, "there are: absolute, ewma"),
        ({"window_h": [1]}, "did you mean 'windows_h'"),
        ({"half_lives_h": [1]}, "unknown key for method 'absolute'"),
        ({"windows_h": []}, "list of hours"),
        ({"windows_h": 24}, "list of hours"),
        ({"windows_h": [24, 0]}, "above 0, up to 87600, got 0"),
        ({"span_s": True}, "above 0, up to 315360000, got True"),
        ({"span_s": math.nan}, "above 0, up to 315360000, got nan"),
        ({"span_s": 1e300}, "up to 315360000, got 1e"),
        ({"windows_h": [1, 1e9]}, "windows_h: expected a number above 0, up to 87600"),
    ],
)
def test_bad_specs_are_refused(params: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sigma_spec(params)


@pytest.mark.parametrize("method", ["fixed", "quantile", "volatility_scaled", "triple_barrier"])
def test_every_class_scheme_takes_a_sigma(method: str) -> None:
    assert class_scheme({"method": method}).sigma == DEFAULT
    assert class_scheme({"method": method, "sigma_half_life_h": 24}).sigma == ewma(24.0)
    given = {"method": "ewma", "half_lives_h": [3, 24]}
    assert class_scheme({"method": method, "sigma": given, "allow_dead": True}).sigma == ewma(3.0, 24.0)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"sigma": {"method": "ewma"}, "sigma_half_life_h": 3}, "one of sigma and sigma_half_life_h"),
        ({"sigma": 24}, "classes.sigma: expected a mapping"),
        ({"sigma": {"span": 60}}, "did you mean 'span_s'"),
        ({"allow_dead": 1}, "classes.allow_dead: expected true or false"),
    ],
)
def test_bad_sigmas_of_classes_are_refused(params: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        class_scheme(params)
