"""The kept anchors of every target as columns: their returns, volatilities, edges and classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bml.dataset.labels import Bools, ClassScheme, assign, log_return
from bml.dataset.series import Series
from bml.dataset.windows import (
    REASONS,
    WindowRule,
    candidate_rows,
    end_rows,
    first_reasons,
    presence,
    shifted,
    volatility,
)
from bml.types import NS_PER_DAY, Flag, Float64, Int64, SampleIndex

#: half-lives in hours whose variances are averaged into ``Dataset.vol_N``
BLEND_H = (3.0, 24.0)

Arrays = dict[str, Any]
OnReasons = Callable[[str, Int64, Int64], None]


def collect(
    series: Series, codes: Sequence[int], scheme: ClassScheme, rule: WindowRule, on_reasons: OnReasons | None = None
) -> tuple[Arrays, dict[str, dict[str, int]]]:
    """Columns of all kept anchors of all targets, by anchor then target, and the dropped ones per target.

    ``on_reasons`` is told, per target, every row that was tried and the index of its reason in ``REASONS``, -1: kept.
    """
    rows_N = candidate_rows(series.grid.n_rows, rule)
    ungapped_NA, fresh_NA = presence(series, rows_N, rule)
    parts: list[Arrays] = []
    drops: dict[str, dict[str, int]] = {}
    for a in codes:
        sigma_T = volatility(series, a, scheme.sigma_half_life_h, rule.horizon_rows)
        vol_T = _blend([volatility(series, a, hours, rule.horizon_rows) for hours in BLEND_H])
        known_N: Bools = (sigma_T[rows_N] > 0) & (vol_T[rows_N] > 0)
        reason_N = first_reasons(series, rows_N, a, known_N, ungapped_NA, fresh_NA, rule)
        symbol = series.symbols[a]
        drops[symbol] = {name: int((reason_N == k).sum()) for k, name in enumerate(REASONS)}
        kept = reason_N < 0
        if on_reasons is not None:
            on_reasons(series.symbols[a], rows_N, reason_N)
        part = _labelled(series, a, symbol, scheme, rule, rows_N[kept], sigma_T, vol_T)
        parts.append(part | {"present_NA": (ungapped_NA & fresh_NA)[kept]})
    columns = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    order = np.lexsort((columns["target_N"], columns["row_N"]))
    return {key: value[order] for key, value in columns.items()}, drops


def _labelled(
    series: Series,
    a: int,
    symbol: str,
    scheme: ClassScheme,
    rule: WindowRule,
    rows_N: Int64,
    sigma_T: Float64,
    vol_T: Float64,
) -> Arrays:
    return_T = log_return(series.mid_AT[a], rule.horizon_rows)
    stop_N = rows_N + rule.horizon_rows
    is_filled_T, content_ms_T = series.flag_AT[a] & int(Flag.FILLED) != 0, series.content_ms_AT[a]
    sigma_N = sigma_T[rows_N]
    edges_NE = scheme.edges(symbol, sigma_N)
    last_y_N = np.full(rows_N.shape, -1, dtype=np.int64)
    past = shifted(end_rows(series, a, rule), rows_N, -rule.horizon_rows)
    last_y_N[past] = assign(return_T[rows_N[past] - rule.horizon_rows], edges_NE[past])
    return {
        "row_N": rows_N,
        "target_N": np.full(rows_N.shape, a, dtype=np.int32),
        "return_N": return_T[rows_N],
        "sigma_N": sigma_N,
        "vol_N": vol_T[rows_N],
        "edges_NE": edges_NE,
        "y_N": assign(return_T[rows_N], edges_NE),
        "last_y_N": last_y_N,
        "anchor_filled_N": is_filled_T[rows_N],
        "label_filled_N": is_filled_T[stop_N],
        "oldest_ms_N": np.maximum(content_ms_T[rows_N], content_ms_T[stop_N]),
    }


def _blend(sigmas: Sequence[Float64]) -> Float64:
    blended: Float64 = np.sqrt(np.mean([sigma_T**2 for sigma_T in sigmas], axis=0))
    return blended


def sample_index(series: Series, columns: Arrays, rule: WindowRule, context_days: int) -> SampleIndex:
    """The columns of :func:`collect` as a :class:`bml.types.SampleIndex`, with its three intervals."""
    anchor_ns_N = series.grid.time_ns(columns["row_N"])
    day_N = anchor_ns_N // NS_PER_DAY
    return SampleIndex(
        anchor_ns_N=anchor_ns_N,
        target_N=columns["target_N"],
        input_start_ns_N=anchor_ns_N - rule.window_rows * series.grid.cadence_ns,
        context_start_ns_N=(day_N - context_days) * NS_PER_DAY,
        label_stop_ns_N=anchor_ns_N + rule.horizon_rows * series.grid.cadence_ns,
        return_N=columns["return_N"],
        sigma_N=columns["sigma_N"],
        edges_NE=columns["edges_NE"],
        y_N=columns["y_N"],
    )
