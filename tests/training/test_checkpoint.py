"""Checkpoints: what is written comes back, anything else is refused in one line."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from bml.models.base import InputShape, build
from bml.training.checkpoint import Checkpoint, describe, load, save
from bml.types import StoreError

NAME = "models.cnn_lstm.cnn_lstm"
PARAMS = {"stem": 4, "channels": 4, "hidden": 4, "recent": 4, "long_channels": 4, "head": 4}
SHAPE = InputShape(assets=2, steps=8, levels=2, fields=4, days=1, stats=3, calendar=2, classes=3)
ABOUT = Checkpoint(
    model=NAME, params=PARAMS, shape=SHAPE, dataset_digest="d1" * 32, class_names=("a", "b", "c"), epoch=4,
    metrics={"val_nll": 1.25}, training={"seed": 7},
)  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return save(tmp_path / "best.safetensors", build(NAME, SHAPE, PARAMS), ABOUT)


def test_round_trip(path: Path) -> None:
    torch.manual_seed(0)
    before = build(NAME, SHAPE, PARAMS).state_dict()
    state = torch.random.get_rng_state()
    net, about = load(path, dataset_digest="d1" * 32, class_names=("a", "b", "c"))
    assert about == ABOUT == describe(path)
    assert not net.training
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key])
    assert torch.equal(torch.random.get_rng_state(), state)  # loading draws nothing from the caller's generator


def test_equal_networks_give_equal_bytes_and_a_readable_twin(path: Path, tmp_path: Path) -> None:
    net, about = load(path)
    again = save(tmp_path / "again.safetensors", net, about)
    assert again.read_bytes() == path.read_bytes()
    twin = json.loads(path.with_suffix(".json").read_text())
    assert twin["model"] == NAME
    assert twin["metrics"] == {"val_nll": 1.25}
    path.with_suffix(".json").unlink()
    load(path)  # the twin is for people


def test_every_truncation_is_refused(path: Path) -> None:
    data = path.read_bytes()
    for size in np.linspace(0, len(data) - 1, 25).astype(int):
        path.write_bytes(data[:size])
        with pytest.raises(StoreError, match=r"not a bml checkpoint|truncated"):
            load(path)


def test_a_flipped_bit_is_refused(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match="checksum"):
        load(path)


def test_foreign_files_are_refused(path: Path, tmp_path: Path) -> None:
    for name, data in {
        "text": b"hello, world",
        "huge length": struct.pack("<Q", 2**62) + b"{}",
        "other safetensors": safetensors.torch.save({"w": torch.ones(2)}),
        "other metadata": safetensors.torch.save({"w": torch.ones(2)}, metadata={"bml": json.dumps({"schema": "x"})}),
    }.items():
        foreign = tmp_path / name
        foreign.write_bytes(data)
        with pytest.raises(StoreError, match="not a bml checkpoint"):
            load(foreign)
    with pytest.raises(StoreError, match="cannot be read"):
        load(tmp_path / "nowhere.safetensors")


def test_other_data_classes_or_network_are_refused(path: Path) -> None:
    with pytest.raises(StoreError, match="trained on dataset d1d1d1d1d1d1, not on"):
        load(path, dataset_digest="e2" * 32)
    with pytest.raises(StoreError, match="its classes are"):
        load(path, class_names=("a", "b"))
    save(path, build(NAME, SHAPE, PARAMS), replace(ABOUT, params=PARAMS | {"hidden": 5}))
    with pytest.raises(StoreError, match="do not fit"):
        load(path)


def test_metrics_that_are_no_numbers_are_not_published(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        save(path, build(NAME, SHAPE, PARAMS), replace(ABOUT, metrics={"val_nll": float("nan")}))
    assert path.read_bytes() == before
