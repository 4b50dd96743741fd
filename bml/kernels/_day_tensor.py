"""Tall rows to depth bins on a grid, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from bml.kernels import _arrays, _backend, _day_plan, _errors
from bml.kernels._day_plan import DayTensor, Plan
from bml.kernels._resample_grid import resample_grid
from bml.kernels._rows import KEEP, Int8, Order, Rows, in_any_order, in_order, levels_of, only_seemed_ordered, rows_of
from bml.kernels._tall_to_wide import tall_to_wide
from bml.types import Floats, Int32, Int64

_NO_TIMES = np.empty(0, np.int64)


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
    _arrays.choice(where, "duplicates", duplicates, KEEP)
    plan = _day_plan.plan_of(
        where, grid_ns_G, edges, levels_of(where, levels), (rows.ts, rows.level, rows.side, rows.batch, *rows.columns),
        max_age_ns=max_age_ns, drop=drop, clear_broken=clear_broken, inspect=inspect, moments=moments,
        profile=profile, dtype=dtype, out=out, threads=threads,
    )  # fmt: skip
    if _backend.current() != "compiled":
        return _day_plan.specified(where, lambda: _one_after_another(rows, plan, duplicates))
    order, keep = in_order(rows.ts), KEEP[duplicates]
    if order is not None:
        told, result = _fused(order, rows, keep, plan)
    if order is None or only_seemed_ordered(rows.ts, told):
        told, result = _fused(in_any_order(rows.ts, plan.threads), rows, keep, plan)
    at: _errors.Arrays = {"ts_ns_N": rows.ts, "level_N": rows.level, "side_N": rows.side, "grid_ns_G": plan.grid}
    _errors.check(where, told, at)
    return result


def _fused(order: Order, rows: Rows, keep: int, plan: Plan) -> tuple[_errors.Told, DayTensor]:
    return _day_plan.run("day_tensor", plan, order.times, *rows, keep, *order, counts=np.zeros(3, np.int64))


def _one_after_another(rows: Rows, plan: Plan, duplicates: Literal["error", "first", "last"]) -> DayTensor:
    """The specification: kernel after kernel on whole books."""
    resample_grid(_NO_TIMES, np.empty(0), plan.grid, max_age_ns=0)  # the grid is refused before any row
    side = rows.side if len(rows.columns) == 2 else None
    batch = rows.batch if len(rows.batch) else None
    wide = tall_to_wide(
        rows.ts, rows.level, rows.columns, levels=plan.levels, side_N=side, batch_N=batch, duplicates=duplicates
    )
    neither_T = _neither(rows, plan.levels, wide.ts_ns_T)
    book_TLF = np.asarray(wide.book_TLF, np.float64)
    found = _day_plan.of_book(plan, wide.ts_ns_T, book_TLF, wide.duplicate_T, neither_T)
    return found._replace(n_deep=wide.n_deep, n_duplicate=wide.n_duplicate, n_conflict=wide.n_conflict)


def _neither(rows: Rows, levels: int, times: Int64) -> Int32:
    """Sided rows of the book without price and quantity, per snapshot."""
    if len(rows.columns) == 4:
        return np.zeros(len(times), np.int32)
    neither_N = np.isnan(rows.columns[0]) & np.isnan(rows.columns[1]) & (rows.level <= levels)
    count: Int32 = np.bincount(np.searchsorted(times, rows.ts[neither_N]), minlength=len(times)).astype(np.int32)
    return count
