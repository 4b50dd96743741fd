"""The latent synthetic market: pressures, volatility regime and mids, and the parameters that govern them.

Time runs in steps k = 0, 1, ... of one cadence; step k is the grid point g_k. Per asset i:

    pressure   p[k+1] = phi p[k] + sqrt(1 - phi^2) xi[k+1]        stationary, unit variance, own xi per asset
    regime     r[k] in {0 calm, 1 volatile}                       stationary Markov chain, one for all assets
    log mid    m[k+1] = m[k] + drift (own p_i[k] + lead p_ref[k]) + sigma[r[k]] eps_i[k+1]
    noise      eps_i = sqrt(correlation) common + sqrt(1 - correlation) own    independent in time

with own = sqrt(1 - lead^2), and for the reference asset itself own = 1 and no lead, so that every asset's
drift has standard deviation ``drift`` per step. The index rule: what the book shows at step k (p[k], r[k])
drives the increment from k to k+1. The drift is not scaled by sigma, so the noise of a return depends on the
future regimes only through the number of volatile steps: see :mod:`bml.sources.market_law`.

Every random stream is seeded by (seed, symbol, purpose), never by position: a later ``stop`` or another
symbol changes nothing that was there before.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from bml.types import Float64

#: purposes of the random streams
PRESSURE, NOISE, COMMON, REGIME, BOOK, JITTER, FAULTS, SHUFFLE = range(8)


def stream(seed: int, symbol: str, purpose: int, part: int = 0) -> np.random.Generator:
    """The random stream of (seed, symbol, purpose, part); equal arguments give equal numbers in every process."""
    name = int.from_bytes(hashlib.sha256(symbol.encode()).digest()[:8], "big")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(name, purpose, part))))


@dataclass(frozen=True, kw_only=True, slots=True)
class Dynamics:
    """The market's parameters per step; ``drift`` and ``sigma`` are log returns, ``sigma`` = (calm, volatile)."""

    phi: float
    drift: float
    lead: float
    sigma: tuple[float, float]
    rise: float  # probability calm -> volatile
    fall: float  # probability volatile -> calm
    correlation: float

    @classmethod
    def of(
        cls,
        *,
        cadence_s: float,
        pressure_s: float,
        drift_bps: float,
        lead: float,
        sigma_bps: tuple[float, float],
        regime_s: tuple[float, float],
        correlation: float,
    ) -> Self:
        """From units of time: relaxation time and mean stays in seconds, drift per minute, sigma per sqrt(minute)."""
        minutes = cadence_s / 60.0
        memory = math.exp(-cadence_s * (1.0 / regime_s[0] + 1.0 / regime_s[1]))
        volatile_share = regime_s[1] / (regime_s[0] + regime_s[1])
        return cls(
            phi=math.exp(-cadence_s / pressure_s),
            drift=drift_bps * 1e-4 * minutes,
            lead=lead,
            sigma=(sigma_bps[0] * 1e-4 * math.sqrt(minutes), sigma_bps[1] * 1e-4 * math.sqrt(minutes)),
            rise=volatile_share * (1.0 - memory),
            fall=(1.0 - volatile_share) * (1.0 - memory),
            correlation=correlation,
        )

    @classmethod
    def read(cls, document: dict[str, Any]) -> Self:
        """From the JSON object that ``dataclasses.asdict`` wrote."""
        return cls(**{**document, "sigma": tuple(document["sigma"])})

    def weights(self, *, is_reference: bool) -> tuple[float, float]:
        """Weights of the own and the reference's pressure in the drift; their squares add up to 1."""
        return (1.0, 0.0) if is_reference else (math.sqrt(1.0 - self.lead**2), self.lead)


@dataclass(frozen=True, kw_only=True, slots=True)
class Paths:
    """Latent paths of the whole range: ``pressure_AT`` and ``log_mid_AT`` (A, T) float64, ``regime_T`` uint8."""

    symbols: tuple[str, ...]
    pressure_AT: Float64
    log_mid_AT: Float64
    regime_T: npt.NDArray[np.uint8]


def simulate(
    dynamics: Dynamics, *, seed: int, symbols: Sequence[str], reference: str, mids: Sequence[float], steps: int
) -> Paths:
    """Latent paths of ``steps`` steps from a stationary start, mids from ``mids``.

    Cost: about 50 ms per asset and million steps. A longer run begins with the same numbers.
    """
    regime_T = _regime(dynamics, stream(seed, "", REGIME), steps)
    sigma_T = np.asarray(dynamics.sigma)[regime_T]
    common_T = stream(seed, "", COMMON).standard_normal(steps)
    pressure_AT = np.stack([_pressure(dynamics.phi, stream(seed, s, PRESSURE), steps) for s in symbols])
    log_mid_AT = np.empty_like(pressure_AT)
    lead_T = pressure_AT[list(symbols).index(reference)]
    shared, single = math.sqrt(dynamics.correlation), math.sqrt(1.0 - dynamics.correlation)
    for a, symbol in enumerate(symbols):
        own, lead = dynamics.weights(is_reference=symbol == reference)
        noise_T = shared * common_T + single * stream(seed, symbol, NOISE).standard_normal(steps)
        change_T = dynamics.drift * (own * pressure_AT[a] + lead * lead_T) + sigma_T * noise_T
        log_mid_AT[a, 0] = 0.0
        np.cumsum(change_T[:-1], out=log_mid_AT[a, 1:])
        log_mid_AT[a] += math.log(mids[a])
    return Paths(symbols=tuple(symbols), pressure_AT=pressure_AT, log_mid_AT=log_mid_AT, regime_T=regime_T)


def _pressure(phi: float, rng: np.random.Generator, steps: int) -> Float64:
    """Stationary AR(1) with unit variance, by doubling: after pass s each value sums its last 2^s innovations.

    Element-wise passes only, so that the value of a step does not depend on how many steps follow it.
    """
    path_T = rng.standard_normal(steps)
    path_T[1:] *= math.sqrt(1.0 - phi * phi)
    shift, factor = 1, phi
    while shift < steps and factor > 0.0:
        path_T[shift:] += factor * path_T[:-shift]  # the right side is a new array: no aliasing
        shift, factor = 2 * shift, factor * factor
    return path_T


def _regime(dynamics: Dynamics, rng: np.random.Generator, steps: int) -> npt.NDArray[np.uint8]:
    """The Markov chain without a loop: one uniform per step either sets the state or keeps the last one.

    u < rise sets volatile and u >= 1 - fall sets calm whatever came before (rise + fall < 1), else it stays.
    """
    u_T = rng.random(steps)
    is_set_T = (u_T < dynamics.rise) | (u_T >= 1.0 - dynamics.fall)
    state_T = (u_T < dynamics.rise).astype(np.uint8)
    is_set_T[0] = True
    state_T[0] = u_T[0] < dynamics.rise / (dynamics.rise + dynamics.fall)
    last_T = np.maximum.accumulate(np.where(is_set_T, np.arange(steps), 0))
    return np.asarray(state_T[last_T])
