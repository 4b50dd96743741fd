"""Inputs for the property tests and the comparisons they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from bml.kernels import DayTensor, Moments
from bml.kernels._backend import use
from bml.kernels._table import Call, Kernel

LOWEST, HIGHEST = -(2**63), 2**63 - 1
VALUES = st.sampled_from([np.nan, 0.0, -0.0, 1.0, 2.0, -1.0, 0.1, 65_000.01, np.inf])
TIMES = st.one_of(st.integers(0, 4), st.sampled_from([LOWEST, LOWEST + 1, -1, HIGHEST - 1, HIGHEST]))
FLOAT_TYPES = st.sampled_from([np.float64, np.float32])


@st.composite
def tall_rows(draw: st.DrawFn, *, bad: bool = False) -> Call:
    """Any rows at all: few times and levels, so that duplicates, deep rows and disorder are common."""
    sided, batched = draw(st.booleans()), draw(st.booleans())
    level = st.integers(-1 if bad else 1, 5)
    side = st.integers(-1, 2) if bad else st.integers(0, 1)
    fields = 2 if sided else 4
    value = draw(st.sampled_from([VALUES, st.sampled_from([1.0, np.nan])]))
    row = st.tuples(TIMES, level, side, st.integers(0, 2), *[value] * fields)
    rows = draw(st.lists(row, max_size=24))
    if draw(st.booleans()):
        rows.sort(key=lambda r: r[0])
    ts, levels, sides, batches, *values = zip(*rows, strict=True) if rows else [()] * (4 + fields)
    # the numba backend compiles per dtype: three of the four pairs are enough of them
    dtype, kind = draw(st.sampled_from([(np.float64, np.float64), (np.float64, np.float32), (np.float32, np.float32)]))
    call = Call(
        (np.array(ts, np.int64), np.array(levels, np.int32), tuple(np.array(v, dtype) for v in values)),
        {
            "levels": draw(st.integers(1, 4)),
            "duplicates": draw(st.sampled_from(["error", "first", "last"])),
            "dtype": kind,
        },
    )
    if sided:
        call.kwargs["side_N"] = np.array(sides, np.int8)
    if batched:
        call.kwargs["batch_N"] = np.array(batches, np.int64)
    return call


@st.composite
def samples(draw: st.DrawFn, *, times: st.SearchStrategy[int], ages: st.SearchStrategy[int]) -> Call:
    """Samples and a grid, both strictly increasing."""
    ts = np.array(sorted(draw(st.sets(times, max_size=10))), np.int64)
    grid = np.array(sorted(draw(st.sets(times, max_size=10))), np.int64)
    shape = (len(ts), *draw(st.sampled_from([(), (1,), (3,), (2, 4), (0,)])))
    size = int(np.prod(shape))
    values = draw(st.lists(VALUES, min_size=size, max_size=size))
    return Call(
        (ts, np.array(values, draw(FLOAT_TYPES)).reshape(shape), grid),
        {"max_age_ns": draw(ages), "method": draw(st.sampled_from(["forward_fill", "linear"]))},
    )


@st.composite
def books(draw: st.DrawFn) -> Any:
    """(T, L, 4) with absent, half-absent and zero cells; no negative quantity."""
    times, levels = draw(st.integers(0, 3)), draw(st.integers(1, 6))
    size = times * levels * 4
    value = st.sampled_from([np.nan, 0.0, 0.25, 1.0, 3.0, 0.1, 65_000.01])
    flat = draw(st.lists(value, min_size=size, max_size=size))
    return np.array(flat, draw(FLOAT_TYPES)).reshape(times, levels, 4)


@st.composite
def books_with_edges(draw: st.DrawFn) -> Call:
    book = draw(books())
    edges = draw(st.sets(st.integers(0, book.shape[1]), min_size=2))
    return Call((book, np.array(sorted(edges), np.int64)))


@st.composite
def wide_books_with_edges(draw: st.DrawFn) -> Call:
    """Several eights of levels, one row of edges for each snapshot; bins of any width, none too."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    times, levels, bins = draw(st.integers(0, 3)), draw(st.integers(1, 40)), draw(st.integers(1, 6))
    px = np.round(1e5 + rng.normal(0.0, 10.0, (times, levels, 2)), 2)
    qty = rng.choice([0.0, 0.1, 1.0], (times, levels, 2), p=draw(st.sampled_from([[1, 0, 0], [0.2, 0.4, 0.4]])))
    book = np.stack([px, qty], axis=-1).reshape(times, levels, 4)
    book[rng.random(book.shape) < rng.choice([0.0, 0.1, 0.9])] = np.nan
    edges = np.sort(rng.integers(0, levels + 1, (times, bins + 1)), axis=1)
    return Call((book.astype(draw(FLOAT_TYPES)), edges))


@st.composite
def cut_books(draw: st.DrawFn) -> Call:
    """Books with nothing from some level on, and numbers of bins, none and too many among them."""
    book = draw(wide_books_with_edges()).args[0]
    for snapshot in book:
        snapshot[draw(st.integers(0, book.shape[1])) :] = draw(st.sampled_from([0.0, np.nan]))
    near, deep = draw(st.integers(0, 45)), draw(st.integers(0, 45))
    return Call((book, near, deep if near else max(deep, 1)))


@st.composite
def series(draw: st.DrawFn) -> Any:
    """(T, V) around blocks of 256 rows; columns of ticks at any height, constants, gaps, a first value far off."""
    times = draw(st.sampled_from([0, 1, 2, 5, 7, 8, 9, 255, 256, 257, 300, 520]))
    columns = draw(st.sampled_from([1, 2, 3, 9]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    height = rng.choice([0.0, 1.0, 1e5, -3e4], columns)
    tick = rng.choice([0.0, 1e-2, 1.0, 1e3], columns)
    x = height + tick * np.round(rng.standard_t(3, (times, columns)) * rng.choice([1, 10]))
    x[:1] += draw(st.sampled_from([0.0, 1e3, 1e9]))
    x[rng.random(x.shape) < rng.choice([0.0, 0.1, 0.9])] = np.nan
    x[: draw(st.sampled_from([0, 8, 260]))] = np.nan
    return x.astype(draw(FLOAT_TYPES))


@st.composite
def windows(draw: st.DrawFn) -> Call:
    """Windows over up to three days of any length, some of none, of every bit pattern of a 2-byte float."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    half = draw(st.booleans())
    shape = draw(st.sampled_from([(), (1,), (3,), (2, 4), (17,), (0,)]))
    days = []
    for length in draw(st.lists(st.sampled_from([0, 1, 2, 5, 63, 70]), min_size=1, max_size=4)):
        bits = rng.integers(0, 2**16 if half else 2**32, (length, *shape), np.uint16 if half else np.uint32)
        days.append(bits.view(np.float16 if half else np.float32))
    rows = draw(st.integers(0, 70))
    named, start = [], []
    for w in range(draw(st.integers(0, 3))):
        named.append(draw(st.lists(st.integers(0, len(days) - 1), max_size=3)))
        room = sum(len(days[d]) for d in named[w]) - rows
        if room < 0:
            named[w] = []
        start.append(draw(st.integers(0, min(room, len(days[named[w][0]])))) if named[w] else 0)
    day = np.array([d + [-1] * (3 - len(d)) for d in named], np.int64).reshape(len(named), 3)
    call = Call((tuple(days), day, np.array(start, np.int64)), {"rows": rows})
    if draw(st.booleans()):
        for name in ("shift_GX", "scale_GX"):
            call.kwargs[name] = rng.normal(0, 3, (2, *shape)).astype(np.float32) * draw(
                st.sampled_from([np.float32(1), np.float32(1e-38)])  # products too small to be normal
            )
        call.kwargs.update(standard_W=rng.integers(0, 2, len(named)), limit=draw(st.sampled_from([10.0, np.inf])))
    elif half and draw(st.booleans()):
        call.kwargs["dtype"] = np.float16
    return call


def outcome(kernel: Kernel, call: Call, backend: str) -> Any:
    """What a call comes to on a backend ("spec", "compiled v3"): its arrays and numbers, or the refusal."""
    with use(*backend.split()):
        try:
            result = kernel.run(call)
        except (TypeError, ValueError) as error:
            return f"{type(error).__name__}: {error}"
    return flat(result) if isinstance(result, DayTensor) else result if isinstance(result, tuple) else (result,)


def flat(result: DayTensor) -> tuple[Any, ...]:
    """Moments and None among the arrays of a result, for comparing."""
    out: list[Any] = []
    for value in result:
        out += list(value) if isinstance(value, Moments) else [np.zeros(0) if value is None else value]
    return tuple(out)


def assert_same(got: Any, wanted: Any, context: object = "", rtol: float = 0.0) -> None:
    """Equal outcomes: same refusal, or same dtypes, shapes and values (bits, but for NaN payload, when rtol is 0)."""
    if isinstance(got, str) or isinstance(wanted, str):
        assert got == wanted, context
        return
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape, context
        if rtol == 0.0:
            assert a.dtype == b.dtype, context
            np.testing.assert_array_equal(a, b, err_msg=str(context))
            np.testing.assert_array_equal(np.signbit(a) & ~np.isnan(a), np.signbit(b) & ~np.isnan(b))
        else:
            np.testing.assert_allclose(a, b, rtol=rtol, atol=0, err_msg=str(context))


def assert_backends_agree(kernel: Kernel, call: Call, backends: Sequence[str]) -> Any:
    """Every backend comes to the same outcome; returns it."""
    first, *others = backends
    wanted = outcome(kernel, call, first)
    for other in others:
        assert_same(outcome(kernel, call, other), wanted, f"{other} against {first}")
    return wanted


def misaligned(x: np.ndarray) -> np.ndarray:
    raw = np.zeros(x.nbytes + 1, np.uint8)
    moved = raw[1:].view(x.dtype).reshape(x.shape)
    moved[...] = x
    return moved


def frozen(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x
