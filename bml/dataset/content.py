"""How old what a row says is: the age of its snapshot, plus how long the snapshots before it said the same."""

from __future__ import annotations

import numpy as np

from bml.book.store import DayFile
from bml.dataset.labels import Bools
from bml.types import Flag, Float64, Floats, Int32, Int64

NS_PER_MS = 1_000_000

#: rows of a book compared at a time
_BLOCK = 2048

#: the last mid and book row of a day, for the first row of the next
Last = tuple[float, Floats]


def repeats(file: DayFile, last: Last | None) -> Bools:
    """(T,) rows that are STUCK and whose book is that of the row before in every cell; ``last`` precedes row 0.

    The flag alone does not say so: it is about snapshots, of which several may lie between two rows, so a feed
    that repeats every other snapshot has it on half its rows though the book is another each time. Only rows that
    are STUCK with an unchanged mid have their book read.
    """
    mid_T, book_TLF = file.mid_T, file.book_TLF
    is_stuck_T = file.flag_T & np.uint16(Flag.STUCK) != 0
    out_T = np.zeros(mid_T.shape, dtype=np.bool_)
    at = np.flatnonzero(is_stuck_T[1:] & (mid_T[1:] == mid_T[:-1])) + 1
    for start in range(0, at.shape[0], _BLOCK):
        some = at[start : start + _BLOCK]
        out_T[some] = _same(book_TLF[some], book_TLF[some - 1])
    if last is not None and is_stuck_T[0] and mid_T[0] == last[0]:
        out_T[:1] = _same(book_TLF[:1], last[1][None])
    return out_T


def last_row(file: DayFile) -> Last:
    """What :func:`repeats` of the next day needs of this one."""
    return float(file.mid_T[-1]), file.book_TLF[-1].copy()


def content_age_ms(age_ms_T: Int32, mid_T: Float64, repeats_T: Bools, cadence_ns: int) -> Int32:
    """(T,) milliseconds since what each row says was first received, -1 where the mid is unknown.

    That is the age of the snapshot in use, counted from the first of the snapshots that said the same. Looks back
    only; a gap begins anew. At most 2**31 - 1 (24 days).
    """
    rows_T: Int64 = np.arange(mid_T.shape[0], dtype=np.int64)
    begun_T = np.maximum.accumulate(np.where(repeats_T, 0, rows_T))
    age_T = (rows_T - begun_T) * cadence_ns // NS_PER_MS + age_ms_T[begun_T]
    return np.where(np.isfinite(mid_T), np.minimum(age_T, np.iinfo(np.int32).max), -1).astype(np.int32)


def _same(a_NLF: Floats, b_NLF: Floats) -> Bools:
    equal_N: Bools = ((a_NLF == b_NLF) | (np.isnan(a_NLF) & np.isnan(b_NLF))).all(axis=(1, 2))
    return equal_N
