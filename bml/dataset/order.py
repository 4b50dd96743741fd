"""Which rows come at which step: a function of seed, epoch, rank and world, so that any step can be made again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bml.types import Int64


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """``n_rows`` places, in their order or shuffled anew every epoch, cut into steps and dealt out to ``world`` ranks.

    A step is ``batch_size * world`` places, and rank r has every ``world``-th of them from the r-th on: the ranks
    together see at each step what one rank with so large a batch sees. Every place comes once, at one rank. The last
    step is short; a rank that has no place in it has a step less.
    Raises ValueError for a batch size or world below 1, or a rank outside of the world.
    """

    n_rows: int
    batch_size: int
    shuffle: bool = False
    seed: int = 0
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.world < 1 or not 0 <= self.rank < self.world:
            raise ValueError(f"rank must lie in 0..{self.world - 1}, the ranks of world {self.world}, got {self.rank}")

    def __len__(self) -> int:
        """Steps of this rank."""
        whole, rest = divmod(self.n_rows, self.batch_size * self.world)
        return whole + (rest > self.rank)

    def steps(self, epoch: int, start: int = 0) -> list[Int64]:
        """This rank's places of every step from ``start`` on. Raises ValueError for a step there is none of."""
        if not 0 <= start <= len(self):
            raise ValueError(f"start_step must lie in 0..{len(self)}, the steps of an epoch, got {start}")
        places: Int64 = np.arange(self.n_rows, dtype=np.int64)
        if self.shuffle:
            places = np.random.default_rng([self.seed, epoch]).permutation(self.n_rows)
        each = self.batch_size * self.world
        return [places[k * each + self.rank : (k + 1) * each : self.world] for k in range(start, len(self))]
