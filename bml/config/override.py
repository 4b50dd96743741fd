"""``--set a.b[0].c=value``: one value of the document replaced from the command line."""

from __future__ import annotations

import re

from bml.config.faults import Fault, Path, Where
from bml.config.tree import Item, Parse

_PART = re.compile(r"(?P<name>[^.\[\]=]+)(?P<positions>(\[[0-9]+\])*)")


def apply(root: Item, override: str, faults: list[Fault]) -> None:
    """Parse the value of ``key=value`` as YAML and put it into ``root``; mistakes become faults naming the flag.

    The flag is named without its value, which may be a secret.
    """
    key, equals, text = override.partition("=")
    at = Where(f"--set {key}")
    path = _path(key)
    if not equals or path is None:
        faults.append(Fault(at, "", "expected KEY=VALUE, such as  --set data.cadence_s=10"))
        return
    parse = Parse(at.source, at_flag=True)
    value = parse.text(text)
    faults += parse.faults
    if value is not None and not parse.faults:
        told = _put(root, path, value, at)
        if told:
            faults.append(Fault(at, "", told))


def _path(key: str) -> Path | None:
    path: list[str | int] = []
    for part in key.strip().split("."):
        match = _PART.fullmatch(part)
        if match is None:
            return None
        path.append(match["name"])
        path += [int(number) for number in re.findall(r"[0-9]+", match["positions"])]
    return tuple(path)


def _put(root: Item, path: Path, value: Item, at: Where) -> str:
    """Put ``value`` at ``path``, making mappings on the way; says what is wrong, or nothing."""
    item = root
    for i, part in enumerate(path):
        is_last = i == len(path) - 1
        if item.value is None:
            item.value = {}
        if isinstance(item.value, list):
            position = int(part) if isinstance(part, int) or part.isdigit() else -1
            if not 0 <= position < len(item.value):
                return f"there is no position {part} in a list of {len(item.value)}"
            if is_last:
                item.value[position] = value
            item = item.value[position]
        elif isinstance(item.value, dict) and isinstance(part, str):
            if is_last:
                item.value[part] = value
            item = item.value.setdefault(part, Item({}, at, at))
        else:
            return f"{part!r} cannot be set inside {item.value!r}" if item.value == {} else f"{part!r}: not a mapping"
    return ""
