"""Class schemes: where the edges between the classes of a return lie, and what the classes are called."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, TypedDict

import numpy as np

from bml.types import ConfigError, Float64


class ClassParams(TypedDict, total=False):
    """The parameter ``classes`` of a configuration; which keys go together: :func:`class_scheme`."""

    method: Literal["fixed", "volatility_scaled"]
    edges_pct: list[float]
    per_symbol: dict[str, list[float]]
    multiples: list[float]
    sigma_half_life_h: float


@dataclass(frozen=True, kw_only=True)
class FixedClasses:
    """Edges in percent of simple return, the same on every day; ``per_symbol`` replaces them for some symbols."""

    edges_pct: tuple[float, ...] = (-10.0, -5.0, -2.0, 0.0, 2.0, 5.0, 10.0)
    per_symbol: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    sigma_half_life_h: float = 24.0

    def __post_init__(self) -> None:
        for name, edges in [("edges_pct", self.edges_pct), *self.per_symbol.items()]:
            _check_edges(f"classes.{name}", edges, above=-100.0)
            if len(edges) != len(self.edges_pct):
                raise ConfigError(
                    f"classes.per_symbol.{name}: {len(edges)} edges, but edges_pct has {len(self.edges_pct)}; "
                    "every symbol needs the same number of classes"
                )

    @property
    def names(self) -> tuple[str, ...]:
        if self.per_symbol:  # no one set of numbers is true for all symbols
            return tuple(f"class {k}" for k in range(len(self.edges_pct) + 1))
        return _names(self.edges_pct, "%")

    def edges(self, symbol: str, sigma_N: Float64) -> Float64:
        """(N, C - 1) edges in log return."""
        edges_E = np.log1p(np.asarray(self.per_symbol.get(symbol, self.edges_pct)) / 100.0)
        return np.tile(edges_E, (sigma_N.shape[0], 1))


@dataclass(frozen=True, kw_only=True)
class VolatilityClasses:
    """Edges at multiples of the causal volatility over the horizon, as known at each anchor."""

    multiples: tuple[float, ...] = (-1.5, -0.75, -0.25, 0.0, 0.25, 0.75, 1.5)
    sigma_half_life_h: float = 24.0

    def __post_init__(self) -> None:
        _check_edges("classes.multiples", self.multiples, above=-math.inf)

    @property
    def names(self) -> tuple[str, ...]:
        return _names(self.multiples, " sd")

    def edges(self, symbol: str, sigma_N: Float64) -> Float64:
        """(N, C - 1) edges in log return."""
        edges_NE: Float64 = sigma_N[:, None] * np.asarray(self.multiples)[None, :]
        return edges_NE


ClassScheme = FixedClasses | VolatilityClasses
_METHODS: dict[str, type[FixedClasses] | type[VolatilityClasses]] = {
    "fixed": FixedClasses,
    "volatility_scaled": VolatilityClasses,
}


def class_scheme(params: Mapping[str, object] | None = None) -> ClassScheme:
    """The scheme of ``{method: fixed | volatility_scaled, ...}`` (default: volatility_scaled), or a ConfigError."""
    given: dict[str, Any] = dict(params or {})
    method = given.pop("method", "volatility_scaled")
    if not isinstance(method, str) or method not in _METHODS:
        raise ConfigError(f"classes.method: {method!r} is not known; there are: {', '.join(_METHODS)}")
    kind = _METHODS[method]
    known = list(kind.__dataclass_fields__)
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"
            raise ConfigError(f"classes.{key}: unknown key for method {method!r}; {hint}")
    half_life = given.get("sigma_half_life_h", 24.0)
    if isinstance(half_life, bool) or not isinstance(half_life, int | float) or not 0 < half_life < math.inf:
        raise ConfigError(f"classes.sigma_half_life_h: expected hours above 0, got {half_life!r}")
    for key in ("edges_pct", "multiples"):
        if key in given:
            given[key] = _numbers(f"classes.{key}", given[key])
    if "per_symbol" in given:
        if not isinstance(given["per_symbol"], Mapping):
            raise ConfigError("classes.per_symbol: expected a mapping of symbol to a list of edges")
        given["per_symbol"] = {
            str(symbol): _numbers(f"classes.per_symbol.{symbol}", edges)
            for symbol, edges in given["per_symbol"].items()
        }
    return kind(**given)


def _numbers(where: str, value: object) -> tuple[float, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigError(f"{where}: expected a list of numbers, got {value!r}")
    for item in value:
        if isinstance(item, bool) or not isinstance(item, int | float):
            raise ConfigError(f"{where}: {item!r} is not a number")
    return tuple(float(item) for item in value)


def _check_edges(where: str, edges: Sequence[float], *, above: float) -> None:
    if not edges:
        raise ConfigError(f"{where}: needs at least one edge")
    for edge in edges:
        if not math.isfinite(edge) or edge <= above:
            raise ConfigError(f"{where}: {edge:g} is not a finite edge" + (f" above {above:g}" if above > -1e9 else ""))
    for low, high in pairwise(edges):
        if not low < high:
            raise ConfigError(f"{where}: edges must rise strictly, but {high:g} follows {low:g}")


def _names(edges: Sequence[float], unit: str) -> tuple[str, ...]:
    inner = [f"{low:g}..{high:g}{unit}" for low, high in pairwise(edges)]
    return (f"< {edges[0]:g}{unit}", *inner, f">= {edges[-1]:g}{unit}")
