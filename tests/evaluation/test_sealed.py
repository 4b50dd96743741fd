"""While the test block is sealed, a report is made of the calibrate block alone; nothing of the test rows matters."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bml.dataset import describe
from bml.dataset.dataset import Dataset
from bml.dataset.splits import halves
from bml.dataset.weights import uniqueness
from bml.evaluation import calibration, oracle
from bml.evaluation.report import Report, evaluate
from bml.openings import Opening
from bml.training import predict
from bml.training.fit import train
from bml.types import DataError, Fold, GateError
from tests.training.small_market import build

PARAMS = {"stem": 4, "channels": 4, "hidden": 4, "recent": 4, "long_channels": 4, "head": 8}

pytestmark = pytest.mark.usefixtures("two_threads")


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return build(tmp_path_factory.mktemp("market"), days=6, horizon_s=15 * 120)


@pytest.fixture(scope="module")
def best(market: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    options: dict[str, Any] = {"epochs": 1, "batch_size": 32, "progress": False, "device": "cpu"}
    return train(market, out=tmp_path_factory.mktemp("model"), params=PARAMS, **options).checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def report(market: Dataset, best: Path, folder: Path) -> Report:
    return evaluate(market, best, out=folder, device="cpu", draws=100)


def parts(market: Dataset) -> tuple[np.ndarray, np.ndarray]:
    fold = market.fold
    return halves(market.index, fold.calibrate, fold.bounds_ns[2])


def same(market: Dataset, **changes: Any) -> Dataset:
    """The dataset with changes that its checkpoint shall not notice."""
    other = replace(market, **changes)
    other.__dict__["digest"] = market.digest
    return other


def scrambled(values_N: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A copy with the values of ``rows`` in another order."""
    out_N = values_N.copy()
    out_N[rows] = values_N[rng.permutation(rows)]
    return out_N


def test_the_second_half_of_calibrate_is_scored_and_the_title_says_so(
    market: Dataset, report: Report, folder: Path
) -> None:
    held, rows = parts(market)
    with np.load(folder / "forecast.npz", allow_pickle=False) as forecast:
        assert forecast["row_N"].tolist() == rows.tolist()
    assert set(rows).isdisjoint(market.fold.test)
    assert report.block == "development"
    assert report.n == rows.shape[0]
    assert report.n_eff == pytest.approx(uniqueness(market.index, rows).sum())
    assert report.temperature is not None
    assert report.temperature["n"] == held.shape[0]
    title = report.table().splitlines()[0]
    for word in ("development block", "second half of calibrate", "the test block is sealed, --open-test opens it"):
        assert word in title
        assert word in (folder / "report.md").read_text()
    assert json.loads((folder / "report.json").read_text())["opening"] is None


def test_the_two_halves_share_no_moment_of_a_label(market: Dataset) -> None:
    (held, rows), index, calibrate = parts(market), market.index, market.fold.calibrate
    assert index.label_stop_ns_N[held].max() <= index.anchor_ns_N[rows].min()
    middle = sum(market.fold.bounds_ns[2]) // 2
    straddling = (index.anchor_ns_N[calibrate] < middle) & (index.label_stop_ns_N[calibrate] > middle)
    assert np.setdiff1d(calibrate, np.concatenate([held, rows])).tolist() == calibrate[straddling].tolist()
    assert straddling.any()


def test_no_byte_of_a_sealed_report_depends_on_the_test_rows(
    market: Dataset, best: Path, folder: Path, report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other labels, returns, volatilities, edges and last labels of every test row; none of them is even forecast."""
    rng, rows, index = np.random.default_rng(1), market.fold.test, market.index
    other = same(market, index=replace(index, **{
        name: scrambled(getattr(index, name), rows, rng) for name in ("y_N", "return_N", "sigma_N", "edges_NE")
    }), last_y_N=scrambled(market.last_y_N, rows, rng), vol_N=scrambled(market.vol_N, rows, rng))  # fmt: skip
    assert (other.index.y_N[rows] != index.y_N[rows]).any()
    asked: list[np.ndarray] = []
    real = predict.logits

    def logits(net: Any, dataset: Dataset, rows: np.ndarray, **options: Any) -> Any:
        asked.append(rows)
        return real(net, dataset, rows, **options)

    monkeypatch.setattr(predict, "logits", logits)
    evaluate(other, best, out=tmp_path, device="cpu", draws=100)
    assert set(np.concatenate(asked)).isdisjoint(rows)
    for file in folder.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name


def test_the_truth_follows_the_scored_rows(
    market: Dataset, best: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[np.ndarray] = []

    def know(path: Path, symbol: str, ts_ns_N: np.ndarray, steps: int, edges_NE: np.ndarray) -> np.ndarray:
        asked.append(ts_ns_N)
        return np.full((ts_ns_N.shape[0], 4), 0.25)

    monkeypatch.setattr(oracle, "class_probabilities", know)
    evaluate(market, best, out=tmp_path, truth=tmp_path / "truth.h5", device="cpu", draws=100)
    assert sorted(np.concatenate(asked)) == sorted(market.index.anchor_ns_N[parts(market)[1]])


def test_a_summary_tells_no_share_of_a_test_label(market: Dataset) -> None:
    """Counts are told, for all blocks; what the labels are is not."""
    told, rows = market.summary(), market.fold.test
    y_N = market.index.y_N.copy()
    y_N[rows] = 0
    other = same(market, index=replace(market.index, y_N=y_N)).summary()
    assert other == told
    assert describe.table(other) == describe.table(told)
    assert set(told["class_shares"]) == set(told["n_eff_by_class"]) == {"train", "early_stop", "calibrate"}
    assert told["rows"]["test"] == rows.shape[0]
    assert "sealed" in describe.table(told)


def test_an_opened_report_says_how_often(market: Dataset, best: Path, tmp_path: Path) -> None:
    opening = Opening(
        number=3, number_of_days=5, at="2024-02-01T00:00:00Z", dataset="d", config="c", model="m", bounds_ns=(0, 1)
    )
    told = evaluate(market, best, out=tmp_path, open_test=True, opening=opening, device="cpu", draws=100)
    assert told.table().startswith("test block 2024-01-")
    words = "The test block was opened for the 3rd time (its days for the 5th, with other datasets)."
    assert words in told.table()
    assert words in (tmp_path / "report.md").read_text()
    assert json.loads((tmp_path / "report.json").read_text())["opening"]["number"] == 3


@pytest.mark.parametrize("open_test", [False, True])
@pytest.mark.parametrize("other", ["early_stop", "train"])
def test_calibration_shares_no_label_with_what_was_learnt(
    market: Dataset, best: Path, tmp_path: Path, open_test: bool, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither rows nor parts of labels; it is found before anything is fitted."""
    fitted: list[int] = []
    monkeypatch.setattr(calibration, "fit_temperature", lambda *given: fitted.append(1))
    fold, index = market.fold, market.index
    shared = replace(fold, calibrate=np.concatenate([getattr(fold, other)[-3:], fold.calibrate]))
    stop_ns_N = index.label_stop_ns_N.copy()
    stop_ns_N[getattr(fold, other)[-1]] = index.anchor_ns_N[fold.calibrate[0]] + 1  # 1 ns of the first label
    longer = replace(index, label_stop_ns_N=stop_ns_N)
    word = {"early_stop": "early stopping", "train": "training"}[other]
    for changes in ({"fold": shared}, {"index": longer}):
        with pytest.raises(DataError, match=f"rows of calibration and {word}: .* labels that overlap"):
            evaluate(same(market, **changes), best, out=tmp_path, open_test=open_test, device="cpu")
    assert not fitted
    assert not list(tmp_path.iterdir())


def test_scored_rows_share_no_label_with_calibration(market: Dataset, best: Path, tmp_path: Path) -> None:
    fold: Fold = market.fold
    straddling = replace(fold, test=np.concatenate([fold.calibrate[-2:], fold.test]))
    with pytest.raises(DataError, match="rows that are scored and rows of calibration: 2 of"):
        evaluate(same(market, fold=straddling), best, out=tmp_path, open_test=True, device="cpu")


def test_a_calibrate_block_too_small_to_halve_is_told(market: Dataset, best: Path, tmp_path: Path) -> None:
    held, rows = parts(market)
    none = replace(market.fold, calibrate=held)
    with pytest.raises(DataError, match="the second half of the calibrate block has no samples"):
        evaluate(same(market, fold=none), best, out=tmp_path, device="cpu")
    few = replace(market.fold, calibrate=np.concatenate([held[:20], rows]))
    with pytest.raises(GateError, match=r"20 rows of the calibrate block to fit on \(of its first half"):
        evaluate(same(market, fold=few), best, out=tmp_path, device="cpu")
