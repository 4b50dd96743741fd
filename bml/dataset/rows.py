"""The kept anchors of every target as columns: their returns and volatilities, then edges and classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bml.dataset.classes import ClassScheme, TripleBarrier, record
from bml.dataset.conditions import Lookbacks
from bml.dataset.labels import Bools, MoreLabels, Outcomes, assign_known, log_return, smoothed_return
from bml.dataset.series import Grid, Series
from bml.dataset.sigma import ewma
from bml.dataset.windows import (
    REASONS,
    WindowRule,
    candidate_rows,
    end_rows,
    first_reasons,
    presence,
    shifted,
    valid_rows,
    volatility,
)
from bml.types import NS_PER_S, Flag, Float64, GateError, Int32, Int64, SampleIndex

#: the volatility of ``Dataset.vol_N``
BLEND = ewma(3.0, 24.0)

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
        sigma_N = volatility(series, a, scheme.sigma, rule.horizon_rows)[rows_N]
        vol_N = volatility(series, a, BLEND, rule.horizon_rows)[rows_N]
        known_N: Bools = (sigma_N > 0) & (vol_N > 0)
        label = label_at(series, a, scheme, rule, rows_N, sigma_N, rule.horizon_rows)
        label_N = np.isfinite(label["return_N"])
        reason_N = first_reasons(series, rows_N, a, known_N, label_N, ungapped_NA, fresh_NA, rule)
        drops[series.symbols[a]] = {name: int((reason_N == k).sum()) for k, name in enumerate(REASONS)}
        if on_reasons is not None:
            on_reasons(series.symbols[a], rows_N, reason_N)
        kept = reason_N < 0
        part = {key: value[kept] for key, value in label.items()} | {"vol_N": vol_N[kept], "sigma_N": sigma_N[kept]}
        stop_N = label.get("touch_row_N", rows_N + rule.horizon_rows)
        part |= {"row_N": rows_N[kept], "target_N": np.full(int(kept.sum()), a, dtype=np.int32)}
        part |= _carried(series, a, rows_N[kept], stop_N[kept])
        part |= _other_labels(series, a, scheme, rule, rows_N[kept], sigma_N[kept])
        parts.append(part | {"present_NA": (ungapped_NA & fresh_NA)[kept]})
    columns = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    order = np.lexsort((columns["target_N"], columns["row_N"]))
    return {key: value[order] for key, value in columns.items()}, drops


def label_at(
    series: Series, a: int, scheme: ClassScheme, rule: WindowRule, rows_N: Int64, sigma_N: Float64, steps: int
) -> Arrays:
    """``return_N`` of the labels of symbol ``a`` that begin at ``rows_N`` (outside the data, too), NaN where unknown.

    Both ends must be rows a label may end on; of a smoothed label, all rows of the mean must have a price. With
    triple barriers also ``touch_row_N``, ``run_up_N`` and ``draw_down_N``, and every row up to the touch must be
    one a label may end on.
    """
    end_T = end_rows(series, a, rule)
    mid_T = series.mid_AT[a]
    if isinstance(scheme, TripleBarrier):
        from bml.dataset.barriers import outcomes

        return outcomes(mid_T, end_T, rows_N, scheme.edges(series.symbols[a], sigma_N), sigma_N, steps)
    if rule.smooth_rows:
        priced_T = np.where(valid_rows(mid_T, series.flag_AT[a]), mid_T, np.nan)
        return_T = smoothed_return(priced_T, steps, rule.smooth_rows)
    else:
        return_T = log_return(mid_T, steps)
    return_N = np.full(rows_N.shape, np.nan)
    known_N = shifted(end_T, rows_N, 0) & shifted(end_T, rows_N, steps)
    return_N[known_N] = return_T[rows_N[known_N]]
    return {"return_N": return_N}


def _carried(series: Series, a: int, rows_N: Int64, stop_N: Int64) -> Arrays:
    """Which labels start or end on a mid that is carried forward, and how old it is."""
    is_filled_T, content_ms_T = series.flag_AT[a] & int(Flag.FILLED) != 0, series.content_ms_AT[a]
    return {
        "anchor_filled_N": is_filled_T[rows_N],
        "label_filled_N": is_filled_T[stop_N],
        "oldest_ms_N": np.maximum(content_ms_T[rows_N], content_ms_T[stop_N]),
    }


def _other_labels(
    series: Series, a: int, scheme: ClassScheme, rule: WindowRule, rows_N: Int64, sigma_N: Float64
) -> Arrays:
    """The return of the label that ends at each anchor, if it is known, and those over the further horizons."""
    last = label_at(series, a, scheme, rule, rows_N - rule.horizon_rows, sigma_N, rule.horizon_rows)
    more_sigma_NH, more_return_NH = (np.empty((rows_N.shape[0], len(rule.more_rows))) for _ in range(2))
    for h, steps in enumerate(rule.more_rows):
        more_sigma_NH[:, h] = volatility(series, a, scheme.sigma, steps)[rows_N]
        more = label_at(series, a, scheme, rule, rows_N, more_sigma_NH[:, h], steps)
        more_return_NH[:, h] = more["return_N"]
    return {"last_return_N": last["return_N"], "more_sigma_NH": more_sigma_NH, "more_return_NH": more_return_NH}


def sample_index(series: Series, columns: Arrays, rule: WindowRule, reach: Lookbacks) -> SampleIndex:
    """The columns of :func:`collect` as a :class:`bml.types.SampleIndex`, with its three intervals, without classes."""
    anchor_ns_N = series.grid.time_ns(columns["row_N"])
    return SampleIndex(
        anchor_ns_N=anchor_ns_N,
        target_N=columns["target_N"],
        input_start_ns_N=anchor_ns_N - rule.window_rows * series.grid.cadence_ns,
        context_start_ns_N=reach.start_ns(anchor_ns_N),
        label_stop_ns_N=anchor_ns_N + rule.longest_rows * series.grid.cadence_ns,
        return_N=columns["return_N"],
        sigma_N=columns["sigma_N"],
        edges_NE=np.empty((anchor_ns_N.shape[0], 0)),
        y_N=np.full(anchor_ns_N.shape, -1, dtype=np.int64),
    )


def classify(
    scheme: ClassScheme, symbols: Sequence[str], target_N: Int32, return_N: Float64, sigma_N: Float64, train_N: Int64
) -> tuple[ClassScheme, Float64]:
    """``scheme`` fitted to the rows ``train_N`` that have a return, and the edges of all rows, (N, C - 1).

    Pass rows of one fold whose labels end within its training block: nothing else is looked at to fit.
    """
    fit_N = train_N[np.isfinite(return_N[train_N])]
    training = {}
    for a in np.unique(target_N):
        mine = fit_N[target_N[fit_N] == a]
        training[symbols[a]] = (return_N[mine], sigma_N[mine])
    scheme = scheme.fitted(training)
    edges_NE = np.empty((target_N.shape[0], len(scheme.names) - 1))
    for a in np.unique(target_N):
        mine = np.flatnonzero(target_N == a)
        edges_NE[mine] = scheme.edges(symbols[a], sigma_N[mine])
    return scheme, edges_NE


def more_labels(
    scheme: ClassScheme, series: Series, columns: Arrays, rule: WindowRule, train_N: Int64
) -> tuple[MoreLabels, tuple[ClassScheme, ...]]:
    """The labels over the further horizons of ``rule`` and the scheme fitted to each.

    Raises GateError with the horizon that a scheme cannot be fitted to.
    """
    return_NH, sigma_NH = columns["more_return_NH"], columns["more_sigma_NH"]
    y_NH = np.empty(return_NH.shape, dtype=np.int64)
    schemes: list[ClassScheme] = []
    for h, steps in enumerate(rule.more_rows):
        try:
            fitted, edges_NE = classify(
                scheme, series.symbols, columns["target_N"], return_NH[:, h], sigma_NH[:, h], train_N
            )
        except GateError as error:
            raise GateError(f"horizon_s {steps * series.grid.cadence_ns / NS_PER_S:g}: {error}") from error
        schemes.append(fitted)
        y_NH[:, h] = assign_known(return_NH[:, h], edges_NE)
    more = MoreLabels(
        horizons_ns_H=np.array(rule.more_rows, dtype=np.int64) * series.grid.cadence_ns,
        return_NH=return_NH,
        sigma_NH=sigma_NH,
        y_NH=y_NH,
    )
    return more, tuple(schemes)


def outcomes_of(series: Series, columns: Arrays) -> Outcomes | None:
    """How the labels ended, if they are of triple barriers."""
    if "touch_row_N" not in columns:
        return None
    return Outcomes(
        touch_ns_N=series.grid.time_ns(columns["touch_row_N"]),
        run_up_N=columns["run_up_N"],
        draw_down_N=columns["draw_down_N"],
    )


def described(rule: WindowRule, grid: Grid, schemes: Sequence[ClassScheme]) -> tuple[dict[str, Any], ...]:
    """What the labels of each horizon are, with every number that was fitted, as JSON has it."""
    cadence_s = grid.cadence_ns / NS_PER_S
    return tuple(
        {"horizon_s": rows * cadence_s, "smooth_s": rule.smooth_rows * cadence_s, "classes": record(scheme)}
        for rows, scheme in zip((rule.horizon_rows, *rule.more_rows), schemes, strict=True)
    )
