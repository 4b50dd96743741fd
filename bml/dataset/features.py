"""What baselines that are no networks get of the book at the anchor: a few numbers, or all of the newest snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from typing import Literal

import numpy as np

from bml.book.store import DayFile
from bml.dataset.dataset import Dataset
from bml.types import ASK_PX, ASK_QTY, BID_PX, BID_QTY, FIELDS, Float32, Float64, Int64

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


def newest_book(dataset: Dataset, rows: Int64) -> tuple[Float32, tuple[str, ...]]:
    """(N, K) float32 newest snapshot of every symbol at the anchor of ``rows``, and its K = A L F names.

    Standardised and clipped, bit for bit the last time step of the loader's ``x_short_BATLF``, flattened: the
    target first, then the other symbols in their order; 0 where a cell is missing, all 0 for a symbol that is not
    in ``dataset.present_NA``. Names are "target.level_0.bid_px", "other_1.level_0.bid_px"...: the asset axis is
    by place, so one column is of different symbols for different targets. Opens each day file once; the result
    takes 4 K bytes a row, little else. Raises StoreError if a day file is gone or damaged.
    """
    from bml.dataset.standard import Standard

    standard = Standard.of(dataset.scaler.mean_ALF, dataset.scaler.std_ALF)
    n_assets = len(dataset.symbols)
    targets, at, present_NA = dataset.index.target_N[rows], dataset.row_N[rows], dataset.present_NA[rows]
    x_NALF = np.zeros((at.shape[0], n_assets, dataset.levels, len(FIELDS)), dtype=np.float32)
    for a, symbol in enumerate(dataset.symbols):
        mine = np.flatnonzero(present_NA[:, a])
        slot_N = np.where(targets == a, 0, a + (targets > a))
        for chosen, file, within in _days(dataset, symbol, at[mine]):
            who = mine[chosen]
            x_NALF[who, slot_N[who]] = standard.numpy(a, file.book_TLF[within])
    places = ("target", *(f"other_{k}" for k in range(1, n_assets)))
    names = tuple(f"{place}.level_{k}.{name}" for place in places for k in range(dataset.levels) for name in FIELDS)
    return x_NALF.reshape(at.shape[0], len(names)), names


def _asset_block(dataset: Dataset, assets_N: Int64, at_N: Int64, sigma_N: Float64) -> Float64:
    lags = lag_rows(dataset.horizon_rows)
    n_book = len(IMBALANCE_LEVELS) + 1
    out_NK = np.full((at_N.shape[0], len(_block_names(dataset))), np.nan)
    for a in np.unique(assets_N):
        mine = np.flatnonzero(assets_N == a)
        book_NK, mid_NJ = _read(dataset, dataset.symbols[a], at_N[mine], lags)
        sigma_J = sigma_N[mine, None] * np.sqrt(np.asarray(lags) / dataset.horizon_rows)
        out_NK[mine, :n_book] = book_NK
        out_NK[mine, n_book:-1] = np.log(mid_NJ[:, :1] / mid_NJ[:, 1:]) / sigma_J
        out_NK[mine, -1] = np.isfinite(mid_NJ[:, 0])
    known_NK: Float64 = np.nan_to_num(out_NK, nan=0.0, posinf=0.0, neginf=0.0)
    return known_NK


def _read(dataset: Dataset, symbol: str, at_N: Int64, lags: tuple[int, ...]) -> tuple[Float64, Float64]:
    """Imbalances and spread at rows ``at_N``, NaN on days without a file; the mids there and ``lags`` rows before.

    One day's books are held at a time.
    """
    book_NK = np.full((at_N.shape[0], len(IMBALANCE_LEVELS) + 1), np.nan)
    for chosen, file, within in _days(dataset, symbol, at_N, missing="skip"):
        book_NK[chosen] = _book_numbers(file.book_TLF[within].astype(np.float64))
    mid_T, _ = dataset.series(symbol)
    before_NJ = at_N[:, None] - np.asarray([0, *lags])
    mid_NJ = np.where(before_NJ >= 0, mid_T[np.maximum(before_NJ, 0)], np.nan)
    return book_NK, mid_NJ


def _book_numbers(book_NLF: Float64) -> Float64:
    """(N, K) imbalances over ``IMBALANCE_LEVELS`` and the spread of books in bps from the mid and log1p quantity."""
    bid_NL, ask_NL = np.expm1(book_NLF[..., BID_QTY]), np.expm1(book_NLF[..., ASK_QTY])
    columns = [_imbalance(bid_NL[:, : count or None], ask_NL[:, : count or None]) for count in IMBALANCE_LEVELS]
    return np.stack([*columns, book_NLF[:, 0, ASK_PX] - book_NLF[:, 0, BID_PX]], axis=1)


def _imbalance(bid_NL: Float64, ask_NL: Float64) -> Float64:
    bid_N, ask_N = np.nansum(bid_NL, axis=1), np.nansum(ask_NL, axis=1)
    total_N = bid_N + ask_N
    out_N: Float64 = np.divide(bid_N - ask_N, total_N, out=np.zeros(total_N.shape), where=total_N > 0)
    return out_N


def _days(
    dataset: Dataset, symbol: str, at_N: Int64, *, missing: Literal["skip", "error"] = "error"
) -> Iterator[tuple[Int64, DayFile, Int64]]:
    """For each day with some of the rows ``at_N``: their places in it, the open day file, their rows of that day."""
    grid = dataset.grid
    order = np.argsort(at_N, kind="stable")
    first = np.arange(grid.n_days + 1) * grid.rows_per_day
    for number, (low, high) in enumerate(pairwise(np.searchsorted(at_N[order], first))):
        day = grid.day(number)
        if low == high or (missing == "skip" and not dataset.store.path(symbol, day).exists()):
            continue
        with closing(dataset.store.open(symbol, day)) as file:
            yield order[low:high], file, at_N[order[low:high]] - first[number]
