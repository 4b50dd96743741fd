"""The numbers that part the line: quantiles of training values, exact zeros, and names for what lies between."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np

from bml.types import ConfigError, Float64, GateError

Zero = Literal["above", "own"]
Cuts = tuple[float, ...]

#: where a class of exact zeros ends: below any other log return (>= 1e-16), and no denormal that a process may flush
ZERO_STOP = float(np.finfo(np.float64).tiny)

#: training rows a fitted class needs
MIN_ROWS = 10

#: part of its share a fitted class must reach; with less it is as good as dead
MIN_OF_SHARE = 0.5


def check_edges(where: str, edges: Sequence[float], *, above: float) -> None:
    if not edges:
        raise ConfigError(f"{where}: needs at least one edge")
    for edge in edges:
        if not math.isfinite(edge) or edge <= above:
            raise ConfigError(f"{where}: {edge:g} is not a finite edge" + (f" above {above:g}" if above > -1e9 else ""))
        if 0 < abs(edge) < 1e-12:
            raise ConfigError(f"{where}: {edge:g} is as good as 0; write 0")
    for low, high in pairwise(edges):
        if not low < high:
            raise ConfigError(f"{where}: edges must rise strictly, but {high:g} follows {low:g}")


def quantile_cuts(value_N: Float64, shares: Sequence[float], where: str) -> Cuts:
    """The values at which ``value_N`` falls into ``shares``, as nearly as values that come several times allow.

    Cut k is the value whose share of smaller ones is nearest to the sum of the first k shares. Where that leaves a
    class less than half its share, GateError names ``where``, the value that comes too often and its share. Cuts
    therefore rise strictly, and every class holds rows. O(N log N).
    """
    n = value_N.shape[0]
    if n < MIN_ROWS * len(shares):
        raise GateError(f"classes: {where}: {n} training rows for {len(shares)} classes, fewer than {MIN_ROWS} each; "
                        "take more days or fewer classes")  # fmt: skip
    seen_M, count_M = np.unique(value_N, return_counts=True)
    below_M = (np.cumsum(count_M) - count_M) / n
    aim_E = np.cumsum(shares)[:-1]
    at_E = np.searchsorted(below_M, aim_E).clip(0, seen_M.shape[0] - 1)
    at_E -= (at_E > 0) & (aim_E - below_M[at_E - 1] < below_M[at_E] - aim_E)
    share_C = np.diff(below_M[at_E], prepend=0.0, append=1.0) / np.asarray(shares)
    worst = int(share_C.argmin())
    if share_C[worst] < MIN_OF_SHARE:
        near = at_E[max(worst - 1, 0) : worst + 1]
        tie = max({*near, *(near - 1).clip(0)}, key=lambda m: int(count_M[m]))
        raise GateError(
            f"classes: {where}: {count_M[tie] / n:.1%} of {n} training values are exactly {seen_M[tie] + 0.0:g}: too "
            f"many to part them into {len(shares)} classes; take fewer" + (", or zero: own" if not seen_M[tie] else "")
        )
    return tuple((seen_M[at_E] + 0.0).tolist())


def with_zero(cuts: Cuts, zero: Zero) -> Cuts:
    """``cuts`` with 0 among them if exact zeros are to have a class."""
    return cuts if zero == "above" else tuple(sorted({*(cut + 0.0 for cut in cuts), 0.0}))


def fit_cuts(parts: Mapping[str, Float64], shares: Cuts, zero: Zero) -> dict[str, Cuts]:
    """The cuts of every symbol; with ``zero: own``, those of the values below 0, 0, and those of the values above."""
    if zero == "above":
        return {symbol: quantile_cuts(value_N, shares, symbol) for symbol, value_N in parts.items()}
    out: dict[str, Cuts] = {}
    half = (1.0 / (len(shares) // 2),) * (len(shares) // 2)
    for symbol, value_N in parts.items():
        if not (value_N == 0).any():
            raise GateError(f"classes: {symbol}: no training return is exactly 0: zero: own is a class without rows; "
                            "leave it out")  # fmt: skip
        below = quantile_cuts(value_N[value_N < 0], half, f"{symbol} below 0")
        above = quantile_cuts(value_N[value_N > 0], half, f"{symbol} above 0")
        out[symbol] = (*below, 0.0, *above)
    return out


def apart(edges_NE: Float64, cuts: Cuts, zero: Zero) -> Float64:
    """With an edge right above that of 0 if exact zeros have a class of their own."""
    return edges_NE if zero == "above" else np.insert(edges_NE, cuts.index(0.0) + 1, ZERO_STOP, axis=1)


def names_of(cuts: Cuts, unit: str, zero: Zero) -> tuple[str, ...]:
    """Names by the numbers of ``cuts``."""
    inner = [f"{low:g}..{high:g}{unit}" for low, high in pairwise(cuts)]
    names = [f"< {cuts[0]:g}{unit}", *inner, f">= {cuts[-1]:g}{unit}"]
    if zero == "own":
        names.insert(cuts.index(0.0) + 1, "zero")
    return (*names[:-1], f"> 0{unit}") if names[-2] == "zero" else tuple(names)


def numbered(classes: int, zero_at: int | None) -> tuple[str, ...]:
    """Names by number, but for the class of exact zeros."""
    return tuple("zero" if k == zero_at else f"class {k}" for k in range(classes))
