"""What people use today for each of the separate kernels: arguments in, the kernel's arrays out.

A peer is ``prepare(a, like) -> work``: ``a`` holds the kernel's arguments by name, ``like`` the kernel's arrays.
Data are put into the peer's own form in ``prepare``, which is not timed; what ``work`` returns is numpy again.
Where the output can be reused, it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import torch

from bench.race import Work

Prepare = Callable[[SimpleNamespace, tuple[Any, ...]], Work]


@dataclass(frozen=True)
class Peer:
    """A library's way, which calls it fits, and how far its result may lie from the kernel's."""

    name: str
    prepare: Prepare
    fits: Callable[[SimpleNamespace], bool] = lambda a: True
    rtol: float = 0.0
    atol: float = 0.0


# ---- tall_to_wide ----


def names_of(a: SimpleNamespace) -> list[str]:
    return [f"c{k}" for k in range(len(a.columns))]


def table_of(a: SimpleNamespace) -> dict[str, Any]:
    """Rows as named columns."""
    sides = {} if a.side_N is None else {"side": a.side_N}
    return {"ts": a.ts_ns_N, "level": a.level_N, **sides, **dict(zip(names_of(a), a.columns, strict=True))}


def duckdb_of(a: SimpleNamespace) -> duckdb.DuckDBPyConnection:
    """The rows in a table of a database in memory."""
    db = duckdb.connect()
    db.execute("set enable_progress_bar = false")
    db.register("given", pl.DataFrame(table_of(a)).to_arrow())
    db.execute("create table rows as from given")
    return db


def scatter(book: Any, t: Any, level: Any, side: Any, columns: Any) -> None:
    """Rows to their cells; what no row names is NaN."""
    book.fill(np.nan)
    cell = t * book.shape[1] + (level - 1)
    if side is not None:
        cell = 2 * cell + side
    flat = book.reshape(-1, len(columns))
    for k, column in enumerate(columns):
        flat[cell, k] = column


def place_sorted(book: Any, rows: dict[str, Any], names: list[str]) -> None:
    """Rows in order of (time, level) to the book: by reshape when none is missing."""
    side = rows.get("side")
    if side is None and len(rows["ts"]) * 4 == book.size:
        for k, name in enumerate(names):
            book[..., k] = rows[name].reshape(book.shape[:2])
        return
    t = np.cumsum(np.r_[0, rows["ts"][1:] != rows["ts"][:-1]])
    scatter(book, t, rows["level"], side, [rows[name] for name in names])


def tall_numpy(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    book = np.empty_like(like[0])

    def work() -> tuple[Any, ...]:
        t = np.unique(a.ts_ns_N, return_inverse=True)[1]
        scatter(book, t, a.level_N, a.side_N, a.columns)
        return (book,)

    return work


def tall_polars(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    book, frame = np.empty_like(like[0]), pl.DataFrame(table_of(a))

    def work() -> tuple[Any, ...]:
        rows = frame.sort("ts", "level")
        place_sorted(book, {name: rows[name].to_numpy() for name in rows.columns}, names_of(a))
        return (book,)

    return work


def tall_pandas(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    book, frame = np.empty_like(like[0]), pd.DataFrame(table_of(a))

    def work() -> tuple[Any, ...]:
        wide = frame.pivot(index="ts", columns="level", values=names_of(a)).to_numpy()
        book[:] = wide.reshape(len(book), 4, -1).transpose(0, 2, 1)
        return (book,)

    return work


def tall_duckdb(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    book, db = np.empty_like(like[0]), duckdb_of(a)

    def work() -> tuple[Any, ...]:
        place_sorted(book, db.execute("from rows order by ts, level").fetchnumpy(), names_of(a))
        return (book,)

    return work


def tall_torch(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    book = torch.tensor(like[0])
    ts, level = torch.tensor(a.ts_ns_N), torch.tensor(a.level_N)
    columns = [torch.tensor(x) for x in a.columns]

    def work() -> tuple[Any, ...]:
        t = torch.unique(ts, return_inverse=True)[1]
        book.fill_(torch.nan)
        book.index_put_((t, level.long() - 1), torch.stack(columns, dim=1).to(book.dtype))
        return (book.numpy(),)

    return work


def paired(a: SimpleNamespace) -> bool:
    return a.side_N is None


# ---- resample_grid ----


def source_of(ts: Any, grid: Any, max_age_ns: int) -> tuple[Any, Any]:
    """The last sample at or before each grid time (0 before the first), and whether it is young enough."""
    source = np.searchsorted(ts, grid, side="right") - 1
    near = source.clip(0)
    return near, (source >= 0) & (grid - ts[near] <= max_age_ns)


def resample_numpy(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    out = np.empty_like(like[0])

    def work() -> tuple[Any, ...]:
        source, fresh = source_of(a.ts_ns_T, a.grid_ns_G, a.max_age_ns)
        np.take(a.values_TX, source, axis=0, out=out, mode="clip")
        out[~fresh] = np.nan
        return (out,)

    return work


def resample_numpy_linear(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    out, after = np.empty_like(like[0]), np.empty_like(like[0])
    last = len(a.ts_ns_T) - 1

    def work() -> tuple[Any, ...]:
        left, fresh = source_of(a.ts_ns_T, a.grid_ns_G, a.max_age_ns)
        hit = a.ts_ns_T[left] == a.grid_ns_G
        right = np.where(hit, left, (left + 1).clip(None, last))
        ahead = a.ts_ns_T[right] - a.grid_ns_G
        fresh &= (ahead >= 0) & (ahead <= a.max_age_ns)
        gap = np.where(right == left, 1, a.ts_ns_T[right] - a.ts_ns_T[left])
        share = ((a.grid_ns_G - a.ts_ns_T[left]) / gap).astype(out.dtype)
        np.take(a.values_TX, left, axis=0, out=out, mode="clip")
        np.take(a.values_TX, right, axis=0, out=after, mode="clip")
        np.subtract(after, out, out=after)
        np.multiply(after, share.reshape(-1, *[1] * (out.ndim - 1)), out=after)
        np.add(out, after, out=out)
        out[~fresh] = np.nan
        return (out,)

    return work


def resample_pandas(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    frame = pd.DataFrame(a.values_TX.reshape(len(a.ts_ns_T), -1), index=a.ts_ns_T)

    def work() -> tuple[Any, ...]:
        return (frame.reindex(a.grid_ns_G, method="ffill", tolerance=a.max_age_ns).to_numpy().reshape(like[0].shape),)

    return work


def resample_polars(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    values = pl.DataFrame(a.values_TX.reshape(len(a.ts_ns_T), -1))
    frame = values.with_columns(ts=pl.Series(a.ts_ns_T)).set_sorted("ts")
    grid = pl.DataFrame({"ts": a.grid_ns_G}).set_sorted("ts")

    def work() -> tuple[Any, ...]:
        joined = grid.join_asof(frame, on="ts", strategy="backward", tolerance=a.max_age_ns).drop("ts")
        return (joined.to_numpy(order="c").reshape(like[0].shape),)

    return work


def forward(a: SimpleNamespace) -> bool:
    return bool(a.method == "forward_fill")


# ---- bin_depth and depth_profile ----


def finish_bins(px_sum: Any, qty_sum: Any, value_sum: Any, present: Any) -> tuple[Any, Any]:
    """px and qty of bins from their sums, by the kernel's rules."""
    with np.errstate(invalid="ignore", divide="ignore"):
        px = np.where((present == 1) | (qty_sum == 0), px_sum / present, value_sum / qty_sum)
        return px, np.where(present == 0, np.nan, qty_sum)


def bins_numpy(px: Any, qty: Any, edges: Any) -> tuple[Any, Any, Any]:
    """Sums over the levels (axis 1) between edges -> px, qty, levels present of every bin."""
    px, qty = px[:, edges[0] : edges[-1]], qty[:, edges[0] : edges[-1]]
    starts = edges[:-1] - edges[0]
    absent = np.isnan(px) | np.isnan(qty)
    present = np.diff(edges).reshape(-1, *[1] * (px.ndim - 2))
    if absent.any():
        px, qty = np.where(absent, 0, px), np.where(absent, 0, qty)
        present = present - np.add.reduceat(absent, starts, axis=1, dtype=np.int64)
    sums = [np.add.reduceat(x, starts, axis=1, dtype=np.float64) for x in (px, qty, px * qty)]
    return *finish_bins(*sums, present), present


def bin_numpy(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    book, coverage = np.empty_like(like[0]), np.empty_like(like[1])
    width = np.diff(a.edges).reshape(-1, 1)

    def work() -> tuple[Any, ...]:
        px, qty, present = bins_numpy(a.book_TLF[..., 0::2], a.book_TLF[..., 1::2], a.edges)
        book[..., 0::2], book[..., 1::2], coverage[:] = px, qty, present / width
        return book, coverage

    return work


def bin_torch(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    source, book = torch.tensor(a.book_TLF), torch.tensor(like[0])
    which = torch.tensor(np.repeat(np.arange(len(a.edges) - 1), np.diff(a.edges)))
    width = torch.tensor(np.diff(a.edges)).reshape(-1, 1)
    shape = (len(source), len(a.edges) - 1, 2)

    def work() -> tuple[Any, ...]:
        levels = source[:, a.edges[0] : a.edges[-1]].double()
        px, qty = levels[..., 0::2], levels[..., 1::2]
        there = ~(px.isnan() | qty.isnan())
        px, qty = px.where(there, 0.0), qty.where(there, 0.0)
        sums = [torch.zeros(shape, dtype=torch.float64).index_add_(1, which, x) for x in (px, qty, px * qty)]
        present = torch.zeros(shape, dtype=torch.float64).index_add_(1, which, there.double())
        book[..., 0::2] = torch.where((present == 1) | (sums[1] == 0), sums[0] / present, sums[2] / sums[1])
        book[..., 1::2] = sums[1].where(present > 0, torch.nan)
        return book.numpy(), (present / width).float().numpy()

    return work


def fixed_edges(a: SimpleNamespace) -> bool:
    return bool(a.edges.ndim == 1)


def profile_numpy(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    return lambda: (np.count_nonzero(a.book_TLF[..., 1::2] > 0, axis=0),)


def profile_torch(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    book = torch.tensor(a.book_TLF)
    return lambda: ((book[..., 1::2] > 0).sum(dim=0).numpy(),)


# ---- daily_moments: mean, std, skew, kurtosis ----


def moments_numpy(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    """Two passes: the mean, then powers of the distance from it."""

    def work() -> tuple[Any, ...]:
        mean = np.nanmean(a.x_TV, axis=0, dtype=np.float64)
        off = a.x_TV - mean
        square = off * off
        var = np.nanmean(square, axis=0)
        skew = np.nanmean(square * off, axis=0) / var**1.5
        return mean, np.sqrt(var), skew, np.nanmean(square * square, axis=0) / var**2 - 3.0

    return work


def moments_pandas(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    frame = pd.DataFrame(a.x_TV.astype(np.float64))

    def work() -> tuple[Any, ...]:
        n = frame.count().to_numpy()
        skew = frame.skew().to_numpy() * (n - 2) / np.sqrt(n * (n - 1))  # to the biased estimate
        kurt = (frame.kurt().to_numpy() * (n - 2) * (n - 3) / (n - 1) - 6) / (n + 1)
        return frame.mean().to_numpy(), frame.std(ddof=0).to_numpy(), skew, kurt

    return work


def moments_polars(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    frame, every = pl.DataFrame(a.x_TV.astype(np.float64)).fill_nan(None), pl.all()

    def work() -> tuple[Any, ...]:
        asked = every.mean(), every.std(ddof=0), every.skew(), every.kurtosis()
        return tuple(part.to_numpy()[0] for part in pl.collect_all([frame.lazy().select(x) for x in asked]))

    return work


# float64 sums in another order, rounded to float32
CLOSE = {"rtol": 1e-6, "atol": 1e-6}
PEERS: dict[str, list[Peer]] = {
    "tall_to_wide": [
        Peer("numpy", tall_numpy),
        Peer("polars", tall_polars),
        Peer("duckdb", tall_duckdb),
        Peer("pandas", tall_pandas, paired),
        Peer("torch", tall_torch, paired),
    ],
    "resample_grid": [
        Peer("numpy", resample_numpy, forward),
        Peer("numpy", resample_numpy_linear, lambda a: not forward(a), rtol=1e-6, atol=1e-5),  # blends in float32
        Peer("pandas", resample_pandas, forward),
        Peer("polars", resample_polars, forward),
    ],
    "depth_profile": [Peer("numpy", profile_numpy), Peer("torch", profile_torch)],
    "bin_depth": [Peer("numpy", bin_numpy, fixed_edges, **CLOSE), Peer("torch", bin_torch, fixed_edges, **CLOSE)],
    "daily_moments": [
        Peer("numpy", moments_numpy, **CLOSE),
        Peer("polars", moments_polars, **CLOSE),
        Peer("pandas", moments_pandas, **CLOSE),
    ],
}
