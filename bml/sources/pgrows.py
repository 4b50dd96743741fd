"""Rows on their way into a depth table: what is written, as binary COPY data or as text of INSERT statements.

Everything here works on whole columns; no Python code runs once a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bml.sources.layout import NUMBERS
from bml.types import ASK, BID, FIELDS, DataError, DepthRows, Float64, Int32, Int64

#: how every binary COPY stream begins and ends
COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TRAILER = b"\xff\xff"
SIDES = ("bid", "ask")
_US_1970_TO_2000 = 946_684_800_000_000
_BLOCK_ROWS = 1 << 15  # about 3 MB: a block and its mask stay in the cache
_SCRAMBLE = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, kw_only=True, slots=True)
class TableRows:
    """The rows of one symbol-day as a table holds them.

    ``ts_us_N`` int64 microseconds since 1970, ``numbers`` as ``layout`` (paired or sided) names them, NaN = NULL,
    ``side_N`` int8 (sided only), ``sequence_N`` or None. ``n_cut`` times were not whole microseconds and were rounded
    up (down in the last microsecond of the day); ``n_merged`` rows were left out because another snapshot followed
    within their microsecond;
    ``n_empty`` sided rows without price and quantity were left out because a paired table cannot tell them.
    """

    symbol: str
    layout: str
    ts_us_N: Int64
    batch_N: Int64
    level_N: Int32
    numbers: tuple[Float64, ...]
    side_N: npt.NDArray[np.int8] | None = None
    sequence_N: Int64 | None = None
    n_cut: int = 0
    n_merged: int = 0
    n_empty: int = 0

    @property
    def n_rows(self) -> int:
        return len(self.ts_us_N)


def table_rows(rows: DepthRows, layout: str) -> TableRows:
    """``rows`` in the shape of a table of ``layout``; batch numbers say what row order says in a file.

    Without batch numbers of their own, rows of one cell get 0, 1, ... in their order of arrival.
    Raises DataError where the shape cannot hold what the rows say. O(N) for rows in order, else O(N log N).
    """
    # up: a snapshot dated earlier than it was would be known before it was; but no row leaves its day
    ts_us_N = np.minimum(-(-rows.ts_ns_N // 1000), (rows.stop_ns - 1) // 1000)
    n_cut = int(np.count_nonzero(ts_us_N * 1000 != rows.ts_ns_N))
    last_N = _last_of_microsecond(rows.ts_ns_N, ts_us_N) if n_cut else None
    batch_N = rows.batch_N
    if batch_N is None:
        batch_N = _occurrence(rows) if rows.ordered else np.zeros(rows.n_rows, np.int64)
    out = TableRows(
        symbol=rows.symbol,
        layout="paired" if rows.side_N is None else "sided",
        ts_us_N=ts_us_N,
        batch_N=batch_N,
        level_N=rows.level_N,
        numbers=rows.columns,
        side_N=rows.side_N,
        sequence_N=rows.sequence_N,
        n_cut=n_cut,
    )
    if last_N is not None:
        out = replace(_taken(out, np.flatnonzero(last_N)), n_merged=rows.n_rows - int(last_N.sum()))
    if out.layout == layout:
        return out
    return _sided(out) if layout == "sided" else _paired(out)


def last_of_each_cell(rows: TableRows) -> TableRows:
    """The rows that win where each (time, side, level) is kept once, as by the keys of a GreptimeDB table."""
    side_N = np.zeros(rows.n_rows, np.int8) if rows.side_N is None else rows.side_N
    order = np.lexsort((np.arange(rows.n_rows), rows.batch_N, side_N, rows.level_N, rows.ts_us_N))
    last = np.ones(rows.n_rows, np.bool_)
    last[:-1] = ~_equal_next(rows.ts_us_N[order], rows.level_N[order], side_N[order])
    return rows if last.all() else _taken(rows, np.sort(order[last]))


def row_hashes(rows: TableRows) -> npt.NDArray[np.uint64]:
    """(N,) a 64-bit hash of each row, symbol apart. Equal sums of equally many mean equal rows in any order."""
    columns = [rows.ts_us_N, rows.batch_N, rows.level_N.astype(np.int64)]
    if rows.side_N is not None:
        columns.append(rows.side_N.astype(np.int64))
    if rows.sequence_N is not None:
        columns.append(rows.sequence_N)
    columns += [np.where(np.isnan(x), np.nan, x).view(np.int64) for x in rows.numbers]
    hash_N = np.zeros(rows.n_rows, np.uint64)
    for column in columns:
        hash_N ^= column.view(np.uint64)
        hash_N *= _SCRAMBLE
        hash_N ^= hash_N >> np.uint64(29)
    for _ in range(2):  # the last column is mixed once: sums would not see two rows that swapped their values
        hash_N ^= hash_N >> np.uint64(33)
        hash_N *= _SCRAMBLE
    return hash_N ^ hash_N >> np.uint64(32)


def copy_blocks(rows: TableRows, level_bytes: int) -> Iterator[bytes]:
    """The rows as binary COPY data (header and trailer apart), columns in the order of :func:`column_names`.

    NaN becomes NULL, a negative sequence number too. Cost: about 0.1 us a row.
    """
    dtype = _wire_type(rows, level_bytes)
    symbol = rows.symbol.encode()
    for start in range(0, rows.n_rows, _BLOCK_ROWS):
        at = slice(start, min(start + _BLOCK_ROWS, rows.n_rows))
        block = np.empty(at.stop - at.start, dtype)
        block["fields"] = len(column_names(rows.layout, sequence=rows.sequence_N is not None))
        nulls: dict[str, npt.NDArray[np.bool_]] = {}
        for name, values in _columns(rows, at):
            block[f"{name}:size"] = dtype[name].itemsize
            block[name] = values
            if values.dtype == np.float64:
                nulls[name] = np.isnan(values)
            elif name == "sequence":
                nulls[name] = np.asarray(values, np.int64) < 0
        block["symbol:size"], block["symbol"] = len(symbol), symbol
        yield _without(block, {name: mask for name, mask in nulls.items() if mask.any()})


def insert_values(rows: TableRows, rows_per_statement: int) -> Iterator[str]:
    """The rows as texts ``(...), (...)`` to stand after VALUES, columns in the order of :func:`column_names`.

    NaN becomes NULL; an infinite number, which SQL has no literal for everywhere, is a DataError.
    """
    import polars as pl

    symbol = "'" + rows.symbol.replace("'", "''") + "'"
    for start in range(0, rows.n_rows, rows_per_statement):
        texts: dict[str, pl.Expr | pl.Series] = {"symbol": pl.lit(symbol)}
        for name, values in _columns(rows, slice(start, start + rows_per_statement)):
            column = pl.Series(name, values)
            if values.dtype == np.float64:
                if np.isinf(values).any():
                    raise DataError(f"{rows.symbol}: {name} holds an infinite number, which INSERT cannot write")
                texts[name] = column.fill_nan(None).cast(pl.String).fill_null("NULL")
            elif name == "ts":
                moment = column.cast(pl.Datetime("us")).dt.to_string("%Y-%m-%d %H:%M:%S%.6f+00:00")
                texts[name] = "'" + moment + "'"
            elif name == "side":
                texts[name] = "'" + column.cast(pl.String) + "'"
            else:
                texts[name] = column.cast(pl.String)
        names = column_names(rows.layout, sequence=rows.sequence_N is not None)
        line = pl.concat_str([pl.lit("("), pl.concat_str([_expr(texts[n]) for n in names], separator=","), pl.lit(")")])
        yield ",".join(pl.select(line.alias("row"))["row"])


def column_names(layout: str, *, sequence: bool) -> tuple[str, ...]:
    """The columns of a table of ``layout``, in order."""
    side = ("side",) if layout == "sided" else ()
    return ("ts", "symbol", "batch_id", *side, "level", *NUMBERS[layout], *(("sequence",) if sequence else ()))


def _expr(values: object) -> object:
    import polars as pl

    return values if isinstance(values, pl.Expr) else pl.lit(values)


def _columns(rows: TableRows, at: slice) -> Iterator[tuple[str, npt.NDArray[np.generic]]]:
    """Every column but the symbol; times since 1970, sides as text."""
    yield "ts", rows.ts_us_N[at]
    yield "batch_id", rows.batch_N[at]
    if rows.side_N is not None:
        yield "side", np.array(SIDES, "S3")[rows.side_N[at]]
    yield "level", rows.level_N[at]
    for name, values in zip(NUMBERS[rows.layout], rows.numbers, strict=True):
        yield name, values[at]
    if rows.sequence_N is not None:
        yield "sequence", rows.sequence_N[at]


def _wire_type(rows: TableRows, level_bytes: int) -> np.dtype[np.void]:
    kinds = {"ts": ">i8", "symbol": f"S{len(rows.symbol.encode())}", "batch_id": ">i8", "side": "S3"}
    kinds |= {"level": f">i{level_bytes}", "sequence": ">i8"}
    fields: list[tuple[str, str]] = [("fields", ">i2")]
    for name in column_names(rows.layout, sequence=rows.sequence_N is not None):
        fields += [(f"{name}:size", ">i4"), (name, kinds.get(name, ">f8"))]
    return np.dtype(fields)


def _without(block: npt.NDArray[np.void], nulls: dict[str, npt.NDArray[np.bool_]]) -> bytes:
    """The bytes of ``block`` with the masked values NULL: length -1 and no value."""
    block["ts"] -= _US_1970_TO_2000
    if not nulls:
        return block.tobytes()
    octets = block.view(np.uint8).reshape(len(block), block.dtype.itemsize)
    keep = np.ones(octets.shape, np.bool_)
    fields = block.dtype.fields
    assert fields is not None
    for name, mask in nulls.items():
        block[f"{name}:size"][mask] = -1
        first = fields[name][1]
        keep[:, first : first + block.dtype[name].itemsize] = ~mask[:, None]
    return octets[keep].tobytes()


def _last_of_microsecond(ts_ns_N: Int64, ts_us_N: Int64) -> npt.NDArray[np.bool_] | None:
    """(N,) rows whose time is the last of its microsecond; None where each microsecond has one time."""
    time_T, at_T = np.unique(ts_ns_N, return_index=True)
    us_T = ts_us_N[at_T]
    is_last_T = np.append(us_T[1:] != us_T[:-1], True)
    if is_last_T.all():
        return None
    return np.asarray(time_T[is_last_T][np.searchsorted(us_T[is_last_T], ts_us_N)] == ts_ns_N)


def _equal_next(*columns: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    same = np.ones(max(len(columns[0]) - 1, 0), np.bool_)
    for column in columns:
        same &= column[1:] == column[:-1]
    return same


def _occurrence(rows: DepthRows) -> Int64:
    """(N,) how many earlier rows are for the same (time, side, level)."""
    side_N = np.zeros(rows.n_rows, np.int8) if rows.side_N is None else rows.side_N
    order = np.lexsort((side_N, rows.level_N, rows.ts_ns_N))  # stable: equal keys stay in order of arrival
    same = _equal_next(rows.ts_ns_N[order], rows.level_N[order], side_N[order])
    number_N = np.zeros(rows.n_rows, np.int64)
    if same.any():
        place = np.arange(rows.n_rows)
        first = np.maximum.accumulate(np.where(np.concatenate(([True], ~same)), place, 0))
        number_N[order] = place - first
    return number_N


def _taken(rows: TableRows, at: Int64) -> TableRows:
    return replace(
        rows,
        ts_us_N=rows.ts_us_N[at],
        batch_N=rows.batch_N[at],
        level_N=rows.level_N[at],
        numbers=tuple(x[at] for x in rows.numbers),
        side_N=None if rows.side_N is None else rows.side_N[at],
        sequence_N=None if rows.sequence_N is None else rows.sequence_N[at],
    )


def _sided(rows: TableRows) -> TableRows:
    """Each side of a paired row that is there as a row of its own, bid before ask."""
    absent_N2 = np.empty((rows.n_rows, 2), np.bool_)
    for side, which in enumerate(SIDES):
        px_N, qty_N = (rows.numbers[FIELDS.index(f"{which}_{what}")] for what in ("px", "qty"))
        absent_N2[:, side] = np.isnan(px_N) & np.isnan(qty_N)
    there_N2 = ~absent_N2
    lost = len(np.unique(rows.ts_us_N)) - len(np.unique(rows.ts_us_N[there_N2.any(axis=1)]))
    if lost:
        raise DataError(f"{rows.symbol}: {lost} snapshots without any level, which sided rows cannot say: write paired")
    order = np.lexsort((rows.level_N, rows.ts_us_N))
    same = _equal_next(rows.ts_us_N[order], rows.level_N[order])
    if (same & ~there_N2[order[1:]].all(axis=1)).any():
        raise DataError(f"{rows.symbol}: duplicate rows in which a side is absent cannot be told as sided rows")
    cell_M = np.flatnonzero(there_N2)
    row_M, is_ask_M = cell_M >> 1, (cell_M & 1).astype(np.bool_)
    numbers = []
    for what in ("px", "qty"):
        values_M = rows.numbers[FIELDS.index(f"bid_{what}")][row_M]
        values_M[is_ask_M] = rows.numbers[FIELDS.index(f"ask_{what}")][row_M[is_ask_M]]
        numbers.append(values_M)
    out = _taken(replace(rows, numbers=()), row_M)
    return replace(out, layout="sided", numbers=tuple(numbers), side_N=is_ask_M.astype(np.int8))


def _paired(rows: TableRows) -> TableRows:
    """Bid and ask of each (time, level) as one row, in order of time and level."""
    assert rows.side_N is not None
    px_N, qty_N = rows.numbers
    empty_N = np.isnan(px_N) & np.isnan(qty_N)
    kept = _taken(rows, np.flatnonzero(~empty_N)) if empty_N.any() else rows
    assert kept.side_N is not None
    order = np.lexsort((kept.side_N, kept.level_N, kept.ts_us_N))
    kept = _taken(kept, order)
    assert kept.side_N is not None
    if _equal_next(kept.ts_us_N, kept.level_N, kept.side_N).any():
        raise DataError(
            f"{rows.symbol}: several rows for one time, side and level, which paired rows cannot tell: write sided"
        )
    is_new = np.ones(kept.n_rows, np.bool_)
    is_new[1:] = ~_equal_next(kept.ts_us_N, kept.level_N)
    first = np.flatnonzero(is_new)
    row_N = np.cumsum(is_new) - 1
    out = _taken(replace(kept, side_N=None, numbers=()), first)
    numbers = {name: np.full(len(first), np.nan) for name in FIELDS}
    for side, which in ((BID, "bid"), (ASK, "ask")):
        at = kept.side_N == side
        numbers[f"{which}_px"][row_N[at]] = kept.numbers[0][at]
        numbers[f"{which}_qty"][row_N[at]] = kept.numbers[1][at]
    largest = None if kept.sequence_N is None else np.maximum.reduceat(kept.sequence_N, first)
    batch_N = np.maximum.reduceat(kept.batch_N, first) if len(first) else kept.batch_N
    return replace(
        out, layout="paired", numbers=tuple(numbers.values()), batch_N=batch_N,
        sequence_N=largest, n_empty=int(empty_N.sum()),
    )  # fmt: skip
