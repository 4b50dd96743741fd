"""At which moments the world is cut: where leaks hide, and by chance."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle

import numpy as np

from bml.audit.replay import Replay
from bml.audit.scramble import Spell, spells_of
from bml.audit.world import World
from bml.types import NS_PER_DAY, SPLITS, Flag, Int64


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Cut:
    """The world is real up to and with ``at_ns``, then a spell comes; ``kind`` says why there."""

    at_ns: int
    kind: str
    spell: Spell
    spell_ns: int

    @property
    def world(self) -> World:
        return World(cut_ns=self.at_ns, spell_ns=self.spell_ns, spell=self.spell)


def choose(replay: Replay, number: int, seed: int) -> list[Cut]:
    """``number`` different moments in order of time, a third of them with each spell. Depends on the seed.

    Up to half of them are the first and last moments of the data, the borders of blocks and of the learning span with
    a row before and after, and a midnight. The others are drawn in turn from: any nanosecond, an anchor, the end of a
    label, a grid row, a midnight, and rows without a new snapshot.
    """
    rng = np.random.default_rng([seed, 1])
    special = _special(replay, rng)
    if len(special) > max(1, number // 2):
        special = [special[k] for k in np.sort(rng.permutation(len(special))[: max(1, number // 2)])]
    found = {at_ns: kind for kind, at_ns in special}
    pools = _pools(replay)
    start_ns, stop_ns = _span(replay)
    for kind in cycle(("time", *pools)):
        if len(found) >= min(number, (stop_ns - start_ns) // 2):
            break
        drawn = int(rng.integers(start_ns, stop_ns)) if kind == "time" else int(rng.choice(pools[kind]))
        if start_ns <= drawn < stop_ns:
            found.setdefault(drawn, kind)
    times = sorted(found)[:number]
    spells = list(spells_of(replay.cfg).items())
    which = rng.permutation(len(times)) % len(spells)
    return [
        Cut(at_ns=at_ns, kind=found[at_ns], spell=spells[k][0], spell_ns=spells[k][1])
        for at_ns, k in zip(times, which.tolist(), strict=True)
    ]


def telling(replay: Replay, number: int, seed: int) -> list[Cut]:
    """Moments at which planted leaks show: anchors, label ends and old rows, most after the training block."""
    rng = np.random.default_rng([seed, 2])
    spells = list(spells_of(replay.cfg).items())
    out: list[Cut] = []
    pools = {kind: pool for kind, pool in _pools(replay).items() if kind in ("anchor", "label stop", "old row")}
    late = {kind: pool[pool >= replay.trained_ns] for kind, pool in pools.items()}
    for k in range(number):
        from_ = pools if k % 5 == 4 else late
        for kind, pool in from_.items():
            if pool.shape[0]:
                at_ns = int(pool[rng.integers(pool.shape[0])])
                spell, spell_ns = spells[(k + 2) % len(spells)]
                out.append(Cut(at_ns=at_ns, kind=kind, spell=spell, spell_ns=spell_ns))
    return out


def _span(replay: Replay) -> tuple[int, int]:
    bounds_ns = replay.real.dataset.fold.bounds_ns
    return bounds_ns[0][0], bounds_ns[-1][1]


def _special(replay: Replay, rng: np.random.Generator) -> list[tuple[str, int]]:
    start_ns, stop_ns = _span(replay)
    cadence_ns = replay.real.dataset.grid.cadence_ns
    midnight_ns = start_ns + int(rng.integers(1, max(2, (stop_ns - start_ns) // NS_PER_DAY))) * NS_PER_DAY
    borders = {f"begin of {name}": bound[0] for name, bound in
               zip(SPLITS[1:], replay.real.dataset.fold.bounds_ns[1:], strict=True)}  # fmt: skip
    borders |= {"end of the learning span": replay.learned_ns, "midnight": midnight_ns}
    out = [("first moment", start_ns), ("last moment", stop_ns - 1)]
    for kind, at_ns in borders.items():
        out += [(kind, at_ns), (f"just before the {kind}", at_ns - 1)]
        out += [(f"a row before the {kind}", at_ns - cadence_ns), (f"a row after the {kind}", at_ns + cadence_ns)]
    inside = {at_ns: kind for kind, at_ns in reversed(out) if start_ns <= at_ns < stop_ns}
    return [(kind, at_ns) for at_ns, kind in sorted(inside.items())]


def _pools(replay: Replay) -> dict[str, Int64]:
    """Kind -> the moments to draw from; a kind without any is left out."""
    dataset = replay.real.dataset
    rows_T = np.arange(dataset.grid.n_rows, dtype=np.int64)
    start_ns, stop_ns = _span(replay)
    old_T = np.zeros(dataset.grid.n_rows, dtype=np.bool_)
    for symbol in dataset.symbols:
        old_T |= dataset.series(symbol)[1] & np.uint16(Flag.FILLED | Flag.GAP) != 0
    pools = {
        "anchor": dataset.index.anchor_ns_N,
        "label stop": dataset.index.label_stop_ns_N,
        "grid row": dataset.grid.time_ns(rows_T),
        "midnight": np.arange(start_ns, stop_ns, NS_PER_DAY, dtype=np.int64),
        "old row": dataset.grid.time_ns(rows_T[old_T]),
    }
    return {kind: pool for kind, pool in pools.items() if pool.shape[0]}
