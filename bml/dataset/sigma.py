"""Causal volatility with a finite look-back: what returns up to now say about the size of the next ones.

``absolute`` (the default) averages the mean absolute return of the last 1, 4 and 24 h. One crash enters a mean of
absolute returns once, a mean of squares with its square: of real 15 min candles the latter holds class shares over
months two to three times worse (docs/classes.md has the table). Returns are measured over 15 min, not over one row: of
a quote that waits for a whole tick, the mean absolute return over seconds counts ticks, which come with the variance.

``ewma`` is the root of an exponentially weighted mean of squared returns, cut off after ``TAIL`` half-lives.

Both are sums over windows of rows, each taken from the suffix of one block and the prefix of the next, so that no
value older than the window has touched them, not even by rounding.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt

from bml.types import MAX_DAYS, NS_PER_S, ConfigError, Float64

Bools = npt.NDArray[np.bool_]
Method = Literal["absolute", "ewma"]

#: full weight of returns below which a window is not used (or half of what it can hold)
MIN_RETURNS = 100.0
#: half-lives after which an ewma is cut off: 0.8 % of its weight is older
TAIL = 7

_HOURS_KEY: dict[str, str] = {"absolute": "windows_h", "ewma": "half_lives_h"}


class SigmaParams(TypedDict, total=False):
    """The parameter ``classes.sigma`` of a configuration; which keys go together: :func:`sigma_spec`."""

    method: Method
    windows_h: list[float]
    half_lives_h: list[float]
    span_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SigmaSpec:
    """``hours``: lengths of the windows, or half-lives of ``ewma``; each return is over ``span_s``, or one row."""

    method: Method = "absolute"
    hours: tuple[float, ...] = (1.0, 4.0, 24.0)
    span_s: float = 900.0


DEFAULT = SigmaSpec()


def ewma(*half_lives_h: float) -> SigmaSpec:
    """Of one-row returns; the variances of several half-lives are averaged."""
    return SigmaSpec(method="ewma", hours=half_lives_h, span_s=0.0)


def sigma_spec(params: Mapping[str, object] | None = None) -> SigmaSpec:
    """Read ``{method: absolute, windows_h: [1, 4, 24], span_s: 900}`` or ``{method: ewma, half_lives_h: [24]}``.

    Raises ConfigError on an unknown key or method, and on a number that is not positive or beyond MAX_DAYS.
    """
    given: dict[str, Any] = dict(params or {})
    method = given.pop("method", "absolute")
    if not isinstance(method, str) or method not in _HOURS_KEY:
        raise ConfigError(f"classes.sigma.method: {method!r} is not known; there are: {', '.join(_HOURS_KEY)}")
    default = DEFAULT if method == "absolute" else ewma(24.0)
    known = (_HOURS_KEY[method], "span_s")
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"
            raise ConfigError(f"classes.sigma.{key}: unknown key for method {method!r}; {hint}")
    hours = given.get(known[0], default.hours)
    if isinstance(hours, str) or not isinstance(hours, Sequence) or not hours:
        raise ConfigError(f"classes.sigma.{known[0]}: expected a list of hours, got {hours!r}")
    return SigmaSpec(
        method=default.method,
        hours=tuple(positive(f"classes.sigma.{known[0]}", item, 3600.0) for item in hours),
        span_s=positive("classes.sigma.span_s", given["span_s"], 1.0) if "span_s" in given else default.span_s,
    )


def positive(where: str, value: object, unit_s: float) -> float:
    """A duration in units of ``unit_s`` as a float, or a ConfigError."""
    most = MAX_DAYS * 86_400 / unit_s
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
        raise ConfigError(f"{where}: expected a number above 0, up to {most:.0f}, got {value!r}")
    return float(value)


def lookback_ns(spec: SigmaSpec, cadence_ns: int = 0) -> int:
    """A sigma at t depends on no mid dated at or before t - this, on a grid of that cadence.

    Without a cadence: on a grid whose rows are no longer than the span, or than the longest window of one-row returns.
    """
    tail = TAIL if spec.method == "ewma" else 1
    longest_ns = round(max(spec.hours) * tail * 3600 * NS_PER_S)
    return max(longest_ns, cadence_ns) + max(round(spec.span_s * NS_PER_S), cadence_ns)


def causal_sigma(mid_T: Float64, valid_T: Bools, spec: SigmaSpec, *, cadence_ns: int, steps: int = 1) -> Float64:
    """Volatility of the log return over ``steps`` rows, known at each row, (T,) float64.

    The standard deviation a Gaussian return would have, scaled by the root of time from the span to ``steps`` rows.
    A return is that over the span up to a row of the window, and counts if both its rows are valid. Means over the
    windows are averaged with equal weight, of squares for ``ewma``. A window of less full weight than
    ``MIN_RETURNS``, or than half of what it can hold if that is less, is left out; NaN where the longest is. Spans
    and windows are rounded down to rows, at least one. O(T) a window. Raises ValueError if ``steps`` is below 1.
    """
    if steps < 1:
        raise ValueError(f"causal_sigma: steps must be at least 1, got {steps}")
    span = max(1, int(spec.span_s * NS_PER_S) // cadence_ns)
    power = 2 if spec.method == "ewma" else 1
    size_T, known_T = _sizes(mid_T, valid_T, span, power)
    total_T, used_T = np.zeros(mid_T.shape), np.zeros(mid_T.shape)
    enough_T = np.zeros(mid_T.shape, dtype=np.bool_)
    for hours in sorted(spec.hours):
        width, decay = _window(spec.method, hours, cadence_ns)
        weight_T = window_sum(known_T, width, decay)
        full = width if decay == 1.0 else (1.0 - decay**width) / (1.0 - decay)
        least = min(MIN_RETURNS, 0.5 * full)
        enough_T = weight_T >= least  # of the longest in the end
        total_T += np.divide(window_sum(size_T, width, decay), weight_T, out=np.zeros(mid_T.shape), where=enough_T)
        used_T += enough_T
    mean_T = np.divide(total_T, used_T, out=np.full(mid_T.shape, np.nan), where=enough_T)
    sigma_T: Float64 = np.sqrt(mean_T) if power == 2 else math.sqrt(math.pi / 2) * mean_T
    sigma_T *= math.sqrt(steps / span)
    return sigma_T


def window_sum(values_T: Float64, width: int, decay: float = 1.0) -> Float64:
    """sum over 0 <= k < width of decay^k values[t - k], (T,); of fewer terms at the start. O(T).

    Depends on those values alone, to the last bit. decay^width must not underflow.
    """
    width = max(1, min(width, values_T.shape[0]))
    weight_W = decay ** np.arange(width)  # by age
    n_blocks = -(-values_T.shape[0] // width)
    values_NW = np.zeros((n_blocks, width))
    values_NW.reshape(-1)[: values_T.shape[0]] = values_T
    sum_NW = np.cumsum(values_NW / weight_W, axis=1) * weight_W
    tail_NW = np.cumsum((values_NW * weight_W[::-1])[:, ::-1], axis=1)[:, ::-1]
    sum_NW[1:, :-1] += decay * weight_W[:-1] * tail_NW[:-1, 1:]
    sum_T: Float64 = sum_NW.reshape(-1)[: values_T.shape[0]]
    return sum_T


def _window(method: Method, hours: float, cadence_ns: int) -> tuple[int, float]:
    """Rows of a window, and the weight a return loses per row."""
    rows = hours * 3600 * NS_PER_S / cadence_ns
    if method == "absolute":
        return max(1, math.floor(rows + 1e-9)), 1.0
    return max(1, math.floor(TAIL * rows + 1e-9)), 0.5 ** (1.0 / rows)


def _sizes(mid_T: Float64, valid_T: Bools, span: int, power: int) -> tuple[Float64, Float64]:
    """|log return| over ``span`` rows to the power, 0 where a row is not valid; and 1 where both are, else 0."""
    size_T, known_T = np.zeros(mid_T.shape), np.zeros(mid_T.shape)
    both = valid_T[span:] & valid_T[:-span]
    price = np.where(both, mid_T[span:], 1.0) / np.where(both, mid_T[:-span], 1.0)
    size_T[span:] = np.abs(np.log(price)) ** power
    known_T[span:] = both
    return size_T, known_T
