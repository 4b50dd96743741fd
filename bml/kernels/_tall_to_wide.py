"""Tall rows to the wide book."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from bml.kernels import _arrays, _errors
from bml.kernels._backend import helper, specification
from bml.types import Floats, Int32, Int64

Int8 = npt.NDArray[np.int8]

_KEEP = {"error": 0, "first": 1, "last": 2}
_REFUSE, _LAST = 0, 2
_COLUMNS = tuple(f"columns[{k}]" for k in range(4))
_ROWS = ("ts_ns_N", "level_N", *_COLUMNS)
_NO_SIDE, _NO_BATCH = _arrays.none(_arrays.INT8), _arrays.none(_arrays.INT64)


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
    raises    TypeError (dtype, byte order, not an array); ValueError (shape, ``out``, or data: level < 1,
              side not 0 or 1, conflicting duplicates; the row is named, counted from 0)
    cost      rows in time order: one pass over ts and one over the rows, one write of the book, O(levels)
              scratch. Else: one sort of ts, a search per row, and 8 bytes per cell of scratch. Releases the GIL
    """
    where = "tall_to_wide"
    ts = _arrays.plain(where, "ts_ns_N", ts_ns_N, _arrays.INT64S)
    level = _arrays.plain(where, "level_N", level_N, _arrays.INT32S)
    side = _NO_SIDE if side_N is None else _arrays.plain(where, "side_N", side_N, _arrays.INT8S)
    batch = _NO_BATCH if batch_N is None else _arrays.plain(where, "batch_N", batch_N, _arrays.INT64S)
    fields = _columns(where, columns, sided=side_N is not None)
    _arrays.same_length(where, _ROWS, ts, level, *fields)
    if side_N is not None:
        _arrays.same_length(where, ("ts_ns_N", "side_N"), ts, side)
    if batch_N is not None:
        _arrays.same_length(where, ("ts_ns_N", "batch_N"), ts, batch)
    n_levels = _arrays.integer(where, "levels", levels, least=1)
    keep = _arrays.choice(where, "duplicates", duplicates, _KEEP)
    kind = _arrays.floating(where, "dtype", dtype)

    n_threads = _arrays.threads(where, threads)
    n_times = int(_count_times(ts, n_threads))
    in_order = n_times >= 0
    times = np.empty(n_times, _arrays.INT64) if in_order else np.unique(ts)
    shape = (len(times), n_levels, 4)
    inputs = (ts, level, side, batch, *fields)
    book: Floats = np.empty(shape, kind) if out is None else _room(where, out, kind, shape, inputs)
    n_sides = 1 if side_N is None else 2
    owner = np.empty(n_levels * n_sides * (1 if in_order else len(times)), _arrays.INT64)
    owner.fill(-1)
    duplicate = np.zeros(len(times), _arrays.INT32)
    counts = np.zeros(3, _arrays.INT64)
    told = _tall_to_wide(
        ts, level, fields, side, batch, keep, in_order, times, book, duplicate, owner, counts, n_threads
    )
    _errors.check(where, told, {"ts_ns_N": ts, "level_N": level, "side_N": side})
    return TallToWide(times, book, duplicate, *counts.tolist())


def _columns(where: str, columns: Sequence[Floats], *, sided: bool) -> tuple[Floats, ...]:
    if not isinstance(columns, tuple | list):
        raise TypeError(f"{where}: columns must be a tuple of arrays, not {type(columns).__name__}")
    wanted = "2 (px, qty) with side_N" if sided else "4 (bid_px, bid_qty, ask_px, ask_qty) without side_N"
    if len(columns) != (2 if sided else 4):
        raise ValueError(f"{where}: columns must be {wanted}, not {len(columns)}")
    fields = [_arrays.plain(where, name, x, _arrays.FLOATS) for name, x in zip(_COLUMNS, columns)]  # noqa: B905
    kind = fields[0].dtype
    if any([x.dtype is not kind and x.dtype != kind for x in fields]):  # noqa: C419
        raise TypeError(f"{where}: columns must be all float64 or all float32")
    return tuple(fields)


def _room(
    where: str, out: Floats, dtype: npt.DTypeLike, shape: tuple[int, ...], inputs: Sequence[_arrays.Array]
) -> Floats:
    """The first T rows of ``out``; how many times there are is not known before the call, so more is fine."""
    enough = isinstance(out, np.ndarray) and out.ndim == 3 and out.shape[1:] == shape[1:] and len(out) >= shape[0]
    expected = (len(out), *shape[1:]) if enough else shape
    return _arrays.given(where, "out", out, dtype, expected, inputs)[: shape[0]]


@specification
def _count_times(ts_ns_N: Int64, threads: int) -> int:
    """How many distinct times; -1 when they are not in order."""
    count = 1 if len(ts_ns_N) > 0 else 0
    for i in range(1, len(ts_ns_N)):
        if ts_ns_N[i] < ts_ns_N[i - 1]:
            return -1
        if ts_ns_N[i] > ts_ns_N[i - 1]:
            count += 1
    return count


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
def _find_time(ts: int, ts_ns_T: Int64, near: int) -> int:
    """Where ``ts`` lies in the sorted times, -1: nowhere. The slot after ``near`` comes first (level-major rows)."""
    if near + 1 < len(ts_ns_T) and ts_ns_T[near + 1] == ts:
        return near + 1
    low, high = 0, len(ts_ns_T)
    while low < high:
        middle = (low + high) // 2
        if ts_ns_T[middle] < ts:
            low = middle + 1
        else:
            high = middle
    return low if low < len(ts_ns_T) and ts_ns_T[low] == ts else -1


@helper
def _settle(
    ts_ns_N: Int64, level_N: Int32, columns: tuple[Floats, ...], side_N: Int8, batch_N: Int64, keep: int,
    in_order: bool, ts_ns_T: Int64, levels: int, duplicate_T: Int32, owner: Int64, counts: Int64,
    start: int, stop: int, t: int,
) -> _errors.Told:  # fmt: skip
    """Count the surplus rows of [start, stop), once it is known which row every cell keeps."""
    sides = 4 // len(columns)
    for i in range(start, stop):
        if level_N[i] > levels:
            continue
        if not in_order and ts_ns_T[t] != ts_ns_N[i]:
            t = _find_time(ts_ns_N[i], ts_ns_T, t)
        cell = (int(level_N[i]) - 1) * sides + (int(side_N[i]) if sides == 2 else 0)
        kept = owner[cell if in_order else t * levels * sides + cell]
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
    in_order: bool, ts_ns_T: Int64, book_TLF: Floats, duplicate_T: Int32, owner: Int64, counts: Int64, threads: int,
) -> _errors.Told:  # fmt: skip
    """``counts`` = deep, duplicate, conflict. In order: writes ``ts_ns_T``, ``owner`` holds one snapshot's cells;
    else ``ts_ns_T`` is given, sorted and unique, and ``owner`` holds all cells. An empty ``batch_N`` is none."""
    levels, width, sides = book_TLF.shape[1], len(columns), 4 // len(columns)
    if not in_order:
        book_TLF[:] = np.nan
    t, first, surplus = -1, 0, 0
    for i in range(len(ts_ns_N)):
        if not in_order and (t < 0 or ts_ns_T[t] != ts_ns_N[i]):
            t = _find_time(ts_ns_N[i], ts_ns_T, t)
            if t < 0:
                return _errors.TIMES_CHANGED, i
        elif t < 0 or ts_ns_T[t] != ts_ns_N[i]:
            if surplus > 0:
                told = _settle(ts_ns_N, level_N, columns, side_N, batch_N, keep, in_order, ts_ns_T, levels,
                               duplicate_T, owner, counts, first, i, t)  # fmt: skip
                if told[0] != _errors.OK:
                    return told
            t, first, surplus = t + 1, i, 0
            if t == len(ts_ns_T):
                return _errors.TIMES_CHANGED, i
            ts_ns_T[t] = ts_ns_N[i]
            book_TLF[t] = np.nan
        if level_N[i] < 1:
            return _errors.LEVEL_BELOW_ONE, i
        if sides == 2 and side_N[i] != 0 and side_N[i] != 1:
            return _errors.SIDE_UNKNOWN, i
        if level_N[i] > levels:
            counts[0] += 1
            continue
        level, side = int(level_N[i]) - 1, int(side_N[i]) if sides == 2 else 0
        at = (0 if in_order else t * levels * sides) + level * sides + side
        if owner[at] >= first:  # a smaller number is of an earlier snapshot
            surplus += 1
            if not _later(batch_N, i, owner[at], keep):
                continue
        owner[at] = i
        for k in range(width):
            book_TLF[t, level, side * width + k] = columns[k][i]
    if surplus > 0:
        told = _settle(ts_ns_N, level_N, columns, side_N, batch_N, keep, in_order, ts_ns_T, levels,
                       duplicate_T, owner, counts, first, len(ts_ns_N), t)  # fmt: skip
        if told[0] != _errors.OK:
            return told
    if in_order and t + 1 != len(ts_ns_T):
        return _errors.TIMES_CHANGED, len(ts_ns_N) - 1
    return _errors.OK, -1
