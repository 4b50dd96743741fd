"""The rows a report is about, and those its calibrator is fitted on.

The test block is scored when it is opened, with the calibrator fitted on the calibrate block. While it is sealed,
the calibrate block does for both: the calibrator is fitted on its first half in time, purged, and the second half
is scored. Then nothing of the report comes from a row of the test block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bml.dataset.purge import require_apart
from bml.dataset.splits import halves
from bml.dataset.weights import uniqueness
from bml.types import DataError, Float64, Int64

if TYPE_CHECKING:
    from bml.dataset.dataset import Dataset

Block = Literal["test", "development"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """``rows`` are scored, each worth ``unique_R`` labels that do not overlap; a calibrator is fitted on ``held``."""

    block: Block
    rows: Int64
    held: Int64
    unique_R: Float64


def choose(dataset: Dataset, *, open_test: bool) -> Scored:
    """The rows to score and to calibrate on. Raises DataError where there are none, or two fits share labels."""
    fold = dataset.fold
    if open_test:
        block: Block = "test"
        held, rows = fold.calibrate, fold.test
    else:
        block = "development"
        held, rows = halves(dataset.index, fold.calibrate, fold.bounds_ns[2], embargo_ns=fold.embargo_ns)
    if rows.shape[0] == 0:
        name = "test block" if open_test else "second half of the calibrate block"
        raise DataError(f"evaluate: the {name} has no samples: widen it or the data's span")
    _require_apart(dataset, held, rows)
    return Scored(block=block, rows=rows, held=held, unique_R=uniqueness(dataset.index, rows))


def _require_apart(dataset: Dataset, held: Int64, rows: Int64) -> None:
    """No label that was learnt, stopped on, calibrated on or scored may overlap one of another of these."""
    learnt = {"training": dataset.fold.train, "early stopping": dataset.fold.early_stop}
    for name, others in learnt.items():
        require_apart(dataset.index, held, others, f"evaluate: rows of calibration and {name}")
        require_apart(dataset.index, rows, others, f"evaluate: rows that are scored and rows of {name}")
    require_apart(dataset.index, rows, held, "evaluate: rows that are scored and rows of calibration")
