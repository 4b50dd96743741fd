"""How rows come out of a session and into a compiled decoder: three ways, of which the server decides.

copy      COPY (SELECT ...) TO STDOUT (FORMAT BINARY), its bytes taken from libpq without the GIL
chunked   a binary SELECT an hour, some rows a result: for servers that do not copy out
portable  that COPY through psycopg's own wrapper, where libpq cannot be reached from outside: ten times the CPU

The same decoder takes all three, so the rows are the same to the bit.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import Literal, NoReturn

import psycopg
from psycopg import pq
from psycopg.pq import DiagnosticField, ExecStatus, Format
from psycopg.pq.abc import PGconn, PGresult

from bml.sources._copy_rows import BROKEN, ENDED, ENTRY_POINTS, READY, SILENT, Decoder, wait_result
from bml.sources.pgsession import ServerError, Session
from bml.types import NS_PER_S, ConnectionLost, SourceError

Way = Literal["copy", "chunked", "portable"]
#: the text of the SELECT over [start_ns, stop_ns)
Select = Callable[[int, int], str]

_BLOCK_ROWS = 4096  # rows psycopg's wrapper hands over one by one are decoded together
_PATIENCE_S = 30.0  # silence allowed beyond the statement timeout before the client gives up
_CHUNK_ROWS = 1024  # a result of so many stays in the cache
_WINDOW_NS = 3600 * NS_PER_S  # a server may hold all rows of one SELECT in its memory
_WAKE_BYTES = 1 << 18  # a wake-up for every few KB would cost a third of our time and some of the server's
_LOOK_UP_MS = 200  # how long compiled code may wait before Python looks at signals and the clock


class Transport:
    """One stream at a time out of a session; reconnects with it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.libpq = _libpq()
        #: the way the last connection took; "" before the first
        self.taken: Way | Literal[""] = ""

    def connect(self) -> None:
        """Connect, and settle the way rows will come."""
        self.taken = self.way

    @property
    def way(self) -> Way:
        """How rows come; asks the server what it can, so it connects.

        Raises SourceError for a server without COPY where libpq cannot be reached either.
        """
        dialect = self.session.dialect
        if dialect.copy_binary:
            return "copy" if self.libpq is not None else "portable"
        if not dialect.chunked:
            raise SourceError(f"{self.session.place}: no way to read rows: {'; '.join(dialect.notes)}")
        if self.libpq is None:
            raise SourceError(
                f"{self.session.place}: {self.session.server} has no binary COPY, and psycopg's libpq is not to be "
                "found here: upgrade the server to GreptimeDB 1.0 or later, or install psycopg[binary]"
            )
        return "chunked"

    def fetch(self, query: Select, start_ns: int, stop_ns: int, decoder: Decoder) -> int | None:
        """The rows of [start_ns, stop_ns) into ``decoder``; the server's own count of them, if it told one.

        When anything goes wrong the query is cancelled and the connection closed. Raises ServerError for a refusal,
        ConnectionLost when the connection breaks or stays silent, and what the decoder raises.
        """
        self.connect()
        if self.taken != "chunked":
            return self.copy(f"COPY ({query(start_ns, stop_ns)}) TO STDOUT (FORMAT BINARY)".encode(), decoder)
        starts = range(start_ns, stop_ns, _WINDOW_NS)
        counts = [self.chunks(query(at, min(at + _WINDOW_NS, stop_ns)).encode(), decoder) for at in starts]
        decoder.close()
        return None if None in counts else sum(count or 0 for count in counts)

    def copy(self, query: bytes, decoder: Decoder) -> int | None:
        """Run a COPY ... TO STDOUT into ``decoder``; returns the server's row count, if it told one."""
        return self._guarded(self._copy, query, decoder)

    def chunks(self, query: bytes, decoder: Decoder) -> int | None:
        """Run a SELECT into ``decoder``, some rows at a time; returns the server's row count, if it told one."""
        return self._guarded(self._chunks, query, decoder)

    def _guarded(
        self, run: Callable[[PGconn, bytes, Decoder], int | None], query: bytes, decoder: Decoder
    ) -> int | None:
        pgconn = self.session.connection().pgconn
        try:
            return run(pgconn, query, decoder)
        except psycopg.Error as error:
            self.session.abandon()
            raise ConnectionLost(f"{self.session.place}: the connection broke: {self.session.redact(error)}") from None
        except BaseException:
            self.session.abandon()
            raise

    def _copy(self, pgconn: PGconn, query: bytes, decoder: Decoder) -> int | None:
        pgconn.send_query(query)
        self._flush(pgconn)
        result = self._result(pgconn)
        if result is None or result.status != ExecStatus.COPY_OUT:
            raise self._refused(result)
        if self.libpq is None:
            self._receive_blocks(pgconn, decoder)
        else:
            self._receive(pgconn, decoder, self.libpq)
        rows: int | None = None
        while (result := self._result(pgconn)) is not None:
            if result.status != ExecStatus.COMMAND_OK:
                raise self._refused(result)
            rows = result.command_tuples
        return rows

    def _receive(self, pgconn: PGconn, decoder: Decoder, libpq: tuple[int, ...]) -> None:
        silence, address = _Silence(self.session), _address(pgconn, "pgconn_ptr")
        with _woken_for(pgconn.socket, _WAKE_BYTES):
            while True:
                how, came = decoder.drain(address, libpq, pgconn.socket, _LOOK_UP_MS)
                if how == ENDED:
                    return
                if how == BROKEN:
                    self._broke(pgconn)
                silence.heard(came)

    def _receive_blocks(self, pgconn: PGconn, decoder: Decoder) -> None:
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

    def _chunks(self, pgconn: PGconn, query: bytes, decoder: Decoder) -> int | None:
        if self.libpq is None:
            raise SourceError(f"{self.session.place}: psycopg's libpq is not to be found: rows cannot come in chunks")
        pgconn.send_query_params(query, None, result_format=Format.BINARY)
        if pq.version() >= 170000:
            pgconn.set_chunked_rows_mode(_CHUNK_ROWS)
        else:
            pgconn.set_single_row_mode()
        self._flush(pgconn)
        with _woken_for(pgconn.socket, _WAKE_BYTES):
            return self._take_results(pgconn, decoder, self.libpq)

    def _take_results(self, pgconn: PGconn, decoder: Decoder, libpq: tuple[int, ...]) -> int | None:
        rows: int | None = None
        while (result := self._result(pgconn)) is not None:
            if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.TUPLES_CHUNK, ExecStatus.SINGLE_TUPLE):
                raise self._refused(result)
            decoder.take(_address(result, "pgresult_ptr"), libpq)
            if result.status == ExecStatus.TUPLES_OK:
                rows = result.command_tuples
        return rows

    def _flush(self, pgconn: PGconn) -> None:
        while pgconn.flush() == 1:
            self._wait(pgconn, select.POLLIN | select.POLLOUT)

    def _result(self, pgconn: PGconn) -> PGresult | None:
        if self.libpq is None:
            while pgconn.is_busy():
                self._wait(pgconn, select.POLLIN)
            return pgconn.get_result()
        silence = _Silence(self.session)
        address = _address(pgconn, "pgconn_ptr")
        while (how := wait_result(address, self.libpq, pgconn.socket, _LOOK_UP_MS)) != READY:
            if how == BROKEN:
                self._broke(pgconn)
            silence.heard(how != SILENT)
        return pgconn.get_result()

    def _wait(self, pgconn: PGconn, events: int) -> None:
        """Until the socket is ready; libpq then takes in what there is. Ctrl-C works here."""
        poll = select.poll()
        poll.register(pgconn.socket, events)
        silence = _Silence(self.session)
        while not (ready := poll.poll(_LOOK_UP_MS)):
            silence.heard(False)
        if ready[0][1] & ~select.POLLOUT:
            pgconn.consume_input()

    def _broke(self, pgconn: PGconn) -> NoReturn:
        message = self.session.redact(pgconn.get_error_message())
        raise ConnectionLost(f"{self.session.place}: the connection broke: {message}")

    def _refused(self, result: PGresult | None) -> Exception:
        where = self.session.place
        if result is None:
            return SourceError(f"{where}: the server answered with nothing")
        state = (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()
        message = (result.error_field(DiagnosticField.MESSAGE_PRIMARY) or result.error_message).decode(
            "utf-8", "replace"
        )
        if not message:
            return SourceError(f"{where}: the server answered with {ExecStatus(result.status).name}, which has no rows")
        return ServerError(state, self.session.redact(message))


class _Silence:
    """How long a server has said nothing; ConnectionLost when that is longer than it may take for any statement."""

    def __init__(self, session: Session) -> None:
        self._session = session
        limit_s = session.statement_timeout_s
        self._limit_s = limit_s + _PATIENCE_S if limit_s > 0 else float("inf")
        self._since = time.monotonic()

    def heard(self, anything: bool) -> None:
        now = time.monotonic()
        if anything:
            self._since = now
        elif now - self._since > self._limit_s:
            raise ConnectionLost(
                f"{self._session.place}: no answer for {now - self._since:.0f} s, past the statement timeout: gave up"
            )


@contextlib.contextmanager
def _woken_for(fd: int, n_bytes: int) -> Iterator[None]:
    """A TCP socket calls itself readable from so many bytes on: each wake-up costs the server's process, too."""
    with socket.socket(fileno=os.dup(fd)) as stream:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, n_bytes)
        try:
            yield
        finally:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


def _address(wrapper: PGconn | PGresult, name: str) -> int:
    """Where libpq's own object is."""
    address: int | None = getattr(wrapper, name)
    if address is None:
        raise SourceError("the connection is closed")
    return address


@functools.cache
def _libpq() -> tuple[int, ...] | None:
    """Addresses of ENTRY_POINTS in the libpq psycopg uses; None when that one cannot be told for sure.

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
    addresses = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in ENTRY_POINTS]
    return None if None in addresses else tuple(address or 0 for address in addresses)
