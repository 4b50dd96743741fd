"""Every line of the table under pytest-benchmark; extra_info has what is compared (see bench/race.py)."""

from __future__ import annotations

from typing import Any

import pytest

from bench.lines import Line, Size, lines


@pytest.mark.parametrize("line", lines(), ids=lambda line: line.name.replace(" ", "-"))
def test_speed(line: Line, size: Size, benchmark: Any) -> None:
    with line.race(size) as (race, traffic):
        benchmark.pedantic(race.first, setup=race.others, rounds=size.rounds, iterations=1)
        benchmark.extra_info |= {
            "line": line.name,
            "times": size.times,
            "levels": size.levels,
            "small_s": line.small_s(),
        }
        benchmark.extra_info |= race.summary(traffic)
