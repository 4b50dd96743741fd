"""Tall rows to the wide book."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from bml.kernels import _arrays, _errors
from bml.kernels._backend import helper, specification
from bml.kernels._memory import empty
from bml.kernels._rows import KEEP, Int8, Order, Rows, in_any_order, in_order, levels_of, only_seemed_ordered, rows_of
from bml.types import Floats, Int32, Int64

_REFUSE, _LAST = 0, 2
_MANY_CELLS = 1 << 16  # fewer are not worth asking for huge pages


class TallToWide(NamedTuple):
    """What :func:`tall_to_wide` returns."""

    ts_ns_T: Int64  # the distinct times, ascending; a time all of whose rows were too deep stays, all NaN
    book_TLF: Floats  # (T, levels, 4)
    duplicate_T: Int32  # surplus rows per snapshot: n_duplicate + n_conflict + those a larger batch replaced
    n_deep: int  # rows with level > levels, dropped
    n_duplicate: int  # surplus rows of the kept row's batch with its values
    n_conflict: int  # surplus rows of the kept row's batch with other values


def tall_to_wide(
    ts_ns_N: Int64,
    level_N: Int32,
    columns: Sequence[Floats],
    *,
    levels: int,
    side_N: Int8 | None = None,
    batch_N: Int64 | None = None,
    duplicates: Literal["error", "first", "last"] = "error",
    dtype: npt.DTypeLike = np.float64,
    out: Floats | None = None,
    threads: int | None = None,
) -> TallToWide:
    """Rows (time, level[, side]) in any order to a book (T, levels, 4) = bid_px, bid_qty, ask_px, ask_qty.

    ts_ns_N   int64 (N,) nanoseconds; level_N int32 (N,) from 1 = best; rows deeper than ``levels`` are dropped
    columns   paired: four (N,) arrays, both sides of a level; sided, with side_N int8 (N,) 0 bid or 1 ask:
              two, px and qty. All float64 or all float32
    batch_N   int64 (N,): of rows for one cell the largest batch wins. Rows of that batch with the kept row's
              values (NaN equals NaN) are counted; with other values ``duplicates`` decides: "error" refuses,
              "first" or "last" keeps by row order
    dtype     of the book, float64 or float32, whatever the columns are
    out       reused memory: an array (at least T, levels, 4) of ``dtype``; ``book_TLF`` is its first T rows
    threads   how many work on it; None: BML_NUM_THREADS, else 1. The result does not depend on it
    NaN       cells no row names are NaN; NaN, zero and infinite values are data and pass unchanged
    levels    1 to 2**20
    raises    TypeError (dtype, byte order, not an array); ValueError (``levels``, shape, ``out``, or data: level < 1,
              side not 0 or 1, conflicting duplicates; the row is named, counted from 0; 2**32 - 1 rows or more).
              Inputs must not be written to by another thread during the call
    cost      rows in time order: one read of the rows, one write of the book, O(levels) scratch a thread. Else: one
              more write and read of the rows, 4 bytes a row and those of the rows as scratch. Releases the GIL
    """
    where = "tall_to_wide"
    rows = rows_of(where, ts_ns_N, level_N, columns, side_N, batch_N)
    n_levels = levels_of(where, levels)
    keep = _arrays.choice(where, "duplicates", duplicates, KEEP)
    kind = _arrays.floating(where, "dtype", dtype)
    n_threads = _arrays.threads(where, threads)
    order = in_order(rows.ts)
    if order is not None:
        told, result = _run(where, rows, order, n_levels, keep, kind, out, n_threads)
    if order is None or only_seemed_ordered(rows.ts, told):
        told, result = _run(where, rows, in_any_order(rows.ts, n_threads), n_levels, keep, kind, out, n_threads)
    _errors.check(where, told, {"ts_ns_N": rows.ts, "level_N": rows.level, "side_N": rows.side})
    return result


def _run(
    where: str, rows: Rows, order: Order, levels: int, keep: int, kind: npt.DTypeLike, out: Floats | None, threads: int
) -> tuple[_errors.Told, TallToWide]:
    n_times = len(order.times)
    shape = (n_times, levels, 4)
    book: Floats = (
        (empty if n_times * levels > _MANY_CELLS else np.empty)(shape, kind)
        if out is None
        else _room(where, out, kind, shape, (rows.ts, rows.level, rows.side, rows.batch, *rows.columns))
    )
    duplicate = np.empty(n_times, _arrays.INT32)
    counts = np.zeros(3, _arrays.INT64)
    told = _tall_to_wide(*rows, keep, *order, book, duplicate, counts, threads)
    return told, TallToWide(order.times, book, duplicate, *counts.tolist())


def _room(
    where: str, out: Floats, dtype: npt.DTypeLike, shape: tuple[int, ...], inputs: Sequence[_arrays.Array]
) -> Floats:
    """The first T rows of ``out``; how many times there are is not known before the call, so more is fine."""
    enough = isinstance(out, np.ndarray) and out.ndim == 3 and out.shape[1:] == shape[1:] and len(out) >= shape[0]
    expected = (len(out), *shape[1:]) if enough else shape
    return _arrays.given(where, "out", out, dtype, expected, inputs)[: shape[0]]


@helper
def _same(columns: tuple[Floats, ...], i: int, j: int) -> bool:
    for column in columns:
        a, b = column[i], column[j]
        if not (a == b or (a != a and b != b)):  # NaN equals NaN: missing twice is no conflict
            return False
    return True


@helper
def _later(batch_N: Int64, i: int, j: int, keep: int) -> bool:
    if len(batch_N) > 0 and batch_N[i] != batch_N[j]:
        return bool(batch_N[i] > batch_N[j])
    return keep == _LAST


@helper
def _settle(
    level_N: Int32, columns: tuple[Floats, ...], side_N: Int8, batch_N: Int64, keep: int, slot_N: Int32, levels: int,
    duplicate_T: Int32, owner: Int64, counts: Int64, start: int, stop: int, t: int,
) -> _errors.Told:  # fmt: skip
    """Count the surplus rows of [start, stop), once it is known which row every cell keeps."""
    sides = 4 // len(columns)
    for i in range(start, stop):
        if level_N[i] > levels:
            continue
        if len(slot_N) > 0:
            t = slot_N[i]
        cell = (int(level_N[i]) - 1) * sides + (int(side_N[i]) if sides == 2 else 0)
        kept = owner[t * levels * sides + cell if len(slot_N) > 0 else cell]
        if kept == i:
            continue
        duplicate_T[t] += 1
        if len(batch_N) > 0 and batch_N[i] != batch_N[kept]:
            continue  # a later batch replaced it
        if _same(columns, i, kept):
            counts[1] += 1
        elif keep == _REFUSE:
            return _errors.DUPLICATE_CONFLICT, i
        else:
            counts[2] += 1
    return _errors.OK, -1


@specification
def _tall_to_wide(
    ts_ns_N: Int64, level_N: Int32, columns: tuple[Floats, ...], side_N: Int8, batch_N: Int64, keep: int,
    starts: Int64, slot_N: Int32, ts_ns_T: Int64, book_TLF: Floats, duplicate_T: Int32, counts: Int64, threads: int,
) -> _errors.Told:  # fmt: skip
    """``counts`` = deep, duplicate, conflict. Rows in order: ``starts``, and ``owner`` holds one snapshot's cells; else
    ``slot_N``, and ``owner`` holds all cells. An empty ``batch_N`` is none."""
    levels, width, sides = book_TLF.shape[1], len(columns), 4 // len(columns)
    shuffled = len(slot_N) > 0
    owner = np.full(levels * sides * (len(ts_ns_T) if shuffled else 1), -1, np.int64)
    book_TLF[:] = np.nan
    duplicate_T[:] = 0
    t, first, surplus = -1, 0, 0
    for i in range(len(ts_ns_N)):
        if shuffled:
            t = slot_N[i]
        elif t + 1 < len(ts_ns_T) and i == starts[t + 1]:
            if surplus > 0:
                told = _settle(level_N, columns, side_N, batch_N, keep, slot_N, levels, duplicate_T, owner, counts,
                               first, i, t)  # fmt: skip
                if told[0] != _errors.OK:
                    return told
            t, first, surplus = t + 1, i, 0
        if ts_ns_N[i] != ts_ns_T[t]:
            return _errors.TIMES_CHANGED, i
        if level_N[i] < 1:
            return _errors.LEVEL_BELOW_ONE, i
        if sides == 2 and side_N[i] != 0 and side_N[i] != 1:
            return _errors.SIDE_UNKNOWN, i
        if level_N[i] > levels:
            counts[0] += 1
            continue
        level, side = int(level_N[i]) - 1, int(side_N[i]) if sides == 2 else 0
        at = (t * levels * sides if shuffled else 0) + level * sides + side
        if owner[at] >= first:  # a smaller number is of an earlier snapshot
            surplus += 1
            if not _later(batch_N, i, owner[at], keep):
                continue
        owner[at] = i
        for k in range(width):
            book_TLF[t, level, side * width + k] = columns[k][i]
    if surplus > 0:
        return _settle(level_N, columns, side_N, batch_N, keep, slot_N, levels, duplicate_T, owner, counts,
                       first, len(ts_ns_N), t)  # fmt: skip
    return _errors.OK, -1
