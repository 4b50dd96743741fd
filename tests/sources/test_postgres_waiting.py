"""While compiled code waits for rows: Ctrl-C is heard, silence has a limit, pieces of any size are taken."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bml.sources import pgcopy
from bml.sources.postgres import PostgresSource
from bml.types import ConnectionLost, SourceError
from tests.scripted_server import HEADER, START, US_2024, copied, message, row, scripted

HELD = message(b"H", struct.pack(">bh", 1, 6) + b"\0\1" * 6) + message(b"d", HEADER + row(US_2024))


@contextmanager
def held() -> Iterator[PostgresSource]:
    """A server that sends one row and then nothing, without closing the connection."""
    with scripted(HELD, stalls=True) as (source, _):
        yield source


def test_control_c_is_heard_while_waiting() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    with contextlib.ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGINT, before)
        source = stack.enter_context(held())
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            source.read_book("BTCUSDT", START, START + 10**10, levels=2, duplicates="error")
        assert time.monotonic() - began < 0.8
        assert source._session._conn is None


def test_silence_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pgcopy, "_PATIENCE_S", -599.7)
    with held() as source:
        began = time.monotonic()
        with pytest.raises(ConnectionLost, match="no answer for 0 s, past the statement timeout: gave up"):
            source.read_book("BTCUSDT", START, START + 10**10, levels=2, duplicates="error")
        assert 0.2 < time.monotonic() - began < 0.9


@pytest.mark.parametrize("piece", [1, 8192])
def test_a_book_in_pieces(piece: int) -> None:
    rows = [row(US_2024 + 1_000_000 * (i // 2), i % 2 + 1) for i in range(40)]
    with scripted(copied(HEADER + rows[0], *rows[1:], b"\xff\xff", tag=b"COPY 40"), piece=piece) as (source, _):
        book = source.read_book("BTCUSDT", START, START + 60 * 10**9, levels=2, duplicates="error")
    assert book.book_TLF.tolist() == [[[1.0, 2.0, 3.0, 4.0]] * 2] * 20
    assert book.n_rows_T.tolist() == [2] * 20


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (copied(HEADER + row(US_2024), tag=b"COPY 1"), "broke off after 1 rows"),
        (copied(HEADER + row(US_2024), b"\xff\xff", tag=b"COPY 2"), "sent 2 rows, 1 arrived"),
        (copied(HEADER, row(US_2024))[:-30], "connection"),
    ],
)
def test_half_a_book_is_none(answer: bytes, told: str) -> None:
    with scripted(answer) as (source, _), pytest.raises(SourceError, match=told):
        source.read_book("BTCUSDT", START, START + 10**10, levels=2, duplicates="error")
