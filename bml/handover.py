"""What one stage leaves for the next: a reference in ``state/{name}/{stage}.json`` below the store's root.

The reference is checked before it is used: the day files must be those of exactly the parameters now configured.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from bml.book.days import Learned, days_between, store_digest
from bml.book.store import DayStore
from bml.config import Config
from bml.types import ConfigError, RunRef, StoreError

_MADE_BY = {"preprocess": "bml preprocess", "dataset": "bml train", "train": "bml train"}


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """A finished stage: its reference and what the preprocessing steps had learned by then."""

    ref: RunRef
    learned: Learned


def save(cfg: Config, stage: str, ref: RunRef, *, learned: Learned | None = None) -> None:
    """Leave the reference of a finished stage, whole or not at all."""
    write_json(_path(cfg, stage), {"ref": asdict(ref), "learned": learned or {}})


def load(cfg: Config, stage: str) -> State:
    """What ``stage`` left. Raises ConfigError, naming the command to run first, StoreError when it is damaged."""
    path = _path(cfg, stage)
    try:
        document = json.loads(path.read_text())
        return State(ref=RunRef(**document["ref"]), learned=document["learned"])
    except FileNotFoundError:
        raise ConfigError(f"{path}: not there yet; run  {_MADE_BY[stage]} {cfg.path}  first") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: damaged ({error}); run  {_MADE_BY[stage]} {cfg.path}  again") from error


def day_store(cfg: Config) -> tuple[RunRef, DayStore]:
    """The day files the configuration speaks of, provided they were built with exactly these parameters."""
    if not cfg.features.written:
        raise ConfigError(
            f"{cfg.path}: stages.features is missing, so the depth plan was learned from all days: write it (features: "
            "{} takes the defaults) and run  bml preprocess  again"
        )
    state = load(cfg, "preprocess")
    store = DayStore(cfg.store.root, store_digest(cfg, state.learned))
    wanted = [(symbol, day) for symbol in cfg.data.symbols for day in days_between(cfg.data.start, cfg.data.stop)]
    missing = [f"{symbol} {day}" for symbol, day in wanted if not store.has(symbol, day)]
    if missing:
        raise ConfigError(
            f"{len(missing)} of {len(wanted)} day files are missing or damaged (first: {missing[0]}), or the "
            f"configuration changed since they were built; run  bml preprocess {cfg.path}"
        )
    return state.ref, store


def below(cfg: Config, path: Path) -> str:
    """``path`` as a reference keeps it: relative to the store's root, so that a store can be moved."""
    return str(path.relative_to(cfg.store.root))


def write_json(path: Path, document: object) -> None:
    """A small JSON file, replaced whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(document, indent=1, sort_keys=True))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _path(cfg: Config, stage: str) -> Path:
    return cfg.store.root / "state" / cfg.name / f"{stage}.json"
