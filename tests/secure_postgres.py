"""A real PostgreSQL with TLS and SCRAM: the distribution's own server, which the wheel's cannot do; a pytest plugin."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

PASSWORD = "canary 5e1f'\\x"
HBA = """\
local   all  all                 trust
hostssl all  reader  127.0.0.1/32  scram-sha-256
hostssl all  plain   127.0.0.1/32  password
hostnossl all plain  127.0.0.1/32  password
hostnossl all reader 127.0.0.1/32  scram-sha-256
"""


@dataclass(frozen=True)
class SecureServer:
    """``socket`` is the superuser's dsn; ``reader`` (SCRAM) and ``plain`` (clear text) are roles with PASSWORD."""

    socket: str
    port: int
    root: Path
    other_root: Path
    folder: Path

    def dsn(self, user: str = "reader", host: str = "localhost", **options: str) -> str:
        told = {"host": host, "hostaddr": "127.0.0.1", "port": str(self.port), "dbname": "postgres", "user": user}
        return " ".join(f"{key}={value}" for key, value in (told | options).items())


@pytest.fixture(scope="session")
def secure_server() -> Iterator[SecureServer]:
    """Listens on 127.0.0.1 with a certificate for ``localhost`` signed by ``root``; ``other_root`` signed nothing."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    openssl = shutil.which("openssl")
    if not programs or openssl is None:
        pytest.skip("needs a PostgreSQL of the distribution and openssl (apt-get install postgresql openssl)")
    folder = Path(tempfile.mkdtemp(prefix="bml-tls-"))
    user = "postgres" if os.geteuid() == 0 else None
    try:
        yield from _running(programs[-1].parent, openssl, folder, user)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _running(programs: Path, openssl: str, folder: Path, user: str | None) -> Iterator[SecureServer]:
    data = folder / "data"
    data.mkdir()
    _certify(openssl, folder)
    if user is not None:
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, user)
    (folder / "server.key").chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def run(program: str, *args: str) -> None:
        command = [str(programs / program), *args]
        done = subprocess.run(command, user=user, cwd=folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    run("initdb", "-D", str(data), "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C")
    (data / "pg_hba.conf").write_text(HBA)
    options = (
        f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c ssl=on -c fsync=off "
        f"-c password_encryption=scram-sha-256 -c ssl_cert_file={folder}/server.crt -c ssl_key_file={folder}/server.key"
    )
    # the server must not hold our pipes, or waiting for pg_ctl's end would be waiting for its
    run("pg_ctl", "-D", str(data), "-l", str(folder / "log"), "-o", options, "-w", "start")
    superuser = f"host={folder} port={port} user=postgres dbname=postgres"
    try:
        with psycopg.connect(superuser, autocommit=True) as conn:
            for role in ("reader", "plain"):
                conn.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'")
        root, other = folder / "root.crt", folder / "other.crt"
        yield SecureServer(socket=superuser, port=port, root=root, other_root=other, folder=folder)
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")


def _certify(openssl: str, folder: Path) -> None:
    """Two authorities, and a certificate for localhost from the first."""

    def run(*args: str) -> None:
        subprocess.run([openssl, *args], cwd=folder, check=True, capture_output=True, timeout=60)

    new = ("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("root", "other"):
        run(*new, "-x509", "-days", "2", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.crt")
    run(*new, "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr")
    (folder / "names").write_text("subjectAltName=DNS:localhost,DNS:db.example.com\n")
    run("x509", "-req", "-in", "server.csr", "-CA", "root.crt", "-CAkey", "root.key", "-CAcreateserial", "-days", "2",
        "-extfile", "names", "-out", "server.crt")  # fmt: skip
