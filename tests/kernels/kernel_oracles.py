"""The kernels' answers worked out by other libraries, in other ways."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats

FIELDS = ["bid_px", "bid_qty", "ask_px", "ask_qty"]


def tall_to_wide(
    ts: Any, level: Any, columns: Any, *, levels: int, side_N: Any = None, batch_N: Any = None,
    duplicates: str = "error", dtype: Any = np.float64,
) -> tuple[Any, ...]:  # fmt: skip
    """Stable sort by batch, group by cell, pivot. ValueError on a conflict that is to be refused."""
    names = FIELDS if side_N is None else ["px", "qty"]
    rows = pd.DataFrame({"ts": ts, "level": level} | dict(zip(names, columns, strict=True)))
    rows["side"] = 0 if side_N is None else side_N
    rows["batch"] = 0 if batch_N is None else batch_N
    times = np.sort(rows["ts"].unique()).astype(np.int64)
    n_deep = int((rows["level"] > levels).sum())
    rows = rows[rows["level"] <= levels]
    cell = ["ts", "level", "side"]
    surplus = rows.groupby("ts").size() - rows.drop_duplicates(cell).groupby("ts").size()
    winners = rows[rows["batch"] == rows.groupby(cell)["batch"].transform("max")]
    kept = winners.drop_duplicates(cell, keep="last" if duplicates == "last" else "first")
    beside = winners.merge(kept, on=cell, suffixes=("", "_kept"))
    differs = np.zeros(len(beside), bool)
    for name in names:
        a, b = beside[name].to_numpy(), beside[name + "_kept"].to_numpy()
        differs |= ~((a == b) | (np.isnan(a) & np.isnan(b)))
    if duplicates == "error" and differs.any():
        raise ValueError("conflict")
    n_same = int((~differs).sum()) - len(kept)
    book = np.full((len(times), levels, 4), np.nan, dtype)
    slot = np.searchsorted(times, kept["ts"])
    for k, name in enumerate(names):
        field = k if side_N is None else 2 * kept["side"].to_numpy() + k
        book[slot, kept["level"] - 1, field] = kept[name].to_numpy()
    duplicate = surplus.reindex(times, fill_value=0).to_numpy(np.int32)
    return times, book, duplicate, n_deep, n_same, int(differs.sum())


def resample_grid(ts: Any, values: Any, grid: Any, *, max_age_ns: int, method: str = "forward_fill") -> tuple[Any, ...]:
    """merge_asof both ways; linear by np.interp on each column."""
    samples = pd.DataFrame({"ts": ts, "row": np.arange(len(ts))})
    points = pd.DataFrame({"ts": grid})
    back = pd.merge_asof(points, samples, on="ts", direction="backward", tolerance=max_age_ns)["row"]
    source = back.fillna(-1).to_numpy(np.int64)
    if method == "linear":
        ahead = pd.merge_asof(points, samples, on="ts", direction="forward", tolerance=max_age_ns)["row"]
        source = np.where(ahead.isna(), -1, source)
    flat = values.reshape(len(ts), math.prod(values.shape[1:]))
    out = np.full((len(grid), flat.shape[1]), np.nan)
    found = source >= 0
    if method == "linear":
        for x in range(flat.shape[1]):
            for g in np.flatnonzero(found):
                near = slice(source[g], source[g] + 2)
                hit = grid[g] == ts[source[g]]
                out[g, x] = (
                    flat[source[g], x]
                    if hit
                    else np.interp(grid[g] - ts[near][0], ts[near] - ts[near][0], flat[near, x])
                )
    else:
        out[found] = flat[source[found]]
    age = np.where(found, grid - ts[source] if len(ts) else -1, -1)
    return out.astype(values.dtype).reshape(len(grid), *values.shape[1:]), source, age


def depth_profile(book: Any) -> Any:
    return np.nansum(book[..., [1, 3]] > 0, axis=0)


def occupied_edges(book: Any, near_levels: int, deep_bins: int) -> Any:
    """The widths of the bins, added up; the deep ones by exact fractions of what is left of the depth."""
    rows = []
    for occupied in (book[..., [1, 3]] > 0).any(axis=2):
        depth = int(max(np.flatnonzero(occupied), default=-1)) + 1
        rest = max(depth - near_levels, 0)
        bins = min(deep_bins, rest)
        ends = [math.floor(Fraction(rest * j, bins)) for j in range(bins + 1)] if bins else [0]
        near = [int(level < depth) for level in range(near_levels)]
        deep = np.pad(np.diff(ends), (0, deep_bins - bins))
        rows.append(np.cumsum([0, *near, *deep]))
    return np.array(rows, np.int64).reshape(len(book), near_levels + deep_bins + 1)


def bin_depth(book: Any, edges: Any) -> tuple[Any, ...]:
    """np.average over masked levels, bin by bin."""
    edges = np.broadcast_to(edges, (len(book), edges.shape[-1]))
    bins = edges.shape[1] - 1
    out = np.full((len(book), bins, 4), np.nan)
    coverage = np.zeros((len(book), bins, 2), np.float32)
    for t in range(len(book)):
        for d, (start, stop) in enumerate(pairwise(edges[t])):
            for side in range(2 if stop > start else 0):
                px, qty = book[t, start:stop, 2 * side : 2 * side + 2].astype(np.float64).T
                ok = ~(np.isnan(px) | np.isnan(qty))
                coverage[t, d, side] = ok.mean()
                if ok.any():
                    weights = qty[ok] if qty[ok].sum() != 0 else None
                    out[t, d, 2 * side : 2 * side + 2] = np.average(px[ok], weights=weights), qty[ok].sum()
    return out.astype(book.dtype), coverage


def scipy_stats(x: Any) -> Any:
    """The six rows of Moments.stats by scipy, with the mean taken off first: it works in raw digits."""
    shifted = x - np.nanmean(x, axis=0)
    with np.errstate(all="ignore"):
        skew, kurtosis = (
            stats.skew(shifted, axis=0, nan_policy="omit"),
            stats.kurtosis(shifted, axis=0, nan_policy="omit"),
        )
    count = (~np.isnan(x)).sum(axis=0)
    return np.vstack([np.nanmean(x, axis=0), np.nanstd(shifted, axis=0), skew, kurtosis, np.nansum(x, axis=0), count])


def exact_moments(column: Any) -> tuple[float, ...]:
    """count, mean, m2, m3, m4, total of one column in rational numbers."""
    values = [Fraction(float(v)) for v in column if not np.isnan(v)]
    if not values:
        return (0.0,) * 6
    mean = sum(values) / len(values)
    central = [float(sum((v - mean) ** k for v in values)) for k in (2, 3, 4)]
    return (float(len(values)), float(mean), *central, float(sum(values)))


def daily_moments(x: Any) -> tuple[Any, ...]:
    return tuple(np.array(row) for row in zip(*(exact_moments(column) for column in x.T), strict=True))


def day_tensor(
    ts: Any, level: Any, columns: Any, grid: Any, edges: Any, *, max_age_ns: int, moments: bool = False, **rows: Any
) -> tuple[Any, ...]:
    """The other oracles in a row; what the grid holds, and no more."""
    times, wide, *_ = tall_to_wide(ts, level, columns, **rows)
    return day_tensor_of_book(times, wide, grid, edges, max_age_ns=max_age_ns)


def day_tensor_of_book(times: Any, wide: Any, grid: Any, edges: Any, *, max_age_ns: int) -> tuple[Any, ...]:
    values, source, age = resample_grid(times, wide, grid, max_age_ns=max_age_ns)
    binned, coverage = bin_depth(values, edges)
    return binned.astype(np.float32), coverage, source, age, values[:, 0, ::2].mean(axis=1), times


def gather_windows(
    days: Any, day: Any, start: Any, *, rows: int, shift_GX: Any = None, scale_GX: Any = None, standard_W: Any = None,
    limit: float = math.inf, dtype: Any = np.float32,
) -> Any:  # fmt: skip
    """Concatenate and slice; standardise by torch, which rounds after each of its steps."""
    windows = np.zeros((len(day), rows, *days[0].shape[1:]), dtype)
    for w in range(len(day)):
        named = [days[d] for d in day[w] if d >= 0]
        if not named:
            continue
        window = torch.from_numpy(np.concatenate(named)[start[w] : start[w] + rows])
        if shift_GX is not None:
            window = torch.mul(window, torch.from_numpy(scale_GX[standard_W[w]]))
            window = (window + torch.from_numpy(shift_GX[standard_W[w]])).clamp(-limit, limit).nan_to_num(nan=0.0)
        windows[w] = window.numpy()
    return windows


ORACLES = {
    "day_tensor": day_tensor,
    "day_tensor_of_book": day_tensor_of_book,
    "tall_to_wide": tall_to_wide,
    "resample_grid": resample_grid,
    "depth_profile": depth_profile,
    "occupied_edges": occupied_edges,
    "bin_depth": bin_depth,
    "daily_moments": daily_moments,
    "gather_windows": gather_windows,
}
