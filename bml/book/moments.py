"""Daily moments: what the long-term channel, the scaler and the calibration know of a day."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bml import kernels
from bml.book.report import Bools
from bml.host import kernel_threads
from bml.registry import step
from bml.types import ASK_PX, ASK_QTY, BID_PX, BID_QTY, AlignedDay, DailyMoments, DayContext, Flag, Float64, Floats

#: rows with one of these say nothing new of the market
STALE = Flag.FILLED | Flag.GAP | Flag.ABSENT

#: the V axis, in this order
SERIES = (
    "log_return_bps",
    "squared_return_bps2",
    "spread_bps",
    "log_mid",
    "imbalance_1",
    "imbalance_5",
    "imbalance_all",
    "log1p_bid_qty",
    "log1p_ask_qty",
)

BPS = 1e4


@step()
def daily(day: AlignedDay, ctx: DayContext) -> AlignedDay:
    """Statistics of the day over its fresh rows: those not FILLED, GAP or ABSENT.

    The series, each (T,), NaN where it is not known:

    log_return_bps       1e4 * log(mid / previous mid) of a fresh row whose previous row is fresh too
    squared_return_bps2  its square; the ``total`` of it is the day's realised variance
    spread_bps           (ask - bid) / mid * 1e4 at level 1
    log_mid              log of the mid
    imbalance_1, _5, _all   (bid - ask) / (bid + ask) quantity of the first, the first five and all rows of the
                         tensor (levels, or bins once binned); NaN where both are 0
    log1p_bid_qty, log1p_ask_qty   log1p of the quantity of all rows

    ``stats_SV`` (6, V) has the rows of ``bml.types.STATS``. ``scaler_SLF`` (3, L, 4) holds count, mean and M2 of
    every value of the book as it is in ``day`` (so put this step after book.depth.adaptive), mergeable over days;
    a cell without values has 0, 0, 0. ``feature_SK`` holds the same of the window features, if there are any.
    Cost: one pass over the book.
    """
    del ctx
    fresh_T = (day.flag_T & np.uint16(STALE)) == 0
    series_TV = _series(day, fresh_T)
    n_levels, n_fields = day.book_TLF.shape[1:]
    book_TLF = day.book_TLF if day.book_TLF.dtype != np.float16 else day.book_TLF.astype(np.float32)
    rows = book_TLF if fresh_T.all() else book_TLF[fresh_T]
    scaler = _state(rows.reshape(len(rows), n_levels * n_fields))
    moments = DailyMoments(
        symbol=day.symbol,
        day=day.day,
        names_V=SERIES,
        stats_SV=kernels.daily_moments(series_TV).stats(),
        scaler_SLF=scaler.reshape(3, n_levels, n_fields),
        feature_SK=None if day.feature_TK is None else _state(day.feature_TK[fresh_T]),
    )
    return replace(day, moments=moments)


def _state(x_TV: Floats) -> Float64:
    """(3, V) count, mean and M2 of every column."""
    found = kernels.daily_moments(x_TV, threads=kernel_threads())
    return np.stack([found.count_V.astype(np.float64), found.mean_V, found.m2_V])


def _series(day: AlignedDay, fresh_T: Bools) -> Float64:
    """The series as columns (T, V) in the order of :data:`SERIES`, NaN in rows that are not fresh."""
    log_mid_T = np.where(fresh_T, np.log(day.mid_T), np.nan)
    return_T = np.full(len(log_mid_T), np.nan)
    return_T[1:] = BPS * np.diff(log_mid_T)
    qty_T2 = {n: _quantity(day, n) for n in (1, 5, day.book_TLF.shape[1])}
    by_name = {
        "log_return_bps": return_T,
        "squared_return_bps2": return_T**2,
        "spread_bps": _spread_bps(day),
        "log_mid": log_mid_T,
        "imbalance_1": _imbalance(qty_T2[1]),
        "imbalance_5": _imbalance(qty_T2[5]),
        "imbalance_all": _imbalance(qty_T2[day.book_TLF.shape[1]]),
        "log1p_bid_qty": np.log1p(qty_T2[day.book_TLF.shape[1]][:, 0]),
        "log1p_ask_qty": np.log1p(qty_T2[day.book_TLF.shape[1]][:, 1]),
    }
    series_TV = np.stack([by_name[name] for name in SERIES], axis=1)
    series_TV[~fresh_T] = np.nan
    return series_TV


def _spread_bps(day: AlignedDay) -> Float64:
    bid_T, ask_T = (day.book_TLF[:, 0, px].astype(np.float64) for px in (BID_PX, ASK_PX))
    return ask_T - bid_T if day.units == "bps_log1p" else (ask_T - bid_T) / day.mid_T * BPS


def _quantity(day: AlignedDay, n_levels: int) -> Float64:
    """Quantity (T, 2) of both sides over the first ``n_levels`` rows of the tensor; absent ones count as none."""
    # levels first: they are added in the same order as along the middle axis, and several times as fast
    near_LT2 = day.book_TLF[:, :n_levels, BID_QTY : ASK_QTY + 1 : 2].swapaxes(0, 1).astype(np.float64, order="C")
    if day.units == "bps_log1p":
        np.expm1(near_LT2, out=near_LT2)
    near_LT2[np.isnan(near_LT2)] = 0
    total: Float64 = near_LT2.sum(axis=0)
    return total


def _imbalance(qty_T2: Float64) -> Float64:
    both = qty_T2.sum(axis=1)
    out = np.full(len(both), np.nan)
    np.divide(qty_T2[:, 0] - qty_T2[:, 1], both, out=out, where=both > 0)
    return out
