"""Codes a kernel returns about its data, and the words for them: one place for all backends."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

# The same numbers as `enum class What` in csrc/include/bml/error.hpp (a test compares them).
OK = 0
LEVEL_BELOW_ONE = 1
SIDE_UNKNOWN = 2
DUPLICATE_CONFLICT = 3
TIMES_CHANGED = 4
TIMES_NOT_INCREASING = 5
GRID_NOT_INCREASING = 6

#: what a kernel reports: (code, row), (OK, -1) when all is well
Told = tuple[int, int]

Arrays = dict[str, npt.NDArray[np.generic]]


def _level(row: int, at: Arrays) -> str:
    return f"level {at['level_N'][row]} at row {row}: levels count from 1"


def _side(row: int, at: Arrays) -> str:
    return f"side {at['side_N'][row]} at row {row}: a side is 0 (bid) or 1 (ask)"


def _conflict(row: int, at: Arrays) -> str:
    place = f"ts {at['ts_ns_N'][row]}, level {at['level_N'][row]}"
    if at["side_N"].size:
        place += f", side {at['side_N'][row]}"
    return f"row {row} repeats ({place}) with other values: pass duplicates='first' or 'last', or a batch_N"


def _changed(row: int, at: Arrays) -> str:
    return f"ts_ns_N changed during the call, near row {row}: do not write to the input meanwhile"


def _times(row: int, at: Arrays) -> str:
    now, before = at["ts_ns_T"][row], at["ts_ns_T"][row - 1]
    return f"ts_ns_T[{row}] = {now} is not after {before}: times must increase strictly"


def _grid(row: int, at: Arrays) -> str:
    now, before = at["grid_ns_G"][row], at["grid_ns_G"][row - 1]
    return f"grid_ns_G[{row}] = {now} is not after {before}: the grid must increase strictly"


_WORDS: dict[int, Callable[[int, Arrays], str]] = {
    LEVEL_BELOW_ONE: _level,
    SIDE_UNKNOWN: _side,
    DUPLICATE_CONFLICT: _conflict,
    TIMES_CHANGED: _changed,
    TIMES_NOT_INCREASING: _times,
    GRID_NOT_INCREASING: _grid,
}


def check(where: str, told: Told, at: Arrays) -> None:
    """Raise ValueError when ``told`` is not (OK, -1); ``at`` holds the arrays its message quotes."""
    code, row = told
    if code != OK:
        raise ValueError(f"{where}: {_WORDS[code](int(row), at)}")
