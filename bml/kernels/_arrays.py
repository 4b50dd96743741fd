"""What may enter a kernel. Checked here, once, for every backend, so that refusals read the same.

Inputs: arrays of exactly the right dtype in native byte order; other strides are copied to C order. What is no numpy
array is read in place where it can be, see ``_inputs``. Outputs: numpy arrays, exactly right, never converted, for a
converted output would lose what is written.

The first lines of each function are the case of every day and cost a fraction of a microsecond.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy import ndarray

from bml.kernels import _backend, _inputs

Array = npt.NDArray[Any]

MOST_THREADS = 1024
FLOAT64, FLOAT32 = np.dtype(np.float64), np.dtype(np.float32)
INT64, INT32, INT8 = np.dtype(np.int64), np.dtype(np.int32), np.dtype(np.int8)
FLOATS, INT64S, INT32S, INT8S = (FLOAT64, FLOAT32), (INT64,), (INT32,), (INT8,)  # made once, as plain takes them

_C_ALIGNED = 0x101  # NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED

# os.environ codes and decodes at every look, which costs more than a small kernel
_environment: Mapping[bytes, bytes] = getattr(os.environb, "_data", os.environb)


def plain(
    where: str, name: str, value: object, dtypes: tuple[np.dtype[Any], ...], ndim: int | tuple[int, ...] = 1
) -> Array:
    """``value`` as an aligned, C-ordered array of one of ``dtypes``: itself when it is one, what it holds, else a copy.

    Where a specification runs, it is read-only: one that writes to its input fails, and numba sees one type.
    """
    array = value if type(value) is ndarray else _inputs.read(where, name, value)
    if array.dtype not in dtypes:
        raise _wrong_dtype(where, name, array, dtypes)
    if array.ndim != ndim and (isinstance(ndim, int) or array.ndim not in ndim):
        allowed = [ndim] if isinstance(ndim, int) else ndim
        raise ValueError(f"{where}: {name} must be {' or '.join(f'{n}-D' for n in allowed)}, not {array.ndim}-D")
    if array.flags.num & _C_ALIGNED != _C_ALIGNED:
        array = np.require(array, requirements=["C", "A"])
    if _backend.inputs_are_frozen:
        array = array.view()
        array.flags.writeable = False
    return array


def taken(where: str, name: str, value: object, *dtypes: npt.DTypeLike, ndim: int | Sequence[int] = 1) -> Array:
    """:func:`plain` for dtypes of any spelling."""
    allowed = ndim if isinstance(ndim, int) else tuple(ndim)
    return plain(where, name, value, tuple(np.dtype(d) for d in dtypes), allowed)


def none(dtype: npt.DTypeLike) -> Array:
    """What stands for an optional input that was not given: no rows, read-only as inputs are."""
    array = np.empty(0, dtype)
    array.flags.writeable = False
    return array


def given(
    where: str, name: str, value: object, dtype: npt.DTypeLike, shape: tuple[int, ...], inputs: Sequence[Array]
) -> Array:
    """An output the caller brought: exact dtype and shape, C order, aligned, writable, apart from the inputs."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{where}: {name} must be a numpy array, not {type(value).__name__}")
    array = _inputs.not_masked(where, name, value)
    if array.dtype != dtype:
        raise _wrong_dtype(where, name, array, [dtype])
    if array.shape != shape:
        raise ValueError(f"{where}: {name} must have shape {shape}, not {array.shape}")
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned):
        raise ValueError(f"{where}: {name} must be C-contiguous and aligned")
    if not flags.writeable:
        raise ValueError(f"{where}: {name} is read-only")
    if not _apart(array, inputs):
        raise ValueError(f"{where}: {name} shares memory with an input")
    return array


def _apart(array: Array, others: Sequence[Array]) -> bool:
    if _backend.current() == "compiled" and _backend.compiled("_is_apart")(array, others):
        return True
    return not any(np.may_share_memory(array, x) for x in others)


def _wrong_dtype(where: str, name: str, array: Array, dtypes: Sequence[npt.DTypeLike]) -> TypeError:
    wanted = " or ".join(np.dtype(d).name for d in dtypes)
    order = "" if array.dtype.isnative else f" in another byte order ({array.dtype.str})"
    return TypeError(f"{where}: {name} must be {wanted}, not {array.dtype.name}{order}")


def floating(where: str, name: str, dtype: npt.DTypeLike) -> np.dtype[Any]:
    """``dtype`` as float64 or float32."""
    kind: np.dtype[Any] = FLOAT64 if dtype is np.float64 else FLOAT32 if dtype is np.float32 else np.dtype(dtype)
    if kind not in FLOATS:
        raise TypeError(f"{where}: {name} must be float64 or float32, not {kind}")
    return kind


def same_length(where: str, names: Sequence[str], *arrays: Array) -> None:
    """All arrays are as long as the first; ``names`` are theirs, more of them do no harm."""
    length = len(arrays[0])
    if [*map(len, arrays)].count(length) != len(arrays):
        name, other = next((name, len(x)) for name, x in zip(names, arrays, strict=False) if len(x) != length)
        raise ValueError(f"{where}: {name} has length {other}, but {names[0]} has length {length}")


def integer(where: str, name: str, value: object, *, least: int) -> int:
    """``value`` as an int of at least ``least`` that fits 64 bits."""
    if type(value) is int and least <= value < 2**63:
        return value
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{where}: {name} must be an integer, not {type(value).__name__}") from None
    if isinstance(value, bool):
        raise TypeError(f"{where}: {name} must be an integer, not bool")
    if not least <= number < 2**63:
        raise ValueError(f"{where}: {name} must be at least {least} and below 2**63, not {number}")
    return number


def threads(where: str, value: int | None) -> int:
    """How many threads a call may use: as it says, else BML_NUM_THREADS, else 1."""
    said = _environment.get(b"BML_NUM_THREADS") if value is None else None
    if value is not None:
        name, number, text = "threads", integer(where, "threads", value, least=-(2**63)), repr(value)
    elif said is None:
        return 1
    else:
        name, text = "BML_NUM_THREADS", repr(os.fsdecode(said))
        number = int(said) if said.isdigit() else 0
    if not 1 <= number <= MOST_THREADS:
        raise ValueError(f"{where}: {name} must be a number from 1 to {MOST_THREADS}, not {text}")
    return number


def choice(where: str, name: str, value: object, options: dict[str, int]) -> int:
    """The number that stands for a word."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{where}: {name} must be {' or '.join(map(repr, options))}, not {value!r}")
    return options[value]
