"""A peer: what people use today for a kernel's job. And the peers of tall_to_wide.

A peer is ``prepare(a, like) -> work``: ``a`` holds the kernel's arguments by name, ``like`` the kernel's arrays.
Data are put into the peer's own form in ``prepare``, which is not timed; what ``work`` returns is numpy again.
Where the output can be reused, it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import torch

from bench.race import Work

Prepare = Callable[[SimpleNamespace, tuple[Any, ...]], Work]


@dataclass(frozen=True)
class Peer:
    """A library's way, which calls it fits, and how far its result may lie from the kernel's."""

    name: str
    prepare: Prepare
    fits: Callable[[SimpleNamespace], bool] = lambda a: True
    rtol: float = 0.0
    atol: float = 0.0


def close(name: str, prepare: Prepare, fits: Callable[[SimpleNamespace], bool] = lambda a: True) -> Peer:
    """A peer that adds float64 in another order, and may round to float32."""
    return Peer(name, prepare, fits, rtol=1e-6, atol=1e-6)


def names_of(a: SimpleNamespace) -> list[str]:
    return [f"c{k}" for k in range(len(a.columns))]


def table_of(a: SimpleNamespace) -> dict[str, Any]:
    """Rows as named columns."""
    sides = {} if a.side_N is None else {"side": a.side_N}
    return {"ts": a.ts_ns_N, "level": a.level_N, **sides, **dict(zip(names_of(a), a.columns, strict=True))}


def duckdb_of(a: SimpleNamespace) -> duckdb.DuckDBPyConnection:
    """The rows in a table of a database in memory."""
    db = duckdb.connect()
    db.execute("set enable_progress_bar = false")
    db.register("given", pl.DataFrame(table_of(a)).to_arrow())
    db.execute("create table rows as from given")
    return db


def scatter(book: Any, t: Any, level: Any, side: Any, columns: Any) -> None:
    """Rows to their cells; what no row names is NaN."""
    book.fill(np.nan)
    cell = t * book.shape[1] + (level - 1)
    if side is not None:
        cell = 2 * cell + side
    flat = book.reshape(-1, len(columns))
    for k, column in enumerate(columns):
        flat[cell, k] = column


def place_sorted(book: Any, rows: dict[str, Any], names: list[str]) -> None:
    """Rows in order of (time, level) to the book: by reshape when none is missing."""
    side = rows.get("side")
    if side is None and len(rows["ts"]) * 4 == book.size:
        for k, name in enumerate(names):
            book[..., k] = rows[name].reshape(book.shape[:2])
        return
    t = np.cumsum(np.r_[0, rows["ts"][1:] != rows["ts"][:-1]])
    scatter(book, t, rows["level"], side, [rows[name] for name in names])


def tall_numpy(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    book = np.empty_like(like[0])

    def work() -> tuple[Any, ...]:
        t = np.unique(a.ts_ns_N, return_inverse=True)[1]
        scatter(book, t, a.level_N, a.side_N, a.columns)
        return (book,)

    return work


def tall_polars(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    book, frame = np.empty_like(like[0]), pl.DataFrame(table_of(a))

    def work() -> tuple[Any, ...]:
        rows = frame.sort("ts", "level")
        place_sorted(book, {name: rows[name].to_numpy() for name in rows.columns}, names_of(a))
        return (book,)

    return work


def tall_pandas(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    book, frame = np.empty_like(like[0]), pd.DataFrame(table_of(a))

    def work() -> tuple[Any, ...]:
        wide = frame.pivot(index="ts", columns="level", values=names_of(a)).to_numpy()
        book[:] = wide.reshape(len(book), 4, -1).transpose(0, 2, 1)
        return (book,)

    return work


def tall_duckdb(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    book, db = np.empty_like(like[0]), duckdb_of(a)

    def work() -> tuple[Any, ...]:
        place_sorted(book, db.execute("from rows order by ts, level").fetchnumpy(), names_of(a))
        return (book,)

    return work


def torch_of(a: SimpleNamespace) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """Times, levels and columns."""
    return torch.tensor(a.ts_ns_N), torch.tensor(a.level_N), [torch.tensor(x) for x in a.columns]


def tall_torch(a: SimpleNamespace, like: tuple[Any, ...]) -> Work:
    book = torch.tensor(like[0])
    ts, level, columns = torch_of(a)

    def work() -> tuple[Any, ...]:
        t = torch.unique(ts, return_inverse=True)[1]
        book.fill_(torch.nan)
        book.index_put_((t, level.long() - 1), torch.stack(columns, dim=1).to(book.dtype))
        return (book.numpy(),)

    return work


def paired(a: SimpleNamespace) -> bool:
    return a.side_N is None


TALL_PEERS = [
    Peer("numpy", tall_numpy),
    Peer("polars", tall_polars),
    Peer("duckdb", tall_duckdb),
    Peer("pandas", tall_pandas, paired),
    Peer("torch", tall_torch, paired),
]
