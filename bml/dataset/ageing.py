"""Slices of time ahead of the end of training: how a model that is not trained again grows old.

Age is measured forward only, from the moment the last label was known that anything was fitted on. A slice of
older days would lie inside what the model learned from, and say nothing about age.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bml.types import NS_PER_DAY, GateError, Int64, SampleIndex


@dataclass(frozen=True, kw_only=True, slots=True)
class AgeSlice:
    """``rows`` with anchors in [start_ns, stop_ns), ``age_days`` (from, to) after the end of training."""

    start_ns: int
    stop_ns: int
    age_days: tuple[float, float]
    rows: Int64


def ageing_slices(index: SampleIndex, learnt: Int64, rows: Int64, *, slice_days: float, n: int) -> tuple[AgeSlice, ...]:
    """``n`` slices [T, T + k), [T + k, T + 2 k), ... of ``rows``, T being the end of the last label of ``learnt``.

    ``learnt`` are the rows of every fit (train, early_stop, calibrate), ``rows`` those to score; rows anchored before
    T are in no slice, so no label of a slice overlaps one that was learnt. Labels may reach from one slice into
    the next. O(N) a slice. Raises ValueError on bad numbers or without ``learnt``, GateError on a slice without rows.
    """
    if not 0 < slice_days < math.inf or n < 1 or learnt.shape[0] == 0:
        raise ValueError(f"ageing_slices: {n} slices of {slice_days:g} days after {learnt.shape[0]} learnt rows")
    end_ns, step_ns = int(index.label_stop_ns_N[learnt].max()), round(slice_days * NS_PER_DAY)
    anchor_ns_N = index.anchor_ns_N[rows]
    out = []
    for k in range(n):
        start_ns, stop_ns = end_ns + k * step_ns, end_ns + (k + 1) * step_ns
        mine: Int64 = rows[np.flatnonzero((anchor_ns_N >= start_ns) & (anchor_ns_N < stop_ns))]
        if mine.shape[0] == 0:
            raise GateError(
                f"ageing: no row {k * slice_days:g} to {(k + 1) * slice_days:g} days after the end of training; take "
                "fewer or longer slices"
            )
        ages = (k * slice_days, (k + 1) * slice_days)
        out.append(AgeSlice(start_ns=start_ns, stop_ns=stop_ns, age_days=ages, rows=mine))
    return tuple(out)
