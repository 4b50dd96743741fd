"""Windows out of the arrays of days."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bml.kernels import _arrays, _backend
from bml.kernels._backend import helper, specification
from bml.types import Float32, Floats, Int64

_HALF = np.dtype(np.float16)
_FLOAT32S = (_arrays.FLOAT32,)
_DTYPES = (_arrays.FLOAT32, _HALF)
_ANY_DEPTH = tuple(range(1, 9))
_Array = npt.NDArray[Any]
_Standards = tuple[Float32, Float32, Int64]


def gather_windows(
    days: Sequence[Floats],
    day_WK: Int64,
    start_W: Int64,
    *,
    rows: int,
    shift_GX: Float32 | None = None,
    scale_GX: Float32 | None = None,
    standard_W: Int64 | None = None,
    limit: float = math.inf,
    dtype: npt.DTypeLike = np.float32,
    out: Floats | None = None,
    threads: int | None = None,
) -> Floats:
    """Windows of ``rows`` rows, each out of consecutive days: (W, rows, ...) of ``dtype``.

    days        S arrays (T, ...), all float32 or all float16, alike but for their number of rows; mapped files will do
    day_WK      int64 (W, K): the days window w runs through, first to last, as places in ``days``; -1 after the last.
                A window without a day is 0 throughout
    start_W     int64 (W,): its first row, in its first day. It goes on at row 0 of the next, and so on
    rows        how many rows a window has
    shift_GX    float32 (G, ...) each as a row of a day, with ``scale_GX`` alike and ``standard_W`` int64 (W,), the
    scale_GX    place of a window's own: values become shift + x * scale, then at most ``limit`` and at least
    standard_W  -``limit``, then 0 where NaN; every step in float32. Without them values are as they are
    dtype       float32, or float16 for float16 days as they are
    out         reused memory: (W, rows, ...) of ``dtype``
    threads     how many work on it; None: BML_NUM_THREADS, else 1. The result does not depend on it
    NaN         stays, or is 0 where standardised
    raises      TypeError (dtype, byte order, not an array); ValueError (shape, ``out``, ``limit`` not above 0, a window
                that begins outside of its first day or is longer than its days)
    cost        one read of the windows' rows, one write, past the cache from 512 KiB on. Releases the GIL
    """
    where = "gather_windows"
    sources = _days(where, days)
    kind, tail = sources[0].dtype, sources[0].shape[1:]
    day = _arrays.plain(where, "day_WK", day_WK, _arrays.INT64S, 2)
    start = _arrays.plain(where, "start_W", start_W, _arrays.INT64S)
    _arrays.same_length(where, ("day_WK", "start_W"), day, start)
    n_rows = _arrays.integer(where, "rows", rows, least=0)
    _check_windows(where, np.array([len(x) for x in sources]), day, start, n_rows)
    shift, scale, standard = _standards(where, (shift_GX, scale_GX, standard_W), tail, len(day))
    most = np.float32(_limit(where, limit))
    to_kind = _arrays.FLOAT32 if dtype is np.float32 else np.dtype(dtype)
    if to_kind not in (_arrays.FLOAT32, kind) or (to_kind == _HALF and len(shift)):
        raise TypeError(f"{where}: dtype must be float32, or that of the days as they are, not {to_kind}")
    shape = (len(day), n_rows, *tail)
    if out is None:
        out = np.empty(shape, to_kind)
    else:
        out = _arrays.given(where, "out", out, to_kind, shape, [*sources, day, start, shift, scale, standard])
    n_threads, width = _arrays.threads(where, threads), math.prod(tail)
    flat = tuple(_bits(x).reshape(len(x), width) for x in sources)
    sets = shift.reshape(len(shift), width), scale.reshape(len(shift), width)
    to = _bits(out).reshape(len(day), n_rows, width)
    if _backend.current() == "compiled":
        _gather_windows(flat, day, start, *sets, standard, most, to, kind == _HALF, n_threads)
        return out
    for w, named in enumerate(day):  # one by one, and filled up: numba compiles for each number of days
        mine = tuple(flat[d] for d in named[: _count(named)])
        filled = (*mine, *flat[:1] * (4 - len(mine) % 4))
        which = standard[w : w + 1] if len(sets[0]) else standard
        _gather_windows(filled, _places(len(mine)), start[w : w + 1], *sets, which, most,
                        to[w : w + 1], kind == _HALF, n_threads)  # fmt: skip
    return out


def _bits(x: _Array) -> _Array:
    """2-byte floats as numbers, which is how every backend reads them: not all know the type."""
    return x.view(np.uint16) if x.dtype == _HALF else x


def _count(named_K: Int64) -> int:
    """How many days a window has: those before the first -1."""
    return int((np.append(named_K, -1) < 0).argmax())


def _places(count: int) -> Int64:
    """The row of ``day_WK`` of a window whose days are all there are."""
    places = np.arange(count)[None] if count else np.full((1, 1), -1)
    places.flags.writeable = False
    return places


def _days(where: str, days: Sequence[Floats]) -> tuple[_Array, ...]:
    if not isinstance(days, tuple | list):
        raise TypeError(f"{where}: days must be a tuple of arrays, not {type(days).__name__}")
    if not days:
        raise ValueError(f"{where}: days is empty: it takes one at least, for the shape of a row")
    sources = tuple(_arrays.plain(where, f"days[{s}]", x, _DTYPES, _ANY_DEPTH) for s, x in enumerate(days))
    for s, x in enumerate(sources):
        if x.dtype != sources[0].dtype:
            raise TypeError(f"{where}: days must be all float32 or all float16")
        if x.shape[1:] != sources[0].shape[1:]:
            raise ValueError(f"{where}: days[{s}] has rows {x.shape[1:]}, but days[0] has {sources[0].shape[1:]}")
    return sources


def _check_windows(where: str, length_S: Int64, day_WK: Int64, start_W: Int64, rows: int) -> None:
    """Raise ValueError for the first window that leaves its days."""
    if day_WK.max(initial=-1) >= len(length_S):
        raise ValueError(f"{where}: day_WK must lie below {len(length_S)}, the number of days, not {day_WK.max()}")
    there_WK = np.logical_and.accumulate(day_WK >= 0, axis=1)
    if (day_WK < -1).any():
        raise ValueError(f"{where}: day_WK must be a place in days or -1, not {day_WK.min()}")
    if not there_WK.size:
        return
    length_WK = np.where(there_WK, length_S[day_WK], 0)
    outside_W = there_WK[:, 0] & ((start_W < 0) | (start_W > length_WK[:, 0]))
    short_W = there_WK[:, 0] & (length_WK.sum(axis=1) - np.where(outside_W, 0, start_W) < rows)
    if (outside_W | short_W).any():
        w = int((outside_W | short_W).argmax())
        there = f"window {w} begins at row {start_W[w]} of {length_WK[w].tolist()}"
        raise ValueError(f"{where}: {there} and has {rows} rows: it must begin and end inside its days")


def _standards(where: str, given: tuple[object, object, object], tail: tuple[int, ...], n: int) -> _Standards:
    """shift, scale and places of windows, checked; no sets where none are given."""
    if all(x is None for x in given):
        sets = _arrays.none(_arrays.FLOAT32).reshape(0, *[1] * len(tail))
        return sets, sets, _arrays.none(_arrays.INT64)
    if any(x is None for x in given):
        raise ValueError(f"{where}: shift_GX, scale_GX and standard_W come together")
    shift = _arrays.plain(where, "shift_GX", given[0], _FLOAT32S, len(tail) + 1)
    scale = _arrays.plain(where, "scale_GX", given[1], _FLOAT32S, len(tail) + 1)
    which = _arrays.plain(where, "standard_W", given[2], _arrays.INT64S)
    for name, x in (("shift_GX", shift), ("scale_GX", scale)):
        if len(x) == 0 or x.shape != (len(shift), *tail):
            raise ValueError(f"{where}: {name} must have shape {(max(len(shift), 1), *tail)}, not {x.shape}")
    if len(which) != n:
        raise ValueError(f"{where}: standard_W has length {len(which)}, but day_WK has length {n}")
    if ((which < 0) | (which >= len(shift))).any():
        raise ValueError(f"{where}: standard_W must lie in 0..{len(shift) - 1}, the sets of shift_GX")
    return shift, scale, which


def _limit(where: str, limit: object) -> float:
    if isinstance(limit, bool) or not isinstance(limit, int | float | np.floating):
        raise TypeError(f"{where}: limit must be a number, not {type(limit).__name__}")
    if not limit > 0:
        raise ValueError(f"{where}: limit must be above 0, not {limit}")
    return float(limit)


@helper
def _of_half(bits: np.int64) -> np.float32:
    """The value of a 2-byte float."""
    exponent, fraction = (bits >> 10) & 31, bits & 1023
    value = np.float64(fraction) * 2.0**-24
    if exponent == 31:
        value = np.float64(np.nan if fraction else np.inf)
    elif exponent > 0:
        value = (1024 + fraction) * 2.0 ** (exponent - 25)
    return np.float32(-value if bits & 0x8000 else value)


@specification
def _gather_windows(
    days: tuple[_Array, ...], day_WK: Int64, start_W: Int64, shift_GX: Float32, scale_GX: Float32,
    standard_W: Int64, limit: np.float32, values_WTX: _Array, halves: bool, threads: int,
) -> None:  # fmt: skip
    windows, rows, width = values_WTX.shape
    for w in range(windows):
        done, row = 0, start_W[w]
        for k in range(day_WK.shape[1]):
            if day_WK[w, k] < 0 or done == rows:
                break
            day = days[day_WK[w, k]]
            while row < len(day) and done < rows:
                for x in range(width):
                    if values_WTX.itemsize == day.itemsize and len(shift_GX) == 0:
                        values_WTX[w, done, x] = day[row, x]
                        continue
                    value = _of_half(np.int64(day[row, x])) if halves else np.float32(day[row, x])
                    if len(shift_GX) > 0:
                        g = standard_W[w]
                        value = shift_GX[g, x] + value * scale_GX[g, x]
                        value = min(max(value, -limit), limit) if value == value else np.float32(0.0)
                    values_WTX[w, done, x] = value
                row, done = row + 1, done + 1
            row = row - len(day)
        values_WTX[w, done:] = 0
