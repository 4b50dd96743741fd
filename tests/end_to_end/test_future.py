"""Whatever comes after t may change as it likes: what is dated before t stays the same, byte for byte."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from bml.book.store import open_file
from tests.end_to_end import tiny


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dt.datetime]:
    """Two stores preprocessed from rows that are equal up to a moment of the last day and scrambled after it.

    The moment lies after the training span, so what is learned from that span must not move either.
    """
    folder = tmp_path_factory.mktemp("future")
    rows = tiny.write_books(folder / "rows")
    moment = dt.datetime.combine(tiny.START + dt.timedelta(days=tiny.N_DAYS - 1), dt.time(9, 41, 7))
    (folder / "scrambled").mkdir()
    rng = np.random.default_rng(5)
    for symbol in tiny.SYMBOLS:
        frame = pl.read_parquet(rows / f"{symbol}.parquet")
        after = pl.col("ts") > moment
        noise = pl.Series(rng.uniform(0.5, 1.5, len(frame)))
        frame = frame.with_columns(
            pl.when(after).then(pl.col(name) * factor).otherwise(name).alias(name)
            for name, factor in (("bid_px", 0.7), ("ask_px", 1.3), ("bid_qty", noise), ("ask_qty", 1e3))
        )
        frame.filter(~after | (pl.col("level") < 3)).write_parquet(folder / "scrambled" / f"{symbol}.parquet")
    for name in ("rows", "scrambled"):
        # one configuration for both: a path is part of what names the day files
        (folder / "now").unlink(missing_ok=True)
        (folder / "now").symlink_to(folder / name)
        tree: Any = tiny.document(folder / "now", folder / f"store-{name}")
        features = ["book.features.book_slope", {"fn": "book.features.order_flow_imbalance", "rows": 5}]
        tree["stages"]["preprocess"].insert(2, {"fn": "book.features.window", "with": {"features": features}})
        config = tiny.write_config(folder / f"{name}.yaml", tree)
        done = tiny.bml("preprocess", config, "-q")
        assert done.code == 0, done.err
    return folder / "store-rows", folder / "store-scrambled", moment


def test_finished_days_and_the_plan_do_not_move(stores: tuple[Path, Path, dt.datetime]) -> None:
    original, scrambled, moment = (*stores[:2], stores[2].date().isoformat())
    a, b = tiny.published(original), tiny.published(scrambled)
    assert list(a) == list(b)
    for name in a:
        assert (a[name] == b[name]) == (moment not in name), name
    plans = [[path.read_bytes() for path in sorted((s / "learned").iterdir())] for s in (original, scrambled)]
    assert plans[0] == plans[1]


def test_cells_before_the_moment_do_not_move(stores: tuple[Path, Path, dt.datetime]) -> None:
    original, scrambled, moment = stores
    moment_ns = int(moment.replace(tzinfo=dt.UTC).timestamp()) * 10**9
    compared = 0
    for name in tiny.published(original):
        if moment.date().isoformat() not in name:
            continue
        with open_file(original / name) as a, open_file(scrambled / name) as b:
            before_T = a.grid_ns_T <= moment_ns
            assert before_T.any()
            assert not before_T.all()
            for x, y in (
                (a.book_TLF, b.book_TLF),
                (a.mid_T, b.mid_T),
                (a.age_ms_T, b.age_ms_T),
                (a.flag_T, b.flag_T),
                (a.coverage_TL2, b.coverage_TL2),
                (a.feature_TK, b.feature_TK),
            ):
                assert x[before_T].tobytes() == y[before_T].tobytes()
                compared += 1
            assert a.mid_T[~before_T].tobytes() != b.mid_T[~before_T].tobytes()
            assert a.feature_TK[~before_T].tobytes() != b.feature_TK[~before_T].tobytes()
    assert compared == 6 * len(tiny.SYMBOLS)
