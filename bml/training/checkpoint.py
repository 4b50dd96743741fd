"""Trained networks on disk: safetensors and JSON, never a pickle, so loading a file cannot run code.

One file is the truth: the description (what network, for what data, how good) lies in the safetensors header,
so weights and description are published by one rename and cannot disagree. ``<name>.json`` beside it repeats
the description for people and is never read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from bml.book.publish import publish
from bml.models.base import InputShape, build
from bml.types import StoreError

SCHEMA = "bml.checkpoint/1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """What a network file says about itself. ``metrics`` are those of ``epoch`` (from 1), ``training`` the
    arguments of the run, ``dataset_digest`` the dataset it was fitted on."""

    model: str
    params: dict[str, Any]
    shape: InputShape
    dataset_digest: str
    class_names: tuple[str, ...]
    epoch: int
    metrics: dict[str, float] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        own = {**dataclasses.asdict(self), "shape": self.shape.as_dict(), "class_names": list(self.class_names)}
        return {"schema": SCHEMA, **own}


def save(path: Path, net: nn.Module, about: Checkpoint) -> Path:
    """Publish ``net`` at ``path`` (``*.safetensors``) atomically, then its readable twin ``*.json``."""
    state = {key: value.detach().cpu().contiguous() for key, value in net.state_dict().items()}
    document = {**about.as_dict(), "weights_sha256": _digest(state)}
    header = {"bml": json.dumps(document, sort_keys=True, allow_nan=False)}
    publish(path, safetensors.torch.save(state, metadata=header))
    publish_json(path.with_suffix(".json"), document)
    return path


def publish_json(path: Path, value: Any) -> None:
    """Publish indented JSON with sorted keys; NaN and infinity are refused (ValueError), None is not."""
    publish(path, (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode())


def describe(path: Path) -> Checkpoint:
    """The description alone. Raises StoreError if ``path`` is missing, truncated or not one of ours."""
    return _about(path, _document(path, _read(path)))


def load(
    path: Path, *, dataset_digest: str | None = None, class_names: tuple[str, ...] | None = None
) -> tuple[nn.Module, Checkpoint]:
    """The network in evaluation mode on the CPU, and its description.

    Raises StoreError if the file is missing, truncated, foreign or damaged, if its weights do not fit the
    network it names, or if it was trained on another dataset or other classes than those given.
    """
    data = _read(path)
    document = _document(path, data)
    about = _about(path, document)
    if dataset_digest is not None and about.dataset_digest != dataset_digest:
        raise StoreError(
            f"{path}: trained on dataset {about.dataset_digest[:12]}, not on {dataset_digest[:12]}: train again"
        )
    if class_names is not None and about.class_names != tuple(class_names):
        raise StoreError(f"{path}: its classes are {list(about.class_names)}, the dataset's {list(class_names)}")
    try:
        state = safetensors.torch.load(data)
    except (SafetensorError, ValueError) as error:
        raise StoreError(f"{path}: truncated or damaged: {error}") from error
    if _digest(state) != document.get("weights_sha256"):
        raise StoreError(f"{path}: the weights do not match their checksum: the file is damaged")
    with torch.random.fork_rng(devices=[]):  # building draws weights that are overwritten at once
        net = build(about.model, about.shape, about.params)
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        what = " ".join(str(error).split())[:200]
        raise StoreError(f"{path}: the weights do not fit {about.model}: {what}") from error
    return net.eval(), about


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from error


def _document(path: Path, data: bytes) -> dict[str, Any]:
    """The description in the header: 8 bytes of length, then JSON with ``__metadata__`` (the safetensors form)."""
    foreign = StoreError(f"{path}: not a bml checkpoint (a safetensors file written by `bml` training is)")
    if len(data) < 8:
        raise foreign
    (size,) = struct.unpack("<Q", data[:8])
    try:
        document = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["bml"])
    except (ValueError, KeyError, TypeError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise foreign from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise foreign
    return document


def _about(path: Path, document: dict[str, Any]) -> Checkpoint:
    known = {f.name for f in dataclasses.fields(Checkpoint)}
    values = {key: value for key, value in document.items() if key in known}
    try:
        values["shape"] = InputShape(**values["shape"])
        values["class_names"] = tuple(values["class_names"])
        return Checkpoint(**values)
    except (KeyError, TypeError) as error:
        raise StoreError(f"{path}: its description is incomplete: {error}") from error


def _digest(state: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
