"""sources.files.wide_rows on small files written here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from bml.sources.files import wide_rows
from bml.types import FIELDS, NS_PER_DAY, NS_PER_S, ConfigError, DataError

START = 19_792 * NS_PER_DAY
STOP = START + NS_PER_DAY


def wide_frame(times: int, levels: int, first: int) -> tuple[pl.DataFrame, np.ndarray]:
    """A frame with columns such as ``b1_p`` and the (T, L, 4) book it holds."""
    book = np.random.default_rng(0).normal(size=(times, levels, 4))
    book[1, levels - 1, :2] = np.nan
    columns: dict[str, Any] = {"time": START + NS_PER_S * np.arange(times), "seq": np.arange(times) * 3}
    for k in range(levels):
        for f, name in enumerate(("b{}_p", "b{}_q", "a{}_p", "a{}_q")):
            columns[name.format(first + k)] = book[:, k, f]
    return pl.DataFrame(columns).with_columns(pl.selectors.float().fill_nan(None)), book


NAMES = {"bid_px": "b{k}_p", "bid_qty": "b{k}_q", "ask_px": "a{k}_p", "ask_qty": "a{k}_q"}


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("name", ["w.csv", "w.parquet"])
def test_wide_is_the_book(tmp_path: Path, name: str, first: Any) -> None:
    frame, book = wide_frame(6, 12, first)
    if name == "w.csv":
        frame.write_csv(tmp_path / name, separator=";")
    else:
        frame.write_parquet(tmp_path / name)
    source = wide_rows(
        path=str(tmp_path / name),
        timestamp="time",
        levels=12,
        first=first,
        sequence="seq",
        ts_unit="ns",
        delimiter=";",
        **NAMES,
    )
    with source:
        rows = source.read("A", START + NS_PER_S, STOP)
        assert source.read("A", STOP, STOP + 1).n_rows == 0
    assert rows.n_rows == 5 * 12
    assert rows.ordered
    assert rows.side_N is None
    assert rows.sequence_N is not None
    np.testing.assert_array_equal(rows.ts_ns_N, np.repeat(START + NS_PER_S * np.arange(1, 6), 12))
    np.testing.assert_array_equal(rows.sequence_N, np.repeat(np.arange(1, 6) * 3, 12))
    np.testing.assert_array_equal(rows.level_N, np.tile(np.arange(1, 13), 5))
    got = np.stack(rows.columns, axis=1).reshape(5, 12, len(FIELDS))
    np.testing.assert_array_equal(got, book[1:])
    assert (rows.level_N.dtype, rows.ts_ns_N.dtype, rows.sequence_N.dtype) == (np.int32, np.int64, np.int64)


def test_too_many_levels_and_missing_columns(tmp_path: Path) -> None:
    wide_frame(3, 2, 1)[0].write_parquet(tmp_path / "w.parquet")
    for options, message in [
        ({"levels": 3}, r"has no column 'b3_p' \(for bid_px\.2\)"),
        ({"timestamp": "tim"}, "did you mean 'time'"),
        ({"sequence": "b1_p"}, "column 'b1_p' is Float64, but sequence must be an integer"),
    ]:
        given: dict[str, Any] = {"timestamp": "time", "levels": 2, "ts_unit": "ns", **NAMES, **options}
        with (
            wide_rows(path=str(tmp_path / "w.parquet"), **given) as source,
            pytest.raises(DataError, match=message),
        ):
            source.read("A", START, STOP)


def test_faulty_names() -> None:
    for options, message in [
        ({"bid_px": "bid"}, r"bid_px: 'bid' must hold \{k\} once"),
        ({"bid_px": "x{k}", "ask_px": "x{k}"}, "name the same columns"),
        ({"levels": 0}, "levels: 0"),
    ]:
        given: dict[str, Any] = {"levels": 2, **options}
        with pytest.raises(ConfigError, match=message):
            wide_rows(path="w.csv", timestamp="time", **given)


def test_one_symbol_column(tmp_path: Path) -> None:
    frame, book = wide_frame(4, 2, 1)
    frame.with_columns(pair=pl.Series(["A", "B", "A", "B"])).write_csv(tmp_path / "w.csv")
    with wide_rows(
        path=str(tmp_path / "w.csv"), timestamp="time", levels=2, symbol="pair", ts_unit="ns", **NAMES
    ) as source:
        np.testing.assert_array_equal(source.read("B", START, STOP).columns[2], book[1::2, :, 2].ravel())
