"""The one loop of this column that cannot be vectorised; imported when it is first needed, for numba's sake."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from bml.types import Float64


@njit(cache=True, nogil=True)
def ewma_sigma(mid_T: Float64, valid_T: npt.NDArray[np.bool_], decay: float, min_count: float) -> Float64:
    """Root of the exponentially weighted mean of squared log returns; see :func:`bml.dataset.labels.causal_sigma`."""
    sigma_T = np.full(mid_T.shape[0], np.nan)
    total = 0.0
    weight = 0.0
    for t in range(1, mid_T.shape[0]):
        total *= decay
        weight *= decay
        if valid_T[t] and valid_T[t - 1]:
            step = math.log(mid_T[t] / mid_T[t - 1])
            total += step * step
            weight += 1.0
        if weight >= min_count:
            sigma_T[t] = math.sqrt(total / weight)
    return sigma_T
