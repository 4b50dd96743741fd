"""Inputs that are no plain numpy array, read in place: nothing is copied and no library is imported for them.

By protocol: DLPack (torch, jax), numpy's own (pandas, polars, pyarrow), Arrow's columns, the buffer protocol
(array.array, memoryview). What cannot be read without a copy is refused, with what to do: a null has no value here
and is not guessed to be NaN, and joining chunks is the caller's to pay for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def read(where: str, name: str, value: object) -> Array:
    """``value`` as a numpy array over the same memory; TypeError for what has no such thing."""
    if isinstance(value, np.ndarray):
        return not_masked(where, name, value).view(np.ndarray)
    why: Exception | None = None
    for protocol, reader in _READERS.items():
        if getattr(value, protocol, None) is None or isinstance(value, np.generic):  # which is a single number
            continue
        try:
            return reader(value)
        except Exception as error:  # whatever a library raises to say that it cannot; the next way may do
            why = error if why is None or reader is _arrow else why
    if why is None:
        return _buffer(where, name, value)
    text = (str(why) or type(why).__name__).splitlines()[0]
    raise TypeError(f"{where}: {name} ({type(value).__name__}) cannot be read in place: {text}") from why


def not_masked(where: str, name: str, array: Array) -> Array:
    """``array``, unless numpy.ma made it."""
    masked = sys.modules.get("numpy.ma")  # not imported: then there is no masked array either
    if masked is not None and isinstance(array, masked.MaskedArray):
        raise TypeError(f"{where}: {name} is a masked array: fill it with NaN first")
    return array


def _buffer(where: str, name: str, value: Any) -> Array:
    try:
        memory = None if isinstance(value, np.generic) else memoryview(value)
    except TypeError:
        memory = None
    if memory is None:
        raise TypeError(f"{where}: {name} must be a numpy array, not {type(value).__name__}")
    return np.asarray(memory)


def _arrow(value: Any) -> Array:
    from bml.kernels import _arrow  # loads ctypes

    return _arrow.column(value)


_READERS: dict[str, Callable[[Any], Array]] = {
    "__dlpack__": np.from_dlpack,
    "__array__": lambda value: np.asarray(value, copy=False),
    "__arrow_c_array__": _arrow,
    "__arrow_c_stream__": _arrow,
}
