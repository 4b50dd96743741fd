from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from bml.types import Float64, Int32, Int64

TARGETS: dict[str, int]
WIRES: dict[str, int]
ENTRY_POINTS: tuple[str, ...]
READY: int
SILENT: int
BUSY: int
BROKEN: int
ENDED: int

def wait_result(pgconn: int, libpq: Sequence[int], socket: int, wait_ms: int) -> int: ...

class Decoder:
    @property
    def n_rows(self) -> int: ...
    def feed(self, data: bytes) -> None: ...
    def drain(self, pgconn: int, libpq: Sequence[int], socket: int, wait_ms: int) -> tuple[int, bool]: ...
    def take(self, result: int, libpq: Sequence[int]) -> None: ...
    def close(self) -> None: ...

class CopyRows(Decoder):
    def __init__(
        self,
        fields: Sequence[tuple[str, str, str]],
        *,
        where: str = "",
        ns_per_unit: int = 1,
        first_level: int = 1,
        bid: bytes | int = b"bid",
        ask: bytes | int = b"ask",
        max_rows: int = 200_000_000,
        reserve: int = 4096,
    ) -> None: ...
    def finish(self, expected: int | None = None) -> dict[str, npt.NDArray[np.generic]]: ...

class CopyBook(Decoder):
    def __init__(
        self,
        fields: Sequence[tuple[str, str, str]],
        *,
        levels: int,
        duplicates: Literal["error", "first", "last"] = "error",
        where: str = "",
        ns_per_unit: int = 1,
        first_level: int = 1,
        bid: bytes | int = b"bid",
        ask: bytes | int = b"ask",
        max_rows: int = 200_000_000,
        max_bytes: int = ...,
    ) -> None: ...
    def finish(self, expected: int | None = None) -> tuple[Int64, Float64, Int32, int, tuple[int, int, int] | None]: ...
