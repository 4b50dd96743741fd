"""kernels.empty: np.empty, of huge pages when it is large."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bml import kernels

MIB = 1 << 20
SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def address(x: np.ndarray) -> int:
    return int(x.__array_interface__["data"][0])


def kib_of_huge_pages() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("AnonHugePages")).split()[1])


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, "int8"])
@pytest.mark.parametrize("shape", [0, 3, (), (2, 0), (5, 6, 4), (4 * MIB, 2), 4 * MIB])
def test_shape_and_dtype(shape: Any, dtype: Any) -> None:
    got, wanted = kernels.empty(shape, dtype), np.empty(shape, dtype)
    assert (got.shape, got.dtype, got.strides) == (wanted.shape, wanted.dtype, wanted.strides)
    assert got.flags.carray
    got[...] = 7
    assert (got == 7).all()


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="asks the system for huge pages")
def test_large_is_aligned_and_given_back() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before = resident()
    for _ in range(20):
        big = kernels.empty((8 * MIB,), np.float64)
        assert address(big) % (2 * MIB) == 0
        big[::512] = 1
        part = big[-10:]
        del big
        assert part.sum() >= 0  # a view keeps it
        del part
    assert resident() - before < 32 * MIB


@pytest.mark.skipif(not SETTING.exists() or "[never]" in SETTING.read_text(), reason="no huge pages on this system")
def test_the_pages_are_huge() -> None:
    before = kib_of_huge_pages()
    big = kernels.empty((64, MIB), np.uint8)
    big[:] = 1
    assert kib_of_huge_pages() - before > 32 * 1024


def test_what_numpy_refuses() -> None:
    with pytest.raises(ValueError, match="negative dimensions"):
        kernels.empty((-1, 8 * MIB))
    with pytest.raises(TypeError):
        kernels.empty(2.5)  # type: ignore[arg-type]
    with pytest.raises((MemoryError, OSError)):
        kernels.empty(1 << 50)


def test_an_output(backend: str) -> None:
    book = np.ones((3, 4, 4))
    out = kernels.empty((3, 2, 4))
    assert kernels.bin_depth(book, np.array([0, 2, 4]), out=out).book_TDF is out
