"""Anything handed to a kernel is computed or refused with a TypeError or ValueError; nothing else happens.

Numbers that size an output are small or far beyond any memory, never what a machine might try to give.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import assert_same, frozen, misaligned

from bml.kernels._backend import use
from bml.kernels._table import KERNELS, Call

TABLE = {kernel.name: kernel for kernel in KERNELS}
DTYPES: list[Any] = [np.dtype(c) for c in "?bBhHiIqQefdgFDO"]
DTYPES += ["U3", "S2", "M8[ns]", "m8[ns]", ">i8", ">f8", [("a", "f8")]]
SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)
NOTHINGS = [None, True, 0, 1, -1, 3, 2**62, 2**63, -(2**70), 1.5, float("nan"), "", "first", "linear", "float32", b"x"]
NOTHINGS += [(), [], {}, [1, 2], object(), np.float32, np.float16, int, np.int64(2), np.float64(2.0), [[1.0], [2.0]]]


#: other arrays, made of a right one
CHANGES: list[Callable[[np.ndarray], Any]] = [
    lambda x: x[1:],
    lambda x: x[:-1],
    lambda x: x[:0],
    lambda x: x[::-1],
    lambda x: x[..., None],
    lambda x: x.T,
    lambda x: x.ravel(),
    lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    lambda x: np.broadcast_to(x[:1], x.shape),
    lambda x: x.reshape(1, *x.shape),
    lambda x: np.asfortranarray(x),
    lambda x: x.astype(x.dtype.newbyteorder()),
    lambda x: x.astype(np.float32),
    lambda x: x.astype(np.int64),
    lambda x: np.ma.masked_array(x),
    lambda x: memoryview(x),
    lambda x: x.tolist(),
    lambda x: -x,
    lambda x: x * 0,
    misaligned,
    frozen,
]


@st.composite
def anything(draw: st.DrawFn, right: Any) -> Any:
    """Something in place of ``right``."""
    if isinstance(right, tuple) and right and draw(st.booleans()):
        items = list(right)
        at = draw(st.integers(0, len(items) - 1))
        items[at] = draw(anything(items[at]))
        return tuple(items) if draw(st.booleans()) else items
    if isinstance(right, np.ndarray) and draw(st.integers(0, 3)):
        with np.errstate(all="ignore"):
            return draw(st.sampled_from(CHANGES))(right)
    if draw(st.booleans()):
        return draw(st.sampled_from(NOTHINGS))
    dtype = draw(st.sampled_from(DTYPES))
    return np.zeros(draw(SHAPES), dtype)


@st.composite
def calls(draw: st.DrawFn, name: str) -> Call:
    """A call with one or two arguments replaced; ``levels`` stays small enough to be given memory."""
    kernel = TABLE[name]
    example = draw(st.sampled_from(sorted(kernel.examples)))
    rng = np.random.default_rng(draw(st.integers(0, 3)))
    call = kernel.examples[example](rng, draw(st.integers(1, 5)), draw(st.integers(1, 4)))
    bound = inspect.signature(kernel.call).bind(*call.args, **call.kwargs)
    bound.apply_defaults()
    free = [name for name in bound.arguments if name != "levels"]
    for parameter in draw(st.lists(st.sampled_from(free), min_size=1, max_size=2, unique=True)):
        bound.arguments[parameter] = draw(anything(bound.arguments[parameter]))
    if "levels" in bound.arguments and draw(st.integers(0, 7)) == 0:
        bound.arguments["levels"] = draw(st.sampled_from([0, -1, 1, 2, 2**63, 2**70, 1.0, None, True, "2"]))
    return Call(bound.args, bound.kwargs)


def plain(value: Any) -> Any:
    """The same values in new, ordinary arrays."""
    if isinstance(value, np.ndarray):
        return np.array(value, order="C")
    return tuple(plain(v) for v in value) if isinstance(value, tuple | list) else value


def flat(result: Any) -> tuple[Any, ...]:
    """The arrays and numbers of a result, without what was not asked for."""
    if isinstance(result, tuple):
        return tuple(part for item in result for part in flat(item))
    return () if result is None else (result,)


@pytest.mark.parametrize("name", sorted(TABLE))
@settings(max_examples=4 * settings().max_examples)
@given(data=st.data())
def test_anything(name: str, data: st.DataObject) -> None:
    kernel, call = TABLE[name], data.draw(calls(name))
    copied = Call(plain(call.args), {key: plain(value) for key, value in call.kwargs.items()})
    with use("compiled"):
        try:
            got = kernel.run(call)
        except (TypeError, ValueError, MemoryError):
            return
        wanted = kernel.run(copied)
    assert_same(flat(got), flat(wanted))
