"""Counts of instructions are read, compared with a margin, and a planted slow-down is named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import instructions

ROOT = Path(__file__).resolve().parents[2]


def test_what_is_compared() -> None:
    recorded = {"a": 10.0, "b": 2.0}
    assert instructions.slower({"a": 10.49, "b": 1.0, "new": 9.0}, recorded) == []
    assert instructions.slower({"a": 10.6}, recorded) == [
        "b: recorded, but not counted",
        "a: 10.6 instructions per element, were 10.0 (+6%)",
    ]


def test_dumps_are_read(tmp_path: Path) -> None:
    (tmp_path / "out.2").write_text("desc: Trigger: Client Request: two b/4\nfn=(1)\ntotals: 10\n")
    (tmp_path / "out.1").write_text("desc: Trigger: Client Request: one a/1000\ntotals: 1500\n")
    (tmp_path / "out.3").write_text("desc: Trigger: Program termination\ntotals: 0\n")
    (tmp_path / "out").write_text("")
    assert instructions.counted(tmp_path) == {"one a": 1.5, "two b": 2.5}


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("valgrind"), reason="needs valgrind")
def test_a_planted_slow_down_fails_and_is_named(tmp_path: Path) -> None:
    for part in ("bench", "csrc"):
        shutil.copytree(ROOT / part, tmp_path / part)

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", "csrc/tests/callgrind.sh", *arguments]
        environ = os.environ | {"PYTHON": sys.executable} | environment
        return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)

    assert run("--write").returncode == 0
    clean, slow = run(), run(BML_PLANTED_SLOW_DOWN="depth_profile")
    assert clean.returncode == 0, clean.stdout + clean.stderr
    assert slow.returncode == 1
    assert [line.split(":")[0] for line in slow.stdout.splitlines() if "were" in line] == ["depth_profile"]
