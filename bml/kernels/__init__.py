"""Order-book kernels: numpy arrays in, named tuples out; imports numpy and nothing heavier.

``tall_to_wide`` rows to a book, ``resample_grid`` to a common grid, ``depth_profile`` and ``bin_depth`` for depth,
``daily_moments`` and ``merge_moments`` for statistics, ``window_feature`` for kernels of your own. Beside each
function stands its specification, a plain loop that the compiled code equals; ``BML_KERNELS=numba`` runs that loop
under numba where there is no compiler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bml.kernels._bin_depth import Binned, bin_depth
from bml.kernels._daily_moments import Moments, daily_moments, merge_moments
from bml.kernels._depth_profile import depth_profile
from bml.kernels._resample_grid import Resampled, resample_grid
from bml.kernels._tall_to_wide import TallToWide, tall_to_wide

if TYPE_CHECKING:
    from bml.kernels.jit import window_feature

__all__ = [
    "Binned",
    "Moments",
    "Resampled",
    "TallToWide",
    "bin_depth",
    "daily_moments",
    "depth_profile",
    "merge_moments",
    "resample_grid",
    "tall_to_wide",
    "window_feature",
]


def __getattr__(name: str) -> Any:
    if name == "window_feature":  # lazily: few need it, and it is the one kernel without a compiled form
        from bml.kernels.jit import window_feature

        return window_feature
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
