"""What is written into a table: shapes, bytes and hashes, held against plain Python."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from bml.sources import pgrows
from bml.types import DataError, DepthRows

NAN = float("nan")


def paired(ts_ns: list[int], level: list[int], numbers: list[list[float]], **more: Any) -> DepthRows:
    return DepthRows(
        symbol="A'B",
        start_ns=-(2**62),
        stop_ns=2**62,
        ts_ns_N=np.array(ts_ns, np.int64),
        level_N=np.array(level, np.int32),
        columns=tuple(np.array(x, np.float64) for x in zip(*numbers, strict=True)),
        **more,
    )


def by_hand(rows: pgrows.TableRows) -> bytes:
    """The same COPY data with struct, a row at a time."""
    out: list[bytes] = []
    for i in range(rows.n_rows):
        fields = [struct.pack(">q", int(rows.ts_us_N[i]) - 946_684_800_000_000), rows.symbol.encode()]
        fields.append(struct.pack(">q", rows.batch_N[i]))
        if rows.side_N is not None:
            fields.append((b"bid", b"ask")[rows.side_N[i]])
        fields.append(struct.pack(">i", rows.level_N[i]))
        fields += [b"" if np.isnan(x[i]) else struct.pack(">d", x[i]) for x in rows.numbers]
        if rows.sequence_N is not None:
            fields.append(b"" if rows.sequence_N[i] < 0 else struct.pack(">q", rows.sequence_N[i]))
        out.append(struct.pack(">h", len(fields)))
        out += [struct.pack(">i", len(f) if f else -1) + f for f in fields]
    return b"".join(out)


@pytest.mark.parametrize("layout", ["paired", "sided"])
@pytest.mark.parametrize("nulls", [False, True])
@pytest.mark.parametrize("sequence", [False, True])
def test_copy_data_is_postgres_own(monkeypatch: pytest.MonkeyPatch, layout: str, nulls: bool, sequence: bool) -> None:
    monkeypatch.setattr(pgrows, "_BLOCK_ROWS", 128)
    rng = np.random.default_rng(3)
    n = 300
    numbers = rng.normal(size=(n, 4))
    if nulls:
        numbers[rng.random((n, 4)) < 0.1] = NAN
        numbers[:, 0][np.isnan(numbers).all(axis=1)] = 1.0
    numbers[3] = [np.inf, -np.inf, -0.0, 5e-324]
    rows = paired(
        (np.arange(n) // 4 * 10**10 - 10**18).tolist(),
        (np.arange(n) % 4 + 1).tolist(),
        numbers.tolist(),
        sequence_N=np.arange(n) - 2 if sequence else None,
    )
    table = pgrows.table_rows(rows, layout)
    assert b"".join(pgrows.copy_blocks(table, 4)) == by_hand(table)


def test_hashes_know_every_column_and_no_order() -> None:
    rows = pgrows.table_rows(paired([0, 0, 1000], [1, 2, 1], [[1, 2, 3, 4], [5, 6, 7, NAN], [1, 2, 3, 4]]), "paired")
    total = pgrows.row_hashes(rows).sum()
    shuffled = pgrows._taken(rows, np.array([2, 0, 1]))
    assert pgrows.row_hashes(shuffled).sum() == total
    for change in (
        {"ts_us_N": np.array([0, 0, 2])},
        {"batch_N": np.array([0, 1, 0])},
        {"level_N": np.array([1, 2, 2], np.int32)},
        {"numbers": (*rows.numbers[:3], np.array([4, NAN, np.nextafter(4, 5)]))},
        {"numbers": (rows.numbers[1], rows.numbers[0], *rows.numbers[2:])},
    ):
        assert pgrows.row_hashes(pgrows.replace(rows, **change)).sum() != total


def test_hashes_tell_rows_that_swapped_a_value() -> None:
    """A hash whose last column is hardly mixed has the same sum for three in a thousand such pairs."""
    seconds = np.arange(20_000).tolist()
    prices = (np.arange(20_000) * 7 % 1000 / 10).tolist()

    def hashes(qty: float) -> np.ndarray[Any, np.dtype[np.uint64]]:
        numbers = [[price, 1.0, price + 0.1, qty] for price in prices]
        rows = paired([x * 10**9 for x in seconds], [1] * len(seconds), numbers)
        return pgrows.row_hashes(pgrows.table_rows(rows, "paired"))

    change_N = hashes(2.0) - hashes(4.0)
    assert len(np.unique(change_N)) == len(change_N)
    assert not np.isin(change_N[:10_000], change_N[10_000:]).any()


def test_batches_say_what_the_order_of_rows_says() -> None:
    numbers = [[float(i)] * 4 for i in range(5)]
    rows = paired([0, 1000, 0, 0, 1000], [1, 1, 1, 2, 1], numbers, ordered=True)
    assert pgrows.table_rows(rows, "paired").batch_N.tolist() == [0, 0, 1, 0, 1]
    assert pgrows.table_rows(pgrows.replace(rows, ordered=False), "paired").batch_N.tolist() == [0] * 5
    last = pgrows.last_of_each_cell(pgrows.table_rows(rows, "paired"))
    assert last.numbers[0].tolist() == [2.0, 3.0, 4.0]
    with pytest.raises(DataError, match="several rows for one time, side and level"):
        pgrows.table_rows(_as_depth(pgrows.table_rows(rows, "sided")), "paired")


def _as_depth(rows: pgrows.TableRows) -> DepthRows:
    return DepthRows(
        symbol=rows.symbol, start_ns=0, stop_ns=10**18, ts_ns_N=rows.ts_us_N * 1000, level_N=rows.level_N,
        columns=rows.numbers, side_N=rows.side_N, batch_N=rows.batch_N,
    )  # fmt: skip


def test_paired_to_sided_and_back() -> None:
    numbers = [[1, 2, 3, 4], [5, 6, NAN, NAN], [NAN, NAN, 7, 8], [9, NAN, 10, 11]]
    rows = paired([0, 0, 1000, 1000], [1, 2, 1, 2], numbers)
    sided = pgrows.table_rows(rows, "sided")
    assert sided.n_rows == 6
    back = pgrows.table_rows(_as_depth(sided), "paired")
    np.testing.assert_array_equal(np.column_stack(back.numbers), numbers)
    np.testing.assert_array_equal(back.level_N, rows.level_N)
    with pytest.raises(DataError, match="1 snapshots without any level"):
        pgrows.table_rows(paired([0, 1000], [1, 1], [[1, 2, 3, 4], [NAN] * 4]), "sided")
    with pytest.raises(DataError, match="duplicate rows in which a side is absent"):
        pgrows.table_rows(paired([0, 0], [1, 1], [[1, 2, 3, 4], [1, 2, NAN, NAN]], ordered=True), "sided")


def test_times_are_rounded_up_never_merged_unseen() -> None:
    """Up: a table must not know a snapshot before it was."""
    rows = paired([-1, 999, 1500, 1999, 2000], [1] * 5, [[float(i)] * 4 for i in range(5)])
    table = pgrows.table_rows(rows, "paired")
    assert table.ts_us_N.tolist() == [0, 1, 2]
    assert table.numbers[0].tolist() == [0, 1, 4]
    assert (table.n_cut, table.n_merged) == (4, 2)
    day = pgrows.replace(rows, start_ns=-5000, stop_ns=2001)
    assert pgrows.table_rows(day, "paired").ts_us_N.tolist() == [0, 1, 2]
    assert pgrows.table_rows(pgrows.replace(day, stop_ns=2000), "paired").ts_us_N.max() == 1  # not of the next day


def test_insert_text_is_sql() -> None:
    pytest.importorskip("polars")
    rows = pgrows.table_rows(paired([-1000, 10**18], [1, 2], [[1, NAN, 1e-7, 1e22], [0.1, -0.0, 5, 6]]), "paired")
    assert list(pgrows.insert_values(rows, 10)) == [
        "('1969-12-31 23:59:59.999999+00:00','A''B',0,1,1.0,NULL,1e-7,1e+22),"
        "('2001-09-09 01:46:40.000000+00:00','A''B',0,2,0.1,-0.0,5.0,6.0)"
    ]
    assert len(list(pgrows.insert_values(rows, 1))) == 2
    with pytest.raises(DataError, match="holds an infinite number"):
        list(pgrows.insert_values(pgrows.table_rows(paired([0], [1], [[np.inf, 1, 1, 1]]), "paired"), 1))
