"""Which build of the compiled kernels is loaded: one module for each instruction set, all of one source.

The processor decides (the fastest build it runs); ``BML_CPU=v2|v3|v4`` decides against it, for tests. What cannot
be had is an ImportError. On x86-64 there are v2, v3 and v4, the psABI levels; elsewhere there is one build, "base".
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from types import ModuleType

VARIABLE = "BML_CPU"
BUILDS = ("v4", "v3", "v2", "base")

_HELP = "build it with  pip install .  or  python setup.py build_ext --inplace"
_ELSE = " , or set BML_KERNELS=numba to run without a compiler"


def built() -> list[str]:
    """The builds that are installed, the fastest first."""
    return [cpu for cpu in BUILDS if importlib.util.find_spec(f"bml.kernels._core_{cpu}") is not None]


def runnable() -> list[str]:
    """The installed builds that this processor runs, the fastest first."""
    runs: tuple[str, ...] = _module("bml.kernels._cpu").RUNS
    return [cpu for cpu in built() if cpu in runs]


@functools.cache
def best() -> str:
    """The build in use unless a test asks for another: that of ``BML_CPU``, else the fastest that runs."""
    wanted = os.environ.get(VARIABLE)
    if wanted is not None:
        return checked(wanted)
    found = runnable()
    if not found:
        raise ImportError(f"{_none(built())}: {_HELP}{_ELSE}")
    return found[0]


def checked(cpu: str) -> str:
    """``cpu``, if it is installed and runs here; else an ImportError that says which of the two fails."""
    if cpu not in runnable():
        raise ImportError(f"{VARIABLE}={cpu!r}: {_why_not(cpu)}; here {' or '.join(runnable()) or 'none'} can be had")
    return cpu


@functools.cache
def load(cpu: str) -> ModuleType:
    """The module of one build."""
    return _module(f"bml.kernels._core_{cpu}")


def _why_not(cpu: str) -> str:
    if cpu not in BUILDS:
        return "there is no such build of the kernels"
    return "this build is not installed" if cpu not in built() else "this processor cannot run it"


def _none(found: list[str]) -> str:
    if not found:
        return "the compiled module bml.kernels._core_* is not there"
    return f"this processor cannot run the compiled kernels that are there ({', '.join(found)})"


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"the compiled module {name} cannot be loaded ({error}): {_HELP}{_ELSE}") from error
