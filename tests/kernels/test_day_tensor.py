"""day_tensor equals the kernels it stands for, bit for bit, and knows nothing of the future."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import assert_same, flat, outcome, tall_rows

from bml import kernels
from bml.kernels._backend import use
from bml.kernels._table import KERNELS, Call

KERNEL, OF_BOOK = (next(k for k in KERNELS if k.name == name) for name in ("day_tensor", "day_tensor_of_book"))


@st.composite
def days(draw: st.DrawFn, *, bad: bool = False) -> Call:
    """Rows of a few times and levels, a grid near them, every option."""
    rows = draw(tall_rows(bad=bad))
    levels = rows.kwargs["levels"]
    edges = np.array(sorted(draw(st.sets(st.integers(0, levels), min_size=2))), np.int64)
    times = st.one_of(st.integers(-2, 7), st.sampled_from(rows.args[0].tolist() or [0]))
    grid = np.array(sorted(draw(st.sets(times, max_size=8))), np.int64)
    kwargs = rows.kwargs | {
        "max_age_ns": draw(st.sampled_from([0, 1, 3, 2**62])),
        "drop": draw(st.sampled_from([(), ("crossed",), ("locked",), ("crossed", "locked")])),
        "dtype": draw(st.sampled_from([np.float32, np.float64, np.float16])),
        **{name: draw(st.booleans()) for name in ("clear_broken", "inspect", "moments", "profile")},
    }
    return Call((*rows.args, grid, edges), kwargs)


@given(call=days())
def test_equals_kernel_after_kernel(call: Call) -> None:
    wanted = outcome(KERNEL, call, "spec")
    assert_same(outcome(KERNEL, call, "compiled"), wanted)


@given(call=days(), book_type=st.sampled_from([np.float64, np.float32]))
def test_of_a_book_equals_that_of_its_rows(call: Call, book_type: Any) -> None:
    ts, level, columns, grid, edges = call.args
    placing = {k: v for k, v in call.kwargs.items() if k in ("levels", "side_N", "batch_N", "duplicates")}
    others = {k: v for k, v in call.kwargs.items() if k not in placing}
    columns = tuple(x.astype(book_type) for x in columns)
    try:
        rows = kernels.day_tensor(ts, level, columns, grid, edges, **placing, **others)
        wide = kernels.tall_to_wide(ts, level, columns, dtype=book_type, **placing)
    except ValueError:
        return  # rows that are refused have no book
    before = wide.book_TLF.copy()
    book = Call((wide.ts_ns_T, wide.book_TLF, grid, edges), others)
    wanted = outcome(OF_BOOK, book, "spec")
    assert_same(outcome(OF_BOOK, book, "compiled"), wanted)
    np.testing.assert_array_equal(wide.book_TLF, before)  # it is read, never cleared
    got = kernels.day_tensor_of_book(*book.args, **book.kwargs)
    placed = {"duplicate_T": got.duplicate_T, "n_deep": 0, "n_duplicate": 0, "n_conflict": 0}
    if len(columns) == 2:  # rows without price and quantity leave no trace in a book
        assert (got.broken_T <= rows.broken_T).all()
        placed["broken_T"] = got.broken_T
    assert not got.duplicate_T.any()
    assert_same(flat(got), flat(rows._replace(**placed)))


@pytest.mark.parametrize("threads", [1, 3])
def test_of_a_book_of_more_than_one_unit(threads: int) -> None:
    call = OF_BOOK.examples["book"](np.random.default_rng(3), 700, 43)
    call.kwargs.update(moments=True, profile=True, inspect=True, clear_broken=True, drop=("crossed",), dtype=np.float64)
    wanted = outcome(OF_BOOK, call, "spec")
    call.kwargs["threads"] = threads
    assert_same(outcome(OF_BOOK, call, "compiled"), wanted)


def test_of_a_book_refuses_times_that_do_not_increase_and_other_shapes() -> None:
    grid, edges = np.array([0, 10]), np.array([0, 2])
    for backend in ("spec", "compiled"):
        with use(backend):
            with pytest.raises(ValueError, match=r"day_tensor_of_book: ts_ns_T\[1\] = 5 is not after 5"):
                kernels.day_tensor_of_book(np.array([5, 5]), np.ones((2, 2, 4)), grid, edges, max_age_ns=9)
            with pytest.raises(ValueError, match=r"grid_ns_G\[1\] = 0 is not after 10"):
                kernels.day_tensor_of_book(np.array([5]), np.ones((1, 2, 4)), grid[::-1].copy(), edges, max_age_ns=9)
            with pytest.raises(ValueError, match="book_TLF must be"):
                kernels.day_tensor_of_book(np.array([5]), np.ones((1, 2, 3)), grid, edges, max_age_ns=9)
            with pytest.raises(ValueError, match="book_TLF has length 2, but ts_ns_T has length 1"):
                kernels.day_tensor_of_book(np.array([5]), np.ones((2, 2, 4)), grid, edges, max_age_ns=9)


@given(call=days(bad=True))
def test_refusals(call: Call) -> None:
    assert_same(outcome(KERNEL, call, "compiled"), outcome(KERNEL, call, "spec"))


@pytest.mark.parametrize("example", list(KERNEL.examples))
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_examples_of_more_than_one_unit(example: str, threads: int) -> None:
    """Blocks of moments, groups of shuffled rows, levels that are no multiple of eight."""
    call = KERNEL.examples[example](np.random.default_rng(3), 700, 43)
    call.kwargs.update(moments=True, profile=True, inspect=True, clear_broken=True, drop=("crossed",), dtype=np.float64)
    wanted = outcome(KERNEL, call, "spec")
    call.kwargs["threads"] = threads
    assert_same(outcome(KERNEL, call, "compiled"), wanted)


@pytest.mark.parametrize("per_step", [3, 40])
@pytest.mark.parametrize("shuffled", [False, True])
def test_many_snapshots_a_grid_row_with_defects(per_step: int, shuffled: bool) -> None:
    """Snapshots replace each other at a grid row, are dropped in runs, have holes and repeats."""
    rng = np.random.default_rng(per_step)
    call = KERNEL.examples["complete"](rng, 40 * per_step, 21)
    ts, level, columns, grid, edges = call.args
    bid_px, bid_qty, ask_px, ask_qty = (x.reshape(-1, 21).copy() for x in columns)
    bid_px[rng.random(len(bid_px)) < 0.4, 0] += 1e6  # crossed
    repeat = np.flatnonzero(rng.random(len(bid_px)) < 0.2)[1:]
    for x in (bid_px, bid_qty, ask_px, ask_qty):
        x[repeat] = x[repeat - 1]
        x[rng.random(x.shape) < 0.01] = rng.choice([0.0, -1.0, np.inf, np.nan])
    kept = rng.random(ts.shape) > 0.03
    some = rng.permutation(np.flatnonzero(kept)) if shuffled else np.flatnonzero(kept)
    fields = tuple(x.reshape(-1)[some] for x in (bid_px, bid_qty, ask_px, ask_qty))
    args = (ts[some], level[some], fields, grid[::per_step] + 1, edges)
    for clear in (False, True):
        kwargs = call.kwargs | {"clear_broken": clear, "drop": ("crossed",), "inspect": True, "moments": True}
        kwargs |= {"profile": True, "max_age_ns": 3 * per_step * 10**10}
        wanted = outcome(KERNEL, Call(args, kwargs), "spec")
        for threads in (1, 2):
            assert_same(outcome(KERNEL, Call(args, kwargs | {"threads": threads}), "compiled"), wanted)


@given(call=days(), cut=st.integers(-2, 7))
def test_does_not_see_the_future(call: Call, cut: int) -> None:
    ts, level, columns, grid, edges = call.args
    kwargs = call.kwargs | {"moments": False, "profile": False, "duplicates": "last"}
    past = ts <= cut
    kwargs_past = kwargs | {k: kwargs[k][past] for k in ("side_N", "batch_N") if k in kwargs}
    with use("compiled"):
        whole = kernels.day_tensor(ts, level, columns, grid, edges, **kwargs)
        known = kernels.day_tensor(ts[past], level[past], tuple(x[past] for x in columns), grid, edges, **kwargs_past)
    seen = grid <= cut
    for a, b in zip(whole[:5], known[:5], strict=True):
        np.testing.assert_array_equal(a[seen], b[seen])


def test_rows_that_only_seem_ordered() -> None:
    """Jumps from snapshot to snapshot miss a stray row; reading finds it."""
    call = KERNEL.examples["complete"](np.random.default_rng(1), 300, 16)
    ts, *rest = call.args
    for stray in (5, 1000, len(ts) - 2):
        late = ts.copy()
        late[stray] = ts[0] if stray > 16 else ts[-1]
        changed = Call((late, *rest), call.kwargs | {"duplicates": "first"})
        assert_same(outcome(KERNEL, changed, "compiled"), outcome(KERNEL, changed, "spec"))
    (wide,) = [k for k in KERNELS if k.name == "tall_to_wide"]
    rows = Call((late, *rest[:2]), {"levels": 16, "duplicates": "first"})
    assert_same(outcome(wide, rows, "compiled"), outcome(wide, rows, "spec"))


@pytest.mark.parametrize("levels", [2**20 + 1, 2**62, 2**63 - 1])
@pytest.mark.parametrize("ts", [[5, 5, 5], [6, 5, 6]])
def test_more_levels_than_any_book_are_refused(levels: int, ts: list[int]) -> None:
    rows = (np.array(ts), np.arange(1, 4, dtype=np.int32), (np.ones(3),) * 4)
    with pytest.raises(ValueError, match="day_tensor: levels must be at most 1048576, not"):
        kernels.day_tensor(*rows, np.array([7]), np.array([0, 1]), levels=levels, max_age_ns=1)
    with pytest.raises(ValueError, match="tall_to_wide: levels must be at most 1048576, not"):
        kernels.tall_to_wide(*rows, levels=levels)


def test_infinite_prices_are_data_on_every_backend() -> None:
    touch = tuple(np.array([x]) for x in (np.inf, 1.0, -np.inf, 1.0))
    call = Call((np.array([1]), np.array([1], np.int32), touch, np.array([1]), np.array([0, 1])), {"levels": 1})
    call.kwargs["max_age_ns"] = 0
    assert_same(outcome(KERNEL, call, "compiled"), outcome(KERNEL, call, "spec"))


@pytest.mark.parametrize("wrong", [{"drop": None}, {"drop": "crossed"}, {"drop": ("stuck",)}, {"inspect": 1}])
def test_wrong_options_are_named(wrong: dict[str, Any]) -> None:
    call = KERNEL.examples["complete"](np.random.default_rng(1), 3, 2)
    with pytest.raises((TypeError, ValueError), match=f"day_tensor: {next(iter(wrong))} must be"):
        kernels.day_tensor(*call.args, **call.kwargs, **wrong)
