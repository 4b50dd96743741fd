"""Contenders timed in turn: one round runs every contender once, so that a slow minute of the machine hits all.

``Race.first`` runs the kernel and ``Race.others`` all the rest; a round is ``others()`` then ``first()``. That is
how it fits pytest-benchmark, which times one callable: ``benchmark.pedantic(race.first, setup=race.others)``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Work = Callable[[], tuple[Any, ...]]

MEMCPY = "memcpy"
#: seconds a contender may spend in its measured rounds; who needs longer runs fewer rounds, at least one
PATIENCE_S = 10.0


@dataclass(frozen=True)
class Contender:
    """Work that returns the arrays to compare, and how far they may lie from the kernel's (0: equal)."""

    work: Work
    rtol: float = 0.0
    atol: float = 0.0


class Race:
    """The kernel (the first contender) and what runs beside it. Making one runs each once and compares results."""

    def __init__(self, contenders: Mapping[str, Contender], rounds: int, patience_s: float = PATIENCE_S) -> None:
        self.first_name, *self._others = contenders
        self._work = {name: contender.work for name, contender in contenders.items()}
        self.taken: dict[str, list[float]] = {name: [] for name in contenders}
        self._left = {self.first_name: rounds}
        wanted = tuple(np.array(x) for x in self._work[self.first_name]())  # others may reuse this memory
        for name in self._others:
            began = time.perf_counter()
            got = self._work[name]()
            spent = time.perf_counter() - began
            self._left[name] = min(rounds, max(1, int(patience_s / spent)))
            _assert_equal(name, got, wanted, contenders[name])

    def first(self) -> None:
        """The kernel, timed."""
        self._time(self.first_name)

    def others(self) -> None:
        """Everything beside the kernel, timed; those out of patience sit out."""
        for name in self._others:
            if self._left[name] > 0:
                self._time(name)

    def run(self, rounds: int) -> Race:
        """All rounds without pytest-benchmark."""
        for _ in range(rounds):
            self.others()
            self.first()
        return self

    def _time(self, name: str) -> None:
        began = time.perf_counter()
        self._work[name]()
        self.taken[name].append(time.perf_counter() - began)
        self._left[name] -= 1

    def summary(self, traffic: int) -> dict[str, Any]:
        """What goes into extra_info. ``ratio`` is contender time / kernel time: above 1 the kernel is faster."""
        median = {name: statistics.median(taken) for name, taken in self.taken.items()}
        own = median[self.first_name]
        return {
            "traffic_bytes": traffic,
            "gb_per_s": traffic / own / 1e9,
            "median_s": median,
            "rounds": {name: len(taken) for name, taken in self.taken.items()},
            "ratio": {name: median[name] / own for name in self._others},
        }


def memcpy(traffic: int) -> Contender:
    """A copy that reads and writes ``traffic`` bytes in all, into reused memory, on one thread."""
    source, target = np.ones(traffic // 2, np.uint8), np.ones(traffic // 2, np.uint8)

    def work() -> tuple[Any, ...]:
        np.copyto(target, source)
        return ()

    return Contender(work)


def _assert_equal(name: str, got: tuple[Any, ...], wanted: tuple[Any, ...], contender: Contender) -> None:
    if name == MEMCPY:
        return
    for a, b in zip(got, wanted, strict=True):
        if contender.rtol == 0.0 and contender.atol == 0.0:
            np.testing.assert_array_equal(a, b, err_msg=name)
        else:
            np.testing.assert_allclose(a, b, rtol=contender.rtol, atol=contender.atol, err_msg=name)
