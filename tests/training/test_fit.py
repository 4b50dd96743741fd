"""Training for real on a small market: it learns what is there, repeats itself, and stops cleanly."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from bml.book.publish import host_label
from bml.config.params import parameter_model
from bml.dataset.dataset import Dataset
from bml.evaluation.report import evaluate
from bml.training import checkpoint, fit
from bml.training.fit import TrainResult, train
from bml.training.losses import weights_of
from bml.training.predict import DivergedError, logits, softmax
from bml.training.workspace import finished
from bml.types import ConfigError, DataError, StoreError
from tests.training.small_market import CADENCE_S, build

PARAMS = {"stem": 8, "channels": 8, "hidden": 8, "recent": 8, "long_channels": 4, "head": 16}

pytestmark = pytest.mark.usefixtures("two_threads")


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return build(tmp_path_factory.mktemp("market"), days=6)


def short(dataset: Dataset, out: Path, **options: Any) -> TrainResult:
    given = {"epochs": 2, "batch_size": 32, "max_batches": 6, "progress": False, "device": "cpu", "params": PARAMS}
    return train(dataset, out=out, **{**given, **options})


def test_learns_the_planted_signal(market: Dataset, tmp_path: Path) -> None:
    result = short(market, tmp_path, epochs=6, max_batches=None, learning_rate=3e-3)
    share_C = np.bincount(market.index.y_N[market.fold.train], minlength=4) / market.fold.train.shape[0]
    y_N = market.index.y_N[market.fold.early_stop]
    assert result.best_nll < 0.85 * float(-np.log(share_C[y_N]).mean())
    net, about = checkpoint.load(result.checkpoint, dataset_digest=market.digest, class_names=market.class_names)
    proba_NC = softmax(logits(net, market, market.fold.early_stop, batch_size=50, device="cpu"))
    nll = -np.log(proba_NC[np.arange(y_N.shape[0]), y_N]).mean()
    assert nll == pytest.approx(result.best_nll, rel=1e-4)  # other batches, other rounding
    assert about.epoch == result.best_epoch
    assert about.training["seed"] == 7


def test_same_seed_same_losses_and_bytes_other_seed_others(market: Dataset, tmp_path: Path) -> None:
    first = short(market, tmp_path / "a")
    torch.randn(100)  # the caller's generator is somewhere else by now
    again, other = short(market, tmp_path / "b"), short(market, tmp_path / "c", seed=8)
    assert again.history == first.history
    assert again.checkpoint.read_bytes() == first.checkpoint.read_bytes()
    assert other.history != first.history


def test_stops_early_and_keeps_the_best(market: Dataset, tmp_path: Path) -> None:
    # a rate this high, and a schedule long enough to keep it there: no epoch is better for long
    result = short(market, tmp_path, epochs=40, patience=2, learning_rate=0.3, max_batches=4)
    assert len(result.history) == result.best_epoch + 2 < 40
    assert result.best_nll == min(epoch["val_nll"] for epoch in result.history)
    assert checkpoint.describe(result.checkpoint).epoch == result.best_epoch
    assert checkpoint.describe(result.last).epoch == len(result.history)
    assert json.loads((tmp_path / "history.json").read_text())["best_epoch"] == result.best_epoch


def test_weights_change_the_fit(market: Dataset, tmp_path: Path) -> None:
    plain = short(market, tmp_path / "a", epochs=1)
    aged = short(market, tmp_path / "b", epochs=1, half_life_days=[0.5, 2.0])
    assert plain.history != aged.history


def test_uniqueness_and_sampling_change_what_is_learnt_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dense = build(tmp_path / "market", days=6, stride_s=CADENCE_S)
    some = np.random.default_rng(0).random(dense.fold.train.shape[0]) < 0.6  # unequal overlap
    market = replace(dense, fold=replace(dense.fold, train=dense.fold.train[some]))
    plain = short(market, tmp_path / "a", epochs=1)
    unique = short(market, tmp_path / "b", epochs=1, uniqueness=True)
    assert unique.history != plain.history
    thinned = short(market, tmp_path / "c", epochs=1, sampling="stride_by_horizon", max_batches=None, batch_size=10**6)
    about = checkpoint.describe(thinned.checkpoint)
    assert (about.training["sampling"], about.training["uniqueness"]) == ("stride_by_horizon", False)
    rows, w_N = weights_of(market, about.training)
    assert 0 < rows.shape[0] < market.fold.train.shape[0] / 2
    np.testing.assert_array_equal(w_N, np.ones(rows.shape[0]))
    assert (thinned.n, thinned.n_eff) == (rows.shape[0], rows.shape[0])
    assert (plain.n, plain.n_eff) == (some.sum(), pytest.approx(market.uniqueness["train"].sum()))
    # one batch of all rows there are: its loss is that of exactly these rows under the fresh network
    alone = replace(market, fold=replace(market.fold, train=rows))
    again = short(alone, tmp_path / "d", epochs=1, max_batches=None, batch_size=10**6)
    assert again.history == thinned.history
    assert "overlap" not in capsys.readouterr().err
    short(alone, tmp_path / "e", epochs=1, uniqueness=True, progress=True)
    assert "no two labels of the train block overlap" in capsys.readouterr().err


def test_an_interrupt_leaves_the_best_checkpoint_whole(market: Dataset, tmp_path: Path) -> None:
    seen: list[tuple[int, float]] = []

    def on_epoch(metrics: dict[str, float], epoch: int) -> None:
        seen.append((epoch, metrics["val_nll"]))
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        short(market, tmp_path, epochs=9, on_epoch=on_epoch)
    best_epoch, best = min(seen, key=lambda pair: pair[1])
    _, about = checkpoint.load(tmp_path / "best.safetensors")
    assert (about.epoch, about.metrics["val_nll"]) == (best_epoch, best)
    assert not list(tmp_path.glob(".*"))
    assert not working_folders(tmp_path)
    assert not finished(tmp_path)
    whole = short(market, tmp_path, epochs=1)  # one that was cut short is not in the way of the next
    assert (finished(tmp_path), checkpoint.describe(whole.checkpoint).epoch) == (True, 1)


def working_folders(out: Path) -> list[Path]:
    return list(out.parent.glob(f".{out.name}.*"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_training_leaves_a_finished_model_alone(
    error: type[BaseException], market: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = short(market, tmp_path, epochs=1)
    assert first.sha256 == hashlib.sha256(first.checkpoint.read_bytes()).hexdigest()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {"best.safetensors", "best.json", "last.safetensors", "last.json", "history.json"}

    def on_epoch(metrics: dict[str, float], epoch: int) -> None:
        (working,) = working_folders(tmp_path)
        assert (working / "best.safetensors").read_bytes() != before["best.safetensors"]
        assert (tmp_path / "best.safetensors").read_bytes() == before["best.safetensors"]
        raise error

    with pytest.raises(error):
        short(market, tmp_path, epochs=9, seed=8, on_epoch=on_epoch, progress=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert not working_folders(tmp_path)
    assert "keeps the model of the training that finished there" in capsys.readouterr().err
    other = short(market, tmp_path, epochs=1, seed=8)  # one that finishes replaces it
    assert other.sha256 != first.sha256


def test_the_best_checkpoint_is_moved_last(market: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[str] = []
    real = os.replace

    def replace_and_tell(source: Path, target: Path) -> None:
        real(source, target)
        if Path(target).parent == tmp_path:
            moved.append(Path(target).name)

    monkeypatch.setattr(os, "replace", replace_and_tell)
    short(market, tmp_path, epochs=1)
    assert sorted(moved) == ["best.json", "best.safetensors", "history.json", "last.json", "last.safetensors"]
    assert moved[-1] == "best.safetensors"


def test_folders_of_dead_trainings_are_swept_and_of_living_ones_kept(market: Dataset, tmp_path: Path) -> None:
    out, host = tmp_path / "model", host_label()
    dead = subprocess.Popen(["true"])
    dead.wait()
    kept = [f".model.{host}.{os.getpid()}-0123abcd.training", f".model.elsewhere.{dead.pid}-0123abcd.training",
            f".model2.{host}.{dead.pid}-0123abcd.training"]  # fmt: skip
    for name in (*kept, f".model.{host}.{dead.pid}-0123abcd.training"):
        (tmp_path / name).mkdir()
    short(market, out, epochs=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "model"])


def test_a_place_that_cannot_be_written_is_told_before_training(market: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot train into"):
        short(market, tmp_path / "file", on_epoch=lambda metrics, epoch: pytest.fail("it trained"))


def test_a_loss_that_is_nan_is_told(market: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"the loss is (nan|inf) in epoch 1.*lower learning_rate"):
        short(market, tmp_path, learning_rate=1e30, clip=1e30)
    assert not (tmp_path / "best.safetensors").exists()


def test_progress_is_one_plain_line_an_epoch(
    market: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short(market, tmp_path, progress=True, max_batches=1)
    told = capsys.readouterr()
    assert told.out == ""
    lines = told.err.splitlines()
    assert [line[:11] for line in lines] == ["epoch   1/2", "epoch   2/2"]
    assert all("val nll" in line and "samples/s" in line for line in lines)


def test_progress_is_a_bar_on_a_terminal(market: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    parts: list[bytes] = []

    def read() -> None:  # all along: a terminal nobody reads fills up and blocks its writer
        with contextlib.suppress(OSError):  # the other end is closed
            while part := os.read(ours, 1 << 16):
                parts.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    with open(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        short(market, tmp_path, progress=True, max_batches=1)
    reader.join()
    os.close(ours)
    shown = b"".join(parts).decode()
    assert "epoch   2/2" in shown
    assert "\x1b[" in shown


def test_wrong_settings_are_told(market: Dataset, tmp_path: Path) -> None:
    for options, told in (
        ({"epochs": 0}, "epochs is 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"weight_decay": float("nan")}, "weight_decay is nan"),
        ({"half_life_days": -1.0}, "half_life_days is -1.0"),
        ({"half_life_days": math.nan}, "half_life_days is nan"),
        ({"half_life_days": []}, r"half_life_days is \[\]"),
        ({"half_life_days": [1.0, 0.0]}, r"half_life_days is \[1.0, 0.0\]"),
        ({"seed": -1}, "seed is -1"),
        ({"sampling": "stride"}, "sampling is 'stride', it must be one of all, stride_by_horizon"),
        ({"sampling": "stride_by_horizon", "uniqueness": True}, "choose one of the two"),
        ({"params": {"hiden": 3}}, "did you mean 'hidden'"),
        ({"model": "models.cnn_lstm.cnn_lsm"}, "did you mean 'models.cnn_lstm.cnn_lstm'"),
    ):
        with pytest.raises(ConfigError, match=told):
            short(market, tmp_path, **options)
    empty = replace(market, fold=replace(market.fold, early_stop=np.array([], dtype=np.int64)))
    with pytest.raises(DataError, match="block 'early_stop'"):
        short(empty, tmp_path)


@pytest.mark.parametrize(
    ("stage", "given"),
    [(train, {key: 0}) for key in ("epochs", "batch_size", "learning_rate", "clip", "patience", "max_batches")]
    + [(train, {"half_life_days": value}) for value in (-1, 0, [], [1.0, -1.0], math.nan, math.inf)]
    + [(train, {"weight_decay": -0.1}), (train, {"seed": -1}), (train, {"learning_rate": math.nan})]
    + [(evaluate, {key: 0}) for key in ("bins", "draws", "batch_size")]
    + [(evaluate, {"min_support": -1}), (evaluate, {"seed": -1}), (evaluate, {"sha256": "ab"})],
)
def test_the_configuration_refuses_numbers_out_of_range(stage: Any, given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        parameter_model(stage).model_validate_json(json.dumps(given))


def test_the_configuration_takes_what_is_meant() -> None:
    for given in ({"half_life_days": None}, {"half_life_days": 3}, {"half_life_days": [1, 0.5]}, {"max_batches": 1}):
        parameter_model(train).model_validate_json(json.dumps(given))
    parameter_model(evaluate).model_validate_json('{"batch_size": null, "draws": 100, "min_support": 0}')


def spy(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """(gradient norm, learning rate) of every step a training makes, as its optimiser sees them."""
    seen: list[tuple[float, float]] = []

    class Watched(torch.optim.AdamW):
        def step(self, closure: Any = None) -> Any:
            every = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
            norm = float(torch.stack([grad.norm() for grad in every]).norm())
            seen.append((norm, float(self.param_groups[0]["lr"])))
            return super().step(closure)

    monkeypatch.setattr(fit.torch.optim, "AdamW", Watched)
    return seen


def test_gradients_are_clipped_and_the_rate_warms_up_and_falls(
    market: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = spy(monkeypatch)
    short(market, tmp_path / "a", epochs=10, patience=10, learning_rate=1e-3, clip=0.01)
    norms, rates = np.array(seen).T
    assert norms.shape == (60,)
    assert norms.max() <= 0.01 * 1.001
    warm = 60 // 20
    np.testing.assert_allclose(rates[:warm], 1e-3 * (np.arange(warm) + 1) / warm)
    done = np.arange(60 - warm) / (60 - warm)
    np.testing.assert_allclose(rates[warm:], 1e-3 * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * done))))
    seen.clear()
    short(market, tmp_path / "b", epochs=1, clip=1e9)
    assert max(norm for norm, _ in seen) > 0.02  # nothing but the limit kept them small


def test_forecasts_come_in_the_order_of_the_rows(market: Dataset, tmp_path: Path) -> None:
    net, _ = checkpoint.load(short(market, tmp_path, epochs=1).checkpoint)
    rows = market.fold.test[:40]
    straight = logits(net, market, rows, batch_size=16, device="cpu")
    back = logits(net, market, rows[::-1].copy(), batch_size=16, device="cpu")
    np.testing.assert_allclose(back[::-1], straight, atol=1e-5)
    assert straight.std(axis=0).min() > 0
