"""How large the day is, how often it is run, and who runs beside the kernels."""

from __future__ import annotations

import pytest

from bench.lines import Size


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("bml benchmarks")
    group.addoption("--times", type=int, default=Size.times, help="snapshots of a day")
    group.addoption("--levels", type=int, default=Size.levels, help="levels of a book")
    group.addoption("--rounds", type=int, default=Size.rounds, help="measured rounds, at least 5")
    group.addoption("--peers", choices=["none", "numba", "all"], default=Size.peers, help="who runs beside memcpy")
    group.addoption("--patience", type=float, default=Size.patience_s, help="seconds a peer may take in all rounds")


@pytest.fixture(scope="session")
def size(request: pytest.FixtureRequest) -> Size:
    chosen = {name: request.config.getoption(f"--{name}") for name in ("times", "levels", "rounds", "peers")}
    return Size(**chosen, patience_s=request.config.getoption("--patience"))
