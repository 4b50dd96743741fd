"""Rows as networks see them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bml.dataset.context import INPUT_LIMIT, Scaler
from bml.kernels import gather_windows
from bml.types import Float32, Float64, Floats, Int64


@dataclass(frozen=True, slots=True)
class Standard:
    """(x - mean) / std, clipped at +-``INPUT_LIMIT``, 0 where missing: shift + x * scale in float32.

    Both are of every symbol, (A, L, F) for the books, (A, K) for the window features.
    """

    shift_AX: Float32
    scale_AX: Float32

    @classmethod
    def of(cls, mean_AX: Float64, std_AX: Float64) -> Standard:
        """What takes values of this mean and standard deviation to 0 and 1."""
        return cls((-mean_AX / std_AX).astype(np.float32), (1.0 / std_AX).astype(np.float32))

    def numpy(self, a: int, rows_TX: Floats) -> Float32:
        """The standardised rows of symbol ``a`` as a new array; float32 or float16 in."""
        first: Int64 = np.zeros(1, dtype=np.int64)
        out_WTX = self.into((rows_TX,), first[:, None], first, first + a, None, rows=rows_TX.shape[0])
        standard_TX: Float32 = out_WTX[0]
        return standard_TX

    def into(
        self, days: tuple[Floats, ...], day_WK: Int64, start_W: Int64, asset_W: Int64, out: Float32 | None, *,
        rows: int, threads: int = 1,
    ) -> Floats:  # fmt: skip
        """Standardised windows, see :func:`bml.kernels.gather_windows`."""
        return gather_windows(
            days, day_WK, start_W, rows=rows, shift_GX=self.shift_AX, scale_GX=self.scale_AX, standard_W=asset_W,
            limit=INPUT_LIMIT, out=out, threads=threads,
        )  # fmt: skip


def standards(scaler: Scaler) -> tuple[Standard, ...]:
    """That of the books and, if there are any, that of the window features."""
    books = Standard.of(scaler.mean_ALF, scaler.std_ALF)
    if scaler.mean_AK is None or scaler.std_AK is None:
        return (books,)
    return books, Standard.of(scaler.mean_AK, scaler.std_AK)
