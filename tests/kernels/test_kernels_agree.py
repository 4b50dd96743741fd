"""compiled == numba == specification == an independent library, on random input."""

from __future__ import annotations

import kernel_oracles as oracles
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import (
    HIGHEST,
    LOWEST,
    TIMES,
    assert_backends_agree,
    assert_same,
    books,
    books_with_edges,
    cut_books,
    outcome,
    samples,
    series,
    tall_rows,
    wide_books_with_edges,
    windows,
)

from bml.kernels._table import KERNELS, Call

TABLE = {kernel.name: kernel for kernel in KERNELS}
SMALL = st.integers(-40, 40)
EXTREME = st.one_of(TIMES, st.integers(LOWEST, HIGHEST))


def test_every_kernel_has_an_oracle() -> None:
    assert set(oracles.ORACLES) == set(TABLE)


@pytest.mark.parametrize(("name", "example"), [(k.name, e) for k in KERNELS for e in k.examples])
def test_examples(name: str, example: str, backends: list[str]) -> None:
    kernel = TABLE[name]
    call = kernel.examples[example](np.random.default_rng(7), 25, 12)
    got = assert_backends_agree(kernel, call, backends)
    wanted = oracles.ORACLES[name](*call.args, **call.kwargs)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    exact = name in ("tall_to_wide", "depth_profile", "gather_windows") or example == "forward_fill"
    got = got[: len(wanted)]  # the oracle of day_tensor knows no more than the grid
    if name == "daily_moments":  # the third moment may be near zero: it is judged beside the fourth
        got, wanted = (*got[:3], *got[4:]), (*wanted[:3], *wanted[4:])
    rtol = 1e-6 if name.startswith("day_tensor") else 1e-9
    assert_same(got, wanted, rtol=0.0 if exact else rtol)


@given(call=tall_rows())
def test_tall_to_wide(call: Call, backends: list[str]) -> None:
    got = assert_backends_agree(TABLE["tall_to_wide"], call, backends)
    try:
        wanted = oracles.tall_to_wide(*call.args, **call.kwargs)
    except ValueError:
        assert isinstance(got, str)
        assert "with other values: pass duplicates='first' or 'last'" in got
        return
    assert_same([np.asarray(x) + 0 for x in got], [np.asarray(x) + 0 for x in wanted])  # + 0: which zero is kept


@given(call=tall_rows(bad=True))
def test_tall_to_wide_refusals(call: Call, backends: list[str]) -> None:
    got = assert_backends_agree(TABLE["tall_to_wide"], call, backends)
    level, side = call.args[1], call.kwargs.get("side_N", np.zeros(0))
    if (level < 1).any() or ((side < 0) | (side > 1))[level[: len(side)] >= 1].any():
        assert isinstance(got, str)
        assert got.startswith("ValueError: tall_to_wide: ")


@given(call=tall_rows(), seed=st.integers(0, 2**32))
def test_tall_to_wide_does_not_depend_on_row_order(call: Call, seed: int, backends: list[str]) -> None:
    kernel = TABLE["tall_to_wide"]
    order = np.random.default_rng(seed).permutation(len(call.args[0]))
    ts, level, fields = call.args
    kwargs = {k: v[order] if isinstance(v, np.ndarray) else v for k, v in call.kwargs.items()}
    mixed = Call((ts[order], level[order], tuple(x[order] for x in fields)), kwargs)
    one, other = outcome(kernel, call, backends[0]), outcome(kernel, mixed, backends[0])
    if isinstance(one, str) or isinstance(other, str):
        assert isinstance(one, str)
        assert isinstance(other, str)
    elif one[5] == 0:
        assert_same([np.asarray(x) + 0 for x in one], [np.asarray(x) + 0 for x in other])


@given(call=samples(times=SMALL, ages=st.integers(0, 30)))
def test_resample_grid(call: Call, backends: list[str]) -> None:
    got = assert_backends_agree(TABLE["resample_grid"], call, backends)
    with np.errstate(all="ignore"):
        wanted = oracles.resample_grid(*call.args, **call.kwargs)
    np.testing.assert_array_equal(got[1], wanted[1])
    np.testing.assert_array_equal(got[2], wanted[2])
    if call.kwargs["method"] == "forward_fill" or not np.isinf(call.args[1]).any():
        rtol = 1e-12 if call.args[1].dtype == np.float64 else 1e-6
        np.testing.assert_allclose(got[0], wanted[0], rtol=rtol, atol=rtol)


@given(call=samples(times=EXTREME, ages=st.one_of(st.integers(0, 5), st.integers(0, HIGHEST))))
def test_resample_grid_at_the_ends_of_time(call: Call, backends: list[str]) -> None:
    _, source, age = assert_backends_agree(TABLE["resample_grid"], call, backends)
    ts, _, grid = ([int(x) for x in a] if a.ndim == 1 and a.dtype == np.int64 else a for a in call.args)
    limit, linear = call.kwargs["max_age_ns"], call.kwargs["method"] == "linear"
    for g, now in enumerate(grid):
        past = [i for i, t in enumerate(ts) if t <= now and now - t <= limit]
        ahead = [t for t in ts if t >= now and t - now <= limit]
        wanted = past[-1] if past and (ahead or not linear) else -1
        assert source[g] == wanted
        assert age[g] == (now - ts[wanted] if wanted >= 0 else -1)


@given(call=samples(times=SMALL, ages=st.integers(0, 30)), cut=SMALL)
def test_forward_fill_does_not_see_the_future(call: Call, cut: int, backends: list[str]) -> None:
    kernel, (ts, values, grid) = TABLE["resample_grid"], call.args
    kwargs = call.kwargs | {"method": "forward_fill"}
    whole = outcome(kernel, Call(call.args, kwargs), backends[0])
    known = outcome(kernel, Call((ts[ts <= cut], values[ts <= cut], grid), kwargs), backends[0])
    assert_same([x[grid <= cut] for x in known], [x[grid <= cut] for x in whole])


@given(book=books())
def test_depth_profile(book: np.ndarray, backends: list[str]) -> None:
    (got,) = assert_backends_agree(TABLE["depth_profile"], Call((book,)), backends)
    np.testing.assert_array_equal(got, oracles.depth_profile(book))
    (parts,) = zip(
        *(outcome(TABLE["depth_profile"], Call((p,)), backends[0]) for p in (book[:1], book[1:])), strict=True
    )
    np.testing.assert_array_equal(sum(parts), got)


@given(call=books_with_edges())
def test_bin_depth(call: Call, backends: list[str]) -> None:
    book, coverage = assert_backends_agree(TABLE["bin_depth"], call, backends)
    wanted, wanted_coverage = oracles.bin_depth(*call.args)
    np.testing.assert_allclose(book, wanted, rtol=1e-12 if book.dtype == np.float64 else 1e-6)
    np.testing.assert_array_equal(coverage, wanted_coverage)


@given(call=wide_books_with_edges())
def test_bin_depth_with_edges_of_each_snapshot(call: Call, backends: list[str]) -> None:
    book, coverage = assert_backends_agree(TABLE["bin_depth"], call, backends)
    wanted, wanted_coverage = oracles.bin_depth(*call.args)
    np.testing.assert_allclose(book, wanted, rtol=1e-13 if book.dtype == np.float64 else 1e-6)
    np.testing.assert_array_equal(coverage, wanted_coverage)


@given(call=cut_books())
def test_occupied_edges(call: Call, backends: list[str]) -> None:
    (edges,) = assert_backends_agree(TABLE["occupied_edges"], call, backends)
    np.testing.assert_array_equal(edges, oracles.occupied_edges(*call.args))
    outcome(TABLE["bin_depth"], Call((call.args[0], edges)), backends[0])  # they are edges that it takes


@given(book=books())
def test_bins_of_one_level_are_that_level(book: np.ndarray, backends: list[str]) -> None:
    edges = np.arange(book.shape[1] + 1)
    got, coverage = outcome(TABLE["bin_depth"], Call((book, edges)), backends[0])
    wanted = book.copy().reshape(*book.shape[:2], 2, 2)
    wanted[np.isnan(wanted).any(axis=-1)] = np.nan
    np.testing.assert_array_equal(got, wanted.reshape(book.shape))
    np.testing.assert_array_equal(coverage, ~np.isnan(wanted[..., 0]))


@given(x=series())
def test_daily_moments(x: np.ndarray, backends: list[str]) -> None:
    got = assert_backends_agree(TABLE["daily_moments"], Call((x,)), backends)
    for v, column in enumerate(x.T):
        count, mean, m2, m3, m4, total = oracles.exact_moments(column)
        present = column[~np.isnan(column)].astype(np.float64)
        off, largest = np.abs(present - mean), np.abs(present).max(initial=0.0)
        assert got.count_V[v] == count
        assert got.mean_V[v] == pytest.approx(mean, rel=0, abs=1e-13 * largest)  # the bounds of the docstring
        assert got.total_V[v] == pytest.approx(total, rel=0, abs=1e-13 * largest * count)
        assert got.m2_V[v] == pytest.approx(m2, rel=1e-10, abs=0)
        assert got.m3_V[v] == pytest.approx(m3, rel=0, abs=1e-9 * (off**3).sum())
        assert got.m4_V[v] == pytest.approx(m4, rel=1e-9, abs=0)


@given(call=windows())
def test_gather_windows(call: Call, backends: list[str]) -> None:
    (got,) = assert_backends_agree(TABLE["gather_windows"], call, backends)
    limited = call.kwargs.get("limit", 1.0) == 10.0 or "shift_GX" not in call.kwargs  # else torch's nan_to_num
    if limited:
        with np.errstate(all="ignore"):
            assert_same((got,), (oracles.gather_windows(*call.args, **call.kwargs),))


def test_every_2_byte_float(backends: list[str]) -> None:
    half = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(-1, 16)
    call = Call(((half,), np.array([[0]]), np.array([0])), {"rows": len(half)})
    (got,) = assert_backends_agree(TABLE["gather_windows"], call, backends)
    assert_same((got[0],), (half.astype(np.float32),))


def test_tiny_values_stay_though_the_caller_flushes_them(backends: list[str]) -> None:
    tiny = np.full((200, 33), 1e-39, np.float32)
    sets = {"shift_GX": np.zeros((1, 33), np.float32), "scale_GX": np.full((1, 33), 0.5, np.float32)}
    given = sets | {"standard_W": np.zeros(1, np.int64), "rows": 200, "threads": 2}
    wanted = outcome(TABLE["gather_windows"], Call(((tiny,), np.array([[0]]), np.array([0])), given), "spec")[0]
    bits = wanted.view(np.uint32)
    assert (bits > 0).all()
    try:
        assert torch.set_flush_denormal(True)
        for cpu in (b for b in backends if b.startswith("compiled")):
            (got,) = outcome(TABLE["gather_windows"], Call(((tiny,), np.array([[0]]), np.array([0])), given), cpu)
            assert (got.view(np.uint32) == bits).all()
            assert float(torch.full((1,), 1e-38) * 0.1) == 0.0  # the caller's mode is as it was
    finally:
        torch.set_flush_denormal(False)
