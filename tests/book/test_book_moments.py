"""Daily moments: the series by their definitions, fresh rows only, the scaler's mergeable state."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bml.book.align import to_grid
from bml.book.depth import adaptive
from bml.book.moments import SERIES, daily
from bml.types import ASK_PX, ASK_QTY, BID_PX, BID_QTY, STATS, AlignedDay, Flag, Float64
from tests.book.book_days import context, object_of, times, walk

CTX = context()
STALE_ROWS = [0, 7, 8, 30]


def raw_day() -> AlignedDay:
    book = walk(144)
    day = to_grid(object_of(times(144), book), CTX)
    flags = day.flag_T.copy()
    flags[STALE_ROWS] = [Flag.FILLED, Flag.GAP, Flag.ABSENT | Flag.STUCK, Flag.FILLED]
    flags[50] = Flag.STUCK | Flag.LOCKED  # says something of the market
    return replace(day, flag_T=flags)


def fresh_values(day: AlignedDay) -> dict[str, Float64]:
    fresh = np.array([t for t in range(144) if t not in STALE_ROWS])
    pairs = np.array([t for t in fresh if t - 1 in set(fresh.tolist())])
    book, mid = day.book_TLF[fresh], day.mid_T
    bid, ask = book[:, :, BID_QTY], book[:, :, ASK_QTY]
    change = 1e4 * np.log(mid[pairs] / mid[pairs - 1])

    def imbalance(n: int) -> Float64:
        b, a = bid[:, :n].sum(axis=1), ask[:, :n].sum(axis=1)
        return (b - a) / (b + a)

    return {
        "log_return_bps": change,
        "squared_return_bps2": change**2,
        "spread_bps": (book[:, 0, ASK_PX] - book[:, 0, BID_PX]) / mid[fresh] * 1e4,
        "log_mid": np.log(mid[fresh]),
        "imbalance_1": imbalance(1),
        "imbalance_5": imbalance(5),
        "imbalance_all": imbalance(6),
        "log1p_bid_qty": np.log1p(bid.sum(axis=1)),
        "log1p_ask_qty": np.log1p(ask.sum(axis=1)),
    }


@pytest.mark.parametrize("ready", [False, True], ids=["raw", "model-ready"])
def test_series_against_their_definitions(ready: bool) -> None:
    raw = raw_day()
    day = daily(adaptive(raw, CTX, edges=[0, 1, 2, 3, 4, 5, 6]) if ready else raw, CTX)
    assert day.moments is not None
    assert day.moments.names_V == SERIES
    assert day.moments.stats_SV.shape == (len(STATS), len(SERIES))
    for v, (name, x) in enumerate(fresh_values(raw).items()):
        assert SERIES[v] == name
        expected = [x.mean(), x.std(), stats.skew(x), stats.kurtosis(x), x.sum(), len(x)]
        np.testing.assert_allclose(day.moments.stats_SV[:, v], expected, rtol=1e-3 if ready else 1e-9, atol=1e-4)
    assert day.moments.stats_SV[5, 0] == 144 - 4 - 3  # rows 1, 9 and 31 follow a stale row


def test_scaler_is_the_state_of_the_fresh_cells() -> None:
    day = daily(adaptive(raw_day(), CTX, edges=[0, 1, 6]), CTX)
    assert day.moments is not None
    cells = np.delete(day.book_TLF, STALE_ROWS, axis=0).astype(np.float64)
    count, mean, m2 = day.moments.scaler_SLF
    assert (count == len(cells)).all()
    np.testing.assert_allclose(mean, cells.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(m2, ((cells - cells.mean(axis=0)) ** 2).sum(axis=0), rtol=1e-9)


def test_a_day_of_gaps_has_no_values() -> None:
    day = daily(to_grid(object_of(times(0), walk(0)), CTX), CTX)
    assert day.moments is not None
    assert (day.moments.stats_SV[5] == 0).all()
    assert np.isnan(day.moments.stats_SV[:4]).all()
    assert (day.moments.scaler_SLF == 0).all()


def test_empty_books_at_the_touch_have_no_imbalance() -> None:
    book = walk(144)
    book[:, 0, 1::2] = 0.0
    day = daily(to_grid(object_of(times(144), book), CTX), CTX)
    assert day.moments is not None
    assert day.moments.stats_SV[5, SERIES.index("imbalance_1")] == 0
    assert day.moments.stats_SV[5, SERIES.index("imbalance_5")] == 144


def test_half_precision_books_are_taken() -> None:
    half = daily(adaptive(raw_day(), CTX, edges=[0, 1, 6], dtype="float16"), CTX).moments
    single = daily(adaptive(raw_day(), CTX, edges=[0, 1, 6]), CTX).moments
    assert half is not None
    assert single is not None
    np.testing.assert_allclose(half.scaler_SLF[1], single.scaler_SLF[1], rtol=1e-2, atol=1e-2)
    np.testing.assert_array_equal(half.stats_SV[:, 0], single.stats_SV[:, 0])  # returns come from the mid
