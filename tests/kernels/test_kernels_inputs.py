"""Inputs that are no numpy arrays: read where they lie, or refused with what to do."""

from __future__ import annotations

import array
import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import bml
from bml import kernels
from bml.kernels import _arrays, _arrow
from bml.kernels._backend import use

pl = pytest.importorskip("polars")
torch = pytest.importorskip("torch")

X = np.arange(8.0)


def address(x: Any) -> int:
    return int(x.__array_interface__["data"][0])


class ArrowArray:
    """An array of a library that speaks Arrow and nothing else."""

    def __init__(self, column: Any) -> None:
        self.column = column

    def __arrow_c_array__(self, requested_schema: object = None) -> object:
        return self.column.__arrow_c_array__()


class ArrowStream(ArrowArray):
    __arrow_c_array__ = None

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.column.__arrow_c_stream__()


def polars_address(series: Any) -> int:
    return address(series.to_numpy(allow_copy=False))


SAME_MEMORY: dict[str, Callable[[np.ndarray], tuple[Any, int]]] = {
    "array.array": lambda x: (a := array.array("d", x), a.buffer_info()[0]),
    "memoryview": lambda x: (memoryview(x), address(x)),
    "torch": lambda x: (t := torch.tensor(x), t.data_ptr()),
    "pyarrow.Array": lambda x: (a := pa.array(x), a.buffers()[1].address),
    "pyarrow slice": lambda x: (a := pa.array(np.r_[9.0, x]).slice(1), a.buffers()[1].address + 8),
    "pyarrow.ChunkedArray": lambda x: (c := pa.chunked_array([x]), c.chunk(0).buffers()[1].address),
    "pyarrow, an empty chunk": lambda x: (c := pa.chunked_array([x[:0], x]), c.chunk(1).buffers()[1].address),
    "arrow array": lambda x: (ArrowArray(a := pa.array(x)), a.buffers()[1].address),
    "arrow stream": lambda x: (ArrowStream(a := pa.chunked_array([x])), a.chunk(0).buffers()[1].address),
    "polars": lambda x: (s := pl.Series(x), polars_address(s)),
    "polars slice": lambda x: (s := pl.Series(np.r_[9.0, x])[1:], polars_address(s)),
    "polars as arrow": lambda x: (ArrowStream(s := pl.Series(x)), polars_address(s)),
    "pandas": lambda x: (s := pd.Series(x), address(s.to_numpy())),
    "numpy.memmap": lambda x: (x.view(np.memmap), address(x)),
}  # fmt: skip


@pytest.mark.parametrize("kind", SAME_MEMORY)
def test_read_where_it_lies(kind: str) -> None:
    value, where = SAME_MEMORY[kind](X)
    with use("compiled"):
        got = _arrays.plain("f", "x", value, _arrays.FLOATS)
    np.testing.assert_array_equal(got, X)
    assert type(got) is np.ndarray
    assert address(got) == where


@pytest.mark.parametrize("kind", SAME_MEMORY)
def test_memory_outlives_its_column(kind: str) -> None:
    size = 1 << 20  # its own mapping: reading it after a release would crash or differ
    read = [_arrays.plain("f", "x", SAME_MEMORY[kind](np.full(size, float(k)))[0], _arrays.FLOATS) for k in range(3)]
    gc.collect()
    for k, got in enumerate(read):
        assert (got == k).all()


def test_memory_is_given_back() -> None:
    columns = [lambda: pa.chunked_array([np.zeros(1 << 20)]), lambda: pl.Series(np.zeros(1 << 20))]
    for make in columns:
        for stream in (make, lambda make=make: ArrowStream(make())):
            for round_ in range(30):
                _arrow.column(stream())
                if round_ == 10:
                    before = resident_bytes()
            assert resident_bytes() - before < 80e6  # 19 columns are 152 MB


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (
            pl.Series([1.0, None]),
            r"cannot be read in place: nulls \(1\) have no value here: fill them first, floats with NaN",
        ),
        (pa.array([1.0, None, None]), r"nulls \(2\) have no value here: fill them first, floats with NaN"),
        (pa.chunked_array([[None, 1.0]]), r"nulls \(1\) have no value here"),
        (pa.chunked_array([[1.0, None, 3.0]]).slice(1), r"nulls \(1\) have no value here"),
        (pd.Series([1.0, None], dtype="Float64"), r"nulls \(1\) have no value here"),
        (pa.chunked_array([X, X]), r"it has 2 chunks: join them first with rechunk\(\) or combine_chunks\(\)"),
        (pl.Series(X).append(pl.Series(X)), r"it has 2 chunks: join them first"),
        (pa.array([True]), "Arrow type 'b' is not a plain number: cast it first"),
        (pl.Series(["a"]), "Arrow type 'vu' is not a plain number: cast it first"),
        (torch.ones(2, requires_grad=True), r"use tensor.detach\(\)"),
        (pl.Series([1, 2]), "x must be float64 or float32, not int64"),
        (torch.ones(2, dtype=torch.float16), "x must be float64 or float32, not float16"),
        (array.array("i", [1]), "x must be float64 or float32, not int32"),
        (b"abc", "x must be float64 or float32, not uint8"),
        ([1.0], "x must be a numpy array, not list"),
        (1.0, "x must be a numpy array, not float"),
        (np.float64(1.0), "x must be a numpy array, not float64"),
        (np.ma.masked_invalid(X), "x is a masked array: fill it with NaN first"),
    ],
    ids=lambda x: type(x).__name__ if not isinstance(x, str) else x[:20],
)
def test_what_is_refused(value: Any, why: str) -> None:
    with pytest.raises(TypeError, match=f"^f: {why}$" if why.startswith("x ") else f"^f: x .*{why}"):
        _arrays.plain("f", "x", value, _arrays.FLOATS)


def test_a_mask_without_nulls_is_no_null() -> None:
    masked = pa.chunked_array([pa.array([None, 1.0, 2.0])]).slice(1)
    np.testing.assert_array_equal(_arrays.plain("f", "x", masked, _arrays.FLOATS), [1.0, 2.0])


def test_no_rows() -> None:
    for value in (pl.Series([], dtype=pl.Float32), pa.chunked_array([], pa.float32()), pa.array([], pa.float32())):
        got = _arrays.plain("f", "x", value, _arrays.FLOATS)
        assert (got.shape, got.dtype) == ((0,), np.float32)


def test_a_kernel_takes_a_table(backend: str) -> None:
    table = pl.DataFrame(
        {"ts": [1, 1, 2], "level": [1, 2, 1], **{name: [1.0, 2.0, 3.0] for name in "abcd"}},
        schema_overrides={"level": pl.Int32},
    )
    arrow = table.to_arrow()
    for columns in (table.get_columns(), arrow.columns, [torch.from_numpy(c.to_numpy().copy()) for c in table]):
        ts, level, *fields = columns
        got = kernels.tall_to_wide(ts, level, fields, levels=2)
        np.testing.assert_array_equal(got.book_TLF[:, :, 0], [[1.0, 2.0], [3.0, np.nan]])
    with pytest.raises(TypeError, match=r"^tall_to_wide: out must be a numpy array, not Tensor$"):
        kernels.tall_to_wide(ts, level, fields, levels=2, out=torch.empty(2, 2, 4))


def test_nothing_is_imported_for_it() -> None:
    code = """
import array, sys
from bml import kernels
before = set(sys.modules)
kernels.resample_grid(array.array('q', [1]), memoryview(array.array('d', [2.0])), array.array('q', [3]), max_age_ns=5)
print(set(sys.modules) - before)
"""
    compiled = {name: value for name, value in os.environ.items() if name != "BML_KERNELS"}  # numba imports to compile
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(bml.__file__).parents[1], env=compiled, capture_output=True, text=True
    )
    assert done.stdout.strip() == "set()", done.stderr
