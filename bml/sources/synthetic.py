"""A seeded multi-asset market whose exact Bayes-optimal class probabilities are known.

What drives it: :mod:`bml.sources.market`. What its book shows: :mod:`bml.sources.market_book`. The law of its
returns: :mod:`bml.sources.market_law`. Planted defects: :mod:`bml.sources.market_faults`. A forecast made from
its books can be held against :mod:`bml.evaluation.oracle`.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from pydantic_core import to_jsonable_python

from bml.registry import reads_data, source
from bml.sources import market_book, market_rows
from bml.sources.market import JITTER, SHUFFLE, Dynamics, simulate, stream
from bml.sources.market_book import FEWEST_TICKS, BookSpec
from bml.sources.market_faults import HIDDEN, FaultPlan, Faults, PlantedFault, plan
from bml.sources.market_spec import (
    Bayes,
    Grid,
    Levels,
    MarketData,
    MarketParams,
    NotNegative,
    Positive,
    Seed,
    Share,
    SpreadBps,
)
from bml.types import ConfigError, DataError, DepthRows, Int64


@source
@reads_data("start", "reference")
def depth_rows(
    *,
    data: MarketData,
    seed: Seed,
    levels: Levels,
    pressure_s: Positive = 3600.0,
    drift_bps: NotNegative = 1.4,
    lead: Share = 0.6,
    sigma_bps: tuple[Positive, Positive] = (2.5, 6.0),
    regime_s: tuple[Positive, Positive] = (14_400.0, 7_200.0),
    correlation: Share = 0.5,
    spread_bps: SpreadBps = 1.0,
    size: Positive = 20.0,
    mids: dict[str, Positive] | None = None,
    faults: Faults | None = None,
    bayes: Bayes | None = None,
) -> SyntheticSource:
    """Open the market: simulate the latent paths of [data.start, data.stop); books are drawn as they are read.

    pressure_s   relaxation time of the pressure behind the drift
    drift_bps    standard deviation of the drift, bps a minute
    lead         weight of the reference's pressure in the others' drift; the own weight is sqrt(1 - lead^2)
    sigma_bps    noise (calm, volatile), bps a square root of a minute
    regime_s     mean stay (calm, volatile), seconds
    correlation  of the noise between any two assets
    spread_bps   mean calm spread
    size         mean quantity at the best level, base units
    mids         symbol -> starting mid; of a symbol not named here the one its name stands for (:func:`default_mid`)
    faults, bayes   see :class:`Faults` (default: none) and :class:`Bayes`

    Rows depend on ``data.start``, cadence, phase and reference, not on ``data.stop``, nor on
    which other symbols there are or in what order.
    Raises ConfigError, naming the parameter. Cost: about 0.1 s an asset and million steps.
    """
    params = MarketParams.of(
        seed=seed,
        levels=levels,
        pressure_s=pressure_s,
        drift_bps=drift_bps,
        lead=lead,
        sigma_bps=sigma_bps,
        regime_s=regime_s,
        correlation=correlation,
        spread_bps=spread_bps,
        size=size,
        mids={symbol: default_mid(symbol) for symbol in data.symbols} | (mids or {}),
    )
    return SyntheticSource(data, params, faults or Faults(), bayes or Bayes())


def default_mid(symbol: str) -> float:
    """The starting mid a name stands for: three digits from 1.00 to 99900, drawn from the name's hash."""
    magnitude, digits = divmod(int.from_bytes(hashlib.sha256(symbol.encode()).digest()[:8], "big") % 4500, 900)
    return float((100 + digits) * 10**magnitude) / 100.0


class SyntheticSource:
    """The open market: a :class:`bml.sources.base.Source` that also knows its truth.

    Reading is a pure function of (parameters, symbol, range). Rows carry ``batch_N`` (2 step + 1; a stale
    copy has 2 step) and come in order of time and level, unless shuffled.
    """

    def __init__(self, data: MarketData, params: MarketParams, faults: Faults, bayes: Bayes) -> None:
        self._symbols, self._reference = tuple(data.symbols), data.reference
        self._params, self._faults, self._bayes = params, faults, bayes
        self._grid = grid = Grid.of(data)
        self._check()
        self._horizons = [grid.steps_of(horizon_s) for horizon_s in bayes.horizon_s]
        self.dynamics = Dynamics.of(
            cadence_s=grid.cadence_s,
            pressure_s=params.pressure_s,
            drift_bps=params.drift_bps,
            lead=params.lead,
            sigma_bps=params.sigma_bps,
            regime_s=params.regime_s,
            correlation=params.correlation,
        )
        self.paths = simulate(
            self.dynamics,
            seed=params.seed,
            symbols=self._symbols,
            reference=self._reference,
            mids=[params.mids[symbol] for symbol in self._symbols],
            steps=grid.steps,
        )
        self._books = {symbol: self._book(symbol, params.mids[symbol]) for symbol in self._symbols}
        self._check_mids()
        self.grid_ns_T = grid.points()
        self._ts_ns = {symbol: self._dated(symbol) for symbol in self._symbols}
        self._plans = {symbol: self._plan(symbol) for symbol in self._symbols}

    def read(self, symbol: str, start_ns: int, stop_ns: int) -> DepthRows:
        """Paired rows with ``start_ns <= ts < stop_ns``; none outside the market's range.

        Raises DataError when the market has no such symbol. Cost: about 0.2 us a row.
        """
        self._known(symbol)
        is_shuffled = self._faults.shuffled
        query = f"synthetic market, seed {self._params.seed}, {symbol}, steps of {self._grid.cadence_s:g} s"
        rows = market_rows.empty_rows(symbol, start_ns, stop_ns, ordered=not is_shuffled, query=query)
        ts_ns_T, planned = self._ts_ns[symbol], self._plans[symbol]
        first, stop = np.searchsorted(ts_ns_T, [start_ns, stop_ns]).tolist()
        step_K = np.arange(first, stop)
        step_K = step_K[~np.isin(planned.code_T[first:stop], HIDDEN)]
        if not len(step_K):
            return rows
        a, spec = self._symbols.index(symbol), self._books[symbol]
        books = market_book.draw(
            spec,
            planned.source_T[step_K],
            pressure_T=self.paths.pressure_AT[a],
            log_mid_T=self.paths.log_mid_AT[a],
            is_volatile_T=self.paths.regime_T,
        )
        rows = market_rows.fill(
            rows, spec, books, planned, step_K=step_K, ts_ns_T=ts_ns_T, outlier_bps=self._faults.outlier_bps
        )
        if is_shuffled:  # the order depends on the range, so the first row shown is part of the seed
            return market_rows.shuffle(rows, stream(self._params.seed, symbol, SHUFFLE, int(step_K[0])))
        return rows

    def ledger(self, symbol: str) -> tuple[PlantedFault, ...]:
        """The faults planted into one symbol, in order of time. Raises DataError on an unknown symbol."""
        self._known(symbol)
        return self._plans[symbol].ledger(self._ts_ns[symbol])

    def write_truth(self, folder: Path) -> Path:
        """Write ``folder``/truth.h5 (see :mod:`bml.sources.market_truth`), atomically; returns the file.

        Equal parameters give equal bytes. Cost: about 1 s for 3 symbols and 100 000 steps.
        """
        from bml.sources import market_truth

        return market_truth.write(
            folder,
            parameters=self._document(),
            dynamics=self.dynamics,
            paths=self.paths,
            reference=self._reference,
            grid_ns_T=self.grid_ns_T,
            horizons=self._horizons,
            edges_E=np.asarray(self._bayes.edges),
            ledgers={symbol: self.ledger(symbol) for symbol in self._symbols},
        )

    def describe(self) -> dict[str, str | int | float]:
        """Seed, size and grid of the market."""
        return {
            "kind": "synthetic market",
            "seed": self._params.seed,
            "symbols": ", ".join(self._symbols),
            "levels": self._params.levels,
            "start": str(self._grid.start),
            "days": self._grid.days,
            "cadence_s": self._grid.cadence_s,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close."""

    def _book(self, symbol: str, mid: float) -> BookSpec:
        return BookSpec(
            seed=self._params.seed,
            symbol=symbol,
            levels=self._params.levels,
            spread_bps=self._params.spread_bps,
            size=self._params.size,
            decimals=market_book.decimals_of_tick(mid),
        )

    def _dated(self, symbol: str) -> Int64:
        """When each snapshot is dated: its grid point, or up to the jitter before it."""
        most_ns = self._faults.jitter_ms * 1e6
        if not most_ns:
            return self.grid_ns_T
        early_T = stream(self._params.seed, symbol, JITTER).random(self._grid.steps) * most_ns
        return self.grid_ns_T - early_T.astype(np.int64)

    def _plan(self, symbol: str) -> FaultPlan:
        return plan(
            self._faults,
            seed=self._params.seed,
            symbol=symbol,
            start=self._grid.start,
            days=self._grid.days,
            cadence_s=self._grid.cadence_s,
        )

    def _known(self, symbol: str) -> None:
        if symbol not in self._books:
            raise DataError(f"{symbol}: not in this market; there are {', '.join(self._symbols)}")

    def _check(self) -> None:
        """What no single parameter shows."""
        if len(set(self._symbols)) != len(self._symbols):
            raise ConfigError(f"data.symbols: {list(self._symbols)} names one twice")
        for symbol in self._params.mids:
            if symbol not in self._symbols:
                raise ConfigError(f"mids: {symbol!r} is none of the symbols {list(self._symbols)}")
        if self._faults.jitter_ms * 1e6 >= self._grid.cadence_ns:
            raise ConfigError(f"faults.jitter_ms: {self._faults.jitter_ms:g} must be below the cadence")
        for symbol in self._faults.absent:
            if symbol not in self._symbols:
                raise ConfigError(f"faults.absent: {symbol!r} is none of the symbols {list(self._symbols)}")

    def _check_mids(self) -> None:
        """A mid that fell far is worth few ticks, and its rounding would show."""
        for a, (symbol, book) in enumerate(self._books.items()):
            ticks = math.exp(float(self.paths.log_mid_AT[a].min())) * 10.0**book.decimals
            if ticks < FEWEST_TICKS:
                raise ConfigError(
                    f"{symbol}: the synthetic mid falls to {ticks:.3g} ticks, too few to be exact: "
                    "shorten the range, or lower drift_bps, sigma_bps or pressure_s, or take another seed"
                )

    def _document(self) -> dict[str, Any]:
        """Everything the truth depends on, as JSON values."""
        grid, band = self._grid, market_book.signal_levels(self._params.levels)
        document = {
            "symbols": self._symbols,
            "reference": self._reference,
            "grid": asdict(grid),
            "dynamics": asdict(self.dynamics),
            "market": asdict(self._params),
            "signal_levels": [band.start + 1, band.stop],
            "faults": asdict(self._faults),
            "bayes": asdict(self._bayes),
            "horizon_steps": self._horizons,
        }
        values: dict[str, Any] = to_jsonable_python(document)
        return values
