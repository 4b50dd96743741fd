"""The command line as a user sees it, in this process or another, and small things for it to work on."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bml.config import secret
from bml.types import NS_PER_S, STATS, AlignedDay, DailyMoments, Event, Flag, QualityReport

PLUGIN = Path(__file__).parent.parent / "config" / "plugin"

CONFIG = """\
version: 1
name: demo
data: {symbols: [BTCUSDT, ETHUSDT], start: 2024-01-01, stop: 2024-01-03}
store: {root: ROOT}
tracking: {enabled: false}
stages:
  collect: {fn: fixture.rows, with: {dsn: "${BML_TEST_DSN:-postgresql://me:hunter2@h/d}"}}
  data_object: {fn: fixture.build}
  preprocess: [{fn: fixture.grid}]
  features: {fn: fixture.windows}
  train: {fn: fixture.fit}
  evaluate: {fn: fixture.report}
"""


@pytest.fixture(scope="session", autouse=True)
def plugin() -> Iterator[None]:
    sys.path.insert(0, str(PLUGIN))
    yield
    sys.path.remove(str(PLUGIN))


@pytest.fixture(autouse=True)
def no_values_remembered() -> Iterator[None]:
    """What a secret variable held in one test does not hide words in the next."""
    yield
    secret.forget_values()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(CONFIG.replace("ROOT", str(tmp_path / "store")))
    return path


@pytest.fixture(scope="session")
def bml() -> Callable[..., subprocess.CompletedProcess[str]]:
    """``bml("config", "check", path)`` in a process of its own, warnings as errors, no terminal."""

    def run(*args: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", "-m", "bml", *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=120)

    return run


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(PLUGIN), *sys.path])}


@pytest.fixture(scope="session")
def day_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real day file: one point a minute, six bins of which the last two fold five levels, a gap of two hours."""
    from bml.book.store import DayStore

    rng = np.random.default_rng(5)
    T, L = 1440, 6
    start = dt.date(2024, 1, 1)
    start_ns = (start - dt.date(1970, 1, 1)).days * 86_400 * NS_PER_S
    flag_T = np.zeros(T, dtype=np.uint16)
    flag_T[600:720], flag_T[30:33], flag_T[800] = Flag.GAP, Flag.FILLED, Flag.CROSSED
    is_gap_T = (flag_T & Flag.GAP) != 0
    book_TLF = rng.normal(size=(T, L, 4)).astype(np.float32)
    book_TLF[:, :, [1, 3]] = np.log1p(rng.lognormal(1.0, 1.0, size=(T, L, 2)))
    mid_T = 100.0 * np.exp(np.cumsum(rng.normal(0, 1e-4, T)))
    book_TLF[is_gap_T], mid_T[is_gap_T] = np.nan, np.nan
    coverage_TL2 = np.where(is_gap_T[:, None, None], 0.0, np.ones((T, L, 2))).astype(np.float32)
    moments = DailyMoments(symbol="BTCUSDT", day=start, names_V=("spread_bps", "log_mid"),
                           stats_SV=np.arange(len(STATS) * 2.0).reshape(len(STATS), 2),
                           scaler_SLF=np.zeros((3, L, 4)))  # fmt: skip
    event = Event(flag=Flag.CROSSED, start_ns=start_ns, stop_ns=start_ns, count=1)
    day = AlignedDay(
        symbol="BTCUSDT", day=start, cadence_ns=60 * NS_PER_S, book_TLF=book_TLF, mid_T=mid_T,
        grid_ns_T=start_ns + 60 * NS_PER_S * np.arange(T, dtype=np.int64),
        age_ms_T=np.where(is_gap_T, -1, 0).astype(np.int32), flag_T=flag_T, units="bps_log1p",
        quality=QualityReport(symbol="BTCUSDT", counts={"n_rows": 7, "n_deep": 0}, events=(event,)),
        edges_L1=np.array([0, 1, 2, 3, 4, 9, 14], dtype=np.int64), coverage_TL2=coverage_TL2, moments=moments,
    )  # fmt: skip
    return DayStore(tmp_path_factory.mktemp("days"), "ab" * 32).write(day, meta={"origin": "test"})
