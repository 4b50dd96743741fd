"""The parameters a function takes from YAML, read off its signature: no second schema to keep.

A parameter comes from YAML when it is keyword-only, annotated, and not injected by the caller (see
:data:`INJECTED`, or the function's attribute ``__bml_injected__``, a set of further names).
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typing_extensions
from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, create_model

from bml.types import ConfigError

#: names that never come from YAML: the pipeline passes them
INJECTED = frozenset(
    [
        "data",
        "cfg",
        "store",
        "ctx",
        "obj",
        "day",
        "rows",
        "dataset",
        "checkpoint",
        "out",
        "truth",
        "on_epoch",
        "progress",
    ]
)

_CONFIG = ConfigDict(
    extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True, protected_namespaces=(), title=""
)


def accepts(fn: Callable[..., Any], name: str) -> bool:
    """Whether ``fn`` has a parameter called ``name``, of any kind."""
    return name in inspect.signature(fn).parameters


def yaml_parameters(fn: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of ``fn`` that come from YAML, in the order of the signature."""
    injected = INJECTED | set(getattr(fn, "__bml_injected__", ()))
    return {
        name: parameter
        for name, parameter in inspect.signature(fn).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name not in injected
    }


@functools.cache
def parameter_model(fn: Callable[..., Any]) -> type[BaseModel]:
    """A pydantic model of the YAML parameters of ``fn``: strict, extra keys forbidden, deeply for dataclasses.

    Field names are prefixed (``f_x``, alias ``x``), because a parameter may be called ``copy`` or ``schema``.
    Raises ConfigError when an annotation cannot be checked: the function is at fault, not the file.
    """
    parameters = yaml_parameters(fn)
    hints = _hints(fn, parameters)
    fields: dict[str, Any] = {}
    for name, parameter in parameters.items():
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[f"f_{name}"] = (_portable(hints.get(name, Any)), Field(default, alias=name))
    try:
        return create_model(f"{fn.__name__} parameters", __config__=_CONFIG, **fields)
    except PydanticUserError as error:
        where = f"{fn.__module__}.{fn.__qualname__}"
        raise ConfigError(f"{where}: a parameter's annotation cannot be checked ({error.message})") from error


def values(model: BaseModel) -> dict[str, Any]:
    """Parameter name -> validated Python value, defaults included."""
    return {field.alias or name: getattr(model, name) for name, field in type(model).model_fields.items()}


def document(model: BaseModel) -> dict[str, Any]:
    """The same as plain JSON values; what JSON does not know is written as text."""
    return model.model_dump(mode="json", by_alias=True, warnings=False, fallback=str)


def _hints(fn: Callable[..., Any], names: typing.Iterable[str]) -> dict[str, Any]:
    """The annotations of ``names`` only: those of injected parameters may be importable by type checkers alone."""
    inner: Any = inspect.unwrap(fn)
    annotations = {name: inner.__annotations__[name] for name in names if name in inner.__annotations__}
    holder = type("Holder", (), {"__annotations__": annotations})
    try:
        return get_type_hints(holder, globalns=inner.__globals__, include_extras=True)
    except NameError as error:
        raise ConfigError(f"{inner.__module__}.{inner.__qualname__}: annotation: {error}") from error


def _portable(hint: Any) -> Any:
    """``hint`` with every ``typing.TypedDict`` rebuilt as the one of typing_extensions.

    Before Python 3.12 the standard one loses Required/NotRequired under postponed annotations, so pydantic
    refuses it.
    """
    if typing.is_typeddict(hint):
        return _typed_dict(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if not arguments or origin is typing.Literal:
        return hint
    if origin is Annotated:
        return Annotated[(_portable(arguments[0]), *hint.__metadata__)]
    changed = tuple(_portable(a) if not isinstance(a, list) else a for a in arguments)
    if changed == arguments:
        return hint
    if origin in (Union, types.UnionType):
        return Union[changed]  # noqa: UP007 (the members are data here)
    return origin[changed]


@functools.cache
def _typed_dict(hint: Any) -> Any:
    wrappers = (typing.Required, typing.NotRequired, typing_extensions.Required, typing_extensions.NotRequired)
    fields: dict[str, Any] = {}
    for name, inner in get_type_hints(hint, include_extras=True).items():
        if get_origin(inner) in wrappers:
            required = get_origin(inner) in (typing.Required, typing_extensions.Required)
            inner = get_args(inner)[0]
        else:
            required = name in hint.__required_keys__
        wrapper: Any = typing_extensions.Required if required else typing_extensions.NotRequired
        fields[name] = wrapper[_portable(inner)]
    make: Any = typing_extensions.TypedDict
    return make(hint.__name__, fields)


def takes_and_gives(fn: Callable[..., Any]) -> tuple[Any, Any]:
    """The annotated types of what a function of the pipeline is handed first and of what it returns."""
    hints = get_type_hints(fn)
    first = next(iter(inspect.signature(fn).parameters), "")
    return hints.get(first), hints.get("return")
