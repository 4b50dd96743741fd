"""The plugin of tests/config/plugin, installed for the session the way pip would: a folder on the path."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bml.config import secret

PLUGIN = Path(__file__).parent / "plugin"


@pytest.fixture(scope="session", autouse=True)
def plugin() -> Iterator[Path]:
    sys.path.insert(0, str(PLUGIN))
    yield PLUGIN
    sys.path.remove(str(PLUGIN))


@pytest.fixture(autouse=True)
def no_values_remembered() -> Iterator[None]:
    """What a secret variable held in one test does not hide words in the next."""
    yield
    secret.forget_values()
