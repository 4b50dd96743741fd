"""The ledger of a store built of a market with planted faults: every one is in it, at its exact times."""

from __future__ import annotations

import datetime as dt
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from bml import config, learned, pipeline
from bml.book import coverage, records, rolling
from bml.book.coverage import DEFECTS, DayCoverage, Ledger, State
from bml.book.days import store_digest
from bml.book.store import DayFile, DayStore
from bml.cli.progress import Progress
from bml.config import Config
from bml.dataset.dropped import KEPT, by_day
from bml.dataset.samples import book_windows
from bml.sources.synthetic import SyntheticSource
from bml.tracking import NullTracker
from bml.types import NS_PER_DAY, NS_PER_S, AlignedDay, ConfigError, Flag, GateError
from bml.unattended import Choices
from bml.worker import open_source

CADENCE_S = 20
ABSENT_DAY = dt.date(2024, 3, 2)
SYMBOLS = ("BTC", "ETH")

DOCUMENT = {
    "version": 1,
    "name": "planted",
    "data": {
        "symbols": list(SYMBOLS), "start": "2024-03-01", "stop": "2024-03-04", "reference": "BTC",
        "cadence_s": CADENCE_S,
    },
    "tracking": {"enabled": False},
    "stages": {
        "collect": {
            "fn": "sources.synthetic.depth_rows",
            "with": {
                "seed": 11,
                "levels": 12,
                "faults": {
                    "gaps_per_day": 2, "gap_s": [60, 400], "stuck_per_day": 2, "stuck_s": [100, 300],
                    "crossed_per_day": 2, "locked_per_day": 2, "outliers_per_day": 3, "outlier_bps": 250,
                    "duplicates_per_day": 2, "conflicts_per_day": 2, "one_sided_per_day": 3, "truncated_per_day": 2,
                    "truncated_s": [60, 200], "absent": {"ETH": [str(ABSENT_DAY)]},
                },
            },
        },
        "data_object": {"with": {"levels": 12}},
        "preprocess": [
            {"fn": "book.quality.check", "with": {"max_jump_bps": 150}},
            {"fn": "book.align.to_grid", "with": {"max_gap_s": 60}},
            {"fn": "book.depth.adaptive", "with": {"near_levels": 4, "deep_bins": 2}},
            {"fn": "book.moments.daily"},
        ],
        "features": {"with": {"window_h": 1, "stride_s": 300, "horizon_s": 600, "targets": ["BTC", "ETH"],
                              "max_filled": 0.2, "context_days": 1}},
    },
}  # fmt: skip


def configured(folder: Path, root: Path) -> Config:
    path = folder / "planted.yaml"
    path.write_text(yaml.safe_dump(DOCUMENT | {"store": {"root": str(root)}}, sort_keys=False))
    return config.load(str(path), (), stages=("collect", "data_object", "preprocess", "features"))


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The configuration of a store that is built; not to be changed."""
    folder = tmp_path_factory.mktemp("planted")
    cfg = configured(folder, folder / "store")
    with Progress(quiet=True) as progress:
        pipeline.preprocess(cfg, NullTracker(), progress, Choices(workers=0))
    return cfg


@pytest.fixture
def copy(planted: Config, tmp_path: Path) -> Config:
    """The same store elsewhere, to be changed."""
    shutil.copytree(planted.store.root, tmp_path / "store")
    return configured(tmp_path, tmp_path / "store")


def day_store(cfg: Config, *, verify: bool = False) -> DayStore:
    return DayStore(cfg.store.root, store_digest(cfg, learned.load(cfg)), verify)


def ledger_of(cfg: Config, *, verify: bool = False) -> Ledger:
    return coverage.of_config(
        day_store(cfg, verify=verify), cfg.data.symbols, cfg.data.start, cfg.data.stop,
        rows_per_day=86_400 // CADENCE_S,
    )  # fmt: skip


def of(ledger: Ledger, symbol: str, day: dt.date) -> DayCoverage:
    return next(one for one in ledger.days if (one.symbol, one.day) == (symbol, day))


def listed(ledger: Ledger, symbol: str, flag: Flag) -> list[tuple[int, int, int]]:
    """Ranges of one kind; repeats are listed one by one and once more all together, which is left out."""
    return sorted(
        (e.start_ns, e.stop_ns, e.count)
        for day in ledger.days
        for e in day.events
        if day.symbol == symbol and e.flag is flag and "that repeat the previous book" not in e.detail
    )


#: kind of fault -> the flag it is listed under, and how many steps before and after it its range reaches
KINDS: dict[str, tuple[Flag, int, int]] = {
    "crossed": (Flag.CROSSED, 0, 0),
    "locked": (Flag.LOCKED, 0, 0),
    "outlier": (Flag.OUTLIER, 0, 0),
    "duplicate": (Flag.DUPLICATE, 0, 0),
    "conflict": (Flag.DUPLICATE, 0, 0),
    "one_sided": (Flag.ABSENT, 0, 0),
    "truncated": (Flag.TRUNCATED, 0, 0),
    "stuck": (Flag.STUCK, 1, 0),  # since the snapshot that is repeated
    "gap": (Flag.GAP, 1, 1),  # from the last snapshot before to the first after
}


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("flag", sorted({flag for flag, _, _ in KINDS.values()}, key=int))
def test_every_planted_range_is_listed_and_no_other(planted: Config, symbol: str, flag: Flag) -> None:
    source = open_source(planted)
    assert isinstance(source, SyntheticSource)
    step = CADENCE_S * NS_PER_S
    wanted = []
    for event in source.ledger(symbol):
        listed_as, before, after = KINDS.get(event.kind, (None, 0, 0))
        if listed_as is flag:
            wanted.append((event.start_ns - before * step, event.stop_ns + after * step, event.count))
    assert len(wanted) >= 4
    found = listed(ledger_of(planted), symbol, flag)
    if flag is Flag.GAP:  # rows without a mid are listed as well, and the day without any row
        assert set(wanted) <= set(found)
        for start, stop, _ in set(found) - set(wanted):
            assert is_absent_day(start) or any(a <= start and stop <= b for a, b, _ in wanted)
    else:
        assert found == sorted(wanted)


def is_absent_day(start_ns: int) -> bool:
    return np.datetime64(start_ns, "ns").astype("datetime64[D]") == np.datetime64(ABSENT_DAY)


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_rows_tile_the_day_and_follow_the_flags(planted: Config, symbol: str) -> None:
    ledger = ledger_of(planted)
    store = day_store(planted)
    for day in (one for one in ledger.days if one.symbol == symbol):
        with store.open(symbol, day.day) as file:
            flag_T, mid_T, age_ms_T = (np.array(x) for x in (file.flag_T, file.mid_T, file.age_ms_T))
        assert day.rows == day.fresh + day.filled + day.missing == 86_400 // CADENCE_S
        assert day.missing == np.isnan(mid_T).sum()
        has_own_T = (age_ms_T >= 0) & (age_ms_T < CADENCE_S * 1000) & np.isfinite(mid_T)
        assert day.fresh == has_own_T.sum()
        assert day.usable == (has_own_T & (flag_T & int(Flag.OUTLIER | Flag.CROSSED) == 0)).sum()
        assert day.oldest_s == max(age_ms_T.max(), 0) / 1e3
        longest = max((len(run) for run in "".join("x" if np.isnan(m) else " " for m in mid_T).split()), default=0)
        assert day.longest_s["missing"] == longest * CADENCE_S
        assert day.state is (State.EMPTY if (symbol, day.day) == ("ETH", ABSENT_DAY) else State.PRESENT)


def test_counts_are_those_of_what_was_planted(planted: Config) -> None:
    total = coverage.by_symbol(ledger_of(planted))
    expected = {"crossed": 2, "locked": 2, "outlier": 3}
    for symbol, days in (("BTC", 3), ("ETH", 2)):
        assert {kind: total[symbol][kind] for kind in expected} == {k: days * n for k, n in expected.items()}
        assert total[symbol]["duplicate"] == days * 4 * 12  # rows: twelve levels, twice and in conflict
        assert total[symbol]["rows"] == 3 * 86_400 / CADENCE_S
    assert (total["BTC"]["empty"], total["ETH"]["empty"], total["ETH"]["days"]) == (0, 1, 3)
    assert set(DEFECTS) <= set(total["BTC"])
    months = coverage.by_month(ledger_of(planted))
    assert months == {(symbol, "2024-03"): total[symbol] for symbol in SYMBOLS}


def test_a_store_alone_tells_the_same(planted: Config) -> None:
    assert coverage.of_store(planted.store.root) == ledger_of(planted)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def rename(path: Path) -> None:
    path.rename(path.with_name(path.name.replace("2024-03-03", "2024-03-02")))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def test_files_that_are_not_there_are_absent(copy: Config) -> None:
    store = day_store(copy)
    for day in (1, 2):
        store.path("BTC", dt.date(2024, 3, day)).unlink()
    ledger = ledger_of(copy)
    assert coverage.spans(ledger.days, State.ABSENT) == [("BTC", dt.date(2024, 3, 1), dt.date(2024, 3, 2))]
    assert coverage.of_store(copy.store.root) == ledger  # the other symbol has the first day
    share = coverage.by_symbol(ledger)["BTC"]
    assert (share["absent"], share["missing"] > 2 * 4320, share["rows"]) == (2, True, 3 * 4320)
    records.fail(store, "BTC", dt.date(2024, 3, 2), "the source broke off")
    assert of(ledger_of(copy), "BTC", dt.date(2024, 3, 2)).problem == "failed: the source broke off"
    store.path("ETH", dt.date(2024, 3, 1)).unlink()
    assert coverage.of_store(copy.store.root).start == dt.date(2024, 3, 2)


@pytest.mark.parametrize(
    ("harm", "words", "verify"),
    [(truncate, "", False), (rename, "was renamed|holds BTC 2024-03-03", False), (flip, "checksum", True)],
)
def test_damaged_files_are_named_and_the_rest_is_told(
    copy: Config, harm: Callable[[Path], None], words: str, verify: bool
) -> None:
    whole = ledger_of(copy)
    harm(day_store(copy).path("BTC", dt.date(2024, 3, 3)))
    for ledger in (ledger_of(copy, verify=verify), coverage.of_store(copy.store.root, verify=verify)):
        ((path, reason),) = ledger.damaged.items()
        assert path in reason
        assert re.search(words, reason)
        same = [day for day in ledger.days if day in whole.days]
        assert len(same) == len(whole.days) - (2 if harm is rename else 1)
        bad = [day for day in ledger.days if day.state is State.DAMAGED]
        assert [day.problem for day in bad] == [reason]


def test_evicted_days_keep_their_counts(copy: Config) -> None:
    before = of(ledger_of(copy), "BTC", dt.date(2024, 3, 1))
    rolling.evict(day_store(copy), "BTC", dt.date(2024, 3, 1))
    after = of(ledger_of(copy), "BTC", dt.date(2024, 3, 1))
    assert after.state is State.EVICTED
    assert (after.rows, after.defects, after.events) == (before.rows, before.defects, before.events)


def test_of_several_configurations_none_is_guessed(copy: Config, tmp_path: Path) -> None:
    mine = day_store(copy)
    other = DayStore(copy.store.root, "0123456789abcdef")
    with mine.open("BTC", dt.date(2024, 3, 1)) as file:
        other.write(aligned(file), meta={})
    with pytest.raises(ConfigError, match=rf"2 configurations: 01234567 \(1 days of BTC\); {mine.digest[:8]} \(6 days"):
        coverage.of_store(copy.store.root)
    assert len(ledger_of(copy).days) == 6
    with pytest.raises(ConfigError, match="no day files of bml"):
        coverage.of_store(tmp_path / "nothing")


def aligned(file: DayFile) -> AlignedDay:
    return AlignedDay(
        symbol=file.symbol, day=file.day, cadence_ns=file.cadence_ns, grid_ns_T=file.grid_ns_T,
        book_TLF=file.book_TLF, mid_T=file.mid_T, age_ms_T=file.age_ms_T, flag_T=file.flag_T, quality=file.quality,
        units="bps_log1p", edges_L1=file.edges_L1, coverage_TL2=file.coverage_TL2, moments=file.moments,
    )  # fmt: skip


def test_windows_are_dropped_for_the_reasons_the_dataset_has(planted: Config) -> None:
    store = day_store(planted)
    found = by_day(planted, store)
    dataset = book_windows(planted, store, **planted.features.params)
    for symbol, days in found.items():
        assert list(days) == [dt.date(2024, 3, day) for day in (1, 2, 3)]
        assert all(sum(counts.values()) == 288 for counts in days.values())  # an anchor every five minutes
        summed = {name: sum(counts.get(name, 0) for counts in days.values()) for name in dataset.drop_reasons[symbol]}
        assert summed == dataset.drop_reasons[symbol]
        mine = dataset.index.anchor_ns_N[dataset.index.target_N == dataset.symbols.index(symbol)]
        kept, counts = np.unique(mine // NS_PER_DAY, return_counts=True)
        days_kept = {(day - dt.date(1970, 1, 1)).days: c[KEPT] for day, c in days.items() if KEPT in c}
        assert days_kept == dict(zip(kept.tolist(), counts.tolist(), strict=True))
    # at midnight the window is whole yet, but no label can end in a day without rows
    assert found["ETH"][ABSENT_DAY] == {"target_gap": 287, "label_invalid": 1}


def test_reasons_are_told_where_no_window_is_left(planted: Config) -> None:
    features = planted.features.model_copy(update={"params": planted.features.params | {"window_h": 71.0}})
    cfg = planted.model_copy(update={"features": features})
    with pytest.raises(GateError, match="no usable window"):
        book_windows(cfg, day_store(cfg), **cfg.features.params)
    for days in by_day(cfg, day_store(cfg)).values():
        assert sum(counts.get(KEPT, 0) for counts in days.values()) == 0
        assert days[dt.date(2024, 3, 1)] == {"history_short": 288}
