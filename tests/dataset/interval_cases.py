"""Samples with irregular gaps and intervals of every length, and an oracle that compares them pair by pair.

The oracle shares no code and no formula with bml: it asks of two sets of moments whether they meet.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from bml.types import SampleIndex

Pairs = list[tuple[int, int]]


def index_of(
    anchor: Any, label_stop: Any, *, input_start: Any = None, context_start: Any = None, target: Any = None
) -> SampleIndex:
    """An index of these intervals; inputs reach 50 back and contexts 90 unless given."""
    anchor = np.asarray(anchor, dtype=np.int64)
    n = anchor.shape[0]
    return SampleIndex(
        anchor_ns_N=anchor,
        target_N=np.zeros(n, np.int32) if target is None else np.asarray(target, np.int32),
        input_start_ns_N=anchor - 50 if input_start is None else np.asarray(input_start, np.int64),
        context_start_ns_N=anchor - 90 if context_start is None else np.asarray(context_start, np.int64),
        label_stop_ns_N=np.asarray(label_stop, dtype=np.int64),
        return_N=np.zeros(n),
        sigma_N=np.zeros(n),
        edges_NE=np.zeros((n, 1)),
        y_N=np.zeros(n, np.int64),
    )


@st.composite
def indices(draw: st.DrawFn, *, max_size: int = 24) -> SampleIndex:
    """Two symbols, anchors at irregular steps (0: both at once; some gaps are long), every interval its own length."""
    step = st.one_of(st.integers(0, 9), st.integers(0, 9), st.sampled_from([40, 150]))
    steps = draw(st.lists(step, min_size=1, max_size=max_size))
    n = len(steps)

    def lengths(low: int, high: int) -> np.ndarray:
        return np.array(draw(st.lists(st.integers(low, high), min_size=n, max_size=n)))

    anchor = np.cumsum(steps)
    longest = draw(st.sampled_from([(12, 20, 40), (60, 10, 0), (5, 90, 20), (30, 30, 200)]))
    return index_of(
        anchor,
        anchor + lengths(1, longest[0]),
        input_start=anchor - lengths(1, longest[1] + 1),
        context_start=anchor - lengths(0, longest[2]),
        target=[k % 2 for k in range(n)],
    )


def moments(start: int, stop: int) -> set[int]:
    """What lies in (start, stop]."""
    return set(range(start + 1, stop + 1))


def knows(index: SampleIndex, t: int, e: int, embargo: int) -> bool:
    """Whether training row ``t`` knows part of the label of row ``e``, by sets of moments.

    With an embargo, whether it would if every interval of ``t`` were longer by it at both ends.
    """
    a, label = int(index.anchor_ns_N[t]), int(index.label_stop_ns_N[t])
    asked = moments(int(index.anchor_ns_N[e]), int(index.label_stop_ns_N[e]))
    taught = moments(a - embargo, label + embargo)
    shown = moments(int(index.input_start_ns_N[t]) - embargo, a + embargo)
    context = set(range(int(index.context_start_ns_N[t]) - embargo, a + embargo + 1))  # closed: its start is used
    # a context without a moment after its start is that of an anchor at midnight: of no days
    context = context if index.context_start_ns_N[t] < a else set()
    return not asked.isdisjoint(taught | shown | context)


def witnesses(index: SampleIndex, train: Any, scored: Any, embargo: int) -> dict[int, Pairs]:
    """Every training row that knows something, with the pairs that show it. O(N M)."""
    found: dict[int, Pairs] = {}
    for t in train:
        pairs = [(int(t), int(e)) for e in scored if knows(index, int(t), int(e), embargo)]
        if pairs:
            found[int(t)] = pairs
    return found
