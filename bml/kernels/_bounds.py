"""What a window feature may call, so that no read can leave its window, and words for what is wrong with one."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bml.kernels._fingerprint import names_in, plain, reached

Fn = Callable[..., Any]

_SAFE = """
all amax amin any arange argmax argmin argsort argwhere array array_equal asarray astype atleast_1d average clip
column_stack concatenate copy corrcoef count_nonzero cov cumprod cumsum diff dot expand_dims flip full full_like
histogram hstack imag interp isclose linalg linspace max mean median min nan_to_num nanargmax nanargmin nancumprod
nancumsum nanmax nanmean nanmedian nanmin nanpercentile nanprod nanquantile nanstd nansum nanvar ndenumerate ndim
ndindex nonzero ones ones_like outer percentile prod ptp quantile ravel real repeat reshape roll round searchsorted
shape size sort squeeze stack std sum swapaxes take transpose trapezoid unique var vdot vstack where zeros zeros_like
"""

#: functions of numpy, beside its ufuncs and types, that read nothing outside of the arrays they are given; others, such
#: as take_along_axis and as_strided, read what they are told to, unchecked even under boundscheck=True
SAFE = frozenset(_SAFE.split())

#: attributes of an array that lead around the checks
_UNSAFE = ("ctypes", "flat")
_WAY_AROUND = object()


def refuse_unchecked(fn: Fn) -> None:
    """Raise TypeError if ``fn`` or a helper of it uses what could read beyond its window."""
    for name, value in _used(fn):
        options = getattr(value, "targetoptions", None)
        if isinstance(options, dict) and not options.get("boundscheck"):
            told = "decorate it with numba.njit(boundscheck=True)"
        elif not _is_safe(value):
            told = "use a loop or an index, which are checked"
        else:
            continue
        raise TypeError(f"{place(fn)}: {name} could read beyond its window: {told}")


def _used(fn: Fn) -> Iterator[tuple[str, object]]:
    """What :func:`reached` gives, the functions of numpy by name, and what is unsafe of arrays."""
    found = list(reached(fn))
    yield from found
    functions = [fn, *(helper for _, value in found if (helper := plain(value)) is not None)]
    names = sorted({name for function in functions for name in names_in(function.__code__)})
    yield from ((f".{name}", _WAY_AROUND) for name in names if name in _UNSAFE)
    if any(value is np for _, value in found):
        yield from ((f"numpy.{name}", getattr(np, name)) for name in names if hasattr(np, name))


def _is_safe(value: object) -> bool:
    if isinstance(value, types.ModuleType):
        package = value.__name__.split(".")[0]
        return package != "numba" and (package != "numpy" or value in (np, np.linalg))
    if callable(value) and not isinstance(value, (type, np.ufunc)) and plain(value) is None:
        home = str(getattr(value, "__module__", ""))
        return home == "math" or (home.split(".")[0] == "numpy" and getattr(value, "__name__", "") in SAFE)
    return value is not _WAY_AROUND


def place(fn: Fn, error: Exception | None = None) -> str:
    """Which function, in which file, at which line; the one ``error`` speaks of, if it names one."""
    code = fn.__code__
    name = Path(code.co_filename).name
    lines = re.findall(rf'File "[^"]*{re.escape(name)}", line (\d+)', str(error)) if error else []
    return f"window_feature {fn.__name__} ({name}:{lines[-1] if lines else code.co_firstlineno})"


def reason(error: Exception) -> str:
    """The line of numba's many that says what is wrong."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines()]
    raised = [line.split("Error: ", 1)[1] for line in lines if re.match(r"\w*Error: ", line)]
    if raised:
        return f"{raised[-1]} (a feature may not change its input)" if "readonly" in raised[-1] else raised[-1]
    calls = [line[4:] for line in lines if line.startswith(">>> ")]
    if calls:
        return f"it knows no {calls[-1]}"
    told = [line for line in lines if line and not line.startswith("Failed in nopython")]
    return told[0] if told else type(error).__name__
