"""Real polled books through the command line: every defect known of them is in the quality report, at its time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.conftest import ROOT
from tests.end_to_end import tiny

pytestmark = pytest.mark.data


def _inspected(market_data: Path, store: Path, name: str) -> dict[str, dict[str, Any]]:
    """Preprocess with the shipped configuration, then what `bml inspect --json` says of each day."""
    env = {"BML_DATA": str(market_data), "BML_STORE": str(store)}
    done = tiny.bml("preprocess", ROOT / "configs" / f"{name}.yaml", "-q", env=env)
    assert done.code == 0, done.err
    days = [json.loads(tiny.bml("inspect", file, "--json").out) for file in sorted((store / "days").rglob("*.h5"))]
    return {day["day"]: day for day in days}


def _times(day: dict[str, Any], flag: str) -> list[tuple[str, str]]:
    """First and last second of each event of one kind."""
    return [(e["start"][11:19], e["stop"][11:19]) for e in day["events"] if e["flag"] == flag]


def test_thin_market_with_gaps_and_crossed_books(market_data: Path, tmp_path: Path) -> None:
    (day,) = _inspected(market_data, tmp_path, "real_fullbook").values()
    counts, gaps = day["counts"], _times(day, "GAP")
    assert (counts["n_snapshots"], counts["n_rows"]) == (1509, 752_582)
    for start, stop in (("11:28:00", "11:43:03"), ("11:43:44", "11:53:15"), ("11:53:37", "11:57:47")):
        assert (start, stop) in gaps
    assert len([e for e in day["events"] if e["flag"] == "GAP" and "for 19." in e["detail"]]) == 2
    # best bid >= best ask in ten snapshots: five above, five equal
    frame = pl.read_parquet(market_data / "fullbook-1sym-10s" / "tall_0950_1430.parquet").filter(level=1)
    touch = frame.pivot("side", index="ts", values="price").sort("ts")
    for flag, wrong in (("CROSSED", touch["bid"] > touch["ask"]), ("LOCKED", touch["bid"] == touch["ask"])):
        expected = touch.filter(wrong)["ts"].dt.strftime("%H:%M:%S").to_list()
        assert [start for start, _ in _times(day, flag)] == expected
        assert len(expected) == counts[f"n_{flag}".lower()] == 5
    assert _times(day, "BROKEN") == [("13:42:09", "13:42:09")]
    assert counts["n_broken"] == 1
    assert counts["n_dropped"] == 10


def test_cached_feed_whose_sequence_goes_back(market_data: Path, tmp_path: Path) -> None:
    days = _inspected(market_data, tmp_path, "real_coinbase")
    total = {key: sum(day["counts"][key] for day in days.values()) for key in days["2020-04-12"]["counts"]}
    assert total["n_snapshots"] == 50_000
    assert total["n_repeat"] == 24_787
    assert total["n_backwards"] == sum(len(_times(day, "BACKWARDS")) for day in days.values()) == 70
    assert total["n_crossed"] == total["n_broken"] == 0
    assert [e for e in days["2020-04-12"]["events"] if e["flag"] == "GAP" and "no snapshot for 16.4" in e["detail"]]
    repeats = [e for e in days["2020-04-12"]["events"] if e["flag"] == "STUCK"]
    assert sum(e["count"] for e in repeats if "repeat" in e["detail"]) == days["2020-04-12"]["counts"]["n_stuck"]
    # one snapshot a second resampled to ten: fresh wherever the feed ran, 00:00 .. 13:47
    assert days["2020-04-12"]["shares"]["fresh"] == pytest.approx(13.79 / 24, abs=0.002)
