"""HDF5 as a plain container: contiguous arrays at known offsets, and attributes. No bml meaning in here.

Files are built in memory and written by our own hand, so that a full disk is an ordinary error and not a
half-closed HDF5 file; and read back only as far as the header, since the arrays are then mapped.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from bml.types import StoreError

MAGIC = b"\x89HDF\r\n\x1a\n"

#: arrays begin at a multiple of this: whole pages, and any itemsize divides it
PAGE = 4096
#: ... if they have as many bytes as this
ALIGNED_FROM = 64

Attribute = str | int | float


@dataclass(frozen=True, slots=True)
class Place:
    """Where one array lies in the file."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def stop(self) -> int:
        """The first byte after it."""
        return self.offset + int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def pack(arrays: Mapping[str, npt.NDArray[Any]], attributes: Mapping[str, Attribute]) -> bytes:
    """A whole HDF5 file: contiguous, early allocated, little-endian, without times; attributes in their order.

    Equal input gives equal bytes. Arrays must not be empty; text is stored as fixed-length UTF-8.
    """
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fapl_core(sum(x.nbytes for x in arrays.values()) + (1 << 20), False)
    access.set_alignment(ALIGNED_FROM, PAGE)
    # the oldest format: every HDF5 reads it, and its object headers hold no times
    access.set_libver_bounds(h5py.h5f.LIBVER_EARLIEST, h5py.h5f.LIBVER_V18)
    file = h5py.h5f.create(b"in memory", h5py.h5f.ACC_TRUNC, fapl=access)
    try:
        root = h5py.Group(h5py.h5g.open(file, b"/"))
        for name, x in arrays.items():
            _put(file, name, x)
        for name, value in attributes.items():
            stored = np.bytes_(value.encode()) if isinstance(value, str) else value
            root.attrs.create(name, stored if stored != b"" else np.zeros((), "S1"))
        h5py.h5f.flush(file)
        image: bytes = file.get_file_image()
    finally:
        file.close()
    return image


def _put(file: h5py.h5f.FileID, name: str, x: npt.NDArray[Any]) -> None:
    little = np.ascontiguousarray(x, dtype=x.dtype.newbyteorder("<"))
    create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    create.set_layout(h5py.h5d.CONTIGUOUS)
    create.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    create.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # every row is written below
    create.set_obj_track_times(False)
    kind = h5py.h5t.py_create(little.dtype, logical=True)
    space = h5py.h5s.create_simple(little.shape)
    dataset = h5py.h5d.create(file, name.encode(), kind, space, create)
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, little)


def read_header(path: Path) -> tuple[dict[str, Attribute], dict[str, Place]]:
    """Attributes and array places of an HDF5 file; no handle stays open.

    Raises StoreError: not HDF5, truncated, or an array that cannot be mapped; OSError where the disk fails.
    Cost: about a millisecond.
    """
    with open(path, "rb") as plain:
        if plain.read(len(MAGIC)) != MAGIC:
            raise StoreError(f"{path}: not an HDF5 file, or damaged at its first bytes")
        size = os.fstat(plain.fileno()).st_size
    try:
        # no lock: a published file is never written to again
        with h5py.File(path, "r", locking=False) as file:
            attributes = {str(name): _plain(value) for name, value in file.attrs.items()}
            places = {name: _place(path, item) for name, item in file.items() if isinstance(item, h5py.Dataset)}
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:  # what h5py raises for broken bytes
        if isinstance(error, OSError) and error.errno in (errno.EIO, errno.EACCES, errno.ESTALE):
            raise
        told = str(error).strip().replace("\n", " ")
        raise StoreError(f"{path}: HDF5 cannot read it, it is truncated or damaged ({told})") from error
    for name, place in places.items():
        if place.stop > size:
            raise StoreError(f"{path}: truncated, /{name} ends at byte {place.stop} of a file of {size}")
    return attributes, places


def _place(path: Path, dataset: h5py.Dataset) -> Place:
    offset = dataset.id.get_offset()
    if offset is None:
        layout = "chunked or compressed" if dataset.chunks else "not stored contiguously"
        raise StoreError(f"{path}: /{dataset.name.lstrip('/')} is {layout}, so it cannot be mapped: write it with bml")
    return Place(int(offset), tuple(dataset.shape), dataset.dtype)


def _plain(value: Any) -> Attribute:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, str):
        return value
    if isinstance(value, (np.integer, np.floating)):
        number: int | float = value.item()
        return number
    return repr(value)
