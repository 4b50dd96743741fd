"""Why each anchor of a configuration has no window: the reason of every one tried, per target and day."""

from __future__ import annotations

import datetime as dt

import numpy as np

from bml.book.store import DayStore
from bml.config import Config
from bml.dataset.classes import class_scheme
from bml.dataset.rows import reasons
from bml.dataset.samples import book_windows, grid_of, target_codes, window_rule
from bml.dataset.series import read_series
from bml.dataset.windows import REASONS
from bml.types import ConfigError

#: the reason of an anchor that is kept
KEPT = "usable"

#: every name an anchor is counted under, in the order they are told
NAMES = (*REASONS, KEPT)

#: the parameters that make the window rule
_OF_RULE = ("window_h", "stride_s", "horizon_s", "label_horizon_s", "label", "smooth_s", "min_assets", "max_filled",
            "max_stale_s")  # fmt: skip

#: symbol -> day of the anchor -> reason -> anchors
Reasons = dict[str, dict[dt.date, dict[str, int]]]


def by_day(cfg: Config, store: DayStore) -> Reasons:
    """Anchors per target, day and reason (one of ``REASONS``, or ``KEPT``); reasons without an anchor are left out.

    By the window rule of the features stage, before any split: purging is not a reason. Reads the series of all
    days as the dataset does. Raises ConfigError when the features stage is another than
    ``dataset.samples.book_windows``, and as that does.
    """
    if cfg.features.function() is not book_windows:
        raise ConfigError(f"stages.features: {cfg.features.fn} has windows of its own, only those of "
                          "dataset.samples.book_windows can be counted")  # fmt: skip
    params = cfg.features.params
    grid, symbols, scheme = grid_of(cfg), tuple(cfg.data.symbols), class_scheme(params["classes"])
    rule = window_rule(grid, **{name: params[name] for name in _OF_RULE})
    codes = target_codes(symbols, params["targets"] or [cfg.data.reference], scheme)
    rows_N, found = reasons(read_series(store, symbols, grid), codes, scheme, rule)
    day_N = rows_N // grid.rows_per_day
    out: Reasons = {}
    for code, reason_N in zip(codes, found, strict=True):
        table = np.zeros((grid.n_days, len(NAMES)), dtype=np.int64)
        np.add.at(table, (day_N, reason_N), 1)  # -1, kept, is the last
        out[symbols[code]] = {
            grid.day(number): {name: int(count) for name, count in zip(NAMES, row, strict=True) if count}
            for number, row in enumerate(table)
        }
    return out
