"""Pydantic's errors as faults with a place, in our words."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from bml.config.faults import Fault, Path, Where, did_you_mean, dotted
from bml.config.secret import is_secret_name
from bml.config.tree import Item

_EXTRA = ("extra_forbidden", "unexpected_keyword_argument")
_MISSING = ("missing", "missing_argument", "missing_keyword_only_argument")
_TYPE_ENDS = ("_type", "_parsing")
_WORDS = (("a valid array", "a list"), ("an object", "a mapping"), ("a valid dictionary", "a mapping"))


def explain(error: ValidationError, model: type[BaseModel], root: Item, prefix: Path, wanted_by: str) -> list[Fault]:
    """One fault a place; ``prefix`` is where the validated part stands in the document.

    Messages of several branches of a union are joined; a branch that failed deeper hides the shallower ones.
    """
    by_path: dict[Path, list[tuple[str, str]]] = {}
    for one in error.errors(include_url=False, include_input=False):
        kind = one["type"]
        path = _real_path(root, prefix, one["loc"], kind in _MISSING)
        by_path.setdefault(path, []).append((kind, _message(one, path, prefix, model, wanted_by)))
    out = []
    for path, told in by_path.items():
        deeper = any(len(other) > len(path) and other[: len(path)] == path for other in by_path)
        if deeper and all(kind.endswith(_TYPE_ENDS) for kind, _ in told):
            continue
        text = " or ".join(dict.fromkeys(message for _, message in told))
        if any(kind not in _EXTRA + _MISSING for kind, _ in told):
            text += _got(root, path)
        out.append(Fault(_where(root, path, told[0][0]), dotted(path), text))
    return out


def place(root: Item, path: Path) -> Where:
    """Where ``path`` stands, or the nearest thing above it that is there."""
    for end in range(len(path), -1, -1):
        item = root.find(path[:end])
        if item is not None:
            return item.at if end == len(path) else item.key_at
    return root.at


def _where(root: Item, path: Path, kind: str) -> Where:
    item = root.find(path)
    return item.key_at if item is not None and kind in _EXTRA else place(root, path)


def _real_path(root: Item, prefix: Path, loc: tuple[int | str, ...], is_missing: bool) -> Path:
    """``loc`` without what is no key of the document (pydantic names union branches there)."""
    path = prefix
    for i, part in enumerate(loc):
        if root.find((*path, part)) is not None or (is_missing and i == len(loc) - 1):
            path = (*path, part)
    if len(path) == len(prefix) and loc and root.find(path) is None:
        return (*prefix, *loc)
    return path


def _message(one: Any, path: Path, prefix: Path, model: type[BaseModel], wanted_by: str) -> str:
    kind = str(one["type"])
    if kind in _EXTRA:
        return "unknown key" + did_you_mean(str(path[-1]), _keys_at(model, path[len(prefix) : -1]))
    if kind in _MISSING:
        return f"missing{wanted_by}"
    if kind in ("value_error", "assertion_error"):
        return str(one["msg"]).split(", ", 1)[-1]
    if kind == "bool_type":
        return "should be true or false"
    if kind.startswith("date_"):
        return "should be a date written YYYY-MM-DD"
    text = str(one["msg"]).replace("Input should", "should").replace("String should", "should")
    for theirs, ours in _WORDS:
        text = text.replace(theirs, ours)
    return text


def _got(root: Item, path: Path) -> str:
    """``, got 'x'`` for a scalar that is no secret."""
    item = root.find(path)
    if item is None or item.variables or isinstance(item.value, (dict, list)):
        return ""
    if any(isinstance(part, str) and is_secret_name(part) for part in path):
        return ""
    shown = "null" if item.value is None else repr(item.value)
    return f", got {shown if len(shown) <= 60 else shown[:57] + '...'}"


def _keys_at(model: type[BaseModel], path: Path) -> set[str]:
    """The keys allowed at ``path`` inside ``model``, over all branches of unions."""
    try:
        schema = model.model_json_schema()
    except Exception:  # an annotation JSON Schema has no word for: the first level is known all the same
        return set() if path else {field.alias or name for name, field in model.model_fields.items()}
    nodes = _branches(schema, schema)
    for part in path:
        inner = [n["properties"][part] for n in nodes if part in n.get("properties", {})]
        inner += [n["items"] for n in nodes if isinstance(part, int) and isinstance(n.get("items"), dict)]
        inner += [n["additionalProperties"] for n in nodes
                  if isinstance(part, str) and isinstance(n.get("additionalProperties"), dict)]  # fmt: skip
        nodes = [branch for one in inner for branch in _branches(one, schema)]
    return {key for node in nodes for key in node.get("properties", {})}


def _branches(node: dict[str, Any], root: dict[str, Any]) -> list[dict[str, Any]]:
    if "$ref" in node:
        return _branches(root["$defs"][node["$ref"].rsplit("/", 1)[-1]], root)
    branches = [b for key in ("anyOf", "oneOf", "allOf") for one in node.get(key, []) for b in _branches(one, root)]
    return branches or [node]
