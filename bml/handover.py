"""What one stage leaves for the next: a reference in ``state/{name}/{stage}.json`` below the store's root.

The reference is checked before it is used: the day files must be those of exactly the parameters now configured.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from bml import learned
from bml.book.days import days_between, store_digest
from bml.book.publish import publish
from bml.book.records import failed, is_settled
from bml.book.rolling import kept
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


def day_store(cfg: Config, *, verify: bool = True) -> DayStore:
    """The day files the configuration speaks of, provided they were built with exactly these parameters.

    Every byte of them is checked against its checksum, unless ``verify`` is off. Raises ConfigError (missing, built
    otherwise) or StoreError (damaged). Cost of verifying: one read of all files, about as fast as the disk.
    """
    if not cfg.features.written:
        raise ConfigError(
            f"{cfg.path}: stages.features is missing, so the depth plan was learned from all days: write it (features: "
            "{} takes the defaults) and run  bml preprocess  again"
        )
    load(cfg, "preprocess")
    store = DayStore(cfg.store.root, store_digest(cfg, learned.load(cfg)))
    wanted = [(symbol, day) for symbol in cfg.data.symbols for day in days_between(cfg.data.start, cfg.data.stop)]
    missing = [one for one in wanted if not store.has(*one) or _has_failed(store, *one)]
    if missing:
        _explain_missing(cfg, store, missing, len(wanted))
    for symbol, day in wanted if verify else ():
        with store.open(symbol, day) as file:
            file.verify()
    return store


def _has_failed(store: DayStore, symbol: str, day: dt.date) -> bool:
    """Whether the day's last build failed: with --force its file may still be there, of rows that were."""
    return failed(store, symbol, day) is not None and not is_settled(store, symbol, day)


def _explain_missing(cfg: Config, store: DayStore, missing: list[tuple[str, dt.date]], n_wanted: int) -> NoReturn:
    """Say in one line why day files are not there, by what the ledgers know of the first of each kind."""
    removed = [one for one in missing if not _has_failed(store, *one) and kept(store, *one) is not None]
    if removed:
        symbol, day = removed[0]
        raise ConfigError(
            f"this stage needs the tensors of {len(removed)} days that store.keep: rolling removed (first: {symbol} "
            f"{day}): set keep: all, without max_gb, and run  bml preprocess {cfg.path}"
        )
    failures = [record for one in missing if (record := failed(store, *one)) is not None]
    if failures:
        first = failures[0]
        raise ConfigError(
            f"{len(failures)} of {n_wanted} days failed in preprocessing (first: {first.symbol} {first.day}: "
            f"{first.reason}); repair that and run  bml preprocess {cfg.path} --retry-failed"
        )
    named = " ".join(map(str, missing[0]))
    raise ConfigError(
        f"{len(missing)} of {n_wanted} day files are missing or damaged (first: {named}), or the "
        f"configuration changed since they were built; run  bml preprocess {cfg.path}"
    )


def below(cfg: Config, path: Path) -> str:
    """``path`` as a reference keeps it: relative to the store's root, so that a store can be moved."""
    return str(path.relative_to(cfg.store.root))


def _path(cfg: Config, stage: str) -> Path:
    return cfg.store.root / "state" / cfg.name / f"{stage}.json"
