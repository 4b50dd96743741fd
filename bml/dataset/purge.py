"""Which rows must not be trained on, because they know something of the rows a model is scored on.

Every sample has three intervals, (start, stop] unless said otherwise: its label (anchor, label_stop], its input
(input_start, anchor] and its context [context_start, anchor], the start of which is used. Let t be a training row
and e a row of an evaluation block. These overlaps are leaks:

(a) the label of t with the label of e: part of what e is asked for is what t was taught;
(b) the input or the context of t with the label of e: t lies after e and was shown e's outcome. Only a block that
    is trained on later (combinatorial splits, rolling windows) can do that, and the embargo after e that it takes
    is the longest look-back a row really has, not a number someone chose.

This one is none:

(c) the input or the context of e with the label of t, where t lies before e. That is the past, and known.

The three intervals of t are one stretch without a gap, from its earliest look-back to the end of its label, so
(a) and (b) are one question: does that stretch overlap the label of e? An explicit embargo asks for so much time
between the two, on either side. Time is what is observed, ns, never a number of rows: gaps in the data, labels of
different length and several symbols at one anchor change nothing. Symbols are not kept apart, they move together.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bml.types import DataError, Int64, SampleIndex

Bools = npt.NDArray[np.bool_]


def purged(index: SampleIndex, train: Int64, scored: Int64, *, embargo_ns: int = 0) -> Int64:
    """The rows of ``train``, in their order, that know nothing of ``scored`` by (a) and (b) of this module.

    Both are row numbers of ``index`` in any order; every row left out has a row of ``scored`` it overlaps, or comes
    nearer than ``embargo_ns``. O((N + M) log M). Raises ValueError on a negative embargo.
    """
    start_N, stop_N = reach(index, train)
    label_start_M, label_stop_M = labels(index, scored)
    kept: Int64 = train[~touches(start_N, stop_N, label_start_M, label_stop_M, gap_ns=embargo_ns)]
    return kept


def labels(index: SampleIndex, rows: Int64) -> tuple[Int64, Int64]:
    """(start, stop] of the labels of ``rows``, ns, (N,) each."""
    return index.anchor_ns_N[rows], index.label_stop_ns_N[rows]


def reach(index: SampleIndex, rows: Int64) -> tuple[Int64, Int64]:
    """(start, stop] of all that ``rows`` depend on, ns, (N,) each: from the earliest look-back to the label's end."""
    closed_N = index.context_start_ns_N[rows] - 1  # a value dated context_start is used
    return np.minimum(index.input_start_ns_N[rows], closed_N), index.label_stop_ns_N[rows]


def touches(start_N: Int64, stop_N: Int64, start_M: Int64, stop_M: Int64, *, gap_ns: int = 0) -> Bools:
    """(N,) whether (start, stop] overlaps any of the M intervals, or comes nearer to one than ``gap_ns``.

    Intervals in any order and of any length. Raises ValueError where one is empty, or on a negative gap.
    """
    if gap_ns < 0:
        raise ValueError(f"touches: gap_ns must not be negative, got {gap_ns}")
    if not ((stop_N > start_N).all() and (stop_M > start_M).all()):
        raise ValueError("touches: every interval must have stop > start")
    if start_M.shape[0] == 0:
        return np.zeros(start_N.shape[0], dtype=np.bool_)
    order = np.argsort(start_M, kind="stable")
    latest_M = np.maximum.accumulate(stop_M[order])  # an early long interval may outlive later short ones
    begun_N = np.searchsorted(start_M[order], stop_N + gap_ns, side="left")
    alive_N: Bools = latest_M[np.maximum(begun_N, 1) - 1] + gap_ns > start_N
    return alive_N & (begun_N > 0)


def require_apart(index: SampleIndex, fitted: Int64, others: Int64, what: str) -> None:
    """Raise DataError where a label of ``fitted`` overlaps one of ``others``; ``what`` names the two in words.

    For rows that must not be shared by two fits: a calibrator fitted on what stopped the training believes its own
    choice.
    """
    shared = int(np.count_nonzero(touches(*labels(index, fitted), *labels(index, others))))
    if shared:
        raise DataError(f"{what}: {shared} of {fitted.shape[0]} rows have labels that overlap; split the data again")
