"""Types that flow through bml: each arrow of the pipeline is one frozen dataclass.

Shape letters, used as suffixes of array names everywhere:

    N rows or samples   T times          A assets      L levels (or depth bins)   F book fields
    D days              S statistics     B batch       C classes                  K features (calendar, window)

Timestamps are int64 nanoseconds UTC and end in ``_ns``. Missing is NaN in floats and -1 in indices, never 0:
a zero quantity is data. ``px`` is a price, ``qty`` a size in base units. A day is [00:00, 24:00) UTC.
"""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]
Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.floating]

#: the F axis of every book tensor
FIELDS = ("bid_px", "bid_qty", "ask_px", "ask_qty")
BID_PX, BID_QTY, ASK_PX, ASK_QTY = range(4)
BID, ASK = 0, 1

NS_PER_S = 1_000_000_000
NS_PER_DAY = 86_400 * NS_PER_S
#: of any window, horizon or look-back a configuration may ask for; int64 ns hold the sum of several
MAX_DAYS = 3650


class BmlError(Exception):
    """Base of every error a user can cause; its text is one line: what, where, what to do."""

    exit_code = 1


class ConfigError(BmlError):
    """The configuration is wrong. One fault a line, each with its place in the YAML file."""

    exit_code = 2


class DataError(BmlError):
    """Rows, files or tensors break their contract (names symbol, time and level)."""


class StoreError(BmlError):
    """A day file cannot be written, or is truncated, foreign, incomplete or damaged."""


class UnreadableFile(StoreError):
    """A day file may be there and whole, but the system does not let it be read: permission, an I/O error."""


class GateError(BmlError):
    """The data are readable, but do not suffice: no usable windows, too few rows to calibrate."""

    exit_code = 3


class EmptyBlock(GateError):
    """A block of the split has no usable window."""


class SourceError(BmlError):
    """A service or a place rows come from cannot be reached, or refuses."""

    exit_code = 4


class ConnectionLost(SourceError):
    """The connection was refused, reset, closed or silent: trying again later may help.

    Never a wrong password, a certificate, a missing database or faulty SQL.
    """


class Flag(enum.IntFlag):
    """What happened at a time: a bit mask, kept per grid cell and, in reports, per raw snapshot."""

    FILLED = 1  # no new snapshot since the previous grid point: the last one was carried forward
    GAP = 2  # the last snapshot is older than the limit: the cell is NaN
    CROSSED = 4  # best bid > best ask
    LOCKED = 8  # best bid == best ask
    OUTLIER = 16  # the mid jumps by more than the limit
    STUCK = 32  # the book repeats the previous one
    DUPLICATE = 64  # several rows for one (timestamp, level)
    ABSENT = 128  # one side of the book is empty
    BROKEN = 256  # rows with NaN, infinite, negative or half-missing price or quantity were dropped
    DISORDER = 512  # prices do not fall (bid) or rise (ask) strictly with the level
    BACKWARDS = 1024  # the exchange's sequence number went back
    TRUNCATED = 2048  # fewer than half the rows of the last whole snapshot


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthRows:
    """Tall order-book rows of one symbol over [start_ns, stop_ns); any order, duplicates allowed.

    paired: ``side_N`` is None and ``columns`` = (bid_px, bid_qty, ask_px, ask_qty), each (N,) float64.
    sided:  ``side_N`` int8 (0 bid, 1 ask) and ``columns`` = (px, qty), each (N,) float64.
    ``level_N`` int32 counts from 1 = best. ``batch_N`` (larger = later) settles duplicates; ``sequence_N``
    is the exchange's own counter. ``ordered`` says that row order is arrival order (a file, not a table).
    Rows before ``counted_from_ns`` are look-back: they may be carried forward, but belong to another day's report.
    ``price_keyed``: the source ranked levels by price, broken rows after all good ones of their time and side.
    ``superseded_ns_N`` are the times of rows it left out because their time has rows of a larger batch.
    """

    symbol: str
    start_ns: int
    stop_ns: int
    ts_ns_N: Int64
    level_N: Int32
    columns: tuple[Float64, ...]
    side_N: npt.NDArray[np.int8] | None = None
    batch_N: Int64 | None = None
    sequence_N: Int64 | None = None
    ordered: bool = False
    counted_from_ns: int | None = None
    query: str = ""
    price_keyed: bool = False
    superseded_ns_N: Int64 | None = None

    @property
    def n_rows(self) -> int:
        return int(self.ts_ns_N.shape[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthBook:
    """The rows of a :class:`DepthRows` placed already: every snapshot at its time, duplicates settled.

    ``ts_ns_T`` ascending; ``book_TLF`` float64 (T, levels, 4), NaN where no row is, broken cells as they came.
    Per snapshot, int32: ``n_rows_T`` rows, ``duplicate_T`` surplus ones, ``deep_T`` deeper than the book, ``void_T``
    sided rows of the book without price and quantity, of which ``first_void`` is the (time, level, side) of the first
    to arrive. ``n_conflict`` as of kernels.tall_to_wide. ``superseded_T``: rows the source left out because their
    time has rows of a larger batch; None is none.
    """

    symbol: str
    start_ns: int
    stop_ns: int
    ts_ns_T: Int64
    book_TLF: Float64
    n_rows_T: Int32
    duplicate_T: Int32
    deep_T: Int32
    void_T: Int32
    first_void: tuple[int, int, int] | None = None
    n_conflict: int = 0
    superseded_T: Int32 | None = None
    counted_from_ns: int | None = None
    query: str = ""

    @property
    def n_rows(self) -> int:
        return int(self.n_rows_T.sum(dtype=np.int64))


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """A defect over a time range, both ends inclusive; ``count`` snapshots or rows were concerned."""

    flag: Flag
    start_ns: int
    stop_ns: int
    count: int
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityReport:
    """What was found in one symbol-day. ``counts`` are plain totals, ``events`` hold the time ranges."""

    symbol: str
    counts: dict[str, int] = field(default_factory=dict)
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class DataObject:
    """One symbol-day, wide and model-agnostic: raw snapshots at their own times.

    ``book_TLF`` float64 (T, L, 4), absent cells NaN; ``flag_T`` uint16 of :class:`Flag`;
    ``sequence_T`` int64 or None; ``quality`` accumulates what each step found.
    Covers [start_ns, stop_ns), which begins before the day by the look-back forward fill needs; the report
    counts and lists from ``counted_from_ns`` on.
    """

    symbol: str
    start_ns: int
    stop_ns: int
    ts_ns_T: Int64
    book_TLF: Float64
    flag_T: npt.NDArray[np.uint16]
    quality: QualityReport
    sequence_T: Int64 | None = None
    counted_from_ns: int | None = None
    query: str = ""
    schema: str = "bml.data_object/1"

    @property
    def counted_T(self) -> npt.NDArray[np.bool_]:
        """(T,) the snapshots that are the day's own, not look-back."""
        return self.ts_ns_T >= (self.start_ns if self.counted_from_ns is None else self.counted_from_ns)


@dataclass(frozen=True, kw_only=True, slots=True)
class DailyMoments:
    """Statistics of one symbol-day over its fresh cells only (not FILLED, not GAP).

    ``names_V`` name the series, ``stats_SV`` float64 has S = mean std skew kurtosis total count
    (kurtosis is excess; std has ddof=0; fewer than two values give NaN). ``scaler_SLF`` float64 is
    (3, L, 4): count, mean and M2 of every model-ready book cell, mergeable over days; ``feature_SK`` (3, K)
    float64 likewise of every window feature, None where the day has none.
    """

    symbol: str
    day: dt.date
    names_V: tuple[str, ...]
    stats_SV: Float64
    scaler_SLF: Float64
    feature_SK: Float64 | None = None


#: the S axis of :attr:`DailyMoments.stats_SV`
STATS = ("mean", "std", "skew", "kurtosis", "total", "count")


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignedDay:
    """One symbol-day on the common grid.

    ``grid_ns_T`` (T,), ``book_TLF`` (T, L, 4) with ``units`` "raw" (prices, quantities) or "bps_log1p"
    (price as bps from mid, log1p of quantity: model-ready), ``mid_T`` float64 (NaN where unknown),
    ``age_ms_T`` int32 milliseconds since the snapshot in use (-1: none), ``flag_T`` uint16.
    ``edges_L1`` are the level edges of the depth bins once binned, ``coverage_TL2`` the share of each
    bin's levels that were present (bid, ask). ``feature_TK`` float32 are the window features of the raw book,
    NaN where unknown, and ``feature_names`` their K names; None and () without any.
    """

    symbol: str
    day: dt.date
    cadence_ns: int
    grid_ns_T: Int64
    book_TLF: Floats
    mid_T: Float64
    age_ms_T: Int32
    flag_T: npt.NDArray[np.uint16]
    quality: QualityReport
    units: Literal["raw", "bps_log1p"] = "raw"
    edges_L1: Int64 | None = None
    coverage_TL2: Float32 | None = None
    moments: DailyMoments | None = None
    query: str = ""
    feature_TK: Float32 | None = None
    feature_names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class DayContext:
    """What every preprocessing step may know about the day it works on."""

    symbol: str
    day: dt.date
    start_ns: int
    stop_ns: int
    cadence_ns: int
    learned: dict[str, object] = field(default_factory=dict)  # step name -> what its `learn` returned


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleIndex:
    """Windows are indexed, never materialised: sample n predicts symbol ``target_N`` at ``anchor_ns_N``.

    Every interval is half-open (start, stop] in the sense that a value dated exactly ``start`` is not
    used and one dated exactly ``stop`` is: input (anchor - window, anchor], label (anchor, anchor + horizon],
    context [``context_start_ns_N``, anchor]: nothing dated before it enters anything known at the anchor, but for
    constants of the training block. Of several horizons, or a label that may end early, the label interval is the
    longest, so which samples are kept depends on no outcome. ``edges_NE`` are the C - 1 inner class edges in log
    return, and ``y_N`` the class of ``return_N`` between them, in every row and of every kind of label.
    """

    anchor_ns_N: Int64
    target_N: Int32
    input_start_ns_N: Int64
    context_start_ns_N: Int64
    label_stop_ns_N: Int64
    return_N: Float64  # log return of the mid over the label
    sigma_N: Float64  # causal volatility of the log return over one horizon, known at the anchor
    edges_NE: Float64
    y_N: Int64

    def __len__(self) -> int:
        return int(self.anchor_ns_N.shape[0])


#: the order of the blocks of a fold in time
SPLITS = ("train", "early_stop", "calibrate", "test")
#: those whose labels may be looked at while the test block is sealed
DEVELOPMENT = SPLITS[:-1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fold:
    """Row numbers of a :class:`SampleIndex` per block, blocks in time order, purged and embargoed."""

    train: Int64
    early_stop: Int64
    calibrate: Int64
    test: Int64
    bounds_ns: tuple[tuple[int, int], ...]  # [start, stop) of anchors per block
    embargo_ns: int
    n_purged: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRef:
    """A stage's hand-over: what ran, where it is logged, and the digest of its parameters and inputs."""

    stage: str
    experiment: str
    run_id: str  # "" when tracking is off
    digest: str
    outputs: dict[str, str] = field(default_factory=dict)  # name -> path below the store root, or its sha256
