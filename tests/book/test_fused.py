"""The fused way from rows to a day is the way step by step: the same bytes, the same words, less time and memory."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bml import config
from bml.book import fused
from bml.book.days import DayBuilder
from bml.host import kernel_threads
from bml.kernels import _backend
from bml.types import AlignedDay, Flag
from tests.book.book_days import DAY, rows_of, times, walk
from tests.book.fused_days import Given, GivenPlaced, Settings, built, messy_rows, parts, same

ROOT = Path(__file__).resolve().parents[2]
FEATURES = "book.features.window"
RULES = st.sampled_from(["keep", "drop"])

rows_kinds = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10_000),
        "n": st.sampled_from([0, 1, 9, 150, 400]),
        "levels": st.integers(2, 8),
        "sided": st.booleans(),
        "shuffle": st.booleans(),
        "batches": st.booleans(),
        "copies": st.sampled_from([0.0, 0.05]),
        "broken": st.booleans(),
        "price_keyed": st.booleans(),
    }
)
settings_kinds = st.builds(
    Settings,
    data_object=st.fixed_dictionaries(
        {
            "levels": st.integers(1, 8),
            "bad_rows": st.sampled_from(["drop", "drop", "error"]),
            "duplicates": st.sampled_from(["first", "last", "last", "error"]),
            "monotonic_time": st.sampled_from([False, False, True]),
        }
    ),
    check=st.none()
    | st.fixed_dictionaries(
        {
            "crossed": st.sampled_from(["drop", "drop", "keep", "error"]),
            "locked": RULES,
            "max_jump_bps": st.sampled_from([None, 10.0]),
            "stuck_after_s": st.sampled_from([1.0, 600.0]),
        }
    ),
    to_grid=st.fixed_dictionaries({"max_gap_s": st.sampled_from([300, 1200])}),
    adaptive=st.fixed_dictionaries(
        {
            "edges": st.sampled_from([[0, 1], [0, 1, 2, 3, 6], [1, 4, 5, 20], [0, 2, 40, 50], [7, 9]]),
            "dtype": st.sampled_from(["float32", "float16"]),
        }
    ),
    cadence_s=st.sampled_from([300, 600, 3600]),
    phase_ms=st.sampled_from([0, 500]),
)


@settings(max_examples=150)
@given(rows_kinds, settings_kinds)
def test_any_day_is_the_same_both_ways(kind: dict[str, Any], chosen: Settings) -> None:
    if chosen.data_object["levels"] <= chosen.adaptive["edges"][0]:
        chosen.adaptive["edges"] = [0, 1]
    with tempfile.TemporaryDirectory() as folder:
        same(chosen.load(Path(folder)), Given(messy_rows(**kind)), Path(folder))


@settings(max_examples=75)
@given(rows_kinds, settings_kinds)
def test_any_day_is_the_same_of_rows_that_the_source_placed(kind: dict[str, Any], chosen: Settings) -> None:
    if chosen.data_object["levels"] <= chosen.adaptive["edges"][0]:
        chosen.adaptive["edges"] = [0, 1]
    if chosen.data_object["duplicates"] == "error":
        chosen.data_object["duplicates"] = "last"  # else the source refuses, in its own words
    rows = replace(messy_rows(**kind | {"price_keyed": False}), ordered=False, sequence_N=None, superseded_ns_N=None)
    with tempfile.TemporaryDirectory() as folder:
        cfg = chosen.load(Path(folder))
        of_book = same(cfg, GivenPlaced(rows), Path(folder))
        of_rows = built(cfg, Given(rows), fused=False)
        if isinstance(of_book, tuple) or isinstance(of_rows, tuple):
            assert of_book == of_rows
        else:
            assert parts(of_book) == parts(of_rows)


def test_the_days_compared_have_every_defect(tmp_path: Path) -> None:
    """Else the comparison above would say little: this one day is not refused and shows all there is."""
    chosen = Settings(
        data_object={"levels": 6, "bad_rows": "drop", "duplicates": "last", "monotonic_time": False},
        check={"crossed": "drop", "locked": "keep", "max_jump_bps": 10.0},
    )
    rows = messy_rows(
        2005, n=400, levels=7, sided=True, shuffle=True, broken=True, batches=True, copies=0.05, price_keyed=True
    )
    rows = replace(rows, ordered=True)
    day = same(chosen.load(tmp_path), Given(rows), tmp_path)
    assert isinstance(day, AlignedDay)
    counts = day.quality.counts
    missing = {name for name, count in counts.items() if count == 0}
    assert missing <= {"n_late", "n_repeat", "n_conflict", "n_superseded"}
    assert {event.flag for event in day.quality.events} >= set(Flag) - {Flag.FILLED}
    assert any("is not behind" in event.detail for event in day.quality.events)


def test_rows_of_32_bit_prices(tmp_path: Path) -> None:
    chosen = Settings(data_object={"levels": 6, "bad_rows": "drop", "duplicates": "last"})
    kind: dict[str, Any] = {"n": 200, "levels": 6, "sided": True, "shuffle": False, "broken": True, "batches": False}
    rows = replace(messy_rows(8, copies=0.02, dtype=np.float32, **kind), ordered=False)
    assert isinstance(same(chosen.load(tmp_path), Given(rows), tmp_path), AlignedDay)


def test_refusals_read_the_same(tmp_path: Path) -> None:
    rows, cfg = rows_of(times(144), walk(144)), Settings().load(tmp_path)
    for wrong, words in (
        ({"level_N": np.where(np.arange(rows.n_rows) == 7, 0, rows.level_N).astype(np.int32)}, "level"),
        ({"ts_ns_N": rows.ts_ns_N + 10**15}, "outside the range"),
        ({"columns": (*rows.columns[:3], -rows.columns[3])}, "negative ask quantity"),
        ({"columns": (rows.columns[2], rows.columns[1], rows.columns[0], rows.columns[3])}, "would be dropped"),
        ({"ts_ns_N": rows.ts_ns_N[::-1].copy(), "ordered": True}, "time goes back"),
    ):
        told = same(cfg, Given(replace(rows, **wrong)), tmp_path)
        assert isinstance(told, tuple)
        assert words in told[1]
    learned = Settings(adaptive={}).load(tmp_path)
    told = same(learned, Given(rows), tmp_path)
    assert isinstance(told, tuple)
    assert "no depth plan" in told[1]


def test_days_of_one_builder_are_apart(tmp_path: Path) -> None:
    """Its buffers are used again: a day must not change with the next one."""
    cfg = Settings().load(tmp_path)
    source = Given(rows_of(times(144), walk(144)))
    builder = DayBuilder(cfg, source)
    first = builder.build("BTCUSDT", DAY)
    before = parts(first)
    source._rows = rows_of(times(130), walk(130, seed=5))
    second = builder.build("BTCUSDT", DAY)
    assert parts(first) == before
    assert parts(second) == parts(DayBuilder(cfg, source, step_by_step=True).build("BTCUSDT", DAY))


def test_threads_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg, source = Settings().load(tmp_path), Given(rows_of(times(144), walk(144)))
    days = []
    for threads in ("1", "3", None):
        if threads:
            monkeypatch.setenv("BML_NUM_THREADS", threads)
            assert kernel_threads() is None  # the kernels read it themselves
        else:
            monkeypatch.delenv("BML_NUM_THREADS")
            assert kernel_threads() == len(os.sched_getaffinity(0))
        days.append(parts(DayBuilder(cfg, source).build("BTCUSDT", DAY)))
    assert days[0] == days[1] == days[2]


def recognised(chosen: Settings, folder: Path) -> bool:
    return DayBuilder(chosen.load(folder), Given(rows_of(times(1), walk(1))))._fused is not None


def test_what_is_recognised(tmp_path: Path) -> None:
    jump = {"max_jump_bps": 10.0}
    assert recognised(Settings(), tmp_path)
    assert recognised(Settings(check=None), tmp_path)
    assert recognised(Settings(check={**jump, "outliers": "keep"}), tmp_path)
    assert not recognised(Settings(check={**jump, "outliers": "drop"}), tmp_path)
    assert not recognised(Settings(twice=True), tmp_path)


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "configs").glob("*.yaml")))
def test_configurations_without_features_take_the_fused_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No silent loss: a change of a step or of a configuration that leaves the fused way fails here.

    Features look at the raw levels of the grid, which the fused way does not make.
    """
    for variable in ("BML_DATA", "BML_DSN"):
        monkeypatch.setenv(variable, "/nowhere")
    cfg = config.load(ROOT / "configs" / name)
    steps = [(call.function(), call.params) for call in cfg.preprocess]
    found = fused.recognise((cfg.data_object.function(), cfg.data_object.params), steps)
    if any(call.fn == FEATURES for call in cfg.preprocess):
        assert found is None
    else:
        assert found is not None
        assert found.n_steps == 3


def test_a_day_of_the_demo_takes_the_fused_way(tmp_path: Path) -> None:
    cfg = config.load(ROOT / "configs" / "demo.yaml")
    with cfg.collect.function()(data=cfg.data, **cfg.collect.params) as source:
        learned = DayBuilder(cfg, source).learn(cfg.data.symbols[:1], [cfg.data.start])
        assert isinstance(same(cfg, source, tmp_path, day=cfg.data.start, learned=learned), AlignedDay)


PEAK = """
import re, sys
from pathlib import Path
from bml.book.days import DayBuilder
from tests.book.book_days import DAY, rows_of, times, walk
from tests.book.fused_days import Given, Settings

chosen = Settings(data_object={"levels": 500}, to_grid={"max_gap_s": 60}, adaptive={"edges": [*range(20), 100, 500]},
                  cadence_s=60)
rows = rows_of(times(1440, 60.0), walk(1440, levels=500))
builder = DayBuilder(chosen.load(Path(sys.argv[1])), Given(rows), step_by_step=sys.argv[2] == "steps")

def memory(what):
    return int(re.search(what + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
before = memory("VmRSS")
builder.build("BTCUSDT", DAY)
print(memory("VmHWM") - before)
"""


@pytest.mark.skipif(_backend.current() != "compiled", reason="the specification makes whole books")
def test_peak_memory_is_far_below(tmp_path: Path) -> None:
    """A book of 1440 x 500 x 4 is 22 MiB: step by step takes several of them, the fused way none."""

    def peak_mib(way: str) -> float:
        told = subprocess.run(
            [sys.executable, "-c", PEAK, str(tmp_path), way], capture_output=True, text=True, check=True, cwd=ROOT
        )
        return int(told.stdout) / 1024

    assert peak_mib("steps") > 44
    assert peak_mib("fused") < 22


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "symbol", "days"),
    [
        ("real_fullbook", "THIN", ["2021-12-17"]),
        ("real_coinbase", "BTC-USD", ["2020-04-11", "2020-04-12"]),
        ("real_depth_bins", "LTCUSDT", ["2025-07-05", "2025-08-01", "2025-12-31"]),
    ],
)
def test_real_books_are_the_same_both_ways(
    name: str, symbol: str, days: list[str], market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BML_DATA", str(market_data))
    cfg = config.load(ROOT / "configs" / f"{name}.yaml")
    cfg = cfg.model_copy(update={"preprocess": tuple(call for call in cfg.preprocess if call.fn != FEATURES)})
    with cfg.collect.function()(**cfg.collect.params) as source:
        every = [dt.date.fromisoformat(day) for day in days]
        learned = DayBuilder(cfg, source).learn([symbol], every)
        for day in every:
            found = same(cfg, source, tmp_path, symbol=symbol, day=day, learned=learned)
            assert isinstance(found, AlignedDay)
            assert found.quality.counts["n_snapshots"] > 0
