"""Labels held against the day files: a return runs from its anchor to its stop, and only a bad row makes it unknown.

Neither shows in a scrambled future. A label that begins before its anchor is known too early, not too late, and one
that is dropped for what came of it is known when it is dropped.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bml.audit.replay import Known
from bml.book.report import iso
from bml.dataset.dataset import Dataset
from bml.dataset.labels import Bools
from bml.dataset.windows import REASONS
from bml.types import NS_PER_S, Float64, Int64

#: relative and absolute difference of two ways to add up a mean
CLOSE = (1e-9, 1e-12)


def returns(dataset: Dataset) -> tuple[int, str]:
    """How many labels were looked at, and which is not the log return from its anchor's mid to its end, "" for none."""
    checked, broken = 0, ""
    for a, symbol in enumerate(dataset.symbols):
        mine = np.flatnonzero(dataset.index.target_N == a)
        if not mine.shape[0]:
            continue
        mid_T, _ = dataset.series(symbol)
        for return_N, stop_N in _labels(dataset):
            known = mine[np.isfinite(return_N[mine])]
            expected_N = _log_returns(mid_T, dataset.row_N[known], stop_N[known], _smooth_rows(dataset))
            wrong = known[~np.isclose(return_N[known], expected_N, *CLOSE)]
            checked += known.shape[0]
            if wrong.shape[0] and not broken:
                at = iso(int(dataset.index.anchor_ns_N[wrong[0]]))
                broken = f"{wrong.shape[0]} of {symbol} do not; first {at}"
    return checked, broken


def unknown(known: Known, max_stale_s: float | None) -> tuple[int, str]:
    """How many anchors were dropped for their label, and which had all rows it is made of, "" for none.

    A row counts as good where it is new, has no flag, and its mid moved: whatever is stale is none of these.
    """
    dataset, checked, broken = known.dataset, 0, ""
    length = dataset.horizon_rows if dataset.outcomes is not None else max(1, _smooth_rows(dataset))
    can_tell = max_stale_s is None or max_stale_s * NS_PER_S >= dataset.grid.cadence_ns
    for symbol, (rows_N, reason_N) in known.reasons.items():
        dropped = rows_N[reason_N == REASONS.index("label_invalid")]
        checked += dropped.shape[0]
        good_T = _good(*dataset.series(symbol)) & can_tell
        count = np.concatenate([[0], np.cumsum(good_T)])
        stop = dropped + dataset.horizon_rows + 1
        wrong = dropped[count[stop] - count[stop - length] == length]
        if wrong.shape[0] and not broken:
            at = iso(int(dataset.grid.time_ns(wrong[0])))
            broken = f"{wrong.shape[0]} of {symbol} have good rows; first {at}"
    return checked, broken


def _smooth_rows(dataset: Dataset) -> int:
    """How many mids a label's end is the mean of; 0: it is one mid."""
    smooth_s: float = dataset.labelling[0]["smooth_s"] if dataset.labelling else 0.0
    return round(smooth_s * NS_PER_S / dataset.grid.cadence_ns)


def _labels(dataset: Dataset) -> list[tuple[Float64, Int64]]:
    """Returns and the rows they end on, of all horizons; of triple barriers only of the one whose touch is kept."""
    row_N = dataset.row_N
    if dataset.outcomes is not None:
        return [(dataset.index.return_N, dataset.grid.row(dataset.outcomes.touch_ns_N))]
    more_H = (dataset.more.horizons_ns_H // dataset.grid.cadence_ns).tolist()
    further = [(dataset.more.return_NH[:, h], row_N + rows) for h, rows in enumerate(more_H)]
    return [(dataset.index.return_N, row_N + dataset.horizon_rows), *further]


def _log_returns(mid_T: Float64, row_N: Int64, stop_N: Int64, smooth: int) -> Float64:
    """NaN where a label leaves the data: who says otherwise is wrong."""
    ends_NS = stop_N[:, None] - np.arange(max(1, smooth))
    inside_N = (ends_NS[:, -1] >= 0) & (stop_N < mid_T.shape[0])
    log_N = np.full(row_N.shape, np.nan)
    log_N[inside_N] = np.log(mid_T[ends_NS[inside_N]].mean(axis=1) / mid_T[row_N[inside_N]])
    return log_N


def _good(mid_T: Float64, flag_T: npt.NDArray[np.uint16]) -> Bools:
    moved_T = np.diff(mid_T, prepend=np.nan) != 0.0
    good_T: Bools = np.isfinite(mid_T) & (mid_T > 0) & (flag_T == 0) & moved_T
    return good_T
