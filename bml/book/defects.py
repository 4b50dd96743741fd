"""The searches behind :mod:`bml.book.quality`: one mask over the snapshots per kind of defect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bml.book.broken import block_length
from bml.book.report import Bools
from bml.types import ASK_PX, BID_PX, Float64, Int64

#: first and last snapshot of a run -> what its event says
Detail = Callable[[int, int], str]

#: levels compared before whole books are
TOUCH = 4


@dataclass(frozen=True, slots=True)
class Seen:
    """What only whole books tell."""

    disorder_T: Bools
    stuck_T: Bools
    worst_level: Detail


def see(book_TLF: Float64) -> Seen:
    """Search whole books: one pass over the prices, a second one over those that repeat at the touch."""
    return Seen(disorder(book_TLF), stuck(book_TLF), worst_level(book_TLF))


def disorder(book_TLF: Float64) -> Bools:
    """Snapshots in which a price does not lie strictly behind all nearer prices of its side."""
    found_T = np.zeros(len(book_TLF), np.bool_)
    step = block_length(book_TLF)
    for start in range(0, len(book_TLF), step):
        found_T[start : start + step] = _misplaced(book_TLF[start : start + step]).any(axis=(1, 2))
    return found_T


def _misplaced(book_TLF: Float64) -> Bools:
    """(T, L - 1, 2): the price at level l + 1 of a side is not strictly behind those at levels 0 .. l."""
    out_TL2 = np.empty((len(book_TLF), book_TLF.shape[1] - 1, 2), np.bool_)
    for side, sign in enumerate((1.0, -1.0)):
        px_TL = np.ascontiguousarray(book_TLF[:, :, 2 * side]) * sign
        # neighbours settle it unless a level is missing in between: then look past the hole
        behind_TL = px_TL[:, :-1]
        hole_T = (np.isnan(behind_TL) & ~np.isnan(px_TL[:, 1:])).any(axis=1)
        out_TL2[:, :, side] = px_TL[:, 1:] >= behind_TL
        if hole_T.any():
            nearest = np.fmin.accumulate(px_TL[hole_T], axis=1)
            out_TL2[hole_T, :, side] = px_TL[hole_T][:, 1:] >= nearest[:, :-1]
    return out_TL2


def worst_level(book_TLF: Float64) -> Detail:
    """Words for a disorder: the side and level of its first misplaced price."""

    def detail(i: int, j: int) -> str:
        level, side = np.argwhere(_misplaced(book_TLF[i : i + 1])[0])[0].tolist()
        px = book_TLF[i, level + 1, (BID_PX, ASK_PX)[side]]
        return f"{('bid', 'ask')[side]} price {px:.10g} at level {level + 2} is not behind the levels before it"

    return detail


def stuck(book_TLF: Float64) -> Bools:
    """Snapshots whose book equals the previous one in every cell, NaN equal to NaN.

    Whole books are compared only where the first levels are equal.
    """
    found_T = np.zeros(len(book_TLF), np.bool_)
    near_TLF = book_TLF[:, :TOUCH]
    at = np.flatnonzero(_same(near_TLF[1:], near_TLF[:-1])) + 1
    step = block_length(book_TLF)
    for start in range(0, len(at), step):
        some = at[start : start + step]
        found_T[some] = _same(book_TLF[some], book_TLF[some - 1])
    return found_T


def _same(a_TLF: Float64, b_TLF: Float64) -> Bools:
    equal: Bools = ((a_TLF == b_TLF) | (np.isnan(a_TLF) & np.isnan(b_TLF))).all(axis=(1, 2))
    return equal


def outlier(ts_ns_T: Int64, mid_T: Float64, max_jump_bps: float, memory_ns: int) -> Bools:
    """Snapshots whose mid is more than ``max_jump_bps`` from the last good mid; NaN mids are skipped.

    A good mid older than ``memory_ns`` is forgotten: the next mid is believed whatever it is. One iteration
    per jump, each looking no further than the memory.
    """
    found_T = np.zeros(len(mid_T), np.bool_)
    known = np.flatnonzero(~np.isnan(mid_T))
    mid, ts = mid_T[known], ts_ns_T[known]
    limit = max_jump_bps * 1e-4
    jumps = np.flatnonzero(np.abs(mid[1:] / mid[:-1] - 1.0) > limit) + 1
    resume = 0
    for at in jumps.tolist():
        if at < resume:
            continue
        good = at - 1
        forgotten = int(np.searchsorted(ts, ts[good] + memory_ns, side="right"))
        near = np.abs(mid[at:forgotten] / mid[good] - 1.0) <= limit
        back = at + int(near.argmax()) if near.any() else max(at, forgotten)
        found_T[known[at:back]] = True
        resume = back + 1
    return found_T
