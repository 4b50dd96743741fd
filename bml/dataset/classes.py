"""Class schemes: where the edges between the classes of a return lie, and what the classes are called.

Every scheme parts the line into half-open classes [edge, next edge), so each return has exactly one. What a scheme
learns from data (``quantile``, ``volatility_scaled`` with ``n_classes``) it learns in ``fitted``, from the training
rows it is given; ``cuts`` then holds the numbers, per symbol.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Self, TypedDict

import numpy as np

from bml.dataset.cuts import Cuts, Zero, apart, check_edges, fit_cuts, names_of, numbered, with_zero
from bml.dataset.sigma import DEFAULT, SigmaParams, SigmaSpec, ewma, positive, sigma_spec
from bml.types import ConfigError, Float64

#: symbol -> (return_N, sigma_N) of its training rows
Training = Mapping[str, tuple[Float64, Float64]]

MAX_CLASSES = 1000


class ClassParams(TypedDict, total=False):
    """The parameter ``classes`` of a configuration; which keys go together: :func:`class_scheme`."""

    method: Literal["fixed", "quantile", "volatility_scaled", "triple_barrier"]
    edges_pct: list[float]
    per_symbol: dict[str, list[float]]
    multiples: list[float]
    n_classes: int
    shares: list[float]
    zero: Zero
    take_profit: float
    stop: float
    sigma: SigmaParams
    sigma_half_life_h: float
    allow_dead: bool


@dataclass(frozen=True, kw_only=True)
class FixedClasses:
    """Edges in percent of simple return, the same on every day; ``per_symbol`` replaces them for some symbols."""

    edges_pct: Cuts = (-10.0, -5.0, -2.0, 0.0, 2.0, 5.0, 10.0)
    per_symbol: Mapping[str, Cuts] = field(default_factory=dict)
    zero: Zero = "above"
    sigma: SigmaSpec = DEFAULT

    def __post_init__(self) -> None:
        common = with_zero(self.edges_pct, self.zero)
        for name, edges in [("edges_pct", self.edges_pct), *self.per_symbol.items()]:
            check_edges(f"classes.{name}", edges, above=-100.0)
            own = with_zero(edges, self.zero)
            if len(own) != len(common):
                raise ConfigError(
                    f"classes.per_symbol.{name}: {len(edges)} edges, but edges_pct has {len(self.edges_pct)}; "
                    "every symbol needs the same number of classes"
                )
            if self.zero == "own" and own.index(0.0) != common.index(0.0):
                raise ConfigError(f"classes.per_symbol.{name}: has not as many edges below 0 as edges_pct; with zero: "
                                  "own, exact zeros must be the same class for every symbol")  # fmt: skip

    @property
    def names(self) -> tuple[str, ...]:
        if self.per_symbol:  # no one set of numbers is true for all symbols
            cuts = with_zero(self.edges_pct, self.zero)
            own = self.zero == "own"
            return numbered(len(cuts) + 1 + own, cuts.index(0.0) + 1 if own else None)
        return names_of(with_zero(self.edges_pct, self.zero), "%", self.zero)

    def edges(self, symbol: str, sigma_N: Float64) -> Float64:
        """(N, C - 1) edges in log return."""
        cuts = with_zero(self.per_symbol.get(symbol, self.edges_pct), self.zero)
        edges_E = np.log1p(np.asarray(cuts) / 100.0)
        return apart(np.tile(edges_E, (sigma_N.shape[0], 1)), cuts, self.zero)

    def fitted(self, training: Training) -> Self:
        """Nothing is learnt."""
        return self


@dataclass(frozen=True, kw_only=True)
class QuantileClasses:
    """Edges at which the training returns of each symbol fall into ``shares``, nearly; see
    :func:`bml.dataset.cuts.quantile_cuts`."""

    shares: Cuts = (0.125,) * 8
    zero: Zero = "above"
    cuts: Mapping[str, Cuts] = field(default_factory=dict)
    sigma: SigmaSpec = DEFAULT

    @property
    def names(self) -> tuple[str, ...]:
        return numbered(len(self.shares), len(self.shares) // 2 if self.zero == "own" else None)

    def edges(self, symbol: str, sigma_N: Float64) -> Float64:
        """(N, C - 1) edges in log return; KeyError for a symbol it is not fitted to."""
        cuts = self.cuts[symbol]
        return apart(np.tile(np.asarray(cuts), (sigma_N.shape[0], 1)), cuts, self.zero)

    def fitted(self, training: Training) -> Self:
        """With the cuts of the training returns. Raises GateError where classes would be empty."""
        parts = {symbol: return_N for symbol, (return_N, _) in training.items()}
        return replace(self, cuts=fit_cuts(parts, self.shares, self.zero))


@dataclass(frozen=True, kw_only=True)
class VolatilityClasses:
    """Edges at multiples of the causal volatility over the horizon, as known at each anchor.

    With ``shares`` the multiples are those at which return / volatility of the training rows falls into them, per
    symbol; else ``multiples``.
    """

    multiples: Cuts = (-1.5, -0.75, -0.25, 0.0, 0.25, 0.75, 1.5)
    shares: Cuts = ()
    zero: Zero = "above"
    cuts: Mapping[str, Cuts] = field(default_factory=dict)
    sigma: SigmaSpec = DEFAULT

    def __post_init__(self) -> None:
        if not self.shares:
            check_edges("classes.multiples", self.multiples, above=-math.inf)

    @property
    def names(self) -> tuple[str, ...]:
        if self.shares:
            return numbered(len(self.shares), len(self.shares) // 2 if self.zero == "own" else None)
        return names_of(with_zero(self.multiples, self.zero), " sd", self.zero)

    def edges(self, symbol: str, sigma_N: Float64) -> Float64:
        """(N, C - 1) edges in log return; KeyError for a symbol that shares are not fitted to."""
        cuts = self.cuts[symbol] if self.shares else with_zero(self.multiples, self.zero)
        return apart(sigma_N[:, None] * np.asarray(cuts)[None, :], cuts, self.zero)

    def fitted(self, training: Training) -> Self:
        """With the cuts of return / volatility, if it has shares. Raises GateError where classes would be empty."""
        if not self.shares:
            return self
        parts = {symbol: return_N / sigma_N for symbol, (return_N, sigma_N) in training.items()}
        return replace(self, cuts=fit_cuts(parts, self.shares, self.zero))


@dataclass(frozen=True, kw_only=True)
class TripleBarrier:
    """What comes first: ``stop`` below, ``take_profit`` above (in volatilities at the anchor), or the horizon.

    The label ends at the touch, and the edges are the barriers: so the classes of the return over the label,
    [-stop, take_profit) and what lies on either side, are the outcomes. See :mod:`bml.dataset.barriers`.
    """

    take_profit: float = 1.5
    stop: float = 1.5
    sigma: SigmaSpec = DEFAULT

    @property
    def names(self) -> tuple[str, ...]:
        return (f"stop {-self.stop:g} sd", "time-out", f"take-profit {self.take_profit:g} sd")

    def edges(self, symbol: str, sigma_N: Float64) -> Float64:
        """(N, 2) barriers in log return."""
        barriers_N2: Float64 = sigma_N[:, None] * np.array([-self.stop, self.take_profit])[None, :]
        return barriers_N2

    def fitted(self, training: Training) -> Self:
        """Nothing is learnt."""
        return self


ClassScheme = FixedClasses | QuantileClasses | VolatilityClasses | TripleBarrier
METHODS: dict[str, type[ClassScheme]] = {
    "fixed": FixedClasses,
    "quantile": QuantileClasses,
    "volatility_scaled": VolatilityClasses,
    "triple_barrier": TripleBarrier,
}
_SHARES = ("n_classes", "shares")
_KEYS = {
    "fixed": ("edges_pct", "per_symbol", "zero"),
    "quantile": (*_SHARES, "zero"),
    "volatility_scaled": ("multiples", *_SHARES, "zero"),
    "triple_barrier": ("take_profit", "stop"),
}


def record(scheme: ClassScheme) -> dict[str, Any]:
    """The scheme with its method and all its numbers, as JSON has them."""
    method = next(name for name, kind in METHODS.items() if isinstance(scheme, kind))
    document: dict[str, Any] = json.loads(json.dumps({"method": method, **asdict(scheme)}))
    return document


def class_scheme(params: Mapping[str, object] | None = None) -> ClassScheme:
    """The scheme of ``{method: ..., ...}`` (default: volatility_scaled), or a ConfigError.

    fixed: ``edges_pct``, ``per_symbol``. quantile: ``n_classes`` (default 8) or ``shares``. volatility_scaled:
    ``multiples``, ``n_classes`` or ``shares``. triple_barrier: ``take_profit``, ``stop``. All but the last take
    ``zero``: "own" gives exact zeros a class, "above" leaves them to the class they fall into, that above an edge
    at 0. All take ``sigma``, read by :func:`bml.dataset.sigma.sigma_spec`; or ``sigma_half_life_h``, which is short
    for an ewma of one half-life; and ``allow_dead``, which says nothing of the scheme: :func:`allows_dead`.
    """
    given: dict[str, Any] = dict(params or {})
    allows_dead(given)
    given.pop("allow_dead", None)
    method = given.pop("method", "volatility_scaled")
    if not isinstance(method, str) or method not in METHODS:
        raise ConfigError(f"classes.method: {method!r} is not known; there are: {', '.join(METHODS)}")
    _known(given, method)
    if given.get("zero", "above") not in ("above", "own"):
        raise ConfigError(f"classes.zero: {given['zero']!r} is not known; there are: above, own")
    for key in ("take_profit", "stop"):
        if key in given and not (_is_number(given[key]) and 0 < given[key] < math.inf):
            raise ConfigError(f"classes.{key}: expected volatilities above 0, got {given[key]!r}")
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
    return METHODS[method](**_with_shares(_with_sigma(given), method))


def allows_dead(params: Mapping[str, object] | None) -> bool:
    """``allow_dead`` of the parameter ``classes``: whether classes may have next to no training rows."""
    value = (params or {}).get("allow_dead", False)
    if not isinstance(value, bool):
        raise ConfigError(f"classes.allow_dead: expected true or false, got {value!r}")
    return value


def _with_sigma(given: dict[str, Any]) -> dict[str, Any]:
    """``given`` with ``sigma`` or ``sigma_half_life_h`` as a :class:`SigmaSpec`, if either is there."""
    if "sigma" in given and "sigma_half_life_h" in given:
        raise ConfigError("classes: give one of sigma and sigma_half_life_h")
    if "sigma_half_life_h" in given:
        given["sigma"] = ewma(positive("classes.sigma_half_life_h", given.pop("sigma_half_life_h"), 3600.0))
    elif "sigma" in given:
        if not isinstance(given["sigma"], Mapping):
            raise ConfigError(f"classes.sigma: expected a mapping such as {{method: absolute}}, got {given['sigma']!r}")
        given["sigma"] = sigma_spec(given["sigma"])
    return given


def _known(given: Mapping[str, Any], method: str) -> None:
    known = (*_KEYS[method], "sigma", "sigma_half_life_h")
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"
            raise ConfigError(f"classes.{key}: unknown key for method {method!r}; {hint}")
    given_ways = [key for key in ("multiples", *_SHARES) if key in given]
    if len(given_ways) > 1:
        raise ConfigError(f"classes: give one of {' and '.join(given_ways)}")


def _with_shares(given: dict[str, Any], method: str) -> dict[str, Any]:
    """``given`` with ``n_classes`` turned into equal shares, shares checked."""
    if method == "quantile" and not any(key in given for key in _SHARES):
        given["n_classes"] = 9 if given.get("zero") == "own" else 8
    if "n_classes" in given:
        n = given.pop("n_classes")
        if isinstance(n, bool) or not isinstance(n, int) or not 2 <= n <= MAX_CLASSES:
            raise ConfigError(f"classes.n_classes: expected a whole number from 2 to {MAX_CLASSES}, got {n!r}")
        if given.get("zero") == "own" and n % 2 == 0:
            raise ConfigError(f"classes.n_classes: with zero: own, as many classes lie below 0 as above and one at it: "
                              f"take an odd number, not {n}")  # fmt: skip
        return given | {"shares": (1.0 / n,) * n}
    if "shares" in given:
        if given.get("zero") == "own":
            raise ConfigError("classes.shares: do not go with zero: own, which has the share it has; give n_classes")
        shares = _numbers("classes.shares", given["shares"])
        if len(shares) < 2 or min(shares) <= 0 or not math.isclose(sum(shares), 1.0, abs_tol=1e-9):
            raise ConfigError(f"classes.shares: expected at least two shares above 0 that sum to 1, got {list(shares)}")
        given["shares"] = shares
    return given


def _numbers(where: str, value: object) -> tuple[float, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigError(f"{where}: expected a list of numbers, got {value!r}")
    for item in value:
        if not _is_number(item):
            raise ConfigError(f"{where}: {item!r} is not a number")
    return tuple(float(item) for item in value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
