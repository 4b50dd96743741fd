"""From drawn books to tall rows, with the planned faults worked in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from bml.sources.market_book import Books, BookSpec
from bml.sources.market_faults import CODES, FaultPlan
from bml.types import ASK, BID, DepthRows, Float64, Int64

#: quantity of the stale copy in a conflict, as a share of the true one
STALE = 0.5


def empty_rows(symbol: str, start_ns: int, stop_ns: int, *, ordered: bool, query: str) -> DepthRows:
    """No rows, of the right types."""
    none = np.empty(0)
    return DepthRows(
        symbol=symbol,
        start_ns=start_ns,
        stop_ns=stop_ns,
        ts_ns_N=np.empty(0, np.int64),
        level_N=np.empty(0, np.int32),
        columns=(none, none, none, none),
        batch_N=np.empty(0, np.int64),
        ordered=ordered,
        query=query,
    )


def fill(
    rows: DepthRows,
    spec: BookSpec,
    books: Books,
    plan: FaultPlan,
    *,
    step_K: Int64,
    ts_ns_T: Int64,
    outlier_bps: float,
) -> DepthRows:
    """``rows`` with the K snapshots of ``books``, shown at the steps ``step_K``; writes into ``books``.

    Order: time, then level; the second copy of a snapshot follows the first.
    """
    code_K = plan.code_T[step_K]
    if code_K.any():
        _move_prices(books.tick_SKL, code_K, plan.side_T[step_K], outlier_bps)
    price_SKL = spec.price(books.tick_SKL)
    for code_side in (BID, ASK) if code_K.any() else ():
        is_hit_K = (code_K == CODES["one_sided"]) & (plan.side_T[step_K] == code_side)
        price_SKL[code_side, is_hit_K] = np.nan
        books.qty_SKL[code_side, is_hit_K] = np.nan
    levels = spec.levels
    wide = (price_SKL[BID], books.qty_SKL[BID], price_SKL[ASK], books.qty_SKL[ASK])
    out = replace(
        rows,
        ts_ns_N=np.repeat(ts_ns_T[step_K], levels),
        level_N=np.tile(np.arange(1, levels + 1, dtype=np.int32), len(step_K)),
        columns=tuple(values_KL.ravel() for values_KL in wide),
        batch_N=np.repeat(2 * step_K + 1, levels),
    )
    is_odd_K = np.isin(code_K, [CODES[kind] for kind in ("duplicate", "conflict", "missing_levels", "truncated")])
    return _with_odd_rows(out, code_K, step_K, levels) if is_odd_K.any() else out


def _move_prices(
    tick_SKL: Float64, code_K: npt.NDArray[np.uint8], side_K: npt.NDArray[np.uint8], outlier_bps: float
) -> None:
    """Cross, lock and displace, in place; crossing keeps the mid, locking keeps it to half a tick."""
    spread_K = tick_SKL[ASK, :, 0] - tick_SKL[BID, :, 0]
    mid_K = 0.5 * (tick_SKL[ASK, :, 0] + tick_SKL[BID, :, 0])
    up_K = np.zeros(len(code_K))
    down_K = np.zeros(len(code_K))
    is_crossed_K, is_locked_K = code_K == CODES["crossed"], code_K == CODES["locked"]
    up_K[is_crossed_K] = down_K[is_crossed_K] = spread_K[is_crossed_K]
    up_K[is_locked_K] = np.floor(0.5 * spread_K[is_locked_K])
    down_K[is_locked_K] = spread_K[is_locked_K] - up_K[is_locked_K]
    sign_K = np.where(side_K == BID, -1.0, 1.0) * (code_K == CODES["outlier"])
    jump_K = np.rint(1e-4 * outlier_bps * mid_K) * sign_K
    tick_SKL[BID] += (up_K + jump_K)[:, None]
    tick_SKL[ASK] += (jump_K - down_K)[:, None]


def _with_odd_rows(rows: DepthRows, code_K: npt.NDArray[np.uint8], step_K: Int64, levels: int) -> DepthRows:
    """Rows twice where duplicated (the stale copy of a conflict last), and none where levels are missing."""
    is_twice_K = np.isin(code_K, [CODES["duplicate"], CODES["conflict"]])
    shown_M = np.repeat(np.arange(len(code_K)), 1 + is_twice_K)
    is_copy_M = np.zeros(len(shown_M), bool)
    is_copy_M[1:] = shown_M[1:] == shown_M[:-1]
    level_L = np.arange(levels)
    is_stale_ML = np.repeat((is_copy_M & (code_K[shown_M] == CODES["conflict"]))[:, None], levels, axis=1)
    is_missing_ML = (code_K[shown_M] == CODES["missing_levels"])[:, None] & (
        (level_L > 0) & ((level_L + step_K[shown_M][:, None]) % 3 == 0)
    )
    is_missing_ML |= (code_K[shown_M] == CODES["truncated"])[:, None] & (level_L >= max(1, levels // 3))
    keep_N = ~is_missing_ML.ravel()
    take_N = (shown_M[:, None] * levels + level_L).ravel()[keep_N]
    stale_N = is_stale_ML.ravel()[keep_N]
    bid_px, bid_qty, ask_px, ask_qty = (column[take_N] for column in rows.columns)
    bid_qty[stale_N] *= STALE
    ask_qty[stale_N] *= STALE
    assert rows.batch_N is not None
    return replace(
        rows,
        ts_ns_N=rows.ts_ns_N[take_N],
        level_N=rows.level_N[take_N],
        columns=(bid_px, bid_qty, ask_px, ask_qty),
        batch_N=rows.batch_N[take_N] - stale_N,
    )


def shuffle(rows: DepthRows, rng: np.random.Generator) -> DepthRows:
    """The same rows in random order."""
    order_N = rng.permutation(rows.n_rows)
    assert rows.batch_N is not None
    return replace(
        rows,
        ts_ns_N=rows.ts_ns_N[order_N],
        level_N=rows.level_N[order_N],
        columns=tuple(column[order_N] for column in rows.columns),
        batch_N=rows.batch_N[order_N],
    )
