"""The synthetic market's book: what a snapshot shows of the latent state, and how to read it back.

Shown exactly:
    pressure   the bid share of all quantity in the signal levels (3 to 12, fewer in a shallow book) is
               logistic(p): p = log(bid quantity / ask quantity) there, to the rounding of float64
    regime     the spread is 0.75 to 1.25 times ``spread_bps`` when calm, three times that when volatile,
               so volatile is: spread > 2 spread_bps
    mid        (best bid + best ask) / 2 is the latent mid to half a tick; ticks are 1e-7 to 1e-8 of the
               starting mid and a market whose mid falls below a million ticks is refused, so the observed
               log mid is right to 5e-7
Noise, independent over snapshots and worth nothing once pressure and regime are known: the sizes of levels 1
and 2 lean only weakly to the pressure, sizes elsewhere are heavy-tailed (lognormal) and grow with the depth,
gaps between levels are one tick to twice their mean.

Noise is drawn in blocks of steps, one random stream a block, so that any sub-range is read alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bml.sources.market import BOOK, stream
from bml.types import ASK, ASK_PX, ASK_QTY, BID, BID_PX, BID_QTY, Float32, Float64, Floats, Int64

#: steps drawn from one random stream
BLOCK = 256
#: mean gap between neighbouring levels, and what of the mid the deepest level may be away
SPACING_BPS, DEEPEST_BPS = 0.5, 5_000.0
VOLATILE_SPREAD = 3.0
#: fewest ticks a mid may be worth
FEWEST_TICKS = 1e6
MIN_LEVELS = 3
MAX_LEVELS = int(DEEPEST_BPS / (2 * SPACING_BPS))
_FIRST, _LAST = 3, 12
_NOISY, _QUIET, _LEAN = 1.2, 0.3, 0.25


def signal_levels(levels: int) -> slice:
    """Where the pressure shows: a slice of the level axis."""
    return slice(_FIRST - 1, min(_LAST, levels))


def revealed_pressure(book_TLF: Floats) -> Float64:
    """Pressure (T,) read back from raw snapshots ``book_TLF`` (T, L, 4); NaN where a signal level is absent."""
    band = signal_levels(book_TLF.shape[1])
    bid_T = book_TLF[:, band, BID_QTY].sum(axis=1, dtype=np.float64)
    ask_T = book_TLF[:, band, ASK_QTY].sum(axis=1, dtype=np.float64)
    return np.asarray(np.log(bid_T / ask_T))


def revealed_regime(book_TLF: Floats, spread_bps: float) -> npt.NDArray[np.uint8]:
    """Regime (T,) read back from raw snapshots ``book_TLF`` (T, L, 4): 1 is volatile, NaN reads as calm."""
    bid_T, ask_T = (book_TLF[:, 0, field].astype(np.float64) for field in (BID_PX, ASK_PX))
    return np.asarray((ask_T - bid_T) / (0.5e-4 * (ask_T + bid_T)) > 2.0 * spread_bps).astype(np.uint8)


def decimals_of_tick(mid: float) -> int:
    """A tick is 10 ** -decimals: the power of ten that lies between 1e-8 and 1e-7 of ``mid``."""
    return 7 - math.floor(math.log10(mid))


@dataclass(frozen=True, kw_only=True, slots=True)
class BookSpec:
    """How one symbol's book looks; ``spread_bps`` is the mean calm spread, ``size`` the mean best quantity."""

    seed: int
    symbol: str
    levels: int
    spread_bps: float
    size: float
    decimals: int

    def price(self, tick: Float64) -> Float64:
        """Prices of whole ticks: the float64 nearest to the decimal number where ``decimals`` >= 0."""
        scale = float(10.0 ** abs(self.decimals))
        return tick / scale if self.decimals >= 0 else tick * scale


@dataclass(frozen=True, kw_only=True, slots=True)
class Books:
    """Snapshots, side first: ``tick_SKL`` whole numbers of ticks and ``qty_SKL``, both (2, K, L) float64."""

    tick_SKL: Float64
    qty_SKL: Float64


def draw(
    spec: BookSpec, step_K: Int64, pressure_T: Float64, log_mid_T: Float64, is_volatile_T: npt.NDArray[np.uint8]
) -> Books:
    """The books of the steps ``step_K`` (>= 0, any order), given the latent paths of the whole range.

    A pure function of (spec, step, latent state at the step). Cost: about 0.2 us a level and snapshot.
    """
    block_B, place_K = _blocks(step_K)
    noise_SKL, gap_SKL, spread_K = _noise(spec, block_B)
    rows = _rows(place_K)
    noise_SKL, gap_SKL, spread_K = noise_SKL[:, rows], gap_SKL[:, rows], spread_K[rows]
    pressure_K = pressure_T[step_K]
    mid_K = np.exp(log_mid_T[step_K]) * 10.0**spec.decimals  # in ticks
    return Books(
        tick_SKL=_ticks(spec, mid_K, is_volatile_T[step_K], spread_K, gap_SKL),
        qty_SKL=_sizes(spec, pressure_K, noise_SKL),
    )


def _blocks(step_K: Int64) -> tuple[Int64, Int64]:
    """The blocks the steps lie in, and each step's row in those blocks laid end to end."""
    block_K = step_K // BLOCK
    block_B = np.unique(block_K)
    place_K = np.searchsorted(block_B, block_K) * BLOCK + step_K % BLOCK
    return block_B, place_K


def _rows(place_K: Int64) -> slice | Int64:
    """``place_K`` as a slice where it is one: no copy."""
    if len(place_K) and np.array_equal(place_K, np.arange(place_K[0], place_K[0] + len(place_K))):
        return slice(int(place_K[0]), int(place_K[0]) + len(place_K))
    return place_K


def _noise(spec: BookSpec, block_B: Int64) -> tuple[Float32, Float32, Float64]:
    """Standard normals and uniforms (2, K, L) float32, and a uniform a snapshot (K,), of whole blocks."""
    shape = (2, len(block_B) * BLOCK, spec.levels)
    normal_SKL, uniform_SKL = np.empty(shape, np.float32), np.empty(shape, np.float32)
    spread_K = np.empty(shape[1])
    for b, block in enumerate(block_B.tolist()):
        rng = stream(spec.seed, spec.symbol, BOOK, block)
        rows = slice(b * BLOCK, (b + 1) * BLOCK)
        rng.random(out=spread_K[rows])
        for side in (BID, ASK):
            rng.standard_normal(dtype=np.float32, out=normal_SKL[side, rows])
            rng.random(dtype=np.float32, out=uniform_SKL[side, rows])
    return normal_SKL, uniform_SKL, spread_K


def _ticks(
    spec: BookSpec, mid_K: Float64, is_volatile_K: npt.NDArray[np.uint8], uniform_K: Float64, gap_SKL: Float32
) -> Float64:
    """Prices in whole ticks: the best ones around the mid, then strictly away from it, gap by gap."""
    width_K = spec.spread_bps * np.where(is_volatile_K, VOLATILE_SPREAD, 1.0) * (0.75 + 0.5 * uniform_K)
    spread_K = np.maximum(np.rint(1e-4 * width_K * mid_K), 1.0)
    bid_K = np.rint(mid_K - 0.5 * spread_K)
    tick_SKL = np.empty(gap_SKL.shape)
    reach_K = 2.0 * (1e-4 * SPACING_BPS) * mid_K - 1.0
    for side, best_K, away in ((BID, bid_K, -1.0), (ASK, bid_K + spread_K, 1.0)):
        np.multiply(gap_SKL[side], reach_K[:, None], out=tick_SKL[side])
        np.floor(tick_SKL[side], out=tick_SKL[side])
        tick_SKL[side] += 1.0
        tick_SKL[side] *= away
        tick_SKL[side, :, 0] = best_K
        np.cumsum(tick_SKL[side], axis=1, out=tick_SKL[side])
    return tick_SKL


def _sizes(spec: BookSpec, pressure_K: Float64, noise_SKL: Float32) -> Float64:
    """Quantities: lognormal around a profile that grows with the depth, then the signal levels set exactly."""
    band = signal_levels(spec.levels)
    sigma_L = np.full(spec.levels, _NOISY, np.float32)
    sigma_L[band] = _QUIET
    profile_L = spec.size * np.sqrt(1.0 + 0.1 * np.arange(spec.levels))
    # minus sigma^2 / 2 makes the profile the mean
    log_SKL = noise_SKL * sigma_L + (np.log(profile_L) - 0.5 * sigma_L**2).astype(np.float32)
    lean_K = (_LEAN * pressure_K).astype(np.float32)[:, None]
    log_SKL[BID, :, : _FIRST - 1] += lean_K
    log_SKL[ASK, :, : _FIRST - 1] -= lean_K
    qty_SKL: Float64 = np.exp(log_SKL, out=log_SKL).astype(np.float64)
    total_SK = qty_SKL[:, :, band].sum(axis=2)
    share_K = 1.0 / (1.0 + np.exp(-pressure_K))
    whole_K = total_SK[BID] + total_SK[ASK]
    qty_SKL[BID, :, band] *= (share_K * whole_K / total_SK[BID])[:, None]
    qty_SKL[ASK, :, band] *= ((1.0 - share_K) * whole_K / total_SK[ASK])[:, None]
    return qty_SKL
