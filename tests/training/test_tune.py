"""The search: two tiny trials, resumed; what it refuses."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from bml.dataset.dataset import Dataset
from bml.dataset.folds import window_fold, window_spec, windows
from bml.training.tune import TuneResult, tune
from bml.types import ConfigError
from tests.training.small_market import build

PARAMS = {"stem": 4, "channels": 4, "recent": 4, "long_channels": 4, "head": 4}
SPACE = {"learning_rate": [1.0e-3, 1.0e-2, "log"], "params.hidden": [2, 6], "params.block": [2, 4, 8]}

pytestmark = pytest.mark.usefixtures("two_threads")


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return build(tmp_path_factory.mktemp("market"), days=6)


def tiny(dataset: Dataset | list[Dataset], storage: Path, **options: Any) -> TuneResult:
    given: dict[str, Any] = {"n_trials": 2, "epochs": 1, "search_space": SPACE, "params": PARAMS}
    return tune(dataset, storage=storage, max_batches=2, batch_size=32, progress=False, **{**given, **options})


def test_resumes_with_what_is_left_of_the_budget(market: Dataset, tmp_path: Path) -> None:
    first = tiny(market, tmp_path)
    assert first.states == {"complete": 2}
    assert set(first.arguments) == {"learning_rate"}
    assert set(first.params) == {"hidden", "block"}
    assert tiny(market, tmp_path) == first  # nothing left to do
    journal = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.journal"))
    )
    study = optuna.load_study(study_name="tune", storage=journal)
    study.ask()  # a trial whose process was killed
    more = tiny(market, tmp_path, n_trials=3)
    assert more.states == {"complete": 3, "fail": 1}
    values = [trial.params["learning_rate"] for trial in study.get_trials(states=(TrialState.COMPLETE,))]
    assert len(set(values)) == 3
    assert more.best_value == min(t.value for t in study.get_trials(states=(TrialState.COMPLETE,)) if t.value)


def test_a_storage_belongs_to_one_search(market: Dataset, tmp_path: Path) -> None:
    first = tiny(market, tmp_path, n_trials=1)
    assert tiny(market, tmp_path, n_trials=1, seed=8) == first  # not what decides the values' meaning
    other = replace(market, last_y_N=market.last_y_N + 1)
    for dataset, options, told in (
        (other, {}, "another dataset"),
        (market, {"params": PARAMS | {"head": 5}}, "another model, other params"),
        (market, {"search_space": SPACE | {"weight_decay": [0.1, 0.2]}}, "search space"),
        (market, {"metric": "train_loss"}, "search space"),
        (market, {"clip": 2.0}, "arguments"),
    ):
        with pytest.raises(ConfigError, match=rf"{tmp_path} holds a search of .*{told}"):
            tiny(dataset, tmp_path, n_trials=2, **options)
    assert len(list((tmp_path / "trials").iterdir())) == 1


def test_windows_count_alike(market: Dataset, tmp_path: Path) -> None:
    """The value of a trial is the mean over its windows, each trained on for itself; they are one search."""
    first, *more = windows(
        market.grid.first,
        market.grid.first + dt.timedelta(days=market.grid.n_days),
        window_spec({"kind": "expanding", "n": 2, "train_days": 1, "step_days": 1}),
        {"fractions": {"train": 0.5, "early_stop": 0.2, "calibrate": 0.15, "test": 0.15}},
    )
    parts = [
        replace(market, fold=window_fold(market.index, window), notes=(str(window.stop),)) for window in (first, *more)
    ]
    both = tiny(parts, tmp_path / "both", n_trials=1)
    alone = [tiny(part, tmp_path / f"alone-{number}", n_trials=1) for number, part in enumerate(parts)]
    assert [one.params for one in alone] == [both.params] * 2
    assert both.best_value == pytest.approx(sum(one.best_value for one in alone) / 2)
    assert alone[0].best_value != alone[1].best_value
    assert sorted(f.name for f in (tmp_path / "both" / "trials" / "0000").iterdir()) == ["window-0", "window-1"]
    with pytest.raises(ConfigError, match="another dataset"):
        tiny(parts[::-1], tmp_path / "both")
    with pytest.raises(ConfigError, match="no dataset to train on"):
        tiny([], tmp_path / "none")


def test_a_diverging_trial_fails_and_the_study_goes_on(market: Dataset, tmp_path: Path) -> None:
    space = {"learning_rate": [1.0e-3, 1.0e29, 1.0e30]}  # three choices are no range
    with pytest.raises(ConfigError, match="none of 1 trials"):
        tiny(market, tmp_path / "a", n_trials=1, search_space={"learning_rate": [1e30]}, clip=1e30)
    result = tiny(market, tmp_path / "b", n_trials=4, search_space=space, clip=1e30)
    assert result.arguments["learning_rate"] == 1.0e-3
    assert result.states["fail"] >= 1
    assert sum(result.states.values()) == 4


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"metric": "accuracy"}, "metric 'accuracy' is not known"),
        ({"n_trials": 0}, "n_trials is 0"),
        ({"search_space": {"epochs": [1, 2]}}, "'epochs' cannot be tuned"),
        ({"search_space": {"learning_rate": [0.1, 0.01]}}, "low < high"),
        ({"search_space": {"learning_rate": [0.0, 0.01, "log"]}}, "low > 0 for log"),
        ({"search_space": {"learning_rate": ["1e-4", "1e-2", "log"]}}, "'1e-4' is text"),
        ({"search_space": {"learning_rate": []}}, "expected"),
        ({"search_space": None, "model": "models.cnn_lstm.nothing"}, "no model called"),
    ],
)
def test_what_cannot_be_searched_is_told(market: Dataset, tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        tiny(market, tmp_path, **options)
    assert not (tmp_path / "trials").exists()
