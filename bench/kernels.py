"""Each kernel beside a memcpy of the bytes it must read and write, in the same process, interleaved.

    python bench/kernels.py [--levels 1000] [--repeats 7]

The ratio (memcpy time / kernel time; 1 is memory speed) is the figure to compare between machines and versions;
milliseconds are only told.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from bml.kernels import _backend
from bml.kernels._table import KERNELS, bytes_of


def measure(work: Callable[[], object], copy: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median seconds of both, run in turn after one unmeasured round."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats + 1):
        for run, taken in zip((work, copy), times, strict=True):
            began = time.perf_counter()
            run()
            taken.append(time.perf_counter() - began)
    return statistics.median(times[0][1:]), statistics.median(times[1][1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=8640, help="snapshots of a day")
    parser.add_argument("--levels", type=int, default=400, help="levels of a book")
    parser.add_argument("--repeats", type=int, default=7, help="measured rounds, at least 5")
    chosen = parser.parse_args()
    print(f"{chosen.times} x {chosen.levels} levels, backend {_backend.current()}, median of {chosen.repeats}")
    print(f"{'kernel':34} {'ms':>8} {'GB/s':>7} {'of memcpy':>10}")
    for kernel in KERNELS:
        for name, example in kernel.examples.items():
            call = example(np.random.default_rng(1), chosen.times, chosen.levels)
            traffic = bytes_of(call, kernel.run(call))
            # a copy of n bytes reads n and writes n
            memcpy = partial(np.copyto, np.ones(traffic // 16), np.ones(traffic // 16))  # reads and writes n bytes each
            spent, copied = measure(partial(kernel.run, call), memcpy, chosen.repeats)
            print(
                f"{kernel.name + ' ' + name:34} {spent * 1e3:8.1f} {traffic / spent / 1e9:7.2f} {copied / spent:10.2f}"
            )


if __name__ == "__main__":
    main()
