"""Files as read-only memory: mapped without keeping a file descriptor.

``np.memmap`` holds one descriptor per live map, so a data set of a thousand day files meets the usual limit of
1024. The mapping made here outlives its descriptor and is undone when the last array on it is gone.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Any

import numpy as np
import numpy.typing as npt

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
)  # fmt: skip
_libc.munmap.restype = ctypes.c_int
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.mincore.restype = ctypes.c_int
_libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
_FAILED = ctypes.c_void_p(-1).value


#: device, inode, size, time of the last change: which file it is
Identity = tuple[int, int, int, int]


class _Mapping:
    """Owns the address range; arrays made from it keep it alive as their base."""

    def __init__(self, fd: int, size: int) -> None:
        self._size = size
        address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        if address == _FAILED:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self._address: int = address

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {"version": 3, "shape": (self._size,), "typestr": "|u1", "data": (self._address, True)}

    def __del__(self, _munmap: Any = _libc.munmap) -> None:
        if hasattr(self, "_address"):
            _munmap(self._address, self._size)


def map_file(fd: int) -> npt.NDArray[np.uint8]:
    """The bytes of an open, non-empty file as a read-only array; ``fd`` may be closed afterwards.

    The file must not be shortened while it is mapped: reading beyond its end kills the process (SIGBUS).
    Raises OSError. Cost: no byte is read before it is used.
    """
    return np.asarray(_Mapping(fd, os.fstat(fd).st_size))


def identity(fd: int) -> Identity:
    """Of an open file, to tell it from another that has taken its path, or its inode, since."""
    told = os.fstat(fd)
    return told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns


def resident_share(x: npt.NDArray[Any]) -> float:
    """The share of the pages under ``x``, a contiguous part of a mapped file, that are in memory.

    Of a file one neither owns nor may write to, the kernel says that all are. Raises OSError. Cost: microseconds.
    """
    if x.nbytes == 0:
        return 1.0
    address: int = x.__array_interface__["data"][0]
    start = address - address % mmap.PAGESIZE
    n_pages = -(-(address + x.nbytes - start) // mmap.PAGESIZE)
    pages = np.empty(n_pages, np.uint8)
    if _libc.mincore(start, address + x.nbytes - start, pages.ctypes.data):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return float((pages & 1).mean())
