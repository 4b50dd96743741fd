"""What a server can do and what a table's definition does, found out before the first row is read."""

from __future__ import annotations

import pytest

from bml.sources.pgdialect import KNOWN_BYTES, KNOWN_COPY, by_version
from bml.sources.pgtraps import server_traps
from bml.types import DataError, SourceError
from tests.scripted_server import COLUMNS, END, HEADER, US_2024, Server, copied, playing, postgres, read, row

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
