"""SIGKILL at any moment: rerunning finishes, byte for byte as if nothing had happened."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bml.book.store import open_file
from tests.end_to_end import tiny

N_KILLS = 10


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_books(tmp_path_factory.mktemp("rows"))


def _start(config: Path, store: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "bml", "preprocess", str(config), "-q"],
        env=tiny.environment({"TINY_STORE": str(store)}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_preprocess_survives_ten_kills(tmp_path: Path, rows: Path) -> None:
    config = tiny.write_config(tmp_path / "c.yaml", tiny.document(rows, Path("${TINY_STORE}")))
    assert _start(config, tmp_path / "undisturbed").wait() == 0
    undisturbed = tiny.published(tmp_path / "undisturbed")
    n_files = tiny.N_DAYS * len(tiny.SYMBOLS)
    assert len(undisturbed) == n_files

    chance = random.Random(11)
    cut_short = 0
    for round_ in range(N_KILLS):
        store = tmp_path / f"killed-{round_}"
        process = _start(config, store)
        # a moment drawn from all of the run, however fast the machine: so many files there, and a little later
        wanted, later_s = chance.randrange(n_files), chance.uniform(0.0, 0.02)
        while process.poll() is None and len(list((store / "days").rglob("*.h5"))) < wanted:
            time.sleep(0.001)
        time.sleep(later_s if wanted else chance.uniform(0.0, 1.0))
        process.send_signal(signal.SIGKILL)
        cut_short += process.wait() == -signal.SIGKILL
        for name, content in tiny.published(store).items() if store.exists() else ():
            assert content == undisturbed[name], f"round {round_}: {name} is visible but not whole"
            with open_file(store / name) as file:
                file.verify()
        assert _start(config, store).wait() == 0
        assert tiny.published(store) == undisturbed
        assert not [p for p in (store / "days").rglob(".*") if p.is_file()], "temporary files were left behind"
    assert cut_short >= N_KILLS // 2, "most rounds finished before the kill: the test tested nothing"
