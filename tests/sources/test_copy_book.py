"""Rows placed as they arrive beside rows decoded and then placed by the kernel: the same book, counts and refusals."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bml import kernels
from bml.sources._copy_rows import CopyBook, CopyRows
from bml.types import BmlError, DataError, SourceError

HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">II", 0, 0)
END = b"\xff\xff"
EPOCH_NS = 946_684_800 * 10**9
PAIRED = [("ts", "time", "timestamp"), ("level", "level", "int4")] + [
    (name, "number", "float8") for name in ("bid_px", "bid_qty", "ask_px", "ask_qty")
]
SIDED = [("ts", "time", "timestamp"), ("level", "level", "int2"), ("side", "side", "bool")] + [
    (name, "number", "float8") for name in ("px", "qty")
]
BATCH = [("batch", "count", "int8")]


@dataclass
class Rows:
    """Rows in order of arrival."""

    sided: bool
    us: list[int]
    level: list[int]
    side: list[int]
    numbers: list[list[float]]
    batch: list[int] | None

    @property
    def fields(self) -> list[tuple[str, str, str]]:
        return (SIDED if self.sided else PAIRED) + (BATCH if self.batch is not None else [])

    def stream(self) -> bytes:
        out = bytearray(HEADER)
        for i, us in enumerate(self.us):
            out += struct.pack(">hiq", len(self.fields), 8, us)
            out += (
                struct.pack(">ihi?", 2, self.level[i], 1, self.side[i])
                if self.sided
                else struct.pack(">ii", 4, self.level[i])
            )
            for x in self.numbers[i]:
                out += struct.pack(">i", -1) if np.isnan(x) else struct.pack(">id", 8, x)
            if self.batch is not None:
                out += struct.pack(">iq", 8, self.batch[i])
        return bytes(out) + END

    def options(self) -> dict[str, Any]:
        return {"where": "table t, BTC", "bid": 0, "ask": 1} if self.sided else {"where": "table t, BTC"}

    def place(self, levels: int, duplicates: Any, step: int = 0) -> tuple[Any, ...]:
        decoder = CopyBook(self.fields, levels=levels, duplicates=duplicates, **self.options())
        stream = self.stream()
        for at in range(0, len(stream), step or len(stream)):
            decoder.feed(stream[at : at + (step or len(stream))])
        return decoder.finish(len(self.us))

    def decode(self) -> dict[str, npt.NDArray[Any]]:
        decoder = CopyRows(self.fields, **self.options())
        decoder.feed(self.stream())
        return decoder.finish(len(self.us))


@st.composite
def some_rows(draw: st.DrawFn) -> Rows:
    n = draw(st.integers(0, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    sided, few = draw(st.booleans()), draw(st.sampled_from([1, 2, 9]))
    numbers = rng.choice([1.0, 2.0, 2.5, -0.0, 0.0, np.nan, np.inf], (n, 2 if sided else 4), p=[0.6] + 6 * [0.4 / 6])
    return Rows(
        sided=sided,
        us=(rng.integers(-5, few, n) * 1_000_003).tolist(),
        level=rng.integers(1, draw(st.sampled_from([2, 5, 70])), n).tolist(),
        side=rng.integers(0, 2, n).tolist(),
        numbers=numbers.tolist(),
        batch=rng.integers(-1, 2, n).tolist() if draw(st.booleans()) else None,
    )


@given(some_rows(), st.sampled_from([1, 3, 64, 65]), st.sampled_from(["error", "first", "last"]), st.integers(0, 90))
@settings(deadline=None)
def test_as_the_kernel_places_them(rows: Rows, levels: int, duplicates: Any, step: int) -> None:
    found = rows.decode()
    columns = [x for name, x in found.items() if name not in ("ts", "level", "side", "batch")]
    try:
        wide = kernels.tall_to_wide(
            found["ts"],
            found["level"],
            columns,
            levels=levels,
            side_N=found.get("side"),
            batch_N=found.get("batch"),
            duplicates=duplicates,
        )
    except ValueError:
        with pytest.raises(DataError, match=r"table t, BTC \d{4}-.*: duplicate rows of level \d+.* that differ"):
            rows.place(levels, duplicates, step)
        return
    ts_T, book_TLF, count_T4, n_conflict, void = rows.place(levels, duplicates, step)
    np.testing.assert_array_equal(ts_T, wide.ts_ns_T)
    assert book_TLF.tobytes() == wide.book_TLF.tobytes()
    np.testing.assert_array_equal(count_T4[:, 1], wide.duplicate_T)
    assert n_conflict == wide.n_conflict
    for t, ts in enumerate(ts_T):
        mine = found["ts"] == ts
        deep = mine & (found["level"] > levels)
        assert count_T4[t, [0, 2]].tolist() == [mine.sum(), deep.sum()]
    if rows.sided:
        is_void = np.isnan(columns[0]) & np.isnan(columns[1]) & (found["level"] <= levels)
        assert count_T4[:, 3].sum() == is_void.sum()
        first = np.flatnonzero(is_void)[:1]
        assert void == next(((found["ts"][i], found["level"][i], found["side"][i]) for i in first), None)


def many(n_times: int, levels: int, order: npt.NDArray[np.int64]) -> bytes:
    """A stream of full snapshots, its rows in any order."""
    row = np.dtype(
        [("n", ">i2"), ("a", ">i4"), ("us", ">i8"), ("b", ">i4"), ("level", ">i4")]
        + [pair for k in range(4) for pair in ((f"n{k}", ">i4"), (f"x{k}", ">f8"))]
    )
    out = np.zeros(n_times * levels, row)
    out["n"], out["a"], out["b"] = 6, 8, 4
    out["us"], out["level"] = order // levels * 10_000_000, order % levels + 1
    for k in range(4):
        out[f"n{k}"], out[f"x{k}"] = 8, order * 4 + k
    return HEADER + out.tobytes() + END


@pytest.mark.parametrize("kind", ["time-major", "backwards", "level-major", "random"])
def test_whole_snapshots_in_any_order(kind: str) -> None:
    """Enough of them for the memory to grow and to be sorted."""
    n_times, levels = 700, 100
    at = np.arange(n_times * levels)
    order = {
        "time-major": at,
        "backwards": at[::-1],
        "level-major": at.reshape(n_times, levels).T.ravel(),
        "random": np.random.default_rng(1).permutation(at),
    }[kind]
    decoder = CopyBook(PAIRED, levels=levels)
    decoder.feed(many(n_times, levels, order))
    ts_T, book_TLF, count_T4, _, _ = decoder.finish()
    np.testing.assert_array_equal(ts_T, EPOCH_NS + np.arange(n_times) * 10**10)
    np.testing.assert_array_equal(book_TLF.ravel(), np.arange(n_times * levels * 4))
    assert count_T4.tolist() == [[levels, 0, 0, 0]] * n_times
    assert book_TLF.flags.writeable
    assert book_TLF.flags.c_contiguous


def test_the_book_outlives_its_decoder() -> None:
    decoder = CopyBook(PAIRED, levels=2)
    decoder.feed(many(3, 2, np.arange(6)))
    book_TLF = decoder.finish()[1]
    del decoder
    part = book_TLF[1:]
    del book_TLF
    assert part[0, 0, 0] == 8


def test_memory_is_the_book_and_not_of_python() -> None:
    stream = many(200, 100, np.arange(20_000))
    tracemalloc.start()
    try:
        decoder = CopyBook(PAIRED, levels=100)
        for at in range(0, len(stream), 1000):
            decoder.feed(stream[at : at + 1000])
        decoder.finish()
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_limits() -> None:
    stream = many(3, 2, np.arange(6))
    decoder = CopyBook(PAIRED, levels=2, max_rows=5)
    with pytest.raises(DataError, match="more than max_rows = 5 rows"):
        decoder.feed(stream)
    decoder = CopyBook(PAIRED, levels=2, max_bytes=3 * 2 * 32 - 1)
    with pytest.raises(DataError, match="3 snapshots of 2 levels are more than memory holds"):
        decoder.feed(stream)
    decoder = CopyBook(PAIRED, levels=2, max_bytes=3 * 2 * 32)
    decoder.feed(stream)
    assert decoder.finish()[1].shape == (3, 2, 4)
    decoder = CopyBook(PAIRED, levels=2)
    decoder.feed(stream[:-2])
    with pytest.raises(SourceError, match="broke off after 6 rows"):
        decoder.finish()


@pytest.mark.parametrize(
    "fields", [PAIRED[:5], SIDED[:4], [PAIRED[0], *PAIRED[2:]], [*PAIRED, *BATCH, *BATCH], [*PAIRED, SIDED[2]]]
)
def test_fields_that_are_no_book(fields: list[tuple[str, str, str]]) -> None:
    with pytest.raises(ValueError, match="a book needs"):
        CopyBook(fields, levels=3, bid=0, ask=1)
    with pytest.raises(ValueError, match="levels: 0 is not between"):
        CopyBook(PAIRED, levels=0)


@given(st.binary(max_size=60), st.integers(0, 500), st.integers(1, 99))
def test_mutations_never_crash(patch: bytes, at: int, step: int) -> None:
    stream = bytearray(many(2, 3, np.arange(6)))
    stream[at : at + len(patch)] = patch
    decoder = CopyBook(PAIRED, levels=3)
    with contextlib.suppress(BmlError):
        for i in range(0, len(stream), step):
            decoder.feed(bytes(stream[i : i + step]))
        decoder.finish()
