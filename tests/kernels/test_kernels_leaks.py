"""Calls, good and refused, keep no memory and no references."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from bml.kernels._backend import use
from bml.kernels._table import KERNELS, Call, bytes_of


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
@pytest.mark.parametrize("name", [kernel.name for kernel in KERNELS])
def test_repeated_calls_do_not_grow(name: str) -> None:
    (kernel,) = [k for k in KERNELS if k.name == name]
    calls = [example(np.random.default_rng(0), 400, 100) for example in kernel.examples.values()]
    size = bytes_of(*calls)  # megabytes: one lost copy a round would show at once
    with use("compiled"):
        for _ in range(3):
            _round(kernel.run, calls)
        before = resident_bytes()
        for _ in range(30):
            _round(kernel.run, calls)
        grown = resident_bytes() - before
    assert grown < 10 * size / len(calls), f"{grown} bytes more after 30 rounds of {size}"


def _round(run: object, calls: list[Call]) -> None:
    assert callable(run)
    for call in calls:
        run(call)
        bad = Call((*call.args[:-1], "not an array"), call.kwargs)
        with pytest.raises(TypeError):
            run(bad)


def test_no_reference_is_kept(backend: str) -> None:
    for kernel in KERNELS:
        for example in kernel.examples.values():
            call = example(np.random.default_rng(0), 4, 3)
            kernel.run(call)
            before = [sys.getrefcount(x) for x in call.args]
            for _ in range(5):
                result = kernel.run(call)
            del result
            assert [sys.getrefcount(x) for x in call.args] == before, kernel.name
