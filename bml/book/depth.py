"""Depth bins and model-ready units: near levels one by one, deep levels folded, prices in bps from the mid."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from bml import kernels
from bml.book.report import iso
from bml.host import kernel_threads
from bml.registry import step
from bml.types import ASK_PX, BID_PX, FIELDS, AlignedDay, ConfigError, DataError, DayContext, Float32, Floats, Int64

#: the name under which the driver hands back what :func:`learn` found
NAME = "book.depth.adaptive"

BPS = 1e4
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]


def learn(
    days: Iterable[AlignedDay],
    *,
    near_levels: Count = 50,
    deep_bins: Count = 10,
    min_nonzero: AtLeastOne = 5,
    edges: list[int] | None = None,
    dtype: Literal["float32", "float16"] = "float32",
) -> dict[str, Any]:
    """The depth plan of a data set from raw days of its training span: ``{"edges": [0, 1, ...]}``.

    The occupied depth is the deepest level which, on either side, has a quantity above 0 in at least
    ``min_nonzero`` grid rows of all days together; see :func:`plan` for the edges. ``edges`` given: those.
    Raises DataError when no level is occupied, ConfigError for wrong parameters. Reads each day once.
    """
    del dtype  # the plan does not depend on it; a learner takes the parameters of its step
    if edges is not None:
        return {"edges": _checked_edges(edges).tolist()}
    profile_L2 = np.zeros((0, 2), np.int64)
    for day in days:
        _must_be_raw(day)
        one_L2 = kernels.depth_profile(day.book_TLF, threads=kernel_threads())
        if len(one_L2) > len(profile_L2):
            profile_L2 = np.pad(profile_L2, ((0, len(one_L2) - len(profile_L2)), (0, 0)))
        profile_L2[: len(one_L2)] += one_L2
    occupied = np.flatnonzero(profile_L2.max(axis=1, initial=0) >= min_nonzero)
    if len(occupied) == 0:
        raise DataError(
            f"no level of the training days has a quantity in {min_nonzero} rows (min_nonzero): "
            "check the symbols and dates, or lower it"
        )
    return {"edges": plan(int(occupied[-1]) + 1, near_levels, deep_bins).tolist()}


def plan(depth: int, near_levels: int, deep_bins: int) -> Int64:
    """Edges (D + 1,) over ``depth`` levels: ``near_levels`` bins of one level, then at most ``deep_bins`` more.

    The deep bins differ by one level at most, the wider ones last. A book no deeper than ``near_levels`` has
    no deep bins; one with fewer deep levels than bins has one bin a level. Without deep bins the deep levels are
    left out. Raises ConfigError when no bin would be left.
    """
    near = min(near_levels, depth)
    deep = depth - near
    bins = min(deep_bins, deep)
    if near + bins == 0:
        raise ConfigError("book.depth.adaptive: near_levels and deep_bins are both 0: no bin is left")
    deep_edges = near + (np.arange(bins + 1) * deep) // bins if bins else np.array([near])
    return np.concatenate((np.arange(near), deep_edges)).astype(np.int64)


@step(learn=learn)
def adaptive(
    day: AlignedDay,
    ctx: DayContext,
    *,
    near_levels: Count = 50,
    deep_bins: Count = 10,
    min_nonzero: AtLeastOne = 5,
    edges: list[int] | None = None,
    dtype: Literal["float32", "float16"] = "float32",
) -> AlignedDay:
    """Fold the raw levels into the bins of the plan and make them model-ready.

    price     (px / mid - 1) * 1e4: bps from the mid of the same row; a bin's price is the quantity-weighted mean
    quantity  log1p of the bin's summed quantity
    NaN       stays NaN: absent bins, GAP rows, and prices where the mid is NaN (quantities stay)
    coverage  the share of each bin's levels that are present, per side

    The plan is ``edges`` or else what :func:`learn` found; it gives every day of a data set the same L. Bins
    beyond the levels of a shallower day are NaN with coverage 0. Folding is done in float64.
    float16 holds no more than 65504: a finite value that would overflow is refused.
    Raises ConfigError (no plan, wrong edges), DataError (not raw, overflow). Cost: one pass over the raw book.
    """
    _must_be_raw(day)
    plan_L1 = plan_of(ctx, edges)
    within = cut(plan_L1, day.book_TLF.shape[1])
    if len(within) == 1:
        nothing = np.empty((len(day.book_TLF), 0, 4))
        return finished(day, nothing, nothing[..., :2].astype(np.float32), within, plan_L1, dtype)
    binned = kernels.bin_depth(day.book_TLF, within, threads=kernel_threads())
    return finished(day, binned.book_TDF, binned.coverage_TD2, within, plan_L1, dtype)


def finished(
    day: AlignedDay, binned_TDF: Floats, coverage_TD2: Float32, within: Int64, plan_L1: Int64, dtype: str
) -> AlignedDay:
    """``day`` with the float64 bins of the edges ``within``, all the book has of the plan, in model units.

    ``binned_TDF`` is used as scratch. Of ``day.book_TLF`` nothing is read.
    """
    binned_TLF, coverage_TL2 = _widened(binned_TDF, coverage_TD2, within, plan_L1)
    mid_T11 = day.mid_T[:, None, None]
    prices = binned_TLF[:, :, BID_PX : ASK_PX + 1 : 2]
    np.divide(prices, mid_T11, out=prices)
    prices -= 1.0
    prices *= BPS
    sizes = binned_TLF[:, :, BID_PX + 1 : ASK_PX + 2 : 2]
    np.log1p(sizes, out=sizes)
    return replace(
        day,
        book_TLF=_narrowed(day, binned_TLF, dtype),
        units="bps_log1p",
        edges_L1=plan_L1,
        coverage_TL2=coverage_TL2,
    )


def plan_of(ctx: DayContext, edges: list[int] | None) -> Int64:
    """The plan as configured, else as learned."""
    return _checked_edges(edges) if edges is not None else _learned(ctx)


def cut(plan_L1: Int64, n_levels: int) -> Int64:
    """The edges of the bins of which the book has levels, none deeper than the book; one edge: no bin has."""
    edge = np.minimum(plan_L1, n_levels)
    return edge[: int(np.count_nonzero(np.diff(edge))) + 1]  # the bins that have levels come first


def _must_be_raw(day: AlignedDay) -> None:
    if day.units != "raw" or day.edges_L1 is not None:
        raise DataError(f"{day.symbol} {day.day}: book.depth.adaptive needs raw levels: use it once, after to_grid")


def _learned(ctx: DayContext) -> Int64:
    found = ctx.learned.get(NAME)
    if not isinstance(found, dict) or "edges" not in found:
        raise ConfigError(f"{NAME} has no depth plan: learn it from the training days, or set edges")
    return _checked_edges(found["edges"])


def _checked_edges(edges: Any) -> Int64:
    """Edges as int64 (D + 1,), D >= 1, increasing strictly from 0 or more."""
    if not isinstance(edges, list) or not all(isinstance(e, int) and not isinstance(e, bool) for e in edges):
        raise ConfigError(f"{NAME}: edges must be a list of whole numbers, not {edges!r}")
    out = np.asarray(edges, dtype=np.int64)
    if len(out) < 2 or out[0] < 0 or np.any(np.diff(out) <= 0):
        raise ConfigError(f"{NAME}: edges must increase strictly from 0 or more, two at least, not {edges}")
    return out


def _widened(book_TDF: Floats, coverage_TD2: Float32, within: Int64, plan_L1: Int64) -> tuple[Floats, Float32]:
    """Bins and coverage of the whole plan: those beyond the book's levels are NaN with coverage 0."""
    if np.array_equal(within, plan_L1):
        return book_TDF, coverage_TD2
    n_times, done, n_fields = book_TDF.shape
    n_bins = len(plan_L1) - 1
    book = np.full((n_times, n_bins, n_fields), np.nan)
    coverage = np.zeros((n_times, n_bins, 2), np.float32)
    book[:, :done] = book_TDF
    # a cut bin's share is of all the levels the plan gives it
    whole_D1 = (np.diff(within) / np.diff(plan_L1[: done + 1])).astype(np.float32)[:, None]
    coverage[:, :done] = coverage_TD2 * whole_D1
    return book, coverage


def _narrowed(day: AlignedDay, book_TLF: Floats, dtype: str) -> Floats:
    """``book_TLF`` in the stored type; DataError for the first finite value that becomes infinite."""
    with np.errstate(over="ignore"):
        out: Floats = book_TLF.astype(dtype)
    lost = np.isinf(out)
    if lost.any() and (lost := lost & np.isfinite(book_TLF)).any():
        t, level, f = np.argwhere(lost)[0].tolist()
        hint = "set dtype: float32" if dtype == "float16" else "drop such rows at the source"
        raise DataError(
            f"{day.symbol} {iso(int(day.grid_ns_T[t]))}: {FIELDS[f]} {book_TLF[t, level, f]:g} of bin {level} "
            f"does not fit {dtype} ({int(lost.sum()) - 1} more like it); {hint}"
        )
    return out
