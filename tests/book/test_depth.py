"""The depth plan, the bins, and the units a model reads."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bml.book.align import to_grid
from bml.book.depth import NAME, adaptive, learn, plan
from bml.registry import learner, resolve
from bml.types import ASK_QTY, BID_PX, BID_QTY, AlignedDay, ConfigError, DataError, Flag, Float64
from tests.book.book_days import context, object_of, times, walk

CTX = context()


def day_of(book: Float64) -> AlignedDay:
    return to_grid(object_of(times(len(book)), book), CTX, max_gap_s=1)


@given(st.integers(1, 400), st.integers(0, 60), st.integers(0, 15))
def test_plan(depth: int, near: int, bins: int) -> None:
    if near == 0 and bins == 0:
        with pytest.raises(ConfigError, match="no bin is left"):
            plan(depth, near, bins)
        return
    edges = plan(depth, near, bins)
    width = np.diff(edges)
    kept = min(near, depth)
    assert edges[0] == 0
    assert (width[:kept] == 1).all()
    deep = width[kept:]
    assert len(deep) == min(bins, depth - kept)
    if len(deep):
        assert edges[-1] == depth
        assert deep.max() - deep.min() <= 1
        assert deep.min() >= 1
    else:
        assert edges[-1] == kept


def test_the_reference_plan() -> None:
    edges = plan(1000, 50, 10)
    assert len(edges) == 61
    assert edges[50:].tolist() == [50, 145, 240, 335, 430, 525, 620, 715, 810, 905, 1000]


def test_learning_adds_up_over_days() -> None:
    book = walk(144, levels=8)
    book[:, 5:, BID_QTY] = 0.0
    book[:, 5:, ASK_QTY] = np.nan
    deep = book.copy()
    deep[:2, 6, ASK_QTY] = 3.0
    # level 7 has two rows a day: three days together reach five
    params = {"near_levels": 3, "deep_bins": 2, "min_nonzero": 5}
    assert learn([day_of(deep)] * 2, **params) == {"edges": [0, 1, 2, 3, 4, 5]}
    found = learn([day_of(deep)] * 3, **params)
    assert found == {"edges": [0, 1, 2, 3, 5, 7]}
    assert json.loads(json.dumps(found)) == found
    shallow = day_of(book[:, :4])
    assert learn([shallow, day_of(deep), day_of(deep), day_of(deep), shallow], **params) == found


def test_nothing_to_learn_from() -> None:
    with pytest.raises(DataError, match="no level of the training days"):
        learn([])
    with pytest.raises(DataError, match="no level of the training days"):
        learn([day_of(walk(4))], min_nonzero=5)


def test_edges_given_are_not_learned() -> None:
    assert learn([], edges=[0, 2, 5]) == {"edges": [0, 2, 5]}


def test_the_step_is_registered_with_its_learner() -> None:
    step = resolve(NAME, "step")
    assert step is adaptive
    assert learner(step) is learn


def test_units_of_a_plan_of_single_levels() -> None:
    book = walk(144)
    book[3, 4, :2] = np.nan
    book[4, 0, BID_QTY] = 0.0
    book[5, 0, :2] = np.nan  # no best bid: no mid
    raw = day_of(book)
    done = adaptive(raw, CTX, edges=[0, 1, 2, 3, 4, 5, 6])
    mid = raw.mid_T[:, None]
    for px in (0, 2):
        np.testing.assert_allclose(done.book_TLF[..., px], (book[..., px] / mid - 1) * 1e4, rtol=1e-6, atol=1e-5)
        np.testing.assert_array_equal(done.book_TLF[..., px + 1], np.log1p(book[..., px + 1]).astype(np.float32))
    assert done.book_TLF.dtype == np.float32
    assert done.units == "bps_log1p"
    assert done.book_TLF[4, 0, BID_QTY] == 0.0
    assert np.isnan(done.book_TLF[5, :, 0::2]).all()  # prices need the mid
    assert not np.isnan(done.book_TLF[5, 1:, 1::2]).any()  # quantities do not
    assert done.coverage_TL2 is not None
    assert done.coverage_TL2[3].tolist() == [[1, 1]] * 4 + [[0, 1]] + [[1, 1]]
    assert done.edges_L1 is not None
    assert done.edges_L1.dtype == np.int64
    np.testing.assert_array_equal(raw.book_TLF, book)  # the input is left alone
    np.testing.assert_array_equal(done.mid_T, raw.mid_T)


def test_bins_sum_quantities_and_weigh_prices() -> None:
    book = walk(144)
    book[0, 3, 2:] = np.nan
    raw = day_of(book)
    done = adaptive(raw, context(**{NAME: {"edges": [0, 1, 2, 6]}}))
    qty = np.nansum(book[:, 2:, BID_QTY], axis=1)
    px = np.nansum(book[:, 2:, BID_PX] * book[:, 2:, BID_QTY], axis=1) / qty
    np.testing.assert_allclose(done.book_TLF[:, 2, BID_QTY], np.log1p(qty), rtol=1e-6)
    np.testing.assert_allclose(done.book_TLF[:, 2, BID_PX], (px / raw.mid_T - 1) * 1e4, rtol=1e-5)
    assert done.coverage_TL2 is not None
    assert done.coverage_TL2[0, 2].tolist() == [1.0, 0.75]


def test_a_shallower_day_is_padded() -> None:
    book = walk(144, levels=5)
    deep = np.concatenate([book, np.full((144, 7, 4), np.nan)], axis=1)
    for edges in ([0, 1, 4, 8, 12], [0, 2, 5, 12], [5, 9, 12], [7, 12]):
        short, long = (adaptive(day_of(b), CTX, edges=edges) for b in (book, deep))
        np.testing.assert_array_equal(short.book_TLF, long.book_TLF)
        assert short.coverage_TL2 is not None
        assert long.coverage_TL2 is not None
        np.testing.assert_allclose(short.coverage_TL2, long.coverage_TL2, rtol=1e-6)
        assert short.book_TLF.shape == (144, len(edges) - 1, 4)


def test_gap_rows_stay_nan() -> None:
    done = adaptive(day_of(walk(10)), CTX, edges=[0, 1, 6])
    gap = done.flag_T == Flag.GAP
    assert gap.sum() == 134
    assert np.isnan(done.book_TLF[gap]).all()
    assert done.coverage_TL2 is not None
    assert not done.coverage_TL2[gap].any()


def test_half_precision_and_its_limit() -> None:
    book = walk(144)
    half = adaptive(day_of(book), CTX, edges=[0, 1, 6], dtype="float16")
    single = adaptive(day_of(book), CTX, edges=[0, 1, 6])
    assert half.book_TLF.dtype == np.float16
    np.testing.assert_allclose(half.book_TLF, single.book_TLF, rtol=2**-11)
    book[2, 5, 2] = book[2, 5, 2] * 9
    book[3, 5, 2] = book[3, 5, 2] * 9
    with pytest.raises(DataError) as caught:
        adaptive(day_of(book), CTX, edges=[0, 5, 6], dtype="float16")
    assert str(caught.value).startswith("BTCUSDT 2024-01-15T00:20:00Z: ask_px 80")
    assert "of bin 1 does not fit float16 (1 more like it); set dtype: float32" in str(caught.value)


BAD_EDGES = ([], [0], [0, 0], [1, 0], [-1, 2], [0, 1.5], "0,1", [0, True])


@pytest.mark.parametrize("edges", BAD_EDGES, ids=map(str, BAD_EDGES))
def test_edges_that_are_none(edges: object) -> None:
    with pytest.raises(ConfigError, match="edges must"):
        adaptive(day_of(walk(3)), CTX, edges=edges)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="edges must"):
        adaptive(day_of(walk(3)), context(**{NAME: {"edges": edges}}))


def test_no_plan_and_a_second_fold_are_refused() -> None:
    with pytest.raises(ConfigError, match="has no depth plan"):
        adaptive(day_of(walk(3)), CTX)
    done = adaptive(day_of(walk(3)), CTX, edges=[0, 1])
    with pytest.raises(DataError, match="needs raw levels"):
        adaptive(done, CTX, edges=[0, 1])
    with pytest.raises(DataError, match="needs raw levels"):
        learn([replace(done, units="raw")])
