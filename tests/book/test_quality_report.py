"""Reports: times as text, runs, sums, JSON and the readable form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bml.book.report import from_json, iso, merged, run_events, runs, to_json, to_text
from bml.types import Event, Flag, QualityReport
from tests.book.book_days import MIDNIGHT, times


@pytest.mark.parametrize(
    ("ts_ns", "text"),
    [
        (MIDNIGHT, "2024-01-15T00:00:00Z"),
        (MIDNIGHT + 500_000_000, "2024-01-15T00:00:00.5Z"),
        (MIDNIGHT + 1, "2024-01-15T00:00:00.000000001Z"),
        (MIDNIGHT - 1_000_000, "2024-01-14T23:59:59.999Z"),
        (0, "1970-01-01T00:00:00Z"),
    ],
)
def test_iso(ts_ns: int, text: str) -> None:
    assert iso(ts_ns) == text


@given(st.lists(st.booleans(), max_size=30))
def test_runs(mask: list[bool]) -> None:
    first, last = runs(np.array(mask, dtype=bool))
    covered = [t for i, j in zip(first.tolist(), last.tolist(), strict=True) for t in range(i, j + 1)]
    assert covered == [t for t, x in enumerate(mask) if x]
    assert all(b - a > 1 for a, b in zip(last[:-1].tolist(), first[1:].tolist(), strict=True))
    events = run_events(Flag.STUCK, np.array(mask, dtype=bool), times(len(mask)))
    assert sum(e.count for e in events) == sum(mask)


REPORT = QualityReport(
    symbol="BTCUSDT",
    counts={"n_rows": 3, "n_gap_raw": 1},
    events=(
        Event(flag=Flag.GAP, start_ns=MIDNIGHT, stop_ns=MIDNIGHT + 90_000_000_000, count=8, detail="no snapshot"),
        Event(flag=Flag.CROSSED | Flag.STUCK, start_ns=5, stop_ns=5, count=1),
    ),
)


def test_json_round_trip() -> None:
    assert from_json(to_json(REPORT)) == REPORT
    assert to_json(from_json(to_json(REPORT))) == to_json(REPORT)
    assert "\n" not in to_json(REPORT)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"symbol":"x","counts":{},"events":[[1]]}', '{"events":[["NO",1,1,1,""]]}']
)
def test_json_that_is_no_report(text: str) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        from_json(text)


def test_merging_adds_counts_and_sorts_events() -> None:
    early = Event(flag=Flag.ABSENT, start_ns=1, stop_ns=2, count=1)
    both = merged(REPORT, {"n_rows": 4, "n_new": 0}, [early])
    assert both.counts == {"n_rows": 7, "n_gap_raw": 1, "n_new": 0}
    assert [e.start_ns for e in both.events] == [1, 5, MIDNIGHT]
    assert REPORT.counts["n_rows"] == 3


def test_text_is_for_people() -> None:
    many = merged(REPORT, {}, [Event(flag=Flag.GAP, start_ns=t, stop_ns=t, count=1) for t in range(30)])
    text = to_text(many, per_flag=5)
    assert "n_rows" in text
    assert "GAP: 31 events" in text
    assert "... and 26 more" in text
    assert "2024-01-15T00:00:00Z .. 2024-01-15T00:01:30Z  x8  no snapshot" in to_text(REPORT)
