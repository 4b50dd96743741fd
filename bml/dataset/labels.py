"""Labels: the log return of the mid over the horizon, and the half-open classes it falls into.

The return is anchored at the mid of the anchor itself and never smoothed: a smoothed label can be guessed
from "now against the mean of the last k". Classes partition the real line, so an exact zero has one class.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bml.types import Float64, Int64

Bools = npt.NDArray[np.bool_]


def log_return(mid_T: Float64, steps: int) -> Float64:
    """log(mid[t + steps] / mid[t]) at every row t, (T,) float64; NaN where either mid is unknown or past the end."""
    if steps < 1:
        raise ValueError(f"log_return: steps must be at least 1, got {steps}")
    return_T = np.full(mid_T.shape, np.nan)
    if mid_T.shape[0] > steps:
        return_T[:-steps] = np.log(mid_T[steps:] / mid_T[:-steps])
    return return_T


def assign(return_N: Float64, edges_NE: Float64) -> Int64:
    """Class of each return: the number of edges at or below it, so class k is [e_k, e_k+1).

    Raises ValueError on a NaN return or edge: an unknown label has no class.
    """
    if np.isnan(return_N).any() or np.isnan(edges_NE).any():
        raise ValueError("assign: a return or an edge is NaN; drop unknown labels first")
    y_N: Int64 = np.count_nonzero(return_N[:, None] >= edges_NE, axis=1).astype(np.int64)
    return y_N
