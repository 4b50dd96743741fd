"""Calls, good and refused, on one thread and on several, keep no memory and no references."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import numpy as np
import pytest

from bml.kernels._backend import use
from bml.kernels._table import KERNELS, Call, Kernel, bytes_of

CALLS = 1000


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", [kernel.name for kernel in KERNELS])
def test_repeated_calls_do_not_grow(name: str, threads: int) -> None:
    (kernel,) = [k for k in KERNELS if k.name == name]
    made = [example(np.random.default_rng(0), 60, 40) for example in kernel.examples.values()]
    calls = [Call(call.args, call.kwargs | {"threads": threads}) for call in made]
    size = bytes_of(*calls) // len(calls)
    with use("compiled"):
        _rounds(kernel, calls, 100)
        gc.collect()
        before, blocks = resident_bytes(), sys.getallocatedblocks()
        _rounds(kernel, calls, CALLS // len(calls))
        gc.collect()
        grown, more = resident_bytes() - before, sys.getallocatedblocks() - blocks
    assert grown < CALLS * size / 10, f"{grown} bytes more after {CALLS} calls of {size}"
    assert more < CALLS / 10, f"{more} objects more after {CALLS} calls"


def _rounds(kernel: Kernel, calls: list[Call], rounds: int) -> None:
    for _ in range(rounds):
        for call in calls:
            kernel.run(call)
            with pytest.raises(TypeError):
                kernel.run(Call((*call.args[:-1], "not an array"), call.kwargs))


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
