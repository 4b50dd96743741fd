"""One function of the pipeline replaced for a while: how constants are held, drops listened to, and leaks planted."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def swapped(module: str, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """``module``'s function ``name`` (``"Class.method"`` too) is ``make(itself)`` until the block ends.

    Raises AttributeError when there is no such function: the pipeline has changed, and the audit must follow it.
    """
    owner: Any = importlib.import_module(module)
    *outer, last = name.split(".")
    for part in outer:
        owner = getattr(owner, part)
    real = getattr(owner, last)
    setattr(owner, last, make(real))
    try:
        yield
    finally:
        setattr(owner, last, real)
