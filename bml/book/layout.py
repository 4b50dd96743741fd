"""What is inside a day file: names, types and shapes, checksums, and what a header must say.

The schema is ``bml.day/1``, or ``bml.day/2`` of a file with window features, which has what is marked *.

    /book      (T, L, 4) <f4 or <f2   model-ready: bps from the mid, log1p quantity
    /mid       (T,) <f8               /age (T,) <i4 ms     /flags (T,) <u2     /coverage (T, L, 2) <f4
    /edges     (L + 1,) <i8           levels of the depth bins
    /moments   (6, V) <f8             /scaler (3, L, 4) <f8
    /features  (T, K) <f4 *           /feature_scaler (3, K) <f8 *   named by the attribute ``features`` *
    /quality   (n,) u1                the quality report as JSON; /meta (n,) u1 JSON: meta, query
    /crc       (25,) <u4              CRC-32 of /book in 24 parts of the day, then of all other arrays together

The grid is ``start_ns + step_ns * row``. Attributes are listed in :data:`ATTRIBUTES`; ``complete`` = 1 is the last.
"""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bml.book.hdf5 import Attribute, Place
from bml.types import FIELDS, STATS, StoreError

SCHEMA = "bml.day/1"

#: of a file with window features; one without is as it was before there were any
SCHEMA_FEATURES = "bml.day/2"

#: parts of /book with a checksum of their own: the hours of the day
PARTS = 24

ATTRIBUTES: dict[str, type] = {
    "schema": str, "symbol": str, "date": str, "start_ns": int, "step_ns": int, "rows": int, "depth": int,
    "fields": str, "units": str, "dtype": str, "series": str, "config_digest": str,
    "code_version": str, "crc_header": int, "complete": int,
}  # fmt: skip

#: the attribute that names the window features, a JSON list
FEATURES = "features"

_REBUILD = "delete it and build the day again"


def part_rows(rows: int) -> list[tuple[int, int]]:
    """[start, stop) rows of every part of the day."""
    edge = [rows * k // PARTS for k in range(PARTS + 1)]
    return list(itertools.pairwise(edge))


def checksums(arrays: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.uint32]:
    """The content of /crc for all other arrays."""
    book = np.ascontiguousarray(arrays["book"])
    parts = [zlib.crc32(book[start:stop].data) for start, stop in part_rows(len(book))]
    rest = 0
    for name in sorted(set(arrays) - {"book", "crc"}):
        rest = zlib.crc32(np.ascontiguousarray(arrays[name]).data, rest)
    return np.array([*parts, rest], np.uint32)


def header_checksum(attributes: Mapping[str, Attribute]) -> int:
    """CRC-32 of all attributes but itself and ``complete``."""
    names = [name for name in ATTRIBUTES if name not in ("crc_header", "complete")]
    counted = {name: attributes[name] for name in [*names, FEATURES] if name in attributes}
    return zlib.crc32(json.dumps(counted, sort_keys=True).encode())


def check_header(path: Path, attributes: Mapping[str, Attribute], places: Mapping[str, Place]) -> None:
    """Raise StoreError unless header and arrays are those of a finished day file of this schema."""
    schema = attributes.get("schema")
    if schema is None:
        raise StoreError(f"{path}: an HDF5 file, but no day file of bml (it has no schema)")
    if schema not in (SCHEMA, SCHEMA_FEATURES):
        raise StoreError(f"{path}: schema {schema!r}, this bml reads {SCHEMA!r}: use the version that wrote it")
    if attributes.get("complete") != 1:
        raise StoreError(f"{path}: incomplete, its writer did not finish: {_REBUILD}")
    more = {FEATURES: str} if schema == SCHEMA_FEATURES else {}
    for name, kind in (ATTRIBUTES | more).items():
        if not isinstance(attributes.get(name), kind):
            raise StoreError(f"{path}: attribute {name!r} is missing or not {kind.__name__}: {_REBUILD}")
    if attributes["crc_header"] != header_checksum(attributes):
        raise StoreError(f"{path}: the header does not match its checksum, the file is damaged: {_REBUILD}")
    n_features = len(json.loads(str(attributes.get(FEATURES, "[]"))))
    expected = shapes(int(attributes["rows"]), int(attributes["depth"]), str(attributes["dtype"]), n_features)
    for name, wanted in expected.items():
        place = places.get(name)
        wrong = "is missing" if place is None else mismatch(place.dtype, place.shape, wanted)
        if wrong:
            raise StoreError(f"{path}: /{name} {wrong}: {_REBUILD}")


#: dtype and shape of an array; -1 is any length
Wanted = tuple[str, tuple[int, ...]]


def shapes(rows: int, depth: int, dtype: str, features: int = 0) -> dict[str, Wanted]:
    """Every array of a day file with a /book of ``dtype`` and that many window features."""
    more: dict[str, Wanted] = {"features": ("<f4", (rows, features)), "feature_scaler": ("<f8", (3, features))}
    return (more if features else {}) | {
        "book": ("<f2" if dtype == "float16" else "<f4", (rows, depth, len(FIELDS))),
        "mid": ("<f8", (rows,)),
        "age": ("<i4", (rows,)),
        "flags": ("<u2", (rows,)),
        "coverage": ("<f4", (rows, depth, 2)),
        "edges": ("<i8", (depth + 1,)),
        "moments": ("<f8", (len(STATS), -1)),
        "scaler": ("<f8", (3, depth, len(FIELDS))),
        "quality": ("|u1", (-1,)),
        "meta": ("|u1", (-1,)),
        "crc": ("<u4", (PARTS + 1,)),
    }


def mismatch(dtype: np.dtype[Any], shape: tuple[int, ...], wanted: Wanted) -> str:
    """What is wrong with an array, "" when nothing is."""
    if dtype.str != wanted[0]:
        return f"is {dtype.str}, not {wanted[0]} (type or byte order)"
    if len(shape) != len(wanted[1]) or any(b not in (a, -1) for a, b in zip(shape, wanted[1], strict=True)):
        return f"has shape {shape}, not {wanted[1]}"
    return ""
