from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

TARGETS: dict[str, int]
WIRES: dict[str, int]

class CopyRows:
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
    @property
    def n_rows(self) -> int: ...
    def feed(self, data: bytes) -> None: ...
    def drain(self, pgconn: int, get_copy_data: int, free_memory: int) -> int: ...
    def finish(self, expected: int | None = None) -> dict[str, npt.NDArray[np.generic]]: ...
