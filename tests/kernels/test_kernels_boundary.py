"""What the kernels let in, what they refuse and in which words, on every backend alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from kernel_cases import HIGHEST, LOWEST, frozen, misaligned

from bml import kernels
from bml.kernels._table import KERNELS, Call

TABLE = {kernel.name: kernel for kernel in KERNELS}
EXAMPLES = [(k.name, e) for k in KERNELS for e in k.examples]
TS = np.array([1, 1, 2], np.int64)
LEVEL = np.array([1, 2, 1], np.int32)
FOUR = tuple(np.array([1.0, 2.0, 3.0]) + k for k in range(4))
BOOK = np.arange(24.0).reshape(2, 3, 4)
GRID = np.array([0, 5], np.int64)


def example(name: str, which: str) -> Call:
    return TABLE[name].examples[which](np.random.default_rng(3), 9, 5)


def everywhere(change: Callable[[np.ndarray], Any], value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return change(value)
    if isinstance(value, tuple):
        return tuple(everywhere(change, v) for v in value)
    return {k: everywhere(change, v) for k, v in value.items()} if isinstance(value, dict) else value


def strided(x: np.ndarray) -> np.ndarray:
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


@pytest.mark.parametrize("change", [strided, misaligned, frozen, np.asfortranarray, lambda x: x[::-1].copy()[::-1]])
@pytest.mark.parametrize(("name", "which"), EXAMPLES)
def test_any_layout_is_taken_and_no_input_is_written(
    backend: str, name: str, which: str, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    call = example(name, which)
    wanted = TABLE[name].run(call)
    other = Call(everywhere(change, call.args), everywhere(change, call.kwargs))
    got = TABLE[name].run(other)
    for a, b in zip(*(r if isinstance(r, tuple) else (r,) for r in (got, wanted)), strict=True):
        np.testing.assert_array_equal(a, b)
    fresh = example(name, which)
    for a, b in zip(_flat(other), _flat(fresh), strict=True):
        np.testing.assert_array_equal(a, b)
    assert all(x.flags.writeable for x in _flat(call))


def _flat(call: Call) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    everywhere(lambda x: found.append(x), (call.args, call.kwargs))
    return found


CHANGES: list[Callable[[np.ndarray], Any]] = [
    lambda x: x.astype(x.dtype.newbyteorder()) if x.dtype.itemsize > 1 else x.astype(bool),
    lambda x: np.zeros(x.shape, np.float16 if x.dtype != np.float16 else np.float64),
    lambda x: x.tolist(),
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("name", "which"), EXAMPLES)
def test_every_array_must_have_its_dtype_and_byte_order(
    backend: str, name: str, which: str, change: Callable[[np.ndarray], Any]
) -> None:
    call = example(name, which)
    for position in range(len(_flat(call))):
        countdown = iter(range(position, -99, -1))
        bad = everywhere(lambda x, left=countdown: x if next(left) else change(x), (call.args, call.kwargs))
        with pytest.raises(TypeError, match=f"^{name}: "):
            TABLE[name].run(Call(*bad))


def test_masked_arrays_are_refused(backend: str) -> None:
    with pytest.raises(TypeError, match=r"^daily_moments: x_TV is a masked array: fill it with NaN first$"):
        kernels.daily_moments(np.ma.masked_invalid(np.ones((2, 2))))


def tall(ts: Any = TS, level: Any = LEVEL, columns: Any = FOUR, **kwargs: Any) -> Any:
    return kernels.tall_to_wide(ts, level, columns, **({"levels": 2} | kwargs))


def resample(ts: Any = TS[1:], values: Any = BOOK, grid: Any = GRID, **kwargs: Any) -> Any:
    return kernels.resample_grid(ts, values, grid, **({"max_age_ns": 5} | kwargs))


def i64(*x: int) -> np.ndarray:
    return np.array(x, np.int64)


def i32(*x: int) -> np.ndarray:
    return np.array(x, np.int32)


def i8(*x: int) -> np.ndarray:
    return np.array(x, np.int8)


DAYS = (BOOK.astype(np.float32), BOOK[:1].astype(np.float32))
SETS = {"shift_GX": np.zeros((1, 3, 4), np.float32), "scale_GX": np.ones((1, 3, 4), np.float32)}


PLACES, STARTS = np.array([[0, 1]]), np.array([1])


def windows(days: Any = DAYS, day: Any = PLACES, start: Any = STARTS, **kwargs: Any) -> Any:
    return kernels.gather_windows(days, day, start, **({"rows": 2} | kwargs))


SIDED = {"columns": FOUR[:2], "side_N": i8(0, 1, 0)}
AGAIN = {"ts": i64(7, 3, 7), "level": i32(1, 1, 1)}
REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: tall(level=i32(1, 0, 1)), ValueError, "tall_to_wide: level 0 at row 1: levels count from 1"),
    (lambda: tall(level=i32(1, 1, -(2**31)), ts=i64(3, 2, 1)), ValueError,
     "tall_to_wide: level -2147483648 at row 2: levels count from 1"),
    (lambda: tall(columns=FOUR[:2], side_N=i8(0, 1, -1)), ValueError,
     "tall_to_wide: side -1 at row 2: a side is 0 (bid) or 1 (ask)"),
    (lambda: tall(**AGAIN), ValueError,
     "tall_to_wide: row 2 repeats (ts 7, level 1) with other values: pass duplicates='first' or 'last', or a batch_N"),
    (lambda: tall(**AGAIN, columns=FOUR[:2], side_N=i8(1, 1, 1), batch_N=i64(4, 5, 4)), ValueError,
     "tall_to_wide: row 2 repeats (ts 7, level 1, side 1) with other values: "
     "pass duplicates='first' or 'last', or a batch_N"),
    (lambda: tall(ts=TS[:2]), ValueError, "tall_to_wide: level_N has length 3, but ts_ns_N has length 2"),
    (lambda: tall(batch_N=i64()), ValueError, "tall_to_wide: batch_N has length 0, but ts_ns_N has length 3"),
    (lambda: tall(columns=FOUR[:2]), ValueError,
     "tall_to_wide: columns must be 4 (bid_px, bid_qty, ask_px, ask_qty) without side_N, not 2"),
    (lambda: tall(side_N=i8(0, 0, 0)), ValueError, "tall_to_wide: columns must be 2 (px, qty) with side_N, not 4"),
    (lambda: tall(columns=np.ones((4, 3))), TypeError,
     "tall_to_wide: columns must be a tuple of arrays, not ndarray"),
    (lambda: tall(columns=(*FOUR[:3], FOUR[3].astype(np.float32))), TypeError,
     "tall_to_wide: columns must be all float64 or all float32"),
    (lambda: tall(columns=(*FOUR[:3], FOUR[3][:2])), ValueError,
     "tall_to_wide: columns[3] has length 2, but ts_ns_N has length 3"),
    (lambda: tall(ts=TS[:, None]), ValueError, "tall_to_wide: ts_ns_N must be 1-D, not 2-D"),
    (lambda: tall(level=LEVEL.astype(np.int64)), TypeError, "tall_to_wide: level_N must be int32, not int64"),
    (lambda: tall(ts=TS.astype(">i8")), TypeError,
     "tall_to_wide: ts_ns_N must be int64, not int64 in another byte order (>i8)"),
    (lambda: tall(ts=TS.view("M8[ns]")), TypeError, "tall_to_wide: ts_ns_N must be int64, not datetime64[ns]"),
    (lambda: tall(levels=0), ValueError, "tall_to_wide: levels must be at least 1 and below 2**63, not 0"),
    (lambda: tall(levels=2.0), TypeError, "tall_to_wide: levels must be an integer, not float"),
    (lambda: tall(duplicates="any"), ValueError,
     "tall_to_wide: duplicates must be 'error' or 'first' or 'last', not 'any'"),
    (lambda: tall(dtype=np.int32), TypeError, "tall_to_wide: dtype must be float64 or float32, not int32"),
    (lambda: tall(out=np.empty((1, 2, 4))), ValueError, "tall_to_wide: out must have shape (2, 2, 4), not (1, 2, 4)"),
    (lambda: tall(out=np.empty((2, 2, 4), np.float32)), TypeError, "tall_to_wide: out must be float64, not float32"),
    (lambda: resample(ts=i64(2, 2)), ValueError,
     "resample_grid: ts_ns_T[1] = 2 is not after 2: times must increase strictly"),
    (lambda: resample(grid=i64(HIGHEST, LOWEST)), ValueError,
     f"resample_grid: grid_ns_G[1] = {LOWEST} is not after {HIGHEST}: the grid must increase strictly"),
    (lambda: resample(max_age_ns=-1), ValueError,
     "resample_grid: max_age_ns must be at least 0 and below 2**63, not -1"),
    (lambda: resample(max_age_ns=2**63), ValueError,
     f"resample_grid: max_age_ns must be at least 0 and below 2**63, not {2**63}"),
    (lambda: resample(max_age_ns=True), TypeError, "resample_grid: max_age_ns must be an integer, not bool"),
    (lambda: resample(method="backward_fill"), ValueError,
     "resample_grid: method must be 'forward_fill' or 'linear', not 'backward_fill'"),
    (lambda: resample(values=np.float64(1.0)), TypeError,
     "resample_grid: values_TX must be a numpy array, not float64"),
    (lambda: resample(values=np.ones((2, 1, 1, 1))), ValueError,
     "resample_grid: values_TX must be 1-D or 2-D or 3-D, not 4-D"),
    (lambda: resample(values=BOOK[:1]), ValueError, "resample_grid: values_TX has length 1, but ts_ns_T has length 2"),
    (lambda: kernels.depth_profile(BOOK[..., :3]), ValueError,
     "depth_profile: book_TLF must have shape (T, L, 4), not (2, 3, 3)"),
    (lambda: kernels.depth_profile(BOOK.astype(np.int64)), TypeError,
     "depth_profile: book_TLF must be float64 or float32, not int64"),
    (lambda: kernels.bin_depth(BOOK, i64(0, 2, 2)), ValueError,
     "bin_depth: edges must be at least two strictly increasing level indices, not [0, 2, 2]"),
    (lambda: kernels.bin_depth(BOOK, i64(0)), ValueError,
     "bin_depth: edges must be at least two strictly increasing level indices, not [0]"),
    (lambda: kernels.bin_depth(BOOK, i64(0, 4)), ValueError,
     "bin_depth: edges must lie in 0..3, the levels of the book, not 0..4"),
    (lambda: kernels.bin_depth(BOOK, i64(-1, 2)), ValueError,
     "bin_depth: edges must lie in 0..3, the levels of the book, not -1..2"),
    (lambda: kernels.bin_depth(BOOK, np.zeros((len(BOOK) + 1, 2), np.int64)), ValueError,
     f"bin_depth: edges must have shape ({len(BOOK)}, D + 1) with D at least 1, not ({len(BOOK) + 1}, 2)"),
    (lambda: kernels.bin_depth(BOOK, np.tile(i64(0, 2, 1), (len(BOOK), 1))), ValueError,
     "bin_depth: edges must not decrease along a row: row 0 is [0, 2, 1]"),
    (lambda: kernels.bin_depth(BOOK, np.tile(i64(0, 2, 4), (len(BOOK), 1))), ValueError,
     "bin_depth: edges must lie in 0..3, the levels of the book, not 0..4"),
    (lambda: kernels.occupied_edges(BOOK, 0, 0), ValueError,
     "occupied_edges: near_levels and deep_bins are both 0: no bin is left"),
    (lambda: kernels.occupied_edges(BOOK, -1, 2), ValueError,
     "occupied_edges: near_levels must be at least 0 and below 2**63, not -1"),
    (lambda: kernels.daily_moments(np.ones(3)), ValueError, "daily_moments: x_TV must be 2-D, not 1-D"),
    (lambda: windows(DAYS[0]), TypeError, "gather_windows: days must be a tuple of arrays, not ndarray"),
    (lambda: windows(()), ValueError, "gather_windows: days is empty: it takes one at least, for the shape of a row"),
    (lambda: windows((DAYS[0], DAYS[1].astype(np.float16))), TypeError,
     "gather_windows: days must be all float32 or all float16"),
    (lambda: windows((DAYS[0], DAYS[1][:, :2])), ValueError,
     "gather_windows: days[1] has rows (2, 4), but days[0] has (3, 4)"),
    (lambda: windows(day=np.array([[0, 2]])), ValueError,
     "gather_windows: day_WK must lie below 2, the number of days, not 2"),
    (lambda: windows(day=np.array([[0, -2]])), ValueError,
     "gather_windows: day_WK must be a place in days or -1, not -2"),
    (lambda: windows(start=np.array([2])), ValueError,
     "gather_windows: window 0 begins at row 2 of [2, 1] and has 2 rows: it must begin and end inside its days"),
    (lambda: windows(start=np.array([LOWEST])), ValueError,
     f"gather_windows: window 0 begins at row {LOWEST} of [2, 1] and has 2 rows: "
     "it must begin and end inside its days"),
    (lambda: windows(rows=4), ValueError,
     "gather_windows: window 0 begins at row 1 of [2, 1] and has 4 rows: it must begin and end inside its days"),
    (lambda: windows(start=np.array([1, 2])), ValueError,
     "gather_windows: start_W has length 2, but day_WK has length 1"),
    (lambda: windows(**SETS), ValueError, "gather_windows: shift_GX, scale_GX and standard_W come together"),
    (lambda: windows(**SETS, standard_W=i64(1)), ValueError,
     "gather_windows: standard_W must lie in 0..0, the sets of shift_GX"),
    (lambda: windows(**SETS | {"scale_GX": np.ones((1, 3, 2), np.float32)}, standard_W=i64(0)), ValueError,
     "gather_windows: scale_GX must have shape (1, 3, 4), not (1, 3, 2)"),
    (lambda: windows(**SETS, standard_W=i64(0), limit=0), ValueError, "gather_windows: limit must be above 0, not 0"),
    (lambda: windows(dtype=np.float16), TypeError,
     "gather_windows: dtype must be float32, or that of the days as they are, not float16"),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case[2][:60])
def test_refusals_read_the_same_everywhere(backend: str, case: tuple[Callable[[], Any], type[Exception], str]) -> None:
    call, kind, message = case
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message


OUTS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "tall_to_wide": (lambda out: tall(out=out).book_TLF, (2, 2, 4)),
    "resample_grid": (lambda out: resample(out=out).values_GX, (2, 3, 4)),
    "bin_depth": (lambda out: kernels.bin_depth(BOOK, i64(0, 1, 3), out=out).book_TDF, (2, 2, 4)),
}


@pytest.mark.parametrize("name", OUTS)
def test_out_is_used_and_must_fit(backend: str, name: str) -> None:
    call, shape = OUTS[name]
    out = np.full(shape, 77.0)
    wanted = call(None)
    assert np.shares_memory(call(out), out)
    np.testing.assert_array_equal(out, wanted)
    before = out.copy()
    refused: list[tuple[Any, type[Exception], str]] = [
        (frozen(out), ValueError, "out is read-only"),
        (out.astype(np.float32), TypeError, "out must be float64, not float32"),
        (out.astype(">f8"), TypeError, "out must be float64, not float64 in another byte order"),
        (out.tolist(), TypeError, "out must be a numpy array, not list"),
        (np.asfortranarray(out), ValueError, "out must be C-contiguous and aligned"),
        (strided(out), ValueError, "out must be C-contiguous and aligned"),
        (misaligned(out), ValueError, "out must be C-contiguous and aligned"),
        (out[:, :-1].copy(), ValueError, r"out must have shape \("),
        (out.reshape(-1), ValueError, r"out must have shape \("),
    ]
    for bad, kind, words in refused:
        with pytest.raises(kind, match=f"^{name}: {words}"):
            call(bad)
    np.testing.assert_array_equal(out, before)


def test_out_may_not_be_an_input(backend: str) -> None:
    book = BOOK.copy()
    with pytest.raises(ValueError, match=r"^bin_depth: out shares memory with an input$"):
        kernels.bin_depth(book, i64(0, 1, 2, 3), out=book)


def test_tall_to_wide_takes_a_larger_out(backend: str) -> None:
    out = np.full((5, 2, 4), 77.0)
    got = tall(out=out)
    assert got.book_TLF.shape == (2, 2, 4)
    assert np.shares_memory(got.book_TLF, out)
    assert (out[2:] == 77.0).all()


def test_empty_inputs(backend: str) -> None:
    none = np.empty(0)
    wide = kernels.tall_to_wide(i64(), i32(), (none,) * 4, levels=3)
    assert (wide.ts_ns_T.shape, wide.book_TLF.shape, wide.n_deep) == ((0,), (0, 3, 4), 0)
    grid = kernels.resample_grid(i64(), np.empty((0, 3, 4)), GRID, max_age_ns=5)
    assert np.isnan(grid.values_GX).all()
    assert (grid.source_G == -1).all()
    assert (grid.age_ns_G == -1).all()
    assert kernels.resample_grid(TS[1:], BOOK, i64(), max_age_ns=5).values_GX.shape == (0, 3, 4)
    assert kernels.resample_grid(TS[1:], np.empty((2, 0)), GRID, max_age_ns=5).values_GX.shape == (2, 0)
    np.testing.assert_array_equal(kernels.depth_profile(np.empty((0, 2, 4))), np.zeros((2, 2)))
    assert kernels.bin_depth(np.empty((0, 2, 4)), i64(0, 2)).book_TDF.shape == (0, 1, 4)
    assert kernels.bin_depth(np.empty((0, 2, 4)), np.empty((0, 3), np.int64)).book_TDF.shape == (0, 2, 4)
    assert kernels.occupied_edges(np.empty((0, 2, 4)), 2, 3).shape == (0, 6)
    np.testing.assert_array_equal(kernels.occupied_edges(np.empty((1, 0, 4)), 2, 3), np.zeros((1, 6)))
    assert kernels.daily_moments(np.empty((5, 0))).count_V.shape == (0,)
    assert windows(day=np.empty((0, 2), np.int64), start=i64()).shape == (0, 2, 3, 4)
    assert windows((np.empty((0, 0), np.float32),), np.empty((2, 0), np.int64), i64(0, 0)).shape == (2, 2, 0)
    assert windows(rows=0).shape == (1, 0, 3, 4)
    np.testing.assert_array_equal(kernels.daily_moments(np.empty((0, 2))).stats()[:4], np.full((4, 2), np.nan))


def test_one_row(backend: str) -> None:
    one = tuple(np.array([v]) for v in (np.nan, np.nan, 3.0, 0.0))
    wide = kernels.tall_to_wide(i64(LOWEST), i32(2), one, levels=2)
    np.testing.assert_array_equal(wide.ts_ns_T, [LOWEST])
    np.testing.assert_array_equal(wide.book_TLF, [[[np.nan] * 4, [np.nan, np.nan, 3.0, 0.0]]])


def test_a_time_of_deep_rows_only_stays(backend: str) -> None:
    wide = tall(level=i32(1, 2, 2**31 - 1))
    np.testing.assert_array_equal(wide.ts_ns_T, [1, 2])
    assert wide.n_deep == 1
    assert np.isnan(wide.book_TLF[1]).all()


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 0, 1]])
def test_the_larger_batch_wins_whatever_the_order(backend: str, order: list[int]) -> None:
    ts, level, batch = i64(5, 5, 5, 9), i32(1, 1, 1, 1), i64(1, 3, 1, 1)
    px = np.array([10.0, 30.0, 20.0, 1.0])  # rows 0 and 2 conflict, but row 1 replaces both
    wide = tall(ts[order], level[order], (px[order],) * 4, batch_N=batch[order])
    assert wide.book_TLF[0, 0, 0] == 30.0
    np.testing.assert_array_equal(wide.duplicate_T, [2, 0])
    assert (wide.n_duplicate, wide.n_conflict) == (0, 0)


@pytest.mark.parametrize(("rule", "kept"), [("first", 10.0), ("last", 30.0)])
@pytest.mark.parametrize("before", [4, 6])  # in time order, or not
def test_conflicts_by_rule(backend: str, rule: str, kept: float, before: int) -> None:
    ts, level = i64(before, 5, 5, 5), i32(1, 1, 1, 1)
    px = np.array([1.0, 10.0, kept, 30.0])
    wide = tall(ts, level, (px,) * 4, duplicates=rule)
    assert wide.book_TLF[list(wide.ts_ns_T).index(5), 0, 0] == kept
    assert (wide.n_duplicate, wide.n_conflict) == (1, 1)
    assert wide.duplicate_T.sum() == 2


def test_values_that_differ_only_below_float32_conflict(backend: str) -> None:
    px = np.array([1.0, 1.0 + 1e-12])
    with pytest.raises(ValueError, match=r"^tall_to_wide: row 1 repeats \(ts 5, level 1\)"):
        kernels.tall_to_wide(i64(5, 5), i32(1, 1), (px,) * 4, levels=1, dtype=np.float32)


def test_linear_and_its_edges(backend: str) -> None:
    ts, values = i64(0, 10, 40), np.array([0.0, 1.0, 4.0])
    got = resample(ts, values, i64(-1, 0, 5, 10, 25, 40, 41), max_age_ns=10, method="linear")
    np.testing.assert_array_equal(got.values_GX, [np.nan, 0.0, 0.5, 1.0, np.nan, 4.0, np.nan])
    np.testing.assert_array_equal(got.source_G, [-1, 0, 0, 1, -1, 2, -1])
    np.testing.assert_array_equal(got.age_ns_G, [-1, 0, 5, 0, -1, 0, -1])


def test_zero_quantity_is_data(backend: str) -> None:
    book = np.array([[[10.0, 0.0, 20.0, 0.0], [9.0, 0.0, np.nan, 3.0]]])
    got = kernels.bin_depth(book, i64(0, 2))
    np.testing.assert_array_equal(got.book_TDF, [[[9.5, 0.0, 20.0, 0.0]]])
    np.testing.assert_array_equal(got.coverage_TD2, [[[1.0, 0.5]]])
    np.testing.assert_array_equal(kernels.depth_profile(book), [[0, 0], [0, 1]])
