"""A Dask scheduler that goes away in the middle of a run: a service that cannot be reached, no internal error."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import CancelledError

import pytest

from bml.cluster import Cluster
from bml.types import SourceError


@pytest.mark.parametrize("lost", [CancelledError("bml-1"), ConnectionResetError("Stream is closed")])
def test_a_dask_scheduler_that_goes_away_is_unreachable(lost: Exception) -> None:
    class Future:
        def exception(self) -> None:
            return None

        def result(self) -> None:
            raise lost

    cluster = object.__new__(Cluster)
    cluster._where = "tcp://somewhere:8786"
    with pytest.raises(SourceError, match="tcp://somewhere:8786 went away: run this again"):
        cluster._result(Future(), "BTCUSDT", dt.date(2024, 1, 1))
