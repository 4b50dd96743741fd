"""Order-book kernels: numpy arrays in, named tuples out; imports numpy and nothing heavier.

``day_tensor`` takes tall rows to depth bins on a grid in one pass, ``day_tensor_of_book`` a book that is placed. Their
parts, each a kernel of its own:
``tall_to_wide`` rows to a book, ``resample_grid`` to a common grid, ``depth_profile``, ``occupied_edges`` and
``bin_depth`` for depth, ``daily_moments`` and ``merge_moments`` for statistics. ``gather_windows`` takes windows out of
many days. ``window_feature`` is for kernels of your own, ``empty`` makes large outputs to be used again. Beside each
function stands its specification, plain Python that the compiled code equals; ``BML_KERNELS=numba`` runs it under numba
where there is no compiler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bml.kernels._bin_depth import Binned, bin_depth
from bml.kernels._daily_moments import Moments, daily_moments, merge_moments
from bml.kernels._day_plan import DayTensor, Mark
from bml.kernels._day_tensor import day_tensor
from bml.kernels._day_tensor_of_book import day_tensor_of_book
from bml.kernels._depth_profile import depth_profile
from bml.kernels._gather_windows import gather_windows
from bml.kernels._memory import empty
from bml.kernels._occupied_edges import occupied_edges
from bml.kernels._resample_grid import Resampled, resample_grid
from bml.kernels._tall_to_wide import TallToWide, tall_to_wide

if TYPE_CHECKING:
    from bml.kernels.jit import window_feature

__all__ = [
    "Binned",
    "DayTensor",
    "Mark",
    "Moments",
    "Resampled",
    "TallToWide",
    "bin_depth",
    "daily_moments",
    "day_tensor",
    "day_tensor_of_book",
    "depth_profile",
    "empty",
    "gather_windows",
    "merge_moments",
    "occupied_edges",
    "resample_grid",
    "tall_to_wide",
    "window_feature",
]


def __getattr__(name: str) -> Any:
    if name == "window_feature":  # lazily: few need it, and it is the one kernel without a compiled form
        from bml.kernels.jit import window_feature

        return window_feature
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
