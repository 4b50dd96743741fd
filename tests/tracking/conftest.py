"""What a secret variable brought into this process does not hide words in the next test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bml.config import secret


@pytest.fixture(autouse=True)
def no_values_remembered() -> Iterator[None]:
    yield
    secret.forget_values()
