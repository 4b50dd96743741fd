"""Which code runs a kernel: the compiled module (default) or the specification under numba.

``BML_KERNELS=compiled|numba`` chooses once, at import; what cannot be had is an ImportError, never a silent
change of backend. Tests and benchmarks switch in place with :func:`use`, which also offers "spec": the
specification as plain Python, slow and readable.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
R = TypeVar("R")
Fn = TypeVar("Fn", bound=Callable[..., Any])

VARIABLE = "BML_KERNELS"
BACKENDS = ("compiled", "numba", "spec")

_chosen = ""  # set at the end of this module
_helpers: list[Callable[..., Any]] = []  # plain functions that specifications call


class Dispatch(Generic[P, R]):
    """A specification that runs, when called, on the backend in use."""

    def __init__(self, spec: Callable[P, R]) -> None:
        self.spec = spec
        self.name = spec.__name__.lstrip("_")
        functools.update_wrapper(self, spec)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.on(_chosen)(*args, **kwargs)

    def on(self, backend: str) -> Callable[P, R]:
        """This kernel on a named backend."""
        if backend == "compiled":
            return self._compiled
        return self._numba if backend == "numba" else self._spec

    @functools.cached_property
    def _compiled(self) -> Callable[P, R]:
        found: Callable[P, R] = getattr(_compiled_module(), self.name)
        return found

    @functools.cached_property
    def _numba(self) -> Callable[P, R]:
        numba = _numba_module()
        for helper in _helpers:
            numba.extending.register_jitable(helper)
        _helpers.clear()
        # No cache on disk: processes that start together would race for it.
        jitted: Callable[P, R] = numba.njit(nogil=True, error_model="numpy")(self.spec)
        return jitted

    def _spec(self, *args: P.args, **kwargs: P.kwargs) -> R:
        with np.errstate(all="ignore"):  # as compiled code does
            return self.spec(*args, **kwargs)


def specification(spec: Callable[P, R]) -> Dispatch[P, R]:
    """Mark the loop that defines a kernel: plain Python over arrays, with no syntax numba cannot compile.

    The compiled module has a function of the same name (less the underscore) and arguments.
    """
    return Dispatch(spec)


def helper(fn: Fn) -> Fn:
    """Mark a function that specifications call, so that numba compiles it too."""
    _helpers.append(fn)
    return fn


def current() -> str:
    """The backend in use."""
    return _chosen


@contextmanager
def use(backend: str) -> Iterator[None]:
    """Run kernels on ``backend`` ("compiled", "numba" or "spec") inside a with block; process-wide, for tests."""
    global _chosen
    before, _chosen = _chosen, _available(backend)
    try:
        yield
    finally:
        _chosen = before


def _available(backend: str) -> str:
    if backend not in BACKENDS:
        raise ValueError(f"unknown kernel backend {backend!r}: there are {', '.join(BACKENDS)}")
    if backend == "compiled":
        _compiled_module()
    elif backend == "numba":
        _numba_module()
    return backend


def _compiled_module() -> Any:
    try:
        from bml.kernels import _core
    except ImportError as error:
        raise ImportError(
            f"the compiled module bml.kernels._core cannot be loaded ({error}): build it with  pip install .  or"
            f"  python setup.py build_ext --inplace , or set {VARIABLE}=numba to run without a compiler"
        ) from error
    return _core


def _numba_module() -> Any:
    try:
        import numba
    except ImportError as error:
        raise ImportError(
            f"{VARIABLE}=numba needs the package numba ({error}): run  pip install 'bml[numba]'"
        ) from error
    return numba


def _from_environment() -> str:
    wanted = os.environ.get(VARIABLE, "compiled")
    if wanted not in ("compiled", "numba"):
        raise ImportError(f"{VARIABLE}={wanted!r} is not a kernel backend: use 'compiled' or 'numba', or unset it")
    return _available(wanted)


_chosen = _from_environment()
