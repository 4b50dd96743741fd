"""Edges by snapshot follow the rule of the depth plan."""

from __future__ import annotations

import numpy as np
import pytest

from bml import kernels
from bml.book.depth import plan


@pytest.mark.parametrize(("near", "deep"), [(0, 3), (5, 0), (4, 10), (50, 10)])
def test_a_snapshot_is_split_as_a_plan_of_its_depth(near: int, deep: int) -> None:
    depths = np.arange(81)
    book = np.zeros((81, 80, 4))
    book[depths[1:], depths[1:] - 1, 1 + 2 * (depths[1:] % 2)] = 0.5  # the deepest quantity, on either side
    for depth, edges in zip(depths[1:].tolist(), kernels.occupied_edges(book, near, deep)[1:], strict=True):
        wanted = plan(depth, near, deep)
        first = min(near, depth)
        np.testing.assert_array_equal(edges[: first + 1], wanted[: first + 1])
        deep_edges = np.pad(wanted[first:], (0, near + deep + 1), mode="edge")
        np.testing.assert_array_equal(edges[near:], deep_edges[: deep + 1])
