"""The audit itself: the stages replayed in many worlds, and in a world with each known leak."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bml.audit import cuts as moments
from bml.audit import planted_rows  # noqa: F401 (registers its leaks)
from bml.audit.builds import Builds
from bml.audit.compare import Comparison
from bml.audit.cuts import Cut
from bml.audit.planted import LEAKS, Leak
from bml.audit.replay import Replay
from bml.audit.scramble import scramble_of
from bml.audit.structure import Check, of_blocks, of_labels
from bml.audit.tally import Tally
from bml.audit.world import WorldSource
from bml.config import Config
from bml.types import ConfigError
from bml.worker import open_source

#: moments tried for each planted leak, a few at a time
TELLING = 12

#: told of a step that is done: what was found, or which it was
Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Caught:
    """How a planted leak showed: the field that differed or the property that broke; "" when it did not.

    ``pointless`` says why it could not show in these data, "" when it could.
    """

    leak: str
    by: str = ""
    cuts: int = 0
    pointless: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """Everything an audit found. ``cuts`` go with the bytes compared and differing at each."""

    seed: int
    cuts: list[tuple[Cut, int, int]]
    tally: Tally
    structure: list[Check]
    store_digest: str
    dataset_digest: str
    rows: dict[str, int]
    planted: list[Caught] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not self.tally.differing and not any(check.broken for check in self.structure)

    @property
    def missed(self) -> list[str]:
        """Planted leaks nothing showed of."""
        return [caught.leak for caught in self.planted if not (caught.by or caught.pointless)]


def audit(
    cfg: Config,
    *,
    cuts: int,
    seed: int,
    self_test: bool = False,
    phase: Callable[[str, int], Tell] = lambda title, total: lambda note: None,
) -> Audit:
    """Replay the stages of ``cfg`` in ``cuts`` worlds and compare each with the real one; with ``self_test`` also
    with every known leak planted.

    Day files are built anew in a temporary folder ($TMPDIR), which is gone when this ends, however it ends: up to
    three times the size of the store's. ``phase(title, steps)`` begins a phase and gives what to call after a step.
    Raises what the stages raise, ConfigError for no cut, DataError for a field without a date.
    """
    if cuts < 1:
        raise ConfigError(f"--cuts {cuts}: at least 1")
    if not cfg.features.written:
        told = "stages.features is missing, so the depth plan would be learned from all days"
        raise ConfigError(f"{cfg.path}: {told}: write it (features: {{}} takes the defaults)")
    with tempfile.TemporaryDirectory(prefix="bml-audit-") as folder, open_source(cfg) as source:
        worlds = WorldSource(source, scramble_of(cfg, seed))
        done = phase("real world", 1)
        replay = Replay(cfg, worlds, Builds(cfg, worlds, Path(folder) / "days"))
        done("")
        chosen, tally = moments.choose(replay, cuts, seed), Tally()
        done = phase("cuts", len(chosen))
        counted = _visit(replay, chosen, tally, done)
        planted = []
        if self_test:
            done = phase("planted leaks", len(LEAKS))
            for leak in LEAKS:
                planted.append(_tried(replay, leak, worlds, Path(folder) / "leaks", seed))
                done(leak.name)
        structure = [*of_blocks(replay.real), *_of_labels(replay)]
    dataset = replay.real.dataset
    rows: dict[str, int] = dataset.summary()["rows"]
    return Audit(
        seed=seed,
        cuts=counted,
        tally=tally,
        structure=structure,
        store_digest=dataset.store_digest,
        dataset_digest=dataset.digest,
        rows=rows,
        planted=planted,
    )


def _visit(replay: Replay, chosen: list[Cut], tally: Tally, done: Tell) -> list[tuple[Cut, int, int]]:
    comparison, counted = Comparison(replay, tally), []
    for cut in chosen:
        compared, differing = tally.compared, tally.differing
        comparison.at(replay.run(cut.world))
        replay.builds.forget(cut.world)
        counted.append((cut, tally.compared - compared, tally.differing - differing))
        done(f"{tally.differing} bytes differ" if tally.differing else "")
    return counted


def _of_labels(replay: Replay) -> list[Check]:
    return of_labels(replay.real, replay.cfg.features.params.get("max_stale_s"))


def _tried(replay: Replay, leak: Leak, worlds: WorldSource, folder: Path, seed: int) -> Caught:
    """The audit with a leak planted, until it shows: labels are looked at last, to see what the cuts see."""
    why = leak.pointless(replay)
    if why:
        return Caught(leak=leak.name, pointless=why)
    clean = {check.name for check in (*of_blocks(replay.real), *_of_labels(replay)) if not check.broken}
    chosen = moments.telling(replay, TELLING, seed)
    with leak.plant():
        builds = Builds(replay.cfg, worlds, folder / leak.name) if leak.rebuilds else replay.builds
        planted = Replay(replay.cfg, worlds, builds)
        by = _broken(of_blocks(planted.real), clean)
        if by:
            return Caught(leak=leak.name, by=by)
        tally = Tally()
        comparison = Comparison(planted, tally)
        for number, cut in enumerate(chosen, 1):
            comparison.at(planted.run(cut.world))
            builds.forget(cut.world)
            if tally.findings:
                return Caught(leak=leak.name, by=tally.findings[0].field, cuts=number)
        return Caught(leak=leak.name, by=_broken(_of_labels(planted), clean), cuts=len(chosen))


def _broken(checks: list[Check], clean: set[str]) -> str:
    """The first property that holds no more, "" for none."""
    return next((check.name for check in checks if check.broken and check.name in clean), "")
