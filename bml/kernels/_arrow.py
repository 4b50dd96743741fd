"""A column of the Arrow C data interface as a numpy array over its memory.

source: https://arrow.apache.org/docs/format/CDataInterface.html and .../CDataInterface/PyCapsuleInterface.html
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_DTYPES = {b"g": "f8", b"f": "f4", b"e": "f2", b"l": "i8", b"i": "i4", b"s": "i2", b"c": "i1",
           b"L": "u8", b"I": "u4", b"S": "u2", b"C": "u1"}  # fmt: skip
_RELEASE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Schema(ctypes.Structure):
    _fields_ = (
        ("format", ctypes.c_char_p), ("name", ctypes.c_char_p), ("metadata", ctypes.c_void_p),
        ("flags", ctypes.c_int64), ("n_children", ctypes.c_int64), ("children", ctypes.c_void_p),
        ("dictionary", ctypes.c_void_p), ("release", ctypes.c_void_p), ("private_data", ctypes.c_void_p),
    )  # fmt: skip


class _Array(ctypes.Structure):
    _fields_ = (
        ("length", ctypes.c_int64), ("null_count", ctypes.c_int64), ("offset", ctypes.c_int64),
        ("n_buffers", ctypes.c_int64), ("n_children", ctypes.c_int64), ("buffers", ctypes.POINTER(ctypes.c_void_p)),
        ("children", ctypes.c_void_p), ("dictionary", ctypes.c_void_p), ("release", ctypes.c_void_p),
        ("private_data", ctypes.c_void_p),
    )  # fmt: skip


class _Chunk(_Array):
    """One that is ours to release; that of a capsule is the capsule's."""

    def __del__(self) -> None:
        if self.release:
            _RELEASE(self.release)(ctypes.addressof(self))


class _Stream(ctypes.Structure):
    _fields_ = (
        ("get_schema", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(_Schema))),
        ("get_next", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(_Array))),
        ("get_last_error", ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)),
        ("release", ctypes.c_void_p), ("private_data", ctypes.c_void_p),
    )  # fmt: skip


class _Memory:
    """Memory that numpy reads; ``owner`` keeps it."""

    def __init__(self, owner: object, address: int, length: int, dtype: np.dtype[Any]) -> None:
        self.owner = owner
        self.__array_interface__ = {"version": 3, "shape": (length,), "typestr": dtype.str, "data": (address, True)}


def column(value: Any) -> Array:
    """The numbers of an Arrow array, or of a stream of one chunk; ValueError when they are not plain memory."""
    if getattr(value, "__arrow_c_array__", None) is not None:
        schema_capsule, array_capsule = value.__arrow_c_array__()
        schema = _Schema.from_address(_pointer(schema_capsule, b"arrow_schema"))
        return _numbers(schema.format, array_capsule, _Array.from_address(_pointer(array_capsule, b"arrow_array")))
    capsule = value.__arrow_c_stream__()
    stream = _Stream.from_address(_pointer(capsule, b"arrow_array_stream"))
    schema = _Schema()
    _ask(stream, stream.get_schema(ctypes.addressof(stream), schema))
    kind: bytes = schema.format
    _RELEASE(schema.release)(ctypes.addressof(schema))
    chunks = [chunk for chunk in _chunks(stream) if chunk.length]
    if len(chunks) > 1:
        raise ValueError(f"it has {len(chunks)} chunks: join them first with rechunk() or combine_chunks()")
    return _numbers(kind, chunks[0], chunks[0]) if chunks else np.empty(0, _dtype(kind))


def _chunks(stream: _Stream) -> Iterator[_Chunk]:
    while True:
        chunk = _Chunk()
        _ask(stream, stream.get_next(ctypes.addressof(stream), chunk))
        if not chunk.release:
            return
        yield chunk


def _numbers(kind: bytes, owner: object, array: _Array) -> Array:
    dtype = _dtype(kind)
    if nulls := _nulls(array):
        raise ValueError(f"nulls ({nulls}) have no value here: fill them first, floats with NaN")
    if array.length == 0:
        return np.empty(0, dtype)
    address = array.buffers[1] + array.offset * dtype.itemsize
    return np.asarray(_Memory(owner, address, array.length, dtype))


def _nulls(array: _Array) -> int:
    if array.null_count >= 0 or not array.buffers[0]:
        return max(0, int(array.null_count))
    stop = array.offset + array.length  # -1: its maker did not count
    mask = np.asarray(_Memory(array, array.buffers[0], (stop + 7) // 8, np.dtype(np.uint8)))
    present = np.unpackbits(mask, count=stop, bitorder="little")[array.offset :]
    length: int = array.length
    return length - int(np.count_nonzero(present))


def _dtype(kind: bytes) -> np.dtype[Any]:
    if kind not in _DTYPES:
        raise ValueError(f"Arrow type {kind.decode()!r} is not a plain number: cast it first")
    return np.dtype(_DTYPES[kind])


def _ask(stream: _Stream, code: int) -> None:
    if code != 0:
        said = stream.get_last_error(ctypes.addressof(stream))
        raise ValueError(said.decode(errors="replace") if said else f"its Arrow stream fails with code {code}")


def _pointer(capsule: object, name: bytes) -> int:
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    found: int = get(capsule, name)
    return found
