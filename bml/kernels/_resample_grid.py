"""Samples at their own times to a grid."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np

from bml.kernels import _arrays, _errors
from bml.kernels._backend import helper, specification
from bml.types import Floats, Int64

_METHODS = {"forward_fill": 0, "linear": 1}
_FORWARD_FILL = 0
_LOWEST = -(2**63)


class Resampled(NamedTuple):
    """What :func:`resample_grid` returns."""

    values_GX: Floats  # (G, ...) like the samples
    source_G: Int64  # the sample in use (linear: the left one), -1: none
    age_ns_G: Int64  # grid time less the time of that sample, -1: none


def resample_grid(
    ts_ns_T: Int64,
    values_TX: Floats,
    grid_ns_G: Int64,
    *,
    max_age_ns: int,
    method: Literal["forward_fill", "linear"] = "forward_fill",
    out: Floats | None = None,
    threads: int | None = None,
) -> Resampled:
    """Samples at times ``ts_ns_T`` to the times ``grid_ns_G``.

    ts_ns_T    int64 (T,) nanoseconds, strictly increasing; values_TX float64 or float32 (T,), (T, X) or (T, X, Y)
    grid_ns_G  int64 (G,) nanoseconds, strictly increasing
    method     "forward_fill": the last sample at or before the grid time, if its age <= max_age_ns.
               "linear": between the samples on both sides, if both lie within max_age_ns; a sample exactly at
               the grid time is taken as it is; after the last sample NaN. It reads the FUTURE neighbour:
               for studies, never for anything a decision at the grid time is based on
    out        reused memory: (G, ...) of the dtype of the samples
    threads    how many work on it; None: BML_NUM_THREADS, else 1. The result does not depend on it
    NaN        where no sample qualifies: value NaN, source -1, age -1. NaN samples are data: they are carried
               forward, and blend to NaN
    raises     TypeError (dtype, byte order, not an array); ValueError (shape, ``out``, max_age_ns < 0, times not
               strictly increasing; the row is named)
    cost       O(T + G) comparisons, one read of the samples in use, one write. Releases the GIL
    """
    where = "resample_grid"
    ts = _arrays.plain(where, "ts_ns_T", ts_ns_T, _arrays.INT64S)
    values = _arrays.plain(where, "values_TX", values_TX, _arrays.FLOATS, (1, 2, 3))
    grid = _arrays.plain(where, "grid_ns_G", grid_ns_G, _arrays.INT64S)
    _arrays.same_length(where, ("ts_ns_T", "values_TX"), ts, values)
    limit = _arrays.integer(where, "max_age_ns", max_age_ns, least=0)
    how = _arrays.choice(where, "method", method, _METHODS)
    shape = (len(grid), *values.shape[1:])
    if out is None:
        out = np.empty(shape, values.dtype)
    else:
        out = _arrays.given(where, "out", out, values.dtype, shape, [ts, values, grid])
    width = math.prod(values.shape[1:])
    source, age = np.empty(len(grid), _arrays.INT64), np.empty(len(grid), _arrays.INT64)
    n_threads = _arrays.threads(where, threads)
    told = _resample_grid(
        ts, values.reshape(len(ts), width), grid, limit, how, out.reshape(len(grid), width), source, age, n_threads
    )
    _errors.check(where, told, {"ts_ns_T": ts, "grid_ns_G": grid})
    return Resampled(out, source, age)


@helper
def _first_not_increasing(x: Int64) -> int:
    for i in range(1, len(x)):
        if x[i] <= x[i - 1]:
            return i
    return -1


@helper
def _within(earlier: int, later: int, limit: int) -> bool:
    """later - earlier <= limit, for any two times: the difference itself may not fit 64 bits."""
    return later < _LOWEST + limit or earlier >= later - limit


@specification
def _resample_grid(
    ts_ns_T: Int64, values_TX: Floats, grid_ns_G: Int64, max_age_ns: int, method: int,
    values_GX: Floats, source_G: Int64, age_ns_G: Int64, threads: int,
) -> _errors.Told:  # fmt: skip
    row = _first_not_increasing(ts_ns_T)
    if row >= 0:
        return _errors.TIMES_NOT_INCREASING, row
    row = _first_not_increasing(grid_ns_G)
    if row >= 0:
        return _errors.GRID_NOT_INCREASING, row
    after = 0  # the first sample after the grid time
    for g in range(len(grid_ns_G)):
        now = grid_ns_G[g]
        while after < len(ts_ns_T) and ts_ns_T[after] <= now:
            after += 1
        left = after - 1
        values_GX[g] = np.nan
        source_G[g] = age_ns_G[g] = -1
        if left < 0 or not _within(ts_ns_T[left], now, max_age_ns):
            continue
        if method == _FORWARD_FILL or ts_ns_T[left] == now:
            values_GX[g] = values_TX[left]
        elif after < len(ts_ns_T) and _within(now, ts_ns_T[after], max_age_ns):
            past, ahead = np.float64(now - ts_ns_T[left]), np.float64(ts_ns_T[after] - now)
            share = past / (past + ahead)
            for x in range(values_TX.shape[1]):
                start = np.float64(values_TX[left, x])
                values_GX[g, x] = start + (np.float64(values_TX[after, x]) - start) * share
        else:
            continue
        source_G[g] = left
        age_ns_G[g] = now - ts_ns_T[left]
    return _errors.OK, -1
