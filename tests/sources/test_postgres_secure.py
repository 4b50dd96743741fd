"""Who is believed and what is told: TLS, SCRAM, passwords, where credentials come from, read-only and time limits."""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from bml.sources import pgconnect
from bml.sources.pgsession import ServerError, Session
from bml.sources.postgres import depth_rows
from bml.types import ConfigError, ConnectionLost, SourceError
from tests.depth_frames import START, STOP, paired_frame
from tests.postgres_fixture import load_frame
from tests.secure_postgres import PASSWORD, SecureServer

LoadTable = Callable[..., None]


@pytest.fixture(autouse=True)
def no_libpq_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))


def session(dsn: str = "", **options: Any) -> Session:
    return Session(dsn, **({"statement_timeout_s": 5.0, "connect_timeout_s": 5.0} | options))


def elsewhere(server: SecureServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat this machine's addresses as another machine's."""
    monkeypatch.setattr(pgconnect, "is_local", lambda host: host.startswith("/"))
    monkeypatch.setenv("PGPASSWORD", PASSWORD)


def test_another_machine_is_believed_by_its_certificate(
    secure_server: SecureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere(secure_server, monkeypatch)
    with session(secure_server.dsn(sslrootcert=str(secure_server.root))) as one:
        assert one.encryption == "verify-full"
        assert one.dialect.copy_binary
        assert one.dialect.read_only
    with session(secure_server.dsn(host="db.example.com", sslrootcert=str(secure_server.root))) as one:
        assert one.encryption == "verify-full"


@pytest.mark.parametrize(
    ("host", "root", "told"),
    [
        ("db.example.org", "root", r"certificate.*does not match host name.*connect by a name"),
        ("localhost", "other", r"certificate verify failed.*set PGSSLROOTCERT"),
        ("localhost", "missing", r"root certificate file.*does not exist.*set PGSSLROOTCERT"),
        ("localhost", "", r"root certificate file.*set PGSSLROOTCERT"),
    ],
)
def test_a_wrong_certificate_is_no_connection(
    secure_server: SecureServer, monkeypatch: pytest.MonkeyPatch, host: str, root: str, told: str
) -> None:
    elsewhere(secure_server, monkeypatch)
    options = {"sslrootcert": str(secure_server.folder / f"{root}.crt")} if root else {}
    with pytest.raises(SourceError, match=told) as caught, session(secure_server.dsn(host=host, **options)):
        pass
    assert not isinstance(caught.value, ConnectionLost)
    with session(secure_server.dsn(host=host), insecure=True) as one:  # as libpq would, encrypted but not verified
        assert one.encryption == "prefer"


@pytest.mark.parametrize("sslmode", ["disable", "allow", "require", "verify-ca"])
def test_less_than_verify_full_is_refused_for_another_machine(sslmode: str) -> None:
    with (
        pytest.raises(ConfigError, match=rf"sslmode={sslmode} does not make sure that db\.example\.com is the right"),
        session(f"host=db.example.com sslmode={sslmode}"),
    ):
        pass


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("", True), ("/run/postgresql", True), ("@abstract", True), ("localhost", True), ("127.0.0.1", True),
        ("127.8.8.8", True), ("::1", True), ("::1%lo", True), ("localhost.evil.com", False),
        ("127.0.0.1.evil.com", False),
        ("10.0.0.1", False), ("0.0.0.0", False), ("2001:db8::1", False), ("db", False), ("fe80::1%eth0", False),
    ],
)  # fmt: skip
def test_what_is_this_machine(host: str, local: bool) -> None:
    assert pgconnect.is_local(host) is local


@pytest.mark.parametrize(
    ("dsn", "hosts", "remote"),
    [
        ("host=a,b", ("a", "b"), ("a", "b")),
        ("host=db.example.com hostaddr=127.0.0.1", ("127.0.0.1",), ()),
        ("host=localhost hostaddr=10.0.0.1", ("10.0.0.1",), ("10.0.0.1",)),
        ("host=localhost,db", ("localhost", "db"), ("db",)),
        ("postgresql://u:p@db:5/x", ("db",), ("db",)),
        ("postgresql:///x?host=/tmp", ("/tmp",), ()),
    ],
)
def test_whom_a_connection_string_dials(dsn: str, hosts: tuple[str, ...], remote: tuple[str, ...]) -> None:
    target = pgconnect.resolve(dsn)
    assert (target.hosts, target.remote) == (hosts, remote)
    options = pgconnect.secured(target, insecure=False)
    assert (options.get("sslmode") == "verify-full") is bool(remote)
    assert options["gssencmode"] == "disable"
    assert options["keepalives"] == "1"
    assert ("require_auth" in options) is not bool(remote)
    assert "sslmode" not in pgconnect.secured(target, insecure=True)


def test_a_setting_of_the_user_is_kept() -> None:
    target = pgconnect.resolve("host=localhost keepalives_idle=7 require_auth=scram-sha-256")
    options = pgconnect.secured(target, insecure=False)
    assert not {"keepalives_idle", "require_auth"} & options.keys()


def test_credentials_from_environment_and_files(
    secure_server: SecureServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    where = {"PGHOST": "localhost", "PGPORT": str(secure_server.port), "PGDATABASE": "postgres", "PGUSER": "reader"}
    for name, value in where.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SourceError, match="no password supplied") as caught, session():
        pass
    assert not isinstance(caught.value, ConnectionLost)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with session() as one:
        assert one.encryption
        assert PASSWORD not in one.redact(f"it was {PASSWORD}.")
    monkeypatch.delenv("PGPASSWORD")
    passfile = tmp_path / "pass"
    escaped = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
    passfile.write_text(f"localhost:{secure_server.port}:*:reader:{escaped}\n")
    passfile.chmod(stat.S_IRUSR | stat.S_IWUSR)
    monkeypatch.setenv("PGPASSFILE", str(passfile))
    with session() as one:
        assert one.place == f"localhost:{secure_server.port}/postgres"
        assert PASSWORD not in one.redact(f"it was {PASSWORD}.")
    for name in where:
        monkeypatch.delenv(name)
    services = tmp_path / "services"
    services.write_text("[market]\n" + "".join(f"{k[2:].lower()}={v}\n" for k, v in where.items()).replace(
        "database=", "dbname="))  # fmt: skip
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    with session("service=market") as one:
        assert one.place == f"localhost:{secure_server.port}/postgres"
    monkeypatch.setenv("PGSERVICE", "market")
    with session() as one:
        assert one.dialect.cancel
    with pytest.raises(ConfigError, match=r'dsn: definition of service "other" not found'), session("service=other"):
        pass


def test_a_service_may_name_another_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    services = tmp_path / "services"
    services.write_text("[far]\nhost=db.example.com\npassword=canary-77\nsslmode=require\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    with pytest.raises(ConfigError, match=r"sslmode=require does not make sure that db\.example\.com"):
        session("service=far").connection()
    target = pgconnect.resolve("service=far")
    assert target.secrets == ("canary-77",)
    assert "canary" not in repr(target)


def test_wrong_password_and_cleartext(secure_server: SecureServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "canary-wrong")
    with pytest.raises(SourceError, match="password authentication failed") as caught:
        session(secure_server.dsn()).connection()
    assert not isinstance(caught.value, ConnectionLost)
    assert caught.value.exit_code == 4
    assert "canary" not in str(caught.value)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with pytest.raises(SourceError, match=r"cleartext.*unencrypted connection.*insecure: true"):
        session(secure_server.dsn("plain", sslmode="disable")).connection()
    with session(secure_server.dsn("plain", sslmode="require")) as one:  # inside TLS it is safe
        assert one.encryption == "require"
    with session(secure_server.dsn("plain", sslmode="disable"), insecure=True) as one:
        assert one.encryption == ""
    with session(secure_server.dsn(sslmode="disable")) as one:  # SCRAM tells no password
        assert one.encryption == ""


def test_rows_over_tls_are_the_rows(secure_server: SecureServer, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = paired_frame(50, 20, ("BTCUSDT",))
    load_frame(secure_server.socket, frame, "depth")
    with psycopg.connect(secure_server.socket, autocommit=True) as conn:
        conn.execute("GRANT SELECT ON depth TO reader")
    elsewhere(secure_server, monkeypatch)
    dsn = secure_server.dsn(sslrootcert=str(secure_server.root))
    with depth_rows(dsn=dsn, table="depth") as source, depth_rows(dsn=secure_server.socket, table="depth") as plain:
        assert source.session.encryption == "verify-full"
        a, b = source.read("BTCUSDT", START, STOP), plain.read("BTCUSDT", START, STOP)
    assert a.n_rows == 1000
    for left, right in zip((a.ts_ns_N, a.level_N, *a.columns), (b.ts_ns_N, b.level_N, *b.columns), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.25, "250ms"), (0.2504, "251ms"), (90.0, "90s"), (600.0, "10min"), (7200.0, "2h"), (0.0, "0")],
)
def test_the_time_limit_is_the_one_asked_for(postgres_dsn: str, seconds: float, shown: str) -> None:
    with session(postgres_dsn, statement_timeout_s=seconds) as one:
        assert one.rows(b"SHOW statement_timeout") == [(shown,)]
        assert one.rows(b"SHOW timezone") == [("UTC",)]
        assert one.rows(b"SHOW default_transaction_read_only") == [("on",)]


def test_a_session_that_writes_says_so(postgres_dsn: str) -> None:
    class WriteSession(Session):
        READ_ONLY = False

    dsn = f"{postgres_dsn}&options=-c%20default_transaction_read_only%3Don"
    with WriteSession(dsn, statement_timeout_s=5.0, connect_timeout_s=5.0) as one:
        assert one.rows(b"SHOW default_transaction_read_only") == [("off",)]
        assert not one.dialect.read_only


def test_a_time_limit_below_a_millisecond_is_not_no_limit(postgres_dsn: str) -> None:
    with (
        pytest.raises((SourceError, ServerError), match="statement timeout"),
        session(postgres_dsn, statement_timeout_s=1e-5) as one,
    ):
        one.rows(b"SELECT pg_sleep(1)")


def test_a_time_limit_the_server_cannot_hold_is_refused(postgres_dsn: str) -> None:
    with pytest.raises(SourceError, match=r"did not take statement_timeout.*3000000000.*refusing"):
        session(postgres_dsn, statement_timeout_s=3e6).connection()


def test_a_role_that_may_only_read_suffices(postgres_dsn: str, load_table: LoadTable) -> None:
    load_table(paired_frame(2, 6, ("BTCUSDT",)), "least")
    with psycopg.connect(postgres_dsn, autocommit=True) as conn:
        conn.execute("DO $$ BEGIN CREATE ROLE bml_reader LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
        conn.execute("GRANT SELECT ON least TO bml_reader")
    with depth_rows(dsn=postgres_dsn.replace("postgres:@", "bml_reader:@"), table="least") as source:
        assert source.read("BTCUSDT", START, STOP).n_rows == 12


def test_what_may_pass_by_itself(postgres_dsn: str, tmp_path: Path) -> None:
    """Refused, closed, silent, full: lost. A wrong name or word: not."""
    with psycopg.connect(postgres_dsn, autocommit=True) as conn:
        conn.execute("DO $$ BEGIN CREATE ROLE crowd LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
        conn.execute("ALTER ROLE crowd CONNECTION LIMIT 0")
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as closing:

        def close() -> None:
            for _ in range(2):  # libpq asks again without TLS
                closing.accept()[0].close()

        threading.Thread(target=close, daemon=True).start()
        lost = {
            "host=127.0.0.1 port=1": "refused",
            f"host={tmp_path}/none": "No such file",
            "host=nowhere.invalid": "resolve",
            f"host=127.0.0.1 port={silent.getsockname()[1]}": "timeout",
            f"host=127.0.0.1 port={closing.getsockname()[1]}": "closed|reset",
            postgres_dsn.replace("postgres:@", "crowd:@"): "too many connections for role",
        }
        for dsn, told in lost.items():
            with pytest.raises(ConnectionLost, match=told):
                session(dsn, connect_timeout_s=2.0, insecure=True).connection()
    for dsn in (postgres_dsn.replace("postgres:@", "nobody:@"), postgres_dsn.replace("/postgres?", "/none?")):
        with pytest.raises(SourceError, match="does not exist") as caught:
            session(dsn).connection()
        assert not isinstance(caught.value, ConnectionLost)


def test_a_backend_that_is_ended_is_lost_and_found(postgres_dsn: str, load_table: LoadTable) -> None:
    execute = "SELECT pg_terminate_backend(%s)"
    with psycopg.connect(postgres_dsn, autocommit=True) as conn:
        conn.execute("DROP VIEW IF EXISTS slowly")
        load_table(paired_frame(40, 6, ("BTCUSDT",)), "slowed")
        conn.execute(
            "CREATE VIEW slowly AS SELECT s.* FROM slowed s, LATERAL (SELECT pg_sleep(0.05) WHERE s.level > 0) p"
        )
        with depth_rows(dsn=postgres_dsn, table="slowly") as source:
            pid = source.session.connection().info.backend_pid
            killer = threading.Timer(0.5, lambda: conn.execute(execute, (pid,)))
            killer.start()
            with pytest.raises(ConnectionLost, match=r"slowly, BTCUSDT: the server ended the connection|broke"):
                source.read("BTCUSDT", START, STOP)
            killer.join()
            pid = source.session.connection().info.backend_pid  # another one
            conn.execute(execute, (pid,))
            with pytest.raises(ConnectionLost):
                source.session.rows(b"SELECT 1")
            assert source.session.rows(b"SELECT 1") == [(1,)]
        conn.execute("DROP VIEW slowly")


def test_silence_is_noticed_by_the_client(postgres_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose own limit does not work: the client leaves by itself."""
    monkeypatch.setattr("bml.sources.pgsession.PATIENCE_S", 0.3)
    with session(postgres_dsn, statement_timeout_s=0.2) as one:
        conn = one.connection()
        conn.execute("SET statement_timeout = 0")
        began = time.monotonic()
        with pytest.raises(ConnectionLost, match="no answer"):
            one.rows(b"SELECT pg_sleep(20)")
        assert time.monotonic() - began < 5
        assert one.rows(b"SELECT 1") == [(1,)]
    assert threading.active_count() < 10
