"""``${NAME}`` and ``${NAME:-default}`` in string values; ``$$`` is a dollar sign.

Expansion happens after parsing, so a variable can never add keys or structure. An unquoted scalar is typed
after expansion (``port: ${PORT}`` can be a number); a quoted one stays text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from bml.config.faults import Fault, Path, dotted
from bml.config.secret import is_secret_name, remember
from bml.config.tree import Item, scalar

_TOKEN = re.compile(r"\$\$|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\}|\$\{")


def expand(item: Item, environ: Mapping[str, str], faults: list[Fault], path: Path = ()) -> None:
    """Expand every string below ``item`` in place; unset variables and broken references become faults.

    Aliases share no items, so each is expanded once. ``:-default`` also stands in for an empty variable.
    What a variable with a secret name holds is hidden from now on in all that this process tells.
    """
    if isinstance(item.value, dict):
        for key, inner in item.value.items():
            expand(inner, environ, faults, (*path, key))
    elif isinstance(item.value, list):
        for i, inner in enumerate(item.value):
            expand(inner, environ, faults, (*path, i))
    elif isinstance(item.value, str) and "$" in item.value:
        _expand_string(item, environ, faults, path)


def _expand_string(item: Item, environ: Mapping[str, str], faults: list[Fault], path: Path) -> None:
    names: list[str] = []

    def replace(match: re.Match[str]) -> str:
        if match.group() == "$$":
            return "$"
        name, default = match["name"], match["default"]
        if name is None:
            faults.append(Fault(item.at, dotted(path), "'${' without a name and '}'; write $${ for the characters"))
            return ""
        names.append(name)
        value = environ.get(name)
        if value and is_secret_name(name, from_environment=True):
            remember(value)
        if default is not None:
            return value or default[2:]
        if value is None:
            told = f"environment variable {name} is not set (a default is written ${{{name}:-default}})"
            faults.append(Fault(item.at, dotted(path), told))
            return ""
        return value

    text = _TOKEN.sub(replace, item.value)
    item.variables = tuple(names)
    try:
        item.value = scalar(text) if item.plain and names else text
    except ValueError as error:
        faults.append(Fault(item.at, dotted(path), str(error)))
