"""Both ways from rows to a day, and days with every defect to compare them on."""

from __future__ import annotations

import dataclasses
import datetime as dt
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from bml import config, kernels
from bml.book.days import DayBuilder, Learned
from bml.book.fused import FusedSteps
from bml.book.store import DayStore
from bml.types import NS_PER_S, AlignedDay, BmlError, DepthBook, DepthRows, Float64
from tests.book.book_days import DAY, MIDNIGHT, rows_of, walk
from tests.end_to_end import tiny

LOOK_BACK_S = 1200


class Given:
    """A source that has the rows it was given."""

    def __init__(self, rows: DepthRows) -> None:
        self._rows = rows

    def read(self, symbol: str, first_ns: int, stop_ns: int) -> DepthRows:
        return replace(self._rows, symbol=symbol, start_ns=first_ns, stop_ns=stop_ns)

    def describe(self) -> dict[str, str | int | float]:
        return {"kind": "given"}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class GivenPlaced(Given):
    """The same, placing them as a source of books does."""

    reads_book = True

    def read_book(self, symbol: str, first_ns: int, stop_ns: int, *, levels: int, duplicates: Any) -> DepthBook:
        rows = self._rows
        wide = kernels.tall_to_wide(
            rows.ts_ns_N, rows.level_N, rows.columns, levels=levels, side_N=rows.side_N, batch_N=rows.batch_N,
            duplicates=duplicates,
        )  # fmt: skip
        slot_N = np.searchsorted(wide.ts_ns_T, rows.ts_ns_N)
        deep_N = rows.level_N > levels
        void_N = np.zeros(rows.n_rows, bool)
        if rows.side_N is not None:
            void_N = ~deep_N & np.isnan(rows.columns[0]) & np.isnan(rows.columns[1])
        n_rows_T, deep_T, void_T = (
            np.bincount(slot_N[some_N], minlength=len(wide.ts_ns_T)).astype(np.int32)
            for some_N in (slice(None), deep_N, void_N)
        )
        first = next(iter(np.flatnonzero(void_N).tolist()), None)
        return DepthBook(
            symbol=symbol, start_ns=first_ns, stop_ns=stop_ns, query=rows.query, ts_ns_T=wide.ts_ns_T,
            book_TLF=wide.book_TLF, n_rows_T=n_rows_T, duplicate_T=wide.duplicate_T, deep_T=deep_T, void_T=void_T,
            n_conflict=wide.n_conflict,
            first_void=None if first is None or rows.side_N is None else (
                int(rows.ts_ns_N[first]), int(rows.level_N[first]), int(rows.side_N[first])
            ),
        )  # fmt: skip


@dataclass
class Settings:
    """Parameters of the steps, as a configuration has them."""

    data_object: dict[str, Any] = field(default_factory=lambda: {"levels": 6})
    check: dict[str, Any] | None = field(default_factory=dict)
    to_grid: dict[str, Any] = field(default_factory=lambda: {"max_gap_s": LOOK_BACK_S})
    adaptive: dict[str, Any] = field(default_factory=lambda: {"edges": [0, 1, 2, 3, 6]})
    cadence_s: int = 600
    phase_ms: int = 0
    twice: bool = False  # the check is there twice, which only the way step by step can do

    def load(self, folder: Path) -> config.Config:
        tree: dict[str, Any] = tiny.document(folder, folder / "store")
        tree["data"] |= {"cadence_s": self.cadence_s, "phase_ms": self.phase_ms}
        tree["stages"]["data_object"]["with"] = self.data_object
        checks = [] if self.check is None else [{"fn": "book.quality.check", "with": self.check}]
        tree["stages"]["preprocess"] = [
            *checks * (2 if self.twice else 1),
            {"fn": "book.align.to_grid", "with": self.to_grid},
            {"fn": "book.depth.adaptive", "with": self.adaptive},
            {"fn": "book.moments.daily"},
        ]
        for name in ("features", "train", "evaluate"):
            del tree["stages"][name]
        return config.load(tiny.write_config(folder / "c.yaml", tree))


class Spied(FusedSteps):
    """Tells whether it made the day."""

    def __init__(self, fused: FusedSteps) -> None:
        self._inner, self.n_steps, self.made = fused, fused.n_steps, []  # type: ignore[misc]

    def run(self, rows: Any, ctx: Any) -> AlignedDay | None:
        day = self._inner.run(rows, ctx)  # type: ignore[attr-defined]
        self.made.append(day is not None)  # type: ignore[attr-defined]
        return day


def built(
    cfg: config.Config, source: Any, *, fused: bool, symbol: str = "BTCUSDT", day: dt.date = DAY,
    learned: Learned | None = None,
) -> AlignedDay | tuple[str, str]:  # fmt: skip
    """The day, or what was refused. A day of the fused way was made by the kernel, or this fails."""
    builder = DayBuilder(cfg, source, learned, step_by_step=not fused)
    spied = None
    if fused:
        assert builder._fused is not None
        spied = builder._fused = Spied(builder._fused)
    try:
        out = builder.build(symbol, day)
    except BmlError as error:
        return type(error).__name__, str(error)
    assert spied is None or spied.made == [True]  # type: ignore[attr-defined]
    return out


def parts(day: AlignedDay) -> dict[str, Any]:
    """Every field as something that compares exactly."""
    out: dict[str, Any] = {}
    for place, value in (("", day), ("moments.", day.moments)):
        for one in dataclasses.fields(value):  # type: ignore[arg-type]
            x = getattr(value, one.name)
            if one.name != "moments":
                out[place + one.name] = (x.dtype.str, x.shape, x.tobytes()) if isinstance(x, np.ndarray) else x
    return out


def file_bytes(day: AlignedDay, folder: Path) -> bytes:
    return DayStore(folder, "0" * 16).write(day, meta={"origin": {}}).read_bytes()


def same(cfg: config.Config, source: Any, folder: Path, **named: Any) -> AlignedDay | tuple[str, str]:
    """Build both ways and compare; the outcome of both."""
    one, two = (built(cfg, source, fused=fused, **named) for fused in (True, False))
    if isinstance(one, tuple) or isinstance(two, tuple):
        assert one == two
        return one
    want = parts(two)
    assert {name: value == want[name] for name, value in parts(one).items()} == dict.fromkeys(want, True)
    assert file_bytes(one, folder / "one") == file_bytes(two, folder / "two")
    return one


def messy_book(rng: np.random.Generator, n: int, levels: int) -> Float64:
    """A book with every defect of a book."""
    book = walk(n, levels=levels, seed=int(rng.integers(1 << 30)))

    def some(share: float) -> Any:
        return np.flatnonzero(rng.random(n) < share)

    book[some(0.05), 0, 0] += 1.0  # crossed
    locked = some(0.05)
    book[locked, 0, 0] = book[locked, 0, 2]
    for side in (slice(0, 2), slice(2, 4)):
        book[some(0.05), :, side] = np.nan  # a side is absent
        book[some(0.05), 0, side] = np.nan
        book[some(0.1), rng.integers(levels), side] = np.nan  # a hole
    for f in (0, 2):
        book[some(0.05), rng.integers(1, levels), f] *= 1.2 if f == 0 else 0.8  # disorder
    for t in some(0.2)[1:]:
        book[t] = book[t - 1]
    book[some(0.1), :, 1::2] *= 0.0  # quantities of zero are data
    return book


def messy_rows(
    seed: int, *, n: int, levels: int, sided: bool, shuffle: bool, broken: bool, batches: bool, copies: float,
    price_keyed: bool = False, dtype: type = np.float64,
) -> DepthRows:  # fmt: skip
    """Tall rows of a day with a look-back: irregular times, gaps, duplicates, equal or not, broken cells."""
    rng = np.random.default_rng(seed)
    n = min(n, 86_400)
    ts = np.sort(rng.choice(np.arange(-LOOK_BACK_S, 86_400), n, replace=False)) * NS_PER_S + MIDNIGHT
    ts = ts[~((ts > MIDNIGHT + 3e13) & (ts < MIDNIGHT + 4e13))]  # a gap of hours
    n = len(ts)
    book = messy_book(rng, n, levels)
    if broken and n:
        for value in (np.nan, -1.0, np.inf, 0.0):
            at = rng.integers(0, n, 3), rng.integers(0, levels, 3), rng.integers(0, 4, 3)
            book[at] = value
    rows = rows_of(ts, book)
    if sided:
        rows = replace(
            rows,
            ts_ns_N=np.tile(rows.ts_ns_N, 2),
            level_N=np.tile(rows.level_N, 2),
            columns=tuple(np.concatenate([rows.columns[f], rows.columns[f + 2]]) for f in range(2)),
            side_N=np.repeat(np.array([0, 1], np.int8), rows.n_rows),
        )
        there = ~np.isnan(rows.columns[0]) | ~np.isnan(rows.columns[1]) | (broken & (rng.random(rows.n_rows) < 0.01))
        rows = taken(rows, np.flatnonzero(there))
    again = np.flatnonzero(rng.random(rows.n_rows) < copies)
    order = np.concatenate([np.arange(rows.n_rows), again])
    other = np.concatenate([np.zeros(rows.n_rows, bool), rng.random(len(again)) < 0.5])
    rows = taken(rows, order)
    rows.columns[1][other] *= 2.0  # a copy that differs
    keep = rng.random(rows.n_rows) > 0.02
    at = np.flatnonzero(keep)
    at = rng.permutation(at) if shuffle else at[np.argsort(rows.ts_ns_N[at], kind="stable")]
    rows = taken(rows, at)
    return replace(
        rows,
        columns=tuple(x.astype(dtype) for x in rows.columns),
        batch_N=rng.integers(0, 2, rows.n_rows) if batches else None,
        sequence_N=rng.integers(-1, 30, n)[np.searchsorted(ts, rows.ts_ns_N)] if seed % 2 else None,
        ordered=bool(seed % 3 == 0),
        price_keyed=price_keyed and sided,  # it is always sided
        superseded_ns_N=ts[: n // 2] if seed % 5 == 0 else None,
        query=f"day {seed}",
    )


def taken(rows: DepthRows, some: Any) -> DepthRows:
    return replace(
        rows,
        ts_ns_N=rows.ts_ns_N[some],
        level_N=rows.level_N[some],
        columns=tuple(x[some] for x in rows.columns),
        side_N=None if rows.side_N is None else rows.side_N[some],
    )
