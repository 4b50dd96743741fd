"""The first steps of a symbol-day in one pass over its rows, or over its book where the source placed them.

It is the same day as step by step, without another wide book.

Which steps those are is told by the functions themselves: ``recognise`` compares what the configuration names with
bml's own functions, so a step of a user's, or another order, is never mistaken for them.

The kernel makes bins and marks, the touch of every snapshot is a book of one level, and the steps' own code judges
that: every word, count and flag has one home. What the kernel refuses is left to the steps, which know symbol, time
and parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from bml import kernels
from bml.book import align, broken, dataobject, defects, depth, quality
from bml.host import kernel_threads
from bml.kernels import Mark
from bml.types import AlignedDay, BmlError, DayContext, DepthBook, DepthRows, Event, Float64, Int64

#: a function with all its parameters
Step = tuple[Callable[..., Any], Mapping[str, Any]]


def recognise(build: Step, steps: Sequence[Step]) -> FusedSteps | None:
    """The steps that can run as one; None when the first of them are others, or drop what the kernel cannot."""
    named = [fn for fn, _ in steps]
    n_checks = int(named[:1] == [quality.check])
    n_steps = n_checks + 2
    if build[0] is not dataobject.build or named[n_checks:n_steps] != [align.to_grid, depth.adaptive]:
        return None
    check = steps[0][1] if n_checks else None
    if check is not None and check["max_jump_bps"] is not None and check["outliers"] == "drop":
        return None
    return FusedSteps(n_steps, build[1], check, *(params for _, params in steps[n_checks:n_steps]))


class FusedSteps:
    """book.dataobject.build, book.quality.check (or not), book.align.to_grid and book.depth.adaptive as one."""

    def __init__(
        self,
        n_steps: int,
        build: Mapping[str, Any],
        check: Mapping[str, Any] | None,
        to_grid: Mapping[str, Any],
        adaptive: Mapping[str, Any],
    ) -> None:
        self.n_steps = n_steps
        self._build, self._check, self._to_grid, self._adaptive = build, check, to_grid, adaptive
        self._bins: Float64 = np.empty((0, 0, 4))

    def run(self, rows: DepthRows | DepthBook, ctx: DayContext) -> AlignedDay | None:
        """The day after these steps; None for the steps to be run one by one.

        That is when one of them will refuse the day, which only it can word, or when no level is in the depth plan.
        """
        levels = self._build["levels"]
        try:
            grid_ns_G = align.day_grid(ctx)
            plan_L1 = depth.plan_of(ctx, self._adaptive["edges"])
        except BmlError:
            return None
        within = depth.cut(plan_L1, levels)
        if len(within) == 1:
            return None
        back: tuple[Event, ...] = ()
        if isinstance(rows, DepthRows):
            back = dataobject.time_back(rows, self._build["monotonic_time"])
        try:
            if isinstance(rows, DepthRows):
                found = self._of_rows(rows, grid_ns_G, within)
            else:
                found = self._of_book(rows, grid_ns_G, within)
        except ValueError:
            return None
        dataobject.check_range(rows, found.ts_ns_T)
        if self._build["bad_rows"] == "error" and found.broken_T.any():
            return None
        placed = dataobject.Placed(found.ts_ns_T, found.duplicate_T, found.broken_T, found.n_deep, found.n_conflict)
        touch = dataobject.described(rows, found.touch_T4[:, None, :], placed, back, levels)
        if self._check is not None:
            touch = quality.judged(touch, ctx, self._seen(rows, found), **self._check)
        day = align.to_grid(touch, ctx, **self._to_grid)
        return depth.finished(day, found.book_GDF, found.coverage_GD2, within, plan_L1, self._adaptive["dtype"])

    def _of_rows(self, rows: DepthRows, grid_ns_G: Int64, within: Int64) -> kernels.DayTensor:
        levels = self._build["levels"]
        found = kernels.day_tensor(
            rows.ts_ns_N,
            rows.level_N,
            rows.columns,
            grid_ns_G,
            within,
            levels=levels,
            side_N=rows.side_N,
            batch_N=rows.batch_N,
            duplicates=self._build["duplicates"],
            **self._options(grid_ns_G, within),
        )
        beyond_T = broken.per_snapshot(rows, broken.beyond(rows, levels), found.ts_ns_T)
        return found._replace(broken_T=found.broken_T + beyond_T.astype(np.int32))

    def _of_book(self, book: DepthBook, grid_ns_G: Int64, within: Int64) -> kernels.DayTensor:
        found = kernels.day_tensor_of_book(
            book.ts_ns_T, book.book_TLF, grid_ns_G, within, **self._options(grid_ns_G, within)
        )
        return found._replace(
            duplicate_T=book.duplicate_T,
            broken_T=found.broken_T + book.void_T,
            n_deep=int(book.deep_T.sum(dtype=np.int64)),
            n_conflict=book.n_conflict,
        )

    def _options(self, grid_ns_G: Int64, within: Int64) -> dict[str, Any]:
        shape = (len(grid_ns_G), len(within) - 1, 4)
        if self._bins.shape != shape:
            self._bins = kernels.empty(shape)
        check = self._check or {}
        return {
            "max_age_ns": align.max_age_ns(self._to_grid["max_gap_s"]),
            "drop": [kind for kind in ("crossed", "locked") if check.get(kind) == "drop"],
            "clear_broken": True,
            "inspect": self._check is not None,
            "out": self._bins,
            "dtype": np.float64,
            "threads": kernel_threads(),
        }

    def _seen(self, rows: DepthRows | DepthBook, found: kernels.DayTensor) -> defects.Seen:
        """Marks as masks, and the words for a disorder from that one snapshot."""
        mark_T, find = found.mark_T, self._snapshots(rows)

        def worst_level(i: int, j: int) -> str:
            book_1LF = find(i, int(found.ts_ns_T[i]))
            broken.drop(book_1LF)
            return defects.worst_level(book_1LF)(0, 0)

        return defects.Seen((mark_T & Mark.DISORDER) != 0, (mark_T & Mark.STUCK) != 0, worst_level)

    def _snapshots(self, rows: DepthRows | DepthBook) -> Callable[[int, int], Float64]:
        """What finds the i-th snapshot by its time: of rows, they are placed anew."""
        if isinstance(rows, DepthBook):
            book_TLF = rows.book_TLF
            return lambda i, _: book_TLF[i : i + 1].copy()

        @cache
        def sorted_times() -> tuple[Int64, Int64 | None]:
            if dataobject.in_order(rows.ts_ns_N):
                return rows.ts_ns_N, None
            order = np.argsort(rows.ts_ns_N, kind="stable")
            return rows.ts_ns_N[order], order

        def find(_: int, ts_ns: int) -> Float64:
            ts_ns_N, order = sorted_times()
            span = slice(*np.searchsorted(ts_ns_N, [ts_ns, ts_ns + 1]).tolist())
            return self._book(rows, span if order is None else order[span])

        return find

    def _book(self, rows: DepthRows, some: Int64 | slice) -> Float64:
        """The book of some rows."""
        wide = kernels.tall_to_wide(
            rows.ts_ns_N[some],
            rows.level_N[some],
            [x[some] for x in rows.columns],
            levels=self._build["levels"],
            side_N=None if rows.side_N is None else rows.side_N[some],
            batch_N=None if rows.batch_N is None else rows.batch_N[some],
            duplicates=self._build["duplicates"],
        )
        return np.asarray(wide.book_TLF, np.float64)
