"""What a real PostgreSQL never does and GreptimeDB or a broken connection does: a server that plays a script."""

from __future__ import annotations

import struct

import pytest

from bml.sources.pgdialect import KNOWN_BYTES, KNOWN_COPY, by_version
from bml.sources.pgtraps import server_traps
from bml.types import ConnectionLost, DataError, SourceError
from tests.scripted_server import (
    COLUMNS,
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
)


@pytest.fixture(params=["libpq", "psycopg"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "psycopg":
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
        (message(b"C", b"SELECT 0\0") + READY, SourceError, "answered COPY with COMMAND_OK"),
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


#: version string -> its numbers, and what it does
VERSIONS = [
    (b"16.3-greptimedb-0.9.4", (0, 9, 4), "no_copy streams shifts clear"),
    (b"16.3-greptimedb-0.17.2", (0, 17, 2), "no_copy streams shifts clear"),
    (b"16.3-greptimedb-1.0.0-rc.2", (1, 0, 0), "streams clear accounts"),
    (b"16.3-greptimedb-1.0.3", (1, 0, 3), "streams clear accounts"),
    (b"16.3-greptimedb-1.1.2", (1, 1, 2), "clear accounts"),
    (b"16.3-GreptimeDB-v1.2.0-beta.2", (1, 2, 0), "accounts"),
    (b"16.3-greptimedb-nightly", (), "accounts"),
]


@pytest.mark.parametrize(("version", "numbers", "does"), VERSIONS, ids=[one[0].decode() for one in VERSIONS])
def test_each_greptimedb_is_known_by_its_version(version: bytes, numbers: tuple[int, ...], does: str) -> None:
    want = does.split()
    with playing(Server(version=version, copy_binary="no_copy" not in want)) as (source, script):
        dialect = source.session.dialect
        traps = {trap.name for trap in server_traps(dialect)}
    assert dialect.is_greptimedb
    assert dialect.version == numbers
    assert dialect.copy_binary is ("no_copy" not in want) is by_version(version.decode()).copy_binary
    assert dialect.chunked
    assert dialect.streams_portal is ("streams" in want)
    assert dialect.shifts_timestamps is ("shifts" in want) is ("time zone" in traps)
    assert dialect.cleartext_only is ("clear" in want) is ("password" in traps)
    assert dialect.read_only_accounts is ("accounts" in want)
    assert not dialect.cancel
    assert not dialect.read_only
    assert {"read-only", "cancel"} <= traps
    assert script.seen.count(KNOWN_COPY.decode()) == 1


def test_a_setting_that_only_warns_has_failed() -> None:
    server = Server(unsupported=("default_transaction_read_only", "statement_timeout", "timezone"))
    with playing(server) as (source, script):
        dialect = source.session.dialect
    assert (dialect.read_only, dialect.statement_timeout) == (False, False)
    assert "statement_timeout: Unsupported set variable statement_timeout" in dialect.notes
    assert any(trap.name == "time limit" for trap in server_traps(dialect))
    assert not any(query.startswith("SHOW") for query in script.seen)


@pytest.mark.parametrize("setting", ["timezone", "statement_timeout", "default_transaction_read_only"])
def test_postgres_must_say_that_a_setting_is_set(setting: str) -> None:
    server = postgres()
    assert server.settings is not None
    server.settings[setting] = "something else"
    with playing(server) as (source, _), pytest.raises(SourceError, match=r"something else.*refusing to go on"), source:
        pass


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (HEADER + END, "43 bytes came as 21, different from byte 19"),
        (KNOWN_BYTES[:-2], "43 bytes came as 41"),
        (KNOWN_BYTES[:27] + b"\x3f" + KNOWN_BYTES[28:], "43 bytes came as 43, different from byte 27"),
        (b"1.5,7\n", "43 bytes came as 6"),
    ],
)
def test_copy_is_believed_for_its_known_bytes_only(sent: bytes, told: str) -> None:
    with playing(Server(known_copy=sent)) as (source, _):
        dialect = source.session.dialect
    assert not dialect.copy_binary
    assert dialect.chunked
    assert any(note.startswith("binary COPY: the known answer") and told in note for note in dialect.notes)


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


APPEND = "append_mode = 'true'"


@pytest.mark.parametrize(
    ("tags", "options", "told"),
    [
        ({"symbol": "TAG", "ts": "TIMESTAMP"}, "", r"keeps one row for each \(symbol, ts\).*differ in level only"),
        ({"level": "TAG", "ts": "TIMESTAMP"}, "", "differ in symbol only"),
        ({"ts": "TIMESTAMP"}, "append_mode = 'false'", "differ in symbol and level only"),
        ({"ts": "TIMESTAMP"}, APPEND, None),
        ({"ts": "TIMESTAMP"}, "'merge_mode' = 'last_row',\n  'append_mode'='true'", None),
        ({"symbol": "TAG", "level": "TAG", "ts": "TIMESTAMP"}, "", None),
        ({"symbol": "TAG", "level": "TAG", "ts": "TIMESTAMP"}, "merge_mode = 'last_non_null'", None),
        (None, "", None),
    ],
)
def test_tables_that_keep_one_level_are_refused(
    tags: dict[str, str] | None, options: str, told: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(answer=copied(HEADER + row(US_2024), END, tag=b"COPY 1"), tags=tags, options=options)
    with playing(server) as (source, script):
        if told is None:
            assert read(source).n_rows == 1
            warned = [record.getMessage() for record in caplog.records]
            if APPEND in options or "append_mode'='" in options:
                assert "columns.batch" in warned[0]
            elif "last_non_null" in options:
                assert "use last_row" in warned[0]
            elif tags is None:
                assert "check its keys by hand" in warned[0]
            else:
                assert warned == []
            return
        with pytest.raises(DataError, match=told) as caught:
            read(source)
        assert 'TIME INDEX ("ts"), PRIMARY KEY ("symbol", "level"))' in str(caught.value)
        assert not any(query.startswith('COPY (SELECT "') for query in script.seen)


def test_an_append_table_with_a_batch_column_is_right(caplog: pytest.LogCaptureFixture) -> None:
    columns = COLUMNS | {"batch": 20}
    with playing(Server(columns=columns, options=APPEND), columns={"batch": "batch"}) as (source, _):
        assert source.table.probe(source.session)
    assert caplog.records == []
