"""A read-only session with PostgreSQL (or GreptimeDB's PostgreSQL endpoint) and one COPY at a time out of it.

No message, attribute or repr holds the dsn or the password.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import re
import select
import time
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from bml import __version__
from bml.sources._copy_rows import CopyRows
from bml.types import BmlError, ConfigError, ConnectionLost, DataError, SourceError

_BLOCK_ROWS = 4096  # rows psycopg's wrapper hands over one by one are decoded together
_CANCEL_S = 3.0
_PATIENCE_S = 30.0  # silence allowed beyond the statement timeout before the client gives up


class ServerError(Exception):
    """What the server refused: its SQLSTATE and message."""

    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class Session:
    """Autocommit, read-only where the server knows how, reconnects when it was closed."""

    def __init__(self, dsn: str, *, statement_timeout_s: float, connect_timeout_s: float) -> None:
        try:
            parts = conninfo_to_dict(dsn)
        except psycopg.Error:
            raise ConfigError(
                "dsn: not a PostgreSQL connection string (its text is not shown); "
                "expected e.g. postgresql://user:password@host:5432/database"
            ) from None
        self._dsn = dsn
        self._secrets = tuple(str(parts[key]) for key in ("password", "sslpassword") if parts.get(key))
        self._statement_timeout_s = statement_timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._conn: psycopg.Connection[Any] | None = None
        self.host = str(parts.get("host") or parts.get("hostaddr") or "")
        self.port = str(parts.get("port") or "")
        self.database = str(parts.get("dbname") or "")
        self.server = ""
        self.libpq = _libpq()

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
        line = " ".join(str(text).split())
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return line

    def _connect(self) -> psycopg.Connection[Any]:
        try:
            conn = psycopg.connect(
                self._dsn,
                autocommit=True,
                prepare_threshold=None,
                connect_timeout=max(2, round(self._connect_timeout_s)),
                application_name=f"bml/{__version__}",
                client_encoding="UTF8",
            )
        except psycopg.Error as error:
            # the chain is cut: a driver's message may repeat parts of the dsn
            raise ConnectionLost(f"cannot reach PostgreSQL at {self.place}: {self.redact(error)}") from None
        info = conn.info
        self.host, self.port, self.database = info.host, str(info.port), info.dbname
        self.server = info.parameter_status("server_version") or "unknown"
        return conn

    def _prepare(self, conn: psycopg.Connection[Any]) -> None:
        try:
            conn.execute(f"SET statement_timeout = {round(self._statement_timeout_s * 1000)}".encode())
            if self.is_greptimedb:
                return  # it accepts any SET and does nothing: use an account with the right to read only
            conn.execute(b"SET default_transaction_read_only = on")
            row = conn.execute(b"SHOW default_transaction_read_only").fetchone()
        except psycopg.Error as error:
            kind = ConnectionLost if conn.closed else SourceError
            raise kind(f"{self.place}: cannot set up the session: {self.redact(error)}") from None
        if row is None or row[0] != "on":
            raise SourceError(f"{self.place}: the server did not make the session read-only; refusing to go on")

    def probe(self, query: bytes) -> list[tuple[str, int]]:
        """Name and type OID of each column ``query`` (a SELECT ... LIMIT 0) would return; ServerError if refused."""
        try:
            found = self.connection().execute(query).description or []
        except psycopg.Error as error:
            raise self._server_error(error) from None
        return [(column.name, column.type_code) for column in found]

    def rows(self, query: bytes) -> list[tuple[Any, ...]]:
        """All rows of a small query; ServerError if refused."""
        try:
            return list(self.connection().execute(query).fetchall())
        except psycopg.Error as error:
            raise self._server_error(error) from None

    def copy(self, query: bytes, decoder: CopyRows) -> int | None:
        """Run a COPY ... TO STDOUT into ``decoder``; returns the server's row count, if it told one.

        The decoder takes its bytes straight from the libpq that psycopg loaded; where that one cannot be told
        (several are loaded), psycopg's wrapper hands over each row: same result, about five times the CPU. When
        anything goes wrong the query is cancelled and the connection closed.
        """
        pgconn = self.connection().pgconn
        try:
            return self._copy(pgconn, query, decoder)
        except psycopg.Error as error:
            self._abandon()
            raise ConnectionLost(f"{self.place}: the connection broke: {self.redact(error)}") from None
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        conn = self._conn
        if conn is not None and not conn.closed and not self.is_greptimedb:  # which has no cancel
            with contextlib.suppress(psycopg.Error):  # the server then notices the closed connection, only later
                conn.cancel_safe(timeout=_CANCEL_S)
        self.close()

    def _copy(self, pgconn: PGconn, query: bytes, decoder: CopyRows) -> int | None:
        pgconn.send_query(query)
        while pgconn.flush() == 1:
            self._wait(pgconn, select.POLLIN | select.POLLOUT)
        result = self._result(pgconn)
        if result is None or result.status != ExecStatus.COPY_OUT:
            raise self._refused(result)
        self._receive(pgconn, decoder)
        rows: int | None = None
        while (result := self._result(pgconn)) is not None:
            if result.status != ExecStatus.COMMAND_OK:
                raise self._refused(result)
            rows = result.command_tuples
        return rows

    def _receive(self, pgconn: PGconn, decoder: CopyRows) -> None:
        address: int | None = getattr(pgconn, "pgconn_ptr", None)
        if self.libpq is None or address is None:
            self._receive_blocks(pgconn, decoder)
            return
        while (code := decoder.drain(address, *self.libpq)) == 0:
            self._wait(pgconn, select.POLLIN)
        if code != -1:
            raise ConnectionLost(f"{self.place}: the stream broke: {self.redact(pgconn.get_error_message())}")

    def _receive_blocks(self, pgconn: PGconn, decoder: CopyRows) -> None:
        blocks: list[bytes | memoryview] = []
        while True:
            size, block = pgconn.get_copy_data(1)
            if size > 0 and block is not None:
                blocks.append(block)
                if len(blocks) == _BLOCK_ROWS:
                    decoder.feed(b"".join(blocks))
                    blocks.clear()
            elif size == 0:
                self._wait(pgconn, select.POLLIN)
            else:
                break
        decoder.feed(b"".join(blocks))

    def _result(self, pgconn: PGconn) -> PGresult | None:
        while pgconn.is_busy():
            self._wait(pgconn, select.POLLIN)
        return pgconn.get_result()

    def _wait(self, pgconn: PGconn, events: int) -> None:
        """Until the socket is ready; libpq then takes in what there is. Ctrl-C works here."""
        poll = select.poll()
        poll.register(pgconn.socket, events)
        limit = self._statement_timeout_s + _PATIENCE_S if self._statement_timeout_s > 0 else None
        start = time.monotonic()
        ready = poll.poll(None if limit is None else limit * 1000)
        if not ready:
            waited = time.monotonic() - start
            raise SourceError(f"{self.place}: no answer for {waited:.0f} s, past the statement timeout: gave up")
        if ready[0][1] & ~select.POLLOUT:
            pgconn.consume_input()

    def _refused(self, result: PGresult | None) -> Exception:
        if result is None:
            return SourceError(f"{self.place}: the server answered COPY with nothing")
        state = (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()
        message = (result.error_field(DiagnosticField.MESSAGE_PRIMARY) or result.error_message).decode(
            "utf-8", "replace"
        )
        if not message:
            return SourceError(f"{self.place}: the server answered COPY with {ExecStatus(result.status).name}")
        return ServerError(state, self.redact(message))

    def _server_error(self, error: psycopg.Error) -> Exception:
        if error.sqlstate is None or self._conn is None or self._conn.closed:
            self.close()
            return ConnectionLost(f"{self.place}: the connection broke: {self.redact(error)}")
        return ServerError(error.sqlstate, self.redact(error.diag.message_primary or error))

    def explain(self, error: ServerError, what: str) -> BmlError:
        """The error to raise for a refusal that is not about a missing table or column."""
        if error.sqlstate in ("57P01", "57P02", "57P03") or error.sqlstate[:2] == "08":
            return ConnectionLost(f"{what}: the server ended the connection ({error})")
        if error.sqlstate == "57014":  # query_canceled; GreptimeDB words its timeout in its own message
            return SourceError(
                f"{what}: stopped by the server ({error}); "
                f"statement_timeout_s is {self._statement_timeout_s:g}: raise it, or read fewer levels"
            )
        if error.sqlstate == "42501":
            return SourceError(f"{what}: permission denied ({error}): the account needs SELECT on it")
        if error.sqlstate[:2] in {"22", "42"}:
            return DataError(f"{what}: {error} (SQLSTATE {error.sqlstate})")
        return SourceError(f"{what}: {error} (SQLSTATE {error.sqlstate or 'unknown'})")


@functools.cache
def _libpq() -> tuple[int, int] | None:
    """Addresses of PQgetCopyData and PQfreemem in the libpq psycopg uses; None when that cannot be told for sure.

    A PGconn may only be given to the library that made it: there must be exactly one loaded, of psycopg's version.
    """
    try:
        with open("/proc/self/maps", encoding="utf-8") as maps:
            paths = set(re.findall(r"(/\S*/libpq[-.][^/\s]*)$", maps.read(), flags=re.MULTILINE))
    except OSError:
        return None
    if len(paths) != 1:
        return None
    library = ctypes.CDLL(paths.pop())
    if library.PQlibVersion() != pq.version():
        return None
    addresses = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in ("PQgetCopyData", "PQfreemem")]
    return None if None in addresses else (addresses[0] or 0, addresses[1] or 0)
