"""Mergeable moments of many columns."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bml.kernels import _arrays
from bml.kernels._backend import specification
from bml.types import Float64, Floats, Int64

_BLOCK = 256  # rows that share a shift; part of the result's definition, as in power_sums.hpp


class Moments(NamedTuple):
    """State of V columns: what :func:`daily_moments` returns and :func:`merge_moments` adds up."""

    count_V: Int64  # values that are not NaN
    mean_V: Float64  # 0 where count is 0
    m2_V: Float64  # sum of squared differences from the mean
    m3_V: Float64  # ... to the third power
    m4_V: Float64  # ... to the fourth
    total_V: Float64  # plain sum

    def stats(self, min_count: int = 2) -> Float64:
        """(6, V) float64, rows as ``bml.types.STATS``: mean, std, skew, kurtosis, total, count.

        std has ddof=0, skew and excess kurtosis are biased (scipy.stats with bias=True). Columns with fewer than
        ``min_count`` values have NaN mean, std, skew and kurtosis; constant ones have NaN skew and kurtosis.
        Raises ValueError when min_count < 1. Cost: O(V).
        """
        least = _arrays.integer("Moments.stats", "min_count", min_count, least=1)
        n = self.count_V.astype(np.float64)
        with np.errstate(all="ignore"):
            spread = np.where(self.m2_V > 0, self.m2_V, np.where(self.m2_V == 0, np.nan, self.m2_V))
            std = np.sqrt(self.m2_V / n)
            skew = np.sqrt(n) * (self.m3_V / spread) / np.sqrt(spread)
            kurtosis = n * (self.m4_V / spread) / spread - 3.0
            shape = np.stack([self.mean_V, std, skew, kurtosis])
        shape[:, self.count_V < least] = np.nan
        shape[2:][~np.isfinite(shape[2:])] = np.nan
        return np.vstack([shape, self.total_V, n])


def daily_moments(x_TV: Floats, *, threads: int | None = None) -> Moments:
    """Count, mean, central sums and total of every column of ``x_TV``, as a state that merges.

    x_TV    float64 or float32 (T, V); units are those of x
    threads how many work on it; None: BML_NUM_THREADS, else 1. The result does not depend on it
    NaN     is missing and skipped; infinite values propagate (mean and total infinite, or NaN; m2, m3, m4 NaN)
    digits  blocks of 256 rows are shifted by their first value of the column, summed to the fourth power and merged,
            all in float64: prices of 1e5 with ticks of 1e-2 keep their spread, a constant column has
            m2 = m3 = m4 = 0 exactly. At the worst the error of a day's m2 is 1e-10 of it, those of m3 and m4 are
            1e-9 of the sum of |x - mean|^3 and ^4, whatever the mean; that of the mean is 1e-13 of the largest |x|,
            and that of the total as much for each value. Values beyond 1e70 may overflow
    raises  TypeError (dtype, byte order, not an array); ValueError (not 2-D)
    cost    one read of x, 48 bytes a column. Releases the GIL
    source  Pebay, SAND2008-6212
    """
    where = "daily_moments"
    x = _arrays.plain(where, "x_TV", x_TV, _arrays.FLOATS, 2)
    columns = x.shape[1]
    state = Moments(np.empty(columns, np.int64), *(np.empty(columns) for _ in range(5)))
    _daily_moments(x, *state, _arrays.threads(where, threads))
    return state


def merge_moments(a: Moments, b: Moments) -> Moments:
    """The moments of the rows of ``a`` and ``b`` together; ValueError when their columns differ in number. O(V)."""
    if a.count_V.shape != b.count_V.shape:
        raise ValueError(f"merge_moments: a has {len(a.count_V)} columns, b has {len(b.count_V)}")
    na, nb = a.count_V.astype(np.float64), b.count_V.astype(np.float64)
    with np.errstate(all="ignore"):
        n = np.maximum(na + nb, 1.0)
        delta = b.mean_V - a.mean_V
        step = delta / n
        spread = delta * step * na * nb
        m4 = a.m4_V + b.m4_V + spread * step**2 * (na * na - na * nb + nb * nb)
        m4 += 6 * step**2 * (na * na * b.m2_V + nb * nb * a.m2_V) + 4 * step * (na * b.m3_V - nb * a.m3_V)
        m3 = a.m3_V + b.m3_V + spread * step * (na - nb) + 3 * step * (na * b.m2_V - nb * a.m2_V)
        m2 = a.m2_V + b.m2_V + spread
        total = a.total_V + b.total_V
        mean = np.where(np.isfinite(total), a.mean_V + step * nb, total / n)
    merged = Moments(a.count_V + b.count_V, mean, m2, m3, m4, total)
    return Moments(*(np.where(na == 0, y, np.where(nb == 0, x, m)) for x, y, m in zip(a, b, merged, strict=True)))


@specification
def _daily_moments(
    x_TV: Floats, count_V: Int64, mean_V: Float64, m2_V: Float64, m3_V: Float64, m4_V: Float64, total_V: Float64,
    threads: int,
) -> None:  # fmt: skip
    times, columns = x_TV.shape
    for v in range(columns):
        n, base, total = 0.0, 0.0, 0.0
        mean, m2, m3, m4 = 0.0, 0.0, 0.0, 0.0  # the mean counted from ``base``
        for start in range(0, times, _BLOCK):
            nb, shift, s1, s2, s3, s4 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            for t in range(start, min(start + _BLOCK, times)):
                value = np.float64(x_TV[t, v])
                if value == value:
                    if nb == 0:
                        shift = value if math.isfinite(value) else 0.0
                    off = value - shift
                    square = off * off
                    nb += 1.0
                    s1 += off
                    s2 += square
                    s3 += square * off
                    s4 += square * square
            if nb == 0:
                continue
            if n == 0:
                base = shift
            mu = s1 / nb
            mu2 = mu * mu
            m2_b = s2 - mu * s1
            m3_b = s3 - 3 * mu * s2 + 2 * mu2 * s1
            m4_b = s4 - 4 * mu * s3 + 6 * mu2 * s2 - 3 * mu2 * mu * s1
            m2_b = 0.0 if m2_b < 0 else m2_b  # rounding of the very smallest
            m4_b = 0.0 if m4_b < 0 else m4_b
            both = n + nb
            delta = shift - base + mu - mean
            step = delta / both
            step2 = step * step
            spread = delta * step * n * nb
            m4 += (m4_b + spread * step2 * (n * n - n * nb + nb * nb)
                   + 6 * step2 * (n * n * m2_b + nb * nb * m2) + 4 * step * (n * m3_b - nb * m3))  # fmt: skip
            m3 += m3_b + spread * step * (n - nb) + 3 * step * (n * m2_b - nb * m2)
            m2 += m2_b + spread
            mean += step * nb
            n = both
            total += nb * shift + s1
        count_V[v] = int(n)
        mean_V[v] = base + mean if n == 0 or math.isfinite(total) else total / n
        m2_V[v], m3_V[v], m4_V[v], total_V[v] = m2, m3, m4, total
