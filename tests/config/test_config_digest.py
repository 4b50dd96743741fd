"""Canonical JSON: equal content, equal digest."""

from __future__ import annotations

import datetime as dt
import enum
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bml.config.digest import canonical, digest


class Side(enum.Enum):
    BID = "bid"


@dataclass
class Point:
    x: float
    y: tuple[int, ...]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [1, (2,)]}, '{"a":[1,[2]],"b":1}'),
        (1.0, "1"), (-0.0, "0"), (0.1, "0.1"), (True, "true"), (None, "null"), ("\u00e9", '"\\u00e9"'),
        (math.inf, '{"$float":"inf"}'), (math.nan, '{"$float":"nan"}'), (1e300, "1e+300"),
        (np.int64(3), "3"), (np.float64(2.5), "2.5"), (np.array([[1, 2]], dtype=np.int32), "[[1,2]]"),
        (dt.date(2024, 1, 2), '"2024-01-02"'), (Path("/a/b"), '"/a/b"'), (Side.BID, '"bid"'),
        (Point(1.5, (1, 2)), '{"x":1.5,"y":[1,2]}'),
    ],
)  # fmt: skip
def test_canonical_form(value: object, text: str) -> None:
    assert canonical(value) == text


@pytest.mark.parametrize("value", [{1, 2}, {1: 2}, len, object(), b"x"])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="digest"):
        digest(value)


def test_parts_are_not_glued() -> None:
    assert digest("ab", "c") != digest("a", "bc") != digest(["a", "bc"])
    assert digest() != digest(None)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), VALUES))
def test_order_of_keys_does_not_matter_and_content_does(tree: dict[str, object]) -> None:
    assert digest(dict(reversed(tree.items()))) == digest(tree)
    assert digest(tree | {"\x00new": 1}) != digest(tree)


def test_same_in_every_process() -> None:
    code = "from bml.config.digest import digest; print(digest({'a': 1.5, 'b': ['x', None]}))"
    runs = [
        subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
                       capture_output=True, text=True, check=True).stdout.strip()
        for seed in ("1", "2")
    ]  # fmt: skip
    assert runs == [digest({"a": 1.5, "b": ["x", None]})] * 2
