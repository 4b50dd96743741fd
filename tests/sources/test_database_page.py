"""docs/database.md: its configuration, its statements and the doctor's words are the real ones."""

from __future__ import annotations

import os
import re
from pathlib import Path

import psycopg
import pytest

from bml.sources import pgconnect
from bml.sources.pgtraps import create_table
from bml.sources.postgres import depth_rows
from tests.cli.test_cli_commands import invoke
from tests.conftest import ROOT
from tests.secure_postgres import PASSWORD, SecureServer

PAGE = (ROOT / "docs" / "database.md").read_text()
ROWS = (
    "INSERT INTO depth SELECT '2025-03-01 00:00+00'::timestamptz + t * interval '10 s', 'BTCUSDT', l, "
    "1 - l, 2, 3 + l, 4 FROM generate_series(0, 29) t, generate_series(1, 1000) l"
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def plain(statement: object) -> str:
    """Without what only looks different: white space and quotes."""
    return re.sub(r'\s+|["();]|public\.', "", str(statement)).lower()


@pytest.fixture(scope="module")
def market(secure_server: SecureServer) -> SecureServer:
    """The page's table and role, with five minutes of rows."""
    table, role, *_ = blocks("sql")
    with psycopg.connect(secure_server.socket, autocommit=True) as conn:
        conn.execute("CREATE DATABASE market")
    inside = secure_server.socket.replace("dbname=postgres", "dbname=market")
    with psycopg.connect(inside, autocommit=True) as conn:
        for statement in (table, role, ROWS):
            conn.execute(statement.encode())
        conn.execute(f"ALTER ROLE bml_reader PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'".encode())
    hba = secure_server.folder / "data" / "pg_hba.conf"
    hba.write_text("hostssl market bml_reader 127.0.0.1/32 scram-sha-256\n" + hba.read_text())
    with psycopg.connect(secure_server.socket, autocommit=True) as conn:
        conn.execute("SELECT pg_reload_conf()")
    return secure_server


def test_the_first_run(market: SecureServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(pgconnect, "is_local", lambda host: False)
    for name, value in {
        "PGHOST": "db.example.com", "PGHOSTADDR": "127.0.0.1", "PGPORT": str(market.port), "PGDATABASE": "market",
        "PGUSER": "bml_reader", "PGPASSWORD": PASSWORD, "PGSSLROOTCERT": str(market.root),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    (text,), (shown,) = blocks("yaml"), blocks("console")
    (tmp_path / "depth.yaml").write_text(text)
    code, out, err = invoke("doctor", "--source", tmp_path / "depth.yaml")
    assert (code, err) == (0, ""), out

    def steady(words: str) -> str:
        words = re.sub(
            r"PostgreSQL \S+ at (\S+):\d+/market \(calls itself .*\)$", r"PostgreSQL at \1", words, flags=re.M
        )
        return re.sub(r"\d\.\d{3} s", "T", words)

    assert steady(out) == steady(shown)
    with depth_rows(dsn="", table="depth") as source:
        assert source.session.encryption == "verify-full"
        source.session.connection().execute(
            "SET default_transaction_read_only = off"
        )  # a role can, so its rights count
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            source.session.connection().execute("DELETE FROM depth")
        assert plain(
            source.table.select(source.table.probe(source.session), "BTCUSDT", *MARCH).as_string(None)
        ) == plain(blocks("sql")[3])


MARCH = (1_740_787_200 * 10**9, 1_740_873_600 * 10**9)


def test_the_tables_are_those_bml_would_make() -> None:
    table, _, greptime, _ = blocks("sql")
    made = depth_rows(dsn="", table="depth", schema=None).table
    assert plain(create_table(made, greptimedb=False).as_string(None)) == plain(table)
    assert plain(create_table(made, greptimedb=True).as_string(None)) == plain(greptime)
