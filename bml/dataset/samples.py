"""From day files to a dataset: which windows are usable, what follows each, and which block it belongs to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field

from bml.book.store import DayStore
from bml.config import Config, DataSpec
from bml.dataset.calendar import held_notes, trained_features
from bml.dataset.classes import ClassParams, ClassScheme, TripleBarrier, VolatilityClasses, class_scheme
from bml.dataset.conditions import Context, conditions, context_spec, lookbacks, volatility_rows
from bml.dataset.context import fit_scaler, moments_table
from bml.dataset.dataset import Dataset as Dataset
from bml.dataset.labels import assign, assign_known
from bml.dataset.regime import REGIMES
from bml.dataset.rows import (
    BLEND,
    Arrays,
    OnReasons,
    classify,
    collect,
    described,
    more_labels,
    outcomes_of,
    sample_index,
)
from bml.dataset.series import Grid, Series, read_series
from bml.dataset.splits import SplitParams, block_bounds, split_spec, train_span
from bml.dataset.splits import split as split_blocks
from bml.dataset.weights import block_uniqueness
from bml.dataset.windows import WindowRule, label_rows, whole_rows
from bml.registry import checked_by, stage
from bml.types import DEVELOPMENT, MAX_DAYS, NS_PER_DAY, NS_PER_S, SPLITS, ConfigError, EmptyBlock, Fold, SampleIndex

Positive = Annotated[float, Field(gt=0)]

#: share of labels on mids that are carried forward, from which on a note says so
CARRIED_SHARE = 0.01

_NO_MEAN = "a triple barrier is about the path and cannot be smoothed; leave label and smooth_s out"


def _consistent(classes: ClassParams | None) -> ClassParams | None:
    """Refuse edges that do not rise, with all other faults of a configuration, before anything runs."""
    try:
        class_scheme(classes)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return classes


Classes = Annotated[ClassParams | None, AfterValidator(_consistent)]


def _misfits(data: DataSpec, params: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The parameters that do not fit the data section, each with its reason."""
    for name, unit_s in (("window_h", 3600.0), ("stride_s", 1.0)):
        try:
            whole_rows(name, params[name], unit_s, data.cadence_ns)
        except ConfigError as error:
            yield name, str(error).removeprefix(f"{name}: ")
    try:
        label_rows(params["horizon_s"], params["label_horizon_s"], params["label"], params["smooth_s"], data.cadence_ns)
    except ConfigError as error:
        name, _, fault = str(error).partition(": ")
        yield name, fault
    if params["label"] == "smoothed" and isinstance(class_scheme(params["classes"]), TripleBarrier):
        yield "label", _NO_MEAN
    try:
        volatility_rows(context_spec(params["context"]), data.cadence_ns)
    except ConfigError as error:
        yield "context", str(error)
    try:
        _codes(data.symbols, params["targets"] or (), class_scheme(params["classes"]))
    except ConfigError as error:
        name, _, fault = str(error).partition(": ")
        yield name, fault
    if params["min_assets"] > len(data.symbols):
        yield "min_assets", f"{params['min_assets']} of {len(data.symbols)} symbols can never be present"
    try:
        train_span(data.start, data.stop, params["split"])
    except ConfigError as error:
        yield "split", str(error).removeprefix("split: ")


@stage
@checked_by(_misfits)
def book_windows(
    cfg: Config,
    store: DayStore,
    *,
    window_h: Positive = 24.0,
    stride_s: Positive = 300.0,
    horizon_s: Positive | list[Positive] = 1800.0,
    label_horizon_s: Positive | None = None,
    label: Literal["anchored", "smoothed"] = "anchored",
    smooth_s: Positive | None = None,
    classes: Classes = None,
    targets: list[str] | None = None,
    min_assets: Annotated[int, Field(ge=1)] = 1,
    max_filled: Annotated[float, Field(ge=0, le=1)] = 0.02,
    max_stale_s: Positive | None = None,
    context_days: Annotated[int, Field(ge=0, le=MAX_DAYS)] = 90,
    context: Context = None,
    split: SplitParams | None = None,
    on_reasons: OnReasons | None = None,
) -> Dataset:
    """Index every usable window of the configured days, with its label, class, split and context.

    An anchor every ``stride_s`` from the start of the data; its input is (anchor - window_h, anchor], its label the
    log return over ``horizon_s``. Of several horizons ``label_horizon_s`` (default: the first) is the one to train on;
    the others are ``Dataset.more``, and purging minds the longest. ``label: smoothed`` ends on the mean mid of the
    last ``smooth_s``: easier to guess for nothing. A symbol is present in a window without a GAP or ABSENT row and
    with a share of FILLED, OUTLIER and stale rows up to ``max_filled``; a window is usable with ``min_assets``
    symbols present, the target among them. A row is stale when what it says is older than ``max_stale_s``: the age
    of its snapshot plus how long the book had been the same in every cell by then (STUCK). Labels neither start nor
    end on a stale or an OUTLIER row. Default: a tenth of the horizon, but never below the cadence. ``targets``
    (default: the reference) are the symbols to predict. ``classes`` is read by
    :func:`bml.dataset.classes.class_scheme`, ``context`` (volatility, volume, regime) by
    :func:`bml.dataset.conditions.context_spec` and ``split`` by :func:`bml.dataset.splits.split_spec`; what classes
    learn, they learn from the training rows of this split. Windows and labels may cross midnight; a missing day file
    is a day of absent rows. ``context_days`` completed days before the anchor's day form the long channel (0: none).

    Reads mids, flags, ages and moments of all days, and of the book the rows that seem to repeat. Raises
    ConfigError (durations that are no multiple of the cadence, unknown symbols, bad classes or split), DataError
    (day files that do not fit) and GateError (an empty block, with the reasons its anchors were dropped).
    ``on_reasons``: see :func:`bml.dataset.rows.collect`.
    """
    grid = _grid(cfg)
    _check(min_assets, max_filled, max_stale_s, context_days, len(cfg.data.symbols))
    horizon_rows, more_rows, smooth_rows = label_rows(horizon_s, label_horizon_s, label, smooth_s, grid.cadence_ns)
    rule = WindowRule(
        window_rows=whole_rows("window_h", window_h, 3600.0, grid.cadence_ns),
        stride_rows=whole_rows("stride_s", stride_s, 1.0, grid.cadence_ns),
        horizon_rows=horizon_rows,
        min_assets=min_assets,
        max_filled=max_filled,
        max_stale_ms=_stale_ms(max_stale_s, horizon_rows, grid),
        smooth_rows=smooth_rows,
        more_rows=more_rows,
    )
    scheme, spec, wanted = class_scheme(classes), split_spec(split), context_spec(context)
    if isinstance(scheme, TripleBarrier) and smooth_rows:
        raise ConfigError(f"label: {_NO_MEAN}")
    reach = lookbacks(grid, rule, wanted, context_days, sigmas=(scheme.sigma, BLEND))
    bounds = block_bounds(cfg.data.start, cfg.data.stop, spec)
    train_days = (train_span(cfg.data.start, cfg.data.stop, split)[1] - cfg.data.start).days
    symbols = tuple(cfg.data.symbols)
    codes = _codes(symbols, targets or [cfg.data.reference], scheme)

    series = read_series(store, symbols, grid)
    found, drops = collect(series, codes, scheme, rule, on_reasons)
    index = sample_index(series, found, rule, reach)
    fold = split_blocks(index, bounds, embargo_ns=spec.embargo_ns)
    _require_all_blocks(fold, drops)

    scheme, edges_NE = classify(scheme, symbols, index.target_N, index.return_N, index.sigma_N, fold.train)
    more, more_schemes = more_labels(scheme, series, found, rule, fold.train)
    index = replace(index, edges_NE=edges_NE, y_N=assign(index.return_N, edges_NE))
    known = conditions(series, found["row_N"], index.target_N, wanted, train_days)
    targets_by_code = {code: symbols[code] for code in codes}
    x_time_NK, time_names, scale = trained_features(index, fold.train, bounds[0], targets_by_code, known)
    moments_DAS, present_DA, moment_names = moments_table(series)
    return Dataset(
        symbols=symbols,
        targets=tuple(targets_by_code.values()),
        reference=cfg.data.reference,
        grid=grid,
        window_rows=rule.window_rows,
        horizon_rows=rule.horizon_rows,
        context_days=context_days,
        levels=series.levels,
        index=index,
        fold=fold,
        class_names=scheme.names,
        scaler=fit_scaler(series, moments_DAS, train_days),
        calendar=scale,
        x_time_NK=x_time_NK,
        time_names=time_names,
        present_NA=found["present_NA"],
        moments_DAS=moments_DAS,
        moments_present_DA=present_DA,
        moment_names=moment_names,
        vol_N=found["vol_N"],
        last_y_N=assign_known(found["last_return_N"], edges_NE),
        more=more,
        outcomes=outcomes_of(series, found),
        labelling=described(rule, grid, (scheme, *more_schemes)),
        drop_reasons=drops,
        class_shares=_class_shares(index, fold, len(scheme.names)),
        n_eff=_effective(index, fold),
        notes=(
            *_notes(index, fold, scheme, series),
            *_carried(found, fold),
            *_smoothed(rule, grid),
            *held_notes(scale),
        ),
        store_digest=store.digest,
        store=store,
        feature_names=series.feature_names,
        lookbacks=reach.at_most(),
        regime_N=known.regime_N,
        regime_names=REGIMES if wanted.regime else (),
        regime_model=known.regime_model,
    )


book_windows.__bml_injected__ = {"on_reasons"}  # type: ignore[attr-defined]


def _grid(cfg: Config) -> Grid:
    cadence_ns = round(cfg.data.cadence_s * NS_PER_S)
    if cadence_ns <= 0 or NS_PER_DAY % cadence_ns:
        raise ConfigError(f"data.cadence_s: {cfg.data.cadence_s:g} s does not divide a day; take 1, 5, 10, 60...")
    return Grid(
        first=cfg.data.start,
        n_days=(cfg.data.stop - cfg.data.start).days,
        cadence_ns=cadence_ns,
        phase_ns=round(cfg.data.phase_ms * 1e6),
    )


def _check(min_assets: int, max_filled: float, max_stale_s: float | None, context_days: int, n_symbols: int) -> None:
    if not 1 <= min_assets <= n_symbols:
        raise ConfigError(f"min_assets: expected 1 to {n_symbols} (the number of data.symbols), got {min_assets}")
    if not 0 <= max_filled <= 1:
        raise ConfigError(f"max_filled: expected a share from 0 to 1, got {max_filled:g}")
    if not 0 <= context_days <= MAX_DAYS:
        raise ConfigError(f"context_days: expected 0 to {MAX_DAYS} days, got {context_days}")
    if max_stale_s is not None and not 0 < max_stale_s <= MAX_DAYS * 86_400:
        raise ConfigError(f"max_stale_s: expected seconds above 0, of at most {MAX_DAYS} days, got {max_stale_s:g}")


def _stale_ms(max_stale_s: float | None, horizon_rows: int, grid: Grid) -> int:
    """The age from which a row is stale; by default a tenth of the horizon or, if that is more, the cadence."""
    horizon_s, cadence_s = (rows * grid.cadence_ns / NS_PER_S for rows in (horizon_rows, 1))
    limit_s = max(horizon_s / 10.0, cadence_s) if max_stale_s is None else max_stale_s
    return math.floor(limit_s * 1e3 + 1e-6)


def _codes(symbols: Sequence[str], targets: Sequence[str], scheme: ClassScheme) -> list[int]:
    """Places of the targets among the symbols, in the order of the symbols."""
    for where, names in (("targets", targets), ("classes.per_symbol", getattr(scheme, "per_symbol", {}))):
        for name in names:
            if name not in symbols:
                raise ConfigError(f"{where}: {name!r} is not one of data.symbols ({', '.join(symbols)})")
    if len(set(targets)) != len(targets):
        raise ConfigError(f"targets: named twice in {', '.join(targets)}")
    return sorted(symbols.index(name) for name in targets)


def _require_all_blocks(fold: Fold, drops: Mapping[str, Mapping[str, int]]) -> None:
    """An EmptyBlock that says why, when a block has no sample."""
    empty = [name for name in SPLITS if getattr(fold, name).shape[0] == 0]
    if not empty:
        return
    told = "; ".join(
        f"{symbol}: " + (", ".join(f"{name} {count}" for name, count in reasons.items() if count) or "none")
        for symbol, reasons in drops.items()
    )
    some = sum(getattr(fold, name).shape[0] for name in SPLITS)
    what = f"no usable window in {', '.join(empty)}" if some else "no usable window"
    raise EmptyBlock(f"{what}: dropped anchors of {told}; purged {fold.n_purged}. Take more days, a shorter window or "
                    "horizon, or a larger max_filled or max_stale_s")  # fmt: skip


def _class_shares(index: SampleIndex, fold: Fold, n_classes: int) -> dict[str, list[float]]:
    """Per block; the test block's are for its report."""
    counts = {name: np.bincount(index.y_N[getattr(fold, name)], minlength=n_classes) for name in DEVELOPMENT}
    return {name: (count / count.sum()).tolist() for name, count in counts.items()}


def _effective(index: SampleIndex, fold: Fold) -> dict[str, float]:
    """Sum of average uniqueness per block; labels overlap within a target, so targets are counted apart."""
    return {name: float(unique_R.sum()) for name, unique_R in block_uniqueness(index, fold).items()}


def _notes(index: SampleIndex, fold: Fold, scheme: ClassScheme, series: Series) -> tuple[str, ...]:
    seen = np.bincount(index.y_N[fold.train], minlength=len(scheme.names))
    notes = [
        f"class {name!r} has no training sample: nothing can be learnt of it; choose other edges"
        for name, count in zip(scheme.names, seen, strict=True)
        if count == 0
    ]
    notes += [
        f"{symbol}: {count} of {series.grid.n_days} days have no file"
        for symbol, count in series.missing.items()
        if count
    ]
    per_symbol = getattr(scheme, "per_symbol", {})
    notes += [f"{symbol}: class edges {list(edges)} % of its own" for symbol, edges in per_symbol.items()]
    unit = " sd" if isinstance(scheme, VolatilityClasses) else ""
    notes += [
        f"{symbol}: class edges fitted on training rows: {', '.join(f'{cut:.4g}{unit}' for cut in cuts)}"
        for symbol, cuts in getattr(scheme, "cuts", {}).items()
    ]
    return tuple(notes)


def _carried(found: Arrays, fold: Fold) -> tuple[str, ...]:
    """A note of how many labels start or end on a mid that is carried forward, where that is more than 1 %.

    Of the blocks before the test block: where a label of triple barriers ends is its outcome.
    """
    rows = np.concatenate([getattr(fold, name) for name in DEVELOPMENT])
    anchor_N, label_N, oldest_ms_N = (found[key][rows] for key in ("anchor_filled_N", "label_filled_N", "oldest_ms_N"))
    if max(anchor_N.mean(), label_N.mean()) <= CARRIED_SHARE:
        return ()
    minutes = oldest_ms_N[anchor_N | label_N].max() / 60e3
    return (
        f"{100 * anchor_N.mean():.0f} % of anchors and {100 * label_N.mean():.0f} % of label ends are carried forward, "
        f"oldest {minutes:.1f} min; a smaller max_stale_s drops them",
    )


def _smoothed(rule: WindowRule, grid: Grid) -> tuple[str, ...]:
    """A note of what a smoothed label gives away."""
    if not rule.smooth_rows:
        return ()
    seconds = rule.smooth_rows * grid.cadence_ns / NS_PER_S
    return (f"labels end on the mean mid of their last {seconds:g} s: noise of the mid at the anchor guesses part of "
            "them, and nobody can trade them",)  # fmt: skip
