"""One symbol-day out of a real PostgreSQL and out of a replaying server, beside every peer: bars with their figures.

    python -m bench.extraction [--snapshots 8640] [--levels 1000] [--rounds 5] [--dsn DSN] [--json FILE]

Each way runs in a process of its own; a round runs every way once, so that a slow minute of the machine hits all, and
a ratio is the median of the rounds' ratios. CPU is user and system of the client. Without --dsn a server is started in
a folder of its own (the dsn's role must be allowed COPY to a file on the server). A peer that is not installed is
reported as missing, and its bar as not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import extraction_day, extraction_servers

#: ways of a round, in turn; peers that are dear run in the first rounds only
DATABASE = ("floor", "book", "day", "day_steps", "adbc", "connectorx", "tenth", "cursor", "chunked")
REPLAY = {
    "drain": ("drain", "time-major.d"),
    "time-major": ("replay_copy", "time-major.d"),
    "level-major": ("replay_copy", "level-major.d"),
    "random": ("replay_copy", "random.d"),
    "chunks": ("replay_chunked", "time-major.D"),
    "chunks random": ("replay_chunked", "random.D"),
    "portable": ("replay_portable", "time-major.d"),
    "read and numpy": ("replay_numpy", "time-major.d"),
}
DEAR = {
    "day_steps": 2,
    "chunked": 3,
    "portable": 1,
    "chunks random": 1,
    "read and numpy": 2,
    "cursor": 3,
    "connectorx": 3,
}

Told = dict[str, Any]


@dataclass
class Rounds:
    """What was measured: per way, one entry a round."""

    told: dict[str, list[Told]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    load: list[float] = field(default_factory=list)

    def ratio(self, one: str, other: str, of: str = "wall") -> float | None:
        """Of what ``one`` and ``other`` took: the median over the rounds both ran in."""
        pairs = list(zip(self.told.get(one, []), self.told.get(other, []), strict=False))
        if not pairs:
            return None
        return float(statistics.median(a[of] / b[of] for a, b in pairs))

    def growth(self, way: str) -> float:
        """Bytes the process grew by at its highest point; the most of all rounds."""
        return max((one["peak"] - one["rss"] for one in self.told.get(way, [])), default=0.0)


@dataclass(frozen=True)
class Bar:
    name: str
    wanted: str
    figure: Callable[[Rounds], float | None]
    holds: Callable[[float], bool]


def _server_limit(rounds: Rounds) -> float:
    return 1.15 if statistics.median(rounds.load) < 2 else 1.3


def _over_floor(rounds: Rounds) -> float | None:
    """Of the book, as a share of what the limit allows on a machine of this load."""
    ratio = rounds.ratio("book", "floor")
    return None if ratio is None else ratio / _server_limit(rounds)


def _rss(rounds: Rounds) -> float | None:
    ways = [way for way in ("book", "time-major", "level-major", "random") if way in rounds.told]
    return max((rounds.growth(way) / rounds.told[way][0]["bytes"] for way in ways), default=None)


def _beside_adbc(rounds: Rounds) -> float | None:
    peak = rounds.growth("adbc")
    return rounds.growth("book") / peak if peak else None


def _digests(rounds: Rounds) -> float | None:
    whole = [one for ran in rounds.told.values() for one in ran if "digest" in one and "part" not in one]
    return float(len({one["digest"] for one in whole}))


def _at_most(limit: float) -> Callable[[float], bool]:
    return lambda x: x <= limit


def _at_least(limit: float) -> Callable[[float], bool]:
    return lambda x: x >= limit


BARS = (
    Bar("1 wall(ADBC) / wall(book)", ">= 1.15", lambda r: r.ratio("adbc", "book"), _at_least(1.15)),
    Bar("2 CPU(ADBC) / CPU(book)", ">= 4", lambda r: r.ratio("adbc", "book", "cpu"), _at_least(4)),
    Bar("3 wall(book) / wall(server alone)", "<= 1.15, 1.3 at load >= 2", lambda r: r.ratio("book", "floor"),
        lambda x: x <= 1.3),
    Bar("3 the same / its limit at this load", "<= 1", _over_floor, _at_most(1)),
    Bar("  wall(HDF5 day) / wall(server alone)", "<= 1.25", lambda r: r.ratio("day", "floor"), _at_most(1.25)),
    Bar("4 wall(named cursor) / wall(book), a tenth", ">= 7", lambda r: r.ratio("cursor", "tenth"), _at_least(7)),
    Bar("4 CPU(named cursor) / CPU(book), a tenth", ">= 30", lambda r: r.ratio("cursor", "tenth", "cpu"),
        _at_least(30)),
    Bar("5 wall(connectorx) / wall(book)", ">= 1.6", lambda r: r.ratio("connectorx", "book"), _at_least(1.6)),
    Bar("6 replay: rows/s of book / drain", ">= 0.35", lambda r: r.ratio("drain", "time-major"), _at_least(0.35)),
    Bar("7 replay: wall(read + numpy) / wall(book)", ">= 12", lambda r: r.ratio("read and numpy", "time-major"),
        _at_least(12)),
    Bar("8 replay: rows/s of chunks / drain", ">= 0.14", lambda r: r.ratio("drain", "chunks"), _at_least(0.14)),
    Bar("8 replay: CPU(chunks) / CPU(book)", "<= 2.5", lambda r: r.ratio("chunks", "time-major", "cpu"),
        _at_most(2.5)),
    Bar("9 replay: level-major / time-major", "<= 3", lambda r: r.ratio("level-major", "time-major"), _at_most(3)),
    Bar("9 replay: random / time-major", "<= 4", lambda r: r.ratio("random", "time-major"), _at_most(4)),
    Bar("10 growth / bytes of the book, any order", "<= 1.10", _rss, _at_most(1.10)),
    Bar("10 growth(book) / growth(ADBC)", "<= 0.5", _beside_adbc, _at_most(0.5)),
    Bar("11 different books of all ways and orders", "1", _digests, lambda x: x == 1),
)  # fmt: skip


def measure(rounds: Rounds, name: str, way: str, *arguments: object) -> None:
    """Run one way in its process and keep what it tells."""
    if name in rounds.missing:
        return
    command = [sys.executable, "-m", "bench.extraction_work", way, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{name}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'failed'}")
    told = json.loads(done.stdout)
    if "missing" in told:
        rounds.missing[name] = told["missing"]
        return
    if way == "tenth":
        told["part"] = 0.1
    rounds.told.setdefault(name, []).append(told)
    print(f"  {name:16} wall {told['wall']:7.3f} s  CPU {told['cpu']:7.3f} s", flush=True)


def run(chosen: argparse.Namespace) -> Rounds:
    rounds = Rounds()
    size = chosen.snapshots, chosen.levels
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bml-bench-rows-")))
        dsn = chosen.dsn or stack.enter_context(extraction_servers.postgres())
        print(f"loading {size[0] * size[1]} rows", flush=True)
        extraction_day.load(dsn, *size)
        for order in extraction_day.ORDERS:
            for kind in (b"d", b"D"):
                extraction_day.record(folder / f"{order}.{kind.decode()}", *size, order, kind)
        again = stack.enter_context(extraction_servers.replay(folder, size[0] * size[1]))
        measure(Rounds(), "warm-up", "floor", dsn, *size)
        for i in range(chosen.rounds):
            rounds.load.append(os.getloadavg()[0])
            print(f"round {i + 1} of {chosen.rounds}, load {rounds.load[-1]:.1f}", flush=True)
            for name in DATABASE:
                if i < DEAR.get(name, chosen.rounds):
                    measure(rounds, name, name, dsn, *size)
            for name, (way, file) in REPLAY.items():
                if i < DEAR.get(name, chosen.rounds):
                    measure(rounds, name, way, again, *size, file)
    return rounds


def report(rounds: Rounds) -> list[str]:
    """A table of the ways, then one of the bars."""
    lines = [f"{'way':16} {'wall best':>9} {'median':>8} {'CPU':>8} {'growth MB':>10}  n"]
    for name, ran in rounds.told.items():
        wall, cpu = ([one[of] for one in ran] for of in ("wall", "cpu"))
        lines.append(
            f"{name:16} {min(wall):9.3f} {statistics.median(wall):8.3f} {statistics.median(cpu):8.3f} "
            f"{rounds.growth(name) / 1e6:10.0f}  {len(ran)}"
        )
    lines += [f"{name:16} missing: {why}" for name, why in rounds.missing.items()]
    lines.append("")
    for bar in BARS:
        x = bar.figure(rounds)
        verdict = "not measured" if x is None else f"{x:7.3f}  {'holds' if bar.holds(x) else 'FAILS'}"
        lines.append(f"{bar.name:45} {bar.wanted:26} {verdict}")
    lines.append(f"load {min(rounds.load):.1f} to {max(rounds.load):.1f}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--snapshots", type=int, default=8640)
    parser.add_argument("--levels", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dsn")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    rounds = run(chosen)
    print("\n".join(report(rounds)))
    if chosen.json:
        chosen.json.write_text(json.dumps({"told": rounds.told, "missing": rounds.missing, "load": rounds.load}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
