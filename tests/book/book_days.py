"""Small books to test with: a random walk, its tall rows, and every step from rows to a model-ready day."""

from __future__ import annotations

import datetime as dt
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from bml.book import align, dataobject, depth, fused, moments, quality
from bml.types import (
    NS_PER_DAY,
    NS_PER_S,
    AlignedDay,
    DataObject,
    DayContext,
    DepthRows,
    Float64,
    Int64,
    QualityReport,
)

DAY = dt.date(2024, 1, 15)
MIDNIGHT = int(np.datetime64(DAY, "ns").astype(np.int64))
LOOK_BACK = 1200 * NS_PER_S
CADENCE_S = 600
EDGES = [0, 1, 2, 3, 6]


def context(cadence_s: float = CADENCE_S, phase_ms: int = 0, **learned: object) -> DayContext:
    return DayContext(
        symbol="BTCUSDT",
        day=DAY,
        start_ns=MIDNIGHT + phase_ms * 1_000_000,
        stop_ns=MIDNIGHT + NS_PER_DAY,
        cadence_ns=round(cadence_s * NS_PER_S),
        learned=dict(learned),
    )


def walk(n: int, levels: int = 6, seed: int = 1) -> Float64:
    """A clean book (n, levels, 4): prices in order, quantities above 0, all levels present."""
    rng = np.random.default_rng(seed)
    mid_T = 100.0 * np.exp(np.cumsum(rng.normal(0, 1e-3, n)))
    away = np.cumsum(rng.uniform(0.01, 0.05, (2, n, levels)), axis=2)
    qty = rng.lognormal(size=(2, n, levels))
    return np.stack([mid_T[:, None] - away[0], qty[0], mid_T[:, None] + away[1], qty[1]], axis=2)


def times(n: int, step_s: float = CADENCE_S, first_s: float = 0.0) -> Int64:
    return MIDNIGHT + np.round((first_s + step_s * np.arange(n)) * NS_PER_S).astype(np.int64)


def rows_of(ts_T: Int64, book_TLF: Float64, **other: Any) -> DepthRows:
    """Paired tall rows of a book, in time order."""
    n, levels, _ = book_TLF.shape
    return DepthRows(
        symbol="BTCUSDT",
        start_ns=MIDNIGHT - LOOK_BACK,
        stop_ns=MIDNIGHT + NS_PER_DAY,
        ts_ns_N=np.repeat(ts_T, levels),
        level_N=np.tile(np.arange(1, levels + 1, dtype=np.int32), n),
        columns=tuple(np.ascontiguousarray(book_TLF[:, :, f]).ravel() for f in range(4)),
        **other,
    )


def shuffled(rows: DepthRows, seed: int = 3) -> DepthRows:
    order = np.random.default_rng(seed).permutation(rows.n_rows)
    optional = {
        name: None if (x := getattr(rows, name)) is None else x[order] for name in ("side_N", "batch_N", "sequence_N")
    }
    return replace(
        rows,
        ts_ns_N=rows.ts_ns_N[order],
        level_N=rows.level_N[order],
        columns=tuple(x[order] for x in rows.columns),
        **optional,
    )


def object_of(ts_T: Int64, book_TLF: Float64, **other: Any) -> DataObject:
    """A data object as it is, past all checks of the rows."""
    given = {"flag_T": np.zeros(len(ts_T), np.uint16), "quality": QualityReport(symbol="BTCUSDT")} | other
    return DataObject(
        symbol="BTCUSDT",
        start_ns=MIDNIGHT - LOOK_BACK,
        stop_ns=MIDNIGHT + NS_PER_DAY,
        ts_ns_T=ts_T,
        book_TLF=book_TLF,
        **given,
    )


def finished(rows: DepthRows, *, edges: list[int] | None = None, max_gap_s: float = 1200, **checks: Any) -> AlignedDay:
    """Rows through every step to a day the store takes."""
    ctx = context()
    obj = quality.check(dataobject.build(rows, levels=6, bad_rows="drop", duplicates="last"), ctx, **checks)
    day = align.to_grid(obj, ctx, max_gap_s=max_gap_s)
    return moments.daily(depth.adaptive(day, ctx, edges=edges or EDGES), ctx)


def finished_fused(rows: DepthRows, *, max_gap_s: float = 1200, **checks: Any) -> AlignedDay:
    """:func:`finished`, its first steps in one pass."""
    ctx = context()
    steps = fused.recognise(
        _step(dataobject.build, levels=6, bad_rows="drop", duplicates="last"),
        [
            _step(quality.check, **checks),
            _step(align.to_grid, max_gap_s=max_gap_s),
            _step(depth.adaptive, edges=EDGES),
        ],
    )
    assert steps is not None
    day = steps.run(rows, ctx)
    assert day is not None
    return moments.daily(day, ctx)


def _step(fn: Callable[..., Any], **given: Any) -> fused.Step:
    """A function with its parameters complete, as a configuration has them."""
    named = inspect.signature(fn).parameters.values()
    return fn, {one.name: one.default for one in named if one.default is not one.empty} | given


def clean_day(seed: int = 1) -> AlignedDay:
    return finished(rows_of(times(144), walk(144, seed=seed)))
