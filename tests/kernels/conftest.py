"""Every test that takes ``backend`` runs on each backend, or on those of BML_TEST_BACKENDS (comma-separated)."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from bml.kernels import _isa
from bml.kernels._backend import BACKENDS, use


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", tested_backends(), indirect=True)


def tested_backends() -> list[str]:
    return os.environ.get("BML_TEST_BACKENDS", ",".join(BACKENDS)).split(",")


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with use(request.param):
        yield request.param


@pytest.fixture(scope="session")
def backends() -> list[str]:
    """The backends to compare inside one test; every build of the compiled one that runs here ("compiled v3")."""
    builds = [f"compiled {cpu}" for cpu in (_isa.runnable() if "compiled" in tested_backends() else [])]
    return builds + [backend for backend in tested_backends() if backend != "compiled"]
