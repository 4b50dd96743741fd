"""Day files for bench/loader.py: books of random numbers, written once, and the dataset over them."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bml.book.mapping import resident_share
from bml.book.moments import daily
from bml.book.store import DayStore
from bml.config import load
from bml.dataset.dataset import Dataset
from bml.dataset.samples import book_windows
from bml.dataset.splits import SplitParams
from bml.types import NS_PER_DAY, NS_PER_S, AlignedDay, DayContext, QualityReport

START = dt.date(2024, 1, 1)
SPLIT: SplitParams = {"fractions": {"train": 0.4, "early_stop": 0.2, "calibrate": 0.2, "test": 0.2}}


def symbols(n: int) -> list[str]:
    """Names of assets."""
    return [f"S{a}" for a in range(n)]


def day_of(symbol: str, number: int, cadence_s: int, levels: int, dtype: npt.DTypeLike) -> AlignedDay:
    """A symbol-day without gaps."""
    rng = np.random.default_rng([number, *symbol.encode()])
    rows = 86_400 // cadence_s
    day = START + dt.timedelta(days=number)
    start_ns = (day - dt.date(1970, 1, 1)).days * NS_PER_DAY
    context = DayContext(
        symbol=symbol, day=day, start_ns=start_ns, stop_ns=start_ns + NS_PER_DAY, cadence_ns=cadence_s * NS_PER_S
    )
    book_TLF = rng.normal(0.0, 3.0, (rows, levels, 4))
    book_TLF[..., 1::2] = abs(book_TLF[..., 1::2])  # quantities
    aligned = AlignedDay(
        symbol=symbol, day=day, cadence_ns=context.cadence_ns, quality=QualityReport(symbol=symbol), units="bps_log1p",
        grid_ns_T=start_ns + np.arange(rows, dtype=np.int64) * context.cadence_ns,
        book_TLF=book_TLF.astype(dtype),
        mid_T=100.0 * np.exp(np.cumsum(rng.normal(0.0, 1e-3, rows))),
        age_ms_T=np.zeros(rows, np.int32), flag_T=np.zeros(rows, np.uint16),
        edges_L1=np.arange(levels + 1, dtype=np.int64), coverage_TL2=np.ones((rows, levels, 2), np.float32),
    )  # fmt: skip
    return daily(aligned, context)


def dataset(
    root: Path, *, n_symbols: int, n_days: int, cadence_s: int, levels: int, dtype: npt.DTypeLike, stride_s: float
) -> Dataset:
    """24 h windows over days that are written where they are not there yet."""
    names = symbols(n_symbols)
    text = (Path(__file__).with_name("loader.yaml")).read_text()
    stop = START + dt.timedelta(days=n_days)
    for name, value in (("SYMBOLS", names), ("STOP", stop), ("CADENCE", cadence_s), ("FOLDER", root)):
        text = text.replace(f" {name}", f" {value}")
    cfg = load("loader.yaml", stages=["collect", "data_object", "preprocess"], text=text)
    store = DayStore(root, "ab" * 32)
    for name in names:
        for number in range(n_days):
            if not store.path(name, START + dt.timedelta(days=number)).exists():
                store.write(day_of(name, number, cadence_s, levels, dtype), meta={})
    return book_windows(
        cfg, store, window_h=24.0, stride_s=stride_s, horizon_s=float(max(1800, cadence_s)), context_days=0,
        classes={"method": "fixed"}, split=SPLIT,
    )  # fmt: skip


def evict(paths: list[Path]) -> float:
    """Drops files from the page cache; the largest share of one that stayed. Nothing may have them mapped."""
    stayed = 0.0
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
        stayed = max(stayed, resident_share(np.memmap(path, np.uint8, "r")))
    return stayed
