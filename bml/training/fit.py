"""Training of one network: a plain loop, seeded throughout, that always leaves a whole best checkpoint."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, get_args

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from bml.dataset.dataset import Dataset
from bml.dataset.loader import WindowLoader
from bml.dataset.weights import uniqueness
from bml.models.base import InputShape, build, forward
from bml.registry import stage
from bml.training import checkpoint
from bml.training.losses import Sampling, row_weights, training_rows, weighted_cross_entropy
from bml.training.predict import DivergedError, logits, pick_device, to_device
from bml.training.progress import Progress, shown
from bml.training.workspace import BEST, HISTORY, LAST, workspace
from bml.types import ConfigError, DataError

Metrics = dict[str, float]
AtLeastOne = Annotated[int, Field(ge=1)]
AboveZero = Annotated[float, Field(gt=0, allow_inf_nan=False)]
HalfLife = AboveZero | Annotated[list[AboveZero], Field(min_length=1)]

#: batches between looks at the loss: reading it waits for the device
CHECK_EVERY = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """``checkpoint`` is the best epoch's, ``last`` the last one's; ``best_epoch`` counts from 1 and ``best_nll``
    is its early-stop NLL; ``history`` has the metrics of every epoch. ``sha256`` (hex) is that of the file
    ``checkpoint``, so that who comes later can tell whether it is still the same. It learnt from ``n`` rows worth
    ``n_eff`` labels that do not overlap."""

    checkpoint: Path
    sha256: str
    last: Path
    best_epoch: int
    best_nll: float
    history: tuple[Metrics, ...]
    n: int
    n_eff: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The numbers of a run, kept in its checkpoint."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    clip: float
    patience: int
    half_life_days: float | list[float] | None
    max_batches: int | None
    seed: int
    uniqueness: bool = False
    sampling: Sampling = "all"

    def __post_init__(self) -> None:
        for key in ("epochs", "batch_size", "patience", "max_batches"):
            if (value := getattr(self, key)) is not None and value < 1:
                raise ConfigError(f"train: {key} is {value}, it must be at least 1")
        for key in ("learning_rate", "clip"):
            if not 0 < getattr(self, key) < math.inf:
                raise ConfigError(f"train: {key} is {getattr(self, key)}, it must be a number above 0")
        if not 0 <= self.weight_decay < math.inf:
            raise ConfigError(f"train: weight_decay is {self.weight_decay}, it must be a number from 0")
        half = self.half_life_days
        lives = half if isinstance(half, list) else [] if half is None else [half]
        if half == [] or not all(0 < value < math.inf for value in lives):
            raise ConfigError(
                f"train: half_life_days is {half}, it must be a number of days above 0, or a list of such"
            )
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"train: seed is {self.seed}, it must be a whole number from 0 to 2^63 - 1")
        if self.sampling not in get_args(Sampling):
            raise ConfigError(
                f"train: sampling is {self.sampling!r}, it must be one of {', '.join(get_args(Sampling))}"
            )
        if self.uniqueness and self.sampling == "stride_by_horizon":
            raise ConfigError("train: uniqueness weighs labels that overlap, and sampling: stride_by_horizon leaves "
                              "none: choose one of the two")  # fmt: skip


@stage
def train(
    dataset: Dataset,
    *,
    out: Path,
    model: str = "models.cnn_lstm.cnn_lstm",
    params: dict[str, Any] | None = None,
    epochs: AtLeastOne = 30,
    batch_size: AtLeastOne = 64,
    learning_rate: AboveZero = 1e-3,
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1,
    clip: AboveZero = 1.0,
    patience: AtLeastOne = 5,
    half_life_days: HalfLife | None = None,
    uniqueness: bool = False,
    sampling: Sampling = "all",
    max_batches: AtLeastOne | None = None,
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 7,
    device: str = "auto",
    on_epoch: Callable[[dict[str, float], int], None] | None = None,
    progress: bool = True,
) -> TrainResult:
    """Fit ``model`` on the train block, watched on the early-stop block.

    AdamW with decoupled ``weight_decay`` (matrices only), warm-up then cosine per batch, gradient norm clipped
    at ``clip``; stops after ``patience`` epochs without a better early-stop NLL. ``half_life_days`` weights the
    training rows by age and ``uniqueness`` by how little of its label a row shares with others (see
    :func:`bml.training.losses.row_weights`); ``sampling`` "stride_by_horizon" learns from rows whose labels do not
    overlap alone. ``max_batches`` cuts every epoch short. ``on_epoch(metrics, epoch)`` is called after each epoch's
    files are written; what it raises ends the training.

    Leaves ``best.safetensors``, ``last.safetensors`` (see :mod:`bml.training.checkpoint`) and ``history.json`` in
    ``out`` when it ends, each replaced whole, the best last. Cut short by an interrupt or an error, it leaves its
    best epoch so far, or, where another training into ``out`` has finished, that one's files untouched
    (:mod:`bml.training.workspace`). The same seed gives the same losses on one CPU with one number of threads.

    Raises ConfigError (unknown model or parameter), DataError (an empty block), DivergedError (loss is NaN),
    StoreError (``out`` cannot be written).
    """
    settings = Settings(
        epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, weight_decay=weight_decay, clip=clip,
        patience=patience, half_life_days=half_life_days, max_batches=max_batches, seed=seed, uniqueness=uniqueness,
        sampling=sampling,
    )  # fmt: skip
    run = _Run(dataset, settings, model, dict(params or {}), pick_device(device))
    flush = run.device.type == "cpu"
    if flush:  # vanishing gradients of the LSTM turn denormal, which costs a CPU up to ten times the time
        torch.set_flush_denormal(True)
    try:
        with shown(progress) as told:
            with workspace(out, told.note) as folder:
                run.fit(folder, told, on_epoch)
            return run.result(Path(out))
    finally:
        if flush:
            torch.set_flush_denormal(False)


class _Run:
    """The state of one training: network, optimiser, schedule, best epoch so far."""

    def __init__(
        self, dataset: Dataset, settings: Settings, model: str, params: dict[str, Any], device: torch.device
    ) -> None:
        for name in ("train", "early_stop"):
            if getattr(dataset.fold, name).shape[0] == 0:
                raise DataError(f"train: block {name!r} of the split has no samples: widen it or the data's span")
        self.dataset, self.settings, self.device = dataset, settings, device
        self.rows = training_rows(dataset, settings.sampling, settings.seed)
        self.loader = WindowLoader(
            dataset, self.rows, batch_size=settings.batch_size, shuffle=True, seed=settings.seed,
            weights_N=row_weights(dataset, self.rows, settings.half_life_days, uniqueness=settings.uniqueness),
            device=device,
        )  # fmt: skip
        self.steps = min(len(self.loader), settings.max_batches or len(self.loader))
        _seed(settings.seed)
        shape = InputShape(**dataset.shape)
        self.net = build(model, shape, params).to(device)
        self.optimiser = torch.optim.AdamW(_groups(self.net, settings.weight_decay), lr=settings.learning_rate)
        total = self.steps * settings.epochs
        warm = max(1, min(self.steps, total // 20))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, lambda step: _rate(step, warm, total))
        self.about = checkpoint.Checkpoint(
            model=model, params=params, shape=shape, dataset_digest=dataset.digest,
            class_names=tuple(dataset.class_names), epoch=0, training=dataclasses.asdict(settings),
        )  # fmt: skip

        self.history: list[Metrics] = []
        self.best_epoch = 0

    def fit(self, folder: Path, told: Progress, on_epoch: Callable[[Metrics, int], None] | None) -> None:
        best = math.inf
        is_thinned = self.settings.uniqueness or self.settings.sampling != "all"
        if is_thinned and self.dataset.uniqueness["train"].min() > 1.0 - 1e-9:
            told.note("no two labels of the train block overlap: uniqueness and sampling change nothing")
        for epoch in range(1, self.settings.epochs + 1):
            began = time.perf_counter()
            loss, seen = self._epoch(epoch, told)
            speed = seen / (time.perf_counter() - began)
            rate = float(self.optimiser.param_groups[0]["lr"])
            metrics = {"train_loss": loss, **self._validate(), "learning_rate": rate}
            self.history.append(metrics)
            better = metrics["val_nll"] < best
            if better:
                best, self.best_epoch = metrics["val_nll"], epoch
                self._save(folder / BEST, epoch, metrics)
            self._save(folder / LAST, epoch, metrics)
            self._tell(folder, finished=False)
            told.epoch(epoch, self.settings.epochs, {**metrics, "samples_per_s": speed}, better)
            if on_epoch is not None:
                on_epoch({**metrics, "samples_per_s": speed}, epoch)
            if epoch - self.best_epoch >= self.settings.patience:
                break
        self._tell(folder, finished=True)

    def result(self, out: Path) -> TrainResult:
        best = out / BEST
        return TrainResult(
            checkpoint=best, sha256=hashlib.sha256(best.read_bytes()).hexdigest(), last=out / LAST,
            best_epoch=self.best_epoch, best_nll=self.history[self.best_epoch - 1]["val_nll"],
            history=tuple(self.history), n=int(self.rows.shape[0]),
            n_eff=float(uniqueness(self.dataset.index, self.rows).sum()),
        )  # fmt: skip

    def _epoch(self, epoch: int, told: Progress) -> tuple[float, int]:
        """One pass over the training rows: mean weighted loss per sample, samples seen."""
        self.net.train()
        total, seen = torch.zeros((), dtype=torch.float64, device=self.device), 0
        batches: Iterable[Any] = islice(self.loader.epoch(epoch), self.steps)
        for step, batch in enumerate(told.batches(batches, self.steps, epoch), 1):
            loss = self._step(to_device(batch, self.device))
            count = int(batch.y_B.shape[0])
            total, seen = total + loss.double() * count, seen + count
            if (step % CHECK_EVERY == 0 or step == self.steps) and not math.isfinite(float(total)):
                raise DivergedError(
                    f"train: the loss is {float(total)} in epoch {epoch}, by batch {step}: lower learning_rate "
                    f"({self.settings.learning_rate:g}) or clip ({self.settings.clip:g}), or look for NaN in the data"
                )
        return float(total) / seen, seen

    def _step(self, batch: Any) -> Tensor:
        self.optimiser.zero_grad(set_to_none=True)
        loss = weighted_cross_entropy(forward(self.net, batch), batch.y_B, batch.w_B)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.net.parameters(), self.settings.clip)
        self.optimiser.step()
        self.schedule.step()
        return loss.detach()

    def _validate(self) -> Metrics:
        """Unweighted NLL and accuracy on the early-stop block."""
        rows = self.dataset.fold.early_stop
        y_N = self.dataset.index.y_N[rows]
        logits_NC = logits(self.net, self.dataset, rows, batch_size=self.settings.batch_size, device=str(self.device))
        top_N = logits_NC.max(axis=1)
        log_sum_N = top_N + np.log(np.exp(logits_NC - top_N[:, None]).sum(axis=1))
        nll = float((log_sum_N - logits_NC[np.arange(y_N.shape[0]), y_N]).mean())
        return {"val_nll": nll, "val_accuracy": float((logits_NC.argmax(axis=1) == y_N).mean())}

    def _save(self, path: Path, epoch: int, metrics: Metrics) -> None:
        checkpoint.save(path, self.net, dataclasses.replace(self.about, epoch=epoch, metrics=metrics))

    def _tell(self, folder: Path, *, finished: bool) -> None:
        document = {"best_epoch": self.best_epoch, "epochs": self.history, "finished": finished}
        checkpoint.publish_json(folder / HISTORY, document)


def _seed(seed: int) -> None:
    """Every global generator a network may draw from; the order of samples has its own (the loader's)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - for networks of others that draw from it
    torch.manual_seed(seed)


def _groups(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Biases and scales are not decayed: pulling them to 0 is no regularisation."""
    params = [p for p in net.parameters() if p.requires_grad]
    matrices = {"params": [p for p in params if p.ndim > 1], "weight_decay": weight_decay}
    vectors = {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0}
    return [group for group in (matrices, vectors) if group["params"]]


def _rate(step: int, warm: int, total: int) -> float:
    """Share of the learning rate at ``step``: linear up over ``warm`` steps, then a cosine down to 1 %."""
    if step < warm:
        return (step + 1) / warm
    done = min(1.0, (step - warm) / max(1, total - warm))
    return 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * done))
