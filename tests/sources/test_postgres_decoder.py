"""The binary COPY decoder on its own: fed fragments, nonsense and every wire type."""

from __future__ import annotations

import contextlib
import ctypes
import struct
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bml.sources._copy_rows import ENDED, ENTRY_POINTS, CopyRows
from bml.types import BmlError, DataError, SourceError

HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">II", 0, 0)
END = b"\xff\xff"
PAIRED = [("ts", "time", "timestamp"), ("level", "level", "int4")] + [
    (name, "number", "float8") for name in ("bid_px", "bid_qty", "ask_px", "ask_qty")
]
SIDED = [("ts", "time", "timestamp"), ("side", "side", "text"), ("px", "number", "float4"), ("qty", "number", "int8")]


def field(form: str, value: object) -> bytes:
    if value is None:
        return struct.pack(">i", -1)
    if isinstance(value, bytes):
        return struct.pack(">i", len(value)) + value
    packed = struct.pack(">" + form, value)
    return struct.pack(">i", len(packed)) + packed


def row(forms: str, values: Iterable[object]) -> bytes:
    values = list(values)
    return struct.pack(">h", len(values)) + b"".join(map(field, forms, values))


def paired_row(us: int, level: int, *numbers: float | None) -> bytes:
    return row("qidddd", [us, level, *numbers])


ROWS = [paired_row(1_000_000 * i, 1 + i % 7, 1.5 * i, 2.0, None, float(i)) for i in range(50)]
STREAM = HEADER + b"".join(ROWS) + END


def decode(stream: bytes, fields: list[tuple[str, str, str]] = PAIRED, step: int = 0, **options: object) -> dict:
    decoder = CopyRows(fields, where="table t, BTC", **options)  # type: ignore[arg-type]
    for at in range(0, len(stream), step or max(1, len(stream))):
        decoder.feed(stream[at : at + (step or len(stream))])
    return decoder.finish()


def test_values_and_null() -> None:
    got = decode(STREAM)
    assert got["ts"][1] == (946684800 + 1) * 10**9
    np.testing.assert_array_equal(got["level"], [1 + i % 7 for i in range(50)])
    np.testing.assert_array_equal(got["bid_px"], 1.5 * np.arange(50))
    assert np.isnan(got["ask_px"]).all()
    assert [got[k].dtype for k in ("ts", "level", "bid_px")] == [np.int64, np.int32, np.float64]
    assert all(x.flags.c_contiguous and x.flags.writeable for x in got.values())


@pytest.mark.parametrize("step", [1, 2, 3, 7, 19, 20, 64, 1000])
def test_any_fragment_size_gives_the_same(step: int) -> None:
    want, got = decode(STREAM), decode(STREAM, step=step)
    for name, values in want.items():
        np.testing.assert_array_equal(got[name], values)


def test_growth_keeps_what_was_there() -> None:
    got = decode(STREAM, reserve=1)
    np.testing.assert_array_equal(got["ask_qty"], np.arange(50.0))


@pytest.mark.parametrize("stream", [HEADER + END, END])
def test_no_rows_with_and_without_header(stream: bytes) -> None:
    assert all(values.size == 0 for values in decode(stream, step=1).values())


@pytest.mark.parametrize("wire", ["int2", "int4", "int8"])
def test_integer_widths(wire: str) -> None:
    form = {"int2": "h", "int4": "i", "int8": "q"}[wire]
    fields = [("ts", "time", "timestamp"), ("level", "level", wire), ("qty", "number", wire), ("seq", "count", wire)]
    got = decode(
        HEADER + row("q" + form * 3, [0, 3, -5, 9]) + row("q" + form * 3, [0, 0, 1, None]) + END, fields, first_level=0
    )
    assert got["level"].tolist() == [4, 1]
    assert got["qty"].tolist() == [-5.0, 1.0]
    assert got["seq"].tolist() == [9, -1]


def test_float4_specials_and_text_side() -> None:
    values = [("bid", float("inf")), ("ask", float("-inf")), ("ask  ", -0.0), ("bid", float("nan"))]
    stream = HEADER + b"".join(row("qsfq", [0, s.encode(), v, 7]) for s, v in values) + END
    got = decode(stream, SIDED)
    assert got["side"].tolist() == [0, 1, 1, 0]
    np.testing.assert_array_equal(got["px"], [np.inf, -np.inf, 0.0, np.nan])
    assert np.signbit(got["px"][2])


def test_bool_and_integer_sides() -> None:
    fields = [("ts", "time", "int8"), ("side", "side", "bool")]
    assert decode(HEADER + row("q?", [5, True]) + row("q?", [5, False]) + END, fields, bid=0, ask=1)[
        "side"
    ].tolist() == [1, 0]
    fields = [("ts", "time", "int4"), ("side", "side", "int2")]
    got = decode(HEADER + row("ih", [5, -1]) + row("ih", [6, 1]) + END, fields, bid=1, ask=-1, ns_per_unit=10**9)
    assert got["side"].tolist() == [1, 0]
    assert got["ts"].tolist() == [5 * 10**9, 6 * 10**9]


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b"", "broke off after 0 rows"),
        (HEADER, "broke off"),
        (STREAM[:-2], "broke off after 50 rows"),
        (STREAM[:-40], "broke off after 49 rows"),
        (b"\xff", "broke off"),
        (STREAM + b"x", "bytes follow the end mark"),
        (END + HEADER, "bytes follow"),
        (b"ERROR: nothing", "wrong signature"),
        (HEADER[:11] + struct.pack(">II", 1 << 16, 0), "flags or an extension"),
        (HEADER[:11] + struct.pack(">II", 0, 1 << 31), "flags or an extension"),
        (HEADER + struct.pack(">h", 7), "7 fields instead of 6"),
        (HEADER + struct.pack(">h", -2), "-2 fields instead of 6"),
        (HEADER + struct.pack(">hi", 6, 2**31 - 1), "ts has 2147483647 bytes instead of 8"),
        (HEADER + struct.pack(">hi", 6, -2), "ts has -2 bytes"),
    ],
)
def test_broken_streams(stream: bytes, message: str) -> None:
    for step in (0, 1):
        with pytest.raises(SourceError, match=message) as caught:
            decode(stream, step=step)
        assert "table t, BTC" in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "bad", "message"),
    [
        (PAIRED, paired_row(0, 0, 1, 1, 1, 1), r"a row of 2000-01-01T00:00:00Z: level is 0, but levels count from 1"),
        (PAIRED, row("qidddd", [0, None, 1, 1, 1, 1]), "level is NULL"),
        (PAIRED, row("qidddd", [None, 1, 1, 1, 1, 1]), "row 51 of the stream: ts is NULL"),
        (PAIRED, paired_row(2**63 - 1, 1, 1, 1, 1, 1), "ts is infinite or too far"),
        (PAIRED, paired_row(-(2**63), 1, 1, 1, 1, 1), "ts is infinite or too far"),
        (SIDED, row("qsfq", [0, b"buy", 1, 1]), "side is 'buy', neither"),
        (SIDED, row("qsfq", [0, b"", 1, 1]), "side is '', neither"),
        (SIDED, row("qsfq", [0, b"bi", 1, 1]), "side is 'bi', neither"),
        (SIDED, row("qsfq", [0, b"\xff\xfe", 1, 1]), "neither"),
    ],
)
def test_bad_rows_are_named(fields: list[tuple[str, str, str]], bad: bytes, message: str) -> None:
    before = b"".join(ROWS) if fields is PAIRED else b""
    with pytest.raises(DataError, match=message):
        decode(HEADER + before + bad + END, fields)


def test_integer_time_that_overflows() -> None:
    fields = [("ts", "time", "int8")]
    largest = (2**63 - 1) // 10**9
    assert decode(HEADER + row("q", [largest]) + END, fields, ns_per_unit=10**9)["ts"][0] == largest * 10**9
    for value in (largest + 1, -largest - 1, 2**63 - 1, -(2**63)):
        with pytest.raises(DataError, match="too far"):
            decode(HEADER + row("q", [value]) + END, fields, ns_per_unit=10**9)


def test_level_beyond_int32() -> None:
    fields = [("ts", "time", "timestamp"), ("level", "level", "int8")]
    assert decode(HEADER + row("qq", [0, 2**31 - 1]) + END, fields)["level"].tolist() == [2**31 - 1]
    for level in (2**31, 2**63 - 1, -(2**63)):
        with pytest.raises(DataError, match="levels count from"):
            decode(HEADER + row("qq", [0, level]) + END, fields)


class FakeLibpq:
    """PQgetCopyData of a connection that holds ``blocks`` and has ended, PQfreemem that counts; as addresses."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self.libc = ctypes.CDLL(None)
        self.libc.malloc.restype = ctypes.c_void_p
        self.libc.malloc.argtypes = [ctypes.c_size_t]
        self.libc.free.argtypes = [ctypes.c_void_p]
        self.blocks = list(blocks)
        self.held = 0
        self.get = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p), ctypes.c_int)(
            self._get
        )
        self.free = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._free)

    def _get(self, pgconn: int, message: ctypes._Pointer[ctypes.c_void_p], no_wait: int) -> int:
        if not self.blocks:
            return -1
        block = self.blocks.pop(0)
        message[0] = self.libc.malloc(len(block))  # exactly as long as it says: a read beyond it is one too many
        ctypes.memmove(message[0], block, len(block))
        self.held += 1
        return len(block)

    def _free(self, message: int) -> None:
        self.held -= 1
        self.libc.free(message)

    def drain(self, decoder: CopyRows) -> int:
        get, free = (ctypes.cast(f, ctypes.c_void_p).value or 0 for f in (self.get, self.free))
        how, came = decoder.drain(0, (get, free, *[0] * (len(ENTRY_POINTS) - 2)), -1, 0)
        assert came
        return how


@pytest.mark.parametrize("step", [1, 2, 19, 20, 64, 1000, 10_000])
@pytest.mark.parametrize("reserve", [1, 4096])
def test_blocks_taken_from_libpq_give_the_same(step: int, reserve: int) -> None:
    libpq = FakeLibpq(STREAM[at : at + step] for at in range(0, len(STREAM), step))
    decoder = CopyRows(PAIRED, reserve=reserve)
    assert libpq.drain(decoder) == ENDED
    assert libpq.held == 0
    got = decoder.finish(50)
    for name, values in decode(STREAM).items():
        np.testing.assert_array_equal(got[name], values)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row("qidddd", [None, 1, 1, 1, 1, 1]), "row 51 of the stream: ts is NULL"),
        (struct.pack(">h", 7), "row 51 of the stream has 7 fields instead of 6"),
        (struct.pack(">hi", 6, 3), "row 51 of the stream: field ts has 3 bytes"),
        (paired_row(0, 0, 1, 1, 1, 1), "level is 0"),
        (END + b"x", "bytes follow the end mark"),
    ],
    ids=["null", "count", "length", "level", "end"],
)
@pytest.mark.parametrize("rows_a_block", [1, 7, 51])
@pytest.mark.parametrize("reserve", [1, 4096])
def test_the_row_named_is_the_row_of_the_stream(bad: bytes, message: str, rows_a_block: int, reserve: int) -> None:
    """Blocks of several rows (GreptimeDB sends such) are not counted twice when one of their rows is refused."""
    parts = [*ROWS, bad]
    blocks = [b"".join(parts[at : at + rows_a_block]) for at in range(0, len(parts), rows_a_block)]
    for header in ([HEADER, *blocks], [HEADER + blocks[0], *blocks[1:]]):
        libpq, decoder = FakeLibpq(header), CopyRows(PAIRED, reserve=reserve)
        with pytest.raises(BmlError, match=message):
            libpq.drain(decoder)
        assert decoder.n_rows == 50
        assert libpq.held == 0


def test_row_count_of_the_server_must_agree() -> None:
    decoder = CopyRows(PAIRED)
    decoder.feed(STREAM)
    with pytest.raises(SourceError, match="sent 51 rows, 50 arrived"):
        decoder.finish(51)
    assert decoder.finish(50)["ts"].size == 50


def test_max_rows() -> None:
    assert decode(STREAM, max_rows=50)["ts"].size == 50
    with pytest.raises(DataError, match="more than max_rows = 49"):
        decode(STREAM, max_rows=49)


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ([], {}),
        ([("level", "level", "int4")], {}),
        ([("ts", "time", "float8")], {}),
        ([("ts", "time", "timestamp"), ("side", "side", "text")], {"bid": 0, "ask": 1}),
        ([("ts", "time", "timestamp"), ("side", "side", "bool")], {}),
        ([("ts", "time", "timestamp"), ("side", "side", "text")], {"bid": b"x" * 64}),
    ],
)
def test_impossible_fields(fields: list[tuple[str, str, str]], options: dict) -> None:
    with pytest.raises(ValueError, match=r"needed|cannot be|side (needs|is)"):
        CopyRows(fields, **options)


@given(
    edits=st.lists(st.tuples(st.integers(0, len(STREAM) - 1), st.integers(0, 255)), max_size=8),
    cut=st.integers(0, len(STREAM)),
    step=st.integers(1, 200),
)
def test_mutations_never_crash(edits: list[tuple[int, int]], cut: int, step: int) -> None:
    data = bytearray(STREAM)
    for at, value in edits:
        data[at] = value
    try:
        got = decode(bytes(data[: cut or len(data)]), step=step, reserve=1)
    except BmlError:
        return
    assert all(values.size <= 50 for values in got.values())


@given(st.binary(max_size=300), st.sampled_from([PAIRED, SIDED]), st.booleans())
def test_random_bytes_never_crash(data: bytes, fields: list[tuple[str, str, str]], with_header: bool) -> None:
    with contextlib.suppress(BmlError):
        decode((HEADER if with_header else b"") + data, fields, step=5)
