"""A server that speaks PostgreSQL's protocol, version 3, from a script: what a real PostgreSQL never does.

What GreptimeDB does is taken from its source and documentation, version by version; nobody ran it here.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bml.sources.pgdialect import KNOWN_BYTES, KNOWN_COPY, KNOWN_SELECT, KNOWN_VALUES
from bml.sources.postgres import PostgresSource, depth_rows
from bml.types import NS_PER_S, DepthRows

HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">II", 0, 0)
END = b"\xff\xff"
START = 1_704_067_200 * NS_PER_S  # 2024-01-01
US_2024 = 1_704_067_200_000_000 - 946_684_800_000_000
COLUMNS = {"ts": 1114, "level": 23, "bid_px": 701, "bid_qty": 701, "ask_px": 701, "ask_qty": 701, "symbol": 1043}
READY = b"Z\0\0\0\x05I"
TAGS = {"symbol": "TAG", "level": "TAG", "ts": "TIMESTAMP"}


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack(">i", len(body) + 4) + body


def row(us: int, level: int = 1) -> bytes:
    head = struct.pack(">hiqii", 6, 8, us, 4, level)
    return head + b"".join(struct.pack(">id", 8, x) for x in (1.0, 2.0, 3.0, 4.0))


def copied(*blocks: bytes, tag: bytes = b"COPY 0") -> bytes:
    """CopyOutResponse, one CopyData a block, CopyDone, CommandComplete."""
    out = message(b"H", struct.pack(">bh", 1, 6) + b"\0\1" * 6)
    return out + b"".join(message(b"d", block) for block in blocks) + message(b"c") + message(b"C", tag + b"\0") + READY


def failed(*blocks: bytes, sqlstate: bytes = b"XX000", text: bytes = b"region is gone") -> bytes:
    """A COPY that fails on its way as pgwire tells it: CopyFail from the server, then the error."""
    out = message(b"H", struct.pack(">bh", 1, 6) + b"\0\1" * 6)
    return (
        out + b"".join(message(b"d", block) for block in blocks) + message(b"f", text + b"\0") + refused(sqlstate, text)
    )


def refused(sqlstate: bytes, text: bytes) -> bytes:
    return _report(b"E", b"ERROR", sqlstate, text) + READY


def notice(text: bytes) -> bytes:
    return _report(b"N", b"WARNING", b"01000", text)


def _report(kind: bytes, severity: bytes, sqlstate: bytes, text: bytes) -> bytes:
    return message(kind, b"S" + severity + b"\0C" + sqlstate + b"\0M" + text + b"\0\0")


def table(columns: dict[str, int], rows: list[tuple[str | bytes, ...]], tag: str = "SELECT", code: int = 0) -> bytes:
    """RowDescription, DataRows (text where ``code`` is 0) and CommandComplete."""
    described = b"".join(
        n.encode() + b"\0" + struct.pack(">ihihih", 0, 0, oid, 0, -1, code) for n, oid in columns.items()
    )
    out = message(b"T", struct.pack(">h", len(columns)) + described)
    for one in rows:
        cells = [cell.encode() if isinstance(cell, str) else cell for cell in one]
        out += message(b"D", struct.pack(">h", len(cells)) + b"".join(struct.pack(">i", len(c)) + c for c in cells))
    return out + message(b"C", f"{tag} {len(rows)}\0".encode())


def selected(*levels: int, bid_px: float = 1.0) -> bytes:
    """What :func:`row` says of each level, as a SELECT by the extended protocol gives it."""
    columns = {name: COLUMNS[name] for name in ("ts", "level", "bid_px", "bid_qty", "ask_px", "ask_qty")}
    numbers = tuple(struct.pack(">d", x) for x in (bid_px, 2.0, 3.0, 4.0))
    return table(columns, [(struct.pack(">q", US_2024), struct.pack(">i", one), *numbers) for one in levels], code=1)


@dataclass
class Server:
    """What the script says. ``settings`` is what SHOW answers; None: SET is a NOTICE only, as in GreptimeDB."""

    answer: bytes = b""
    version: bytes = b"16.3-greptimedb-1.1.0"
    piece: int = 1 << 20
    columns: dict[str, int] = field(default_factory=lambda: dict(COLUMNS))
    key: tuple[int, int] = (0, 0)
    settings: dict[str, str] | None = None
    unsupported: tuple[str, ...] = ("default_transaction_read_only",)
    cleartext: bool = False
    copy_binary: bool = True
    known_copy: bytes = KNOWN_BYTES
    known_values: tuple[bytes, ...] = KNOWN_VALUES
    tags: dict[str, str] | None = field(default_factory=lambda: dict(TAGS))
    options: str = ""
    silent_on: str = ""
    close_on: str = ""
    stalls: bool = False
    select: bytes | None = None
    cut: bool = False  # the SELECT's answer stops where it stops


class Script(threading.Thread):
    """Serves connections one after another as ``server`` says; ``seen`` are the statements that came."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.seen: list[str] = []
        self.passwords: list[bytes] = []
        self.cancels = 0
        self.over = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def run(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve_one, args=(client,), daemon=True).start()

    def serve_one(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            self.serve(client)

    def stop(self) -> None:
        self.over.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.join(5)

    def serve(self, client: socket.socket) -> None:
        while True:
            (size,) = struct.unpack(">i", self.take(client, 4))
            code = struct.unpack(">i", self.take(client, size - 4)[:4])[0]
            if code == 196608:
                break
            if code == 80877102:
                self.cancels += 1
                return
            client.sendall(b"N")  # no TLS, no GSS
        if self.server.cleartext:
            client.sendall(message(b"R", struct.pack(">i", 3)))
            self.passwords.append(self.receive(client)[1])
        status = [(b"server_version", self.server.version), (b"client_encoding", b"UTF8")]
        told = b"".join(message(b"S", b"\0".join(one) + b"\0") for one in status)
        client.sendall(message(b"R", struct.pack(">i", 0)) + told)
        client.sendall(message(b"K", struct.pack(">ii", *self.server.key)) + READY)
        parsed = ""
        while True:
            kind, body = self.receive(client)
            if kind == b"X":
                return
            if kind == b"Q":
                self.reply(client, body[:-1].decode())
            elif kind == b"P":
                parsed = body.split(b"\0")[1].decode()
            elif kind == b"S":
                self.send(client, self.extended(parsed))

    def receive(self, client: socket.socket) -> tuple[bytes, bytes]:
        kind = self.take(client, 1)
        (size,) = struct.unpack(">i", self.take(client, 4))
        return kind, self.take(client, size - 4)

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
        server = self.server
        if server.silent_on and query.startswith(server.silent_on):
            self.over.wait(30)
            raise OSError("was silent")
        if server.close_on and query.startswith(server.close_on):
            raise OSError("hangs up")
        if query.startswith("COPY") and query != KNOWN_COPY.decode():
            self.send(client, server.answer)
        else:
            client.sendall(self.simple(query))

    def send(self, client: socket.socket, answer: bytes) -> None:
        """In pieces; hangs up after an answer that does not end as answers do."""
        for at in range(0, len(answer), self.server.piece):
            client.sendall(answer[at : at + self.server.piece])
        if READY not in answer[-6:]:
            self.over.wait(30 if self.server.stalls else 0)
            raise OSError("breaks off")

    def simple(self, query: str) -> bytes:
        server = self.server
        if query == KNOWN_COPY.decode():
            if not server.copy_binary:
                return refused(b"42601", b"sql parser error: Expected: TABLE, found: (")
            return copied(server.known_copy, tag=b"COPY 1")
        if query.startswith("SET "):
            name = query.split()[1]
            warned = server.settings is None and name in server.unsupported
            return (
                (notice(f"Unsupported set variable {name}".encode()) if warned else b"")
                + message(b"C", b"SET\0")
                + READY
            )
        if query.startswith("SHOW CREATE TABLE"):
            made = f'CREATE TABLE IF NOT EXISTS "depth" (...)\n\nENGINE=mito\nWITH(\n  {server.options}\n)'
            return table({"Table": 1043, "Create Table": 1043}, [("depth", made)], "SHOW") + READY
        if query.startswith("SHOW "):
            told = (server.settings or {}).get(query.split()[1], "")
            return table({"x": 25}, [(told,)], "SHOW") + READY
        if "semantic_type" in query:
            if server.tags is None:
                return refused(b"42703", b"No field named semantic_type")
            cells = [(name, server.tags.get(name, "FIELD")) for name in server.columns]
            return table({"column_name": 1043, "semantic_type": 1043}, list(cells)) + READY
        if query.startswith("SELECT") and "LIMIT 0" in query:
            asked = re.findall(r'"(\w+)"', query.partition(" FROM ")[0])
            return table({name: server.columns[name] for name in asked} or server.columns, []) + READY
        if query.startswith("SELECT") and server.select is not None:
            return server.select + READY
        return refused(b"42601", b"not in the script: " + query.encode())

    def extended(self, query: str) -> bytes:
        self.seen.append(query)
        begin = message(b"1") + message(b"2")
        if query == KNOWN_SELECT.decode():
            return begin + table({"a": 701, "b": 23}, [self.server.known_values], code=1) + READY
        if self.server.select is not None:
            ends = self.server.select.endswith(READY) or self.server.cut
            return begin + self.server.select + (b"" if ends else READY)
        return refused(b"42601", b"not in the script: " + query.encode())


def postgres(**changes: Any) -> Server:
    """A script that passes for a PostgreSQL 16."""
    settings = {"timezone": "UTC", "statement_timeout": "10min", "default_transaction_read_only": "on"}
    return Server(**({"version": b"16.3", "key": (7, 7), "settings": settings} | changes))


@contextmanager
def playing(server: Server, **options: Any) -> Iterator[tuple[PostgresSource, Script]]:
    """``server`` on a port of its own and a source of it, not yet connected."""
    script = Script(server)
    script.start()
    dsn = f"postgresql://u:canary@127.0.0.1:{script.port}/public?sslmode=disable"
    try:
        source = depth_rows(**({"dsn": dsn, "table": "depth"} | options))
        try:
            yield source, script
        finally:
            source.__exit__(None, None, None)
    finally:
        script.stop()


@contextmanager
def scripted(answer: bytes, *, piece: int = 1 << 20, **changes: Any) -> Iterator[tuple[PostgresSource, Script]]:
    """As :func:`playing`, connected, for one that answers COPY with ``answer``."""
    with playing(Server(answer=answer, piece=piece, **changes)) as (source, script), source:
        yield source, script


def read(source: PostgresSource) -> DepthRows:
    return source.read("BTCUSDT", START, START + 10 * NS_PER_S)
