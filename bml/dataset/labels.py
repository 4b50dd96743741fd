"""Labels: the log return of the mid over the horizon, and the half-open classes it falls into.

The return is anchored at the mid of the anchor itself and not smoothed unless that is asked for by name: a smoothed
label can be guessed from "now against the mean of the last k". Classes partition the real line, so an exact zero
has one class.
"""

from __future__ import annotations

from dataclasses import dataclass

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


def smoothed_return(mid_T: Float64, steps: int, smooth: int) -> Float64:
    """log(mean of the ``smooth`` mids up to t + steps / mid[t]) at every row t, (T,); NaN where one is unknown.

    O(T smooth). Raises ValueError unless 1 <= smooth <= steps: the mean must lie after the anchor.
    """
    if not 1 <= smooth <= steps:
        raise ValueError(f"smoothed_return: smooth must be 1 to {steps} (steps), got {smooth}")
    return_T = np.full(mid_T.shape, np.nan)
    if mid_T.shape[0] > steps:
        ahead_T = np.lib.stride_tricks.sliding_window_view(mid_T[steps - smooth + 1 :], smooth).mean(axis=-1)
        return_T[:-steps] = np.log(ahead_T / mid_T[:-steps])
    return return_T


def assign(return_N: Float64, edges_NE: Float64) -> Int64:
    """Class of each return: the number of edges at or below it, so class k is [e_k, e_k+1).

    Raises ValueError on a NaN return or edge: an unknown label has no class.
    """
    if np.isnan(return_N).any() or np.isnan(edges_NE).any():
        raise ValueError("assign: a return or an edge is NaN; drop unknown labels first")
    y_N: Int64 = np.count_nonzero(return_N[:, None] >= edges_NE, axis=1).astype(np.int64)
    return y_N


def assign_known(return_N: Float64, edges_NE: Float64) -> Int64:
    """:func:`assign` where the return is known, -1 where it is NaN."""
    y_N = np.full(return_N.shape, -1, dtype=np.int64)
    known_N = ~np.isnan(return_N)
    y_N[known_N] = assign(return_N[known_N], edges_NE[known_N])
    return y_N


@dataclass(frozen=True, kw_only=True, slots=True)
class MoreLabels:
    """Labels over H further horizons: returns NaN and classes -1 where unknown; the label is (anchor, anchor + h]."""

    horizons_ns_H: Int64
    return_NH: Float64
    sigma_NH: Float64  # causal volatility over each horizon, known at the anchor
    y_NH: Int64


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcomes:
    """How each triple-barrier label ended: when, and the excursions by then in volatilities at the anchor, >= 0."""

    touch_ns_N: Int64
    run_up_N: Float64
    draw_down_N: Float64
