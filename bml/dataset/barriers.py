"""Triple barriers: which comes first, the stop, the take-profit or the end of the horizon, and what lay before.

The one loop over paths of this column; imported when it is first needed, for numba's sake.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from bml.dataset.labels import Bools
from bml.types import Float64, Floats, Int64

Touches = tuple[Int64, Float64, Float64, Float64]


@njit(cache=True, nogil=True)
def first_touches(
    mid_T: Float64, valid_T: npt.NDArray[np.bool_], rows_N: Int64, barriers_N2: Float64, steps: int
) -> Touches:
    """How each path of log(mid[s] / mid[row]), s = row + 1 .. row + ``steps``, ends: four arrays (N,).

    ``touch_N`` is the first row below the lower barrier, or at or above the upper one, else the last of the path;
    ``return_N`` the log return there; ``up_N`` and ``down_N`` the largest and the smallest one on the way, 0
    included. Unknown (-1 and NaN) where the path starts on a row that is not valid or meets one before it touches
    (one after the touch does not matter), or where the horizon ends after the data: of those only the quick ones
    would be known. O(N steps).
    """
    n_rows = mid_T.shape[0]
    touch_N = np.full(rows_N.shape[0], -1, np.int64)
    return_N = np.full(rows_N.shape[0], np.nan)
    up_N = np.full(rows_N.shape[0], np.nan)
    down_N = np.full(rows_N.shape[0], np.nan)
    for n in range(rows_N.shape[0]):
        row = rows_N[n]
        if row < 0 or row + steps >= n_rows or not valid_T[row]:
            continue
        lower, upper = barriers_N2[n, 0], barriers_N2[n, 1]
        highest = 0.0
        lowest = 0.0
        for s in range(row + 1, row + steps + 1):
            if not valid_T[s]:
                break
            moved = math.log(mid_T[s] / mid_T[row])
            highest = max(highest, moved)
            lowest = min(lowest, moved)
            if moved < lower or moved >= upper or s == row + steps:
                touch_N[n] = s
                return_N[n] = moved
                up_N[n] = highest
                down_N[n] = lowest
                break
    return touch_N, return_N, up_N, down_N


def outcomes(
    mid_T: Float64, valid_T: Bools, rows_N: Int64, barriers_N2: Float64, sigma_N: Float64, steps: int
) -> dict[str, Floats | Int64]:
    """:func:`first_touches` by name: touch_row_N, return_N, and run_up_N and draw_down_N >= 0 in units of sigma_N.

    The latter are NaN where nothing moved so far (sigma 0): such an anchor is dropped.
    """
    touch_N, return_N, up_N, down_N = first_touches(mid_T, valid_T, rows_N, barriers_N2, steps)
    run_up_N, draw_down_N = (
        np.divide(x_N, sigma_N, out=np.full(sigma_N.shape, np.nan), where=sigma_N > 0) for x_N in (up_N, -down_N)
    )
    return {"touch_row_N": touch_N, "return_N": return_N, "run_up_N": run_up_N, "draw_down_N": draw_down_N}
