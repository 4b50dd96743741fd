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


NO_MEMORY = """
import resource, struct
from bml.sources._copy_rows import CopyBook

fields = [("ts", "time", "timestamp"), ("level", "level", "int4"), *((name, "number", "float8") for name in "abcd")]
row = struct.pack(">hiqiiidididid", 6, 8, 0, 4, 1, 8, 1.0, 8, 1.0, 8, 1.0, 8, 1.0)
decoder = CopyBook(fields, levels=1, duplicates="last")
decoder.feed(b"PGCOPY\\n\\xff\\r\\n\\0" + bytes(8))
rows = row * 100_000
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (200 << 20),) * 2)
try:
    for _ in range(100):
        decoder.feed(rows)
except MemoryError:
    print("MemoryError")
"""


def test_no_memory_for_surplus_rows_is_an_error_not_the_end_of_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", NO_MEMORY], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert (done.returncode, done.stdout) == (0, "MemoryError\n"), done.stderr
