"""How rows come out of a session: one COPY at a time, straight into a compiled decoder."""

from __future__ import annotations

import ctypes
import functools
import re
import select
import time

import psycopg
from psycopg import pq
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from bml.sources._copy_rows import CopyRows
from bml.sources.pgsession import ServerError, Session
from bml.types import ConnectionLost, SourceError

_BLOCK_ROWS = 4096  # rows psycopg's wrapper hands over one by one are decoded together
_PATIENCE_S = 30.0  # silence allowed beyond the statement timeout before the client gives up


class Transport:
    """One stream at a time out of a session; reconnects with it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.libpq = _libpq()

    def copy(self, query: bytes, decoder: CopyRows) -> int | None:
        """Run a COPY ... TO STDOUT into ``decoder``; returns the server's row count, if it told one.

        The decoder takes its bytes straight from the libpq that psycopg loaded; where that one cannot be told
        (several are loaded), psycopg's wrapper hands over each row: same result, about five times the CPU. When
        anything goes wrong the query is cancelled and the connection closed.
        """
        pgconn = self.session.connection().pgconn
        try:
            return self._copy(pgconn, query, decoder)
        except psycopg.Error as error:
            self.session.abandon()
            raise ConnectionLost(f"{self.session.place}: the connection broke: {self.session.redact(error)}") from None
        except BaseException:
            self.session.abandon()
            raise

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
            raise ConnectionLost(
                f"{self.session.place}: the stream broke: {self.session.redact(pgconn.get_error_message())}"
            )

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
        limit = self.session.statement_timeout_s + _PATIENCE_S if self.session.statement_timeout_s > 0 else None
        start = time.monotonic()
        ready = poll.poll(None if limit is None else limit * 1000)
        if not ready:
            waited = time.monotonic() - start
            raise ConnectionLost(
                f"{self.session.place}: no answer for {waited:.0f} s, past the statement timeout: gave up"
            )
        if ready[0][1] & ~select.POLLOUT:
            pgconn.consume_input()

    def _refused(self, result: PGresult | None) -> Exception:
        if result is None:
            return SourceError(f"{self.session.place}: the server answered COPY with nothing")
        state = (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()
        message = (result.error_field(DiagnosticField.MESSAGE_PRIMARY) or result.error_message).decode(
            "utf-8", "replace"
        )
        if not message:
            return SourceError(f"{self.session.place}: the server answered COPY with {ExecStatus(result.status).name}")
        return ServerError(state, self.session.redact(message))


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
