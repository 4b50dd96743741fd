"""Which code runs a kernel: the compiled module (default) or the specification under numba.

``BML_KERNELS=compiled|numba`` chooses once, at import; what cannot be had is an ImportError, never a silent
change of backend. Tests and benchmarks switch in place with :func:`use`, which also offers "spec": the
specification as plain Python, slow and readable. Of the compiled module there are several builds, see ``_isa``.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, ParamSpec, TypeVar

import numpy as np

from bml.kernels import _isa

P = ParamSpec("P")
R = TypeVar("R")
Fn = TypeVar("Fn", bound=Callable[..., Any])

VARIABLE = "BML_KERNELS"
BACKENDS = ("compiled", "numba", "spec")

_runner = ""  # a build of the compiled module, "numba" or "spec"; set at the end of this module
inputs_are_frozen = False  # specifications are Python, which could write to an input
_helpers: list[Callable[..., Any]] = []  # plain functions that specifications call


class Dispatch(Generic[P, R]):
    """A specification that runs, when called, on the backend in use."""

    def __init__(self, spec: Callable[P, R]) -> None:
        self.spec = spec
        self.name = spec.__name__.lstrip("_")
        self._by_runner: dict[str, Callable[P, R]] = {"spec": self._spec}
        functools.update_wrapper(self, spec)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return (self._by_runner.get(_runner) or self._made(_runner))(*args, **kwargs)

    def on(self, backend: str, cpu: str | None = None) -> Callable[P, R]:
        """This kernel on a named backend, and a named build of it."""
        return self._made(_runner_of(backend, cpu))

    def _made(self, runner: str) -> Callable[P, R]:
        if runner not in self._by_runner:
            self._by_runner[runner] = self._jitted() if runner == "numba" else getattr(_isa.load(runner), self.name)
        return self._by_runner[runner]

    def _jitted(self) -> Callable[P, R]:
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
    return _runner if _runner in BACKENDS else "compiled"


def compiled(name: str) -> Callable[..., Any]:
    """A function of the build in use that no single loop specifies."""
    found: Callable[..., Any] = getattr(_isa.load(_runner), name)
    return found


def told() -> str:
    """The backend in use in words, for people: "compiled, v4 of v4, v3, v2"."""
    return _runner if _runner in BACKENDS else f"compiled, {_runner} of {', '.join(_isa.built())}"


@contextmanager
def use(backend: str, cpu: str | None = None) -> Iterator[None]:
    """Run kernels on ``backend`` ("compiled", "numba" or "spec") inside a with block; process-wide, for tests.

    ``cpu`` names the build of the compiled module ("v2", "v3", "v4"); None is the one of every day.
    """
    before = _runner
    _run_on(_runner_of(backend, cpu))
    try:
        yield
    finally:
        _run_on(before)


def _run_on(runner: str) -> None:
    global _runner, inputs_are_frozen
    _runner, inputs_are_frozen = runner, runner in BACKENDS


def _runner_of(backend: str, cpu: str | None = None) -> str:
    if backend not in BACKENDS:
        raise ValueError(f"unknown kernel backend {backend!r}: there are {', '.join(BACKENDS)}")
    if backend == "compiled":
        build = _isa.best() if cpu is None else _isa.checked(cpu)
        _isa.load(build)
        return build
    if cpu is not None:
        raise ValueError(f"backend {backend!r} has no builds: cpu is for 'compiled'")
    if backend == "numba":
        _numba_module()
    return backend


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
    if wanted == "numba" and _isa.VARIABLE in os.environ:
        raise ImportError(
            f"{_isa.VARIABLE} chooses a compiled build, and {VARIABLE}=numba runs none: unset one of them"
        )
    return _runner_of(wanted)


_run_on(_from_environment())
