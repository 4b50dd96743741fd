"""bml: tall exchange order-book rows into tensors, calibrated probabilistic models and honest reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bml.kernels.jit import window_feature as window_feature

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "window_feature":  # only when asked for: it imports numpy
        from bml.kernels.jit import window_feature

        return window_feature
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
