"""Rows whose labels do not overlap: fewer samples, each of which is one."""

from __future__ import annotations

import numpy as np

from bml.types import Int64, SampleIndex


def stride_by_horizon(index: SampleIndex, rows: Int64, *, offset_ns: int = 0) -> Int64:
    """The part of ``rows``, in their order, of which no two labels of one target share a moment.

    Per target, from the first anchor that is ``offset_ns`` or more after the first of all rows: each next row is the
    first whose anchor is not before the end of the last label taken, so none could be put between two. Labels of
    different targets may overlap. Deterministic; looks at nothing but ``rows``. O(R log R).
    Raises ValueError for a negative offset or an empty label.
    """
    if offset_ns < 0:
        raise ValueError(f"stride_by_horizon: offset_ns must not be negative, got {offset_ns}")
    if not (index.label_stop_ns_N[rows] > index.anchor_ns_N[rows]).all():
        raise ValueError("stride_by_horizon: every label must end after its anchor")
    if rows.shape[0] == 0:
        return rows
    begin = int(index.anchor_ns_N[rows].min()) + offset_ns
    taken = [
        _apart(index, np.flatnonzero(index.target_N[rows] == code), rows, begin)
        for code in np.unique(index.target_N[rows])
    ]
    return rows[np.sort(np.concatenate(taken))]


def seeded_offset_ns(index: SampleIndex, rows: Int64, seed: int) -> int:
    """An offset for :func:`stride_by_horizon` below the longest label of ``rows``, drawn from ``seed``.

    Never beyond the last anchor of a target: where rows span less than a label, each target still has one taken.
    """
    if rows.shape[0] == 0:
        return 0
    anchor_ns_R, code_R = index.anchor_ns_N[rows], index.target_N[rows]
    longest = int((index.label_stop_ns_N[rows] - anchor_ns_R).max())
    span = min(int(anchor_ns_R[code_R == code].max()) for code in np.unique(code_R)) - int(anchor_ns_R.min())
    return int(np.random.default_rng(seed).integers(min(longest, span + 1)))


def _apart(index: SampleIndex, places: Int64, rows: Int64, begin: int) -> Int64:
    """Those of ``places`` in ``rows``, all of one target, that are taken."""
    places = places[np.argsort(index.anchor_ns_N[rows[places]], kind="stable")]
    anchor_ns = index.anchor_ns_N[rows[places]]
    following = np.searchsorted(anchor_ns, index.label_stop_ns_N[rows[places]]).tolist()
    at, taken = int(np.searchsorted(anchor_ns, begin)), []
    while at < len(following):
        taken.append(at)
        at = following[at]
    return places[np.array(taken, dtype=np.int64)]
