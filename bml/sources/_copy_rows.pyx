"""Binary rows of PostgreSQL into typed columns, or straight into a book.

The parser, the book and the way through libpq are C++ (csrc/include/bml/pg_*.hpp, book_sink.hpp); here they are
given names, memory and words.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memcpy
from libcpp cimport bool as cbool
from libcpp.utility cimport pair
from libcpp.vector cimport vector

import datetime as dt

import numpy as np

from bml.types import DataError, SourceError

TARGETS = {"time": 0, "level": 1, "side": 2, "number": 3, "count": 4}
WIRES = {"int2": 0, "int4": 1, "int8": 2, "float4": 3, "float8": 4, "timestamp": 5, "bool": 6, "text": 7}
KEEP = {"error": 0, "first": 1, "last": 2}
#: libpq's entry points a decoder calls, in the order of ``Libpq``
ENTRY_POINTS = ("PQgetCopyData", "PQfreemem", "PQconsumeInput", "PQisBusy", "PQntuples", "PQnfields", "PQgetvalue",
                "PQgetlength", "PQgetisnull")
READY, SILENT, BUSY, BROKEN, ENDED = range(5)  # what a wait came to: Waited of pg_libpq.hpp
_INTS = {"int2", "int4", "int8"}
_ALLOWED = {"time": {"int4", "int8", "timestamp"}, "level": _INTS, "side": _INTS | {"bool", "text"},
            "number": _INTS | {"float4", "float8"}, "count": _INTS | {"timestamp"}}
_DTYPES = {"time": np.int64, "level": np.int32, "side": np.int8, "number": np.float64, "count": np.int64}
_MAX_FIELDS = 16
_MAX_TEXT = 63


cdef extern from "bml/pg_wire.hpp" namespace "bml::pg" nogil:
    cdef enum class Target(int32_t):
        time
    cdef enum class Wire(int32_t):
        text
    cdef enum class Code(int32_t):
        more, full, bad_signature, bad_flags, bad_extension, bad_count, bad_length, after_end, null_field, bad_time
        bad_level, bad_side, too_many, conflict, no_room
    cdef struct Field:
        int32_t width
    cdef struct Row:
        int64_t ts
        int32_t level
        signed char side
    cdef cppclass Out:
        pass

cdef extern from "bml/pg_layout.hpp" namespace "bml::pg" nogil:
    cdef struct Fault:
        int field
        int64_t value
        int text_size
        char text[64]
    cdef cppclass Layout:
        Field field[16]
        int64_t ns_per_unit, first_level, bid, ask
        int bid_size, ask_size
        char bid_text[63]
        char ask_text[63]
        void add(Target, Wire)

cdef extern from "bml/pg_stream.hpp" namespace "bml::pg" nogil:
    cdef enum class State(int32_t):
        start, rows, end
    cdef cppclass CopyStream:
        CopyStream()
        CopyStream(const Layout&, Out*)
        Layout layout
        Fault fault
        Row row
        int64_t n_rows
        State state
        Code decode(const uint8_t*, size_t, size_t&) except +

cdef extern from "bml/pg_columns.hpp" namespace "bml::pg" nogil:
    cdef cppclass Columns(Out):
        Columns(const Layout&)
        void* column[16]
        int64_t capacity

cdef extern from "bml/pg_libpq.hpp" namespace "bml::pg" nogil:
    cdef cppclass Libpq:
        void free_memory(void*)
    Libpq libpq_at(const size_t*)
    cdef enum class Waited(int32_t):
        message
    cdef cppclass Connection:
        const Libpq* pq
        void* conn
        int socket
        int wait_ms
        Waited result_ready()
        Waited drain(CopyStream&, char*&, size_t&, size_t&, cbool, cbool&) except +
    Code take_result(const Libpq&, const void*, CopyStream&, int&) except +

cdef extern from "bml/growing.hpp" namespace "bml" nogil:
    cdef cppclass Growing:
        pair[void*, size_t] release()
        @staticmethod
        void free(void*, size_t)

cdef extern from "bml/book_room.hpp" namespace "bml" nogil:
    cdef struct SlotCount:
        int32_t n_rows
    cdef cppclass BookRoom:
        Growing book
        vector[SlotCount] count
        vector[int64_t] ts
        size_t size()

cdef extern from "bml/book_sink.hpp" namespace "bml" nogil:
    cdef enum class Keep(int32_t):
        refuse
    cdef cppclass BookSink(Out):
        BookSink(int64_t, int, Keep, cbool, int64_t, size_t) except +
        BookRoom room
        int64_t n_duplicate, n_conflict
        Row first_void, refused
        Code finish() except +


cdef Libpq _libpq(addresses):
    cdef size_t address[9]
    for i, value in enumerate(addresses):
        address[i] = value
    return libpq_at(address)


def wait_result(size_t pgconn, libpq, int socket, int wait_ms):
    """Until PQgetResult of the PGconn does not block: READY, else as ``drain``."""
    cdef Libpq entry = _libpq(libpq)
    cdef Connection conn
    cdef Waited how
    conn.pq, conn.conn, conn.socket, conn.wait_ms = &entry, <void*>pgconn, socket, wait_ms
    with nogil:
        how = conn.result_ready()
    return <int32_t>how


cdef class Decoder:
    """What decoders share: a stream of rows into an output. Not for several threads.

    Bytes of a COPY come by ``feed`` or ``drain``, binary results by ``take``. ``where`` opens every message.
    Raises SourceError where the stream is broken, DataError where a row is or there are more than ``max_rows``.
    """

    cdef CopyStream stream
    cdef int64_t max_rows
    cdef bytes tail
    cdef list names, targets
    cdef str where
    cdef Layout layout

    def _lay_out(self, fields, where, ns_per_unit, first_level, bid, ask, max_rows):
        if not 1 <= len(fields) <= _MAX_FIELDS:
            raise ValueError(f"1 to {_MAX_FIELDS} fields are needed, not {len(fields)}")
        for i, (name, target, wire) in enumerate(fields):
            if wire not in _ALLOWED[target] or (i == 0) != (target == "time"):
                raise ValueError(f"field {i} ({name}): a {target} cannot be {wire} here")
            if target == "side" and (wire == "text") != isinstance(bid, bytes):
                raise ValueError("a text side needs bytes as bid and ask, another side integers")
            self.layout.add(<Target><int32_t>TARGETS[target], <Wire><int32_t>WIRES[wire])
        if isinstance(bid, bytes):
            if max(len(bid), len(ask)) > _MAX_TEXT:
                raise ValueError(f"a side is at most {_MAX_TEXT} bytes long")
            self.layout.bid_size, self.layout.ask_size = len(bid), len(ask)
            memcpy(self.layout.bid_text, <const char*>bid, len(bid))
            memcpy(self.layout.ask_text, <const char*>ask, len(ask))
        else:
            self.layout.bid, self.layout.ask = bid, ask
        self.layout.ns_per_unit, self.layout.first_level = ns_per_unit, first_level
        self.names = [name for name, _, _ in fields]
        self.targets = [target for _, target, _ in fields]
        self.where, self.tail, self.max_rows = where, b"", max_rows

    @property
    def n_rows(self):
        """Rows decoded so far."""
        return self.stream.n_rows

    def feed(self, data):
        """Decode ``data`` (bytes); what is left of an incomplete row waits for the next call."""
        cdef bytes block = self.tail + data if self.tail else bytes(data)
        cdef const uint8_t* p = block
        cdef size_t size = len(block), pos = 0, used = 0
        cdef Code code = Code.full
        while code == Code.full:
            with nogil:
                code = self.stream.decode(p + pos, size - pos, used)
            pos += used
            if code == Code.full:
                self._grow()
        if code != Code.more:
            self._refuse(code)
        self.tail = block[pos:]

    def drain(self, size_t pgconn, libpq, int socket, int wait_ms):
        """Decode what a running COPY brings, without Python objects or the GIL, until READY is not what a wait is.

        Takes the address of the PGconn and those of ENTRY_POINTS. Returns (how, any): SILENT after ``wait_ms``
        without a byte or at a signal, BUSY now and then so that signals are seen, ENDED, or BROKEN (libpq says
        what); and whether anything came.
        """
        cdef Libpq entry = _libpq(libpq)
        cdef Connection conn
        cdef char* message = NULL
        cdef size_t size = 0, used = 0
        cdef Waited how
        cdef cbool some = False
        cdef cbool any_came = False, split = False
        conn.pq, conn.conn, conn.socket, conn.wait_ms = &entry, <void*>pgconn, socket, wait_ms
        while True:
            split = len(self.tail) > 0
            with nogil:
                how = conn.drain(self.stream, message, size, used, split, some)
            any_came = any_came or some
            if how != Waited.message:
                return <int32_t>how, any_came
            try:  # half a row, a row there is no room for, or an error: feed deals with them
                self.feed((<char*>message)[used:size])
            finally:
                entry.free_memory(message)

    def take(self, size_t result, libpq):
        """Decode the rows of a binary result, given as the address of a PGresult."""
        cdef Libpq entry = _libpq(libpq)
        cdef int row = 0
        cdef Code code = Code.full
        while code == Code.full:
            with nogil:
                code = take_result(entry, <void*>result, self.stream, row)
            if code == Code.full:
                self._grow()
        if code != Code.more:
            self._refuse(code)

    def close(self):
        """All results are taken: there is no end mark to wait for."""
        self.stream.state = State.end

    def _check_end(self, expected):
        """SourceError when the trailer never came or the server counted ``expected`` rows."""
        rows = self.stream.n_rows
        if self.stream.state != State.end:
            raise SourceError(f"{self.where}: the stream broke off after {rows} rows (no end mark): read again")
        if expected is not None and expected != rows:
            raise SourceError(f"{self.where}: the server sent {expected} rows, {rows} arrived: read again")

    def _grow(self):
        raise NotImplementedError

    def _too_many(self):
        raise DataError(f"{self.where}: more than max_rows = {self.max_rows} rows: read a shorter time or fewer levels, "
                        "or raise max_rows")

    def _refuse(self, Code code):
        """Raise the error for ``code``."""
        fault = self.stream.fault
        row = f"row {self.stream.n_rows + 1} of the stream"
        if code == Code.too_many:
            self._too_many()
        if code == Code.bad_signature:
            raise SourceError(f"{self.where}: this is not a binary COPY stream (wrong signature)")
        if code == Code.bad_flags or code == Code.bad_extension:
            raise SourceError(f"{self.where}: the binary COPY header has flags or an extension unknown here")
        if code == Code.bad_count:
            raise SourceError(f"{self.where}: {row} has {fault.value} fields instead of {len(self.names)}")
        if code == Code.after_end:
            raise SourceError(f"{self.where}: bytes follow the end mark of the stream")
        name = self.names[fault.field]
        if code == Code.bad_length:
            width = self.stream.layout.field[fault.field].width
            raise SourceError(f"{self.where}: {row}: field {name} has {fault.value} bytes instead of "
                              f"{width or f'at most {_MAX_TEXT}'}")
        if code == Code.bad_time:
            raise DataError(f"{self.where}: {row}: {name} is infinite or too far from 1970 for nanoseconds "
                            f"({fault.value})")
        if fault.field > 0:
            row = f"a row of {_iso(self.stream.row.ts)}"
        if code == Code.null_field:
            raise DataError(f"{self.where}: {row}: {name} is NULL")
        if code == Code.bad_level:
            raise DataError(f"{self.where}: {row}: {name} is {fault.value}, but levels count from "
                            f"{self.layout.first_level} (first_level)")
        if fault.text_size >= 0:
            value = repr((<bytes>fault.text[:fault.text_size]).decode("utf-8", "replace"))
        else:
            value = str(fault.value)
        raise DataError(f"{self.where}: {row}: {name} is {value}, neither the bid nor the ask of side_values")


cdef class CopyRows(Decoder):
    """Rows as columns.

    fields: (name, target, wire) in the order of the SELECT list, the first a "time"; names of TARGETS, WIRES.
    NULL becomes NaN in a number and -1 in a count, and is refused elsewhere. ``ns_per_unit`` scales integer
    times, ``first_level`` is the number of the best level (becomes 1), ``bid`` and ``ask`` are what a side
    field holds: bytes when its wire is text, integers otherwise.
    """

    cdef Columns* columns
    cdef list arrays
    cdef int64_t capacity

    def __cinit__(self, fields, *, where="", ns_per_unit=1, first_level=1, bid=b"bid", ask=b"ask",
                  max_rows=200_000_000, reserve=4096):
        self._lay_out(fields, where, ns_per_unit, first_level, bid, ask, max_rows)
        self.columns = new Columns(self.layout)
        self.stream = CopyStream(self.layout, self.columns)
        self.capacity = min(max(1, reserve), max(1, max_rows))
        self.arrays = [np.empty(self.capacity, dtype=_DTYPES[target]) for target in self.targets]
        self._point()

    def __dealloc__(self):
        del self.columns

    def finish(self, expected=None):
        """Columns by name; SourceError when the trailer never came or the server counted ``expected`` rows."""
        self._check_end(expected)
        columns = {}
        for name, array in zip(self.names, self.arrays, strict=True):
            array.resize(self.stream.n_rows, refcheck=False)
            columns[name] = array
        self.arrays, self.capacity = [], 0
        self.columns.capacity = 0
        return columns

    def _point(self):
        for i, array in enumerate(self.arrays):
            self.columns.column[i] = <void*><size_t>array.ctypes.data
        self.columns.capacity = self.capacity

    def _grow(self):
        if self.stream.n_rows >= self.max_rows:
            self._too_many()
        self.capacity = min(self.capacity * 2, self.max_rows)
        for array in self.arrays:
            array.resize(self.capacity, refcheck=False)  # nobody else has seen these arrays
        self._point()


cdef class _Memory:
    """Memory of a book, as a buffer of bytes; freed with the last array that shows it."""

    cdef void* at
    cdef size_t size
    cdef Py_ssize_t shape[1]
    cdef Py_ssize_t strides[1]

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        self.shape[0], self.strides[0] = self.size, 1
        buffer.buf, buffer.obj, buffer.len, buffer.readonly = self.at, self, self.size, 0
        buffer.itemsize, buffer.ndim, buffer.format = 1, 1, b"B"
        buffer.shape, buffer.strides, buffer.suboffsets, buffer.internal = self.shape, self.strides, <Py_ssize_t*>NULL, NULL

    def __releasebuffer__(self, Py_buffer* buffer):
        pass

    def __dealloc__(self):
        Growing.free(self.at, self.size)


cdef class CopyBook(Decoder):
    """Rows straight into the book (T, levels, 4) float64: no columns in between, so the book is all the memory.

    fields as of :class:`CopyRows`: a time, a level, [a side,] four numbers (two with a side) = bid_px, bid_qty,
    ask_px, ask_qty (px, qty), and then, if any, one count, the batch. ``duplicates`` as in kernels.tall_to_wide:
    rows of one cell and batch with different values are refused ("error") or kept by the order of arrival.
    ``max_bytes``: a larger book is refused before it is made.
    """

    cdef BookSink* sink
    cdef int64_t levels
    cdef bint sided

    def __cinit__(self, fields, *, levels, duplicates="error", where="", ns_per_unit=1, first_level=1, bid=b"bid",
                  ask=b"ask", max_rows=200_000_000, max_bytes=2**63):
        targets = [target for _, target, _ in fields]
        self.sided = "side" in targets
        wanted = ["level", "side", "number", "number"] if self.sided else ["level"] + 4 * ["number"]
        if sorted(targets[1:]) not in (sorted(wanted), sorted([*wanted, "count"])):
            raise ValueError("a book needs a time, a level, and the numbers of both sides or a side and two numbers")
        if not 1 <= levels < 2**24:
            raise ValueError(f"levels: {levels} is not between 1 and {2**24 - 1}")
        self.levels = levels
        self._lay_out(fields, where, ns_per_unit, first_level, bid, ask, max_rows)
        self.sink = new BookSink(levels, 2 if self.sided else 4, <Keep><int32_t>KEEP[duplicates],
                                 "count" in targets, max_rows, max_bytes)
        self.stream = CopyStream(self.layout, self.sink)

    def __dealloc__(self):
        del self.sink

    def finish(self, expected=None):
        """(ts_ns_T, book_TLF, counts_T4 int32, n_conflict, void); SourceError as of CopyRows.

        counts: rows, surplus rows, rows deeper than the book, and sided rows without price and quantity, of
        which ``void`` is the (time, level, side) of the first, or None. Times ascend. What no row named is NaN.
        """
        cdef Code code
        self._check_end(expected)
        with nogil:
            code = self.sink.finish()
        if code != Code.more:
            self._refuse(code)
        cdef size_t n = self.sink.room.size()
        ts = np.empty(n, np.int64)
        counts = np.empty((n, 4), np.int32)
        if n > 0:
            memcpy(<void*><size_t>ts.ctypes.data, self.sink.room.ts.data(), n * 8)
            memcpy(<void*><size_t>counts.ctypes.data, self.sink.room.count.data(), n * 16)
        cdef _Memory memory = _Memory()
        cdef pair[void*, size_t] held = self.sink.room.book.release()
        memory.at, memory.size = held.first, held.second
        size = n * self.levels * 4
        book = np.frombuffer(memory, np.float64, size) if n > 0 else np.empty(0)
        first = self.sink.first_void
        void = (first.ts, first.level, first.side) if first.level > 0 else None
        return ts, book.reshape(n, self.levels, 4), counts, self.sink.n_conflict, void

    def _refuse(self, Code code):
        if code == Code.no_room:
            n = self.sink.room.size() + 1
            raise DataError(f"{self.where}: {n} snapshots of {self.levels} levels are more than memory holds: read "
                            "fewer levels (data_object.levels) or a shorter time")
        if code == Code.conflict:
            row = self.sink.refused
            side = (" bid", " ask")[row.side] if self.sided else ""
            raise DataError(f"{self.where} {_iso(row.ts)}: duplicate rows of level {row.level}{side} that differ; set "
                            "data_object.duplicates: first or last")
        super()._refuse(code)


def _iso(ns):
    """ISO UTC to the microsecond; the plain number where datetime cannot say it."""
    try:
        return (dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=int(ns) // 1000)).isoformat() + "Z"
    except OverflowError:
        return f"{ns} ns"
