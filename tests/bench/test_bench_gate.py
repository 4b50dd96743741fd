"""The benchmark's gate lets a clean run pass, and names the line that became slower; no time is asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import report
from bench.lines import Line, Size, lines
from bml.kernels._table import Call, Kernel

ROOT = Path(__file__).resolve().parents[2]
SMALL = Size(times=300, levels=100, rounds=15, peers="none")
LINES = [line for line in lines() if line.kernel.name in ("bin_depth", "depth_profile", "resample_grid")]


def measured(chosen: list[Line]) -> list[dict[str, Any]]:
    found = []
    for line in chosen:
        with line.race(SMALL) as (race, traffic):
            size = {"line": line.name, "times": SMALL.times, "levels": SMALL.levels}
            found.append(size | race.run(SMALL.rounds).summary(traffic))
    return found


def eight_times(kernel: Kernel) -> Kernel:
    """The planted slow-down: the same result, after seven calls more."""

    class Slow(Kernel):
        def run(self, call: Call) -> Any:
            for _ in range(7):
                kernel.run(call)
            return kernel.run(call)

    return Slow(kernel.name, kernel.call, kernel.loops, kernel.examples)


def test_a_planted_slow_down_fails_and_is_named() -> None:
    base = report.baseline([measured(LINES), measured(LINES)], "here")
    for rules in base["lines"].values():
        for rule in rules.values():
            rule["margin"] = 0.7  # small arrays on a busy machine
    assert report.gate(measured(LINES), base) == []
    slow = [
        replace(line, kernel=eight_times(line.kernel)) if line.kernel.name == "bin_depth" else line for line in LINES
    ]
    failures = report.gate(measured(slow), base)
    assert failures
    assert all(failure.startswith("bin_depth ") for failure in failures)


def info(line: str = "a b", **median: float) -> dict[str, Any]:
    own = median["bml"]
    ratio = {name.replace("_", " "): spent / own for name, spent in median.items() if name != "bml"}
    rounds = {name: 3 if name == "pandas" else 5 for name in ratio} | {"bml": 5}
    return {"line": line, "times": 8640, "levels": 10, "median_s": median, "gb_per_s": 1.0, "ratio": ratio,
            "rounds": rounds, "small_s": 2e-6}  # fmt: skip


def test_what_the_gate_compares() -> None:
    one = info(bml=2.0, memcpy=1.0, numba=4.0) | {"ratio": {"memcpy": 0.5, "numba": 2.0, "bml, 2 threads": 0.5}}
    assert report.figures(one) == {"memcpy": 0.5, "numba": 2.0, "memcpy, 2 threads": 1.0}
    base = report.baseline([[one], [one]], "here")
    assert base["lines"]["a b"]["memcpy, 2 threads"] == {"ratio": 1.0, "margin": report.MARGIN}
    assert report.gate([one], base) == []
    idle = one | {"ratio": {"memcpy": 0.5, "numba": 2.0, "bml, 2 threads": 0.9}}
    assert [x.split(",")[0] for x in report.gate([idle], base)] == ["a b: 0.56 against memcpy"]
    assert report.gate([], base) == ["a b: in the baseline but not measured; write a new one (make bench-baseline)"]
    assert report.gate([one | {"ratio": {"memcpy": 0.5, "numba": 2.0}}], base) == [
        "a b: no figure against memcpy, 2 threads, which the baseline has"
    ]
    noisy = [[info(bml=1.0, memcpy=m)] for m in (0.8, 1.0, 1.2)]
    assert report.baseline(noisy, "")["lines"]["a b"]["memcpy"] == {"ratio": 1.0, "margin": 0.6}


def test_the_table_replaces_itself() -> None:
    found = [info(bml=0.5, memcpy=0.25, pandas=5.0)]
    text = f"before\n{report.START}\n{report.STOP}\nafter\n"
    once = report.with_table(text, found, "a CPU")
    assert report.with_table(once, found, "a CPU") == once
    assert "pandas 10.0 (3 of 5 rounds)" in once
    assert once.startswith("before\n")
    assert once.endswith("after\n")
    with pytest.raises(ValueError, match="the README needs the lines"):
        report.with_table("none", found, "a CPU")


def test_the_readme_has_room_for_the_table() -> None:
    found = [info(bml=0.5, memcpy=0.25)]
    assert "| a b " in report.with_table((ROOT / "README.md").read_text(), found, "a CPU")


def bench_run(result: Path, which: str = "") -> list[dict[str, Any]]:
    """The lines on a small day, with every peer: each checks its result against the kernel's."""
    small = ["--times", "40", "--levels", "30", "--rounds", "5", "--patience", "1000", "-k", which]
    command = [sys.executable, "-m", "pytest", "bench/test_speed.py", "-q", "-p", "no:cacheprovider", *small]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": f"--benchmark-json={result}"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return report.read(result)[0]


@pytest.fixture(scope="module")
def one_line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    result = tmp_path_factory.mktemp("bench") / "bench.json"
    bench_run(result, "day_tensor and complete")
    return result


def test_the_fused_line_has_its_peers(one_line: Path) -> None:
    complete = report.read(one_line)[0][0]
    assert {"memcpy", "numpy", "polars", "duckdb", "pandas", "torch", "fused numba"} <= set(complete["ratio"])
    assert set(complete["rounds"].values()) == {5}


@pytest.mark.slow
def test_every_line_and_every_peer_agree(tmp_path: Path) -> None:
    found = bench_run(tmp_path / "bench.json")
    assert [i["line"] for i in found] == [line.name for line in lines()]
    alone = {i["line"] for i in found if set(i["ratio"]) <= {"memcpy", "bml, 2 threads"}}
    assert alone == {"day_tensor sided", "day_tensor moments"}


def test_from_the_command_line(
    one_line: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    readme, base = tmp_path / "README.md", tmp_path / "baseline.json"
    readme.write_text(f"{report.START}\n{report.STOP}\n")
    assert report.main(["table", str(one_line), "--readme", str(readme)]) == 0
    assert capsys.readouterr().out.strip() in readme.read_text()
    assert report.main(["baseline", str(one_line), str(one_line)]) == 0
    base.write_text(capsys.readouterr().out)
    assert report.main(["gate", str(one_line), str(base)]) == 0
    document = json.loads(one_line.read_text())
    document["benchmarks"][0]["extra_info"]["ratio"]["memcpy"] /= 2
    one_line.write_text(json.dumps(document))
    assert report.main(["gate", str(one_line), str(base)]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("day_tensor complete: ")
