"""What one stage leaves for the next: a reference in ``state/{name}/{stage}.json`` below the store's root.

The reference is checked before it is used: the day files must be those of exactly the parameters now configured.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bml import learned
from bml.book.days import days_between, store_digest
from bml.book.publish import publish
from bml.book.store import DayStore
from bml.config import Config
from bml.types import ConfigError, RunRef, StoreError

_MADE_BY = {"preprocess": "bml preprocess", "train": "bml train"}


def save(cfg: Config, stage: str, ref: RunRef, *, upstream: Sequence[RunRef] = ()) -> None:
    """Leave the reference of a finished stage and those it was made from, whole or not at all."""
    document = {"ref": asdict(ref), "upstream": [asdict(one) for one in upstream]}
    publish(_path(cfg, stage), json.dumps(document, indent=1, sort_keys=True).encode())


def load(cfg: Config, stage: str) -> RunRef:
    """What ``stage`` left. Raises ConfigError, naming the command to run first, StoreError when it is damaged."""
    return _read(cfg, stage)[0]


def upstream(cfg: Config, stage: str) -> list[RunRef]:
    """The references ``stage`` was made from, which later runs of the stages before it do not change."""
    return _read(cfg, stage)[1]


def _read(cfg: Config, stage: str) -> tuple[RunRef, list[RunRef]]:
    path = _path(cfg, stage)
    try:
        document = json.loads(path.read_bytes())
        return RunRef(**document["ref"]), [RunRef(**one) for one in document["upstream"]]
    except FileNotFoundError:
        raise ConfigError(f"{path}: not there yet; run  {_MADE_BY[stage]} {cfg.path}  first") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: damaged ({error}); run  {_MADE_BY[stage]} {cfg.path}  again") from error


def forget(cfg: Config, *stages: str) -> None:
    """Withdraw what these stages left, so that nothing is made of it any more."""
    for stage in stages:
        _path(cfg, stage).unlink(missing_ok=True)


def day_store(cfg: Config) -> DayStore:
    """The day files the configuration speaks of, provided they were built with exactly these parameters.

    Every byte of them is checked against its checksum. Raises ConfigError (missing, built otherwise) or StoreError
    (damaged). Cost: one read of all files, about as fast as the disk.
    """
    if not cfg.features.written:
        raise ConfigError(
            f"{cfg.path}: stages.features is missing, so the depth plan was learned from all days: write it (features: "
            "{} takes the defaults) and run  bml preprocess  again"
        )
    load(cfg, "preprocess")
    store = DayStore(cfg.store.root, store_digest(cfg, learned.load(cfg)))
    wanted = [(symbol, day) for symbol in cfg.data.symbols for day in days_between(cfg.data.start, cfg.data.stop)]
    missing = [f"{symbol} {day}" for symbol, day in wanted if not store.has(symbol, day)]
    if missing:
        raise ConfigError(
            f"{len(missing)} of {len(wanted)} day files are missing or damaged (first: {missing[0]}), or the "
            f"configuration changed since they were built; run  bml preprocess {cfg.path}"
        )
    for symbol, day in wanted:
        with store.open(symbol, day) as file:
            file.verify()
    return store


def below(cfg: Config, path: Path) -> str:
    """``path`` as a reference keeps it: relative to the store's root, so that a store can be moved."""
    return str(path.relative_to(cfg.store.root))


def _path(cfg: Config, stage: str) -> Path:
    return cfg.store.root / "state" / cfg.name / f"{stage}.json"
