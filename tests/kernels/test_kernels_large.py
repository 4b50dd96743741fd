"""Inputs large enough for several strips, units and the writes past the cache: any number of threads, the same bits."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_cases import assert_same

from bml import kernels
from bml.kernels import _isa
from bml.kernels._backend import use
from bml.types import Floats

THREADS = (1, 2, 3, 7)


@pytest.fixture(params=_isa.runnable())
def cpu(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def book() -> Floats:
    """(530, 1103, 4), a sixth of it absent: no size is a multiple of a register, a block, a unit or a strip."""
    rng = np.random.default_rng(3)
    book_TLF = np.round(rng.normal(1e5, 1.0, (530, 1103, 4)), 2)
    book_TLF[..., 1::2] = rng.choice([0.0, 0.1, 2.0], (530, 1103, 2))
    book_TLF[rng.random(book_TLF.shape) < 0.15] = np.nan
    return book_TLF


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_every_build_and_number_of_threads_agree(book: Floats, cpu: str, dtype: type) -> None:
    book = book.astype(dtype)
    edges = np.r_[np.arange(51), 50 + np.arange(1, 11) * 105]
    calls = [
        lambda n: kernels.daily_moments(book.reshape(len(book), -1), threads=n),
        lambda n: (kernels.depth_profile(book, threads=n), kernels.occupied_edges(book, 50, 10, threads=n)),
        lambda n: kernels.bin_depth(book, edges, threads=n),
        lambda n: kernels.bin_depth(book, kernels.occupied_edges(book, 50, 10), threads=n),
    ]
    for call in calls:
        with use("compiled", _isa.runnable()[-1]):
            wanted = call(1)
        with use("compiled", cpu):
            for n in THREADS:
                assert_same(call(n), wanted, f"{n} threads")


@pytest.mark.parametrize("method", ["forward_fill", "linear"])
def test_a_grid_too_large_for_the_cache(cpu: str, method: str) -> None:
    rng = np.random.default_rng(4)
    ts, grid = np.arange(2600) * 10, np.arange(2600) * 10 + rng.integers(0, 9, 2600)
    values = rng.normal(size=(2600, 3331)).astype(np.float32)  # rows start anywhere in a line of 64 bytes
    share = ((grid - ts) / 10)[:-1, None]
    wanted = values.copy()
    if method == "linear":
        wanted[-1] = values[-1] if grid[-1] == ts[-1] else np.nan
        wanted[:-1] = values[:-1] + (values[1:].astype(float) - values[:-1]) * share
    for n in THREADS:
        with use("compiled", cpu):
            got = kernels.resample_grid(ts, values, grid, max_age_ns=10, method=method, threads=n)
        np.testing.assert_array_equal(got.values_GX, wanted)
