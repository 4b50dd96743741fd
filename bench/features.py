"""Window features: compiled, beside the same in numpy (whole arrays at once) and a memcpy of the levels they read.

    python bench/features.py [--times 8640] [--levels 400] [--used 10] [--repeats 7]

``of memcpy`` is memcpy time / feature time: 1 would be memory speed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bml.book.features import book_slope, depth_imbalance, microprice_bps, order_flow_imbalance
from bml.types import Float64


def order_flow_numpy(book_TLF: Float64, levels: int) -> Float64:
    now, was = book_TLF[1:, :levels], book_TLF[:-1, :levels]
    bid = np.where(now[..., 0] >= was[..., 0], now[..., 1], 0) - np.where(now[..., 0] <= was[..., 0], was[..., 1], 0)
    ask = np.where(now[..., 2] <= was[..., 2], now[..., 3], 0) - np.where(now[..., 2] >= was[..., 2], was[..., 3], 0)
    flow: Float64 = np.concatenate([[np.nan], (bid - ask).sum(axis=1)])
    return flow


def microprice_numpy(book_TLF: Float64) -> Float64:
    bid, bid_qty, ask, ask_qty = book_TLF[:, 0].T
    bps: Float64 = (ask - bid) / (ask + bid) * 1e4 * (bid_qty - ask_qty) / (bid_qty + ask_qty)
    return bps


def imbalance_numpy(book_TLF: Float64, levels: int) -> Float64:
    bid, ask = np.nansum(book_TLF[:, :levels, 1], axis=1), np.nansum(book_TLF[:, :levels, 3], axis=1)
    share: Float64 = (bid - ask) / (bid + ask)
    return share


def slope_numpy(book_TLF: Float64, levels: int) -> Float64:
    mid = 0.5 * (book_TLF[:, 0, 0] + book_TLF[:, 0, 2])[:, None, None]
    distance = np.abs(book_TLF[:, :levels, 0::2] / mid - 1) * 1e4
    quantity = np.nancumsum(book_TLF[:, :levels, 1::2], axis=1)
    slope: Float64 = np.nansum(distance * quantity, axis=1) / np.nansum(distance * distance, axis=1)
    return slope


def median_s(works: list[Callable[[], object]], repeats: int) -> list[float]:
    """Median seconds of each, run in turn after one unmeasured round."""
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(repeats + 1):
        for work, times in zip(works, taken, strict=True):
            began = time.perf_counter()
            work()
            times.append(time.perf_counter() - began)
    return [statistics.median(times[1:]) for times in taken]


def measure(times: int, levels: int, used: int, repeats: int, threads: int) -> list[tuple[str, float, float, float]]:
    """(feature, its ms, numpy time / its time, memcpy time / its time) on a random book without gaps."""
    rng = np.random.default_rng(1)
    book_TLF = rng.random((times, levels, 4))
    away_TL2 = 0.01 * book_TLF[:, :, 0::2].cumsum(axis=1)
    book_TLF[:, :, 0::2] = 100.0 + away_TL2 * np.array([-1.0, 1.0])
    rows = []
    measured: tuple[tuple[Any, Any, dict[str, Any]], ...] = (
        (microprice_bps, microprice_numpy, {}),
        (depth_imbalance, imbalance_numpy, {"levels": used}),
        (order_flow_imbalance, order_flow_numpy, {"levels": used}),
        (book_slope, slope_numpy, {"levels": used}),
    )
    for feature, in_numpy, params in measured:
        need = np.ones((times, params.get("levels", 1), 4))
        works: list[Callable[[], Any]] = [
            partial(feature, book_TLF, threads=threads, **params),
            partial(in_numpy, book_TLF, **params),
            partial(np.copyto, np.ones_like(need), need),
        ]
        np.testing.assert_allclose(works[0](), works[1](), rtol=1e-7, atol=1e-9)
        own, numpy_s, memcpy_s = median_s(works, repeats)
        rows.append((feature.__name__, own * 1e3, numpy_s / own, memcpy_s / own))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=8640, help="rows of a day")
    parser.add_argument("--levels", type=int, default=400, help="levels of a book")
    parser.add_argument("--used", type=int, default=10, help="levels a feature looks at")
    parser.add_argument("--repeats", type=int, default=7, help="measured rounds")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    print(f"{chosen.times} x {chosen.levels} levels, features of {chosen.used}, {chosen.threads} threads")
    print(f"{'feature':22} {'ms':>8} {'x numpy':>8} {'of memcpy':>10}")
    for name, ms, of_numpy, of_memcpy in measure(**vars(chosen)):
        print(f"{name:22} {ms:8.2f} {of_numpy:8.1f} {of_memcpy:10.2f}")


if __name__ == "__main__":
    main()
