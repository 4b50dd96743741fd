"""Tall rows at the border of the kernels, and which snapshot every row is of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bml.kernels import _arrays, _backend, _errors
from bml.kernels._backend import specification
from bml.types import Floats, Int32, Int64

Int8 = npt.NDArray[np.int8]

MOST_LEVELS = 1 << 20
KEEP = {"error": 0, "first": 1, "last": 2}
_COLUMNS = tuple(f"columns[{k}]" for k in range(4))
_ROWS = ("ts_ns_N", "level_N", *_COLUMNS)
_NO_SIDE, _NO_BATCH = _arrays.none(_arrays.INT8), _arrays.none(_arrays.INT64)
_NO_STARTS, _NO_SLOT = _arrays.none(_arrays.INT64), _arrays.none(_arrays.INT32)


class Rows(NamedTuple):
    """Checked rows; ``side`` and ``batch`` are empty where there are none."""

    ts: Int64
    level: Int32
    columns: tuple[Floats, ...]
    side: Int8
    batch: Int64


class Order(NamedTuple):
    """The snapshots of rows: ``starts`` (T + 1,) of rows in time order, else ``slot`` (N,); the other is empty."""

    starts: Int64
    slot: Int32
    times: Int64


def rows_of(
    where: str, ts_ns_N: Int64, level_N: Int32, columns: Sequence[Floats], side_N: Int8 | None, batch_N: Int64 | None
) -> Rows:
    """Rows fit for a kernel; TypeError or ValueError says what is wrong."""
    if _backend.current() == "compiled" and _backend.compiled("_rows_are_plain")(
        ts_ns_N, level_N, columns, side_N, batch_N
    ):
        side = _NO_SIDE if side_N is None else side_N
        return Rows(ts_ns_N, level_N, tuple(columns), side, _NO_BATCH if batch_N is None else batch_N)
    return _looked_at(where, ts_ns_N, level_N, columns, side_N, batch_N)


def _looked_at(
    where: str, ts_ns_N: Int64, level_N: Int32, columns: Sequence[Floats], side_N: Int8 | None, batch_N: Int64 | None
) -> Rows:
    """:func:`rows_of` one by one: what is no array but can be read as one, copies to C order, words for the rest."""
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
    if len(ts) >= 2**32 - 1:
        raise ValueError(f"{where}: {len(ts)} rows in one call are too many: pass a day at a time")
    return Rows(ts, level, fields, side, batch)


def _columns(where: str, columns: Sequence[Floats], *, sided: bool) -> tuple[Floats, ...]:
    if not isinstance(columns, tuple | list):
        raise TypeError(f"{where}: columns must be a tuple of arrays, not {type(columns).__name__}")
    wanted = "2 (px, qty) with side_N" if sided else "4 (bid_px, bid_qty, ask_px, ask_qty) without side_N"
    if len(columns) != (2 if sided else 4):
        raise ValueError(f"{where}: columns must be {wanted}, not {len(columns)}")
    fields = [_arrays.plain(where, name, x, _arrays.FLOATS) for name, x in zip(_COLUMNS, columns, strict=False)]
    kind = fields[0].dtype
    if any(x.dtype != kind for x in fields):
        raise TypeError(f"{where}: columns must be all float64 or all float32")
    return tuple(fields)


def levels_of(where: str, levels: int) -> int:
    """How many levels a book has; more than any book are refused before memory is asked for them."""
    number = _arrays.integer(where, "levels", levels, least=1)
    if number > MOST_LEVELS:
        raise ValueError(f"{where}: levels must be at most {MOST_LEVELS}, not {number}")
    return number


def in_order(ts: Int64) -> Order | None:
    """The snapshots if the rows look to be in time order. Who reads them finds out, and calls :func:`in_any_order`."""
    starts, times = np.empty(len(ts) + 1, _arrays.INT64), np.empty(len(ts), _arrays.INT64)
    n_times = _find_snapshots(ts, starts, times)
    if n_times < 0:
        return None
    return Order(starts[: n_times + 1], _NO_SLOT, times[:n_times].copy())


def in_any_order(ts: Int64, threads: int) -> Order:
    """The snapshots whatever the order of rows."""
    times, slot = np.empty(len(ts), _arrays.INT64), np.empty(len(ts), _arrays.INT32)
    n_times = int(_distinct_times(ts, slot, times, threads))
    return Order(_NO_STARTS, slot, times[:n_times].copy())


def only_seemed_ordered(ts: Int64, told: _errors.Told) -> bool:
    """Whether what a kernel found wrong with rows in order may be that they are not."""
    return told[0] != _errors.OK and bool((ts[1:] < ts[:-1]).any())


@specification
def _find_snapshots(ts_ns_N: Int64, starts: Int64, times: Int64) -> int:
    """Writes the first row of every snapshot, N after the last, and their times; how many there are, -1: not in order.

    The compiled one jumps from snapshot to snapshot and may take rows for ordered that are not, never the reverse.
    """
    count = 0
    for i in range(len(ts_ns_N)):
        if i > 0 and ts_ns_N[i] < ts_ns_N[i - 1]:
            return -1
        if i == 0 or ts_ns_N[i] > ts_ns_N[i - 1]:
            starts[count] = i
            times[count] = ts_ns_N[i]
            count += 1
    starts[count] = len(ts_ns_N)
    return count


@specification
def _distinct_times(ts_ns_N: Int64, slot_N: Int32, times: Int64, threads: int) -> int:
    """Writes the distinct times, ascending, and which of them each row has; how many there are."""
    ordered = np.sort(ts_ns_N)
    count = 0
    for i in range(len(ordered)):
        if i == 0 or ordered[i] != ordered[i - 1]:
            times[count] = ordered[i]
            count += 1
    for i in range(len(ts_ns_N)):
        slot_N[i] = np.searchsorted(times[:count], ts_ns_N[i])
    return count
