"""sources.postgres and its connection: what is missing, refused, slow or broken, and that no secret is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import psycopg
import pytest

from bml.sources._copy_rows import CopyRows
from bml.sources.pgsession import ServerError, Session
from bml.sources.postgres import PostgresSource, depth_rows
from bml.types import ConfigError, DataError, DepthRows, SourceError
from tests.depth_frames import START, STOP, paired_frame

LoadTable = Callable[..., None]


def read(dsn: str, symbol: str = "BTCUSDT", start: int = START, stop: int = STOP, **options: Any) -> DepthRows:
    with depth_rows(dsn=dsn, **options) as source:
        return source.read(symbol, start, stop)


def test_missing_things(postgres_dsn: str, load_table: LoadTable) -> None:
    load_table(paired_frame(2, 6, ("BTCUSDT",)), "depth")
    with pytest.raises(DataError, match=r"public\.depht .*does not exist; did you mean 'depth'\?"):
        read(postgres_dsn, table="depht")
    with pytest.raises(
        DataError, match=r"no column bid_price; did you mean 'bid_px'\?|no column bid_price; there are: "
    ):
        read(postgres_dsn, table="depth", columns={"bid_px": "bid_price"})
    with pytest.raises(DataError, match=r"nowhere\.depth"):
        read(postgres_dsn, table="depth", schema="nowhere")
    with pytest.raises(SourceError, match=r"cannot reach PostgreSQL at .*nosuchdb.*does not exist"):
        read(postgres_dsn.replace("/postgres?", "/nosuchdb?"), table="depth")


def test_unreachable_server_tells_where_but_not_the_password() -> None:
    source = depth_rows(dsn="postgresql://me:canary-5e1f@127.0.0.1:9/market", table="depth", connect_timeout_s=2)
    with pytest.raises(SourceError, match=r"cannot reach PostgreSQL at 127\.0\.0\.1:9/market: .*refused") as caught:
        source.read("BTCUSDT", START, STOP)
    assert caught.value.exit_code == 4
    told = [
        str(caught.value),
        repr(caught.value.__cause__),
        repr(source),
        repr(source._session),
        str(source.describe()),
    ]
    assert not any("canary" in text for text in told)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("dsn", ["host=x passwrd=canary-77", "postgresql://u:canary@[::1", "canary-99"])
def test_unreadable_dsn_is_not_shown(dsn: str) -> None:
    with pytest.raises(ConfigError, match="not a PostgreSQL connection string") as caught:
        depth_rows(dsn=dsn, table="depth")
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_the_session_cannot_write(postgres_dsn: str, load_table: LoadTable) -> None:
    load_table(paired_frame(2, 6, ("BTCUSDT",)), "depth")
    with depth_rows(dsn=postgres_dsn, table="depth") as source:
        conn = source._session.connection()
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            conn.execute("INSERT INTO depth (symbol) VALUES ('X')")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            conn.execute("DROP TABLE depth")
        described = source.describe()
    assert described["database"] == "postgres"
    assert described["table"] == "public.depth"
    assert described["layout"] == "paired"
    assert str(described["server"])[:2].isdigit()


def slow_view(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(
            "CREATE OR REPLACE VIEW slow AS SELECT ts, symbol, level, bid_px, bid_qty, ask_px, ask_qty "
            "FROM depth, LATERAL (SELECT pg_sleep(0.05) WHERE depth.level > 0) s"
        )


def test_both_readers_give_the_same(postgres_dsn: str, load_table: LoadTable) -> None:
    load_table(paired_frame(100, 100, ("BTCUSDT",)), "both")
    with depth_rows(dsn=postgres_dsn, table="both") as source:
        assert source.describe()["reader"] == "copy"
        direct = source.read("BTCUSDT", START, STOP)
        source._transport.libpq = None
        blocks = source.read("BTCUSDT", START, STOP)
        assert source.describe()["reader"] == "portable"
    assert source.describe()["reader"] == "portable"
    assert source._session._conn is None
    assert direct.n_rows == 10_000
    for a, b in zip((direct.ts_ns_N, *direct.columns), (blocks.ts_ns_N, *blocks.columns), strict=True):
        np.testing.assert_array_equal(a, b)


def test_statement_timeout_and_life_after_it(postgres_dsn: str, load_table: LoadTable) -> None:
    load_table(pl.DataFrame({"x": [1]}), "nothing")
    with psycopg.connect(postgres_dsn, autocommit=True) as conn:
        conn.execute("DROP VIEW IF EXISTS slow")
    load_table(paired_frame(20, 6, ("BTCUSDT",)), "depth")
    slow_view(postgres_dsn)
    try:
        with depth_rows(dsn=postgres_dsn, table="slow", statement_timeout_s=0.3) as source:
            for _ in range(2):  # the second read opens a new connection
                with pytest.raises(
                    SourceError, match=r"slow, BTCUSDT: stopped by the server .*statement_timeout_s is 0.3"
                ):
                    source.read("BTCUSDT", START, STOP)
            assert source.read("NOBODY", START, STOP).n_rows == 0
    finally:
        with psycopg.connect(postgres_dsn, autocommit=True) as conn:
            conn.execute("DROP VIEW slow")


def test_a_backend_that_dies_mid_stream(postgres_dsn: str, load_table: LoadTable) -> None:
    load_table(paired_frame(50, 200, ("BTCUSDT",)), "long")
    with depth_rows(dsn=postgres_dsn, table="long") as source:
        session = source._session

        class Killer(CopyRows):
            """Ends the server's process while its rows arrive."""

            def drain(self, *args: Any) -> tuple[int, bool]:
                with psycopg.connect(postgres_dsn, autocommit=True) as other:
                    other.execute("SELECT pg_terminate_backend(%s)", (session.connection().info.backend_pid,))
                return super().drain(*args)

        text = "COPY (SELECT a.ts FROM long a, generate_series(1, 400)) TO STDOUT (FORMAT BINARY)"
        with pytest.raises((SourceError, ServerError), match=r"terminat|connection") as caught:
            source._transport.copy(text.encode(), Killer([("ts", "time", "timestamp")]))
        assert not isinstance(caught.value, psycopg.Error)
        assert source.read("BTCUSDT", START, STOP).n_rows == 10_000


def test_an_error_in_the_reader_leaves_a_usable_source(postgres_dsn: str, load_table: LoadTable) -> None:
    load_table(paired_frame(50, 20, ("BTCUSDT",)), "wide_enough")
    with depth_rows(dsn=postgres_dsn, table="wide_enough", max_rows=500) as source:
        with pytest.raises(DataError, match="more than max_rows = 500"):
            source.read("BTCUSDT", START, STOP)
        assert source.read("BTCUSDT", START, START + 10**9).n_rows == 20


def test_permission_denied(postgres_dsn: str, load_table: LoadTable) -> None:
    load_table(paired_frame(2, 6, ("BTCUSDT",)), "hidden")
    with psycopg.connect(postgres_dsn, autocommit=True) as conn:
        conn.execute("DO $$ BEGIN CREATE ROLE stranger LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    with pytest.raises(SourceError, match=r"permission denied.*needs SELECT"):
        read(postgres_dsn.replace("postgres:@", "stranger:@"), table="hidden")


def test_table_of_one_symbol(postgres_dsn: str, load_table: LoadTable) -> None:
    load_table(paired_frame(2, 6, ("BTCUSDT",)).drop("symbol"), "single")
    with depth_rows(dsn=postgres_dsn, table="single", columns={"symbol": None}) as source:
        assert source.read("BTCUSDT", START, STOP).n_rows == 12
        with pytest.raises(ConfigError, match="cannot be both BTCUSDT and ETHUSDT"):
            source.read("ETHUSDT", START, STOP)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": {"bidpx": "x"}}, r"columns\.bidpx: unknown in layout 'paired'; did you mean 'bid_px'"),
        ({"columns": {"level": None}}, r"columns\.level: layout 'paired' needs"),
        ({"columns": {"bid_px": "p", "ask_px": "p"}}, "already serves as 'bid_px'"),
        ({"layout": "sided", "side_values": {"bid": 1}}, "exactly the keys bid and ask"),
        ({"layout": "sided", "side_values": {"bid": 1, "ask": 1}}, "both 1"),
        ({"layout": "sided", "side_values": {"bid": 1, "ask": "1"}}, "must both be"),
        ({"layout": "price_pair"}, "neither 'paired' nor 'sided'"),
        ({"first_level": 2}, "first_level: 2"),
        ({"depth": 0}, "depth: 0"),
        ({"statement_timeout_s": -1.0}, "statement_timeout_s"),
    ],
)
def test_faulty_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        depth_rows(dsn="postgresql://host/db", table="depth", **options)


def test_redaction() -> None:
    session = Session("postgresql://me:p%40ss%20w@h/db", statement_timeout_s=1, connect_timeout_s=1)
    assert session.redact("it was\np@ss w!") == "it was ***!"


def test_source_protocol() -> None:
    assert isinstance(depth_rows(dsn="postgresql://host/db", table="t"), PostgresSource)
