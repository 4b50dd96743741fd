"""What is broken does not depend on how a process treats numbers next to zero."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FLUSHED = """
import dataclasses, sys
import numpy as np
import torch
from bml.book.broken import broken_rows
from bml.book.dataobject import build
from bml.types import BmlError
from tests.book.book_days import rows_of, times, walk
if not torch.set_flush_denormal(True):
    print("SKIP"); sys.exit()
assert not np.array([5e-324]).any() or (np.array([5e-324]) > 0).tolist() == [False], "denormals are not flushed"
book = walk(9)
book[2, 1, 1], book[3, 2, 3] = 0.0, -0.0
obj = build(rows_of(times(9), book), levels=6)
assert obj.quality.counts["n_broken"] == 0
assert np.array_equal(obj.book_TLF, book)
assert broken_rows(np.array([1.0, 0.0, 1.0]), np.array([0.0, 1.0, -1.0])).tolist() == [False, True, True]
for field in (0, 2):
    broken = book.copy()
    broken[5, 0, field] = 0.0
    try:
        build(rows_of(times(9), broken), levels=6)
    except BmlError as error:
        print(error)
"""


def test_zero_quantities_are_data_where_denormals_are_flushed() -> None:
    pytest.importorskip("torch")
    done = subprocess.run([sys.executable, "-c", FLUSHED], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    if done.stdout.startswith("SKIP"):
        pytest.skip("this machine cannot flush denormals")
    bid, ask = done.stdout.splitlines()
    assert "zero bid price 0.0 at level 1 (0 more" in bid
    assert "zero ask price 0.0 at level 1 (0 more" in ask
