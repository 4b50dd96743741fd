"""Training for real on a small market: it learns what is there, repeats itself, and stops cleanly."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bml.dataset.dataset import Dataset
from bml.training import checkpoint
from bml.training.fit import TrainResult, train
from bml.training.predict import DivergedError, logits, softmax
from bml.types import ConfigError, DataError
from tests.training.small_market import build

PARAMS = {"stem": 8, "channels": 8, "hidden": 8, "recent": 8, "long_channels": 4, "head": 16}


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


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
    # a rate this high makes every later epoch worse
    result = short(market, tmp_path, epochs=12, patience=2, learning_rate=0.3, max_batches=4)
    assert len(result.history) == result.best_epoch + 2 < 12
    assert result.best_nll == min(epoch["val_nll"] for epoch in result.history)
    assert checkpoint.describe(result.checkpoint).epoch == result.best_epoch
    assert checkpoint.describe(result.last).epoch == len(result.history)
    assert json.loads((tmp_path / "history.json").read_text())["best_epoch"] == result.best_epoch


def test_weights_change_the_fit(market: Dataset, tmp_path: Path) -> None:
    plain = short(market, tmp_path / "a", epochs=1)
    aged = short(market, tmp_path / "b", epochs=1, half_life_days=[0.5, 2.0])
    assert plain.history != aged.history


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
    with open(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        short(market, tmp_path, progress=True, max_batches=1)
        terminal.flush()
        shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "epoch   2/2" in shown
    assert "\x1b[" in shown


def test_wrong_settings_are_told(market: Dataset, tmp_path: Path) -> None:
    for options, told in (
        ({"epochs": 0}, "epochs is 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"weight_decay": float("nan")}, "weight_decay is nan"),
        ({"params": {"hiden": 3}}, "did you mean 'hidden'"),
        ({"model": "models.cnn_lstm.cnn_lsm"}, "did you mean 'models.cnn_lstm.cnn_lstm'"),
    ):
        with pytest.raises(ConfigError, match=told):
            short(market, tmp_path, **options)
    empty = replace(market, fold=replace(market.fold, early_stop=np.array([], dtype=np.int64)))
    with pytest.raises(DataError, match="block 'early_stop'"):
        short(empty, tmp_path)


def test_forecasts_come_in_the_order_of_the_rows(market: Dataset, tmp_path: Path) -> None:
    net, _ = checkpoint.load(short(market, tmp_path, epochs=1).checkpoint)
    rows = market.fold.test[:40]
    straight = logits(net, market, rows, batch_size=16, device="cpu")
    back = logits(net, market, rows[::-1].copy(), batch_size=16, device="cpu")
    np.testing.assert_allclose(back[::-1], straight, atol=1e-5)
    assert straight.std(axis=0).min() > 0
