"""Quality of the raw snapshots of one symbol-day: what is wrong is flagged, counted and listed with its times.

Every rule looks back only, so a flag at time t never depends on what came after t. Nothing is repaired.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from bml.book import defects
from bml.book.report import Bools, iso, merged, run_events, runs
from bml.registry import step
from bml.types import (
    ASK_PX,
    BID_PX,
    NS_PER_S,
    ConfigError,
    DataError,
    DataObject,
    DayContext,
    Event,
    Flag,
    Int64,
)

Positive = Annotated[float, Field(gt=0)]

#: when this many snapshots and more are all dropped, something is wrong with all of them
ALL_DROPPED = 10

#: a step between snapshots longer than this many grid steps is a gap
GAP_STEPS = 1.5


@step()
def check(
    obj: DataObject,
    ctx: DayContext,
    *,
    crossed: Literal["drop", "keep", "error"] = "drop",
    locked: Literal["keep", "drop"] = "keep",
    outliers: Literal["keep", "drop"] = "keep",
    max_jump_bps: Positive | None = None,
    jump_memory_s: Positive = 60.0,
    stuck_after_s: Positive = 60.0,
    gap_after_s: Positive | None = None,
) -> DataObject:
    """Flag every snapshot's defects; drop those whose book must not be carried forward.

    CROSSED    best bid > best ask: dropped (default), kept or refused. LOCKED, bid == ask: kept or dropped
    OUTLIER    the mid is more than ``max_jump_bps`` from the last good mid; None: not looked for. A level that
               lasts ``jump_memory_s`` is believed from then on. Kept (flagged) or dropped
    STUCK      the book equals the previous snapshot's in every cell. Runs of ``stuck_after_s`` and longer are
               listed one by one, all repeats together as one more event
    ABSENT     no price at level 1 of one side (the other levels may be there)
    DISORDER   a bid price not below, or an ask price not above, every price nearer to the touch: equal prices
               too, since one price is one level. Flagged, never dropped
    GAP        (event) no snapshot for longer than ``gap_after_s``, default 1.5 grid steps; also before the first
               and after the last snapshot of the range

    A dropped snapshot is gone, so that forward fill keeps the last good one; its events stay. Best prices are
    those of level 1. Counts: n_crossed n_locked n_outlier n_stuck n_repeat (stuck, with the same sequence number)
    n_absent n_disorder n_gap_raw n_dropped; counts and events leave the look-back out.
    Raises DataError (``crossed`` "error"; all of 10 or more snapshots would be dropped), ConfigError (a parameter
    that is not positive).
    Cost: one pass over the prices, a second one over the books that repeat at the touch; a copy if any is dropped.
    """
    return judged(
        obj,
        ctx,
        defects.see(obj.book_TLF),
        crossed=crossed,
        locked=locked,
        outliers=outliers,
        max_jump_bps=max_jump_bps,
        jump_memory_s=jump_memory_s,
        stuck_after_s=stuck_after_s,
        gap_after_s=gap_after_s,
    )


def judged(
    obj: DataObject,
    ctx: DayContext,
    seen: defects.Seen,
    *,
    crossed: str,
    locked: str,
    outliers: str,
    max_jump_bps: float | None,
    jump_memory_s: float,
    stuck_after_s: float,
    gap_after_s: float | None,
) -> DataObject:
    """:func:`check`, given what whole books tell: of ``obj.book_TLF`` it reads the touch alone."""
    _positive(max_jump_bps=max_jump_bps, jump_memory_s=jump_memory_s)
    _positive(stuck_after_s=stuck_after_s, gap_after_s=gap_after_s)
    ts, book = obj.ts_ns_T, obj.book_TLF
    bid_T, ask_T = book[:, 0, BID_PX], book[:, 0, ASK_PX]
    found: dict[Flag, Bools] = {
        Flag.CROSSED: bid_T > ask_T,
        Flag.LOCKED: bid_T == ask_T,
        Flag.ABSENT: np.isnan(bid_T) | np.isnan(ask_T),
        Flag.DISORDER: seen.disorder_T,
        Flag.STUCK: seen.stuck_T,
    }
    if crossed == "error":
        _refuse_crossed(obj, found[Flag.CROSSED])
    drop_T = (found[Flag.CROSSED] & (crossed == "drop")) | (found[Flag.LOCKED] & (locked == "drop"))
    mid_T = np.where(drop_T, np.nan, 0.5 * (bid_T + ask_T))
    found[Flag.OUTLIER] = np.zeros(len(ts), np.bool_)
    if max_jump_bps is not None:
        found[Flag.OUTLIER] = defects.outlier(ts, mid_T, max_jump_bps, round(jump_memory_s * NS_PER_S))
        drop_T |= found[Flag.OUTLIER] & (outliers == "drop")

    gap_after_ns = round((gap_after_s * NS_PER_S) if gap_after_s is not None else GAP_STEPS * ctx.cadence_ns)
    gaps = _gaps(obj, gap_after_ns, ctx)
    counted_T = obj.counted_T
    own = {flag: mask_T & counted_T for flag, mask_T in found.items()}
    events = [*gaps, *_stuck_events(obj, own[Flag.STUCK], round(stuck_after_s * NS_PER_S))]
    for flag in (Flag.CROSSED, Flag.LOCKED, Flag.OUTLIER, Flag.ABSENT, Flag.DISORDER):
        events += run_events(flag, own[flag], ts, _words(flag, obj, seen.worst_level))
    counts = {f"n_{flag.name}".lower(): int(mask_T.sum()) for flag, mask_T in own.items()}
    counts |= {
        "n_repeat": _repeats(obj.sequence_T, own[Flag.STUCK]),
        "n_gap_raw": len(gaps),
        "n_dropped": int((drop_T & counted_T).sum()),
    }
    flag_T = obj.flag_T.copy()
    for flag, mask_T in found.items():
        flag_T |= mask_T.astype(np.uint16) * np.uint16(flag)
    checked = replace(obj, flag_T=flag_T, quality=merged(obj.quality, counts, events))
    if not drop_T.any():
        return checked
    if drop_T.all() and len(ts) >= ALL_DROPPED:
        raise DataError(
            f"{obj.symbol} {ctx.day}: every snapshot would be dropped ({int(found[Flag.CROSSED].sum())} of {len(ts)} "
            "are crossed): check that bid and ask are not mixed up, or set book.quality.check crossed: keep"
        )
    return _without(checked, drop_T)


def _positive(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not value > 0:
            raise ConfigError(f"book.quality.check: {name} must be positive, not {value}")


def _refuse_crossed(obj: DataObject, crossed_T: Bools) -> None:
    at = np.flatnonzero(crossed_T)
    if len(at):
        t = int(at[0])
        bid, ask = obj.book_TLF[t, 0, BID_PX], obj.book_TLF[t, 0, ASK_PX]
        raise DataError(
            f"{obj.symbol} {iso(int(obj.ts_ns_T[t]))}: best bid {bid} above best ask {ask} "
            f"({len(at) - 1} more like it); set book.quality.check crossed: drop or keep"
        )


def _words(flag: Flag, obj: DataObject, worst_level: defects.Detail) -> defects.Detail:
    """What an event of this kind says of its first snapshot."""

    def at_touch(i: int, j: int) -> str:
        return f"bid {obj.book_TLF[i, 0, BID_PX]:.10g} ask {obj.book_TLF[i, 0, ASK_PX]:.10g}"

    def sides(i: int, j: int) -> str:
        names = (("bid", BID_PX), ("ask", ASK_PX))
        return "no " + " and no ".join(name for name, px in names if np.isnan(obj.book_TLF[i, 0, px]))

    return {Flag.ABSENT: sides, Flag.DISORDER: worst_level}.get(flag, at_touch)


def _repeats(sequence_T: Int64 | None, stuck_T: Bools) -> int:
    """Snapshots that repeat the previous book together with its sequence number."""
    if sequence_T is None or len(sequence_T) < 2:
        return 0
    return int((stuck_T[1:] & (sequence_T[1:] == sequence_T[:-1]) & (sequence_T[1:] >= 0)).sum())


def _stuck_events(obj: DataObject, stuck_T: Bools, after_ns: int) -> list[Event]:
    """Long runs one by one, and all repeats as one event over their whole range."""
    ts = obj.ts_ns_T
    first, last = runs(stuck_T)
    if len(first) == 0:
        return []
    # a run lasts since the snapshot it repeats
    span = ts[last] - ts[first - 1]
    long = [
        Event(
            flag=Flag.STUCK,
            start_ns=int(ts[first[k] - 1]),
            stop_ns=int(ts[last[k]]),
            count=int(last[k] - first[k] + 1),
            detail=f"the same book for {_seconds(int(span[k]))} s",
        )
        for k in np.flatnonzero(span >= after_ns).tolist()
    ]
    every = Event(
        flag=Flag.STUCK,
        start_ns=int(ts[first[0]]),
        stop_ns=int(ts[last[-1]]),
        count=int(stuck_T.sum()),
        detail=f"snapshots that repeat the previous book, in {len(first)} runs",
    )
    return [every, *long]


def _gaps(obj: DataObject, after_ns: int, ctx: DayContext) -> list[Event]:
    """Stretches without a snapshot that reach into the day, cut at midnight; ``count`` snapshots are missing there."""
    first = max(obj.start_ns, int(np.datetime64(ctx.day, "ns").astype(np.int64)))
    edge = np.concatenate(([obj.start_ns], obj.ts_ns_T, [obj.stop_ns]))
    length = np.diff(edge)
    own = edge[1:] - np.maximum(edge[:-1], first)
    return [
        Event(
            flag=Flag.GAP,
            start_ns=max(int(edge[i]), first),
            stop_ns=int(edge[i + 1]),
            count=max(1, int(own[i]) // ctx.cadence_ns - 1),
            detail=f"no snapshot for {_seconds(int(length[i]))} s",
        )
        for i in np.flatnonzero((length > after_ns) & (own > 0)).tolist()
    ]


def _seconds(span_ns: int) -> str:
    return f"{span_ns / NS_PER_S:.3f}".rstrip("0").rstrip(".")


def _without(obj: DataObject, drop_T: Bools) -> DataObject:
    keep_T = ~drop_T
    return replace(
        obj,
        ts_ns_T=obj.ts_ns_T[keep_T],
        book_TLF=obj.book_TLF[keep_T],
        flag_T=obj.flag_T[keep_T],
        sequence_T=None if obj.sequence_T is None else obj.sequence_T[keep_T],
    )
