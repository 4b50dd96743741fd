"""Tall rows to depth bins on a grid, in one pass."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from bml.kernels import _arrays, _backend, _errors
from bml.kernels._bin_depth import bin_depth
from bml.kernels._daily_moments import Moments, daily_moments
from bml.kernels._depth_profile import depth_profile
from bml.kernels._memory import empty
from bml.kernels._resample_grid import resample_grid
from bml.kernels._rows import KEEP, Int8, Order, Rows, in_any_order, in_order, levels_of, only_seemed_ordered, rows_of
from bml.kernels._tall_to_wide import tall_to_wide
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


def day_tensor(
    ts_ns_N: Int64,
    level_N: Int32,
    columns: Sequence[Floats],
    grid_ns_G: Int64,
    edges: Int64,
    *,
    levels: int,
    max_age_ns: int,
    side_N: Int8 | None = None,
    batch_N: Int64 | None = None,
    duplicates: Literal["error", "first", "last"] = "error",
    drop: Sequence[Literal["crossed", "locked"]] = (),
    clear_broken: bool = False,
    inspect: bool = False,
    moments: bool = False,
    profile: bool = False,
    dtype: npt.DTypeLike = np.float32,
    out: Floats | None = None,
    threads: int | None = None,
) -> DayTensor:
    """Tall rows in any order to depth bins on a grid: each row is read once, no (T, levels, 4) book is made.

    The same, bit for bit, as tall_to_wide, resample_grid (forward fill) and bin_depth one after another:

    ts_ns_N, level_N, columns, side_N, batch_N, duplicates, levels   as of :func:`tall_to_wide`
    grid_ns_G, max_age_ns   as of :func:`resample_grid`: row g has the last snapshot at or before its time. STRICTLY
              CAUSAL: nothing dated after a grid time changes its row
    edges     int64 (D + 1,) as of :func:`bin_depth`
    clear_broken   make cells NaN of which price or quantity is missing or infinite, the price <= 0 or the quantity
              < 0, and count them (``broken_T``; of sided rows also those with neither). Before anything looks at them
    drop      snapshots that no grid row may use: "crossed", bid > ask at level 1; "locked", bid == ask
    inspect   look for Mark.DISORDER and Mark.STUCK
    moments   of every raw cell (levels * 4) over the grid rows that are the first to use their snapshot: what
              :func:`daily_moments` gives of the grid's book with all other rows NaN
    profile   :func:`depth_profile` over the same rows
    dtype     of book_GDF: float32, float64 or float16; sums are float64. out: reused memory (G, D, 4) of it
    threads   how many work on it; None: BML_NUM_THREADS, else 1. The result does not depend on it
    NaN       no snapshot, or none young enough: book and mid NaN, coverage 0, source and age -1
    raises    TypeError, ValueError as the kernels it stands for; TypeError for a flag that is not True or False,
              ValueError for ``drop`` of anything else
    cost      rows in time order: one read of the rows, one write of the bins, O(levels) scratch a thread (with moments
              224 bytes a level for every 256 grid rows). In any other order one more write and read of the rows, and
              their bytes as scratch. Releases the GIL
    """
    where = "day_tensor"
    rows = rows_of(where, ts_ns_N, level_N, columns, side_N, batch_N)
    grid = _arrays.plain(where, "grid_ns_G", grid_ns_G, _arrays.INT64S)
    n_levels = levels_of(where, levels)
    edge = _edges(where, edges, n_levels)
    _arrays.choice(where, "duplicates", duplicates, KEEP)
    limit = _arrays.integer(where, "max_age_ns", max_age_ns, least=0)
    crossed, locked = _drops(where, drop)
    kind = np.dtype(dtype)
    if kind not in _DTYPES:
        raise TypeError(f"{where}: dtype must be float32, float64 or float16, not {kind}")
    shape = (len(grid), len(edge) - 1, 4)
    if out is None:
        out = empty(shape, kind)
    else:
        out = _arrays.given(
            where, "out", out, kind, shape, (rows.ts, rows.level, rows.side, rows.batch, *rows.columns, grid, edge)
        )
    for name, flag in {
        "clear_broken": clear_broken,
        "inspect": inspect,
        "moments": moments,
        "profile": profile,
    }.items():
        if not isinstance(flag, bool):
            raise TypeError(f"{where}: {name} must be True or False, not {type(flag).__name__}")
    options = (limit, n_levels, crossed, locked, clear_broken, inspect)
    n_threads = _arrays.threads(where, threads)
    if _backend.current() != "compiled":
        try:
            with np.errstate(all="ignore"):  # as compiled code does
                return _one_after_another(rows, grid, edge, options, duplicates, moments, profile, out)
        except ValueError as error:  # of one of the kernels: the caller knows this one
            raise ValueError(f"{where}:{str(error).partition(':')[2]}") from error
    order, run = in_order(rows.ts), (rows, grid, edge, options, KEEP[duplicates], moments, profile, out, n_threads)
    if order is not None:
        told, result = _fused(order, *run)
    if order is None or only_seemed_ordered(rows.ts, told):
        told, result = _fused(in_any_order(rows.ts, n_threads), *run)
    _errors.check(where, told, {"ts_ns_N": rows.ts, "level_N": rows.level, "side_N": rows.side, "grid_ns_G": grid})
    return result


Options = tuple[int, int, bool, bool, bool, bool]


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


def _fused(
    order: Order, rows: Rows, grid: Int64, edge: Int64, options: Options, keep: int,
    moments: bool, profile: bool, out: Floats, threads: int,
) -> tuple[_errors.Told, DayTensor]:  # fmt: skip
    n_times, n_grid, n_levels = len(order.times), len(grid), options[1]
    on_grid = (
        np.empty((n_grid, len(edge) - 1, 2), np.float32),
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
    level_profile = np.empty((n_levels, 2), np.int64) if profile else _NOTHING
    cells = n_levels * 4
    state = Moments(np.empty(cells, np.int64), *(np.empty(cells) for _ in range(5))) if moments else _NO_MOMENTS
    counts = np.zeros(3, np.int64)
    told = _backend.compiled("day_tensor")(
        *rows,
        keep,
        *order,
        grid,
        edge,
        options,
        out,
        on_grid,
        of_snapshots,
        level_profile,
        tuple(state),
        counts,
        threads,
    )
    coverage, source, age, mid = on_grid
    touch, duplicate, broken, mark = of_snapshots
    deep, same, conflict = counts.tolist()
    result = DayTensor(
        out, coverage, source, age, mid, order.times, touch, duplicate, broken, mark, deep, same, conflict,
        state if moments else None, level_profile if profile else None,
    )  # fmt: skip
    return told, result


def _one_after_another(
    rows: Rows, grid: Int64, edge: Int64, options: Options, duplicates: Literal["error", "first", "last"],
    moments: bool, profile: bool, out: Floats,
) -> DayTensor:  # fmt: skip
    """The specification: kernel after kernel on whole books."""
    limit, levels, crossed, locked, clear, inspect = options
    resample_grid(_NOTHING, np.empty(0), grid, max_age_ns=0)  # the grid is refused before any row
    side = rows.side if len(rows.columns) == 2 else None
    batch = rows.batch if len(rows.batch) else None
    wide = tall_to_wide(
        rows.ts, rows.level, rows.columns, levels=levels, side_N=side, batch_N=batch, duplicates=duplicates
    )
    book, times = np.asarray(wide.book_TLF, np.float64), wide.ts_ns_T
    broken_T = _clear_broken(book, rows, times) if clear else np.zeros(len(times), np.int32)
    touch_T4: Float64 = book[:, 0].copy()
    bid_T, ask_T = touch_T4[:, BID_PX], touch_T4[:, ASK_PX]
    drop_T = (crossed & (bid_T > ask_T)) | (locked & (bid_T == ask_T))
    mark_T = np.where(drop_T, Mark.DROPPED, 0).astype(np.uint8)
    if inspect:
        mark_T |= np.where(_disordered(book), Mark.DISORDER, 0).astype(np.uint8)
        mark_T |= np.where(_stuck(book), Mark.STUCK, 0).astype(np.uint8)
    kept = np.flatnonzero(~drop_T)
    raw = resample_grid(times[kept], book[kept], grid, max_age_ns=limit)
    source = np.full(len(grid), -1, np.int64)
    source[raw.source_G >= 0] = kept[raw.source_G[raw.source_G >= 0]]
    binned = bin_depth(raw.values_GX, edge)
    out[:] = binned.book_TDF
    first_G = (source >= 0) & np.diff(source, prepend=-1).astype(bool)
    used = np.where(first_G[:, None, None], raw.values_GX, np.nan)
    return DayTensor(
        out, binned.coverage_TD2, source, raw.age_ns_G,
        0.5 * (raw.values_GX[:, 0, BID_PX] + raw.values_GX[:, 0, ASK_PX]),
        times, touch_T4, wide.duplicate_T, broken_T, mark_T, wide.n_deep, wide.n_duplicate, wide.n_conflict,
        daily_moments(used.reshape(len(grid), levels * 4)) if moments else None,
        depth_profile(used) if profile else None,
    )  # fmt: skip


def _clear_broken(book_TLF: Floats, rows: Rows, times: Int64) -> Int32:
    cell = book_TLF.reshape(*book_TLF.shape[:2], 2, 2)
    px, qty = cell[..., 0], cell[..., 1]
    good = (px > 0) & (px < np.inf) & (qty >= 0) & (qty < np.inf)
    broken = ~good & ~(np.isnan(px) & np.isnan(qty))
    cell[~good] = np.nan
    count: Int32 = broken.sum(axis=(1, 2)).astype(np.int32)
    if len(rows.columns) == 2:
        neither = np.isnan(rows.columns[0]) & np.isnan(rows.columns[1]) & (rows.level <= book_TLF.shape[1])
        slot = np.searchsorted(times, rows.ts[neither])
        count += np.bincount(slot, minlength=len(times)).astype(np.int32)
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
