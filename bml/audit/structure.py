"""What no scrambled future shows: blocks that share rows, labels that reach over a border, intervals out of order."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from bml.audit import labels
from bml.audit.replay import Known
from bml.book.report import iso
from bml.dataset.dataset import Dataset
from bml.types import SPLITS, Int64


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """A property of the blocks and intervals of a dataset; ``broken`` says where it does not hold, "" where it does."""

    name: str
    checked: int
    broken: str = ""


def of_blocks(known: Known) -> list[Check]:
    """Those of rows, blocks and intervals. O(N log N)."""
    dataset = known.dataset
    return [
        _disjoint(dataset), _inside(dataset), _apart(dataset), _whole(dataset), _ordered(dataset), _complete(known)
    ]  # fmt: skip


def of_labels(known: Known, max_stale_s: float | None) -> list[Check]:
    """Those of labels beside the day files; ``max_stale_s`` as configured. Reads the mids of the targets. O(N + T)."""
    told = {
        "labels: from the mid of the anchor to that of their end": labels.returns(known.dataset),
        "labels: unknown only for a bad row": labels.unknown(known, max_stale_s),
    }
    return [Check(name=name, checked=checked, broken=broken) for name, (checked, broken) in told.items()]


def _disjoint(dataset: Dataset) -> Check:
    """No row is in two blocks, nor twice in one."""
    rows = [getattr(dataset.fold, name) for name in SPLITS]
    broken = ""
    for a, b in combinations(range(len(SPLITS)), 2):
        shared = np.intersect1d(rows[a], rows[b])
        if shared.shape[0]:
            broken = broken or (
                f"{shared.shape[0]} rows are in both {SPLITS[a]} and {SPLITS[b]}; first {_named(dataset, shared[0])}"
            )
    for name, some in zip(SPLITS, rows, strict=True):
        if np.unique(some).shape[0] != some.shape[0]:
            broken = broken or f"{name} has rows twice"
    return Check(name="rows: each in one block", checked=sum(some.shape[0] for some in rows), broken=broken)


def _inside(dataset: Dataset) -> Check:
    """Every row's anchor lies within the bounds of its block."""
    anchor_ns_N, broken, checked = dataset.index.anchor_ns_N, "", 0
    for name, (start_ns, stop_ns) in zip(SPLITS, dataset.fold.bounds_ns, strict=True):
        rows = getattr(dataset.fold, name)
        out = rows[(anchor_ns_N[rows] < start_ns) | (anchor_ns_N[rows] >= stop_ns)]
        checked += rows.shape[0]
        if out.shape[0]:
            told = f"{out.shape[0]} rows of {name} lie outside of [{iso(start_ns)}, {iso(stop_ns)})"
            broken = broken or f"{told}; first {_named(dataset, out[0])}"
    return Check(name="rows: within the bounds of their block", checked=checked, broken=broken)


def _apart(dataset: Dataset) -> Check:
    """Every label of a block is known, with the embargo on top, before the first anchor of any later block."""
    index, fold, broken, checked = dataset.index, dataset.fold, "", 0
    for a, b in combinations(range(len(SPLITS)), 2):
        before, after = getattr(fold, SPLITS[a]), getattr(fold, SPLITS[b])
        if not (before.shape[0] and after.shape[0]):
            continue
        first_ns = int(index.anchor_ns_N[after].min())
        late = before[index.label_stop_ns_N[before] + fold.embargo_ns > first_ns]
        checked += before.shape[0]
        if late.shape[0]:
            told = f"{late.shape[0]} labels of {SPLITS[a]} reach beyond {iso(first_ns)}, where {SPLITS[b]} begins"
            broken = broken or f"{told}; first {_named(dataset, late[0])}"
    return Check(name="labels: known before later blocks begin", checked=checked, broken=broken)


def _ordered(dataset: Dataset) -> Check:
    """Inputs and contexts begin before the anchor, labels end after it."""
    index = dataset.index
    wrong = np.flatnonzero(
        (index.input_start_ns_N >= index.anchor_ns_N)
        | (index.context_start_ns_N > index.anchor_ns_N)
        | (index.label_stop_ns_N <= index.anchor_ns_N)
    )
    broken = f"{wrong.shape[0]} rows; first {_named(dataset, wrong[0])}" if wrong.shape[0] else ""
    return Check(name="intervals: context, input, anchor, label in order", checked=len(index), broken=broken)


def _complete(known: Known) -> Check:
    """The rows are the anchors no reason drops: none is left out for what came of it."""
    dataset, broken, checked = known.dataset, "", 0
    for a, symbol in enumerate(dataset.symbols):
        if symbol not in known.reasons:
            continue
        rows_N, reason_N = known.reasons[symbol]
        kept_ns_N = dataset.grid.time_ns(rows_N[reason_N < 0])
        odd_ns_N = np.setxor1d(kept_ns_N, dataset.index.anchor_ns_N[dataset.index.target_N == a])
        checked += kept_ns_N.shape[0]
        if odd_ns_N.shape[0]:
            broken = broken or f"{odd_ns_N.shape[0]} of {symbol} are not; first {iso(int(odd_ns_N[0]))}"
    return Check(name="rows: all anchors without a reason to drop them", checked=checked, broken=broken)


def _whole(dataset: Dataset) -> Check:
    """A block has every row of its time whose label is known, with the embargo on top, when it ends."""
    index, fold, checked, broken = dataset.index, dataset.fold, 0, ""
    for name, (start_ns, stop_ns) in zip(SPLITS, fold.bounds_ns, strict=True):
        is_known_N = (index.label_stop_ns_N + fold.embargo_ns <= stop_ns) | (name == SPLITS[-1])
        due = np.flatnonzero((index.anchor_ns_N >= start_ns) & (index.anchor_ns_N < stop_ns) & is_known_N)
        missing = np.setdiff1d(due, getattr(fold, name))
        checked += due.shape[0]
        if missing.shape[0]:
            broken = broken or f"{missing.shape[0]} rows of {name} are; first {_named(dataset, missing[0])}"
    return Check(name="rows: none left out of its block but for its label", checked=checked, broken=broken)


def _named(dataset: Dataset, row: Int64) -> str:
    return f"{dataset.symbols[dataset.index.target_N[row]]} {iso(int(dataset.index.anchor_ns_N[row]))}"
