"""Why each anchor of a configuration has no window: the reason of every one tried, per target and day."""

from __future__ import annotations

import datetime as dt

import numpy as np

from bml.book.store import DayStore
from bml.config import Config
from bml.dataset.samples import book_windows
from bml.dataset.windows import REASONS
from bml.types import NS_PER_DAY, NS_PER_S, ConfigError, EmptyBlock, Int64

#: the reason of an anchor that is kept
KEPT = "usable"

#: every name an anchor is counted under, in the order they are told
NAMES = (*REASONS, KEPT)

#: symbol -> day of the anchor -> reason -> anchors
Reasons = dict[str, dict[dt.date, dict[str, int]]]


def by_day(cfg: Config, store: DayStore) -> Reasons:
    """Anchors per target, day and reason (one of ``REASONS``, or ``KEPT``); reasons without an anchor are left out.

    As the dataset is built, before it is split: purging is not a reason, and a block that would be empty no error.
    Raises ConfigError when the features stage is another than ``dataset.samples.book_windows``, and as that does.
    """
    if cfg.features.function() is not book_windows:
        raise ConfigError(f"stages.features: {cfg.features.fn} has windows of its own, only those of "
                          "dataset.samples.book_windows can be counted")  # fmt: skip
    n_days = (cfg.data.stop - cfg.data.start).days
    rows_per_day = NS_PER_DAY // round(cfg.data.cadence_s * NS_PER_S)
    out: Reasons = {}

    def tell(symbol: str, rows_N: Int64, reason_N: Int64) -> None:
        counts_DR = np.zeros((n_days, len(NAMES)), dtype=np.int64)
        np.add.at(counts_DR, (rows_N // rows_per_day, reason_N), 1)  # -1, kept, is the last
        out[symbol] = {
            cfg.data.start + dt.timedelta(days=d): {name: int(n) for name, n in zip(NAMES, row, strict=True) if n}
            for d, row in enumerate(counts_DR)
        }

    try:
        book_windows(cfg, store, **cfg.features.params, on_reasons=tell)
    except EmptyBlock:
        if not out:
            raise
    return out
