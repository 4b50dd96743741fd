"""What people use today for the whole way: rows -> common grid -> depth bins, a float32 tensor (G, D, 4).

Peers as in bench/tall_peers.py, for paired rows without duplicates. Each is checked against the kernel's tensor.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import torch

from bench.peers import bins_numpy, finish_bins, source_of
from bench.race import Work
from bench.tall_peers import close, duckdb_of, names_of, scatter, table_of, torch_of
from bml.kernels import bin_depth, resample_grid, tall_to_wide

Sums = tuple[Any, ...]  # of one side: px, qty, px * qty, levels present


class Composed(NamedTuple):
    """What :func:`compose` returns."""

    book_GDF: Any
    coverage_GD2: Any


def compose(
    ts_ns_N: Any, level_N: Any, columns: Any, grid_ns_G: Any, edges: Any, *, levels: int, side_N: Any = None,
    batch_N: Any = None, duplicates: Any = "error", max_age_ns: int, dtype: npt.DTypeLike = np.float32, **_: Any,
) -> Composed:  # fmt: skip
    """The three separate kernels one after another: what the fused kernel equals."""
    wide = tall_to_wide(
        ts_ns_N, level_N, columns, levels=levels, side_N=side_N, batch_N=batch_N, duplicates=duplicates, dtype=dtype
    )
    on_grid = resample_grid(wide.ts_ns_T, wide.book_TLF, grid_ns_G, max_age_ns=max_age_ns)
    return Composed(*bin_depth(on_grid.values_GX, edges))


def three_kernels(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    rows = a.ts_ns_N, a.level_N, a.columns, a.grid_ns_G, a.edges
    return lambda: (compose(*rows, levels=a.levels, max_age_ns=a.max_age_ns).book_GDF,)


def two_kernels(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    def work() -> tuple[Any, ...]:
        on_grid = resample_grid(a.ts_ns_T, a.book_TLF, a.grid_ns_G, max_age_ns=a.max_age_ns)
        return (bin_depth(on_grid.values_GX, a.edges).book_TDF,)

    return work


def book_numpy(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    """searchsorted, add.reduceat, take."""
    out = np.empty_like(like[0])

    def work() -> tuple[Any, ...]:
        px, qty, _ = bins_numpy(a.book_TLF[..., 0::2], a.book_TLF[..., 1::2], a.edges)
        snapshots = np.empty((len(a.ts_ns_T), *out.shape[1:]), out.dtype)
        snapshots[..., 0::2], snapshots[..., 1::2] = px, qty
        take_grid(a.ts_ns_T, a, snapshots, out)
        return (out,)

    return work


def take_grid(times: Any, a: SimpleNamespace, snapshots: Any, out: Any) -> None:
    """Snapshots to the grid: the last one at or before each grid time."""
    source, fresh = source_of(times, a.grid_ns_G, a.max_age_ns)
    np.take(snapshots, source, axis=0, out=out, mode="clip")
    out[~fresh] = np.nan


def day_numpy(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    """Reshape (complete rows) or unique and scatter (others), take, add.reduceat."""
    out = np.empty_like(like[0])
    n_times = len(np.unique(a.ts_ns_N))
    in_order = np.arange(len(a.level_N)) % a.levels + 1
    complete = _sorted(a) and len(a.ts_ns_N) == n_times * a.levels and bool((a.level_N == in_order).all())

    def work() -> tuple[Any, ...]:
        if complete:
            times = a.ts_ns_N[:: a.levels]
            book = [x.reshape(len(times), a.levels) for x in a.columns]
        else:
            times, t = np.unique(a.ts_ns_N, return_inverse=True)
            wide = np.empty((len(times), a.levels, 4))
            scatter(wide, t, a.level_N, None, a.columns)
            book = [wide[..., k] for k in range(4)]
        source, fresh = source_of(times, a.grid_ns_G, a.max_age_ns)
        for k in (0, 2):
            px, qty, _ = bins_numpy(book[k].take(source, axis=0), book[k + 1].take(source, axis=0), a.edges)
            out[..., k], out[..., k + 1] = px, qty
        out[~fresh] = np.nan
        return (out,)

    return work


def day_pandas(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    """Pivot, forward-fill by reindex, then numpy for the bins."""
    out, frame = np.empty_like(like[0]), pd.DataFrame(table_of(a))

    def work() -> tuple[Any, ...]:
        wide = frame.pivot(index="ts", columns="level", values=names_of(a))
        book = wide.reindex(a.grid_ns_G, method="ffill", tolerance=a.max_age_ns).to_numpy().reshape(len(out), 4, -1)
        for k in (0, 2):
            out[..., k], out[..., k + 1], _ = bins_numpy(book[:, k], book[:, k + 1], a.edges)
        return (out,)

    return work


def bin_of_level(a: SimpleNamespace) -> Any:
    """The bin of every level, -1: none."""
    bins = np.full(a.levels, -1, np.int32)
    bins[a.edges[0] : a.edges[-1]] = np.repeat(np.arange(len(a.edges) - 1), np.diff(a.edges))
    return bins


def place_bins(ts: Any, bins: Any, sides: tuple[Sums, Sums], a: SimpleNamespace, out: Any) -> None:
    """Grouped sums to their cells, then to the grid."""
    times, t = np.unique(ts, return_inverse=True)
    book = np.full((len(times), *out.shape[1:]), np.nan, out.dtype)
    for k, sums in zip((0, 2), sides, strict=True):
        book[t, bins, k], book[t, bins, k + 1] = finish_bins(*sums)
    take_grid(times, a, book, out)


def day_polars(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    """Group by (time, bin), align to the grid."""
    out, rows = np.empty_like(like[0]), pl.DataFrame(table_of(a)).lazy()

    def sums(px: str, qty: str) -> list[pl.Expr]:
        there = pl.col(px).is_not_nan() & pl.col(qty).is_not_nan()
        kept_px, kept_qty = (pl.when(there).then(pl.col(x)) for x in (px, qty))
        parts = kept_px, kept_qty, kept_px * kept_qty, there
        return [part.sum().alias(f"{px}_{k}") for k, part in enumerate(parts)]

    def work() -> tuple[Any, ...]:
        bins = pl.lit(pl.Series(bin_of_level(a))).gather(pl.col("level") - 1)
        grouped = rows.with_columns(bin=bins).filter(pl.col("bin") >= 0).group_by("ts", "bin")
        got = grouped.agg(*sums("c0", "c1"), *sums("c2", "c3")).collect()
        bid, ask = (tuple(got[f"{px}_{k}"].to_numpy() for k in range(4)) for px in ("c0", "c2"))
        place_bins(got["ts"].to_numpy(), got["bin"].to_numpy(), (bid, ask), a, out)
        return (out,)

    return work


def day_duckdb(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    """The same in SQL."""
    out, db = np.empty_like(like[0]), duckdb_of(a)
    bins = pl.DataFrame({"level": np.arange(1, a.levels + 1, dtype=np.int32), "bin": bin_of_level(a)})
    db.register("bins", bins.to_arrow())

    def sums(px: str, qty: str) -> str:
        there = f"filter (where not isnan({px}) and not isnan({qty}))"
        added = [f"coalesce(sum({x}) {there}, 0)" for x in (px, qty, f"{px} * {qty}")]
        parts = [*added, f"count(*) {there}"]
        return ", ".join(f"{part} as {px}_{k}" for k, part in enumerate(parts))

    query = f"""select ts, bin, {sums("c0", "c1")}, {sums("c2", "c3")}
        from rows join bins using (level) where bin >= 0 group by ts, bin"""

    def work() -> tuple[Any, ...]:
        got = db.execute(query).fetchnumpy()
        bid, ask = (tuple(got[f"{px}_{k}"] for k in range(4)) for px in ("c0", "c2"))
        place_bins(got["ts"], got["bin"], (bid, ask), a, out)
        return (out,)

    return work


def day_torch(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    """index_add into (time, bin)."""
    out = np.empty_like(like[0])
    ts, level, columns = torch_of(a)
    unique = torch.unique_consecutive if _sorted(a) else torch.unique
    n_bins = len(a.edges) - 1

    def work() -> tuple[Any, ...]:
        times, t = unique(ts, return_inverse=True)
        bins = torch.tensor(bin_of_level(a))[level.long() - 1]
        cell = torch.where(bins < 0, n_bins, bins) + t * (n_bins + 1)
        book = np.empty((len(times), n_bins, 4), out.dtype)
        for k in (0, 2):
            px, qty = columns[k].double(), columns[k + 1].double()
            there = ~(px.isnan() | qty.isnan())
            px, qty = px.where(there, 0.0), qty.where(there, 0.0)
            parts = px, qty, px * qty, there.double()
            size = len(times) * (n_bins + 1)
            sums = [torch.zeros(size, dtype=torch.float64).index_add_(0, cell, x).numpy() for x in parts]
            bid_or_ask = finish_bins(*(x.reshape(len(times), -1)[:, :n_bins] for x in sums))
            book[..., k], book[..., k + 1] = bid_or_ask
        take_grid(times.numpy(), a, book, out)
        return (out,)

    return work


def _fused(ts: Any, level: Any, columns: Any, grid: Any, bin_of: Any, max_age_ns: int, out: Any) -> None:
    """The loop one would write: for every grid time its snapshot's rows, straight into bins."""
    for g in numba.prange(len(grid)):
        out[g] = np.nan
        stop = np.searchsorted(ts, grid[g], side="right")
        if stop == 0 or grid[g] - ts[stop - 1] > max_age_ns:
            continue
        sums = np.zeros((out.shape[1], 2, 4))
        for i in range(np.searchsorted(ts, ts[stop - 1]), stop):
            d = bin_of[level[i] - 1]
            if d < 0:
                continue
            for side in range(2):
                px, qty = columns[2 * side][i], columns[2 * side + 1][i]
                if px == px and qty == qty:
                    sums[d, side, 0] += px
                    sums[d, side, 1] += qty
                    sums[d, side, 2] += px * qty
                    sums[d, side, 3] += 1
        for d in range(out.shape[1]):
            for side in range(2):
                px_sum, qty_sum, value_sum, present = sums[d, side]
                if present > 0:
                    plain = present == 1 or qty_sum == 0
                    out[g, d, 2 * side] = px_sum / present if plain else value_sum / qty_sum
                    out[g, d, 2 * side + 1] = qty_sum


@functools.cache
def _compiled(parallel: bool) -> Any:
    return numba.njit(parallel=parallel, nogil=True)(_fused)


def _numba(parallel: bool) -> Any:
    def prepare(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
        out, loop = np.empty_like(like[0]), _compiled(parallel)
        args = a.ts_ns_N, a.level_N, tuple(a.columns), a.grid_ns_G, bin_of_level(a), a.max_age_ns, out
        loop(*args)  # compiles

        def work() -> tuple[Any, ...]:
            loop(*args)
            return (out,)

        return work

    return prepare


def _sorted(a: SimpleNamespace) -> bool:
    return bool((a.ts_ns_N[1:] >= a.ts_ns_N[:-1]).all())


def _plain(a: SimpleNamespace) -> bool:
    """Paired rows, fixed bins, the book alone."""
    extra = getattr(a, "moments", False) or getattr(a, "profile", False)
    return a.side_N is None and a.batch_N is None and a.edges.ndim == 1 and not extra and a.dtype == np.float32


DAY_PEERS = [
    close("three kernels", three_kernels, _plain),
    close("fused numba", _numba(parallel=False), lambda a: _plain(a) and _sorted(a)),
    close("fused numba parallel", _numba(parallel=True), lambda a: _plain(a) and _sorted(a)),
    close("numpy", day_numpy, _plain),
    close("polars", day_polars, _plain),
    close("duckdb", day_duckdb, _plain),
    close("torch", day_torch, _plain),
    close("pandas", day_pandas, _plain),
]
BOOK_PEERS = [
    close("two kernels", two_kernels, lambda a: True),
    close("numpy", book_numpy, lambda a: True),
]
