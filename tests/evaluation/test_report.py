"""A whole evaluation on a small market: files, honesty about baselines, nothing of the test block in any fit."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bml.dataset.dataset import Dataset
from bml.dataset.labels import Outcomes
from bml.evaluation import metrics, oracle
from bml.evaluation import report as reports
from bml.evaluation.bootstrap import mean_interval
from bml.evaluation.report import Report, _has_law
from bml.evaluation.result import INTERVAL_NOTE, Score, verdicts
from bml.models.baselines import BASELINES as BASELINE_FAMILIES
from bml.training import checkpoint, predict
from bml.training.fit import train
from bml.training.losses import row_weights
from bml.types import NS_PER_S, DataError, GateError, StoreError
from tests.training.small_market import build

PARAMS = {"stem": 8, "channels": 8, "hidden": 8, "recent": 8, "long_channels": 4, "head": 16}
FILES = {"report.json", "report.md", "forecast.npz", "reliability.png", "confusion.png", "class_shares.png"}
#: what the open test block shows; while it is sealed: test_sealed.py
evaluate = functools.partial(reports.evaluate, open_test=True)
BASELINES = ("prior", "persistence", "volatility_only", "logistic", "logistic_book")

pytestmark = pytest.mark.usefixtures("two_threads")


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return build(tmp_path_factory.mktemp("market"), days=6)


@pytest.fixture(scope="module")
def best(market: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model")
    options: dict[str, Any] = {"epochs": 5, "batch_size": 32, "learning_rate": 3e-3, "progress": False}
    return train(market, out=out, params=PARAMS, device="cpu", **options).checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def report(market: Dataset, best: Path, folder: Path) -> Report:
    return evaluate(market, best, out=folder, device="cpu", draws=300)


def test_files_are_written_and_agree(market: Dataset, report: Report, folder: Path) -> None:
    assert {file.name for file in folder.iterdir()} == FILES | {"training.png"}
    document = json.loads((folder / "report.json").read_text())
    assert document["scores"]["model"]["nll"] == report.scores["model"].nll
    assert "| volatility_only |" in (folder / "report.md").read_text()
    with np.load(folder / "forecast.npz", allow_pickle=False) as forecast:
        np.testing.assert_array_equal(forecast["ts_ns_N"], market.index.anchor_ns_N[market.fold.test])
        assert set(forecast["symbol_N"]) == set(market.targets)
        for name, score in report.scores.items():
            assert metrics.nll(forecast[f"proba_{name}_NC"], forecast["y_N"]) == pytest.approx(score.nll)


def test_the_planted_signal_beats_every_baseline_of_the_clock(report: Report) -> None:
    assert list(report.scores) == ["model", "model_raw", *BASELINES]
    for name in ("prior", "volatility_only"):
        score = report.scores[name]
        assert score.skill is not None
        assert score.skill > 0.1
        assert score.skill == pytest.approx(1 - report.scores["model"].nll / score.nll)
        assert score.nll_diff_lo is not None
        assert score.nll_diff_hi is not None
        assert score.nll_diff_lo < report.scores["model"].nll - score.nll < score.nll_diff_hi < 0
    assert report.temperature is not None
    assert report.scores["model"].accuracy == report.scores["model_raw"].accuracy


def test_table_is_aligned_and_says_what_it_counts(market: Dataset, report: Report) -> None:
    lines = report.table().splitlines()
    assert f"n = {market.fold.test.shape[0]:,}, n_eff = {market.n_eff['test']:,.1f}" in lines[0]
    table = lines[1 : 2 + len(report.scores)]
    ends = [line.rindex(" ") for line in table]
    assert len(set(map(len, table))) == 1
    assert max(ends) - min(ends) <= len("class ECE")
    assert [line.split()[0] for line in table[1:]] == list(report.scores)


def test_intervals_are_those_of_blocks_of_whole_labels(market: Dataset, report: Report, folder: Path) -> None:
    rows, horizon_s = market.fold.test, 5 * 120
    label_ns = market.index.label_stop_ns_N[rows] - market.index.anchor_ns_N[rows]
    assert set(label_ns) == {horizon_s * NS_PER_S}
    assert report.bootstrap_block_s >= horizon_s
    assert report.bootstrap_block_s % horizon_s == 0
    with np.load(folder / "forecast.npz", allow_pickle=False) as forecast:
        score_N = [metrics.nll_N(forecast[f"proba_{name}_NC"], forecast["y_N"]) for name in ("model", "prior")]
        expected = mean_interval(score_N[0] - score_N[1], forecast["ts_ns_N"], horizon_s * NS_PER_S, draws=300, seed=7)
    got = report.scores["prior"]
    assert (got.nll_diff, got.nll_diff_lo, got.nll_diff_hi) == (expected.mean, expected.lo, expected.hi)
    assert report.bootstrap_blocks == expected.blocks


def test_what_intervals_leave_out_is_said_once(report: Report, folder: Path) -> None:
    assert report.table().count(INTERVAL_NOTE) == 1
    assert (folder / "report.md").read_text().count(INTERVAL_NOTE) == 1


def test_a_test_block_of_few_labels_has_no_intervals(market: Dataset, best: Path, tmp_path: Path) -> None:
    anchor_ns_N = market.index.anchor_ns_N[market.fold.test]
    early = market.fold.test[anchor_ns_N < anchor_ns_N[0] + 19 * 5 * 120 * NS_PER_S]
    few = replace(market, fold=replace(market.fold, test=early))
    few.__dict__["digest"] = market.digest
    told = evaluate(few, best, out=tmp_path, device="cpu", draws=300)
    assert 15 <= told.bootstrap_blocks < 20
    assert all(score.nll_diff_lo is None and score.nll_diff_hi is None for score in told.scores.values())
    assert f"holds {told.bootstrap_blocks} blocks of one label's length, intervals need at least 20" in told.table()
    assert "beats every baseline" not in told.table()


def test_effective_number_is_that_of_labels_not_of_rows(market: Dataset, best: Path, tmp_path: Path) -> None:
    rows, stop_ns_N = market.fold.test, market.index.label_stop_ns_N.copy()
    stop_ns_N[rows] += 3 * 5 * 120 * NS_PER_S  # four labels alive at a time
    overlapping = replace(market, index=replace(market.index, label_stop_ns_N=stop_ns_N))
    overlapping.__dict__["digest"] = market.digest
    told = evaluate(overlapping, best, out=tmp_path, device="cpu", draws=100)
    assert told.n == rows.shape[0]
    assert told.n_eff == pytest.approx(told.n / 4, rel=0.05)
    assert f"n_eff = {told.n_eff:,.1f}" in told.table()


def test_baselines_are_fitted_with_the_weights_of_the_training(market: Dataset, report: Report, tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 1, "max_batches": 2, "batch_size": 32, "progress": False, "device": "cpu"}
    aged = train(market, out=tmp_path / "model", params=PARAMS, half_life_days=0.2, **options)
    evaluate(market, aged.checkpoint, out=tmp_path / "report", device="cpu", draws=100)
    train_rows, test_rows = market.fold.train, market.fold.test
    w_N = row_weights(market, train_rows, 0.2)
    assert w_N.std() > 0.5
    with np.load(tmp_path / "report" / "forecast.npz", allow_pickle=False) as forecast:
        for name, family in BASELINE_FAMILIES.items():
            weighted_NC = family.fit(market, train_rows, w_N).proba(market, test_rows)
            plain_NC = family.fit(market, train_rows, np.ones_like(w_N)).proba(market, test_rows)
            np.testing.assert_allclose(forecast[f"proba_{name}_NC"], weighted_NC, err_msg=name)
            assert np.abs(weighted_NC - plain_NC).max() > 1e-4, name


def test_batches_are_as_large_as_in_training(
    market: Dataset, best: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = predict.logits

    def logits(*args: Any, batch_size: int, **options: Any) -> Any:
        asked.append(batch_size)
        return real(*args, batch_size=batch_size, **options)

    monkeypatch.setattr(predict, "logits", logits)
    evaluate(market, best, out=tmp_path, device="cpu", draws=100)
    assert asked == [32, 32]
    evaluate(market, best, out=tmp_path, device="cpu", draws=100, batch_size=50)
    assert asked[2:] == [50, 50]


def test_a_checkpoint_of_other_bytes_is_refused(market: Dataset, best: Path, tmp_path: Path) -> None:
    recorded = hashlib.sha256(best.read_bytes()).hexdigest()
    evaluate(market, best, out=tmp_path / "out", device="cpu", draws=100, sha256=recorded)
    net, about = checkpoint.load(best)
    other = checkpoint.save(tmp_path / "best.safetensors", net, replace(about, epoch=about.epoch + 1))
    with pytest.raises(StoreError, match=r"not the file the recorded training left.*train again") as told:
        evaluate(market, other, out=tmp_path / "out", device="cpu", sha256=recorded)
    assert "\n" not in str(told.value)
    with pytest.raises(StoreError, match="cannot be read"):
        evaluate(market, tmp_path / "none.safetensors", out=tmp_path / "out", sha256=recorded)


def test_scalars_are_flat_numbers(report: Report) -> None:
    scalars = report.scalars()
    assert scalars["volatility_only.skill"] == report.scores["volatility_only"].skill
    assert scalars["n_eff"] == report.n_eff
    assert all(isinstance(value, float) and np.isfinite(value) for value in scalars.values())


def test_equal_inputs_give_equal_files(
    market: Dataset, best: Path, folder: Path, report: Report, tmp_path: Path
) -> None:
    evaluate(market, best, out=tmp_path, device="cpu", draws=300)
    for file in folder.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name


def test_temperature_is_fitted_without_the_test_block(
    market: Dataset, best: Path, report: Report, tmp_path: Path
) -> None:
    saved = market.index.y_N.copy()
    market.index.y_N[market.fold.test] = (saved[market.fold.test] + 1) % len(market.class_names)
    try:
        other = evaluate(market, best, out=tmp_path, device="cpu", draws=50)
    finally:
        market.index.y_N[:] = saved
    assert other.temperature == report.temperature
    assert other.scores["model"].nll > report.scores["model"].nll
    assert "does not beat" in other.table()


def test_truth_gives_the_share_of_the_gap(
    market: Dataset, best: Path, report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, np.ndarray] = {}

    def know(path: Path, symbol: str, ts_ns_N: np.ndarray, steps: int, edges_NE: np.ndarray) -> np.ndarray:
        assert steps == market.horizon_rows
        asked[symbol] = ts_ns_N
        mine = market.index.target_N[market.fold.test] == market.symbols.index(symbol)
        return np.eye(4)[market.index.y_N[market.fold.test][mine]] * 0.6 + 0.1

    monkeypatch.setattr(oracle, "class_probabilities", know)
    known = evaluate(market, best, out=tmp_path, truth=tmp_path / "truth.h5", device="cpu", draws=50)
    assert set(asked) == set(market.targets)
    nll = {name: score.nll for name, score in known.scores.items()}
    assert nll["bayes"] == pytest.approx(-np.log(0.7))
    assert known.gap_closed == pytest.approx((nll["prior"] - nll["model"]) / (nll["prior"] - nll["bayes"]))
    assert "% of the gap" in known.table()
    drawn = ("nll_diff_lo", "nll_diff_hi", "overconfidence_lo", "overconfidence_hi")  # with other draws
    again = {name: getattr(known.scores["volatility_only"], name) for name in drawn}
    assert known.scores["volatility_only"] == replace(report.scores["volatility_only"], **again)


def test_the_truth_is_not_asked_for_labels_without_a_law(market: Dataset) -> None:
    assert _has_law(market)
    assert not _has_law(replace(market, labelling=({"smooth_s": 600.0, "classes": {"zero": "above"}},)))
    assert not _has_law(replace(market, labelling=({"smooth_s": 0.0, "classes": {"zero": "own"}},)))
    touched = Outcomes(touch_ns_N=market.index.label_stop_ns_N, run_up_N=market.vol_N, draw_down_N=market.vol_N)
    assert not _has_law(replace(market, outcomes=touched))


def test_without_calibration_the_model_is_the_raw_one(
    market: Dataset, best: Path, report: Report, tmp_path: Path
) -> None:
    alone = best.with_name("best.safetensors").rename(tmp_path / "moved.safetensors")
    try:
        raw = evaluate(
            market, alone, out=tmp_path / "out", calibration="none", device="cpu", min_support=10**6, draws=50
        )
    finally:
        alone.rename(best)
    assert raw.temperature is None
    assert raw.scores["model"].nll == report.scores["model_raw"].nll
    assert "model_raw" not in raw.scores
    assert {file.name for file in (tmp_path / "out").iterdir()} == FILES  # no history beside it: no training curve
    assert len([line for line in raw.warnings if "its scores are noise" in line]) == len(market.class_names)


def test_noise_is_called_noise(tmp_path: Path) -> None:
    noise = build(tmp_path / "market", days=6, signal=0.0)
    model = train(noise, out=tmp_path / "model", params=PARAMS, epochs=2, max_batches=8, progress=False, device="cpu")
    told = evaluate(noise, model.checkpoint, out=tmp_path / "report", device="cpu", draws=300).table()
    assert "does not beat" in told or "not beyond chance" in told
    assert "beats every baseline" not in told


def test_what_cannot_be_evaluated_is_told(market: Dataset, best: Path, tmp_path: Path) -> None:
    none = np.array([], dtype=np.int64)
    no_test = replace(market, fold=replace(market.fold, test=none))
    few = replace(market, fold=replace(market.fold, calibrate=market.fold.calibrate[:20]))
    for dataset in (no_test, few):
        dataset.__dict__["digest"] = market.digest
    with pytest.raises(DataError, match="test block has no samples"):
        evaluate(no_test, best, out=tmp_path)
    with pytest.raises(GateError, match="20 rows of the calibrate block"):
        evaluate(few, best, out=tmp_path, device="cpu")
    other = replace(market, last_y_N=market.last_y_N + 1)
    with pytest.raises(StoreError, match="trained on dataset"):
        evaluate(other, best, out=tmp_path)


def test_verdicts_in_plain_words() -> None:
    def score(nll: float, **more: float) -> Score:
        return Score(nll=nll, rps=0, brier=0, accuracy=0, weighted_f1=0, ece=0, classwise_ece=0, **more)

    scores = {
        "model": score(1.5),
        "worse": score(1.6, nll_diff=-0.1, nll_diff_lo=-0.15, nll_diff_hi=-0.05),
        "unclear": score(1.52, nll_diff=-0.02, nll_diff_lo=-0.05, nll_diff_hi=0.01),
        "better": score(1.4, nll_diff=0.1, nll_diff_lo=0.05, nll_diff_hi=0.15),
        "short": score(1.6, nll_diff=-0.1),
    }
    assert verdicts(scores, ("worse",), None) == ("The model beats every baseline (worse); every interval excludes 0.",)
    unclear, better, short = verdicts(scores, ("worse", "unclear", "better", "short"), None)
    assert unclear.startswith("The model is ahead of unclear, but not beyond chance: NLL 1.5000 against 1.5200")
    assert better.startswith("The model does not beat better: NLL 1.5000 against 1.4000, difference +0.1000")
    assert "no interval: the scored block is too short" in short
