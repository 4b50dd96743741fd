"""Raw snapshots on the common grid, strictly causally: a row dated g knows nothing later than g."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from bml import kernels
from bml.book.report import merged, run_events
from bml.host import kernel_threads
from bml.registry import step
from bml.types import (
    ASK_PX,
    BID_PX,
    NS_PER_DAY,
    NS_PER_S,
    AlignedDay,
    ConfigError,
    DataError,
    DataObject,
    DayContext,
    Flag,
    Int64,
)

NS_PER_MS = 1_000_000

#: a week: an older book is no book of now, and its age in ms still fits an int32
MAX_GAP_S = 7 * 86_400.0

#: flags that a grid cell gets here and never takes over from a snapshot
_OF_GRID = Flag.FILLED | Flag.GAP


@step()
def to_grid(
    obj: DataObject,
    ctx: DayContext,
    *,
    tolerance_ms: Annotated[float, Field(ge=0, le=MAX_GAP_S * 1e3)] = 500,
    max_gap_s: Annotated[float, Field(gt=0, le=MAX_GAP_S)] = 60,
    method: Literal["forward_fill"] = "forward_fill",
) -> AlignedDay:
    """The day's grid, ``ctx.start_ns`` + k * cadence for k in 0 .. 86400 s / cadence - 1, forward-filled.

    Row g holds the last snapshot with ts <= g; its age is g - ts. Snapshots from before midnight serve the
    first rows. Exactly:

    GAP      no snapshot, or one older than ``max_gap_s``: the book and mid are NaN, age_ms is -1, no other flag
    FILLED   not GAP, and no snapshot in (g - cadence, g], so the previous grid point used this one already:
             age >= cadence. A snapshot that comes a little after its grid point makes that row FILLED, since
             waiting for it would look ahead; give a stream that is late a ``data.phase_ms``
    ABSENT   not GAP, and one side has no price at level 1: mid is NaN
    others   are those of the snapshot in use

    ``mid_T`` is the mean of the level-1 prices. ``tolerance_ms`` only splits the count of FILLED rows: those no
    older than cadence + tolerance are late rather than missed (``n_late``). Counts: n_filled n_late n_gap; every
    run of GAP rows is listed. Units are "raw", dtype float64.
    Raises ConfigError (a parameter out of range, a cadence that does not divide a day, a grid that does not start
    in the day's first step), DataError (an object of another symbol or day). Cost: one pass over the grid's book.
    """
    del method  # one way is offered; it is named in the configuration so that a later one is a choice
    if not (0 <= tolerance_ms <= MAX_GAP_S * 1e3 and 0 < max_gap_s <= MAX_GAP_S):
        raise ConfigError(
            f"book.align.to_grid: tolerance_ms ({tolerance_ms:g}) must be 0 or more and max_gap_s ({max_gap_s:g}) "
            "above 0, neither more than a week"
        )
    grid_ns_T = day_grid(ctx)
    _check_object(obj, ctx, grid_ns_T)
    n_times, n_levels, n_fields = obj.book_TLF.shape
    on_grid = kernels.resample_grid(
        obj.ts_ns_T,
        obj.book_TLF.reshape(n_times, n_levels * n_fields),
        grid_ns_T,
        max_age_ns=max_age_ns(max_gap_s),
        threads=kernel_threads(),
    )
    book_TLF = on_grid.values_GX.reshape(len(grid_ns_T), n_levels, n_fields)
    mid_T = 0.5 * (book_TLF[:, 0, BID_PX] + book_TLF[:, 0, ASK_PX])

    is_gap_T = on_grid.source_G < 0
    is_filled_T = on_grid.age_ns_G >= ctx.cadence_ns
    is_late_T = is_filled_T & (on_grid.age_ns_G <= ctx.cadence_ns + round(tolerance_ms * NS_PER_MS))
    flag_T = np.zeros(len(grid_ns_T), np.uint16)
    flag_T[~is_gap_T] = obj.flag_T[on_grid.source_G[~is_gap_T]] & ~np.uint16(_OF_GRID)
    flag_T[is_filled_T] |= np.uint16(Flag.FILLED)
    flag_T[is_gap_T] = np.uint16(Flag.GAP)
    flag_T[~is_gap_T & np.isnan(mid_T)] |= np.uint16(Flag.ABSENT)

    counts = {"n_filled": int(is_filled_T.sum()), "n_late": int(is_late_T.sum()), "n_gap": int(is_gap_T.sum())}
    words = f"grid rows without a snapshot of the last {max_gap_s:g} s"
    events = run_events(Flag.GAP, is_gap_T, grid_ns_T, lambda i, j: words)
    return AlignedDay(
        symbol=obj.symbol,
        day=ctx.day,
        cadence_ns=ctx.cadence_ns,
        grid_ns_T=grid_ns_T,
        book_TLF=book_TLF,
        mid_T=mid_T,
        age_ms_T=np.where(is_gap_T, -1, on_grid.age_ns_G // NS_PER_MS).astype(np.int32),
        flag_T=flag_T,
        quality=merged(obj.quality, counts, events),
        query=obj.query,
    )


def max_age_ns(max_gap_s: float) -> int:
    """The age of the oldest snapshot that is carried forward."""
    return round(max_gap_s * NS_PER_S)


def day_grid(ctx: DayContext) -> Int64:
    """The grid of the context's day. Raises ConfigError when it is not one day of equal steps."""
    if ctx.cadence_ns <= 0 or NS_PER_DAY % ctx.cadence_ns:
        raise ConfigError(
            f"data.cadence_s: {ctx.cadence_ns / NS_PER_S:g} s does not divide a day of 86400 s: choose one that does"
        )
    midnight = int(np.datetime64(ctx.day, "ns").astype(np.int64))
    if not 0 <= ctx.start_ns - midnight < ctx.cadence_ns:
        raise ConfigError(
            f"data.phase_ms: {(ctx.start_ns - midnight) / NS_PER_MS:g} ms is not within [0, cadence), "
            f"the first step of {ctx.day}: choose a phase that is"
        )
    return ctx.start_ns + np.arange(NS_PER_DAY // ctx.cadence_ns, dtype=np.int64) * ctx.cadence_ns


def _check_object(obj: DataObject, ctx: DayContext, grid_ns_T: Int64) -> None:
    if obj.symbol != ctx.symbol:
        raise DataError(f"the data object is of {obj.symbol}, the day of {ctx.symbol}")
    if not (obj.start_ns <= grid_ns_T[0] and grid_ns_T[-1] <= obj.stop_ns):
        raise DataError(f"{obj.symbol} {ctx.day}: the data object does not cover the day: read all of it")
