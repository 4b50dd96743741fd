"""Reading and writing small files for the tests of sources.files."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bml.sources.files import depth_rows
from bml.types import DepthRows
from tests.depth_frames import START, STOP


def read(path: Path | str, symbol: str = "A", start: int = START, stop: int = STOP, **options: Any) -> DepthRows:
    with depth_rows(path=str(path), **options) as source:
        first, again = (source.read(symbol, start, stop) for _ in range(2))
    np.testing.assert_array_equal(first.ts_ns_N, again.ts_ns_N)
    return first


def write(frame: pl.DataFrame, path: Path) -> None:
    if path.suffix == ".parquet":
        frame.write_parquet(path)
        return
    text = frame.write_csv(datetime_format="%Y-%m-%dT%H:%M:%S%.f%:z").encode()
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text))
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("inside/rows.csv", text)
            archive.writestr("__MACOSX/inside/._rows.csv", b"junk")
    else:
        path.write_bytes(text)
