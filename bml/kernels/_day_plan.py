"""What the kernels of a day have in common: where it goes, how, and what of it is made; their specification."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bml.kernels import _arrays, _backend, _errors
from bml.kernels._bin_depth import bin_depth
from bml.kernels._daily_moments import Moments, daily_moments
from bml.kernels._depth_profile import depth_profile
from bml.kernels._memory import empty
from bml.kernels._resample_grid import resample_grid
from bml.types import ASK_PX, BID_PX, Float32, Float64, Floats, Int32, Int64

UInt8 = npt.NDArray[np.uint8]

_DTYPES = tuple(np.dtype(d) for d in (np.float32, np.float64, np.float16))
_NOTHING = np.empty(0, np.int64)
_NO_MOMENTS = Moments(_NOTHING, *[np.empty(0)] * 5)


class Mark(enum.IntFlag):
    """What :func:`day_tensor` notes of a snapshot; as in csrc/include/bml/inspect.hpp."""

    DROPPED = 1  # by ``drop``: no grid row uses it
    DISORDER = 2  # some price is not strictly behind every price nearer to the touch
    STUCK = 4  # the book equals that of the snapshot before in every cell


class DayTensor(NamedTuple):
    """What :func:`day_tensor` returns."""

    book_GDF: Floats  # (G, D, 4)
    coverage_GD2: Float32  # share of a bin's levels that are present, bid and ask
    source_G: Int64  # the snapshot in use, -1: none
    age_ns_G: Int64  # grid time less the time of that snapshot, -1: none
    mid_G: Float64  # mean of its prices at level 1, NaN: one is absent, or no snapshot
    ts_ns_T: Int64  # the distinct times of the rows, ascending
    touch_T4: Float64  # bid_px, bid_qty, ask_px, ask_qty at level 1 of every snapshot
    duplicate_T: Int32  # surplus rows per snapshot, see tall_to_wide
    broken_T: Int32  # broken cells per snapshot; 0 without clear_broken
    mark_T: UInt8  # masks of Mark; DISORDER and STUCK are looked for on request
    n_deep: int
    n_duplicate: int
    n_conflict: int
    moments: Moments | None  # of every raw cell, V = level * 4 + field
    profile_L2: Int64 | None


class Plan(NamedTuple):
    """Checked arguments that do not say where the book comes from."""

    grid: Int64
    edge: Int64
    levels: int
    limit: int  # max_age_ns
    crossed: bool
    locked: bool
    clear_broken: bool
    inspect: bool
    moments: bool
    profile: bool
    out: Floats
    threads: int


def plan_of(
    where: str, grid_ns_G: Int64, edges: Int64, levels: int, inputs: Sequence[_arrays.Array], *, max_age_ns: int,
    drop: Sequence[str], clear_broken: bool, inspect: bool, moments: bool, profile: bool, dtype: npt.DTypeLike,
    out: Floats | None, threads: int | None,
) -> Plan:  # fmt: skip
    """The plan of a call; ``inputs`` are those that ``out`` must not share memory with."""
    grid = _arrays.plain(where, "grid_ns_G", grid_ns_G, _arrays.INT64S)
    edge = _edges(where, edges, levels)
    limit = _arrays.integer(where, "max_age_ns", max_age_ns, least=0)
    crossed, locked = _drops(where, drop)
    kind = np.dtype(dtype)
    if kind not in _DTYPES:
        raise TypeError(f"{where}: dtype must be float32, float64 or float16, not {kind}")
    shape = (len(grid), len(edge) - 1, 4)
    out = empty(shape, kind) if out is None else _arrays.given(where, "out", out, kind, shape, (*inputs, grid, edge))
    flags = {"clear_broken": clear_broken, "inspect": inspect, "moments": moments, "profile": profile}
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise TypeError(f"{where}: {name} must be True or False, not {type(flag).__name__}")
    n_threads = _arrays.threads(where, threads)
    return Plan(grid, edge, levels, limit, crossed, locked, clear_broken, inspect, moments, profile, out, n_threads)


def _edges(where: str, edges: Int64, levels: int) -> Int64:
    edge: Int64 = _arrays.plain(where, "edges", edges, _arrays.INT64S)
    if len(edge) < 2 or (edge[1:] <= edge[:-1]).any():
        raise ValueError(f"{where}: edges must be at least two strictly increasing level indices, not {edge.tolist()}")
    if edge[0] < 0 or edge[-1] > levels:
        raise ValueError(f"{where}: edges must lie in 0..{levels}, the levels of the book, not {edge[0]}..{edge[-1]}")
    return edge


def _drops(where: str, drop: Sequence[str]) -> tuple[bool, bool]:
    if not isinstance(drop, tuple | list) or any(word not in ("crossed", "locked") for word in drop):
        raise ValueError(f"{where}: drop must be a tuple of 'crossed' and 'locked', not {drop!r}")
    return "crossed" in drop, "locked" in drop


def run(
    kernel: str, plan: Plan, times: Int64, *source: Any, counts: Int64 | None = None
) -> tuple[_errors.Told, DayTensor]:
    """Run a compiled kernel: ``source`` are the arguments before the grid, ``counts`` the one after the moments."""
    n_times, n_grid, n_levels = len(times), len(plan.grid), plan.levels
    on_grid = (
        np.empty((n_grid, len(plan.edge) - 1, 2), np.float32),
        np.empty(n_grid, np.int64),
        np.empty(n_grid, np.int64),
        np.empty(n_grid),
    )
    of_snapshots = (
        np.empty((n_times, 4)),
        np.empty(n_times, np.int32),
        np.zeros(n_times, np.int32),
        np.empty(n_times, np.uint8),
    )
    profile = np.empty((n_levels, 2), np.int64) if plan.profile else _NOTHING
    cells = n_levels * 4
    state = Moments(np.empty(cells, np.int64), *(np.empty(cells) for _ in range(5))) if plan.moments else _NO_MOMENTS
    options = (plan.limit, n_levels, plan.crossed, plan.locked, plan.clear_broken, plan.inspect)
    told = _backend.compiled(kernel)(
        *source,
        plan.grid,
        plan.edge,
        options,
        plan.out,
        on_grid,
        of_snapshots,
        profile,
        tuple(state),
        *(() if counts is None else (counts,)),
        plan.threads,
    )
    coverage, source_G, age, mid = on_grid
    touch, duplicate, broken, mark = of_snapshots
    deep, same, conflict = (0, 0, 0) if counts is None else counts.tolist()
    result = DayTensor(
        plan.out, coverage, source_G, age, mid, times, touch, duplicate, broken, mark, deep, same, conflict,
        state if plan.moments else None, profile if plan.profile else None,
    )  # fmt: skip
    return told, result


def specified(where: str, make: Callable[[], DayTensor]) -> DayTensor:
    """A specification's result: quiet as compiled code is, and with the caller's name for the kernel that refused."""
    try:
        with np.errstate(all="ignore"):
            return make()
    except ValueError as error:
        raise ValueError(f"{where}:{str(error).partition(':')[2]}") from error


def of_book(plan: Plan, times: Int64, book: Float64, duplicate_T: Int32, neither_T: Int32 | int) -> DayTensor:
    """The specification once rows are placed: kernel after kernel on the whole ``book``, which it clears.

    ``neither_T``: rows without price and quantity, which the book does not show.
    """
    broken_T = _clear_broken(book) + np.int32(neither_T) if plan.clear_broken else np.zeros(len(times), np.int32)
    touch_T4: Float64 = book[:, 0].copy()
    bid_T, ask_T = touch_T4[:, BID_PX], touch_T4[:, ASK_PX]
    drop_T = (plan.crossed & (bid_T > ask_T)) | (plan.locked & (bid_T == ask_T))
    mark_T = np.where(drop_T, Mark.DROPPED, 0).astype(np.uint8)
    if plan.inspect:
        mark_T |= np.where(_disordered(book), Mark.DISORDER, 0).astype(np.uint8)
        mark_T |= np.where(_stuck(book), Mark.STUCK, 0).astype(np.uint8)
    kept = np.flatnonzero(~drop_T)
    raw = resample_grid(times[kept], book[kept], plan.grid, max_age_ns=plan.limit)
    source = np.full(len(plan.grid), -1, np.int64)
    source[raw.source_G >= 0] = kept[raw.source_G[raw.source_G >= 0]]
    binned = bin_depth(raw.values_GX, plan.edge)
    plan.out[:] = binned.book_TDF
    first_G = (source >= 0) & np.diff(source, prepend=-1).astype(bool)
    used = np.where(first_G[:, None, None], raw.values_GX, np.nan)
    return DayTensor(
        plan.out, binned.coverage_TD2, source, raw.age_ns_G,
        0.5 * (raw.values_GX[:, 0, BID_PX] + raw.values_GX[:, 0, ASK_PX]),
        times, touch_T4, duplicate_T, broken_T, mark_T, 0, 0, 0,
        daily_moments(used.reshape(len(plan.grid), plan.levels * 4)) if plan.moments else None,
        depth_profile(used) if plan.profile else None,
    )  # fmt: skip


def _clear_broken(book_TLF: Floats) -> Int32:
    cell = book_TLF.reshape(*book_TLF.shape[:2], 2, 2)
    px, qty = cell[..., 0], cell[..., 1]
    good = (px > 0) & (px < np.inf) & (qty >= 0) & (qty < np.inf)
    broken = ~good & ~(np.isnan(px) & np.isnan(qty))
    cell[~good] = np.nan
    count: Int32 = broken.sum(axis=(1, 2)).astype(np.int32)
    return count


def _disordered(book_TLF: Floats) -> npt.NDArray[np.bool_]:
    bid, ask = book_TLF[..., BID_PX], -book_TLF[..., ASK_PX]
    found = np.zeros(len(book_TLF), bool)
    for px in (bid, ask):
        nearest = np.fmin.accumulate(px, axis=1)
        found |= (px[:, 1:] >= nearest[:, :-1]).any(axis=1)
    return found


def _stuck(book_TLF: Floats) -> npt.NDArray[np.bool_]:
    now, before = book_TLF[1:], book_TLF[:-1]
    same = (now == before) | (np.isnan(now) & np.isnan(before))
    return np.concatenate([np.zeros(min(1, len(book_TLF)), bool), same.all(axis=(1, 2))])
