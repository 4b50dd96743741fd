"""Known leaks no scrambled future shows by itself: labels that begin too early, rows that are chosen, rows that mix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from bml.audit.planted import ROWS, SAMPLES, known_leak
from bml.types import Float64, Fold

Real = Callable[..., Any]

#: of falls, in millionths, those that so much divides are left out
EVERY = 4


@known_leak("label that begins a row before its anchor", ROWS, "log_return")
def _early(real: Real) -> Real:
    def log_return(mid_T: Float64, steps: int) -> Float64:
        right_T, longer_T = real(mid_T, steps), real(mid_T, steps + 1)
        early_T = np.concatenate([[np.nan], longer_T[:-1]])
        return_T: Float64 = np.where(np.isnan(early_T) | np.isnan(right_T), right_T, early_T)
        return return_T

    return log_return


@known_leak("test rows left out for what came of them", SAMPLES, "split_blocks")
def _test_without_falls(real: Real) -> Real:
    def split(index: Any, *arguments: Any, **options: Any) -> Fold:
        fold: Fold = real(index, *arguments, **options)
        return replace(fold, test=fold.test[~_fallen(index.return_N[fold.test])])

    return split


@known_leak("falls called unknown", ROWS, "label_at")
def _fall_is_unknown(real: Real) -> Real:
    def label_at(*arguments: Any) -> dict[str, Any]:
        label: dict[str, Any] = real(*arguments)
        return label | {"return_N": np.where(_fallen(label["return_N"]), np.nan, label["return_N"])}

    return label_at


@known_leak("inputs centred over their batch", "bml.dataset.columns", "Columns.of")
def _batch_mean(real: Real) -> Real:
    def of(self: Any, *arguments: Any) -> dict[str, Any]:
        columns: dict[str, Any] = real(self, *arguments)
        x_BK = columns["x_time_BK"]
        return columns | {"x_time_BK": (x_BK - x_BK.mean(axis=0)).astype(x_BK.dtype)}

    return of


def _fallen(return_N: Float64) -> Any:
    """Some of the falls, by their size alone: the same ones in any company."""
    return (return_N < 0) & (np.floor(return_N * 1e6) % EVERY == 0)
