"""How often test blocks were opened: a ledger that only grows, one of each store, for configurations of any name.

    {root}/state/openings.jsonl    one line an opening, oldest first

A test block that is looked at again and again becomes one more block to tune on. Nothing here prevents that; it is
counted, and the report says how often. ``--force``, new trainings and new names leave the ledger as it is.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bml.book.publish import publish
from bml.config import Config, digest
from bml.trackstore import locked
from bml.types import StoreError

if TYPE_CHECKING:
    from bml.dataset.dataset import Dataset


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """``number`` counts the openings of one dataset, ``number_of_days`` those of any whose test block shares time with
    it, itself included; ``at`` is UTC; ``bounds_ns`` [start, stop) of the test block; the rest are digests, ``model``
    "" where labels were looked at without one."""

    number: int
    number_of_days: int
    at: str
    dataset: str
    config: str
    model: str
    bounds_ns: tuple[int, int]

    @property
    def words(self) -> str:
        told = f"The test block was opened for the {ordinal(self.number)} time"
        if self.number_of_days > self.number:
            told += f" (its days for the {ordinal(self.number_of_days)}, with other datasets)"
        return f"{told}."


def ledger(root: Path) -> Path:
    """The ledger of the store at ``root``."""
    return root / "state" / "openings.jsonl"


def opened(cfg: Config, dataset: Dataset, *, model: str) -> Opening:
    """Count an opening of the dataset's test block by the configuration; ``model`` is the scored one's digest, "" where
    none was scored. Raises what :func:`record` does."""
    return record(
        ledger(cfg.store.root),
        dataset=dataset.digest,
        config=digest(cfg.document),
        model=model,
        bounds_ns=dataset.fold.bounds_ns[-1],
    )


def record(path: Path, *, dataset: str, config: str, model: str, bounds_ns: tuple[int, int]) -> Opening:
    """Count one opening in the ledger ``path``: the line is on the disk before anything is computed.

    Other processes wait. Raises StoreError where the ledger is damaged or cannot be written; then nothing is opened.
    """
    try:
        return _record(path, dataset, config, model, bounds_ns)
    except OSError as error:  # of the lock
        raise StoreError(f"{path}: cannot be written ({error.strerror or error}), so the test block stays sealed: make "
                         "its folder writable") from error  # fmt: skip


def _record(path: Path, dataset: str, config: str, model: str, bounds_ns: tuple[int, int]) -> Opening:
    with locked(path.with_name(f".{path.name}.lock")):
        before = read(path)
        opening = Opening(
            number=1 + sum(one.dataset == dataset for one in before),
            number_of_days=1 + sum(_share_time(one.bounds_ns, bounds_ns) for one in before),
            at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            dataset=dataset,
            config=config,
            model=model,
            bounds_ns=bounds_ns,
        )
        publish(path, "".join(f"{json.dumps(asdict(one))}\n" for one in (*before, opening)).encode())
    return opening


def read(path: Path) -> tuple[Opening, ...]:
    """Every opening, oldest first; none without a ledger. Raises StoreError on a line that is none."""
    out: list[Opening] = []
    try:
        for line in path.read_text().splitlines():
            values = json.loads(line)
            low, high = values["bounds_ns"]
            out.append(Opening(**{**values, "bounds_ns": (int(low), int(high))}))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}; it counts how often the test block was "
                         "opened: let this user read it") from error  # fmt: skip
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path}: line {len(out) + 1} is damaged ({error}); it counts how often the test block was opened: mend it "
            "from a backup, or move it away to begin anew"
        ) from error
    return tuple(out)


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th ..."""
    last = 0 if number // 10 % 10 == 1 else number % 10
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(last, 'th') }"


def _share_time(a_ns: tuple[int, int], b_ns: tuple[int, int]) -> bool:
    return max(a_ns[0], b_ns[0]) < min(a_ns[1], b_ns[1])
