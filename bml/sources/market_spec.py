"""What the synthetic market takes: its parameters with their limits, its grid, the truth to write."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Protocol, Self

import numpy as np
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass as validated

from bml.sources.market_book import MAX_LEVELS, MIN_LEVELS
from bml.types import NS_PER_DAY, NS_PER_S, ConfigError, Int64

Seed = Annotated[int, Field(ge=0)]
Levels = Annotated[int, Field(ge=MIN_LEVELS, le=MAX_LEVELS)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
SpreadBps = Annotated[float, Field(ge=0.1, le=100)]


class MarketData(Protocol):
    """What of the configuration's data section the market needs; its ``phase_ms`` is used if there is one."""

    @property
    def symbols(self) -> tuple[str, ...]: ...
    @property
    def start(self) -> dt.date: ...
    @property
    def stop(self) -> dt.date: ...
    @property
    def reference(self) -> str: ...
    @property
    def cadence_s(self) -> float: ...


@validated(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Bayes:
    """Class probabilities to write with the truth: horizons in seconds (whole cadences), inner edges in log return."""

    horizon_s: tuple[Positive, ...] = (1800.0,)
    edges: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = (-0.01, -0.005, -0.002, 0.0, 0.002, 0.005, 0.01)

    def __post_init__(self) -> None:
        if any(a >= b for a, b in pairwise(self.edges)):
            raise ValueError(f"edges must rise, not {self.edges}")


@validated(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class MarketParams:
    """The market's own parameters; see :func:`bml.sources.synthetic.depth_rows`."""

    seed: Seed
    levels: Levels
    pressure_s: Positive
    drift_bps: NotNegative
    lead: Share
    sigma_bps: tuple[Positive, Positive]
    regime_s: tuple[Positive, Positive]
    correlation: Share
    spread_bps: SpreadBps
    size: Positive
    mids: dict[str, Positive]

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Checked parameters; a ConfigError of one line names every one that is out of its limits."""
        try:
            return cls(**values)
        except ValidationError as error:
            faults = (f"{'.'.join(map(str, e['loc']))}: {e['msg'].lower()}, got {e['input']!r}" for e in error.errors())
            raise ConfigError("; ".join(faults)) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """Step k of ``steps`` lies at ``first_ns + k * cadence_ns``; ``days`` whole days from ``start``."""

    start: dt.date
    days: int
    first_ns: int
    cadence_ns: int
    steps: int

    @classmethod
    def of(cls, data: MarketData) -> Self:
        """The grid of the data section. Raises ConfigError."""
        cadence_ns = round(data.cadence_s * NS_PER_S)
        if cadence_ns <= 0 or NS_PER_DAY % cadence_ns:
            raise ConfigError(f"data.cadence_s: {data.cadence_s:g} does not divide a day of 86400 s")
        days = (data.stop - data.start).days
        if days <= 0:
            raise ConfigError(f"data.stop: {data.stop} must lie after data.start {data.start}")
        phase_ns = round(float(getattr(data, "phase_ms", 0)) * 1e6)
        if not 0 <= phase_ns < cadence_ns:
            raise ConfigError(f"data.phase_ms: {phase_ns / 1e6:g} must lie in [0, cadence)")
        if data.reference not in data.symbols:
            raise ConfigError(f"data.reference: {data.reference!r} is none of the symbols {list(data.symbols)}")
        return cls(
            start=data.start,
            days=days,
            first_ns=(data.start - dt.date(1970, 1, 1)).days * NS_PER_DAY + phase_ns,
            cadence_ns=cadence_ns,
            steps=days * (NS_PER_DAY // cadence_ns),
        )

    @property
    def cadence_s(self) -> float:
        return self.cadence_ns / NS_PER_S

    def points(self) -> Int64:
        """The grid points (T,) in nanoseconds."""
        return self.first_ns + np.arange(self.steps, dtype=np.int64) * self.cadence_ns

    def steps_of(self, horizon_s: float) -> int:
        """A duration in steps. Raises ConfigError unless it is a whole number of cadences."""
        horizon_ns = round(horizon_s * NS_PER_S)
        if horizon_ns % self.cadence_ns or horizon_ns <= 0:
            raise ConfigError(f"bayes.horizon_s: {horizon_s:g} is no multiple of the cadence {self.cadence_s:g} s")
        return horizon_ns // self.cadence_ns
