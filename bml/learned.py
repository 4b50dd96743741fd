"""What preprocessing steps learn before any day is written, such as the depth plan: from the training span alone.

The answer is kept in ``learned/{key}.json`` below the store's root. The key covers everything the answer depends
on, so another split, range or source asks again.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from bml.book.days import DayBuilder, Learned, days_between, spread, stages_of_days
from bml.book.publish import publish
from bml.config import Config, digest
from bml.registry import learner, reads
from bml.sources.base import Source
from bml.types import ConfigError


def train_days(cfg: Config) -> list[dt.date]:
    """The days steps may learn from: those of the training span, or all when nothing is to be trained."""
    if not cfg.features.written:
        return days_between(cfg.data.start, cfg.data.stop)
    from bml.dataset.splits import train_span

    start, stop = train_span(cfg.data.start, cfg.data.stop, cfg.features.params.get("split"))
    return days_between(start, stop)


def place(cfg: Config) -> str:
    """The file of the configuration's answer, relative to the store's root."""
    data = cfg.document["data"]
    fields = ("cadence_s", "phase_ms", "symbols", *reads(cfg.collect.function()))
    key = digest(
        stages_of_days(cfg),
        {name: data[name] for name in fields},
        [str(day) for day in spread(train_days(cfg))],
    )
    return f"learned/{key[:16]}.json"


def load(cfg: Config) -> Learned:
    """The answer as it was learned. Raises ConfigError when it never was, for just this configuration."""
    found = _read(cfg)
    if found is None:
        raise ConfigError(
            f"{cfg.store.root}: holds no day files of this configuration, or its data, split or preprocessing changed "
            f"since; run  bml preprocess {cfg.path}"
        )
    return found


def known(cfg: Config) -> Learned | None:
    """The answer, if it is there or there is nothing to learn; None when a run has to learn it first."""
    found = _read(cfg)
    has_learner = any(learner(call.function()) is not None for call in cfg.preprocess)
    return {} if found is None and not has_learner else found


def learn(cfg: Config, source: Source, *, again: bool = False) -> Learned:
    """The answer, learned now unless it is there already; ``again`` learns it anew."""
    found = None if again else _read(cfg)
    if found is None:
        found = DayBuilder(cfg, source).learn(cfg.data.symbols, spread(train_days(cfg)))
        publish(cfg.store.root / place(cfg), json.dumps(found, indent=1, sort_keys=True).encode())
    return found


def _read(cfg: Config) -> Learned | None:
    """None when it is not there, or not whole: it can be learned again."""
    try:
        found: Any = json.loads((cfg.store.root / place(cfg)).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found if isinstance(found, dict) else None
