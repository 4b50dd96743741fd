"""Shipped features against independent numpy, the step that keeps them in the day, and how YAML names them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bml import config, window_feature
from bml.book import align, depth, features, moments
from bml.book.features import book_slope, depth_imbalance, entries, microprice_bps, order_flow_imbalance
from bml.book.store import DayStore
from bml.config.params import parameter_model, values
from bml.kernels.jit import WindowFeature
from bml.types import AlignedDay, ConfigError, DataError, Flag, Float64
from tests.book.book_days import DAY, EDGES, context, object_of, times, walk
from tests.end_to_end import tiny

SHIPPED: dict[WindowFeature, list[dict[str, Any]]] = {
    order_flow_imbalance: [{}, {"levels": 3}, {"levels": 99, "rows": 4}],
    microprice_bps: [{}],
    depth_imbalance: [{}, {"levels": 1}, {"levels": 99}],
    book_slope: [{}, {"levels": 2}],
}
CASES = [(feature, params) for feature, several in SHIPPED.items() for params in several]
IDS = [f"{feature.__name__}-{params}" for feature, params in CASES]
OFI, SLOPE = "book.features.order_flow_imbalance", "book.features.book_slope"


def messy(n: int = 300, levels: int = 6, seed: int = 0) -> Float64:
    """Prices on a coarse tick (so that they repeat), empty levels, absent sides, whole gaps, quantities of 0."""
    rng = np.random.default_rng(seed)
    book = walk(n, levels, seed)
    book[:, :, 0::2] = np.round(book[:, :, 0::2], 1)
    book[rng.random((n, levels)) < 0.1, 1] = 0.0
    book[rng.random((n, levels)) < 0.15, 0:2] = np.nan
    book[rng.random((n, levels)) < 0.15, 2:4] = np.nan
    book[rng.random(n) < 0.05] = np.nan
    book[5, 0, 1::2] = 0.0
    return book


def oracle_ofi(book: Float64, levels: int = 1, rows: int = 2) -> Float64:
    """Arrays at once, an absent level as a price worse than any with quantity 0."""
    px, qty = book[:, :levels, 0::2].copy(), np.nan_to_num(book[:, :levels, 1::2])
    for side, worst in ((0, -np.inf), (1, np.inf)):
        px[:, :, side][np.isnan(px[:, :, side])] = worst
    up, down = px[1:] >= px[:-1], px[1:] <= px[:-1]
    bid = up[..., 0] * qty[1:, :, 0] - down[..., 0] * qty[:-1, :, 0]
    ask = down[..., 1] * qty[1:, :, 1] - up[..., 1] * qty[:-1, :, 1]
    step = np.concatenate([[np.nan], (bid - ask).sum(axis=1)])
    return sum(np.concatenate([np.full(k, np.nan), step[: len(step) - k]]) for k in range(rows - 1))  # type: ignore[return-value]


def oracle_microprice(book: Float64) -> Float64:
    bid, bid_qty, ask, ask_qty = book[:, 0].T
    mid = (bid + ask) / 2
    with np.errstate(invalid="ignore"):
        return ((bid * ask_qty + ask * bid_qty) / (bid_qty + ask_qty) - mid) / mid * 1e4


def oracle_imbalance(book: Float64, levels: int = 5) -> Float64:
    bid, ask = np.nansum(book[:, :levels, 1], axis=1), np.nansum(book[:, :levels, 3], axis=1)
    with np.errstate(invalid="ignore"):
        return (bid - ask) / (bid + ask)


def oracle_slope(book: Float64, levels: int = 10) -> Float64:
    mid = (book[:, 0, 0] + book[:, 0, 2]) / 2
    out = np.full((len(book), 2), np.nan)
    for t in np.flatnonzero(np.isfinite(mid)):
        for side, sign in ((0, -1), (1, 1)):
            px, qty = book[t, :levels, 2 * side], book[t, :levels, 2 * side + 1]
            there = np.isfinite(px)
            distance = sign * (px[there] / mid[t] - 1) * 1e4
            if (distance != 0).any():
                out[t, side] = np.linalg.lstsq(distance[:, None], np.cumsum(qty[there]), rcond=None)[0][0]
    return out


ORACLES: dict[WindowFeature, Any] = {
    order_flow_imbalance: oracle_ofi,
    microprice_bps: oracle_microprice,
    depth_imbalance: oracle_imbalance,
    book_slope: oracle_slope,
}


@pytest.mark.parametrize(("feature", "params"), CASES, ids=IDS)
@pytest.mark.parametrize("seed", range(3))
def test_shipped_features_are_what_plain_numpy_gives(feature: WindowFeature, params: dict[str, Any], seed: int) -> None:
    book = messy(seed=seed)
    found, expected = feature(book, **params), ORACLES[feature](book, **params)
    mid = 0.5 * (book[:, 0, 0] + book[:, 0, 2])
    rows = params.get("rows", feature.rows)
    known = np.array([t >= rows - 1 and np.isfinite(mid[t - rows + 1 : t + 1]).all() for t in range(len(book))])
    expected[~known] = np.nan
    assert known.sum() > 30
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9)
    np.testing.assert_array_equal(found, feature.spec(book, **params))
    np.testing.assert_array_equal(found, feature(book, threads=3, **params))


def one(bid: float, bid_qty: float, ask: float, ask_qty: float) -> list[list[float]]:
    return [[bid, bid_qty, ask, ask_qty]]


@pytest.mark.parametrize(
    ("before", "now", "flow"),
    [
        (one(10, 5, 12, 5), one(10, 8, 12, 5), 3.0),  # more is bid at the same price
        (one(10, 5, 12, 5), one(10, 5, 12, 8), -3.0),  # more is offered
        (one(10, 5, 12, 5), one(11, 2, 12, 5), 2.0),  # a better bid: all of it is new
        (one(10, 5, 12, 5), one(9, 7, 12, 5), -5.0),  # the bid fell: what was there is gone
        (one(10, 5, 12, 5), one(10, 5, 11, 4), -4.0),  # a better offer
        (one(10, 5, 12, 5), one(10, 5, 13, 9), 5.0),  # the offer was taken
        (one(10, 5, 12, 5), one(10, 5, 12, 5), 0.0),  # nothing, as over a FILLED row
        (one(10, 5, 12, 5), one(10, 0, 12, 5), -5.0),  # a quantity of 0 is data
    ],
)
def test_order_flow_by_hand(before: Any, now: Any, flow: float) -> None:
    assert order_flow_imbalance(np.array([before, now], float)).tolist()[1] == flow


def test_a_level_that_comes_or_goes_is_order_flow() -> None:
    book = np.array([one(10, 5, 12, 5) + one(9, 4, 13, 3), one(10, 5, 12, 5) + one(np.nan, np.nan, 13, 3)])
    assert order_flow_imbalance(book, levels=2)[1] == -4.0
    assert order_flow_imbalance(book[::-1], levels=2)[1] == 4.0
    assert order_flow_imbalance(book, levels=1)[1] == 0.0


def test_the_others_by_hand() -> None:
    book = np.array([one(99, 3, 101, 1) + one(98, 1, np.nan, np.nan)])
    assert microprice_bps(book)[0] == pytest.approx(50.0)  # (99 * 1 + 101 * 3) / 4 = 100.5
    assert depth_imbalance(book, levels=2)[0] == pytest.approx(3 / 5)
    # bids at 100 and 200 bps with 3 and 4 up to there: (100 * 3 + 200 * 4) / (100^2 + 200^2)
    np.testing.assert_allclose(book_slope(book)[0], [1100 / 50000, 1 / 100])
    empty = np.array([one(99, 0, 101, 0)], float)
    assert np.isnan(microprice_bps(empty)).all()
    assert np.isnan(depth_imbalance(empty)).all()
    assert np.isnan(book_slope(np.array([one(100, 1, 100, 1)], float))).all()


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(0, 299), st.sampled_from(range(len(CASES))), st.booleans())
def test_the_future_changes_nothing(seed: int, t: int, case: int, given_mid: bool) -> None:
    feature, params = CASES[case]
    book, other = messy(seed=seed), messy(seed=seed + 1)
    other[: t + 1] = book[: t + 1]
    mids = [0.5 * (x[:, 0, 0] + x[:, 0, 2]) if given_mid else None for x in (book, other)]
    one_T, other_T = feature(book, mids[0], **params), feature(other, mids[1], **params)
    assert one_T[: t + 1].tobytes() == other_T[: t + 1].tobytes()
    assert one_T[: t + 1].tobytes() == feature(book[: t + 1], **params).tobytes()


def raw_day(seed: int = 1, max_gap_s: float = 1200) -> AlignedDay:
    """Grid rows of 600 s; snapshots missing for half an hour (FILLED, then GAP), one without a bid."""
    ts, book = times(144), walk(144, seed=seed)
    book[100, :, :2] = np.nan
    keep = np.r_[0:40, 46:70, 71:144]
    return align.to_grid(object_of(ts[keep], book[keep]), context(), max_gap_s=max_gap_s)


def finished(day: AlignedDay) -> AlignedDay:
    return moments.daily(depth.adaptive(day, context(), edges=EDGES), context())


def test_filled_rows_add_no_flow_and_gaps_are_nan() -> None:
    day = features.window(raw_day(), context(), features=entries(OFI, SLOPE))
    assert day.feature_TK is not None
    assert day.feature_TK.dtype == np.float32
    flow_T = day.feature_TK[:, 0]
    gap_T = (day.flag_T & (Flag.GAP | Flag.ABSENT)) != 0
    filled_T = (day.flag_T & Flag.FILLED) != 0
    assert gap_T.sum() == 5
    assert filled_T.sum() == 3
    np.testing.assert_array_equal(np.isnan(flow_T), gap_T | np.r_[True, gap_T[:-1]])
    np.testing.assert_array_equal(np.isnan(day.feature_TK[:, 1]), gap_T)
    assert not flow_T[filled_T & ~np.isnan(flow_T)].any()
    # the row after a filled one has the whole change since the last snapshot
    kept = day.book_TLF[[69, 71]]
    assert flow_T[71] == np.float32(oracle_ofi(kept)[1])


def test_features_go_through_binning_into_the_file_and_back(tmp_path: Path) -> None:
    chosen = entries(OFI, {"fn": OFI, "with": {"levels": 2}}, SLOPE)
    day = finished(features.window(raw_day(), context(), features=chosen))
    names = (OFI, f"{OFI}(levels=2)", f"{SLOPE}.bid", f"{SLOPE}.ask")
    assert day.feature_names == names
    assert day.moments is not None
    assert day.feature_TK is not None
    store = DayStore(tmp_path, "ab" * 32)
    path = store.write(day, meta={})
    first = path.read_bytes()
    with store.open("BTCUSDT", DAY) as file:
        file.verify()
        assert file.feature_names == names
        np.testing.assert_array_equal(file.feature_TK, day.feature_TK)
        np.testing.assert_array_equal(file.moments.feature_SK, day.moments.feature_SK)
        assert file.attrs["schema"] == "bml.day/2"
        fresh_T = (day.flag_T & (Flag.FILLED | Flag.GAP | Flag.ABSENT)) == 0
        fresh = day.feature_TK[fresh_T].astype(np.float64)
        count = (~np.isnan(fresh)).sum(axis=0)
        expected = [count, np.nanmean(fresh, axis=0), count * np.nanvar(fresh, axis=0)]
        np.testing.assert_allclose(file.moments.feature_SK, expected)  # type: ignore[arg-type]
    assert store.write(day, meta={}).read_bytes() == first


def test_a_file_without_features_is_as_it_was(tmp_path: Path) -> None:
    store = DayStore(tmp_path, "ab" * 32)
    store.write(finished(raw_day()), meta={})
    with store.open("BTCUSDT", DAY) as file:
        assert file.attrs["schema"] == "bml.day/1"
        assert file.feature_names == ()
        assert file.feature_TK.shape == (144, 0)
        assert file.moments.feature_SK is None
        assert "features" not in file.attrs


def test_damaged_features_are_found(tmp_path: Path) -> None:
    store = DayStore(tmp_path, "ab" * 32, verify=True)
    path = store.write(finished(features.window(raw_day(), context(), features=entries(OFI))), meta={})
    with store.open("BTCUSDT", DAY) as file:
        place = file._places["features"].offset
    content = bytearray(path.read_bytes())
    content[place + 100] ^= 1
    path.write_bytes(content)
    with pytest.raises(Exception, match="the arrays beside /book does not match its checksum"):
        store.open("BTCUSDT", DAY)


def test_order_of_the_steps_is_told(tmp_path: Path) -> None:
    binned = depth.adaptive(raw_day(), context(), edges=EDGES)
    with pytest.raises(DataError, match=r"BTCUSDT 2024-01-15: book.features.window needs raw levels"):
        features.window(binned, context(), features=entries(OFI))
    day = features.window(raw_day(), context(), features=entries(OFI))
    with pytest.raises(DataError, match="has its features already"):
        features.window(day, context(), features=entries(SLOPE))
    early = replace(finished(day), moments=finished(raw_day()).moments)
    with pytest.raises(DataError, match=r"put book.moments.daily after book.features.window"):
        DayStore(tmp_path, "ab" * 32).write(early, meta={})


@window_feature(rows=1)
def inverse_quantity(book_WLF: Float64, mid_W: Float64, *, zero: float = 0.0) -> float:
    value: float = book_WLF[-1, 0, 1] / zero
    return value


@window_feature(rows=1)
def reads_ahead(book_WLF: Float64, mid_W: Float64) -> float:
    value: float = book_WLF[1, 0, 0]
    return value


def test_infinite_values_and_failing_features_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = {"mine.inverse_quantity": inverse_quantity, "mine.reads_ahead": reads_ahead}
    monkeypatch.setattr(features, "resolve", lambda name, kind: mine[name])
    words = "BTCUSDT 2024-01-15T00:00:00Z: mine.inverse_quantity is inf, which float32 does not hold (138 more like it)"
    with pytest.raises(DataError, match=re.escape(words)):
        features.window(raw_day(), context(), features=entries("mine.inverse_quantity"))
    with pytest.raises(ConfigError, match=r"mine.reads_ahead: window_feature reads_ahead .* outside of its window"):
        features.window(raw_day(), context(), features=entries("mine.reads_ahead"))


def test_a_peek_would_be_seen() -> None:
    """A column that is shifted by one row is a look ahead: the comparison of the causality test finds it."""
    book = messy()
    other = book.copy()
    other[60:] = messy(seed=1)[60:]
    ahead = [np.roll(depth_imbalance(x), -1)[:60].tobytes() for x in (book, other)]
    assert ahead[0] != ahead[1]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            "book.features.order_flow_imbalanse",
            "no feature called .*; did you mean 'book.features.order_flow_imbalance'",
        ),
        ("mypackage.nowhere", "no feature called 'mypackage.nowhere'; "),
        ("book.align.to_grid", "'book.align.to_grid' cannot serve as a feature: it is a step"),
        ({"fn": OFI, "with": {"level": 3}}, "has no parameter 'level'; did you mean 'levels'"),
        ({"fn": OFI, "with": {"levels": 0.5}}, "levels must be int, not 0.5"),
        ({"fn": OFI, "rows": 0}, "greater than or equal to 1"),
        ({"fn": OFI, "with": {"levels": "x"}}, "should be a valid"),
        ({"fn": OFI, "code": "0" * 16}, "now, not 0000000000000000: leave out `code`"),
        ({"name": OFI}, "Field required"),
    ],
)
def test_what_is_wrong_in_yaml_is_told(given: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        values(parameter_model(features.window).model_validate({"features": [given]}))


def document(tmp_path: Path, *given: Any) -> dict[str, Any]:
    tree: Any = tiny.document(tmp_path / "rows", tmp_path / "store")
    tree["stages"]["preprocess"].insert(2, {"fn": "book.features.window", "with": {"features": list(given)}})
    return dict(tree)


def test_a_configuration_tells_faults_with_their_place_and_fills_in_the_code(tmp_path: Path) -> None:
    wrong = tiny.write_config(tmp_path / "wrong.yaml", document(tmp_path, OFI, f"{OFI}s", OFI))
    with pytest.raises(ConfigError, match=r"preprocess\[2\].with.features\[1\]: no feature called .* did you mean"):
        config.load(wrong)
    twice = tiny.write_config(tmp_path / "twice.yaml", document(tmp_path, OFI, OFI))
    with pytest.raises(ConfigError, match=r"features: book.features.order_flow_imbalance is named twice"):
        config.load(twice)
    tree = document(tmp_path, OFI, {"fn": OFI, "with": {"levels": 2}})
    good = config.load(tiny.write_config(tmp_path / "a.yaml", tree))
    told = good.document["stages"]["preprocess"][2]["with"]["features"]
    assert told[1] == {"fn": OFI, "rows": None, "with": {"levels": 2}, "code": order_flow_imbalance.code}
    again = config.load(tiny.write_config(tmp_path / "b.yaml", document(tmp_path, *told)))
    assert again.document["stages"] == good.document["stages"]
    assert "book.features.window" in str(config.json_schema())
