"""What a function's value can depend on: its own source, the helpers it calls and the constants it reads."""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Fn = Callable[..., Any]

#: packages whose functions are known by name: their versions decide the last digit, not the meaning
_KNOWN = {"math", "numba", "numpy"}


def fingerprint(fn: Fn, *settings: object) -> str:
    """16 hex characters of ``settings``, the source of ``fn`` and all it reaches; comments, layout and docstrings
    apart. Where there is no source (a function typed at a prompt) the byte code stands for it.
    """
    sha = hashlib.sha256(repr(settings).encode())
    sha.update(_source(fn).encode())
    for name, value in reached(fn):
        helper = plain(value)
        sha.update(f"\n{name} = {_constant(value) if helper is None else _source(helper)}".encode())
    return sha.hexdigest()[:16]


def reached(fn: Fn, seen: set[Fn] | None = None) -> Iterator[tuple[str, object]]:
    """Every global, outer variable and attribute of a module that ``fn`` or a helper of it reads, as it is now."""
    seen = {fn} if seen is None else seen
    for name, value in _read(fn):
        yield name, value
        helper = plain(value)
        if helper is not None and helper not in seen:
            seen.add(helper)
            yield from reached(helper, seen)


def plain(value: object) -> Fn | None:
    """The Python function behind a function or what numba made of one; None for anything else, numpy's included."""
    inner = getattr(value, "py_func", value)
    if isinstance(inner, types.FunctionType) and inner.__module__.split(".")[0] not in _KNOWN:
        return inner
    return None


def _read(fn: Fn) -> Iterator[tuple[str, object]]:
    names = sorted(set(names_in(fn.__code__)))
    cells = zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True)
    found = {name: fn.__globals__[name] for name in names if name in fn.__globals__}
    for name, value in sorted((found | {name: cell.cell_contents for name, cell in cells}).items()):
        yield name, value
        if isinstance(value, types.ModuleType) and value.__name__.split(".")[0] not in _KNOWN:
            yield from ((f"{name}.{inner}", getattr(value, inner)) for inner in names if hasattr(value, inner))


def names_in(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from names_in(constant)


def _constant(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype.str} {value.shape} {hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
    if isinstance(value, (bool, int, float, complex, str, tuple, np.generic)):
        return repr(value)
    return str(getattr(value, "__name__", type(value)))


def _source(fn: Fn) -> str:
    try:
        (function,) = ast.parse(textwrap.dedent(inspect.getsource(fn))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return repr((_code(fn.__code__), fn.__defaults__, fn.__kwdefaults__))
    if isinstance(function, ast.FunctionDef):
        function.decorator_list.clear()  # what they say is in `settings`
        if ast.get_docstring(function, clean=False) is not None:
            function.body[:1] = []
    return ast.unparse(function)


def _code(code: types.CodeType) -> tuple[object, ...]:
    constants = [_code(x) if isinstance(x, types.CodeType) else x for x in code.co_consts]
    return (code.co_code, code.co_names, code.co_varnames, constants)
