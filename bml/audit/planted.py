"""Known leaks, planted on purpose: an audit that does not find them finds nothing.

Each replaces a function of the real pipeline by one with a mistake that has been made before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bml.audit.replay import Replay
from bml.audit.swap import swapped
from bml.book.days import days_between
from bml.registry import learner
from bml.types import AlignedDay, Flag, Float64, Fold, Int64, SampleIndex

#: places of functions that leaks replace
SAMPLES, ROWS, DAYS = "bml.dataset.samples", "bml.dataset.rows", "bml.book.days"


@dataclass(frozen=True, kw_only=True, slots=True)
class Leak:
    """A mistake by name. ``rebuilds``: day files are other ones with it. ``pointless`` says why it can do no harm to
    the data of a replay, "" where it can."""

    name: str
    plant: Callable[[], AbstractContextManager[None]]
    rebuilds: bool = False
    pointless: Callable[[Replay], str] = lambda replay: ""


LEAKS: list[Leak] = []


def known_leak(name: str, module: str, function: str, **options: Any) -> Callable[[Any], Any]:
    """Register ``make(real function)`` as a leak."""

    def register(make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Any:
        LEAKS.append(Leak(name=name, plant=lambda: swapped(module, function, make), **options))
        return make

    return register


@known_leak("scaler of all days", SAMPLES, "fit_scaler")
def _scaler_of_all(real: Any) -> Any:
    return lambda series, moments_DAS, train_days: real(series, moments_DAS, series.grid.n_days)


@known_leak("z-score over the whole day", DAYS, "DayBuilder.build", rebuilds=True)
def _whole_day_score(real: Any) -> Any:
    def build(self: Any, symbol: str, day: Any) -> AlignedDay:
        built: AlignedDay = real(self, symbol, day)
        scale_LF = np.nan_to_num(built.book_TLF).std(axis=0, dtype=np.float64) + 1.0
        return replace(built, book_TLF=(built.book_TLF / scale_LF).astype(built.book_TLF.dtype))

    return build


@known_leak("mids smoothed by a centred mean", SAMPLES, "read_series")
def _centred(real: Any) -> Any:
    def read_series(*arguments: Any) -> Any:
        series = real(*arguments)
        mid_AT = series.mid_AT.copy()
        mid_AT[:, 1:-1] = (series.mid_AT[:, :-2] + series.mid_AT[:, 1:-1] + series.mid_AT[:, 2:]) / 3.0
        return replace(series, mid_AT=np.where(np.isnan(mid_AT), series.mid_AT, mid_AT))

    return read_series


def _no_old_rows(replay: Replay) -> str:
    dataset = replay.real.dataset
    old = any((dataset.series(symbol)[1] & np.uint16(Flag.FILLED | Flag.GAP) != 0).any() for symbol in dataset.symbols)
    return "" if old else "every row has a new snapshot"


@known_leak("old rows filled from behind", DAYS, "DayBuilder.build", rebuilds=True, pointless=_no_old_rows)
def _back_filled(real: Any) -> Any:
    def build(self: Any, symbol: str, day: Any) -> AlignedDay:
        built: AlignedDay = real(self, symbol, day)
        rows_T = np.arange(built.flag_T.shape[0])
        is_old_T = built.flag_T & np.uint16(Flag.FILLED | Flag.GAP) != 0
        next_T = np.minimum.accumulate(np.where(is_old_T, rows_T[-1], rows_T)[::-1])[::-1]
        return replace(built, book_TLF=built.book_TLF[next_T], mid_T=built.mid_T[next_T], flag_T=built.flag_T[next_T])

    return build


@known_leak("label off by one row", ROWS, "log_return")
def _off_by_one(real: Any) -> Any:
    def log_return(mid_T: Float64, steps: int) -> Float64:
        right_T, wrong_T = real(mid_T, steps), real(mid_T, steps + 1)
        return_T: Float64 = np.where(np.isnan(wrong_T), right_T, wrong_T)
        return return_T

    return log_return


@known_leak("class edges of the test block's own", SAMPLES, "classify")
def _own_edges(real: Any) -> Any:
    def classify(scheme: Any, symbols: Any, target_N: Any, return_N: Float64, *arguments: Any) -> Any:
        fitted, edges_NE = real(scheme, symbols, target_N, return_N, *arguments)
        late = np.arange(return_N.shape[0]) >= 0.8 * return_N.shape[0]
        edges_NE[late] = np.quantile(return_N[late], np.linspace(0.0, 1.0, edges_NE.shape[1] + 2)[1:-1])
        return fitted, edges_NE

    return classify


def _no_spanned(replay: Replay) -> str:
    return "" if _spanned(replay.real.dataset.index).shape[0] else "no label reaches beyond the next anchor"


def _spanned(index: SampleIndex) -> Int64:
    """Moments between two anchors that a label spans."""
    anchor_ns_M = np.unique(index.anchor_ns_N)
    length_ns = int((index.label_stop_ns_N - index.anchor_ns_N).min())
    spanned_ns_M: Int64 = anchor_ns_M[:-1][np.diff(anchor_ns_M) < length_ns] + 1
    return spanned_ns_M


@known_leak("labels that straddle the border of blocks", SAMPLES, "split_blocks", pointless=_no_spanned)
def _not_purged(real: Any) -> Any:
    """The first border moves to the nearest place between two anchors that a label spans, and purges nothing."""

    def split(index: Any, bounds_ns: Any, **options: Any) -> Fold:
        (start_ns, border_ns), (_, stop_ns), *rest = bounds_ns
        spanned_ns_M = _spanned(index)
        border_ns = int(spanned_ns_M[np.abs(spanned_ns_M - border_ns).argmin()])
        fold: Fold = real(index, ((start_ns, border_ns), (border_ns, stop_ns), *rest), **options)
        return replace(fold, train=np.flatnonzero(index.anchor_ns_N < border_ns))

    return split


@known_leak("volatility of the whole day", SAMPLES, "collect")
def _sigma_of_day(real: Any) -> Any:
    def change(columns: Any) -> None:
        per_day = np.unique(np.diff(np.unique(columns["row_N"]))).min()
        day_N = columns["row_N"] // max(1, int(per_day) * 24)
        for value in np.unique(day_N):
            mine = day_N == value
            columns["sigma_N"][mine] = columns["sigma_N"][mine].mean()

    return _collected(real, change)


@known_leak("calibration rows shared with early stopping", SAMPLES, "split_blocks")
def _shared_rows(real: Any) -> Any:
    def split(*arguments: Any, **options: Any) -> Fold:
        fold: Fold = real(*arguments, **options)
        return replace(fold, calibrate=np.concatenate([fold.early_stop, fold.calibrate]))

    return split


@known_leak("calibrator fitted on the test block", SAMPLES, "split_blocks")
def _calibrated_on_test(real: Any) -> Any:
    def split(*arguments: Any, **options: Any) -> Fold:
        fold: Fold = real(*arguments, **options)
        return replace(fold, calibrate=fold.test, test=fold.calibrate)

    return split


def _nothing_learned(replay: Replay) -> str:
    calls = [call for call in replay.cfg.preprocess if learner(call.function()) is not None]
    return "" if any(call.params.get("edges") is None for call in calls) else "the plan is given, not learned"


@known_leak("depth plan of the test span", "bml.learned", "train_days", pointless=_nothing_learned)
def _plan_of_test(real: Any) -> Any:
    def train_days(cfg: Any) -> Any:
        days = days_between(cfg.data.start, cfg.data.stop)
        return days[-max(1, len(days) // 5) :]

    return train_days


@known_leak("moments of the unfinished day", SAMPLES, "moments_table")
def _unfinished_day(real: Any) -> Any:
    def moments_table(series: Any) -> Any:
        moments_DAS, present_DA, names = real(series)
        return np.roll(moments_DAS, -1, axis=0), np.roll(present_DA, -1, axis=0), names

    return moments_table


@known_leak("presence that looks ahead", ROWS, "presence")
def _presence_ahead(real: Any) -> Any:
    def presence(series: Any, rows_N: Int64, rule: Any) -> Any:
        ahead = real(series, np.minimum(rows_N + 1, series.grid.n_rows - 1), rule)
        return tuple(now | (rows_N == 0)[:, None] for now in ahead)

    return presence


@known_leak("windows kept for what follows them", ROWS, "first_reasons")
def _survivors(real: Any) -> Any:
    def first_reasons(series: Any, rows_N: Int64, a: int, *arguments: Any) -> Any:
        found = real(series, rows_N, a, *arguments)
        unknown_T = np.cumsum(~np.isfinite(series.mid_AT[a]), dtype=np.int64)
        later = np.minimum(rows_N + 2, series.grid.n_rows - 1)
        return np.where((found < 0) & (unknown_T[later] > unknown_T[rows_N]), 2, found)

    return first_reasons


@known_leak("rows kept for what came of them", SAMPLES, "collect")
def _by_outcome(real: Any) -> Any:
    """Without the largest moves, as if they were outliers."""

    def collect(*arguments: Any, **options: Any) -> Any:
        columns, drops = real(*arguments, **options)
        size_N = np.abs(columns["return_N"])
        keep_N = size_N <= np.quantile(size_N, 0.99)
        return {name: column[keep_N] for name, column in columns.items()}, drops

    return collect


@known_leak("weights scaled over all rows", "bml.training.losses", "row_weights")
def _weights_of_all(real: Any) -> Any:
    def row_weights(dataset: Any, rows: Int64, *arguments: Any, **options: Any) -> Any:
        return real(dataset, np.arange(len(dataset)), *arguments, **options)[rows]

    return row_weights


@known_leak("last label that is not known yet", SAMPLES, "collect")
def _last_label(real: Any) -> Any:
    def change(columns: Any) -> None:
        for target in np.unique(columns["target_N"]):
            mine = np.flatnonzero(columns["target_N"] == target)
            columns["last_return_N"][mine[1:]] = columns["return_N"][mine[:-1]]

    return _collected(real, change)


@known_leak("input window a row too late", "bml.dataset.series", "Grid.row")
def _late_window(real: Any) -> Any:
    def row(self: Any, time_ns_N: Int64) -> Int64:
        later: Int64 = np.minimum(real(self, time_ns_N) + 1, self.n_rows - 1)
        return later

    return row


def _no_regime(replay: Replay) -> str:
    return "" if replay.real.dataset.regime_names else "no regime is configured"


@known_leak("regime by the whole span", "bml.dataset.conditions", "regime_table", pointless=_no_regime)
def _regime_of_all(real: Any) -> Any:
    """Volatility is high above the mean of all days, or the model is fitted to all of them."""

    def ranked(x_DA: Float64, days: int) -> Float64:
        count_A = np.maximum(np.isfinite(x_DA).sum(axis=0), 1)
        return np.where(np.isfinite(x_DA), x_DA > np.nansum(x_DA, axis=0) / count_A, np.nan)

    def regime_table(series: Any, spec: Any, train_days: int) -> Any:
        with swapped("bml.dataset.regime", "trailing_rank", lambda fn: ranked):
            return real(series, spec, series.grid.n_days)

    return regime_table


@contextmanager
def _calendar_of_all() -> Iterator[None]:
    """The scale of the calendar sees the volatilities of all rows, those of the test block too."""
    seen: dict[str, Any] = {}

    def remember(real: Any) -> Any:
        return _collected(real, lambda columns: seen.update(sigma_N=columns["sigma_N"].copy()))

    def fit(real: Any) -> Any:
        return lambda start_ns, stop_ns, sigma_train_N, *rest: real(start_ns, stop_ns, seen["sigma_N"], *rest)

    with swapped(SAMPLES, "collect", remember), swapped("bml.dataset.calendar", "fit_scale", fit):
        yield


LEAKS.append(Leak(name="calendar scale of all rows", plant=_calendar_of_all))


def _collected(real: Any, change: Callable[[Any], None]) -> Any:
    """``collect`` whose columns are changed in place."""

    def collect(*arguments: Any, **options: Any) -> Any:
        columns, drops = real(*arguments, **options)
        change(columns)
        return columns, drops

    return collect
