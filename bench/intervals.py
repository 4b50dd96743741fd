"""Do the 95 % intervals cover? Perfectly calibrated forecasts with 180 overlapping labels, many times over.

    python -m bench.intervals [--replications 500] [--days 10]

A market whose drift is known at every anchor: the return over the horizon is Gaussian given the drift, so the true
class probabilities are known, and a forecast that states them is calibrated by construction. Two mean scores have a
known truth: the difference of its NLL to that of the forecast that states the class shares (minus the mutual
information of class and drift), and its overconfidence (0). Each replication is a new history; an interval covers
where the truth is in it. The naive interval takes rows for samples.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from bml.evaluation.bootstrap import mean_interval
from bml.types import Float64, Int64

CADENCE_S = 10
#: rows a label spans: half an hour
HORIZON = 180
#: classes are octiles of the return
CLASSES = 8
ROWS_PER_DAY = 86_400 // CADENCE_S
#: points of the table of probabilities by drift, over +-LIMIT standard deviations
TABLE, LIMIT = 4097, 8.0
#: histories simulated at a time: a few arrays of (rows, this many) doubles
AT_A_TIME = 25
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Law:
    """A drift of unit variance with a relaxation time, of which ``share`` of a return's variance is known ahead."""

    memory_s: float
    share: float

    @property
    def stay(self) -> float:
        """Correlation of the drift of two neighbouring rows."""
        return math.exp(-CADENCE_S / self.memory_s)

    @property
    def gain(self) -> float:
        """Expected return over the horizon for a drift of 1 at the anchor."""
        return (1 - self.stay**HORIZON) / (1 - self.stay)

    @property
    def noise(self) -> float:
        """Standard deviation of a row's own noise: what is left to it after the drift's own later steps."""
        left = (1 - self.stay ** np.arange(HORIZON - 1, 0, -1)) / (1 - self.stay)
        rest = self.gain**2 * (1 - self.share) / self.share - (1 - self.stay**2) * float((left**2).sum())
        if rest <= 0:
            raise ValueError(f"{self}: the drift moves too much after the anchor for that much to be known")
        return math.sqrt(rest / HORIZON)

    def edges(self) -> Float64:
        """The octiles of the return."""
        law = NormalDist(0, self.gain / math.sqrt(self.share))
        return np.array([law.inv_cdf(k / CLASSES) for k in range(1, CLASSES)])

    def table(self) -> Float64:
        """(TABLE, C) true class probabilities by drift."""
        drift_M = np.linspace(-LIMIT, LIMIT, TABLE)
        deviation = self.gain * math.sqrt((1 - self.share) / self.share)
        z_ME = (self.edges() - self.gain * drift_M[:, None]) / deviation
        below_ME = 0.5 * (1 + np.vectorize(math.erf)(z_ME / math.sqrt(2)))
        proba_MC: Float64 = np.diff(below_ME, axis=1, prepend=0.0, append=1.0)
        return proba_MC

    def nll_difference(self) -> float:
        """Expected NLL of the true probabilities - that of the class shares, in nats."""
        drift_M, p_MC = np.linspace(-LIMIT, LIMIT, TABLE), self.table()
        density_M = np.exp(-0.5 * drift_M**2)
        plogp_M = (p_MC * np.log(np.maximum(p_MC, 1e-300))).sum(axis=1)
        return -float((plogp_M * density_M).sum() / density_M.sum()) - math.log(CLASSES)


class Scores(NamedTuple):
    """(N, R) scores of R histories at the same N anchors, in the order of the truths of :func:`coverage`."""

    difference_NR: Float64
    overconfidence_NR: Float64


def histories(law: Law, rng: np.random.Generator, n: int, count: int) -> Scores:
    """Scores of the true probabilities at ``n`` anchors a row apart, in ``count`` histories."""
    steps = n + HORIZON - 1
    drift_TR = rng.standard_normal((steps, count))
    drift_TR[1:] *= math.sqrt(1 - law.stay**2)
    for t in range(1, steps):
        drift_TR[t] += law.stay * drift_TR[t - 1]
    path_TR = np.zeros((steps + 1, count))
    np.cumsum(drift_TR + law.noise * rng.standard_normal((steps, count)), axis=0, out=path_TR[1:])
    y_NR = np.searchsorted(law.edges(), path_TR[HORIZON:] - path_TR[:n], side="right")
    p_MC = law.table()
    place_NR = np.rint((drift_TR[:n] + LIMIT) * ((TABLE - 1) / (2 * LIMIT))).astype(np.int64)
    came_NR = p_MC.ravel()[place_NR * CLASSES + y_NR]
    top_NR = (y_NR == p_MC.argmax(axis=1)[place_NR]).astype(np.float64)
    return Scores(-np.log(came_NR) - math.log(CLASSES), p_MC.max(axis=1)[place_NR] - top_NR)


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """Shares of replications whose interval holds the truth, and the mean widths."""

    what: str
    block: float
    naive: float
    block_width: float
    naive_width: float
    replications: int


def naive_interval(score_N: Float64) -> tuple[float, float]:
    """What the interval would be if every row were a sample."""
    half = NormalDist().inv_cdf(0.5 + LEVEL / 2) * float(score_N.std(ddof=1)) / math.sqrt(score_N.shape[0])
    return float(score_N.mean()) - half, float(score_N.mean()) + half


def coverage(law: Law, *, days: float, replications: int, seed: int = 0, draws: int = 1000) -> list[Coverage]:
    """One line a score. About 0.03 s a replication of ten days."""
    n = round(days * ROWS_PER_DAY)
    anchor_ns_N = np.arange(n) * (CADENCE_S * 1_000_000_000)
    truths = {"NLL difference to the class shares": law.nll_difference(), "overconfidence": 0.0}
    held: dict[str, list[tuple[float, float, float, float]]] = {what: [] for what in truths}
    for scores in _batches(law, seed, n, replications):
        for what, score_NR in zip(truths, scores, strict=True):
            for score_N in score_NR.T:
                held[what].append(_held(np.ascontiguousarray(score_N), anchor_ns_N, truths[what], draws))
    out = []
    for what, rows in held.items():
        block, naive, block_width, naive_width = np.mean(rows, axis=0).tolist()
        out.append(Coverage(what=what, block=block, naive=naive, block_width=block_width, naive_width=naive_width,
                            replications=replications))  # fmt: skip
    return out


def _batches(law: Law, seed: int, n: int, replications: int) -> Iterator[Scores]:
    rng = np.random.default_rng(seed)
    for first in range(0, replications, AT_A_TIME):
        yield histories(law, rng, n, min(AT_A_TIME, replications - first))


def _held(score_N: Float64, anchor_ns_N: Int64, truth: float, draws: int) -> tuple[float, float, float, float]:
    interval = mean_interval(score_N, anchor_ns_N, HORIZON * CADENCE_S * 1_000_000_000, draws=draws, level=LEVEL)
    lo, hi = naive_interval(score_N)
    return float(interval.lo <= truth <= interval.hi), float(lo <= truth <= hi), interval.hi - interval.lo, hi - lo


#: label-long and shorter memories, which the interval accounts for; six hours, which it says it does not
LAWS = (
    Law(memory_s=600, share=0.05),
    Law(memory_s=1800, share=0.05),
    Law(memory_s=3600, share=0.05),
    Law(memory_s=21_600, share=0.05),
)


def table(found: list[tuple[Law, list[Coverage]]]) -> str:
    """One line a law and score."""
    head = f"{'drift lasts':>12}  {'mean of':36} {'block':>7} {'naive':>7} {'block':>8} {'naive':>8}"
    lines = [f"{'':50} {'covers':>15} {'width':>17}", head]
    for law, scores in found:
        for one in scores:
            lines.append(
                f"{law.memory_s / 60:8.0f} min  {one.what:36} {one.block:7.1%} {one.naive:7.1%} {one.block_width:8.4f} "
                f"{one.naive_width:8.4f}"
            )
    return "\n".join(lines)


def main() -> None:
    """Print how often the intervals cover."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=500)
    parser.add_argument("--days", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    found = [(law, coverage(law, days=args.days, replications=args.replications, seed=args.seed)) for law in LAWS]
    print(
        f"{args.replications} replications of {args.days:g} days at {CADENCE_S} s, labels of {HORIZON} rows, "
        f"{LEVEL:.0%} intervals"
    )
    print(table(found))


if __name__ == "__main__":
    main()
