"""PostgreSQL's binary COPY stream into typed columns.

The stream is: signature, flags, extension; then per row an int16 field count and per field an int32 length
(-1: NULL) and that many bytes, big-endian; then an int16 -1. Everything in it is checked before it is used.
"""

from libc.math cimport NAN
from libc.stdint cimport INT32_MAX, INT64_MAX, INT64_MIN, int8_t, int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

import datetime as dt

import numpy as np

from bml.types import DataError, SourceError

cdef enum:
    MAX_FIELDS = 16
    MAX_TEXT = 63  # PostgreSQL's longest enum label; a side is shorter still
    MAX_EXTENSION = 4096

# what a field becomes
cdef enum:
    TIME = 0
    LEVEL = 1
    SIDE = 2
    NUMBER = 3
    COUNT = 4

# how it looks on the wire
cdef enum:
    INT2 = 0
    INT4 = 1
    INT8 = 2
    FLOAT4 = 3
    FLOAT8 = 4
    TIMESTAMP = 5
    BOOL = 6
    TEXT = 7

cdef enum:
    MORE = 0  # all complete rows are decoded
    FULL = 1  # the columns must grow
    BAD_SIGNATURE = 2
    BAD_FLAGS = 3
    BAD_EXTENSION = 4
    BAD_COUNT = 5
    BAD_LENGTH = 6
    AFTER_END = 7
    NULL_FIELD = 8
    BAD_TIME = 9
    BAD_LEVEL = 10
    BAD_SIDE = 11

cdef enum:
    START = 0
    ROWS = 1
    END = 2

TARGETS = {"time": TIME, "level": LEVEL, "side": SIDE, "number": NUMBER, "count": COUNT}
WIRES = {"int2": INT2, "int4": INT4, "int8": INT8, "float4": FLOAT4, "float8": FLOAT8, "timestamp": TIMESTAMP,
         "bool": BOOL, "text": TEXT}
WIDTHS = {INT2: 2, INT4: 4, INT8: 8, FLOAT4: 4, FLOAT8: 8, TIMESTAMP: 8, BOOL: 1, TEXT: 0}
_INTS = {INT2, INT4, INT8}
_ALLOWED = {TIME: {INT4, INT8, TIMESTAMP}, LEVEL: _INTS, SIDE: _INTS | {BOOL, TEXT},
            NUMBER: _INTS | {FLOAT4, FLOAT8}, COUNT: _INTS | {TIMESTAMP}}
_DTYPES = {TIME: np.int64, LEVEL: np.int32, SIDE: np.int8, NUMBER: np.float64, COUNT: np.int64}

ctypedef int (*GetCopyData)(void* pgconn, char** message, int no_wait) noexcept nogil
ctypedef void (*FreeMemory)(void* message) noexcept nogil

cdef const char* SIGNATURE = b"PGCOPY\n\xff\r\n\x00"
cdef int64_t EPOCH_US = 946684800000000  # 2000-01-01, where PostgreSQL counts from
cdef int64_t MAX_US = INT64_MAX // 1000


cdef struct Field:
    int target
    int wire
    int32_t width
    void* out


cdef inline uint32_t be32(const uint8_t* p) noexcept nogil:
    return (<uint32_t>p[0] << 24) | (<uint32_t>p[1] << 16) | (<uint32_t>p[2] << 8) | <uint32_t>p[3]


cdef inline uint64_t be64(const uint8_t* p) noexcept nogil:
    return (<uint64_t>be32(p) << 32) | <uint64_t>be32(p + 4)


cdef inline int16_t be16(const uint8_t* p) noexcept nogil:
    return <int16_t>((<uint32_t>p[0] << 8) | <uint32_t>p[1])


cdef inline int64_t integer(int wire, const uint8_t* p) noexcept nogil:
    if wire == INT4:
        return <int32_t>be32(p)
    if wire == INT2:
        return be16(p)
    return <int64_t>be64(p)


cdef inline double number(int wire, const uint8_t* p) noexcept nogil:
    cdef uint64_t bits8
    cdef uint32_t bits4
    cdef double wide
    cdef float narrow
    if wire == FLOAT8:
        bits8 = be64(p)
        memcpy(&wide, &bits8, 8)
        return wide
    if wire == FLOAT4:
        bits4 = be32(p)
        memcpy(&narrow, &bits4, 4)
        return narrow
    return <double>integer(wire, p)


cdef class CopyRows:
    """Decodes one binary COPY stream; feed it bytes split anywhere, then ``finish``. Not for several threads.

    fields: (name, target, wire) in the order of the SELECT list, the first a "time"; names of TARGETS, WIRES.
    NULL becomes NaN in a number and -1 in a count, and is refused elsewhere. ``ns_per_unit`` scales integer
    times, ``first_level`` is the number of the best level (becomes 1), ``bid`` and ``ask`` are what a side
    field holds: bytes when its wire is text, integers otherwise. ``where`` opens every message.

    Raises SourceError where the stream is broken or longer than ``max_rows``, DataError where a row is.
    """

    cdef Field fields[MAX_FIELDS]
    cdef int n_fields, state, bad_field
    cdef Py_ssize_t rows, capacity, max_rows
    cdef int64_t ns_per_unit, first_level, bid_int, ask_int, bad_value
    cdef const char* bid_text
    cdef const char* ask_text
    cdef int bid_size, ask_size, bad_size
    cdef char bad_text[64]
    cdef bytes tail, bid_bytes, ask_bytes
    cdef list names, arrays
    cdef str where

    def __cinit__(self, fields, *, where="", ns_per_unit=1, first_level=1, bid=b"bid", ask=b"ask",
                  max_rows=200_000_000, reserve=4096):
        if not 1 <= len(fields) <= MAX_FIELDS:
            raise ValueError(f"1 to {MAX_FIELDS} fields are needed, not {len(fields)}")
        self.n_fields = len(fields)
        self.names = [name for name, _, _ in fields]
        self.arrays = []
        self.capacity = min(max(1, reserve), max(1, max_rows))
        for i, (name, target, wire) in enumerate(fields):
            t, w = TARGETS[target], WIRES[wire]
            if w not in _ALLOWED[t] or (i == 0) != (t == TIME):
                raise ValueError(f"field {i} ({name}): a {target} cannot be {wire} here")
            self.fields[i].target, self.fields[i].wire, self.fields[i].width = t, w, WIDTHS[w]
            self.arrays.append(np.empty(self.capacity, dtype=_DTYPES[t]))
        self._point()
        self._sides(bid, ask)
        self.where, self.tail = where, b""
        self.ns_per_unit, self.first_level, self.max_rows = ns_per_unit, first_level, max_rows
        self.rows, self.state = 0, START

    def _sides(self, bid, ask):
        if isinstance(bid, bytes):
            self.bid_bytes, self.ask_bytes = bid, ask
            self.bid_text, self.ask_text = self.bid_bytes, self.ask_bytes
            self.bid_size, self.ask_size = len(bid), len(ask)
            if max(self.bid_size, self.ask_size) > MAX_TEXT:
                raise ValueError(f"a side is at most {MAX_TEXT} bytes long")
        else:
            self.bid_size = self.ask_size = -1
            self.bid_int, self.ask_int = int(bid), int(ask)
        for i in range(self.n_fields):
            if self.fields[i].target == SIDE and (self.fields[i].wire == TEXT) != (self.bid_size >= 0):
                raise ValueError("a text side needs bytes as bid and ask, another side integers")

    @property
    def n_rows(self):
        """Rows decoded so far."""
        return self.rows

    def feed(self, data):
        """Decode ``data`` (bytes); what is left of an incomplete row waits for the next call."""
        cdef const uint8_t* p
        cdef Py_ssize_t size, pos = 0, used = 0
        cdef int code = MORE
        cdef bytes block = self.tail + data if self.tail else bytes(data)
        size = len(block)
        p = block
        while True:
            with nogil:
                code = self._decode(p + pos, size - pos, &used)
            pos += used
            if code != FULL:
                break
            self._grow()
        if code != MORE:
            self._refuse(code)
        self.tail = block[pos:]

    def drain(self, size_t pgconn, size_t get_copy_data, size_t free_memory):
        """Decode all that libpq holds of a running COPY, without Python objects or the GIL.

        Takes the addresses of the PGconn and of libpq's PQgetCopyData and PQfreemem. Returns what
        PQgetCopyData did last: 0 wait for the socket, -1 the COPY ended, -2 it failed.
        """
        cdef GetCopyData get = <GetCopyData>get_copy_data
        cdef FreeMemory free = <FreeMemory>free_memory
        cdef char* message = NULL
        cdef int size = 0
        cdef Py_ssize_t used = 0
        cdef bint split = len(self.tail) > 0
        while True:
            with nogil:
                while True:
                    size = get(<void*>pgconn, &message, 1)
                    used = 0
                    if size <= 0 or split:
                        break
                    if self._decode(<const uint8_t*>message, size, &used) != MORE or used < size:
                        break  # full columns, half a row or an error: feed deals with them
                    free(message)
            if size <= 0:
                return size
            try:
                self.feed((<char*>message)[used:size])
            finally:
                free(message)
            split = len(self.tail) > 0

    def finish(self, expected=None):
        """Columns by name; SourceError when the trailer never came or the server counted ``expected`` rows."""
        if self.state != END:
            raise SourceError(f"{self.where}: the stream broke off after {self.rows} rows (no end mark): read again")
        if expected is not None and expected != self.rows:
            raise SourceError(f"{self.where}: the server sent {expected} rows, {self.rows} arrived: read again")
        columns = {}
        for name, array in zip(self.names, self.arrays, strict=True):
            array.resize(self.rows, refcheck=False)
            columns[name] = array
        self.arrays, self.capacity = [], 0
        return columns

    cdef _point(self):
        for i in range(self.n_fields):
            self.fields[i].out = <void*><size_t>self.arrays[i].ctypes.data

    cdef _grow(self):
        if self.rows >= self.max_rows:
            raise SourceError(f"{self.where}: more than max_rows = {self.max_rows} rows: read a shorter time or "
                              "fewer levels, or raise max_rows")
        self.capacity = min(self.capacity * 2, self.max_rows)
        for array in self.arrays:
            array.resize(self.capacity, refcheck=False)  # nobody else has seen these arrays
        self._point()

    cdef int _decode(self, const uint8_t* p, Py_ssize_t size, Py_ssize_t* used) noexcept nogil:
        cdef Py_ssize_t pos = 0
        cdef Py_ssize_t row_size = 0
        cdef int code = MORE
        used[0] = 0
        if self.state == START:
            code = self._header(p, size, &pos)
            used[0] = pos
            if code != MORE or self.state == START:
                return code
        while self.state == ROWS and size - pos >= 2:
            used[0] = pos  # what is decoded stays so, whatever the next row is: it must not be fed again
            if be16(p + pos) == -1:
                self.state = END
                pos += 2
                break
            if be16(p + pos) != self.n_fields:
                self.bad_value = be16(p + pos)
                return BAD_COUNT
            if self.rows == self.capacity:
                return FULL
            code = self._row(p + pos + 2, size - pos - 2, &row_size)
            if code != MORE:
                return code
            if row_size < 0:  # incomplete
                break
            pos += 2 + row_size
            self.rows += 1
        used[0] = pos
        if self.state == END and pos < size:
            return AFTER_END
        return MORE

    cdef int _header(self, const uint8_t* p, Py_ssize_t size, Py_ssize_t* used) noexcept nogil:
        cdef Py_ssize_t seen = size if size < 11 else 11
        cdef int64_t extension
        if size >= 2 and p[0] == 0xFF and p[1] == 0xFF:  # GreptimeDB sends no header when there are no rows
            self.state = END
            used[0] = 2
            return MORE
        if size == 1 and p[0] == 0xFF:
            return MORE
        if memcmp(p, SIGNATURE, seen) != 0:
            return BAD_SIGNATURE
        if size < 19:
            return MORE
        if be32(p + 11) >> 16 != 0:  # bit 16: rows carry OIDs; the others are reserved as critical
            return BAD_FLAGS
        extension = <int64_t>be32(p + 15)
        if extension > MAX_EXTENSION:
            return BAD_EXTENSION
        if size < 19 + extension:
            return MORE
        self.state = ROWS
        used[0] = 19 + <Py_ssize_t>extension
        return MORE

    cdef int _row(self, const uint8_t* p, Py_ssize_t size, Py_ssize_t* row_size) noexcept nogil:
        cdef Py_ssize_t pos = 0
        cdef int i, code
        cdef int32_t length
        cdef Field* field
        row_size[0] = -1
        for i in range(self.n_fields):
            if size - pos < 4:
                return MORE
            field = &self.fields[i]
            self.bad_field = i
            length = <int32_t>be32(p + pos)
            pos += 4
            if length == -1:
                code = self._null(field)
            else:
                if length != field.width and (field.wire != TEXT or length < 0 or length > MAX_TEXT):
                    self.bad_value = length
                    return BAD_LENGTH
                if size - pos < length:
                    return MORE
                code = self._value(field, p + pos, length)
                pos += length
            if code != MORE:
                return code
        row_size[0] = pos
        return MORE

    cdef int _null(self, Field* field) noexcept nogil:
        if field.target == NUMBER:
            (<double*>field.out)[self.rows] = NAN
        elif field.target == COUNT:
            (<int64_t*>field.out)[self.rows] = -1
        else:
            return NULL_FIELD
        return MORE

    cdef int _value(self, Field* field, const uint8_t* p, int32_t length) noexcept nogil:
        cdef int64_t value
        if field.target == NUMBER:
            (<double*>field.out)[self.rows] = number(field.wire, p)
            return MORE
        if field.target == SIDE:
            return self._side(field, p, length)
        value = integer(field.wire, p)
        if field.target == LEVEL:
            if value < self.first_level or value - self.first_level >= INT32_MAX:
                self.bad_value = value
                return BAD_LEVEL
            (<int32_t*>field.out)[self.rows] = <int32_t>(value - self.first_level + 1)
            return MORE
        if field.wire == TIMESTAMP:
            if value < -MAX_US - EPOCH_US or value > MAX_US - EPOCH_US:  # infinity is among these
                self.bad_value = value
                return BAD_TIME
            value = (value + EPOCH_US) * 1000
        elif field.target == TIME:
            if value > INT64_MAX // self.ns_per_unit or value < INT64_MIN // self.ns_per_unit:
                self.bad_value = value
                return BAD_TIME
            value = value * self.ns_per_unit
        (<int64_t*>field.out)[self.rows] = value
        return MORE

    cdef int _side(self, Field* field, const uint8_t* p, int32_t length) noexcept nogil:
        cdef int64_t value
        cdef int8_t side = -1
        if field.wire == TEXT:
            while length > 0 and p[length - 1] == 32:  # char(n) is padded
                length -= 1
            if length == self.bid_size and memcmp(p, self.bid_text, length) == 0:
                side = 0
            elif length == self.ask_size and memcmp(p, self.ask_text, length) == 0:
                side = 1
            else:
                memcpy(self.bad_text, p, length)
                self.bad_size = length
        else:
            value = p[0] if field.wire == BOOL else integer(field.wire, p)
            if value == self.bid_int:
                side = 0
            elif value == self.ask_int:
                side = 1
            else:
                self.bad_value = value
                self.bad_size = -1
        if side < 0:
            return BAD_SIDE
        (<int8_t*>field.out)[self.rows] = side
        return MORE

    def _refuse(self, int code):
        """Raise the error for ``code``."""
        row = f"row {self.rows + 1} of the stream"
        if code == BAD_SIGNATURE:
            raise SourceError(f"{self.where}: this is not a binary COPY stream (wrong signature)")
        if code == BAD_FLAGS or code == BAD_EXTENSION:
            raise SourceError(f"{self.where}: the binary COPY header has flags or an extension unknown here")
        if code == BAD_COUNT:
            raise SourceError(f"{self.where}: {row} has {self.bad_value} fields instead of {self.n_fields}")
        if code == AFTER_END:
            raise SourceError(f"{self.where}: bytes follow the end mark of the stream")
        name = self.names[self.bad_field]
        if code == BAD_LENGTH:
            width = self.fields[self.bad_field].width
            raise SourceError(f"{self.where}: {row}: field {name} has {self.bad_value} bytes instead of "
                              f"{width or f'at most {MAX_TEXT}'}")
        if code == BAD_TIME:
            raise DataError(f"{self.where}: {row}: {name} is infinite or too far from 1970 for nanoseconds "
                            f"({self.bad_value})")
        if self.bad_field > 0:
            row = f"a row of {_iso(self.arrays[0][self.rows])}"
        if code == NULL_FIELD:
            raise DataError(f"{self.where}: {row}: {name} is NULL")
        if code == BAD_LEVEL:
            raise DataError(f"{self.where}: {row}: {name} is {self.bad_value}, but levels count from "
                            f"{self.first_level} (first_level)")
        if self.bad_size >= 0:
            value = repr((<bytes>self.bad_text[:self.bad_size]).decode("utf-8", "replace"))
        else:
            value = str(self.bad_value)
        raise DataError(f"{self.where}: {row}: {name} is {value}, neither the bid nor the ask of side_values")


def _iso(ns):
    """ISO UTC to the microsecond; the plain number where datetime cannot say it."""
    try:
        return (dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=int(ns) // 1000)).isoformat() + "Z"
    except OverflowError:
        return f"{ns} ns"
