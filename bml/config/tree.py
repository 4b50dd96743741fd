"""YAML text to a tree of values that know where they stand.

Scalars follow YAML 1.2 (core schema): ``1e-3`` is a number, ``no`` and ``yes`` are words, ``010`` and
``12:30:45`` and dates are text. Refused: duplicate keys, tags, several documents, recursive aliases, ``.nan``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

from yaml.composer import Composer
from yaml.error import MarkedYAMLError, YAMLError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from bml.config.faults import Fault, Path, Where, dotted

#: more nodes than any configuration has: aliases that multiply stop here
MAX_NODES = 20_000
#: deeper than any configuration is, and far from Python's own limit
MAX_DEPTH = 60

_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE, _FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_HEX_OCT = re.compile(r"0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INF = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NAN = (".nan", ".NaN", ".NAN")


@dataclass
class Item:
    """A value of the document. ``value`` is a scalar, a ``dict[str, Item]`` or a ``list[Item]``.

    ``key_at`` is where its key stands (itself for list members); ``plain`` marks an unquoted scalar, ``variables``
    the environment variables that went into it.
    """

    value: Any
    at: Where
    key_at: Where
    plain: bool = False
    variables: tuple[str, ...] = ()

    def data(self) -> Any:
        """The plain Python value, without places."""
        if isinstance(self.value, dict):
            return {key: item.data() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.data() for item in self.value]
        return self.value

    def find(self, path: Path) -> Item | None:
        """The item at ``path`` below this one, or None."""
        item: Item = self
        for part in path:
            inner = item.value
            if isinstance(part, str):
                is_there = isinstance(inner, dict) and part in inner
            else:
                is_there = isinstance(inner, list) and 0 <= part < len(inner)
            if not is_there:
                return None
            item = inner[part]
        return item


def scalar(text: str) -> str | int | float | bool | None:
    """The value of an unquoted YAML 1.2 scalar. Raises ValueError for ``.nan``, which no parameter means."""
    if _NULL.fullmatch(text):
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INT.fullmatch(text):
        return int(text)
    if _HEX_OCT.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INF.fullmatch(text):
        return -math.inf if text.startswith("-") else math.inf
    if text in _NAN:
        raise ValueError(".nan is not a value a parameter can have")
    return text


class _Resolver(BaseResolver):
    """Gives untagged nodes one of four names, so that every explicit tag is seen (and refused)."""

    def resolve(self, kind: type[Node], value: object, implicit: object) -> str:
        if kind is ScalarNode:
            return "plain" if isinstance(implicit, tuple) and implicit[0] else "quoted"
        return "map" if kind is MappingNode else "seq"


class _Loader(Reader, Scanner, Parser, Composer, _Resolver):
    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        _Resolver.__init__(self)


@dataclass
class Parse:
    """One YAML text being turned into items; faults are collected, not raised."""

    source: str
    faults: list[Fault] = field(default_factory=list)
    at_flag: bool = False  # a --set value: its place is the flag, not a line
    _nodes: int = 0

    def text(self, text: str) -> Item | None:
        """The root item, or None when the text is not YAML at all (the fault is recorded)."""
        try:
            loader = _Loader(text)
            node = loader.get_single_node()
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = Where(self.source) if mark is None or self.at_flag else self._where(mark)
            self.faults.append(Fault(where, "", f"not valid YAML: {error.problem or error.context}"))
            return None
        except ReaderError as error:
            told = f"not valid YAML: character {error.character!r} is not allowed"
            self.faults.append(Fault(Where(self.source), "", told))
            return None
        except (YAMLError, RecursionError) as error:
            self.faults.append(Fault(Where(self.source), "", f"not valid YAML: {type(error).__name__}"))
            return None
        if node is None:
            return Item(None, Where(self.source, 0 if self.at_flag else 1, 1), Where(self.source), plain=True)
        where = self._where(node.start_mark)
        return self._item(node, (), where, frozenset())

    def _where(self, mark: Any) -> Where:
        return Where(self.source) if self.at_flag else Where(self.source, mark.line + 1, mark.column + 1)

    def _fault(self, at: Where, path: Path, message: str) -> None:
        self.faults.append(Fault(at, dotted(path), message))

    def _item(self, node: Node, path: Path, key_at: Where, above: frozenset[int]) -> Item:
        at = self._where(node.start_mark)
        self._nodes += 1
        if id(node) in above or len(path) > MAX_DEPTH or self._nodes > MAX_NODES:
            if self._nodes <= MAX_NODES + 1:  # one line for the flood, not one for each drop
                self._fault(at, path, "an alias that contains itself, or a document that is too deep or too large")
            return Item(None, at, key_at)
        if node.tag not in ("plain", "quoted", "map", "seq"):
            self._fault(at, path, f"the tag {node.tag!r} is not supported")
            return Item(None, at, key_at)
        if isinstance(node, MappingNode):
            return Item(self._mapping(node, path, above | {id(node)}), at, key_at)
        if isinstance(node, SequenceNode):
            inner = [self._item(n, (*path, i), self._where(n.start_mark), above | {id(node)})
                     for i, n in enumerate(node.value)]  # fmt: skip
            return Item(inner, at, key_at)
        return self._scalar(node, path, at, key_at)

    def _scalar(self, node: Node, path: Path, at: Where, key_at: Where) -> Item:
        if node.tag == "quoted":
            return Item(node.value, at, key_at)
        try:
            return Item(scalar(node.value), at, key_at, plain=True)
        except ValueError as error:
            self._fault(at, path, str(error))
            return Item(None, at, key_at)

    def _mapping(self, node: MappingNode, path: Path, above: frozenset[int]) -> dict[str, Item]:
        out: dict[str, Item] = {}
        for key_node, value_node in node.value:
            key_at = self._where(key_node.start_mark)
            if not isinstance(key_node, ScalarNode):
                self._fault(key_at, path, "a key must be a word, not a list or a mapping")
                continue
            key = key_node.value
            item = self._item(value_node, (*path, key), key_at, above)
            if key in out:
                self._fault(key_at, (*path, key), f"duplicate key: first given at line {out[key].key_at.line}")
                continue
            out[key] = item
        return out
