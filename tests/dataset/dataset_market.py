"""A small market on the grid, written as real day files; defects are planted by the tests."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bml.book.moments import daily
from bml.book.store import DayStore
from bml.config import Call, Config, DataSpec, StoreSpec, TrackingSpec
from bml.dataset.dataset import Dataset
from bml.dataset.samples import book_windows
from bml.types import NS_PER_DAY, NS_PER_S, AlignedDay, DayContext, Flag, QualityReport

START = dt.date(2024, 1, 1)
SYMBOLS = ("AAA", "BBB", "CCC")
LEVELS = 4

#: parameters of book_windows that suit a market of a few days at a cadence of 60 s
SMALL: dict[str, Any] = {
    "window_h": 2.0,
    "stride_s": 600.0,
    "horizon_s": 1800.0,
    "context_days": 3,
    "split": {"fractions": {"train": 0.5, "early_stop": 0.15, "calibrate": 0.15, "test": 0.2}},
}


@dataclass
class Market:
    """Arrays of the whole span per symbol, free to be changed before ``write``."""

    n_days: int = 8
    cadence_s: int = 60
    symbols: tuple[str, ...] = SYMBOLS
    seed: int = 1
    phase_ms: int = 0
    dtype: type = np.float32
    levels: int = LEVELS
    n_features: int = 0
    mid: dict[str, np.ndarray] = field(default_factory=dict)
    book: dict[str, np.ndarray] = field(default_factory=dict)
    flag: dict[str, np.ndarray] = field(default_factory=dict)
    age_ms: dict[str, np.ndarray] = field(default_factory=dict)
    feature: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.per_day = 86_400 // self.cadence_s
        rows = self.n_days * self.per_day
        for number, symbol in enumerate(self.symbols):
            rng = np.random.default_rng([self.seed, number])
            self.mid[symbol] = 100.0 * np.exp(np.cumsum(rng.normal(0, 1e-3, rows)))
            steps = rng.exponential(1.0, (rows, self.levels, 2)).cumsum(axis=1)
            qty = np.log1p(rng.exponential(5.0 + number, (rows, self.levels, 2)))
            book = np.stack([-steps[..., 0], qty[..., 0], steps[..., 1], qty[..., 1]], axis=-1)
            self.book[symbol] = book.astype(self.dtype)
            self.flag[symbol] = np.zeros(rows, np.uint16)
            self.age_ms[symbol] = np.zeros(rows, np.int32)
            self.feature[symbol] = rng.normal(number, 2.0, (rows, self.n_features)).astype(np.float32)

    def gap(self, symbol: str, start: int, stop: int) -> None:
        """Rows [start, stop) have no book."""
        self.mid[symbol][start:stop] = np.nan
        self.book[symbol][start:stop] = np.nan
        self.feature[symbol][start:stop] = np.nan
        self.flag[symbol][start:stop] |= int(Flag.GAP)

    def fill(self, symbol: str, start: int, stop: int) -> None:
        """Rows [start, stop) carry the snapshot of the row before forward."""
        self._repeat(symbol, start, stop, Flag.FILLED)
        past = np.arange(1, stop - start + 1, dtype=np.int32) * (self.cadence_s * 1000)
        self.age_ms[symbol][start:stop] = self.age_ms[symbol][start - 1] + past

    def freeze(self, symbol: str, start: int, stop: int) -> None:
        """Rows [start, stop) are new snapshots that repeat the book of the row before."""
        self._repeat(symbol, start, stop, Flag.STUCK)

    def _repeat(self, symbol: str, start: int, stop: int, flag: Flag) -> None:
        self.mid[symbol][start:stop] = self.mid[symbol][start - 1]
        self.book[symbol][start:stop] = self.book[symbol][start - 1]
        self.flag[symbol][start:stop] |= int(flag)

    def day(self, symbol: str, number: int) -> AlignedDay:
        day = START + dt.timedelta(days=number)
        midnight = (day - dt.date(1970, 1, 1)).days * NS_PER_DAY
        rows = slice(number * self.per_day, (number + 1) * self.per_day)
        mid = self.mid[symbol][rows]
        start_ns = midnight + self.phase_ms * 1_000_000
        aligned = AlignedDay(
            symbol=symbol,
            day=day,
            cadence_ns=self.cadence_s * NS_PER_S,
            grid_ns_T=start_ns + np.arange(self.per_day, dtype=np.int64) * self.cadence_s * NS_PER_S,
            book_TLF=self.book[symbol][rows],
            mid_T=mid,
            age_ms_T=np.where(np.isfinite(mid), self.age_ms[symbol][rows], -1).astype(np.int32),
            flag_T=self.flag[symbol][rows],
            quality=QualityReport(symbol=symbol),
            units="bps_log1p",
            edges_L1=np.arange(self.levels + 1, dtype=np.int64),
            coverage_TL2=np.ones((self.per_day, self.levels, 2), np.float32),
            feature_TK=self.feature[symbol][rows] if self.n_features else None,
            feature_names=tuple(f"feature_{k}" for k in range(self.n_features)),
        )
        context = DayContext(
            symbol=symbol, day=day, start_ns=start_ns, stop_ns=midnight + NS_PER_DAY, cadence_ns=aligned.cadence_ns
        )
        return daily(aligned, context)

    def write(
        self, root: Path, *, digest: str = "ab" * 32, skip: Callable[[str, int], bool] = lambda symbol, number: False
    ) -> DayStore:
        store = DayStore(root, digest)
        for symbol in self.symbols:
            for number in range(self.n_days):
                if not skip(symbol, number):
                    store.write(self.day(symbol, number), meta={})
        return store

    def config(self) -> Config:
        call = Call(fn="none.none", path="", kind="stage")
        return Config(
            name="test",
            data=DataSpec(
                symbols=self.symbols,
                start=START,
                stop=START + dt.timedelta(days=self.n_days),
                reference=self.symbols[0],
                cadence_s=float(self.cadence_s),
                phase_ms=self.phase_ms,
            ),
            store=StoreSpec(root=Path("unused")),
            tracking=TrackingSpec(enabled=False),
            collect=call,
            data_object=call,
            preprocess=(call,),
            features=call,
            train=call,
            evaluate=call,
            path=Path("unused.yaml"),
            document={},
        )

    def dataset(self, root: Path, **params: Any) -> Dataset:
        """Write the market and index it with ``SMALL``, changed by ``params``."""
        return book_windows(self.config(), self.write(root), **(SMALL | params))
