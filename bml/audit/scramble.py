"""Another future: a day's raw rows with every value changed, some rows gone or doubled, and gaps planted.

The scrambled rows are a pure function of (seed, symbol, day's real rows), so a day that lies in the future of two
moments is the same in both. They stay rows a feed could send: bids below asks, prices in order, times in order.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from bml.config import Config
from bml.dataset.labels import Bools
from bml.types import ASK, BID, NS_PER_DAY, NS_PER_S, DepthRows, Float64, Int64

#: what comes for a while after a cut: scrambled rows as ever, none, or books with bids only
Spell = Literal["none", "silence", "bids only"]

#: (amplitude, period in s) of the waves a scrambled log price rides on: it differs at every time, and rarely jumps
WAVES = ((0.05, 250_000.0), (0.01, 17_000.0), (0.003, 700.0))
NOISE = 2e-4
#: share of a snapshot's levels that a scrambled one has, from the best on
DEPTH = 0.75
#: share of rows left out (never of the best level: its book would be ABSENT), and of rows sent twice
LOST, DOUBLED = 2e-3, 2e-3


@dataclass(frozen=True, kw_only=True, slots=True)
class Scramble:
    """How scrambled rows differ: ``share`` of the snapshots is dropped and as many come early, and a gap of
    ``gap_ns`` begins every ``gap_every_ns`` on average."""

    seed: int
    share: float
    gap_ns: int
    gap_every_ns: int


def scramble_of(cfg: Config, seed: int) -> Scramble:
    """A scramble that most windows of the configuration survive: where none is left, nothing can be compared."""
    params = cfg.features.params
    return Scramble(
        seed=seed,
        share=min(0.01, float(params.get("max_filled", 0.02)) / 4.0),
        gap_ns=_gap_ns(cfg),
        gap_every_ns=max(NS_PER_DAY, round(10.0 * float(params.get("window_h", 24.0)) * 3600.0) * NS_PER_S),
    )


def spells_of(cfg: Config) -> dict[Spell, int]:
    """How long each spell lasts in ns: silence until no book is carried forward, bids only for two rows.

    Labels that end within a spell are unknown, so a long one would hide what happens to their windows.
    """
    return {"none": 0, "silence": _gap_ns(cfg), "bids only": 2 * cfg.data.cadence_ns}


def _gap_ns(cfg: Config) -> int:
    max_gap_s = max((float(call.params.get("max_gap_s", 0.0)) for call in cfg.preprocess), default=0.0)
    return round(1.5 * max_gap_s * NS_PER_S) + 3 * cfg.data.cadence_ns


def scrambled(rows: DepthRows, spec: Scramble) -> DepthRows:
    """``rows`` of one whole UTC day in the other future; times stay within the day. O(N log N)."""
    if rows.n_rows == 0:
        return rows
    name = zlib.crc32(rows.symbol.encode())
    rng = np.random.default_rng([spec.seed, name, rows.start_ns // NS_PER_DAY])
    ts_ns_T, at_N = np.unique(rows.ts_ns_N, return_inverse=True)
    keep_T = rng.random(ts_ns_T.shape) >= spec.share
    for start_ns in rows.start_ns + rng.integers(0, NS_PER_DAY, rng.poisson(NS_PER_DAY / spec.gap_every_ns)):
        keep_T &= (ts_ns_T < start_ns) | (ts_ns_T >= start_ns + spec.gap_ns)
    columns = _values(rows, ts_ns_T, at_N, rng, np.random.default_rng([spec.seed, name]))
    is_best_N = rows.level_N <= 1
    keep_N = keep_T[at_N] & (rows.level_N <= np.ceil(DEPTH * rows.level_N.max()))
    keep_N &= is_best_N | (rng.random(at_N.shape) >= LOST)
    chosen = np.repeat(np.arange(at_N.shape[0]), keep_N * (1 + (rng.random(at_N.shape) < DOUBLED)))
    moved = replace(rows, ts_ns_N=_early(ts_ns_T, spec.share, rng)[at_N], columns=columns)
    return taken(moved, chosen)


def taken(rows: DepthRows, some: Int64 | Bools) -> DepthRows:
    """Some of the rows, in the order given."""
    return replace(
        rows,
        ts_ns_N=rows.ts_ns_N[some],
        level_N=rows.level_N[some],
        columns=tuple(column[some] for column in rows.columns),
        side_N=None if rows.side_N is None else rows.side_N[some],
        batch_N=None if rows.batch_N is None else rows.batch_N[some],
        sequence_N=None if rows.sequence_N is None else rows.sequence_N[some],
    )


def _values(
    rows: DepthRows, ts_ns_T: Int64, at_N: Int64, rng: np.random.Generator, wave: np.random.Generator
) -> tuple[Float64, ...]:
    """Prices on another path with a wider spread, each snapshot by one factor a side; quantities cell by cell.

    Rows of one cell keep equal factors: those that were equal stay so.
    """
    phase_W = wave.random(len(WAVES))
    log_T = rng.normal(0.0, NOISE, ts_ns_T.shape)
    for phase, (amplitude, period_s) in zip(phase_W.tolist(), WAVES, strict=True):
        log_T += amplitude * np.sin(2 * np.pi * (ts_ns_T / (period_s * NS_PER_S) + phase))
    wider_T = rng.exponential(2e-5, ts_ns_T.shape)
    bid_N, ask_N = np.exp(log_T - wider_T)[at_N], np.exp(log_T + wider_T)[at_N]
    salt = int(rng.integers(1 << 32))

    def quantity(side: Int64 | int) -> Float64:
        return _factors(((at_N * 65_536 + rows.level_N) * 2 + side) ^ salt)

    if rows.side_N is not None:
        px_N, qty_N = rows.columns
        px_factor_N = np.where(rows.side_N == BID, bid_N, ask_N)
        return px_N * px_factor_N, qty_N * quantity(rows.side_N.astype(np.int64))
    bid_px_N, bid_qty_N, ask_px_N, ask_qty_N = rows.columns
    return bid_px_N * bid_N, bid_qty_N * quantity(BID), ask_px_N * ask_N, ask_qty_N * quantity(ASK)


def _factors(cell_N: Int64) -> Float64:
    """From 0.5 to 2, by the number of the cell alone (the finaliser of splitmix64)."""
    z_N = cell_N.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        z_N = (z_N ^ (z_N >> np.uint64(shift))) * np.uint64(factor)
    out_N: Float64 = 0.5 + 1.5 * (z_N >> np.uint64(11)).astype(np.float64) / 2.0**53
    return out_N


def _early(ts_ns_T: Int64, share: float, rng: np.random.Generator) -> Int64:
    """A share of the times up to 0.4 of a step earlier: their order stays, and no two become one."""
    step_T = np.diff(ts_ns_T, prepend=ts_ns_T[:1])
    by_T = np.where(rng.random(ts_ns_T.shape) < share, 0.4 * rng.random(ts_ns_T.shape), 0.0)
    moved_T: Int64 = ts_ns_T - (by_T * step_T).astype(np.int64)
    return moved_T
