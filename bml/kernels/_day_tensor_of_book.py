"""A placed book to depth bins on a grid, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from bml.kernels import _arrays, _backend, _day_plan, _errors
from bml.kernels._day_plan import DayTensor, Plan
from bml.kernels._resample_grid import resample_grid
from bml.types import Floats, Int64


def day_tensor_of_book(
    ts_ns_T: Int64,
    book_TLF: Floats,
    grid_ns_G: Int64,
    edges: Int64,
    *,
    max_age_ns: int,
    drop: Sequence[Literal["crossed", "locked"]] = (),
    clear_broken: bool = False,
    inspect: bool = False,
    moments: bool = False,
    profile: bool = False,
    dtype: npt.DTypeLike = np.float32,
    out: Floats | None = None,
    threads: int | None = None,
) -> DayTensor:
    """:func:`day_tensor` of rows that are placed already: each cell is read once, and no second book is made.

    ts_ns_T   int64 (T,) nanoseconds, strictly increasing: the time of each snapshot
    book_TLF  (T, levels, 4) float64 or float32 = bid_px, bid_qty, ask_px, ask_qty; NaN is no such level. It is only
              read: ``clear_broken`` works on a copy of the snapshot in hand
    others    as of :func:`day_tensor`, and so is what is returned; ``duplicate_T`` and the counts are 0
    raises    TypeError, ValueError as :func:`day_tensor`, of times that do not increase too. Inputs must not be written
              to by another thread during the call
    cost      one read of the book, one write of the bins, O(levels) scratch a thread. Releases the GIL
    """
    where = "day_tensor_of_book"
    ts = _arrays.plain(where, "ts_ns_T", ts_ns_T, _arrays.INT64S)
    book: Floats = _arrays.plain(where, "book_TLF", book_TLF, _arrays.FLOATS, 3)
    _arrays.same_length(where, ("ts_ns_T", "book_TLF"), ts, book)
    if book.shape[1] < 1 or book.shape[2] != 4:
        raise ValueError(f"{where}: book_TLF must be (T, levels, 4) with at least one level, not {book.shape}")
    plan = _day_plan.plan_of(
        where, grid_ns_G, edges, book.shape[1], (ts, book), max_age_ns=max_age_ns, drop=drop,
        clear_broken=clear_broken, inspect=inspect, moments=moments, profile=profile, dtype=dtype, out=out,
        threads=threads,
    )  # fmt: skip
    if _backend.current() != "compiled":
        return _day_plan.specified(where, lambda: _one_after_another(ts, book, plan))
    told, result = _day_plan.run("day_tensor_of_book", plan, ts.copy(), ts, book)
    _errors.check(where, told, {"ts_ns_T": ts, "grid_ns_G": plan.grid})
    return result


def _one_after_another(ts: Int64, book: Floats, plan: Plan) -> DayTensor:
    """The specification: kernel after kernel on a copy of the book."""
    resample_grid(ts, np.empty(len(ts)), plan.grid, max_age_ns=0)  # times are refused whatever is dropped
    return _day_plan.of_book(plan, ts.copy(), book.astype(np.float64), np.zeros(len(ts), np.int32), 0)
