"""Counting bytes: how many were compared, how many differ, and where the first difference lies."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

#: the symbol and time (ns) of the element at an index of an array; "" and None where it has none
Locate = Callable[[tuple[int, ...]], tuple[str, int | None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A thing that differs though it was known at the moment ``cut_ns``, and where it does first."""

    field: str
    dated: str
    cut_ns: int
    symbol: str
    at_ns: int | None
    differing: int


@dataclass(slots=True)
class Count:
    """Bytes of one field over all moments."""

    dated: str
    compared: int = 0
    differing: int = 0


@dataclass(slots=True)
class Tally:
    """Bytes per field, and what differed, in the order of discovery."""

    fields: dict[str, Count] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def compared(self) -> int:
        return sum(one.compared for one in self.fields.values())

    @property
    def differing(self) -> int:
        return sum(one.differing for one in self.fields.values())

    def compare(self, name: str, dated: str, cut_ns: int, real: Any, other: Any, locate: Locate | None = None) -> None:
        """Two values that must be equal to the byte; what is no array counts as its JSON text."""
        a, b = _array(real), _array(other)
        one = self.fields.setdefault(name, Count(dated))
        one.compared += max(a.nbytes, b.nbytes)
        if a.dtype == b.dtype and a.shape == b.shape:
            bytes_differ = _bytes(a) != _bytes(b)
            differing = int(np.count_nonzero(bytes_differ))
            if not differing:
                return
            at = tuple(map(int, np.unravel_index(int(bytes_differ.argmax()) // a.itemsize, a.shape)))
            symbol, at_ns = ("", None) if locate is None else locate(at)
        else:
            differing, symbol, at_ns = max(a.nbytes, b.nbytes, 1), "", None
        one.differing += differing
        found = Finding(field=name, dated=dated, cut_ns=cut_ns, symbol=symbol, at_ns=at_ns, differing=differing)
        self.findings.append(found)


def _array(value: Any) -> npt.NDArray[Any]:
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value)
    return np.frombuffer(json.dumps(value, sort_keys=True, default=str).encode(), dtype=np.uint8)


def _bytes(x: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return x.reshape(-1).view(np.uint8)
