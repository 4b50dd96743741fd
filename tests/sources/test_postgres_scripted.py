"""What a real PostgreSQL never does and GreptimeDB or a broken connection does: a server that plays a script."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bml.sources.postgres import PostgresSource, depth_rows
from bml.types import NS_PER_S, DataError, DepthRows, SourceError

HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">II", 0, 0)
END = b"\xff\xff"
START = 1_704_067_200 * NS_PER_S  # 2024-01-01
US_2024 = 1_704_067_200_000_000 - 946_684_800_000_000
COLUMNS = {"ts": 1114, "level": 23, "bid_px": 701, "bid_qty": 701, "ask_px": 701, "ask_qty": 701, "symbol": 1043}
READY = b"Z\0\0\0\x05I"


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack(">i", len(body) + 4) + body


def row(us: int, level: int = 1) -> bytes:
    head = struct.pack(">hiqii", 6, 8, us, 4, level)
    return head + b"".join(struct.pack(">id", 8, x) for x in (1.0, 2.0, 3.0, 4.0))


def copied(*blocks: bytes, tag: bytes = b"COPY 0") -> bytes:
    """CopyOutResponse, one CopyData a block, CopyDone, CommandComplete."""
    out = message(b"H", struct.pack(">bh", 1, 6) + b"\0\1" * 6)
    return out + b"".join(message(b"d", block) for block in blocks) + message(b"c") + message(b"C", tag + b"\0") + READY


def refused(sqlstate: bytes, text: bytes) -> bytes:
    return message(b"E", b"SERROR\0C" + sqlstate + b"\0M" + text + b"\0\0")


class Script(threading.Thread):
    """Serves connections one after another: answers the probe and SETs, and COPY with ``answer`` in pieces."""

    def __init__(self, answer: bytes, *, version: bytes, piece: int, read_only: bytes) -> None:
        super().__init__(daemon=True)
        self.answer, self.version, self.piece, self.read_only = answer, version, piece, read_only
        self.seen: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def run(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with client:
                try:
                    self.serve(client)
                except OSError:
                    continue

    def serve(self, client: socket.socket) -> None:
        while True:
            (size,) = struct.unpack(">i", self.take(client, 4))
            code = struct.unpack(">i", self.take(client, size - 4)[:4])[0]
            if code == 196608:
                break
            client.sendall(b"N")  # no TLS, no GSS
        status = [(b"server_version", self.version), (b"client_encoding", b"UTF8")]
        client.sendall(
            message(b"R", struct.pack(">i", 0)) + b"".join(message(b"S", b"\0".join(s) + b"\0") for s in status)
        )
        client.sendall(message(b"K", struct.pack(">ii", 0, 0)) + READY)
        while True:
            kind = self.take(client, 1)
            (size,) = struct.unpack(">i", self.take(client, 4))
            body = self.take(client, size - 4)
            if kind == b"X":
                return
            if kind == b"Q":
                self.reply(client, body[:-1].decode())

    def take(self, client: socket.socket, size: int) -> bytes:
        out = b""
        while len(out) < size:
            got = client.recv(size - len(out))
            if not got:
                raise OSError("gone")
            out += got
        return out

    def reply(self, client: socket.socket, query: str) -> None:
        self.seen.append(query)
        if query.startswith("COPY"):
            for at in range(0, len(self.answer), self.piece):
                client.sendall(self.answer[at : at + self.piece])
            if READY not in self.answer[-6:]:
                client.shutdown(socket.SHUT_RDWR)
        elif query.startswith("SHOW"):
            column = b"x\0" + struct.pack(">ihihih", 0, 0, 25, -1, -1, 0)
            data = struct.pack(">hi", 1, len(self.read_only)) + self.read_only
            client.sendall(
                message(b"T", struct.pack(">h", 1) + column) + message(b"D", data) + message(b"C", b"SHOW\0") + READY
            )
        elif query.startswith("SELECT"):
            columns = [n.encode() + b"\0" + struct.pack(">ihihih", 0, 0, oid, 0, -1, 0) for n, oid in COLUMNS.items()]
            client.sendall(
                message(b"T", struct.pack(">h", len(columns)) + b"".join(columns))
                + message(b"C", b"SELECT 0\0")
                + READY
            )
        else:
            client.sendall(message(b"C", b"SET\0") + READY)


@contextmanager
def scripted(
    answer: bytes, *, version: bytes = b"16.3-greptimedb-1.1.0", piece: int = 1 << 20, read_only: bytes = b"on"
) -> Iterator[tuple[PostgresSource, Script]]:
    script = Script(answer, version=version, piece=piece, read_only=read_only)
    script.start()
    source = depth_rows(dsn=f"postgresql://u:canary@127.0.0.1:{script.port}/public?sslmode=disable", table="depth")
    try:
        with source:
            yield source, script
    finally:
        script.listener.shutdown(socket.SHUT_RDWR)
        script.listener.close()
        script.join(5)


def read(source: PostgresSource) -> DepthRows:
    return source.read("BTCUSDT", START, START + 10 * NS_PER_S)


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
        assert source.describe()["reader"] == reader
        assert source.describe()["server"] == "16.3-greptimedb-1.1.0"
    assert rows.level_N.tolist() == [1, 2]
    assert rows.ts_ns_N.tolist() == [START, START]
    assert not any("read_only" in query for query in script.seen)


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
        (copied()[:20] + refused(b"XX000", b"region is gone") + READY, SourceError, "region is gone|COPY"),
        (refused(b"0A000", b"COPY is not supported") + READY, SourceError, "COPY is not supported"),
        (message(b"C", b"SELECT 0\0") + READY, SourceError, "answered with COMMAND_OK"),
    ],
)
def test_broken_answers(reader: str, answer: bytes, error: type[Exception], told: str) -> None:
    with scripted(answer) as (source, _), pytest.raises(error, match=told) as caught:
        read(source)
    assert "canary" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_stays_writable_is_refused() -> None:
    with (
        pytest.raises(SourceError, match="did not make the session read-only"),
        scripted(b"", version=b"16.3", read_only=b"off"),
    ):
        pass
