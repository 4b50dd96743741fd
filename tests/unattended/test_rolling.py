"""A rolling store: stays below its limit, keeps diagnostics and moments, builds again what somebody needs."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bml.book.rolling import daily_moments, evict, is_diagnostic, kept, reading
from bml.book.store import DayStore, open_file
from bml.types import StoreError
from tests.end_to_end import tiny
from tests.unattended import fed_market as fed

N_DAYS = 6
N_FILES = N_DAYS * len(fed.SYMBOLS)


def _config(folder: Path, *, steps: list[dict[str, Any]] | None = None, **store: Any) -> Path:
    tree = fed.document(N_DAYS, cadence_s=300.0, levels=4, **store)
    tree["stages"]["collect"] = {"fn": "sources.synthetic.depth_rows", "with": {"seed": 5, "levels": 4}}
    tree["stages"]["preprocess"] = steps or fed.STEPS
    return tiny.write_config(folder / "c.yaml", tree)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that keeps everything."""
    folder = tmp_path_factory.mktemp("whole")
    code, told = fed.build(_config(folder), folder / "s", "")
    assert code == 0, told
    return folder / "s"


def _limit(whole: Path, files: float) -> float:
    return files * max(file.stat().st_size for file in (whole / "days").rglob("*.h5")) / 1e9


def _of(file: Path) -> tuple[DayStore, str, dt.date]:
    with open_file(file) as day:
        return DayStore(file.parents[3], str(day.header["config_digest"])), day.symbol, day.day


def test_days_make_room_and_their_moments_stay(whole: Path, tmp_path: Path) -> None:
    limits: dict[str, Any] = {"keep": "rolling", "max_gb": _limit(whole, 7.5), "diagnostic_fraction": 0.1}
    config, store = _config(tmp_path, **limits), tmp_path / "s"
    code, told = fed.build(config, store, "", "--workers", "2")
    assert code == 0, told
    everything, here = tiny.published(whole), tiny.published(store)
    assert here == {name: everything[name] for name in here}, "what stays is what would be there anyway"
    assert len(here) <= 7
    assert sum(map(len, here.values())) <= limits["max_gb"] * 1e9
    drawn = 0
    for name, content in everything.items():
        full, symbol, day = _of(whole / name)
        rolled = DayStore(store, full.digest)
        drawn += is_diagnostic(symbol, day, 0.1)
        assert name in here or not is_diagnostic(symbol, day, 0.1)
        with full.open(symbol, day) as file:
            moments = daily_moments(rolled, symbol, day)
            np.testing.assert_array_equal(moments.stats_SV, file.moments.stats_SV)
            np.testing.assert_array_equal(moments.scaler_SLF, file.moments.scaler_SLF)
            assert moments.names_V == file.moments.names_V
            remains = kept(rolled, symbol, day)
            assert (remains is None) == (name in here)
            if remains is not None:
                assert remains.quality == file.quality
                assert remains.sha256 == hashlib.sha256(content).hexdigest()
    assert drawn >= 1
    # the newest days are there: the oldest went first
    assert any(str(fed.START + dt.timedelta(days=N_DAYS - 1)) in name for name in here)

    env = {"FED_STORE": str(store), "FED_DSN": ""}
    plan = json.loads(tiny.bml("preprocess", config, "--dry-run", "--json", env=env).out)
    assert plan["total"]["evicted"] == N_FILES - len(here)
    assert plan["total"]["to_build"] == 0
    again = json.loads(tiny.bml("preprocess", config, "--json", "-q", env=env).out)
    assert sum(symbol["days"] for symbol in again["stages"][0]["result"]["symbols"].values()) == N_FILES
    assert tiny.published(store) == here, "nothing was built again"

    # keep: all brings them back, byte for byte
    code, told = fed.build(_config(tmp_path), store, "")
    assert code == 0, told
    assert tiny.published(store) == everything


@pytest.mark.slow
def test_a_stage_that_needs_tensors_says_so(tmp_path: Path, whole: Path) -> None:
    from bml import config, handover, pipeline
    from bml.cli.progress import Progress
    from bml.tracking import NullTracker

    tree = fed.document(N_DAYS, cadence_s=300.0, levels=4, keep="rolling", max_gb=_limit(whole, 7.5))
    tree["store"]["root"] = str(tmp_path / "s")
    tree["stages"]["collect"] = {"fn": "sources.synthetic.depth_rows", "with": {"seed": 5, "levels": 4}}
    tree["stages"]["features"] = {"with": {"window_h": 1, "split": {"fractions": {
        "train": 0.5, "early_stop": 0.15, "calibrate": 0.15, "test": 0.2}}}}  # fmt: skip
    cfg = config.load(
        tiny.write_config(tmp_path / "c.yaml", tree), stages=("collect", "data_object", "preprocess", "features")
    )
    pipeline.preprocess(cfg, NullTracker(), Progress(quiet=True))
    with pytest.raises(Exception, match=r"needs the tensors of \d+ days that store.keep: rolling removed .*keep: all"):
        handover.day_store(cfg)


def test_a_limit_that_cannot_be_met_is_told(whole: Path, tmp_path: Path) -> None:
    config = _config(tmp_path, keep="rolling", max_gb=_limit(whole, 0.5))
    code, told = fed.build(config, tmp_path / "s", "", "-q")
    assert code == 1
    assert told.startswith("error: ")
    assert len(told.splitlines()) == 1
    assert "cannot be removed" in told
    assert "raise it" in told
    config = _config(tmp_path, keep="rolling")
    code, told = fed.build(config, tmp_path / "s", "", "-q")
    assert code == 2
    assert "max_gb go together" in told


def test_nothing_is_removed_while_somebody_reads(whole: Path, tmp_path: Path) -> None:
    config, store = _config(tmp_path, keep="rolling", max_gb=_limit(whole, 7.5)), tmp_path / "s"
    with reading(store), reading(store):
        code, told = fed.build(config, store, "", "-q", "--workers", "0")
    assert (code, len(told.splitlines())) == (1, 1)
    assert "reads the day files, so none can be removed" in told
    assert fed.n_files(store) == 8
    assert fed.build(config, store, "", "-q")[0] == 0
    assert fed.n_files(store) <= 7


@pytest.mark.slow
def test_days_of_other_configurations_are_not_removed(whole: Path, tmp_path: Path) -> None:
    store = tmp_path / "s"
    assert fed.build(_config(tmp_path), store, "")[0] == 0
    before = tiny.published(store)
    steps = [*fed.STEPS[:1], {"fn": "book.align.to_grid", "with": {"max_gap_s": 60}}, *fed.STEPS[2:]]
    config = _config(tmp_path, steps=steps, keep="rolling", max_gb=_limit(whole, N_FILES + 3.5))
    code, told = fed.build(config, store, "")
    assert code == 0, told
    after = tiny.published(store)
    assert {name: after[name] for name in before} == before
    assert len(after) - len(before) <= 3


@pytest.mark.slow
def test_a_damaged_day_is_not_removed(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    assert fed.build(_config(tmp_path), tmp_path / "s", "")[0] == 0
    file = next((tmp_path / "s" / "days").rglob("*.h5"))
    store, symbol, day = _of(file)
    data = bytearray(file.read_bytes())
    with open_file(file) as opened:
        at = opened._places["book"].offset
    data[at + 40] ^= 1
    file.write_bytes(data)
    with pytest.raises(StoreError, match="does not match its checksum"):
        evict(store, symbol, day)
    assert file.exists()
    assert kept(store, symbol, day) is None


def test_the_share_of_diagnostics() -> None:
    days = [dt.date(2024, 1, 1) + dt.timedelta(days=n) for n in range(3000)]
    drawn = {fraction: [day for day in days if is_diagnostic("BTCUSDT", day, fraction)] for fraction in (0, 0.01, 1)}
    assert (len(drawn[0]), len(drawn[1])) == (0, 3000)
    assert 15 <= len(drawn[0.01]) <= 45
    assert drawn[0.01] != [day for day in days if is_diagnostic("ETHUSDT", day, 0.01)]
