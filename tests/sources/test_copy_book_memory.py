"""The book is all the memory rows take, in any order of rows: measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT

#: grows by this share of the book at most
LIMIT = 1.10
SCRIPT = """
import sys
from bench.extraction_day import blocks
from bench.memory import status
from bml.sources._copy_rows import CopyBook

fields = [("ts", "time", "timestamp"), ("level", "level", "int4"), *((name, "number", "float8") for name in "abcd")]
streams = [block.tobytes() for block in blocks(4000, 1000, sys.argv[1])]
header = b"PGCOPY\\n\\xff\\r\\n\\0" + bytes(8)
small = CopyBook(fields, levels=1000)
small.feed(header + streams[0][:70_000] + b"\\xff\\xff")
small.finish()  # what is loaded once
before = status("VmRSS")
open("/proc/self/clear_refs", "w").write("5")
decoder = CopyBook(fields, levels=1000)
decoder.feed(header)
for stream in streams:
    decoder.feed(stream)
decoder.feed(b"\\xff\\xff")
book = decoder.finish()[1]
print((status("VmHWM") - before) / book.nbytes)
"""


@pytest.mark.slow
@pytest.mark.parametrize("order", ["time-major", "level-major", "random"])
def test_memory_is_the_book(order: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, order], capture_output=True, text=True, cwd=ROOT, check=True, timeout=120
    )
    assert 0.9 < float(done.stdout) <= LIMIT
