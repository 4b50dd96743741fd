"""What the server at the other end can do: measured once a connection, its version read only for what cannot be.

GreptimeDB speaks PostgreSQL's protocol with gaps of its own. No flag says which server it is: the version string
and a few statements with known answers do.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import pq

#: a statement both servers run, and every byte of its answer: 19 of header, 22 of row, 2 of trailer
KNOWN_COPY = b"COPY (SELECT CAST(1.5 AS DOUBLE PRECISION), CAST(7 AS INTEGER)) TO STDOUT (FORMAT BINARY)"
KNOWN_SELECT = b"SELECT CAST(1.5 AS DOUBLE PRECISION), CAST(7 AS INTEGER)"
KNOWN_VALUES = (struct.pack(">d", 1.5), struct.pack(">i", 7))
KNOWN_BYTES = (
    b"PGCOPY\n\xff\r\n\0" + struct.pack(">II", 0, 0) + struct.pack(">hidii", 2, 8, 1.5, 4, 7) + struct.pack(">h", -1)
)

_VERSION = re.compile(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?")
_UNSUPPORTED = "unsupported set variable"  # GreptimeDB's NOTICE, after which SET reports success all the same


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """One server's abilities.

    Measured: ``copy_binary`` (binary COPY gives the known bytes), ``chunked`` (binary results of the extended
    protocol do, so rows can come by SELECT), ``cancel`` (there is a key to cancel with),
    ``read_only`` and ``statement_timeout`` (the SET was believed only after the server said so).
    From the version: ``streams_portal`` (a result is sent as it is made, not gathered first),
    ``shifts_timestamps`` (by the session's time zone, which is therefore UTC), ``cleartext_only`` (passwords),
    ``read_only_accounts`` (exist). ``notes`` say why something is missing.
    """

    server: str
    version: tuple[int, ...]
    is_greptimedb: bool
    copy_binary: bool = True
    chunked: bool = True
    cancel: bool = True
    read_only: bool = True
    statement_timeout: bool = True
    streams_portal: bool = True
    shifts_timestamps: bool = False
    cleartext_only: bool = False
    read_only_accounts: bool = True
    notes: tuple[str, ...] = ()

    @property
    def product(self) -> str:
        """GreptimeDB or PostgreSQL, with its version."""
        name = "GreptimeDB" if self.is_greptimedb else "PostgreSQL"
        return f"{name} {'.'.join(map(str, self.version))}" if self.version else f"{name} of unknown version"


def by_version(server: str) -> Dialect:
    """The abilities the version string alone promises; an unknown version promises a current server's."""
    is_greptimedb = "greptimedb" in server.lower()
    found = _VERSION.search(server.lower().partition("greptimedb")[2] if is_greptimedb else server)
    version = tuple(int(part) for part in found.groups() if part is not None) if found else ()
    if not is_greptimedb:
        return Dialect(server=server, version=version, is_greptimedb=False)
    since = version or (10**6,)
    return Dialect(
        server=server,
        version=version,
        is_greptimedb=True,
        copy_binary=since >= (1, 0),
        cancel=False,
        read_only=False,
        statement_timeout=since >= (0, 10),
        streams_portal=since < (1, 1),
        shifts_timestamps=since < (1, 0),
        cleartext_only=since < (1, 2),
        read_only_accounts=since >= (1, 0),
    )


def probe(conn: psycopg.Connection[Any], server: str, settings: dict[str, str | None]) -> Dialect:
    """The abilities of the server behind ``conn``: two statements with known answers, read as bytes.

    ``settings``: name of a setting -> what was wrong with setting it, or None (see :func:`complaint`).
    Raises psycopg.Error when the connection breaks; a refusal is a missing ability.
    """
    promised = by_version(server)
    wrong = {"binary COPY": _copy_fault(conn), "binary SELECT": _select_fault(conn)} | settings
    return Dialect(
        server=server,
        version=promised.version,
        is_greptimedb=promised.is_greptimedb,
        copy_binary=wrong["binary COPY"] is None,
        chunked=wrong["binary SELECT"] is None,
        cancel=promised.cancel and conn.pgconn.backend_pid != 0,
        read_only=settings.get("default_transaction_read_only") is None,
        statement_timeout=settings.get("statement_timeout") is None,
        streams_portal=promised.streams_portal,
        shifts_timestamps=promised.shifts_timestamps,
        cleartext_only=promised.cleartext_only,
        read_only_accounts=promised.read_only_accounts,
        notes=tuple(f"{what}: {fault}" for what, fault in wrong.items() if fault is not None),
    )


def complaint(conn: psycopg.Connection[Any], statement: bytes) -> str | None:
    """Run a SET; what the server had against it, None if it took it. A NOTICE can be the only sign of failure.

    Raises psycopg.Error when the connection breaks.
    """
    with _notices(conn) as told:
        try:
            conn.execute(statement)
        except psycopg.Error as error:
            return _refusal(conn, error)
    return next((one for one in told if _UNSUPPORTED in one.lower()), None)


@contextmanager
def _notices(conn: psycopg.Connection[Any]) -> Iterator[list[str]]:
    told: list[str] = []

    def hear(diagnostic: psycopg.errors.Diagnostic) -> None:
        told.append(" ".join((diagnostic.message_primary or "").split()))

    conn.add_notice_handler(hear)
    try:
        yield told
    finally:
        conn.remove_notice_handler(hear)


def _copy_fault(conn: psycopg.Connection[Any]) -> str | None:
    try:
        with conn.cursor() as cursor, cursor.copy(KNOWN_COPY) as copy:
            got = b"".join(copy)
    except psycopg.Error as error:
        return _refusal(conn, error)
    if got == KNOWN_BYTES:
        return None
    first = next((i for i, (a, b) in enumerate(zip(got, KNOWN_BYTES, strict=False)) if a != b), min(len(got), 43))
    return f"the known answer of {len(KNOWN_BYTES)} bytes came as {len(got)}, different from byte {first} on"


def _select_fault(conn: psycopg.Connection[Any]) -> str | None:
    try:
        with conn.cursor(binary=True) as cursor:
            result = cursor.execute(KNOWN_SELECT).pgresult
    except psycopg.Error as error:
        return _refusal(conn, error)
    if result is None or (result.ntuples, result.nfields) != (1, 2):
        return "the known answer has another shape"
    got = tuple(bytes(result.get_value(0, i) or b"") for i in range(2))
    if got != KNOWN_VALUES or (result.fformat(0), result.fformat(1)) != (1, 1):
        return "the known answer has other bytes"
    return None


def _refusal(conn: psycopg.Connection[Any], error: psycopg.Error) -> str:
    """The server's own words; raises again when the connection broke, or the time limit struck."""
    if conn.closed or conn.pgconn.status != pq.ConnStatus.OK or error.sqlstate == "57014":
        raise error
    return " ".join(str(error.diag.message_primary or error).split())
