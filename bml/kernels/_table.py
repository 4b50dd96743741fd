"""Every kernel in one table: tests and benchmarks run over it, so that a new row gets both.

An example makes the arguments of a call from a random generator, a number of times and of levels: small for a
test, a day (8640, 1000) for a benchmark.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bml.kernels import (
    _bin_depth,
    _daily_moments,
    _day_tensor,
    _day_tensor_of_book,
    _depth_profile,
    _gather_windows,
    _occupied_edges,
    _resample_grid,
    _tall_to_wide,
)
from bml.kernels import _rows as _rows_of
from bml.kernels._backend import Dispatch
from bml.types import NS_PER_S, Floats, Int64

STEP_NS = 10 * NS_PER_S


@dataclass(frozen=True)
class Call:
    """Positional and keyword arguments of one call."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)


Example = Callable[[np.random.Generator, int, int], Call]


@dataclass(frozen=True)
class Kernel:
    """A public function, the loops that define it, and calls that show what it is for."""

    name: str
    call: Callable[..., Any]
    loops: tuple[Dispatch[..., Any], ...]
    examples: dict[str, Example]

    def run(self, call: Call) -> Any:
        """Call the kernel on the backend in use."""
        return self.call(*call.args, **call.kwargs)


def bytes_of(*values: Any) -> int:
    """Bytes of all arrays in arguments or results: what a kernel must read, or write, at least once."""
    total = 0
    for value in values:
        if isinstance(value, np.ndarray):
            total += value.nbytes
        elif isinstance(value, dict):
            total += bytes_of(*value.values())
        elif isinstance(value, tuple | list):
            total += bytes_of(*value)
        elif isinstance(value, Call):
            total += bytes_of(value.args, value.kwargs)
    return total


def book(rng: np.random.Generator, times: int, levels: int) -> Floats:
    """A random walk of a book with one tick between levels and a few absent cells; float64 (T, L, 4)."""
    mid = 65_000.0 + np.cumsum(rng.normal(0.0, 1.0, (times, 1)), axis=0)
    away = 0.005 + 0.01 * np.arange(levels)
    book_TLF = np.empty((times, levels, 4))
    book_TLF[..., 0], book_TLF[..., 2] = np.round(mid - away, 2), np.round(mid + away, 2)
    book_TLF[..., 1::2] = rng.gamma(0.5, 2.0, (times, levels, 2)).round(5)
    book_TLF[rng.random((times, levels)) < 0.01] = np.nan
    return book_TLF


def _rows(rng: np.random.Generator, times: int, levels: int) -> Call:
    """Complete paired rows in time and level order."""
    fields = tuple(np.ascontiguousarray(x) for x in book(rng, times, levels).reshape(-1, 4).T)
    ts = np.repeat(np.arange(times, dtype=np.int64) * STEP_NS, levels)
    return Call((ts, np.tile(np.arange(1, levels + 1, dtype=np.int32), times), fields), {"levels": levels})


def _rows_taken(call: Call, rows: Any) -> Call:
    ts, level, fields = call.args
    return Call((ts[rows], level[rows], tuple(x[rows] for x in fields)), call.kwargs)


def _rows_missing(rng: np.random.Generator, times: int, levels: int) -> Call:
    call = _rows(rng, times, levels)
    return _rows_taken(call, rng.random(len(call.args[0])) >= 0.02)


def _rows_shuffled(rng: np.random.Generator, times: int, levels: int) -> Call:
    call = _rows(rng, times, levels)
    return _rows_taken(call, rng.permutation(len(call.args[0])))


def _rows_levels_shuffled(rng: np.random.Generator, times: int, levels: int) -> Call:
    """Times in order, the levels of each in none."""
    call = _rows(rng, times, levels)
    order = np.argsort(rng.random((times, levels)), axis=1) + levels * np.arange(times)[:, None]
    return _rows_taken(call, order.reshape(-1))


def _rows_level_major(rng: np.random.Generator, times: int, levels: int) -> Call:
    call = _rows(rng, times, levels)
    return _rows_taken(call, np.argsort(call.args[1], kind="stable"))


def _rows_sided(rng: np.random.Generator, times: int, levels: int) -> Call:
    """Order (ts, side, level)."""
    ts, level, (bid_px, bid_qty, ask_px, ask_qty) = _rows(rng, times, levels).args

    def both(bid: Floats, ask: Floats) -> Floats:
        return np.stack([bid.reshape(times, levels), ask.reshape(times, levels)], axis=1).reshape(-1)

    side = np.tile(np.repeat(np.array([0, 1], np.int8), levels), times)
    fields = both(bid_px, ask_px), both(bid_qty, ask_qty)
    return Call((np.repeat(ts[::levels], 2 * levels), both(level, level), fields), {"levels": levels, "side_N": side})


def _day_of(rows: Example) -> Example:
    """The rows of a day for day_tensor: a grid of the same cadence, the near twentieth level by level and ten bins."""

    def example(rng: np.random.Generator, times: int, levels: int) -> Call:
        call = rows(rng, times, levels)
        grid = np.arange(times, dtype=np.int64) * STEP_NS
        return Call((*call.args, grid, _edges(levels)), call.kwargs | {"max_age_ns": 6 * STEP_NS})

    return example


def _day_of_book(rng: np.random.Generator, times: int, levels: int) -> Call:
    """A book at the times of its grid."""
    grid = np.arange(times, dtype=np.int64) * STEP_NS
    return Call((grid, book(rng, times, levels), grid.copy(), _edges(levels)), {"max_age_ns": 6 * STEP_NS})


def _with_moments(rng: np.random.Generator, times: int, levels: int) -> Call:
    call = _day_of(_rows)(rng, times, levels)
    return Call(call.args, call.kwargs | {"moments": True})


def _samples(rng: np.random.Generator, times: int, levels: int) -> Call:
    """Jittered snapshots to a grid of the same cadence."""
    ts = np.arange(times, dtype=np.int64) * STEP_NS + rng.integers(0, NS_PER_S, times)
    grid = np.arange(times, dtype=np.int64) * STEP_NS
    return Call((ts, book(rng, times, levels), grid), {"max_age_ns": 6 * STEP_NS})


def _samples_linear(rng: np.random.Generator, times: int, levels: int) -> Call:
    call = _samples(rng, times, levels)
    return Call(call.args, call.kwargs | {"method": "linear"})


def _book(rng: np.random.Generator, times: int, levels: int) -> Call:
    return Call((book(rng, times, levels),))


def _edges(levels: int) -> Int64:
    """The near twentieth level by level, the rest in ten bins."""
    near = max(1, levels // 20)
    edges: Int64 = np.unique(np.r_[np.arange(near + 1), np.linspace(near, levels, 11).astype(np.int64)])
    return edges


def _book_and_edges(rng: np.random.Generator, times: int, levels: int) -> Call:
    return Call((book(rng, times, levels), _edges(levels)))


def _book_and_edges_each(rng: np.random.Generator, times: int, levels: int) -> Call:
    """Edges that follow an occupied depth between three quarters of the levels and all of them."""
    near, deep = max(1, levels // 20), 10
    depth = rng.integers(levels * 3 // 4, levels + 1, (times, 1))
    edges = np.hstack([np.tile(np.arange(near), (times, 1)), near + np.arange(deep + 1) * (depth - near) // deep])
    return Call((book(rng, times, levels), edges))


def _book_cut(rng: np.random.Generator, times: int, levels: int) -> Call:
    """A book whose last quantities are zero or absent, by snapshot."""
    book_TLF = book(rng, times, levels)
    beyond = np.arange(levels) >= rng.integers(0, levels + 1, (times, 1))
    book_TLF[..., 1::2][beyond] = 0.0
    book_TLF[::3][beyond[::3]] = np.nan
    return Call((book_TLF, max(1, levels // 20), 10))


def _series(rng: np.random.Generator, times: int, levels: int) -> Call:
    return Call((book(rng, times, levels).reshape(times, -1),))


def _windows(rng: np.random.Generator, times: int, levels: int) -> Call:
    """Two symbols of two half days each, a window over both of them, and one of a symbol that is missing."""
    half = times // 2 + 1
    days = tuple((book(rng, half, levels) - 65_000.0).astype(np.float32) for _ in range(4))
    day = np.array([[0, 1], [-1, -1], [2, 3]])
    return Call((days, day, np.array([half - times // 2, 0, 1])), {"rows": times})


def _windows_standardised(rng: np.random.Generator, times: int, levels: int) -> Call:
    call = _windows(rng, times, levels)
    shift, scale = (rng.normal(size=(2, levels, 4)).astype(np.float32) for _ in range(2))
    which = {"shift_GX": shift, "scale_GX": scale, "standard_W": np.array([1, 0, 0])}
    return Call(call.args, call.kwargs | which | {"limit": 10.0})


def _windows_of_halves(rng: np.random.Generator, times: int, levels: int) -> Call:
    call = _windows_standardised(rng, times, levels)
    return Call((tuple(x.astype(np.float16) for x in call.args[0]), *call.args[1:]), call.kwargs)


def _windows_as_they_are(rng: np.random.Generator, times: int, levels: int) -> Call:
    call = _windows(rng, times, levels)
    days = tuple(x.astype(np.float16) for x in call.args[0])
    return Call((days, *call.args[1:]), call.kwargs | {"dtype": np.float16})


KERNELS = (
    Kernel(
        "day_tensor",
        _day_tensor.day_tensor,
        (),  # specified by the kernels it stands for
        {
            "complete": _day_of(_rows),
            "missing": _day_of(_rows_missing),
            "levels_shuffled": _day_of(_rows_levels_shuffled),
            "shuffled": _day_of(_rows_shuffled),
            "sided": _day_of(_rows_sided),
            "moments": _with_moments,
        },
    ),
    Kernel("day_tensor_of_book", _day_tensor_of_book.day_tensor_of_book, (), {"book": _day_of_book}),
    Kernel(
        "tall_to_wide",
        _tall_to_wide.tall_to_wide,
        (_rows_of._find_snapshots, _rows_of._distinct_times, _tall_to_wide._tall_to_wide),
        {
            "complete": _rows,
            "missing": _rows_missing,
            "levels_shuffled": _rows_levels_shuffled,
            "shuffled": _rows_shuffled,
            "level_major": _rows_level_major,
            "sided": _rows_sided,
        },
    ),
    Kernel(
        "resample_grid",
        _resample_grid.resample_grid,
        (_resample_grid._resample_grid,),
        {"forward_fill": _samples, "linear": _samples_linear},
    ),
    Kernel("depth_profile", _depth_profile.depth_profile, (_depth_profile._depth_profile,), {"book": _book}),
    Kernel(
        "occupied_edges", _occupied_edges.occupied_edges, (_occupied_edges._occupied_edges,), {"cut_book": _book_cut}
    ),
    Kernel(
        "bin_depth",
        _bin_depth.bin_depth,
        (_bin_depth._bin_depth,),
        {"near_and_ten": _book_and_edges, "occupied": _book_and_edges_each},
    ),
    Kernel("daily_moments", _daily_moments.daily_moments, (_daily_moments._daily_moments,), {"book": _series}),
    Kernel(
        "gather_windows",
        _gather_windows.gather_windows,
        (_gather_windows._gather_windows,),
        {
            "plain": _windows,
            "standardised": _windows_standardised,
            "halves": _windows_of_halves,
            "as_they_are": _windows_as_they_are,
        },
    ),
)
