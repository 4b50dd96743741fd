"""The driver of symbol-days: what it counts, when it builds, what makes it build again."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from bml import config
from bml.book.days import DayBuilder, publish, spread, start_ns, store_digest
from bml.book.store import DayStore
from bml.types import NS_PER_DAY, NS_PER_S, ConfigError, DepthRows, Flag
from tests.end_to_end import tiny

DAY = dt.date(2024, 1, 2)
META = {"origin": {"kind": "feed", "host": "a"}}
CADENCE_NS = tiny.CADENCE_S * NS_PER_S


class Feed:
    """A snapshot every cadence, three levels; every 100th snapshot is crossed."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self, symbol: str, first_ns: int, stop_ns: int) -> DepthRows:
        self.reads += 1
        ts = np.arange(first_ns, stop_ns, CADENCE_NS, dtype=np.int64)
        mid = 100.0 + np.sin(ts / NS_PER_DAY)
        crossed = np.where((ts // CADENCE_NS) % 100 == 0, -1.0, 1.0)
        level = np.tile(np.arange(1, 4, dtype=np.int32), len(ts))
        step = (0.01 * np.arange(1, 4))[None, :] * crossed[:, None]
        ones = np.ones(3 * len(ts))
        columns = ((mid[:, None] - step).ravel(), ones, (mid[:, None] + step).ravel(), ones)
        return DepthRows(
            symbol=symbol,
            start_ns=first_ns,
            stop_ns=stop_ns,
            ts_ns_N=np.repeat(ts, 3),
            level_N=level,
            columns=columns,
        )

    def describe(self) -> dict[str, str | int | float]:
        return {"kind": "feed"}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


@pytest.fixture
def cfg(tmp_path: Path) -> config.Config:
    tree: dict[str, Any] = tiny.document(tmp_path, tmp_path / "store")
    tree["stages"]["preprocess"][2]["with"] = {"edges": [0, 1, 3]}
    return config.load(tiny.write_config(tmp_path / "c.yaml", tree))


def test_look_back_is_filled_from_but_not_counted(cfg: config.Config, tmp_path: Path) -> None:
    """Every snapshot and every crossed book belongs to the report of one day only."""
    feed, store = Feed(), DayStore(tmp_path / "store", "0" * 16)
    days = [DAY + dt.timedelta(days=n) for n in range(3)]
    summaries = [publish(DayBuilder(cfg, feed), store, "BTCUSDT", day, meta=META) for day in days]
    per_day = NS_PER_DAY // CADENCE_NS
    assert [s.counts["n_snapshots"] for s in summaries] == [per_day] * 3
    assert [s.counts["n_rows"] for s in summaries] == [3 * per_day] * 3
    first = start_ns(DAY) // CADENCE_NS
    crossed = sum(k % 100 == 0 for k in range(first, first + 3 * per_day))
    assert sum(s.counts["n_crossed"] for s in summaries) == crossed
    events = [event for day in days for event in store.open("BTCUSDT", day).quality.events]
    assert sum(event.flag is Flag.CROSSED for event in events) == crossed
    assert all(s.fresh + s.filled + s.gap == s.cells == per_day for s in summaries)


def test_a_day_that_is_there_is_not_built_again(cfg: config.Config, tmp_path: Path) -> None:
    feed, store = Feed(), DayStore(tmp_path / "store", "0" * 16)
    first = publish(DayBuilder(cfg, feed), store, "BTCUSDT", DAY, meta=META)
    before = store.path("BTCUSDT", DAY).stat()
    again = publish(DayBuilder(cfg, feed), store, "BTCUSDT", DAY, meta=META)
    assert (first.built, again.built, feed.reads) == (True, False, 1)
    assert store.path("BTCUSDT", DAY).stat().st_mtime_ns == before.st_mtime_ns
    assert replace(again, built=True) == first
    forced = publish(DayBuilder(cfg, feed), store, "BTCUSDT", DAY, meta={}, force=True)
    assert (forced.built, feed.reads) == (True, 2)


def test_another_source_is_not_mixed_in(cfg: config.Config, tmp_path: Path) -> None:
    feed, store = Feed(), DayStore(tmp_path / "store", "0" * 16)
    publish(DayBuilder(cfg, feed), store, "BTCUSDT", DAY, meta=META)
    moved = {"origin": {"kind": "feed", "host": "b"}}
    with pytest.raises(ConfigError, match=r"another source \(host 'a', now 'b'\).*any_origin"):
        publish(DayBuilder(cfg, feed), store, "BTCUSDT", DAY, meta=moved)
    assert not publish(DayBuilder(cfg, feed), store, "BTCUSDT", DAY, meta=moved, any_origin=True).built
    upgraded = {"origin": META["origin"] | {"server": "18.4"}}
    assert not publish(DayBuilder(cfg, feed), store, "BTCUSDT", DAY, meta=upgraded).built


def test_digest_names_what_decides_the_bytes(tmp_path: Path) -> None:
    tree: dict[str, Any] = tiny.document(tmp_path, tmp_path / "store")

    def digest(change: dict[str, Any], learned: dict[str, object] | None = None) -> str:
        path = tiny.write_config(tmp_path / "c.yaml", tree | {"data": tree["data"] | change})
        return store_digest(config.load(path), learned or {})

    same = digest({})
    assert digest({"stop": "2024-02-01"}) == same
    assert digest({"start": "2023-12-01"}) == same
    assert digest({"cadence_s": 60}) != same
    assert digest({"phase_ms": 500}) != same
    assert digest({}, {"book.depth.adaptive": {"edges": [0, 1]}}) != same


def test_how_long_a_database_is_waited_for_names_no_other_day_files(tmp_path: Path) -> None:
    tree: dict[str, Any] = tiny.document(tmp_path, tmp_path / "store")

    def digest(**given: Any) -> str:
        tree["stages"]["collect"] = {"fn": "sources.postgres.depth_rows", "with": {"dsn": "", "table": "t"} | given}
        return store_digest(config.load(tiny.write_config(tmp_path / "c.yaml", tree)), {})

    same = digest()
    assert digest(insecure=True, statement_timeout_s=7, connect_timeout_s=3, max_rows=10**6) == same
    assert digest(depth=9) != same
    assert digest(table="u") != same


def test_a_simulated_market_starts_where_the_data_do(tmp_path: Path) -> None:
    tree: dict[str, Any] = tiny.document(tmp_path, tmp_path / "store")
    tree["stages"]["collect"] = {"fn": "sources.synthetic.depth_rows", "with": {"seed": 1, "levels": 4}}

    def digest(start: str, stop: str) -> str:
        path = tiny.write_config(tmp_path / "c.yaml", tree | {"data": tree["data"] | {"start": start, "stop": stop}})
        return store_digest(config.load(path), {})

    assert digest("2024-01-01", "2024-01-09") == digest("2024-01-01", "2024-02-01")
    assert digest("2024-01-02", "2024-01-09") != digest("2024-01-01", "2024-01-09")


def test_spread_keeps_both_ends() -> None:
    days = [DAY + dt.timedelta(days=n) for n in range(30)]
    assert spread(days[:3]) == days[:3]
    picked = spread(days)
    assert (len(picked), picked[0], picked[-1]) == (5, days[0], days[-1])
