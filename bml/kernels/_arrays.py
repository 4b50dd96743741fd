"""What may enter a kernel. Checked here, once, for every backend, so that refusals read the same.

Inputs: a numpy array of exactly the right dtype in native byte order; other strides are copied to C order.
Outputs: exactly right, never converted, for a converted output would lose what is written.
"""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MOST_THREADS = 1024
FLOATS = (np.dtype(np.float64), np.dtype(np.float32))


# os.environ codes and decodes at every look, which costs more than a small kernel
_environment: Mapping[bytes, bytes] = getattr(os.environb, "_data", os.environb)


def taken(where: str, name: str, value: object, *dtypes: npt.DTypeLike, ndim: int | Sequence[int] = 1) -> Array:
    """``value`` as a read-only, aligned, C-ordered array: itself when it is one, else a copy."""
    array = _checked(where, name, value, [np.dtype(d) for d in dtypes])
    allowed = [ndim] if isinstance(ndim, int) else list(ndim)
    if array.ndim not in allowed:
        raise ValueError(f"{where}: {name} must be {' or '.join(f'{n}-D' for n in allowed)}, not {array.ndim}-D")
    plain = np.require(array, requirements=["C", "A"]).view(np.ndarray)
    plain.flags.writeable = False  # one type for numba, and a specification that writes to its input fails
    return plain


def given(
    where: str, name: str, value: object, dtype: npt.DTypeLike, shape: tuple[int, ...], inputs: Sequence[Array]
) -> Array:
    """An output the caller brought: exact dtype and shape, C order, aligned, writable, apart from the inputs."""
    array = _checked(where, name, value, [np.dtype(dtype)])
    if array.shape != shape:
        raise ValueError(f"{where}: {name} must have shape {shape}, not {array.shape}")
    if not (array.flags.c_contiguous and array.flags.aligned):
        raise ValueError(f"{where}: {name} must be C-contiguous and aligned")
    if not array.flags.writeable:
        raise ValueError(f"{where}: {name} is read-only")
    if any(np.may_share_memory(array, x) for x in inputs):
        raise ValueError(f"{where}: {name} shares memory with an input")
    return array


def same_length(where: str, **arrays: Array) -> None:
    """All arrays are as long as the first."""
    first, *others = arrays.items()
    for name, array in others:
        if array.shape[0] != first[1].shape[0]:
            raise ValueError(
                f"{where}: {name} has length {array.shape[0]}, but {first[0]} has length {first[1].shape[0]}"
            )


def integer(where: str, name: str, value: object, *, least: int) -> int:
    """``value`` as an int of at least ``least`` that fits 64 bits."""
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


def _checked(where: str, name: str, value: object, dtypes: list[np.dtype[Any]]) -> Array:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{where}: {name} must be a numpy array, not {type(value).__name__}")
    masked = sys.modules.get("numpy.ma")  # not imported: then there is no masked array either
    if masked is not None and isinstance(value, masked.MaskedArray):
        raise TypeError(f"{where}: {name} is a masked array: fill it with NaN first")
    if value.dtype not in dtypes:
        wanted = " or ".join(d.name for d in dtypes)
        order = "" if value.dtype.isnative else f" in another byte order ({value.dtype.str})"
        raise TypeError(f"{where}: {name} must be {wanted}, not {value.dtype.name}{order}")
    return value
