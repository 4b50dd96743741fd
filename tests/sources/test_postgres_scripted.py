"""What a real PostgreSQL never does and GreptimeDB or a broken connection does: a server that plays a script."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from bml.types import ConnectionLost, DataError, SourceError
from tests.scripted_server import (
    END,
    HEADER,
    READY,
    START,
    US_2024,
    Server,
    copied,
    failed,
    message,
    playing,
    postgres,
    read,
    refused,
    row,
    scripted,
    selected,
)


@pytest.fixture(params=["copy", "portable"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "portable":
        monkeypatch.setattr("bml.sources.pgcopy._libpq", lambda: None)
    return str(request.param)


@pytest.mark.parametrize("piece", [1, 7, 8192])
def test_greptimedb_glues_the_header_to_the_first_row(reader: str, piece: int) -> None:
    answer = copied(HEADER + row(US_2024), row(US_2024, 2), END, tag=b"COPY 2")
    with scripted(answer, piece=piece) as (source, script):
        rows = read(source)
        assert "SET statement_timeout = 600000" in script.seen
        assert source.describe()["reader"] == reader
        assert source.describe()["server"] == "16.3-greptimedb-1.1.0"
    assert rows.level_N.tolist() == [1, 2]
    assert rows.ts_ns_N.tolist() == [START, START]


def test_rows_split_over_messages(reader: str) -> None:
    stream = HEADER + row(US_2024) + row(US_2024, 2) + row(US_2024, 3) + END
    for size in (1, 5, 50, 90):
        blocks = [stream[at : at + size] for at in range(0, len(stream), size)]
        with scripted(copied(*blocks, tag=b"COPY 3")) as (source, _):
            assert read(source).level_N.tolist() == [1, 2, 3]


def test_empty_copy_without_header(reader: str) -> None:
    with scripted(copied(END)) as (source, _):
        assert read(source).n_rows == 0
        assert read(source).n_rows == 0


@pytest.mark.parametrize(
    ("answer", "error", "told"),
    [
        (copied(HEADER + row(US_2024), tag=b"COPY 1"), SourceError, "broke off after 1 rows"),
        (copied(HEADER + row(US_2024), END, tag=b"COPY 2"), SourceError, "sent 2 rows, 1 arrived"),
        (copied(HEADER + row(US_2024)[:-3], END, tag=b"COPY 1"), SourceError, "depth"),
        (copied(HEADER + row(US_2024, 0), END, tag=b"COPY 1"), DataError, "level is 0"),
        (copied(HEADER + row(US_2024 - 1), END, tag=b"COPY 1"), SourceError, "outside the asked time"),
        (copied(HEADER, row(US_2024))[:-30], SourceError, "closed the connection|connection"),
        (copied()[:20] + refused(b"XX000", b"region is gone"), SourceError, "region is gone|COPY"),
        (failed(HEADER + row(US_2024)), SourceError, "gave up in the middle of the stream: its own log says why"),
        (refused(b"0A000", b"COPY is not supported"), SourceError, "COPY is not supported"),
        (message(b"C", b"SELECT 0\0") + READY, SourceError, "answered with COMMAND_OK"),
    ],
)
def test_broken_answers(reader: str, answer: bytes, error: type[Exception], told: str) -> None:
    with scripted(answer) as (source, _), pytest.raises(error, match=told) as caught:
        read(source)
    assert "canary" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_stays_writable_is_refused() -> None:
    script = postgres()
    assert script.settings is not None
    script.settings["default_transaction_read_only"] = "off"
    with (
        playing(script) as (source, _),
        pytest.raises(SourceError, match=r"did not make the session read-only .*is off, not on.*refusing"),
        source,
    ):
        pass


def test_no_cancel_is_sent_without_a_key() -> None:
    with scripted(copied(HEADER + row(US_2024), tag=b"COPY 1")) as (source, script):
        with pytest.raises(SourceError, match="broke off"):
            read(source)
        with pytest.raises(SourceError):
            read(source)
    assert script.cancels == 0
    for key, cancels in (((7, 7), 1), ((0, 0), 0)):
        with playing(postgres(answer=copied(HEADER + row(US_2024, 0), END, tag=b"COPY 1"), key=key)) as (
            source,
            script,
        ):
            with pytest.raises(DataError, match="level is 0"):
                read(source)
            assert source.session.connection()  # a new one
        assert script.cancels == cancels


def test_a_password_is_not_sent_in_clear_text(reader: str) -> None:
    server = Server(answer=copied(END), cleartext=True)
    with playing(server) as (source, script):
        with pytest.raises(SourceError, match=r"cleartext.*unencrypted.*TLS.*insecure: true") as caught:
            read(source)
        assert not isinstance(caught.value, ConnectionLost)
        assert script.passwords == []
    with playing(server, insecure=True) as (source, script):
        assert read(source).n_rows == 0
        assert script.passwords == [b"canary\0"]


@pytest.mark.parametrize(
    "server",
    [
        Server(close_on="SET statement_timeout"),
        Server(close_on="COPY"),
        Server(close_on="SELECT"),
        postgres(close_on="SHOW"),
        Server(answer=copied(HEADER, row(US_2024))[:-30]),
        Server(answer=copied(HEADER, row(US_2024), row(US_2024, 2))[:140]),
        postgres(answer=refused(b"57P01", b"terminating connection due to administrator command")),
        postgres(answer=refused(b"08006", b"connection failure")),
    ],
)
def test_a_connection_that_ends_is_lost_not_wrong(reader: str, server: Server) -> None:
    with playing(server) as (source, _), pytest.raises(ConnectionLost) as caught:
        read(source)
    assert "canary" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_wrong_is_not_lost(reader: str) -> None:
    answers = [
        failed(HEADER + row(US_2024)),
        refused(b"42601", b"syntax error"),
        refused(b"57014", b"canceling statement due to statement timeout"),
        copied(HEADER + row(US_2024), END, tag=b"COPY 2"),
    ]
    for answer in answers:
        with scripted(answer) as (source, _), pytest.raises((SourceError, DataError)) as caught:
            read(source)
        assert not isinstance(caught.value, ConnectionLost)


@pytest.mark.parametrize("silent_on", ["SET", "COPY (SELECT CAST", "SELECT"])
def test_a_server_that_falls_silent_is_left(silent_on: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bml.sources.pgsession.PATIENCE_S", 0.3)
    with (
        playing(Server(silent_on=silent_on), statement_timeout_s=0.1) as (source, _),
        pytest.raises(ConnectionLost, match="no answer for 0 s"),
    ):
        read(source)


def test_a_stream_that_falls_silent_is_left(reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bml.sources.pgcopy._PATIENCE_S", 0.3)
    server = Server(answer=copied(HEADER, row(US_2024))[:-30], stalls=True)
    with (
        playing(server, statement_timeout_s=0.1) as (source, _),
        pytest.raises(ConnectionLost, match="no answer for 0 s"),
    ):
        read(source)


def test_an_unsigned_level_arrives_as_numeric_and_is_cast() -> None:
    columns = {"ts": 1114, "level": 1700, "bid_px": 701, "bid_qty": 701, "ask_px": 700, "ask_qty": 701, "symbol": 1043}
    wide = struct.pack(">hiqiq", 6, 8, US_2024, 8, 3) + b"".join(struct.pack(">id", 8, x) for x in (1.0, 2.0))
    wide += struct.pack(">ifid", 4, 3.0, 8, 4.0)
    with scripted(copied(HEADER + wide, END, tag=b"COPY 1"), columns=columns) as (source, script):
        rows = read(source)
    assert rows.level_N.tolist() == [3]
    assert 'CAST("level" AS BIGINT)' in script.seen[-1]


def old(select: bytes, **changes: Any) -> Server:
    """A GreptimeDB that does not copy out."""
    return Server(**({"version": b"16.3-greptimedb-0.17.2", "copy_binary": False, "select": select} | changes))


@pytest.mark.parametrize("piece", [1, 7, 8192])
def test_a_server_that_refuses_copy_is_read_in_chunks(piece: int) -> None:
    with playing(old(selected(2, 1, 3), piece=piece)) as (source, script), source:
        assert source.describe()["reader"] == "chunked"
        rows = read(source)
    assert rows.level_N.tolist() == [2, 1, 3]
    assert rows.ts_ns_N.tolist() == [START] * 3
    assert [column.tolist() for column in rows.columns] == [[x] * 3 for x in (1.0, 2.0, 3.0, 4.0)]
    assert not any(query.startswith('COPY (SELECT "') for query in script.seen)


@pytest.mark.parametrize(
    ("server", "error", "told"),
    [
        (old(selected(1, 2)[:-60], cut=True), ConnectionLost, "connection"),
        (old(selected(1, 2)[:-90], cut=True), ConnectionLost, "connection"),
        (old(selected(1, 2)[:-14] + refused(b"XX000", b"region is gone")), SourceError, "region is gone"),
        (old(refused(b"42501", b"no")), SourceError, "needs SELECT"),
        (old(selected(1, 0)), DataError, "level is 0"),
        (old(b"", known_copy=b"", close_on="SELECT"), ConnectionLost, "connection"),
    ],
)
def test_broken_chunks(server: Server, error: type[Exception], told: str) -> None:
    with playing(server) as (source, _), pytest.raises(error, match=told) as caught:
        read(source)
    assert isinstance(caught.value, ConnectionLost) is (error is ConnectionLost)
    assert "canary" not in str(caught.value)


def test_no_way_to_read_at_all() -> None:
    server = Server(copy_binary=False, known_values=(b"1.5", b"7"))
    with playing(server) as (source, _), pytest.raises(SourceError, match=r"no way to read rows: .*other bytes"):
        read(source)
