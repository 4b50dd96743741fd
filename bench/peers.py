"""What people use today for resample_grid, bin_depth, depth_profile and daily_moments (see bench/tall_peers.py)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import torch

from bench.race import Work
from bench.tall_peers import TALL_PEERS, Peer, close

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
    px_sum, qty_sum, value_sum = (np.add.reduceat(x, starts, axis=1, dtype=np.float64) for x in (px, qty, px * qty))
    return *finish_bins(px_sum, qty_sum, value_sum, present), present


def bin_numpy(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    book, coverage = np.empty_like(like[0]), np.empty_like(like[1])
    width = np.diff(a.edges).reshape(-1, 1)

    def work() -> tuple[Any, ...]:
        px, qty, present = bins_numpy(a.book_TLF[..., 0::2], a.book_TLF[..., 1::2], a.edges)
        book[..., 0::2], book[..., 1::2], coverage[:] = px, qty, present / width
        return book, coverage

    return work


def bin_numpy_rows(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    """Edges of every snapshot's own: reduceat over the flat book, from start to stop of every bin."""
    book, coverage = np.empty_like(like[0]), np.empty_like(like[1])
    levels = a.book_TLF.shape[1]

    def work() -> tuple[Any, ...]:
        edges = a.edges + np.arange(len(a.edges))[:, None] * levels
        bounds = np.stack([edges[:, :-1], edges[:, 1:]], axis=-1).ravel()
        width = np.diff(a.edges)[..., None]
        cells = np.append(a.book_TLF.reshape(-1, 4), np.zeros((1, 4), a.book_TLF.dtype), axis=0)  # the last stop
        px, qty = cells[:, 0::2], cells[:, 1::2]
        there = ~(np.isnan(px) | np.isnan(qty))
        px, qty = np.where(there, px, 0), np.where(there, qty, 0)
        sums = [np.add.reduceat(x, bounds, axis=0, dtype=np.float64)[::2] for x in (px, qty, px * qty, there)]
        px_sum, qty_sum, value_sum, present = (np.where(width > 0, x.reshape(*width.shape[:2], 2), 0) for x in sums)
        book[..., 0::2], book[..., 1::2] = finish_bins(px_sum, qty_sum, value_sum, present)
        coverage[:] = present / np.maximum(width, 1)
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


def edges_numpy(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    def work() -> tuple[Any, ...]:
        held = (a.book_TLF[..., 1::2] > 0).any(axis=-1)
        depth = np.where(held.any(axis=1), held.shape[1] - held[:, ::-1].argmax(axis=1), 0)[:, None]
        near = np.minimum(np.arange(a.near_levels + 1), depth)
        rest = depth - near[:, -1:]
        bins, d = np.minimum(a.deep_bins, rest), np.arange(1, a.deep_bins + 1)
        deep = near[:, -1:] + np.where(d < bins, d * rest // np.maximum(bins, 1), rest)
        return (np.concatenate([near, deep], axis=1),)

    return work


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


PEERS: dict[str, list[Peer]] = {
    "tall_to_wide": TALL_PEERS,
    "resample_grid": [
        Peer("numpy", resample_numpy, forward),
        Peer("numpy", resample_numpy_linear, lambda a: not forward(a), rtol=1e-6, atol=1e-5),  # blends in float32
        Peer("pandas", resample_pandas, forward),
        Peer("polars", resample_polars, forward),
    ],
    "occupied_edges": [Peer("numpy", edges_numpy)],
    "depth_profile": [Peer("numpy", profile_numpy), Peer("torch", profile_torch)],
    "bin_depth": [
        close("numpy", bin_numpy, fixed_edges),
        close("numpy", bin_numpy_rows, lambda a: not fixed_edges(a)),
        close("torch", bin_torch, fixed_edges),
    ],
    "daily_moments": [
        close("numpy", moments_numpy),
        close("polars", moments_polars),
        close("pandas", moments_pandas),
    ],
}
