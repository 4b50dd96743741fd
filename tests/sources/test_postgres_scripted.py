"""What a real PostgreSQL never does and GreptimeDB or a broken connection does: a server that plays a script."""

from __future__ import annotations

import pytest

from bml.types import ConnectionLost, DataError, SourceError
from tests.scripted_server import (
    END, HEADER, READY, START, US_2024, copied, failed, message, playing, postgres, read, refused, row, scripted,
)  # fmt: skip


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
        pytest.raises(SourceError, match="did not make the session read-only .*is off, not on.*refusing"),
        source,
    ):
        pass
