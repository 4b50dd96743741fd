"""Real 15 min candles as samples: an anchor at every close, volatility-scaled classes fitted to the training rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from bml.dataset.classes import VolatilityClasses
from bml.dataset.labels import assign, log_return
from bml.dataset.sigma import SigmaSpec, causal_sigma
from bml.dataset.splits import block_bounds, split, split_spec
from bml.types import NS_PER_S, Fold, SampleIndex

CADENCE_NS = 900 * NS_PER_S


def candles(folder: Path, symbol: str) -> tuple[np.ndarray, np.ndarray]:
    """(T,) times of the closes in ns and their prices, without a gap."""
    table = pl.read_parquet(folder / f"{symbol}_15m.parquet")
    time_ns_T = table["timestamp"].dt.epoch("ns").to_numpy() + CADENCE_NS
    assert (np.diff(time_ns_T) == CADENCE_NS).all()
    return time_ns_T, table["close"].to_numpy()


def samples(
    folder: Path, symbols: Sequence[str], spec: SigmaSpec, *, steps: int, classes: int, starts: dict[str, str]
) -> tuple[SampleIndex, Fold]:
    """Labels over ``steps`` candles; ``starts`` of the blocks after train."""
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ("anchor", "target", "return", "sigma")}
    for code, symbol in enumerate(symbols):
        time_ns_T, close_T = candles(folder, symbol)
        sigma_T = causal_sigma(close_T, np.ones(close_T.shape, bool), spec, cadence_ns=CADENCE_NS, steps=steps)
        return_T = log_return(close_T, steps)
        known = np.flatnonzero((sigma_T > 0) & np.isfinite(return_T))
        for name, value in zip(columns, (time_ns_T, np.full(time_ns_T.shape, code), return_T, sigma_T), strict=True):
            columns[name].append(value[known])
    anchor, target, return_N, sigma_N = (np.concatenate(parts) for parts in columns.values())
    first, last = (dt.datetime.fromtimestamp(int(t) / 1e9, dt.UTC).date() for t in (anchor.min(), anchor.max()))
    blank = SampleIndex(
        anchor_ns_N=anchor,
        target_N=target.astype(np.int32),
        input_start_ns_N=anchor,
        context_start_ns_N=anchor,
        label_stop_ns_N=anchor + steps * CADENCE_NS,
        return_N=return_N,
        sigma_N=sigma_N,
        edges_NE=np.empty((anchor.shape[0], 0)),
        y_N=np.full(anchor.shape, -1, np.int64),
    )
    fold = split(blank, block_bounds(first, last + dt.timedelta(days=1), split_spec({"starts": starts})))
    scheme = VolatilityClasses(shares=(1.0 / classes,) * classes)
    mine = {symbol: fold.train[target[fold.train] == code] for code, symbol in enumerate(symbols)}
    scheme = scheme.fitted({symbol: (return_N[rows], sigma_N[rows]) for symbol, rows in mine.items()})
    edges_NE = np.concatenate([scheme.edges(symbol, sigma_N[target == code]) for code, symbol in enumerate(symbols)])
    return replace(blank, edges_NE=edges_NE, y_N=assign(return_N, edges_NE)), fold
