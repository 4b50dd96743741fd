"""Temperature scaling: one number that makes probabilities as confident as they deserve, the order kept."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from bml.types import Float64, GateError, Int64

#: the search range; a T at an end says that the logits carry no information (high) or are never wrong (low)
T_MIN, T_MAX = 0.05, 20.0
#: fewer rows than this do not determine a temperature
MIN_ROWS = 50
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Temperature:
    """Divide logits by ``T``. NLLs are those of the ``n`` rows it was fitted on, in nats."""

    T: float
    nll_before: float
    nll_after: float
    n: int
    at_bound: bool  # the best T lies at T_MIN or T_MAX: do not trust it

    def apply(self, logits_NC: Float64) -> Float64:
        """(N, C) probabilities; the likeliest class stays the same."""
        return np.exp(log_softmax(logits_NC / self.T))

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        return cls(**value)


def fit_temperature(logits_NC: Float64, y_N: Int64) -> Temperature:
    """The temperature with the lowest NLL on these rows: pass the calibrate block, no other.

    The NLL is convex in 1/T, so golden-section search in log T over [T_MIN, T_MAX] finds the minimum, to
    1e-6. Raises GateError below ``MIN_ROWS`` rows, ValueError on logits that are not finite.
    """
    if y_N.shape[0] < MIN_ROWS:
        raise GateError(
            f"calibration: {y_N.shape[0]} rows of the calibrate block to fit on (of its first half while the test is "
            f"sealed), {MIN_ROWS} are needed for a temperature: widen the block or set calibration: none"
        )
    if not np.isfinite(logits_NC).all():
        raise ValueError("fit_temperature: logits must be finite")

    def loss(log_t: float) -> float:
        return mean_nll(logits_NC * math.exp(-log_t), y_N)

    low, high = math.log(T_MIN), math.log(T_MAX)
    best = _minimise(loss, low, high, 1e-6)
    at_bound = min(best - low, high - best) < 1e-3
    t = math.exp(best)
    before, after = loss(0.0), loss(best)
    if after >= before:  # flat: logits of no information are best left alone
        t, after, at_bound = 1.0, before, False
    return Temperature(T=t, nll_before=before, nll_after=after, n=int(y_N.shape[0]), at_bound=at_bound)


def log_softmax(logits_NC: Float64) -> Float64:
    shifted_NC = logits_NC - logits_NC.max(axis=1, keepdims=True)
    out_NC: Float64 = shifted_NC - np.log(np.exp(shifted_NC).sum(axis=1, keepdims=True))
    return out_NC


def mean_nll(logits_NC: Float64, y_N: Int64) -> float:
    """Mean -log softmax(logits)[y] in nats, unclipped."""
    return float(-log_softmax(logits_NC)[np.arange(y_N.shape[0]), y_N].mean())


def _minimise(loss: Any, low: float, high: float, tolerance: float) -> float:
    """Golden-section search for the minimum of a function with one valley."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > tolerance:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = loss(right)
    return 0.5 * (low + high)
