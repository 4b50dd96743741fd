"""Regimes of completed days: thresholds by hand, a hidden Markov model against its library and a planted truth."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from dataset_market import Market
from hmmlearn.hmm import GaussianHMM

from bml.dataset import hmm
from bml.dataset.regime import (
    BEAR,
    BULL,
    HIGH_VOLATILITY,
    REGIMES,
    SIDEWAYS,
    RegimeSpec,
    coordinates,
    likeliest,
    regime_spec,
    regime_table,
)
from bml.dataset.series import Series
from bml.types import STATS, ConfigError, DailyMoments, DataError, Float64, GateError


def series_of(log_mid_DA: Float64, variance_DA: Float64) -> Series:
    """What the regimes read of a series: the means of two daily statistics; NaN in the first is a missing day."""
    names = ("log_mid", "squared_return_bps2")
    stats_DASV = np.full((*log_mid_DA.shape, len(STATS), 2), np.nan)
    stats_DASV[:, :, STATS.index("mean")] = np.stack([log_mid_DA, variance_DA], axis=2)
    moments = [
        [
            None if np.isnan(log_mid_DA[d, a]) else SimpleNamespace(names_V=names, stats_SV=stats_DASV[d, a])
            for d in range(log_mid_DA.shape[0])
        ]
        for a in range(log_mid_DA.shape[1])
    ]
    grid = SimpleNamespace(n_days=log_mid_DA.shape[0])
    symbols = tuple("ABC"[: log_mid_DA.shape[1]])
    return SimpleNamespace(grid=grid, symbols=symbols, moments_AD=moments)  # type: ignore[return-value]


def planted(days: int, seed: int = 0, n_assets: int = 3) -> tuple[Float64, Float64, np.ndarray]:
    """Coordinates (D, A) each, drawn from four states that stay for weeks, and the states."""
    rng = np.random.default_rng(seed)
    truth_DA = np.empty((days, n_assets), dtype=int)
    truth_DA[0] = rng.integers(0, 4, n_assets)
    for d in range(1, days):
        truth_DA[d] = np.where(rng.random(n_assets) < 0.05, rng.integers(0, 4, n_assets), truth_DA[d - 1])
    mean_RX = np.array([[1.5, 3.0], [-1.5, 3.0], [0.0, 2.6], [0.0, 4.2]])
    observed_DAX = mean_RX[truth_DA] + rng.normal(0, [0.4, 0.2], (days, n_assets, 2))
    return observed_DAX[..., 0], observed_DAX[..., 1], truth_DA


def test_thresholds_name_what_they_should() -> None:
    days, rng = 80, np.random.default_rng(0)
    up, zigzag = 0.01 * np.arange(days), 0.01 * (np.arange(days) % 2)
    log_mid_DA = np.column_stack([up, -up, zigzag])
    variance_DA = np.tile(np.exp(rng.normal(0, 0.01, days)), (3, 1)).T
    spec = RegimeSpec(trend_days=5, volatility_days=2, memory_days=30)

    def regimes() -> np.ndarray:
        proba_DAR, fitted = regime_table(series_of(log_mid_DA, variance_DA), spec, 40)
        assert fitted == {}
        return likeliest(proba_DAR.reshape(-1, 4)).reshape(days, 3)

    quiet_DA = regimes()
    variance_DA[60:64] *= 9.0
    regime_DA = regimes()
    assert (regime_DA[:15] == -1).all()  # half of two days are known on day 1, and 14 before to rank it among on day 15
    calm = np.flatnonzero((regime_DA[:61] != HIGH_VOLATILITY).all(axis=1) & (np.arange(61) >= 15))
    assert len(calm) > 20
    assert (regime_DA[calm] == [BULL, BEAR, SIDEWAYS]).all()
    assert (regime_DA[61:66] == HIGH_VOLATILITY).all()
    assert (regime_DA[:61] == quiet_DA[:61]).all()  # day 60 is not over when it begins


def test_the_trend_is_the_way_gone_over_the_way_walked() -> None:
    rng = np.random.default_rng(1)
    log_mid_DA, variance_DA = np.cumsum(rng.normal(0, 0.02, (60, 2)), axis=0), rng.exponential(4.0, (60, 2))
    log_mid_DA[30, 0] = np.nan
    spec = RegimeSpec(trend_days=10, volatility_days=3)
    trend_DA, log_vol_DA = coordinates(series_of(log_mid_DA, variance_DA), spec)
    for d in range(11, 60):
        steps = np.diff(log_mid_DA[d - 11 : d, 1])
        assert trend_DA[d, 1] == pytest.approx(steps.sum() / np.sqrt((steps**2).sum()))
        assert log_vol_DA[d, 1] == pytest.approx(0.5 * np.log(variance_DA[d - 3 : d, 1]).mean())
    assert np.isnan(trend_DA[:11]).all()
    assert np.flatnonzero(np.isnan(trend_DA[11:, 0])).tolist() == [31 - 11, 41 - 11]  # an end of the way is unknown
    assert np.nanmax(np.abs(trend_DA)) <= np.sqrt(10)


@pytest.mark.parametrize(
    "spec",
    [
        RegimeSpec(trend_days=5, volatility_days=3, memory_days=20),
        RegimeSpec(trend_days=25, volatility_days=1, memory_days=10),
        RegimeSpec(method="hmm", trend_days=5, volatility_days=3, memory_days=20),
        RegimeSpec(method="hmm", trend_days=2, volatility_days=7, memory_days=12),
    ],
)
def test_a_regime_reads_its_look_back_and_no_more(spec: RegimeSpec) -> None:
    """Nothing of the day itself or after, nothing before; the oldest day of the look-back does count."""
    rng = np.random.default_rng(2)
    log_mid_DA, variance_DA = np.cumsum(rng.normal(0, 0.02, (90, 3)), axis=0), rng.exponential(4.0, (90, 3))
    series = series_of(log_mid_DA, variance_DA)
    trend_DA, log_vol_DA = coordinates(series, spec)
    model = hmm.fit(trend_DA, log_vol_DA, 60) if spec.method == "hmm" else {}

    def table(log_mid_DA: Float64, variance_DA: Float64) -> Float64:
        changed = series_of(log_mid_DA, variance_DA)
        if model:
            return hmm.filtered(*coordinates(changed, spec), model, spec.memory_days)
        return regime_table(changed, spec, 60)[0]

    original = table(log_mid_DA, variance_DA)
    for day in (60, 61, 75):
        assert np.isfinite(original[day]).all()
        inside = slice(day - spec.lookback_days, day)
        other_mid, other_variance = rng.normal(0, 9.0, (90, 3)), rng.exponential(99.0, (90, 3))
        other_mid[inside], other_variance[inside] = log_mid_DA[inside], variance_DA[inside]
        assert table(other_mid, other_variance)[day].tobytes() == original[day].tobytes()
    reached = False
    for day in range(50, 90):
        oldest = day - spec.lookback_days
        other_mid, other_variance = log_mid_DA.copy(), variance_DA.copy()
        other_mid[oldest] += 5.0
        other_variance[oldest] *= 1e-4
        reached |= table(other_mid, other_variance)[day].tobytes() != original[day].tobytes()
    assert reached


def test_the_hidden_states_are_found_and_named() -> None:
    trend_DA, log_vol_DA, truth_DA = planted(200, seed=2)
    model = hmm.fit(trend_DA, log_vol_DA, 120)
    assert model["training_days"] == 360
    found_DA = likeliest(hmm.filtered(trend_DA, log_vol_DA, model, 60).reshape(-1, 4)).reshape(truth_DA.shape)
    assert (found_DA[:13] == -1).all()
    assert (found_DA[13:] == truth_DA[13:]).mean() > 0.95
    assert np.linalg.norm(np.sum(model["transition_RR"], axis=1) - 1) < 1e-9


def test_the_fit_is_the_same_every_time_and_of_training_days_only() -> None:
    trend_DA, log_vol_DA, _ = planted(200)
    model = hmm.fit(trend_DA, log_vol_DA, 100)
    assert hmm.fit(trend_DA, log_vol_DA, 100) == model
    changed = [np.where(np.arange(200)[:, None] < 100, x_DA, -x_DA) for x_DA in (trend_DA, log_vol_DA)]
    assert hmm.fit(changed[0], changed[1], 100) == model
    assert hmm.fit(changed[0], changed[1], 101) != model


def test_filtered_is_what_the_library_says_of_the_last_day_it_is_shown() -> None:
    """Smoothing changes no last day, so the posterior of the newest day of a stretch is the filtered one."""
    trend_DA, log_vol_DA, _ = planted(80, n_assets=1)
    model = hmm.fit(trend_DA, log_vol_DA, 70)
    ours_DR = hmm.filtered(trend_DA, log_vol_DA, model, 30)[:, 0]
    transition_RR = np.array(model["transition_RR"])
    theirs = GaussianHMM(4, covariance_type="diag", init_params="")
    theirs.startprob_ = np.linalg.matrix_power(transition_RR, 1024)[0] @ transition_RR
    theirs.transmat_, theirs.means_ = transition_RR, np.array(model["mean_RX"])
    theirs.covars_ = np.array(model["variance_RX"])
    vol_D = (log_vol_DA[:, 0] - model["log_vol_mean_A"][0]) / model["log_vol_std_A"][0]
    observed_DX = np.column_stack([trend_DA[:, 0], vol_D])
    for day in (29, 50, 79):
        shown = observed_DX[day - 29 : day + 1]
        np.testing.assert_allclose(ours_DR[day], theirs.predict_proba(shown)[-1], atol=1e-9)


def test_unknown_days_say_nothing_and_are_unknown() -> None:
    trend_DA, log_vol_DA, truth_DA = planted(120)
    trend_DA[40:44, 0] = np.nan
    log_vol_DA[60, 0] = np.nan
    model = hmm.fit(trend_DA, log_vol_DA, 100)
    assert model["training_days"] == 295
    proba_DAR = hmm.filtered(trend_DA, log_vol_DA, model, 60)
    assert np.isnan(proba_DAR[[40, 41, 42, 43, 60], 0]).all()
    known = np.isfinite(proba_DAR).all(axis=2)
    assert known[13:].sum() == known[13:].size - 5
    np.testing.assert_allclose(proba_DAR[known].sum(axis=1), 1.0)
    assert (likeliest(proba_DAR[:, 0])[44:60] == truth_DA[44:60, 0]).mean() > 0.9


def test_too_few_days_and_a_missing_library_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    trend_DA, log_vol_DA, _ = planted(30, n_assets=1)
    with pytest.raises(GateError, match="needs 60 known training days over all symbols, there are 30"):
        hmm.fit(trend_DA, log_vol_DA, 30)
    monkeypatch.setitem(sys.modules, "hmmlearn.hmm", None)
    with pytest.raises(ConfigError, match=r"'hmm' needs hmmlearn; run pip install 'bml\[regime\]'"):
        hmm.fit(trend_DA, log_vol_DA, 30)


def test_days_without_the_statistics_are_refused() -> None:
    series = series_of(np.zeros((3, 1)), np.ones((3, 1)))
    bare: Any = SimpleNamespace(symbol="A", day="2024-01-02", names_V=("log_mid",), stats_SV=np.zeros((6, 1)))
    moments: list[list[DailyMoments | None]] = [[None, bare, None]]
    series = SimpleNamespace(grid=series.grid, symbols=series.symbols, moments_AD=moments)  # type: ignore[assignment]
    with pytest.raises(DataError, match=r"A 2024-01-02: context.regime needs the daily moments of squared_return_bps2"):
        coordinates(series, RegimeSpec())


def test_none_is_no_regime() -> None:
    assert regime_spec("none") is None
    assert regime_spec({"method": "none"}) is None
    assert regime_spec({}) == RegimeSpec()


def test_samples_have_the_regime_their_day_began_in(tmp_path: Path) -> None:
    regime = {"trend_days": 2, "volatility_days": 1, "memory_days": 3}
    dataset = Market(n_days=10).dataset(tmp_path, targets=["AAA", "CCC"], context={"regime": regime})
    assert dataset.regime_names == REGIMES
    day_N = dataset.row_N // 1440
    for day in range(10):
        for target in (0, 2):
            mine = (day_N == day) & (dataset.index.target_N == target)
            assert len(np.unique(dataset.regime_N[mine])) <= 1
            assert ((dataset.regime_N[mine] >= 0) == (day >= 4)).all()
    column = {name: dataset.x_time_NK[:, k] for k, name in enumerate(dataset.time_names)}
    for number, name in enumerate(REGIMES):
        if f"regime_{name}" not in dataset.calendar.held:
            assert ((column[f"regime_{name}"] == 1) == (dataset.regime_N == number)).all()
    assert len({name for name in column if name.startswith("regime_")} - dataset.calendar.held.keys()) >= 2
