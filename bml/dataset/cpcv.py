"""Combinatorial purged cross-validation: every choice of k among n groups of time is the test once.

A score then comes as a distribution over paths instead of one number. Training rows may lie after the rows that
are scored, so a row is kept only if its label, its input and its context are all clear of the scored labels (see
:mod:`bml.dataset.purge`). A context of 90 days costs 90 days of training after every test group.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from bml.dataset.purge import purged
from bml.types import GateError, Int64, SampleIndex


@dataclass(frozen=True, kw_only=True, slots=True)
class CpcvSplit:
    """Row numbers of one split; ``groups`` are those that ``test`` consists of, ``n_purged`` the rows in neither."""

    groups: tuple[int, ...]
    train: Int64
    test: Int64
    n_purged: int


def time_groups(index: SampleIndex, rows: Int64, n_groups: int) -> tuple[Int64, ...]:
    """``rows`` in ``n_groups`` consecutive groups of about as many anchors each; equal anchors stay together.

    Raises GateError with fewer anchors than groups.
    """
    anchors = np.unique(index.anchor_ns_N[rows])
    if anchors.shape[0] < n_groups:
        raise GateError(f"cpcv: {anchors.shape[0]} anchors do not make {n_groups} groups; take fewer groups")
    firsts = np.array([part[0] for part in np.array_split(anchors, n_groups)])
    group_N = np.searchsorted(firsts, index.anchor_ns_N[rows], side="right") - 1
    return tuple(rows[group_N == g] for g in range(n_groups))


def cpcv(index: SampleIndex, rows: Int64, *, n_groups: int, k_test: int, embargo_ns: int = 0) -> tuple[CpcvSplit, ...]:
    """All C(n_groups, k_test) splits of ``rows``, in the order of ``itertools.combinations``.

    Pass development rows: all but the test block. O(N log N) a split. Raises ValueError unless
    1 <= k_test < n_groups, GateError where purging leaves a split without training rows.
    """
    _check(n_groups, k_test)
    parts = time_groups(index, rows, n_groups)
    return tuple(_split(index, parts, chosen, embargo_ns) for chosen in combinations(range(n_groups), k_test))


def paths(n_groups: int, k_test: int) -> Int64:
    """(P, n_groups) numbers of splits: path p takes its forecasts for group g from split ``paths[p, g]``.

    P = C(n_groups - 1, k_test - 1): so often is every group tested, and each path uses every group's forecasts of
    one split, no forecast twice.
    """
    _check(n_groups, k_test)
    chosen = list(combinations(range(n_groups), k_test))
    tested_by = [[number for number, groups in enumerate(chosen) if g in groups] for g in range(n_groups)]
    return np.array(tested_by, dtype=np.int64).T


def _split(index: SampleIndex, parts: tuple[Int64, ...], chosen: tuple[int, ...], embargo_ns: int) -> CpcvSplit:
    test = np.concatenate([parts[g] for g in chosen])
    rest = np.concatenate([part for g, part in enumerate(parts) if g not in chosen])
    train = purged(index, rest, test, embargo_ns=embargo_ns)
    if train.shape[0] == 0:
        raise GateError(
            f"cpcv: with groups {', '.join(map(str, chosen))} as the test no row is left to train on: look-backs and "
            "labels reach over all others; take a shorter context, fewer test groups or more days"
        )
    return CpcvSplit(groups=chosen, train=train, test=test, n_purged=int(rest.shape[0] - train.shape[0]))


def _check(n_groups: int, k_test: int) -> None:
    if not 1 <= k_test < n_groups:
        raise ValueError(f"cpcv: expected 1 <= k_test < n_groups, got {k_test} of {n_groups}")
