"""Rows of other worlds: the same past, another future, and still what a feed could send."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audit_market import config, document

from bml.audit.scramble import Scramble, scramble_of, scrambled, spells_of
from bml.audit.world import REAL, World, WorldSource
from bml.types import ASK, BID, NS_PER_DAY, NS_PER_S, DepthRows
from bml.worker import open_source

DAY = 19_723 * NS_PER_DAY  # 2024-01-01
SPEC = Scramble(seed=1, share=0.05, gap_ns=1200 * NS_PER_S, gap_every_ns=NS_PER_DAY // 2)
SYMBOL = "BTCUSDT"


@pytest.fixture
def source(tmp_path: Path) -> Iterator[WorldSource]:
    cfg = config(tmp_path)
    with open_source(cfg) as real, WorldSource(real, scramble_of(cfg, 1)) as worlds:
        yield worlds


def read(source: WorldSource, world: World, start_ns: int = DAY, stop_ns: int = DAY + NS_PER_DAY) -> DepthRows:
    source.enter(world)
    return source.read(SYMBOL, start_ns, stop_ns)


def columns(rows: DepthRows, some: Any = slice(None)) -> list[bytes]:
    parts = [rows.ts_ns_N, rows.level_N, rows.batch_N, *rows.columns]
    return [part[some].tobytes() for part in parts if part is not None]


def sided(n: int = 500) -> DepthRows:
    rng = np.random.default_rng(7)
    ts_ns_N = np.repeat(DAY + np.sort(rng.choice(NS_PER_DAY, n, replace=False)), 6)
    level_N, side_N = np.tile([1, 2, 3], 2 * n), np.tile(np.repeat([BID, ASK], 3), n)
    px_N = 100.0 + np.where(side_N == BID, -0.1, 0.1) * level_N
    return DepthRows(
        symbol="X", start_ns=DAY, stop_ns=DAY + NS_PER_DAY, ts_ns_N=ts_ns_N, level_N=level_N.astype(np.int32),
        columns=(px_N, np.ones(6 * n)), side_N=side_N.astype(np.int8), ordered=True,
    )  # fmt: skip


@pytest.mark.parametrize("spell", ["none", "silence", "bids only"])
def test_the_past_is_real_and_the_future_is_not(source: WorldSource, spell: Any) -> None:
    cut_ns = DAY + NS_PER_DAY // 2
    real, other = read(source, REAL), read(source, World(cut_ns=cut_ns, spell_ns=3600 * NS_PER_S, spell=spell))
    before, other_before = real.ts_ns_N <= cut_ns, other.ts_ns_N <= cut_ns
    assert columns(real, before) == columns(other, other_before)
    late = np.isin(other.columns[0][~other_before], real.columns[0])
    assert not late.any()
    soon = other.ts_ns_N[~other_before] <= cut_ns + 3600 * NS_PER_S
    asks = other.columns[2][~other_before]
    assert soon.any() == (spell != "silence")
    assert np.isnan(asks[soon]).all() == (spell != "none")
    assert np.isfinite(asks[~soon]).any()


def test_the_future_does_not_depend_on_the_cut(source: WorldSource) -> None:
    early, late = (read(source, World(cut_ns=DAY + hours * 3600 * NS_PER_S)) for hours in (3, 15))
    from_ns = DAY + 15 * 3600 * NS_PER_S + 1
    assert columns(early, early.ts_ns_N >= from_ns) == columns(late, late.ts_ns_N >= from_ns)


def test_a_read_over_midnight_is_the_two_days(source: WorldSource) -> None:
    world, midnight = World(cut_ns=DAY + 1), DAY + NS_PER_DAY
    whole = read(source, world, DAY + NS_PER_DAY // 2, midnight + NS_PER_DAY // 2)
    parts = [read(source, world, DAY, midnight), read(source, world, midnight, midnight + NS_PER_DAY)]
    ts_ns_N = np.concatenate([part.ts_ns_N for part in parts])
    inside = (ts_ns_N >= whole.start_ns) & (ts_ns_N < whole.stop_ns)
    assert whole.ts_ns_N.tobytes() == ts_ns_N[inside].tobytes()


def test_keys_name_rows() -> None:
    world = World(cut_ns=100, spell_ns=10, spell="silence")
    assert world.key(("X", 0, 101)) == "real"
    assert world.key(("X", 0, 102)) == world.key(("X", 110, 200)) == (100, 10, "silence")
    assert world.key(("X", 111, 200)) == "scrambled"
    assert REAL.key(("X", 0, 10**18)) == "real"


def test_scrambled_rows_are_rows_a_feed_could_send() -> None:
    real, other = sided(), scrambled(sided(), SPEC)
    assert (np.diff(other.ts_ns_N) >= 0).all()
    assert other.ts_ns_N.min() >= DAY
    assert other.ts_ns_N.max() < DAY + NS_PER_DAY
    px_N, qty_N = other.columns
    assert (qty_N >= 0.5).all()
    assert (qty_N <= 2.0).all()
    for ts_ns in np.unique(other.ts_ns_N):
        now = other.ts_ns_N == ts_ns
        bid_N, ask_N = px_N[now & (other.side_N == BID)], px_N[now & (other.side_N == ASK)]
        assert bid_N.max() < ask_N.min()
        assert (np.diff(bid_N) <= 0).all()
    assert not np.isin(px_N, real.columns[0]).any()


def test_something_is_dropped_doubled_moved_and_made_shallow() -> None:
    real, other = sided(2000), scrambled(sided(2000), SPEC)
    times = [np.unique(rows.ts_ns_N) for rows in (real, other)]
    assert times[1].shape[0] < 0.97 * times[0].shape[0]
    assert 0.01 < (~np.isin(times[1], times[0])).mean() < 0.1
    assert np.diff(times[1]).max() >= SPEC.gap_ns
    keys = np.stack([other.ts_ns_N, other.level_N, other.side_N], axis=1)
    assert np.unique(keys, axis=0).shape[0] < keys.shape[0]
    deep = np.arange(1, 9, dtype=np.int32)
    eight = DepthRows(symbol="X", start_ns=DAY, stop_ns=DAY + NS_PER_DAY, ts_ns_N=np.full(8, DAY), level_N=deep,
                      columns=(np.full(8, 9.0), np.ones(8), np.full(8, 10.0), np.ones(8)))  # fmt: skip
    calm = Scramble(seed=1, share=0.0, gap_ns=1, gap_every_ns=10**6 * NS_PER_DAY)
    assert scrambled(eight, calm).level_N.max() == 6


def test_equal_rows_stay_equal() -> None:
    """Rows sent twice are no conflict in the other world either."""
    once = sided(50)
    twice = DepthRows(
        symbol="X", start_ns=DAY, stop_ns=DAY + NS_PER_DAY, ts_ns_N=np.repeat(once.ts_ns_N, 2),
        level_N=np.repeat(once.level_N, 2), columns=tuple(np.repeat(column, 2) for column in once.columns),
        side_N=np.repeat(once.side_N, 2),
    )  # fmt: skip
    other = scrambled(twice, SPEC)
    rows = np.stack([other.ts_ns_N, other.level_N, other.side_N, *other.columns], axis=1)
    cells = np.unique(rows[:, :3], axis=0).shape[0]
    assert np.unique(rows, axis=0).shape[0] == cells < rows.shape[0]


def test_the_scramble_suits_the_configuration(tmp_path: Path) -> None:
    tree = document(tmp_path / "store", window_h=24, max_filled=0.01)
    cfg = config(tmp_path, tree)
    spec, spells = scramble_of(cfg, 3), spells_of(cfg)
    assert spec.share == 0.0025
    assert spec.gap_every_ns == 10 * NS_PER_DAY
    assert spells["silence"] == spec.gap_ns > 300 * NS_PER_S
    assert spells["none"] == 0
