"""The fused path holds little beside its input and output: rows in time order are never copied as a whole."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench.lines import Size

LIMIT = 1.3  # of input + output


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("line", ["day_tensor complete", "day_tensor missing"])
def test_peak_memory(line: str, threads: int, size: Size) -> None:
    options = "--times", str(size.times), "--levels", str(size.levels), "--threads", str(threads)
    command = [sys.executable, "-m", "bench.memory", line, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) <= LIMIT
