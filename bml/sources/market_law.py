"""The exact law of the synthetic market's future returns, in closed form.

Given the state at step t, the log return R over the next h steps is a finite mixture of normals:

    mean      = drift G(h) (own p[t] + lead p_ref[t]),             G(n) = (1 - phi^n) / (1 - phi)
    variance  = drift^2 (1 - phi^2) sum_{n=1}^{h-1} G(n)^2 + (h - v) sigma[0]^2 + v sigma[1]^2
    weight    = P(v of the regimes r[t], ..., r[t+h-1] are volatile | r[t])

The first variance term is what the pressures' own innovations inside the horizon add: the innovation at
t+i moves the sum of later pressures by G(h - i), and the squared weights own^2 + lead^2 are 1. Nothing older
than t matters: pressures and regime are Markov, the noise is independent in time.

The mixture's distribution function depends on the sample only through x = edge - mean and the regime, so it
is tabulated once per horizon with its first two derivatives and interpolated by quintic Hermite polynomials.
Absolute error of every probability: below 1e-12.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bml.sources.market import Dynamics
from bml.types import Float64

#: beyond this many standard deviations a normal tail (1e-19) counts as 0
_REACH = 9.0
#: nodes per standard deviation of the table of the normal distribution function, and of the mixtures' tables
_NORMAL_NODES, _MIXTURE_NODES = 64, 40
#: weights of the mixture below this are left out
_NEGLIGIBLE = 1e-18


@dataclass(frozen=True, slots=True)
class Curve:
    """A distribution function on equidistant nodes: values and two derivatives, quintic Hermite in between."""

    start: float
    step: float
    value_K: Float64
    slope_K: Float64  # times step
    bend_K: Float64  # times step^2

    def __call__(self, x: Float64) -> Float64:
        """Value at ``x``, any shape; the outermost values beyond the nodes, so that +-inf are welcome."""
        position = np.clip((x - self.start) / self.step, 0.0, float(len(self.value_K) - 1))
        k = np.minimum(position.astype(np.intp), len(self.value_K) - 2)
        u = position - k
        v0, s0, b0 = self.value_K[k], self.slope_K[k], self.bend_K[k]
        # the coefficients of u^3, u^4, u^5 that meet the next node's value and derivatives
        value = self.value_K[k + 1] - v0 - s0 - 0.5 * b0
        slope = self.slope_K[k + 1] - s0 - b0
        bend = self.bend_K[k + 1] - b0
        c3 = 10.0 * value - 4.0 * slope + 0.5 * bend
        c4 = -15.0 * value + 7.0 * slope - bend
        c5 = 6.0 * value - 3.0 * slope + 0.5 * bend
        return np.asarray(v0 + u * (s0 + u * (0.5 * b0 + u * (c3 + u * (c4 + u * c5)))))


def _normal_curve() -> Curve:
    nodes_K = np.arange(-_REACH * _NORMAL_NODES, _REACH * _NORMAL_NODES + 1) / _NORMAL_NODES
    value_K = np.array([0.5 * math.erfc(-x / math.sqrt(2.0)) for x in nodes_K.tolist()])
    density_K = np.exp(-0.5 * nodes_K**2) / math.sqrt(2.0 * math.pi)
    step = 1.0 / _NORMAL_NODES
    return Curve(-_REACH, step, value_K, step * density_K, -(step**2) * nodes_K * density_K)


_NORMAL = _normal_curve()


def normal_cdf(x: Float64) -> Float64:
    """The standard normal distribution function, any shape, absolute error below 1e-14; +-inf give 0 and 1."""
    return _NORMAL(x)


def occupation(dynamics: Dynamics, horizon: int) -> Float64:
    """P(v of the next ``horizon`` regimes, the present one included, are volatile | present regime): (2, h+1)."""
    stay = (1.0 - dynamics.rise, 1.0 - dynamics.fall)
    # weight_RV[r, v] = P(v volatile among n steps | the first of them has regime r), built up from n = 0
    weight_RV = np.zeros((2, horizon + 1))
    weight_RV[:, 0] = 1.0
    for _ in range(horizon):
        calm_V = stay[0] * weight_RV[0] + dynamics.rise * weight_RV[1]
        volatile_V = stay[1] * weight_RV[1] + dynamics.fall * weight_RV[0]
        weight_RV[0] = calm_V
        weight_RV[1, 0] = 0.0
        weight_RV[1, 1:] = volatile_V[:-1]
    return weight_RV


@dataclass(frozen=True, kw_only=True, slots=True)
class Law:
    """The law of the log return over one horizon, for every state; see :func:`law`."""

    gain: float  # mean return per unit of (own p + lead p_ref)
    curves: tuple[Curve, Curve]  # P(R - mean <= x) per present regime

    def cdf(self, signal_N: Float64, regime_N: npt.NDArray[np.uint8], edges_NE: Float64) -> Float64:
        """P(R <= edge): (N, E), with ``signal_N`` = own p + lead p_ref and edges in log return."""
        x_NE = edges_NE - self.gain * signal_N[:, None]
        out_NE = np.empty_like(x_NE)
        for regime, curve in enumerate(self.curves):
            is_here_N = regime_N == regime
            out_NE[is_here_N] = curve(x_NE[is_here_N])
        return out_NE

    def class_probabilities(self, signal_N: Float64, regime_N: npt.NDArray[np.uint8], edges_NE: Float64) -> Float64:
        """P(edge e <= R < edge e+1) for the E + 1 classes: (N, E + 1), rows sum to 1; edges must not fall."""
        cdf_NE = self.cdf(signal_N, regime_N, edges_NE)
        proba_NC = np.diff(cdf_NE, axis=1, prepend=0.0, append=1.0)
        np.maximum(proba_NC, 0.0, out=proba_NC)  # interpolation may fall by some 1e-16 in the tails
        return np.asarray(proba_NC / proba_NC.sum(axis=1, keepdims=True))


def law(dynamics: Dynamics, horizon: int) -> Law:
    """The law of R over ``horizon`` >= 1 steps. Cost: tens of milliseconds at 180 steps."""
    phi = dynamics.phi
    gains_H = (1.0 - phi ** np.arange(horizon + 1)) / (1.0 - phi)
    surprise = dynamics.drift**2 * (1.0 - phi**2) * float(np.sum(gains_H[1:horizon] ** 2))
    volatile_V = np.arange(horizon + 1)
    calm, volatile = (sigma**2 for sigma in dynamics.sigma)
    scale_V = np.sqrt(surprise + (horizon - volatile_V) * calm + volatile_V * volatile)
    curves = [_mixture_curve(weight_V, scale_V) for weight_V in occupation(dynamics, horizon)]
    return Law(gain=dynamics.drift * float(gains_H[horizon]), curves=(curves[0], curves[1]))


def _mixture_curve(weight_V: Float64, scale_V: Float64) -> Curve:
    """The distribution function of a centred normal mixture, tabulated out to where it is 0 and 1."""
    is_kept_V = weight_V > _NEGLIGIBLE
    weight_V, scale_V = weight_V[is_kept_V] / weight_V[is_kept_V].sum(), scale_V[is_kept_V]
    step = float(scale_V.min()) / _MIXTURE_NODES
    half = math.ceil(_REACH * float(scale_V.max()) / step)
    nodes_K = np.arange(-half, half + 1) * step
    value_K, slope_K, bend_K = (np.zeros(len(nodes_K)) for _ in range(3))
    for weight, scale in zip(weight_V.tolist(), scale_V.tolist(), strict=True):
        z_K = nodes_K / scale
        density_K = np.exp(-0.5 * z_K**2) * (weight / (scale * math.sqrt(2.0 * math.pi)))
        value_K += weight * normal_cdf(z_K)
        slope_K += density_K
        bend_K -= density_K * z_K / scale
    return Curve(-half * step, step, value_K, step * slope_K, step**2 * bend_K)
