"""A fault of a configuration, with its place; all faults of a file are reported together."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bml.types import ConfigError

#: a place in the document: keys and list positions from the root
Path = tuple[str | int, ...]


@dataclass(frozen=True, order=True)
class Where:
    """``file:line:column`` (from 1), or the ``--set`` flag a value came from (line 0)."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True, order=True)
class Fault:
    where: Where
    path: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (str(self.where), self.path, self.message) if part)

    def to_json(self) -> dict[str, str | int]:
        place: dict[str, str | int] = {"source": self.where.source, "line": self.where.line}
        return place | {"column": self.where.column, "path": self.path, "message": self.message}


class InvalidConfig(ConfigError):
    """Every fault of one configuration; ``str()`` has one line a fault, in the order of the file."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(set(faults)))
        super().__init__("\n".join(str(fault) for fault in self.faults))

    def __reduce__(self) -> tuple[type[InvalidConfig], tuple[tuple[Fault, ...]]]:
        return type(self), (self.faults,)


def dotted(path: Sequence[str | int]) -> str:
    """``("stages", "preprocess", 0, "with")`` as ``stages.preprocess[0].with``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``, did you mean 'x'?`` or, when nothing is close, ``; there are: a, b``."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f", did you mean {close[0]!r}?"
    return f"; there are: {', '.join(names)}" if names else "; it takes none"
