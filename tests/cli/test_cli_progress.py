"""Progress: lines where nobody watches, a bar where somebody does, nothing when quiet."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys

import pytest

from bml.cli.progress import Progress, _duration


def test_plain_lines() -> None:
    stream = io.StringIO()
    progress = Progress(stream=stream, every_s=0.0)
    progress.phase("preprocess", 2)
    progress.advance(note="BTC 2024-01-01")
    progress.advance(note="ETH 2024-01-01")
    progress.done()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "preprocess: 2 to do"
    assert re.fullmatch(r"preprocess: 1/2 \(50%\), [\d.]+/s, [\d.]+ s left, BTC 2024-01-01", lines[1])
    assert re.fullmatch(r"preprocess: 2/2 \(100%\), [\d.]+/s, 0\.0 s left, ETH 2024-01-01", lines[2])
    assert re.fullmatch(r"preprocess: 2 done in [\d.]+ s", lines[3])


def test_lines_come_at_most_every_two_seconds() -> None:
    stream = io.StringIO()
    progress = Progress(stream=stream)
    progress.phase("many", None)
    for _ in range(10_000):
        progress.advance()
    progress.phase("next")
    assert stream.getvalue().splitlines()[0] == "many"
    assert len(stream.getvalue().splitlines()) <= 4


def test_quiet_says_nothing() -> None:
    stream = io.StringIO()
    with Progress(stream=stream, quiet=True, every_s=0.0) as progress:
        progress.phase("a", 1)
        progress.advance()
        progress.done()
        assert not progress.show
    assert stream.getvalue() == ""


def test_done_without_a_phase_and_twice() -> None:
    stream = io.StringIO()
    with Progress(stream=stream) as progress:
        progress.done()
        progress.phase("a")
        progress.done()
        progress.done()
    assert len(stream.getvalue().splitlines()) == 2


def _fail_in_a_phase(stream: io.StringIO) -> None:
    with Progress(stream=stream) as progress:
        progress.phase("a", 3)
        raise ValueError("x")


def test_leaving_by_an_error_does_not_say_done() -> None:
    stream = io.StringIO()
    with pytest.raises(ValueError, match="x"):
        _fail_in_a_phase(stream)
    assert "done" not in stream.getvalue()


def test_a_bar_on_a_terminal() -> None:
    code = (
        "from bml.cli.progress import Progress\n"
        "import time\n"
        "with Progress() as p:\n"
        "    p.phase('days', 3)\n"
        "    for i in range(3): p.advance(note=f'[day] {i}'); time.sleep(0.15)\n"
        "    p.done()"
    )
    master, slave = pty.openpty()
    env = os.environ | {"TERM": "xterm", "COLUMNS": "120", "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-W", "error", "-c", code], stderr=slave, stdout=slave, env=env)
    os.close(slave)
    shown = b""
    while True:
        try:
            shown += os.read(master, 65536)
        except OSError:  # the other end is closed
            break
    assert process.wait(timeout=30) == 0
    os.close(master)
    text = shown.decode()
    assert "\x1b[" in text
    assert "2/3" in text
    assert "[day] 1" in text
    assert "days: 3 done in" in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.9, "59.9 s"), (61, "1 min 01 s"), (3700, "1 h 01 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert _duration(seconds) == text
