"""When each thing a dataset holds is known: the one table the audit compares by.

A thing dated at or before t must be the same in every world that is real up to t. What is not listed here is refused,
not skipped: who adds a field to the dataset, to a batch, or a reason to drop a window says here when it is known.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

import numpy as np

from bml.types import SPLITS, DataError


class When(enum.StrEnum):
    """The moment from which a thing is known."""

    CONFIGURATION = "configuration"  # from the configuration and what was learned: before any row
    ANCHOR = "anchor"  # per row: its anchor
    LABEL = "label stop"  # per row: the end of its label
    DAY = "day end"  # per day: its last moment
    TRAINING = "end of train"  # the end of the training block
    EARLY_STOP = "end of early_stop"
    CALIBRATE = "end of calibrate"
    BLOCK = "end of its block"  # a mapping of block to value
    ROWS = "rows of a block"  # which rows a block has: each row's place is known at the end of its label
    DATA = "end of data"
    PLACE = "nothing: a place"  # where things lie, not what they are: never compared


#: fields of bml.dataset.dataset.Dataset, those of its parts as "part.field"
DATASET = {
    "symbols": When.CONFIGURATION,
    "targets": When.CONFIGURATION,
    "reference": When.CONFIGURATION,
    "grid.first": When.CONFIGURATION,
    "grid.n_days": When.CONFIGURATION,
    "grid.cadence_ns": When.CONFIGURATION,
    "grid.phase_ns": When.CONFIGURATION,
    "window_rows": When.CONFIGURATION,
    "horizon_rows": When.CONFIGURATION,
    "context_days": When.CONFIGURATION,
    "levels": When.CONFIGURATION,
    "index.anchor_ns_N": When.ANCHOR,
    "index.target_N": When.ANCHOR,
    "index.input_start_ns_N": When.ANCHOR,
    "index.context_start_ns_N": When.ANCHOR,
    "index.label_stop_ns_N": When.LABEL,
    "index.return_N": When.LABEL,
    "index.sigma_N": When.ANCHOR,
    "index.edges_NE": When.ANCHOR,
    "index.y_N": When.LABEL,
    "fold.train": When.ROWS,
    "fold.early_stop": When.ROWS,
    "fold.calibrate": When.ROWS,
    "fold.test": When.ROWS,
    "fold.bounds_ns": When.CONFIGURATION,
    "fold.embargo_ns": When.CONFIGURATION,
    "fold.n_purged": When.DATA,
    "class_names": When.TRAINING,
    "scaler.mean_ALF": When.TRAINING,
    "scaler.std_ALF": When.TRAINING,
    "scaler.mean_AS": When.TRAINING,
    "scaler.std_AS": When.TRAINING,
    "scaler.mean_AK": When.TRAINING,
    "scaler.std_AK": When.TRAINING,
    "calendar.start_ns": When.CONFIGURATION,
    "calendar.span_ns": When.CONFIGURATION,
    "calendar.log_sigma_mean": When.TRAINING,
    "calendar.log_sigma_std": When.TRAINING,
    "calendar.log_volatility_mean": When.TRAINING,
    "calendar.log_volatility_std": When.TRAINING,
    "calendar.held": When.TRAINING,
    "x_time_NK": When.ANCHOR,
    "time_names": When.CONFIGURATION,
    "present_NA": When.ANCHOR,
    "moments_DAS": When.DAY,
    "moments_present_DA": When.DAY,
    "moment_names": When.CONFIGURATION,
    "vol_N": When.ANCHOR,
    "last_y_N": When.ANCHOR,
    "regime_N": When.ANCHOR,
    "regime_names": When.CONFIGURATION,
    "regime_model": When.TRAINING,
    "lookbacks": When.CONFIGURATION,
    "more.horizons_ns_H": When.CONFIGURATION,
    "more.return_NH": When.LABEL,
    "more.sigma_NH": When.ANCHOR,
    "more.y_NH": When.LABEL,
    "outcomes.touch_ns_N": When.LABEL,
    "outcomes.run_up_N": When.LABEL,
    "outcomes.draw_down_N": When.LABEL,
    "labelling": When.TRAINING,
    "drop_reasons": When.DATA,
    "class_shares": When.BLOCK,
    "n_eff": When.BLOCK,
    "notes": When.DATA,
    "store_digest": When.CONFIGURATION,
    "store": When.PLACE,
    "feature_names": When.CONFIGURATION,
}

#: fields of bml.dataset.loader.Batch
BATCH = {
    "x_short_BATLF": When.ANCHOR,
    "x_feature_BATK": When.ANCHOR,
    "present_BA": When.ANCHOR,
    "x_long_BDAS": When.ANCHOR,
    "long_present_BDA": When.ANCHOR,
    "x_time_BK": When.ANCHOR,
    "y_B": When.LABEL,
    "w_B": When.TRAINING,
    "row_B": When.PLACE,
}

#: reasons to drop an anchor (bml.dataset.windows.REASONS)
REASONS = {
    "history_short": When.ANCHOR,
    "label_after_data": When.CONFIGURATION,
    "target_gap": When.ANCHOR,
    "target_filled": When.ANCHOR,
    "few_assets": When.ANCHOR,
    "anchor_invalid": When.ANCHOR,
    "label_invalid": When.LABEL,
    "sigma_unknown": When.ANCHOR,
}

#: which block's end is the date
_ENDS = {When.TRAINING: 0, When.EARLY_STOP: 1, When.CALIBRATE: 2, When.DATA: 3}


def end_ns(when: When, bounds_ns: Any) -> int:
    """The date of a thing of the whole dataset; :attr:`When.CONFIGURATION` is older than any row."""
    return -(2**63) if when is When.CONFIGURATION else int(bounds_ns[_ENDS[when]][1])


def is_single(when: When) -> bool:
    """Whether one date holds for the whole thing."""
    return when is When.CONFIGURATION or when in _ENDS


def block_end_ns(name: str, bounds_ns: Any) -> int:
    """The end of a block by its name."""
    return int(bounds_ns[SPLITS.index(name)][1])


def dated(thing: Any, table: Mapping[str, When], what: str) -> dict[str, tuple[When, Any]]:
    """Every field of a dataclass with its date and value, parts taken apart; names as in ``table``. A part that is None
    is left out.

    Raises DataError for a field ``table`` does not list.
    """
    out: dict[str, tuple[When, Any]] = {}
    for field in dataclasses.fields(thing):
        value = getattr(thing, field.name)
        if value is None and any(name.startswith(f"{field.name}.") for name in table):
            continue
        is_part = field.name not in table and dataclasses.is_dataclass(value)
        parts = {f"{field.name}.{f.name}": getattr(value, f.name) for f in dataclasses.fields(value)} \
            if is_part else {field.name: value}  # fmt: skip
        for name, part in parts.items():
            if name not in table:
                raise DataError(f"{what}.{name}: nobody says when it is known; date it in bml/audit/dating.py")
            out[name] = (table[name], part)
    return out


def label_reasons(names: tuple[str, ...]) -> np.ndarray:
    """(reasons,) whether each of them is known only with the label. Raises DataError for one without a date."""
    missing = [name for name in names if name not in REASONS]
    if missing:
        told = f"the reason {missing[0]!r} to drop a window: nobody says when it is known"
        raise DataError(f"{told}; date it in bml/audit/dating.py")
    return np.array([REASONS[name] is When.LABEL for name in names], dtype=np.bool_)
