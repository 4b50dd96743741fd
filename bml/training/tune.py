"""Search of hyper-parameters: a resumable Optuna study over :func:`bml.training.fit.train`."""

from __future__ import annotations

import math
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bml import registry
from bml.config.digest import digest
from bml.training.fit import train
from bml.training.predict import DivergedError
from bml.training.space import Space, check, split, suggest
from bml.types import ConfigError

if TYPE_CHECKING:
    from optuna import Study, Trial

    from bml.dataset.dataset import Dataset

_METRICS = ("val_nll", "train_loss")


@dataclass(frozen=True, kw_only=True, slots=True)
class TuneResult:
    """``arguments`` and ``params`` go to ``train`` as they are; ``states`` counts trials by how they ended."""

    best_value: float
    best_trial: int
    arguments: dict[str, Any]
    params: dict[str, Any]
    states: dict[str, int]


def tune(
    dataset: Dataset | Sequence[Dataset],
    *,
    storage: Path,
    n_trials: int = 30,
    metric: str = "val_nll",
    search_space: Space | None = None,
    epochs: int = 10,
    seed: int = 7,
    timeout_s: float | None = None,
    model: str = "models.cnn_lstm.cnn_lstm",
    params: dict[str, Any] | None = None,
    **fixed: Any,
) -> TuneResult:
    """Minimise the best epoch's ``metric`` over ``n_trials`` trials in all, those of earlier calls included.

    Of several datasets, one a window of time (see :mod:`bml.dataset.folds`), a trial trains on each in turn and its
    value is the mean. No test block is looked at.
    TPE sampler, median pruning after five trials and two epochs. ``storage`` is a folder (journal, one folder a
    trial) for one process at a time; calling again goes on where it stopped, and a killed trial does not count. It
    belongs to one dataset and one question (model, params, space, metric, arguments of ``train``): another is refused.
    One that diverges has failed, the study goes on. ``search_space`` defaults to the model's own; ``params`` and
    ``fixed`` (arguments of ``train``) hold in every trial. Raises ConfigError on a bad space or metric, a storage of
    another search, or if no trial succeeds.
    """
    if metric not in _METRICS:
        raise ConfigError(f"tune: metric {metric!r} is not known; there are: {', '.join(_METRICS)}")
    if n_trials < 1:
        raise ConfigError(f"tune: n_trials is {n_trials}, it must be at least 1")
    space = search_space if search_space is not None else _default_space(model)
    check(space)
    lasting = {name: value for name, value in fixed.items() if name not in ("device", "progress")}
    question = {"model": model, "params": params or {}, "space": space, "metric": metric, "epochs": epochs, **lasting}
    windows = list(dataset) if isinstance(dataset, Sequence) else [dataset]
    if not windows:
        raise ConfigError("tune: no dataset to train on: give one, or one a window")
    study = _study(storage, seed)
    _claim(study, storage, {"dataset": _digest(windows), "search": digest(question)})

    def objective(trial: Trial) -> float:
        from optuna import TrialPruned

        chosen = {name: suggest(trial, name, options) for name, options in space.items()}
        arguments, own = split(chosen)
        best = [math.inf] * len(windows)
        told = {"seed": seed, "epochs": epochs, "progress": sys.stderr.isatty(), **fixed, **arguments}
        told |= {"model": model, "params": {**(params or {}), **own}}
        for number, window in enumerate(windows):

            def on_epoch(metrics: dict[str, float], epoch: int, number: int = number) -> None:
                best[number] = min(best[number], metrics[metric])
                trial.report(statistics.fmean([*best[:number], metrics[metric]]), number * epochs + epoch)
                if trial.should_prune():
                    raise TrialPruned

            try:
                train(window, out=_folder(storage, trial, number, len(windows)), on_epoch=on_epoch, **told)
            except DivergedError as error:
                trial.set_user_attr("diverged", str(error))
                return math.nan  # Optuna marks the trial as failed
        return statistics.fmean(best)

    # a killed trial used up no budget; one that diverged did
    done = [t for t in study.get_trials(deepcopy=False) if t.state.name != "FAIL" or "diverged" in t.user_attrs]
    if (left := n_trials - len(done)) > 0:
        study.optimize(objective, n_trials=left, timeout=timeout_s)
    return _result(study)


def _study(storage: Path, seed: int) -> Study:
    import optuna
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage.mkdir(parents=True, exist_ok=True)
    journal = optuna.storages.JournalStorage(JournalFileBackend(str(storage / "study.journal")))
    study = optuna.create_study(storage=journal, study_name="tune", direction="minimize", load_if_exists=True)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)  # its process is gone
    # a resumed sampler must not draw again what the first one drew
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.get_trials(deepcopy=False)))
    study.pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2)
    return study


def _folder(storage: Path, trial: Trial, number: int, of: int) -> Path:
    folder = storage / "trials" / f"{trial.number:04d}"
    return folder if of == 1 else folder / f"window-{number}"


def _digest(windows: Sequence[Dataset]) -> str:
    digests = [window.digest for window in windows]
    return digests[0] if len(digests) == 1 else digest(digests)


_WORDS = {"dataset": "another dataset", "search": "another model, other params, arguments or search space"}


def _claim(study: Study, storage: Path, wanted: dict[str, str]) -> None:
    """Tie a study without trials to what it is of; refuse one that is of something else."""
    if not study.get_trials(deepcopy=False):
        for key, value in wanted.items():
            study.set_user_attr(key, value)
    for key, value in wanted.items():
        if study.user_attrs.get(key) != value:
            raise ConfigError(f"tune: {storage} holds a search of {_WORDS[key]}: give another storage, or remove it")


def _result(study: Study) -> TuneResult:
    trials = study.get_trials(deepcopy=False)
    states = Counter(trial.state.name.lower() for trial in trials)
    if not states["complete"]:
        raise ConfigError(f"tune: none of {len(trials)} trials was completed: lower learning_rate, or give more time")
    best = study.best_trial
    arguments, params = split(best.params)
    return TuneResult(
        best_value=study.best_value, best_trial=best.number, arguments=arguments, params=params, states=dict(states)
    )


def _default_space(model: str) -> Space:
    found = getattr(sys.modules[registry.resolve(model, "model").__module__], "search_space", None)
    if found is None:
        raise ConfigError(f"model {model!r} has no search_space() of its own: give one")
    space: Space = found()
    return space
