"""A few numbers of the book at the anchor, for baselines that are no networks; needs no torch."""

from __future__ import annotations

from contextlib import closing
from itertools import pairwise

import numpy as np

from bml.dataset.dataset import Dataset
from bml.types import ASK_PX, ASK_QTY, BID_PX, BID_QTY, FIELDS, Float64, Int64

#: look-backs of the return features as shares of the horizon (1, 5, 15 and 30 min of half an hour)
LAGS = (1 / 30, 1 / 6, 1 / 2, 1.0)

#: levels summed by the imbalance features; 0 means all
IMBALANCE_LEVELS = (1, 5, 0)


def anchor_features(dataset: Dataset, rows: Int64) -> tuple[Float64, tuple[str, ...]]:
    """(N, K) float64 features of ``rows``, all known at the anchor, and their K names.

    For the target, and the reference if there is another symbol among the targets: quantity imbalance
    (bid - ask) / (bid + ask) of the best level, the best five and all; spread in bps of the mid; returns over
    the last 1/30, 1/6, 1/2 and 1 of the horizon in units of the target's volatility over that time; and
    whether the book is known. Then the calendar features, log volatility among them. Unknown values are 0, and
    say so by ``known``. Reads one book row a sample and each mid once: O(N L + D T).
    """
    targets = dataset.index.target_N[rows].astype(np.int64)
    at = dataset.row_N[rows]
    sigma_N = dataset.index.sigma_N[rows]
    blocks = [_asset_block(dataset, targets, at, sigma_N)]
    names = [f"target.{name}" for name in _block_names(dataset)]
    if dataset.targets != (dataset.reference,):
        reference = np.full(targets.shape, dataset.symbols.index(dataset.reference))
        blocks.append(_asset_block(dataset, reference, at, sigma_N))
        names += [f"reference.{name}" for name in _block_names(dataset)]
    blocks.append(dataset.x_time_NK[rows].astype(np.float64))
    return np.concatenate(blocks, axis=1), (*names, *dataset.time_names)


def lag_rows(horizon_rows: int) -> tuple[int, ...]:
    """Distinct look-backs in rows, each at least one."""
    return tuple(sorted({max(1, round(share * horizon_rows)) for share in LAGS}))


def _block_names(dataset: Dataset) -> list[str]:
    imbalances = [f"imbalance_{count or 'all'}" for count in IMBALANCE_LEVELS]
    return [*imbalances, "spread_bps", *(f"return_{lag}" for lag in lag_rows(dataset.horizon_rows)), "known"]


def _asset_block(dataset: Dataset, assets_N: Int64, at_N: Int64, sigma_N: Float64) -> Float64:
    names = _block_names(dataset)
    lags = lag_rows(dataset.horizon_rows)
    out_NK = np.full((at_N.shape[0], len(names)), np.nan)
    for a in np.unique(assets_N):
        mine = np.flatnonzero(assets_N == a)
        book_NLF, mid_NJ = _read(dataset, dataset.symbols[a], at_N[mine], lags)
        sigma_J = sigma_N[mine, None] * np.sqrt(np.asarray(lags) / dataset.horizon_rows)
        n_imbalances = len(IMBALANCE_LEVELS)
        for k, count in enumerate(IMBALANCE_LEVELS):
            out_NK[mine, k] = _imbalance(book_NLF[:, : count or None])
        out_NK[mine, n_imbalances] = book_NLF[:, 0, ASK_PX] - book_NLF[:, 0, BID_PX]
        out_NK[mine, n_imbalances + 1 : -1] = np.log(mid_NJ[:, :1] / mid_NJ[:, 1:]) / sigma_J
        out_NK[mine, -1] = np.isfinite(mid_NJ[:, 0])
    known_NK: Float64 = np.nan_to_num(out_NK, nan=0.0, posinf=0.0, neginf=0.0)
    return known_NK


def _imbalance(book_NLF: Float64) -> Float64:
    bid_N, ask_N = np.nansum(book_NLF[..., BID_QTY], axis=1), np.nansum(book_NLF[..., ASK_QTY], axis=1)
    total_N = bid_N + ask_N
    out_N: Float64 = np.divide(bid_N - ask_N, total_N, out=np.zeros(total_N.shape), where=total_N > 0)
    return out_N


def _read(dataset: Dataset, symbol: str, at_N: Int64, lags: tuple[int, ...]) -> tuple[Float64, Float64]:
    """Book at rows ``at_N`` (bps from mid, plain quantities) and the mids there and ``lags`` rows before."""
    grid = dataset.grid
    book_NLF = np.full((at_N.shape[0], dataset.levels, len(FIELDS)), np.nan)
    mid_T = np.full(grid.n_rows, np.nan)
    order = np.argsort(at_N, kind="stable")
    first = np.arange(grid.n_days + 1) * grid.rows_per_day
    cuts = np.searchsorted(at_N[order], first)
    for number, (low, high) in enumerate(pairwise(cuts)):
        day = grid.day(number)
        if not dataset.store.path(symbol, day).exists():
            continue
        with closing(dataset.store.open(symbol, day)) as file:
            mid_T[first[number] : first[number + 1]] = file.mid_T
            chosen = order[low:high]
            book_NLF[chosen] = file.book_TLF[at_N[chosen] - first[number]]
    book_NLF[..., [BID_QTY, ASK_QTY]] = np.expm1(book_NLF[..., [BID_QTY, ASK_QTY]])
    before_NJ = at_N[:, None] - np.asarray([0, *lags])
    mid_NJ = np.where(before_NJ >= 0, mid_T[np.maximum(before_NJ, 0)], np.nan)
    return book_NLF, mid_NJ
