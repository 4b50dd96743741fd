"""The ledger of openings: it counts, survives what dies beside it, and is never read as less than it is."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from bml import openings
from bml.types import StoreError

SPAN = (100, 200)


def opened(path: Path, dataset: str = "a", bounds_ns: tuple[int, int] = SPAN) -> openings.Opening:
    return openings.record(path, dataset=dataset, config="c", model="m", bounds_ns=bounds_ns)


def open_five(path: Path) -> None:
    for _ in range(5):
        opened(path)


def test_openings_are_counted_by_dataset_and_by_days(tmp_path: Path) -> None:
    path = tmp_path / "state" / "name" / "openings.jsonl"
    assert openings.read(path) == ()
    made = [opened(path), opened(path), opened(path, "b", (150, 300)), opened(path, "c", (200, 300)), opened(path)]
    assert [(one.number, one.number_of_days) for one in made] == [(1, 1), (2, 2), (1, 3), (1, 2), (3, 4)]
    assert openings.read(path) == tuple(made)
    assert len(path.read_text().splitlines()) == 5
    assert made[0].words == "The test block was opened for the 1st time."
    assert made[2].words.endswith("1st time (its days for the 3rd, with other datasets).")


def test_nothing_is_counted_twice_or_lost_by_processes_at_once(tmp_path: Path) -> None:
    path = tmp_path / "openings.jsonl"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=open_five, args=(path,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert [one.number for one in openings.read(path)] == list(range(1, 16))


def test_a_ledger_that_cannot_be_written_opens_nothing(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match=r"openings\.jsonl: cannot be written .* the test block stays sealed"):
        opened(openings.ledger(tmp_path))


@pytest.mark.parametrize("damage", ['{"number": 2', "{}", "[]", '{"bounds_ns": [1]}', "\x00", ""])
def test_a_damaged_ledger_opens_nothing(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "openings.jsonl"
    opened(path)
    before = path.read_text() + damage + "\n"
    path.write_text(before)
    with pytest.raises(StoreError, match=r"openings\.jsonl: line 2 is damaged .* move it away to begin anew") as told:
        opened(path)
    assert "\n" not in str(told.value)
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("number", "word"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th"), (13, "13th"), (21, "21st"),
     (102, "102nd"), (111, "111th")],
)  # fmt: skip
def test_ordinals(number: int, word: str) -> None:
    assert openings.ordinal(number) == word
