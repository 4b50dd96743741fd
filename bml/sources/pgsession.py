"""A read-only session with PostgreSQL (or GreptimeDB's PostgreSQL endpoint).

No message, attribute or repr holds the dsn or the password.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg.conninfo import make_conninfo

from bml.sources import embedded, pgconnect, pgdialect
from bml.sources.pgdialect import Dialect
from bml.types import BmlError, ConnectionLost, DataError, SourceError

_CANCEL_S = 3.0
PATIENCE_S = 30.0  # silence allowed beyond the statement timeout before the client gives up
_UNIT_MS = {"": 1, "ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


class ServerError(Exception):
    """What the server refused: its SQLSTATE and message."""

    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class Session:
    """Autocommit, read-only where the server knows how, UTC, reconnects when it was closed.

    ``insecure`` lets a password go in clear text and another machine answer without a certificate. ``dialect`` is
    what the server can do, known from the first connection on.
    """

    #: a session that writes says False; everything else about connecting is the same for it
    READ_ONLY = True

    #: what sets the statement timeout, and what to do when it is met
    TIMEOUT = ("statement_timeout_s", "raise it, or read fewer levels")

    def __init__(
        self, dsn: str, *, statement_timeout_s: float, connect_timeout_s: float, insecure: bool = False
    ) -> None:
        dsn = embedded.resolve(dsn)
        parts, self._secrets = pgconnect.parse(dsn)
        self._dsn = dsn
        self.statement_timeout_s = statement_timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._insecure = insecure
        self._conn: psycopg.Connection[Any] | None = None
        self._dialect: Dialect | None = None
        self.host = parts.get("host") or parts.get("hostaddr") or ""
        self.port = parts.get("port", "")
        self.database = parts.get("dbname", "")
        self.server = ""

    def __repr__(self) -> str:
        return f"Session({self.place!r})"

    def __enter__(self) -> Self:
        self.connection()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def place(self) -> str:
        """host:port/database, for messages."""
        return f"{self.host or 'the default host'}:{self.port or '5432'}/{self.database}"

    @property
    def is_greptimedb(self) -> bool:
        """Whether the server calls itself GreptimeDB."""
        return "greptimedb" in self.server.lower()

    @property
    def dialect(self) -> Dialect:
        """What the server can do; connects when there is no connection."""
        self.connection()
        if self._dialect is None:
            raise RuntimeError("a prepared connection has a dialect")
        return self._dialect

    @property
    def encryption(self) -> str:
        """``verify-full``, another sslmode in use, or "" where the connection is not encrypted."""
        pgconn = self.connection().pgconn
        if not pgconn.ssl_in_use:
            return ""
        return next((one.val.decode() for one in pgconn.info if one.keyword == b"sslmode" and one.val), "")

    def connection(self) -> psycopg.Connection[Any]:
        """The open connection; opens and checks one when there is none."""
        if self._conn is None or self._conn.closed:
            self._conn = self._connect()
            try:
                self._prepare(self._conn)
            except BaseException:
                self.close()
                raise
        return self._conn

    def close(self) -> None:
        """Close the connection; a running COPY is abandoned."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def redact(self, text: object) -> str:
        """``text`` on one line and without secrets."""
        return pgconnect.redacted(text, self._secrets)

    def _connect(self) -> psycopg.Connection[Any]:
        target = pgconnect.resolve(self._dsn)
        self._secrets = target.secrets
        self.host, self.port, self.database = ",".join(target.hosts), target.port, target.database
        options = pgconnect.secured(target, insecure=self._insecure)
        try:
            conn = psycopg.connect(
                make_conninfo(self._dsn, **options),
                autocommit=True,
                prepare_threshold=None,
                connect_timeout=max(2, round(self._connect_timeout_s)),
            )
        except psycopg.Error as error:
            # the chain is cut: a driver's message may repeat parts of the dsn
            told = f"cannot reach PostgreSQL at {self.place}: {self.redact(error)}{pgconnect.advice(error)}"
            raise (ConnectionLost if pgconnect.is_lost(error) else SourceError)(told) from None
        info = conn.info
        self.host, self.port, self.database = info.host, str(info.port), info.dbname
        self.server = info.parameter_status("server_version") or "unknown"
        return conn

    def _prepare(self, conn: psycopg.Connection[Any]) -> None:
        try:
            with self._limit(conn, PATIENCE_S):
                settings = self._settings(conn)
                found = pgdialect.probe(conn, self.server, settings)
                self._dialect = replace(found, read_only=found.read_only and self.READ_ONLY)
        except psycopg.Error as error:
            raise self._broke(error, "cannot set up the session") from None
        if self.is_greptimedb:
            return  # knows no read-only session: an account with the right to read only does it there
        for name, fault in settings.items():
            if fault is not None:
                is_read_only = name.endswith("read_only") and self.READ_ONLY
                what = "make the session read-only" if is_read_only else f"take {name}"
                raise SourceError(f"{self.place}: the server did not {what} ({fault}); refusing to go on")

    def _settings(self, conn: psycopg.Connection[Any]) -> dict[str, str | None]:
        """Each setting of a session with what was wrong with it; believed only when SHOW says so on PostgreSQL."""
        timeout_ms = math.ceil(self.statement_timeout_s * 1000)
        read_only = "on" if self.READ_ONLY else "off"
        wanted = {
            "timezone": ("'UTC'", "UTC"),  # else old GreptimeDB, and views that cast, shift times
            "statement_timeout": (str(timeout_ms), str(timeout_ms)),
            "default_transaction_read_only": (read_only, read_only),
        }
        faults = {}
        for name, (value, shown) in wanted.items():
            faults[name] = pgdialect.complaint(conn, f"SET {name} = {value}".encode())
            if faults[name] is None and not self.is_greptimedb:
                row = conn.execute(f"SHOW {name}".encode()).fetchone()
                told = str(row[0]) if row else "nothing"
                if (_ms(told) if name == "statement_timeout" else told) != shown:
                    faults[name] = f"{name} is {told}, not {shown}"
        return faults

    @contextlib.contextmanager
    def _limit(self, conn: psycopg.Connection[Any], limit_s: float) -> Iterator[None]:
        """Silence of ``limit_s`` ends the connection: a server that says nothing must not hold us for ever."""
        silent = threading.Event()

        def hang_up() -> None:
            silent.set()
            with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(conn.pgconn.socket)) as wire:
                wire.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(limit_s, hang_up)
        timer.daemon = True
        timer.start()
        try:
            yield
        except psycopg.Error:
            if silent.is_set():
                self.close()
                raise ConnectionLost(f"{self.place}: no answer for {limit_s:.0f} s: gave up") from None
            raise
        finally:
            timer.cancel()

    def _patience(self) -> float:
        return self.statement_timeout_s + PATIENCE_S if self.statement_timeout_s > 0 else threading.TIMEOUT_MAX

    def probe(self, query: bytes) -> list[tuple[str, int]]:
        """Name and type OID of each column ``query`` (a SELECT ... LIMIT 0) would return; ServerError if refused."""
        conn = self.connection()
        try:
            with self._limit(conn, self._patience()):
                found = conn.execute(query).description or []
        except psycopg.Error as error:
            raise self._server_error(error) from None
        return [(column.name, column.type_code) for column in found]

    def rows(self, query: bytes, *, binary: bool = False) -> list[tuple[Any, ...]]:
        """All rows of a small query; ServerError if refused. ``binary``: by the extended protocol."""
        conn = self.connection()
        try:
            with self._limit(conn, self._patience()):
                return list(conn.execute(query, binary=binary).fetchall())
        except psycopg.Error as error:
            raise self._server_error(error) from None

    def abandon(self) -> None:
        """Cancel what runs, where the server can, and close the connection."""
        conn = self._conn
        if conn is not None and not conn.closed and self._dialect is not None and self._dialect.cancel:
            with contextlib.suppress(psycopg.Error):  # the server then notices the closed connection, only later
                conn.cancel_safe(timeout=_CANCEL_S)
        self.close()

    def _server_error(self, error: psycopg.Error) -> Exception:
        if error.sqlstate is None and isinstance(error, psycopg.DataError):  # psycopg cannot load a value
            return ServerError("22000", self.redact(error))
        if error.sqlstate is None or self._conn is None or self._conn.closed:
            self.close()
            return ConnectionLost(f"{self.place}: the connection broke: {self.redact(error)}")
        return ServerError(error.sqlstate, self.redact(error.diag.message_primary or error))

    def _broke(self, error: psycopg.Error, what: str) -> SourceError:
        told = f"{self.place}: {what}: {self.redact(error)}"
        closed = self._conn is None or self._conn.closed
        return (ConnectionLost if closed or pgconnect.is_lost(error) else SourceError)(told)

    def explain(self, error: ServerError, what: str) -> BmlError:
        """The error to raise for a refusal that is not about a missing table or column."""
        if error.sqlstate == "57014":  # query_canceled; GreptimeDB words its timeout in its own message
            return SourceError(
                f"{what}: stopped by the server ({error}); {self.TIMEOUT[0]} is {self.statement_timeout_s:g}: "
                f"{self.TIMEOUT[1]}"
            )
        if pgconnect.is_lost_state(error.sqlstate):
            return ConnectionLost(f"{what}: the server ended the connection ({error})")
        if 'first received character was "f"' in str(error):  # a CopyFail: libpq drops the words that follow it
            return SourceError(f"{what}: the server gave up in the middle of the stream: its own log says why")
        if error.sqlstate == "42501":
            return SourceError(f"{what}: permission denied ({error}): the account needs SELECT on it")
        if error.sqlstate[:2] in {"22", "23", "42"}:
            return DataError(f"{what}: {error} (SQLSTATE {error.sqlstate})")
        return SourceError(f"{what}: {error} (SQLSTATE {error.sqlstate or 'unknown'})")


def _ms(shown: str) -> str:
    """``10min`` as SHOW writes a duration -> ``600000``; other text as it is."""
    match = re.fullmatch(r"(\d+)\s*(ms|s|min|h|d|)", shown)
    return str(int(match[1]) * _UNIT_MS[match[2]]) if match else shown
