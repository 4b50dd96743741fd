"""Usable windows, drop reasons, labels and scalers of real day files, against plain recomputation."""

from __future__ import annotations

import datetime as dt
import math
from pathlib import Path

import numpy as np
import pytest
from dataset_market import SMALL, START, SYMBOLS, Market

from bml.book.store import DayStore
from bml.dataset.dataset import Dataset
from bml.dataset.samples import book_windows
from bml.dataset.splits import train_span
from bml.types import NS_PER_DAY, SPLITS, ConfigError, DataError, Flag, GateError, StoreError

WINDOW, HORIZON, STRIDE = 120, 30, 10  # rows of SMALL


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Market, Dataset]:
    market = Market()
    return market, market.dataset(tmp_path_factory.mktemp("plain"), targets=["AAA", "CCC"], min_assets=2)


def planted() -> Market:
    """One defect of every kind, far from the others."""
    market = Market(n_days=6)
    market.gap("AAA", 2000, 2003)
    market.gap("BBB", 4000, 4300)
    market.gap("CCC", 4100, 4110)
    market.flag["AAA"][5000:5010] |= int(Flag.FILLED)
    market.flag["AAA"][6000] |= int(Flag.CROSSED)
    market.mid["AAA"][7000] = np.nan  # unknown for another reason than a gap
    market.book["AAA"][7000] = np.nan
    return market


def test_intervals_labels_and_edges_are_those_of_the_anchor(plain: tuple[Market, Dataset]) -> None:
    market, dataset = plain
    index = dataset.index
    first = (START - dt.date(1970, 1, 1)).days * NS_PER_DAY
    for n in range(0, len(index), 97):
        row = (index.anchor_ns_N[n] - first) // 60_000_000_000
        mid = market.mid[SYMBOLS[index.target_N[n]]]
        assert row == dataset.row_N[n]
        assert index.anchor_ns_N[n] - index.input_start_ns_N[n] == WINDOW * 60_000_000_000
        assert index.label_stop_ns_N[n] - index.anchor_ns_N[n] == HORIZON * 60_000_000_000
        day = index.anchor_ns_N[n] // NS_PER_DAY
        assert index.context_start_ns_N[n] == (day - 97) * NS_PER_DAY  # ranks of 90 days, each over 7
        assert index.return_N[n] == pytest.approx(math.log(mid[row + HORIZON] / mid[row]), abs=1e-14)
        multiples = np.array([-1.5, -0.75, -0.25, 0, 0.25, 0.75, 1.5])
        np.testing.assert_allclose(index.edges_NE[n], multiples * index.sigma_N[n])
        assert index.y_N[n] == np.searchsorted(index.edges_NE[n], index.return_N[n], side="right")
        last = math.log(mid[row] / mid[row - HORIZON])
        assert dataset.last_y_N[n] == np.searchsorted(index.edges_NE[n], last, side="right")


def test_rows_are_by_anchor_then_target_and_midnight_is_no_border(plain: tuple[Market, Dataset]) -> None:
    _, dataset = plain
    keys = list(zip(dataset.index.anchor_ns_N.tolist(), dataset.index.target_N.tolist(), strict=True))
    assert keys == sorted(keys)
    assert set(dataset.index.target_N) == {0, 2}
    within = dataset.row_N % 1440
    assert ((within < WINDOW) & (dataset.row_N > 1440)).any()
    assert (within > 1440 - HORIZON).any()
    assert not any(dataset.drop_reasons["AAA"][name] for name in ("target_gap", "few_assets", "label_invalid"))


def test_sigma_and_blend_recover_the_planted_volatility(plain: tuple[Market, Dataset]) -> None:
    _, dataset = plain
    expected = 1e-3 * math.sqrt(HORIZON)
    assert np.median(dataset.index.sigma_N) == pytest.approx(expected, rel=0.05)
    assert np.median(dataset.vol_N) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("min_assets", [1, 2, 3])
def test_every_dropped_anchor_has_its_first_reason(tmp_path: Path, min_assets: int) -> None:
    """Against loops over rows; 0.05 of 120 rows allows 6 FILLED ones."""
    market = planted()
    dataset = market.dataset(tmp_path, min_assets=min_assets, max_filled=0.05)
    n = market.n_days * 1440
    expected = dict.fromkeys(dataset.drop_reasons["AAA"], 0)
    kept = []

    def gapped(symbol: str, row: int) -> bool:
        return bool(np.isnan(market.mid[symbol][row - WINDOW + 1 : row + 1]).any())

    def filled(symbol: str, row: int) -> bool:
        return int((market.flag[symbol][row - WINDOW + 1 : row + 1] & Flag.FILLED > 0).sum()) > 6

    def untrue(row: int) -> bool:
        return bool(np.isnan(market.mid["AAA"][row]) or market.flag["AAA"][row] & Flag.CROSSED)

    for row in range(0, n, STRIDE):
        if row < WINDOW - 1:
            reason = "history_short"
        elif row + HORIZON >= n:
            reason = "label_after_data"
        elif gapped("AAA", row):
            reason = "target_gap"
        elif filled("AAA", row):
            reason = "target_filled"
        elif sum(not gapped(s, row) and not filled(s, row) for s in SYMBOLS) < min_assets:
            reason = "few_assets"
        elif untrue(row):
            reason = "anchor_invalid"
        elif untrue(row + HORIZON):
            reason = "label_invalid"
        else:
            kept.append(row)
            continue
        expected[reason] += 1
    known = set(dataset.row_N.tolist())
    unknown = [row for row in kept if row not in known]
    assert unknown == sorted(unknown)
    assert all(row < 400 for row in unknown)  # only the volatility's warm-up
    expected["sigma_unknown"] = len(unknown)
    assert dataset.drop_reasons == {"AAA": expected}
    assert expected["target_filled"] > 0
    assert expected["anchor_invalid"] == 1
    assert (expected["few_assets"] > 0) == (min_assets > 1)
    assert sum(expected.values()) + len(dataset) == math.ceil(n / STRIDE)
    for k, symbol in enumerate(SYMBOLS):
        row_present = [not gapped(symbol, row) and not filled(symbol, row) for row in dataset.row_N]
        assert dataset.present_NA[:, k].tolist() == row_present


def test_a_missing_day_file_is_a_day_of_absent_rows(tmp_path: Path) -> None:
    market = Market(n_days=8)
    store = market.write(tmp_path, skip=lambda symbol, number: (symbol, number) == ("BBB", 5))
    dataset = book_windows(market.config(), store, **SMALL)
    on_day = (dataset.row_N >= 5 * 1440) & (dataset.row_N < 6 * 1440 + WINDOW - 1)
    assert (dataset.present_NA[:, 1] == ~on_day).all()
    assert not dataset.moments_present_DA[5, 1]
    assert np.isnan(dataset.moments_DAS[5, 1]).all()
    assert any("BBB: 1 of 8 days" in note for note in dataset.notes)


def test_a_damaged_day_file_is_an_error_not_a_gap(tmp_path: Path) -> None:
    market = Market(n_days=8)
    store = market.write(tmp_path)
    path = store.path("BBB", START + dt.timedelta(days=5))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(StoreError):
        book_windows(market.config(), store, **SMALL)


def test_scaler_is_that_of_the_training_days_only(plain: tuple[Market, Dataset]) -> None:
    market, dataset = plain
    rows = 4 * 1440  # half of 8 days
    assert train_span(START, START + dt.timedelta(days=8), SMALL["split"])[1] == START + dt.timedelta(days=4)
    for a, symbol in enumerate(SYMBOLS):
        cells = market.book[symbol][:rows].astype(np.float64)
        np.testing.assert_allclose(dataset.scaler.mean_ALF[a], cells.mean(axis=0), rtol=1e-9)
        np.testing.assert_allclose(dataset.scaler.std_ALF[a], cells.std(axis=0), rtol=1e-9)
    train_DAS = dataset.moments_DAS[:4]
    np.testing.assert_allclose(dataset.scaler.mean_AS, np.nanmean(train_DAS, axis=0))


def test_constant_and_unseen_cells_keep_their_scale(tmp_path: Path) -> None:
    market = Market(n_days=6)
    market.book["AAA"][:, 3, :] = np.nan
    market.book["BBB"][:, 2, 1] = 0.1
    scaler = market.dataset(tmp_path).scaler
    assert (scaler.std_ALF[0, 3] == 1).all()
    assert (scaler.mean_ALF[0, 3] == 0).all()
    assert scaler.std_ALF[1, 2, 1] == 1
    assert scaler.mean_ALF[1, 2, 1] == pytest.approx(0.1)
    assert np.isfinite(scaler.mean_AS).all()
    assert (scaler.std_AS > 0).all()


def test_shares_and_effective_numbers(plain: tuple[Market, Dataset]) -> None:
    _, dataset = plain
    assert set(dataset.class_shares) == {"train", "early_stop", "calibrate"}  # those of the test block are its report's
    for name in SPLITS:
        rows = getattr(dataset.fold, name)
        counts = np.bincount(dataset.index.y_N[rows], minlength=8)
        if name in dataset.class_shares:
            assert dataset.class_shares[name] == pytest.approx(counts / rows.shape[0])
        # two targets, three labels alive at a time but for the ends
        assert dataset.n_eff[name] == pytest.approx(rows.shape[0] / 3, rel=0.05)


def test_fixed_classes_note_those_never_seen(tmp_path: Path) -> None:
    dataset = Market(n_days=6).dataset(tmp_path, classes={"method": "fixed"})
    assert any("'< -10%' has no training sample" in note for note in dataset.notes)
    assert dataset.shape["classes"] == 8


def test_the_gate_tells_why_nothing_is_left(tmp_path: Path) -> None:
    market = Market(n_days=6)
    market.gap("AAA", 0, market.n_days * 1440)
    market.mid["AAA"][:1440] = 100.0  # a day of a price that never moves
    market.flag["AAA"][:1440] = 0
    with pytest.raises(GateError, match=r"no usable window: .*AAA: history_short 12, .*target_gap \d+.*sigma_unknown"):
        market.dataset(tmp_path)


def test_the_gate_names_an_empty_block(tmp_path: Path) -> None:
    market = Market(n_days=6)
    market.gap("AAA", 5 * 1440 - 300, 6 * 1440)
    with pytest.raises(GateError, match=r"no usable window in test: .*target_gap"):
        market.dataset(tmp_path)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"window_h": 0.99}, "window_h: 0.99 is not a whole number of rows"),
        ({"window_h": 1e300}, "window_h: 1e.300 is longer than 3650 days"),
        ({"horizon_s": math.inf}, "horizon_s: inf is longer than 3650 days"),
        ({"context_days": 10**9}, "context_days: expected 0 to 3650 days"),
        ({"context": {"volatility_h": 1e9}}, "volatility_h: expected hours, from 0 .none. to 87600"),
        ({"context": {"volume_days": 10**9}}, "volume_days: expected a number of days, from 0 .none. to 3650"),
        ({"stride_s": 90.0}, "stride_s"),
        ({"horizon_s": 0.0}, "horizon_s"),
        ({"targets": ["DDD"]}, "targets: 'DDD' is not one of"),
        ({"targets": ["AAA", "AAA"]}, "twice"),
        ({"min_assets": 4}, "expected 1 to 3"),
        ({"max_filled": 1.5}, "max_filled"),
        ({"max_stale_s": 0.0}, "max_stale_s: expected seconds above 0"),
        ({"max_stale_s": math.inf}, "max_stale_s: expected seconds above 0"),
        ({"context_days": -1}, "context_days"),
        ({"classes": {"method": "fixed", "per_symbol": {"DDD": [-10, -5, -2, 0, 2, 5, 10]}}}, "per_symbol: 'DDD'"),
    ],
)
def test_wrong_parameters_are_refused_before_any_file_is_read(
    tmp_path: Path, params: dict[str, object], message: str
) -> None:
    market = Market(n_days=6)
    store = market.write(tmp_path, skip=lambda symbol, number: True)
    with pytest.raises(ConfigError, match=message):
        book_windows(market.config(), store, **(SMALL | params))


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    market = Market(n_days=6)
    empty = market.write(tmp_path / "empty", skip=lambda symbol, number: True)
    with pytest.raises(DataError, match="no day file"):
        book_windows(market.config(), empty, **SMALL)
    other = Market(n_days=6, cadence_s=120)
    with pytest.raises(DataError, match=r"AAA 2024-01-01: .*not on the configured grid"):
        book_windows(market.config(), other.write(tmp_path / "other"), **SMALL)


def test_save_and_load_give_the_same_dataset_and_the_same_bytes(plain: tuple[Market, Dataset], tmp_path: Path) -> None:
    _, dataset = plain
    one, two = dataset.save(tmp_path / "a" / "one.h5"), dataset.save(tmp_path / "two.h5")
    assert one.read_bytes() == two.read_bytes()
    loaded = Dataset.load(one, dataset.store)
    assert loaded.digest == dataset.digest
    assert loaded.summary() == dataset.summary()
    assert loaded.save(tmp_path / "three.h5").read_bytes() == one.read_bytes()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["one.h5"]


def test_a_damaged_dataset_is_refused(plain: tuple[Market, Dataset], tmp_path: Path) -> None:
    _, dataset = plain
    path = dataset.save(tmp_path / "d.h5")
    good = path.read_bytes()
    with pytest.raises(StoreError, match="no such dataset"):
        Dataset.load(tmp_path / "none.h5", dataset.store)
    place = good.index(dataset.index.y_N.tobytes()[:4000])
    path.write_bytes(good[: place + 8] + b"\x01" + good[place + 9 :])
    with pytest.raises(StoreError, match="digest"):
        Dataset.load(path, dataset.store)
    path.write_bytes(good[:5000])
    with pytest.raises(StoreError, match="build it again"):
        Dataset.load(path, dataset.store)
    foreign = dataset.store.path("AAA", START)
    with pytest.raises(StoreError, match="schema"):
        Dataset.load(foreign, dataset.store)


def test_a_dataset_is_tied_to_its_day_files(plain: tuple[Market, Dataset], tmp_path: Path) -> None:
    """The books of another store may have the same shape and the same days."""
    _, dataset = plain
    other = Market().write(tmp_path / "other", digest="cd" * 32)
    again = book_windows(Market().config(), other, **(SMALL | {"targets": ["AAA", "CCC"], "min_assets": 2}))
    assert dataset.store_digest == "ab" * 32
    assert dataset.summary()["store_digest"] == "ab" * 32
    assert again.digest != dataset.digest
    path = dataset.save(tmp_path / "d.h5")
    with pytest.raises(StoreError, match=r"d\.h5: was built from other day files; run bml train$"):
        Dataset.load(path, other)
    moved = DayStore(tmp_path / "moved", "ab" * 32)
    assert Dataset.load(path, moved).digest == dataset.digest


def test_the_long_channel_has_the_change_of_the_price_not_its_level(tmp_path: Path) -> None:
    market = Market(n_days=8)
    store = market.write(tmp_path, skip=lambda symbol, number: (symbol, number) == ("BBB", 5))
    dataset = book_windows(market.config(), store, **SMALL)
    assert not {"mean.log_mid", "total.log_mid"} & set(dataset.moment_names)
    assert {"std.log_mid", "skew.log_mid", "kurtosis.log_mid", "total.spread_bps"} <= set(dataset.moment_names)
    assert dataset.moments_DAS.shape[2] == len(dataset.moment_names) == len(set(dataset.moment_names))
    column = {name: dataset.moments_DAS[..., s] for s, name in enumerate(dataset.moment_names)}
    for a, symbol in enumerate(SYMBOLS):
        log_mid = np.log(market.mid[symbol]).reshape(8, 1440)
        expected = np.diff(log_mid.mean(axis=1), prepend=np.nan)
        if symbol == "BBB":
            expected[5:7] = np.nan
        np.testing.assert_allclose(column["change.log_mid"][:, a], expected, atol=1e-12)
        known = np.arange(8) != 5 if symbol == "BBB" else np.ones(8, bool)
        np.testing.assert_allclose(column["std.log_mid"][known, a], log_mid.std(axis=1)[known], rtol=1e-9)
        spread = (market.book[symbol][:, 0, 2] - market.book[symbol][:, 0, 0]).reshape(8, 1440).astype(float)
        np.testing.assert_allclose(column["total.spread_bps"][known, a], spread.sum(axis=1)[known], rtol=1e-6)


def test_a_phase_shifts_the_grid(tmp_path: Path) -> None:
    dataset = Market(n_days=6, phase_ms=500).dataset(tmp_path)
    assert (dataset.index.anchor_ns_N % 60_000_000_000 == 500_000_000).all()
