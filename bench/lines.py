"""The lines of the table: every example of every kernel, with the peers that can do the same.

A line's contenders are the kernel on one thread ("bml"), on two, memcpy of the bytes that must be read and written
(every input once, every output once), the kernel's own specification under numba, and the peers. Books are
float32, rows and a book placed by a source float64, and the largest output is reused (``out=``) where the kernel can.
"""

from __future__ import annotations

import inspect
import os
import timeit
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from bench.race import MEMCPY, Contender, Race, memcpy
from bml.kernels._backend import use
from bml.kernels._table import KERNELS, Call, Kernel, bytes_of

OWN = "bml"
TWO_THREADS = "bml, 2 threads"
NUMBA = "numba"


@dataclass(frozen=True)
class Size:
    """A day, how often it is run, and beside whom: "none" (memcpy), "numba" (and memcpy) or "all"."""

    times: int = 8640
    levels: int = 1000
    rounds: int = 7
    peers: str = "all"
    patience_s: float = 10.0


@dataclass(frozen=True)
class Line:
    """One example of one kernel."""

    kernel: Kernel
    example: str

    @property
    def name(self) -> str:
        return f"{self.kernel.name} {self.example}"

    @contextmanager
    def race(self, size: Size) -> Iterator[tuple[Race, int]]:
        """The race of this line and the bytes of its memcpy; memory is let go at the end."""
        call = self.call(size)
        result = self.kernel.run(call)
        traffic = bytes_of(call, result)
        call = _reusing(self.kernel, call, result)
        yield Race(self._contenders(call, traffic, size), size.rounds, size.patience_s), traffic

    def call(self, size: Size) -> Call:
        """The arguments, without ``out`` and ``threads``."""
        call = self.kernel.examples[self.example](np.random.default_rng(1), size.times, size.levels)
        parameters = inspect.signature(self.kernel.call).parameters
        if "level_N" not in parameters and self.kernel.name != "day_tensor_of_book":  # whose book is of a source
            call = Call(tuple(_float32(x) for x in call.args), call.kwargs)
        return Call(call.args, call.kwargs | ({"dtype": np.float32} if "dtype" in parameters else {}))

    def small_s(self) -> float:
        """Seconds of a call on a 10 x 10 input: nearly all of it is the way in and out."""
        call = self.call(Size(times=10, levels=10))
        return min(timeit.repeat(partial(self.kernel.run, call), number=1000, repeat=5)) / 1000

    def _contenders(self, call: Call, traffic: int, size: Size) -> dict[str, Contender]:
        threaded = "threads" in inspect.signature(self.kernel.call).parameters
        found = {OWN: Contender(self._own(call, 1 if threaded else None))}
        if threaded and len(os.sched_getaffinity(0)) > 1:
            found[TWO_THREADS] = Contender(self._own(call, 2))
        found[MEMCPY] = memcpy(traffic)
        if size.peers in ("numba", "all") and self.kernel.loops:
            found[NUMBA] = Contender(self._numba(call))
        if size.peers == "all":
            a, like = _named(self.kernel, call), self._own(call, None)()
            for peer in _peers(self.kernel.name):
                if peer.fits(a):
                    found[peer.name] = Contender(peer.prepare(a, like), peer.rtol, peer.atol)
        return found

    def _own(self, call: Call, threads: int | None) -> Any:
        run = partial(self.kernel.run, Call(call.args, call.kwargs | ({"threads": threads} if threads else {})))
        return lambda: _parts(self.kernel.name, run())

    def _numba(self, call: Call) -> Any:
        def work() -> tuple[Any, ...]:
            with use("numba"):
                return _parts(self.kernel.name, self.kernel.run(call))

        work()  # compiles
        return work


def lines() -> list[Line]:
    """Every line, the fused kernel's first."""
    table = [Line(kernel, example) for kernel in KERNELS for example in kernel.examples]
    return sorted(table, key=lambda line: line.kernel.name != "day_tensor")


def _peers(kernel: str) -> list[Any]:
    from bench.day_peers import BOOK_PEERS, DAY_PEERS  # heavy libraries, only for whom they are wanted
    from bench.peers import PEERS

    return (PEERS | {"day_tensor": DAY_PEERS, "day_tensor_of_book": BOOK_PEERS}).get(kernel, [])


def _float32(x: Any) -> Any:
    return x.astype(np.float32) if isinstance(x, np.ndarray) and x.dtype == np.float64 else x


def _reusing(kernel: Kernel, call: Call, result: Any) -> Call:
    if "out" not in inspect.signature(kernel.call).parameters:
        return call
    arrays = [x for x in (result if isinstance(result, tuple) else (result,)) if isinstance(x, np.ndarray)]
    return Call(call.args, call.kwargs | {"out": max(arrays, key=lambda x: x.nbytes)})


def _named(kernel: Kernel, call: Call) -> SimpleNamespace:
    bound = inspect.signature(kernel.call).bind(*call.args, **call.kwargs)
    bound.apply_defaults()
    return SimpleNamespace(**bound.arguments)


def _parts(kernel: str, result: Any) -> tuple[Any, ...]:
    """The arrays that are compared."""
    if kernel == "daily_moments":
        return tuple(result.stats()[:4])
    if isinstance(result, np.ndarray):
        return (result,)
    which = {"tall_to_wide": slice(1, 2), "bin_depth": slice(None)}.get(kernel, slice(1))
    return tuple(result[which])
