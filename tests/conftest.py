"""Fixtures every test may use: the folder of real market data, deterministic property tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.postgres_fixture", "tests.secure_postgres"]

# the same examples on every run: a red build can be repeated
settings.register_profile(
    "bml", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60
)
settings.register_profile("quick", settings.get_profile("bml"), max_examples=10)
settings.load_profile(os.environ.get("BML_HYPOTHESIS", "bml"))

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def market_data() -> Path:
    """The folder of real market data; it is no part of the project, so tests that use it skip without it."""
    folder = Path(os.environ.get("BML_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real market data at {folder} (set BML_DATA to its folder)")
    return folder


@pytest.fixture(scope="module")
def two_threads() -> Iterator[None]:
    """What torch sums depends on its number of threads: the same one on every machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
