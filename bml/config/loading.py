"""From a file to a :class:`~bml.config.model.Config`, or every fault of the file at once."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path as FilePath
from typing import Any

from pydantic import BaseModel, ValidationError

from bml.config import override as overriding
from bml.config.environment import expand
from bml.config.explain import explain, place
from bml.config.faults import Fault, InvalidConfig, Path, Where, dotted
from bml.config.model import STAGES, Call, Config, DataSpec, Document, Written
from bml.config.params import document, parameter_model, takes_and_gives, values, yaml_parameters
from bml.config.secret import HIDDEN, holds_password, is_secret_name, redact
from bml.config.tree import Item, Parse
from bml.registry import CHECK, resolve
from bml.types import BmlError, ConfigError


def load(
    path: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    *,
    stages: Sequence[str] | None = None,
    environ: Mapping[str, str] | None = None,
    text: str | None = None,
) -> Config:
    """The configuration in the YAML file ``path``, with ``overrides`` (``"data.cadence_s=5"``) applied.

    ``stages`` limits which stages' functions are imported and checked (default: all); the others' calls keep
    their parameters as written and refuse to be used. ``environ`` defaults to the process's environment.
    ``text``: what the file holds, when the caller has read it; ``path`` is then only its name in messages.
    Raises InvalidConfig (a ConfigError) with every fault of the file, one a line: place, path, what is wrong.
    """
    unknown = sorted(set(stages or ()) - set(STAGES))
    if unknown:
        raise ConfigError(f"there is no stage {unknown[0]!r}; there are: {', '.join(STAGES)}")
    source = os.fspath(path)
    parse = Parse(source)
    text = _read(source) if text is None else text
    root = parse.text(text)
    faults = parse.faults
    if root is None:
        raise InvalidConfig(faults)
    if not isinstance(root.value, dict):
        told = "is empty" if root.value is None else "must be a mapping"
        told = f"the file {told}: expected version, name, data and stages"
        raise InvalidConfig([*faults, Fault(Where(source, 1, 1), "", told)])
    for one in overrides:
        overriding.apply(root, one, faults)
    expand(root, os.environ if environ is None else environ, faults)
    written = Written(text, tuple(overrides), tuple(STAGES if stages is None else stages))
    return _Loading(root, faults, written).config(FilePath(source))


def _read(source: str) -> str:
    try:
        with open(source, encoding="utf-8-sig") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise InvalidConfig([Fault(Where(source), "", f"not UTF-8 text (byte {error.start})")]) from error
    except OSError as error:
        raise InvalidConfig([Fault(Where(source), "", f"cannot be read: {error.strerror}")]) from error


def _path(text: str) -> Path:
    """The path that :func:`dotted` wrote as ``text``, of stages and their positions."""
    return tuple(int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", text))


class _Loading:
    def __init__(self, root: Item, faults: list[Fault], written: Written) -> None:
        self._root, self._faults, self._stages, self._written = root, faults, written.stages, written
        self._parts: dict[str, Any] = {}  # stage -> its document

    def config(self, path: FilePath) -> Config:
        calls: dict[str, Any] = {name: self._stage(name) for name in STAGES}
        if not self._faults:
            self._check_order([calls["data_object"], *calls["preprocess"]])
        self._check_with_data(calls)
        written = self._validate(Document, (), "")
        self._refuse_literal_secrets(self._root, ())
        if self._faults or not isinstance(written, Document):
            raise InvalidConfig(self._faults)
        sections: dict[str, Any] = {name: getattr(written, name) for name in ("data", "store", "tracking", "run")}
        document: dict[str, Any] = {"version": 1, "name": written.name}
        document |= {name: section.model_dump(mode="json") for name, section in sections.items()}
        document |= {"stages": self._parts}
        made = {"document": self._redacted(document, ()), "written": self._written}
        return Config(name=written.name, **sections, **calls, path=path, **made)

    def _validate(self, model: type[BaseModel], prefix: Path, wanted_by: str) -> BaseModel | None:
        """Validate the part at ``prefix`` as JSON, where strictness still lets a list be a tuple, a text a date."""
        item = self._root.find(prefix)
        data = {} if item is None or item.value is None else item.data()
        try:
            return model.model_validate_json(json.dumps(data))
        except ValidationError as error:
            told = {fault.path for fault in self._faults}  # an unset variable is the one fault of its place
            found = explain(error, model, self._root, prefix, wanted_by)
            self._faults += [fault for fault in found if fault.path not in told]
        except BmlError as error:
            self._fault(prefix, str(error))
        return None

    def _fault(self, path: Path, message: str) -> None:
        self._faults.append(Fault(place(self._root, path), dotted(path), message))

    def _stage(self, name: str) -> Call | tuple[Call, ...] | None:
        kind, default = STAGES[name]
        path: Path = ("stages", name)
        if name != "preprocess":
            call, self._parts[name] = self._call(path, kind, default, check=name in self._stages)
            return call
        item = self._root.find(path)
        count = len(item.value) if item is not None and isinstance(item.value, list) else 0
        made = [self._call((*path, i), kind, default, check=name in self._stages) for i in range(count)]
        self._parts[name] = [part for _, part in made]
        return tuple(call for call, _ in made if call is not None)

    def _check_order(self, calls: list[Call]) -> None:
        """Each step must take what the one before it gives, by their annotations."""
        for before, call in pairwise(calls):
            if not (before.validated and call.validated):
                continue
            given, taken = takes_and_gives(before.function())[1], takes_and_gives(call.function())[0]
            if given is not taken:
                told = f"{call.fn} takes a {taken.__name__}, but {before.fn} before it gives a {given.__name__}"
                path: Path = ("stages", "preprocess", calls.index(call) - 1, "fn")
                self._fault(path, f"{told}; change the order of the steps")

    def _check_with_data(self, calls: Mapping[str, Any]) -> None:
        """What parameters and the data section must agree on, by the functions' own word.

        A function may carry ``__bml_check__``: ``fn(data, params)``, of the DataSpec and the validated parameters,
        gives pairs (parameter, what is wrong); ``"split.fractions"`` names one inside another.
        """
        item = self._root.find(("data",))
        try:
            data = DataSpec.model_validate_json(json.dumps(None if item is None else item.data()))
        except ValidationError:
            return  # told with the rest of the document
        for made in calls.values():
            for call in made if isinstance(made, tuple) else (made,):
                # a stage the file does not speak of is not used, so its defaults need not fit
                used = call is not None and call.validated and call.written
                check = getattr(call.function(), CHECK, None) if used else None
                if check is not None:
                    self._run_check(check, data, call)

    def _run_check(self, check: Callable[..., Any], data: DataSpec, call: Call) -> None:
        with_: Path = (*_path(call.path), "with")
        try:
            for name, told in check(data, call.params):
                self._fault((*with_, *name.split(".")), told)
        except BmlError as error:
            self._fault(with_, str(error))

    def _refuse_literal_secrets(self, item: Item, path: Path) -> None:
        """A file is copied, committed and logged: what opens a door comes from the environment."""
        if isinstance(item.value, dict):
            for key, inner in item.value.items():
                self._refuse_literal_secrets(inner, (*path, key))
        elif isinstance(item.value, list):
            for i, inner in enumerate(item.value):
                self._refuse_literal_secrets(inner, (*path, i))
        elif isinstance(item.value, str) and item.value and not item.variables:
            named = [part for part in path if isinstance(part, str) and is_secret_name(part)]
            if not (named or holds_password(item.value)) or any(f.path == dotted(path) for f in self._faults):
                return
            key = named[-1] if named else next((p for p in reversed(path) if isinstance(p, str)), "secret")
            variable = "BML_" + re.sub(r"\W", "_", key).upper()
            told = f'write "${{{variable}}}"' if named else f'write "${{{variable}}}", or ${{NAME}} for the password'
            self._faults.append(Fault(item.at, dotted(path), f"must come from the environment: {told}"))

    def _call(self, path: Path, kind: str, default: str | None, *, check: bool) -> tuple[Call | None, dict[str, Any]]:
        """The call at ``path`` and its document; None when it is at fault (or its shape is, told by Document)."""
        fn = self._root.find((*path, "fn"))
        with_ = self._root.find((*path, "with"))
        name = default if fn is None or fn.value is None else fn.value
        written = self._root.find(path) is not None
        given = {} if with_ is None or with_.value is None else with_.data()
        if not isinstance(name, str) or not name or not isinstance(given, dict):
            return None, {}
        if not check:
            call = Call(fn=name, params=given, path=dotted(path), kind=kind, written=written, validated=False)
            return call, {"fn": name, "with": given}
        checked = self._checked(name, kind, (*path, "fn"), (*path, "with"))
        if checked is None:
            return None, {}
        params, told = checked
        call = Call(fn=name, params=params, path=dotted(path), kind=kind, written=written)
        return call, {"fn": name, "with": told}

    def _checked(self, name: str, kind: str, at: Path, with_: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Validated parameters of the function ``name`` given at ``with_``: as Python values and as JSON."""
        try:
            fn = resolve(name, kind)
            model = parameter_model(fn)
        except ConfigError as error:
            self._fault(at, str(error))
            return None
        found = self._validate(model, with_, f": {name} needs it")
        nested = "model" in yaml_parameters(fn) and "params" in yaml_parameters(fn)
        inner = self._model(fn, with_) if nested else None  # checked even if the rest is at fault
        if found is None or (nested and inner is None):
            return None
        params, told = values(found), document(found)
        if inner is not None:
            params["params"], told["params"] = inner
        return params, told

    def _model(self, fn: Callable[..., Any], with_: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """``params`` of a stage that names a model family, checked against that family's own signature."""
        item = self._root.find((*with_, "model"))
        name = yaml_parameters(fn)["model"].default if item is None else item.value
        params = self._root.find((*with_, "params"))
        if not isinstance(name, str) or (params is not None and not isinstance(params.value, (dict, type(None)))):
            return None  # told by the stage's own signature
        return self._checked(name, "model", (*with_, "model"), (*with_, "params"))

    def _redacted(self, value: Any, path: Path) -> Any:
        """``value`` without secrets; where a value came from an environment variable, its name counts as well."""
        if isinstance(value, dict):
            return {key: self._redacted(inner, (*path, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._redacted(inner, (*path, i)) for i, inner in enumerate(value)]
        item = self._root.find(path)
        variables = item.variables if item is not None else ()
        if any(is_secret_name(variable, from_environment=True) for variable in variables):
            return HIDDEN
        keys = [part for part in path if isinstance(part, str)]
        return redact(value, keys, from_environment=bool(variables))
