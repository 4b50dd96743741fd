"""The synthetic market as a source: pure reading, and a book that shows the latent state."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bml.registry import resolve
from bml.sources import market_book
from bml.sources.market_faults import Faults
from bml.sources.synthetic import SyntheticSource, default_mid, depth_rows
from bml.types import ASK_PX, BID_PX, NS_PER_DAY, NS_PER_S, ConfigError, DataError, DepthRows, Float64

LEVELS = 15


@dataclass(frozen=True)
class Data:
    symbols: tuple[str, ...] = ("BTC", "ETH", "SOL")
    start: dt.date = dt.date(2024, 3, 1)
    stop: dt.date = dt.date(2024, 3, 4)
    reference: str = "BTC"
    cadence_s: float = 30.0
    phase_ms: int = 0

    @property
    def start_ns(self) -> int:
        return (self.start - dt.date(1970, 1, 1)).days * NS_PER_DAY


DATA = Data()


def market(data: Data = DATA, *, seed: int = 3, levels: int = LEVELS, **more: object) -> SyntheticSource:
    return depth_rows(data=data, seed=seed, levels=levels, **more)  # type: ignore[arg-type]


def whole(source: SyntheticSource, symbol: str) -> DepthRows:
    return source.read(symbol, 0, 2**62)


def wide(rows: DepthRows, levels: int = LEVELS) -> Float64:
    return np.stack(rows.columns, axis=-1).reshape(-1, levels, 4)


def assert_same(a: DepthRows, b: DepthRows) -> None:
    np.testing.assert_array_equal(a.ts_ns_N, b.ts_ns_N)
    np.testing.assert_array_equal(a.level_N, b.level_N)
    np.testing.assert_array_equal(a.batch_N, b.batch_N)
    for x_N, y_N in zip(a.columns, b.columns, strict=True):
        np.testing.assert_array_equal(x_N, y_N)


@pytest.fixture(scope="module")
def clean() -> SyntheticSource:
    return market()


def test_rows_are_well_formed(clean: SyntheticSource) -> None:
    rows = whole(clean, "ETH")
    assert rows.n_rows == 3 * 2880 * LEVELS
    assert (rows.ts_ns_N.dtype, rows.level_N.dtype) == (np.int64, np.int32)
    assert [column.dtype for column in rows.columns] == [np.float64] * 4
    assert all(column.flags.c_contiguous for column in rows.columns)
    assert rows.ordered
    assert (np.diff(rows.ts_ns_N) >= 0).all()
    book_TLF = wide(rows)
    assert np.isfinite(book_TLF).all()
    assert (book_TLF > 0).all()
    assert (np.diff(book_TLF[:, :, BID_PX], axis=1) < 0).all()
    assert (np.diff(book_TLF[:, :, ASK_PX], axis=1) > 0).all()
    assert (book_TLF[:, 0, ASK_PX] > book_TLF[:, 0, BID_PX]).all()


def test_the_book_shows_pressure_regime_and_mid(clean: SyntheticSource) -> None:
    for a, symbol in enumerate(DATA.symbols):
        book_TLF = wide(whole(clean, symbol))
        pressure_T, regime_T = clean.paths.pressure_AT[a], clean.paths.regime_T
        np.testing.assert_allclose(market_book.revealed_pressure(book_TLF), pressure_T, atol=1e-12)
        np.testing.assert_array_equal(market_book.revealed_regime(book_TLF, spread_bps=1.0), regime_T)
        mid_T = 0.5 * (book_TLF[:, 0, BID_PX] + book_TLF[:, 0, ASK_PX])
        assert np.abs(np.log(mid_T) - clean.paths.log_mid_AT[a]).max() < 5e-7
        touch_T = np.log(book_TLF[:, 0, 1] / book_TLF[:, 0, 3])
        assert 0.1 < np.corrcoef(touch_T, pressure_T)[0, 1] < 0.6  # informative, but far from enough
        deep_T = np.log(book_TLF[:, 12:, 1].sum(axis=1) / book_TLF[:, 12:, 3].sum(axis=1))
        assert abs(np.corrcoef(deep_T, pressure_T)[0, 1]) < 0.06
    assert 0 < clean.paths.regime_T.mean() < 1


def test_sizes_grow_with_the_depth_and_are_heavy_tailed() -> None:
    rows = whole(market(levels=40), "BTC")
    qty_TL = wide(rows, 40)[:, :, 1]
    mean_L = qty_TL.mean(axis=0)
    assert mean_L[30:].mean() > 1.5 * mean_L[:2].mean()
    assert qty_TL[:, 20].max() > 20 * np.median(qty_TL[:, 20])


@given(
    symbol=st.sampled_from(DATA.symbols),
    first_s=st.integers(-3600, 3 * 86_400),
    length_s=st.integers(0, 90_000),
    jitter_ms=st.sampled_from([0.0, 400.0]),
)
def test_a_sub_range_is_the_same_rows(symbol: str, first_s: int, length_s: int, jitter_ms: float) -> None:
    source = market(faults=Faults(jitter_ms=jitter_ms, gaps_per_day=2, stuck_per_day=2, duplicates_per_day=2))
    start_ns = DATA.start_ns + first_s * NS_PER_S
    stop_ns = start_ns + length_s * NS_PER_S
    part = source.read(symbol, start_ns, stop_ns)
    assert (part.start_ns, part.stop_ns) == (start_ns, stop_ns)
    rows = whole(source, symbol)
    cut = slice(*np.searchsorted(rows.ts_ns_N, [start_ns, stop_ns]))
    batch_N = rows.batch_N
    assert batch_N is not None
    expected = replace(
        rows,
        ts_ns_N=rows.ts_ns_N[cut],
        level_N=rows.level_N[cut],
        columns=tuple(column[cut] for column in rows.columns),
        batch_N=batch_N[cut],
    )
    assert_same(part, expected)


def test_reading_does_not_depend_on_what_was_read_before(clean: SyntheticSource) -> None:
    day = (DATA.start_ns + NS_PER_DAY, DATA.start_ns + 2 * NS_PER_DAY)
    fresh = market().read("SOL", *day)
    assert_same(clean.read("SOL", *day), fresh)
    assert_same(clean.read("SOL", *day), fresh)
    assert not np.array_equal(market(seed=4).read("SOL", *day).columns[1], fresh.columns[1])


def test_days_make_up_the_whole(clean: SyntheticSource) -> None:
    days = [clean.read("BTC", DATA.start_ns + d * NS_PER_DAY, DATA.start_ns + (d + 1) * NS_PER_DAY) for d in range(3)]
    for f in range(4):
        np.testing.assert_array_equal(np.concatenate([day.columns[f] for day in days]), whole(clean, "BTC").columns[f])


@pytest.mark.parametrize(
    "symbols", [("BTC", "ETH", "SOL", "XRP"), ("XRP", "SOL", "DOGE", "ETH", "BTC"), ("SOL", "BTC", "ETH")]
)
@pytest.mark.parametrize("mids", [None, {"ETH": 3.5, "BTC": 70_000.0}])
def test_a_longer_range_or_other_symbols_change_nothing_before(
    clean: SyntheticSource, symbols: tuple[str, ...], mids: dict[str, float] | None
) -> None:
    usual = clean if mids is None else market(mids=mids)
    longer = market(replace(DATA, stop=dt.date(2024, 3, 9), symbols=symbols), mids=mids)
    stop_ns = DATA.start_ns + 3 * NS_PER_DAY
    for symbol in DATA.symbols:
        assert_same(longer.read(symbol, 0, stop_ns), whole(usual, symbol))


def test_starting_mids() -> None:
    source = market(mids={"ETH": 3.5})
    start_A = np.exp(source.paths.log_mid_AT[:, 0])
    np.testing.assert_allclose(start_A, [default_mid("BTC"), 3.5, default_mid("SOL")], rtol=1e-12)


def test_default_mids_are_what_a_name_stands_for() -> None:
    known = {"BTCUSDT": default_mid("BTCUSDT"), "ETHUSDT": default_mid("ETHUSDT")}
    assert known == {"BTCUSDT": 9650.0, "ETHUSDT": 54.2}  # rows of old runs must stay what they were
    many = np.array([default_mid(f"S{i}") for i in range(2000)])
    assert many.min() >= 1.0
    assert many.max() < 100_000.0
    share = np.histogram(np.log10(many), bins=range(6))[0] / len(many)
    assert (np.abs(share - 0.2) < 0.04).all()
    assert all(float(f"{mid:.3g}") == mid for mid in many)


def test_jitter_dates_a_snapshot_between_its_grid_point_and_the_one_before(clean: SyntheticSource) -> None:
    source = market(faults=Faults(jitter_ms=29_999.0))
    ts_T = whole(source, "ETH").ts_ns_N[::LEVELS]
    early_T = source.grid_ns_T - ts_T
    assert (early_T >= 0).all()
    assert (early_T < 30 * NS_PER_S).all()
    assert early_T.mean() == pytest.approx(15 * NS_PER_S, rel=0.05)
    last_T = np.searchsorted(ts_T, source.grid_ns_T, side="right") - 1  # what a causal forward fill sees
    np.testing.assert_array_equal(last_T, np.arange(len(ts_T)))
    for noisy_N, clean_N in zip(whole(source, "ETH").columns, whole(clean, "ETH").columns, strict=True):
        np.testing.assert_array_equal(noisy_N, clean_N)


def test_a_phase_moves_the_grid() -> None:
    rows = whole(market(replace(DATA, phase_ms=250)), "BTC")
    assert rows.ts_ns_N[0] == DATA.start_ns + 250_000_000
    assert set(np.diff(np.unique(rows.ts_ns_N))) == {30 * NS_PER_S}


def test_outside_the_range_there_are_no_rows_of_the_right_types(clean: SyntheticSource) -> None:
    rows = clean.read("BTC", 0, DATA.start_ns)
    assert rows.n_rows == 0
    full = whole(clean, "BTC")
    assert [c.dtype for c in rows.columns] == [c.dtype for c in full.columns]
    assert (rows.ts_ns_N.dtype, rows.level_N.dtype) == (full.ts_ns_N.dtype, full.level_N.dtype)


def test_the_mids_of_the_assets_move_together(clean: SyntheticSource) -> None:
    step_AT = np.diff(clean.paths.log_mid_AT, axis=1)
    corr = np.corrcoef(step_AT)
    assert corr[np.triu_indices(3, 1)].min() > 0.4


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"levels": 2}, "levels: input should be greater than or equal to 3, got 2"),
        ({"seed": -1}, "seed: input should be"),
        ({"lead": 1.5, "correlation": -0.1}, "lead: .*; correlation: "),
        ({"sigma_bps": (0.0, 1.0)}, "sigma_bps.0: input should be greater than 0"),
        ({"mids": {"BTC": 1.0, "BTCUSD": 1.0}}, "mids: 'BTCUSD' is none of the symbols"),
        ({"mids": {"BTC": 0.0}}, "mids.BTC: input should be greater than 0"),
        ({"data": replace(DATA, cadence_s=7.0)}, "data.cadence_s: 7 does not divide"),
        ({"data": replace(DATA, stop=DATA.start)}, "data.stop: "),
        ({"data": replace(DATA, reference="XRP")}, "data.reference: 'XRP'"),
        ({"data": replace(DATA, symbols=("BTC", "BTC"))}, "data.symbols: "),
        ({"data": replace(DATA, phase_ms=30_000)}, "data.phase_ms: "),
        ({"data": replace(DATA, cadence_s=3600.0)}, "bayes.horizon_s: 1800 is no multiple"),
        ({"faults": Faults(jitter_ms=30_000)}, "faults.jitter_ms: 30000 must be below the cadence"),
        ({"faults": Faults(absent={"XRP": (DATA.start,)})}, "faults.absent: 'XRP'"),
        ({"faults": Faults(gaps_per_day=500)}, "faults: 500 events a day"),
        ({"drift_bps": 2000.0, "pressure_s": 1e6}, "the synthetic mid falls to"),
    ],
)
def test_bad_parameters_are_one_line(change: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        depth_rows(**{"data": DATA, "seed": 1, "levels": LEVELS} | change)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_an_unknown_symbol_is_named(clean: SyntheticSource) -> None:
    with pytest.raises(DataError, match="DOGE: not in this market; there are BTC, ETH, SOL"):
        clean.read("DOGE", 0, 1)


def test_yaml_names_and_checks_it() -> None:
    from bml.config.params import parameter_model

    model = parameter_model(resolve("sources.synthetic.depth_rows", "source"))
    text = (
        '{"seed": 1, "levels": 20, "sigma_bps": [2, 5], "mids": {"A": 2}, '
        '"faults": {"gap_s": [60, 90], "absent": {"A": ["2024-01-02"]}}}'
    )
    given = model.model_validate_json(text)
    faults = given.f_faults  # type: ignore[attr-defined]
    assert faults == Faults(gap_s=(60, 90), absent={"A": (dt.date(2024, 1, 2),)})
    assert given.f_mids == {"A": 2.0}  # type: ignore[attr-defined]
    for wrong in (
        '{"mids": [1, 2]}',
        '{"faults": {"gaps": 1}}',
        '{"bayes": {"edge": [0.0]}}',
        '{"bayes": {"edges": [0.1, 0.0]}}',
    ):
        with pytest.raises(ValueError, match=r"faults|bayes|mids"):
            model.model_validate_json('{"seed": 1, "levels": 20, ' + wrong[1:])


def test_it_is_a_source_with_truth(clean: SyntheticSource) -> None:
    from bml.sources.base import HasTruth

    assert isinstance(clean, HasTruth)
    with clean as same:
        assert same is clean
    assert clean.describe()["seed"] == 3


def test_a_large_day_is_drawn_fast() -> None:
    source = market(replace(DATA, cadence_s=10.0, stop=dt.date(2024, 3, 2)), levels=50)
    source.read("BTC", DATA.start_ns, DATA.start_ns + NS_PER_S)
    began = time.perf_counter()
    assert whole(source, "BTC").n_rows == 8640 * 50
    assert time.perf_counter() - began < 1.0  # about 0.05 s on an idle core


def test_streams_of_symbols_and_seeds_differ(clean: SyntheticSource) -> None:
    other = market(seed=4)
    paths = [*clean.paths.pressure_AT, *other.paths.pressure_AT]
    for a, b in pairwise(paths):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.35  # some 70 relaxation times
        assert not np.array_equal(a, b)
