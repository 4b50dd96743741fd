"""What must hold where only numpy is installed; run by test_kernels_wheel.py, without pytest."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

import bml.kernels
from bml.kernels import _isa
from bml.kernels._backend import use
from bml.kernels._table import KERNELS, Call


def outcome(run: Any, call: Call) -> list[bytes]:
    """The bits of a result; NaN, which has many, as one."""
    result = run(call)
    bits = []
    for x in map(np.asarray, result if isinstance(result, tuple) else (result,)):
        x = np.where(np.isnan(x), np.array(np.nan, x.dtype), x) if x.dtype.kind == "f" else x
        bits.append(str(x.dtype).encode() + str(x.shape).encode() + x.tobytes())
    return bits


def calls() -> Iterator[tuple[Any, str, Call]]:
    for kernel in KERNELS:
        for name, example in kernel.examples.items():
            call = example(np.random.default_rng(1), 40, 15)
            yield kernel, name, call
            yield kernel, name, Call(call.args, call.kwargs | {"threads": 3})


def main() -> None:
    checked = 0
    for kernel, name, call in calls():
        with use("spec"):
            wanted = outcome(kernel.run, call)
        for cpu in _isa.runnable():
            with use("compiled", cpu):
                assert outcome(kernel.run, call) == wanted, f"{kernel.name} {name} {cpu}"
                checked += 1
        try:
            kernel.run(Call((*call.args[:-1], "not an array"), call.kwargs))
        except TypeError:
            continue
        raise AssertionError(f"{kernel.name} takes anything")
    core = _isa.load(_isa.best())
    assert core._pool_sum(40, 1000, 3) == 780
    child = os.fork()
    if child == 0:
        os._exit(core._pool_sum(40, 1000, 3) != 780)
    assert os.waitpid(child, 0)[1] == 0
    assert {path for path in ("scipy", "hypothesis", "pandas", "numba") if path in sys.modules} == set()
    print(checked, ",".join(_isa.built()), bml.kernels.__file__)


if __name__ == "__main__":
    main()
