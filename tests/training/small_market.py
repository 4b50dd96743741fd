"""Days of a market made by hand, small enough to train on in seconds: the order imbalance tells the next move.

Pressure p is an autoregressive series per symbol; the book's quantities show it, and the mid drifts by
``signal`` * p per row. With ``signal`` 0 nothing can be forecast but the volatility.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from bml.book.moments import daily
from bml.book.store import DayStore
from bml.dataset.dataset import Dataset
from bml.dataset.samples import book_windows
from bml.types import NS_PER_DAY, NS_PER_S, AlignedDay, DayContext, QualityReport

SYMBOLS = ("BTCUSDT", "ETHUSDT")
START = dt.date(2024, 1, 1)
CADENCE_S = 120
LEVELS = 3


def build(folder: Path, *, days: int = 8, signal: float = 2e-4, seed: int = 3, **windows: object) -> Dataset:
    """A dataset of two symbols: windows of 40 rows, horizon 5 rows, an anchor every 5 rows, two context days."""
    store = DayStore(folder, "ab" * 32)
    for symbol in SYMBOLS:
        for day in _days(symbol, days, signal, seed):
            store.write(day, meta={})
    data = SimpleNamespace(
        symbols=SYMBOLS, start=START, stop=START + dt.timedelta(days=days), reference=SYMBOLS[0],
        cadence_s=CADENCE_S, phase_ms=0,
    )  # fmt: skip
    chosen: dict[str, object] = {
        "window_h": 40 * CADENCE_S / 3600,
        "stride_s": 5 * CADENCE_S,
        "horizon_s": 5 * CADENCE_S,
        "context_days": 2,
        "classes": {"method": "volatility_scaled", "multiples": [-0.6, 0.0, 0.6], "sigma_half_life_h": 6.0},
        "targets": list(SYMBOLS),
        "split": {"fractions": {"train": 0.5, "early_stop": 0.15, "calibrate": 0.15, "test": 0.2}},
    }
    return book_windows(SimpleNamespace(data=data), store, **{**chosen, **windows})  # type: ignore[arg-type]


def _days(symbol: str, days: int, signal: float, seed: int) -> list[AlignedDay]:
    rng = np.random.default_rng([seed, SYMBOLS.index(symbol)])
    per_day = 86_400 // CADENCE_S
    rows = days * per_day
    pressure_T = np.zeros(rows)
    shock_T = rng.normal(size=rows) * np.sqrt(1 - 0.9**2)
    for t in range(1, rows):
        pressure_T[t] = 0.9 * pressure_T[t - 1] + shock_T[t]
    step_T = signal * np.roll(pressure_T, 1) + 2e-4 * rng.normal(size=rows)
    mid_T = 100.0 * np.exp(np.cumsum(step_T))
    book_TLF = np.empty((rows, LEVELS, 4), dtype=np.float32)
    book_TLF[:, :, 0] = -1.0 - np.arange(LEVELS)
    book_TLF[:, :, 2] = 1.0 + np.arange(LEVELS)
    noise_TLS = 0.1 * rng.normal(size=(rows, LEVELS, 2))
    book_TLF[:, :, 1] = 2.0 + 0.5 * pressure_T[:, None] + noise_TLS[:, :, 0]
    book_TLF[:, :, 3] = 2.0 - 0.5 * pressure_T[:, None] + noise_TLS[:, :, 1]
    first_ns = int(dt.datetime.combine(START, dt.time(), dt.UTC).timestamp()) * NS_PER_S
    return [
        _day(symbol, first_ns, number, book_TLF[number * per_day :][:per_day], mid_T[number * per_day :][:per_day])
        for number in range(days)
    ]


def _day(symbol: str, first_ns: int, number: int, book_TLF: np.ndarray, mid_T: np.ndarray) -> AlignedDay:
    day, start_ns = START + dt.timedelta(days=number), first_ns + number * NS_PER_DAY
    rows, cadence_ns = mid_T.shape[0], CADENCE_S * NS_PER_S
    made = AlignedDay(
        symbol=symbol, day=day, cadence_ns=cadence_ns, grid_ns_T=start_ns + np.arange(rows) * cadence_ns,
        book_TLF=book_TLF, mid_T=mid_T, age_ms_T=np.zeros(rows, np.int32), flag_T=np.zeros(rows, np.uint16),
        quality=QualityReport(symbol=symbol), units="bps_log1p", edges_L1=np.arange(LEVELS + 1),
        coverage_TL2=np.ones((rows, LEVELS, 2), np.float32),
    )  # fmt: skip
    context = DayContext(
        symbol=symbol, day=day, start_ns=start_ns, stop_ns=start_ns + NS_PER_DAY, cadence_ns=cadence_ns
    )
    return daily(made, context)
