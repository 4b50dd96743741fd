"""What an evaluation found: numbers, plain sentences about them, and the tables made of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from bml.evaluation.scored import Block
from bml.evaluation.tables import markdown_table, number, percent, span, text_table
from bml.openings import Opening

#: name of the forecast all others are compared with
MODEL = "model"
#: what every report says of its intervals
INTERVAL_NOTE = "Intervals account for overlapping labels only; slow market regimes make them too narrow."

#: how a report's title begins
TITLES: dict[Block, str] = {
    "test": "test block",
    "development": "development block (second half of calibrate; the test block is sealed, --open-test opens it)",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One forecaster on the scored rows. ``nll_diff`` = NLL of the model - NLL of this one, below 0 when the model is
    better, with a 95 % block-bootstrap interval (None with too few blocks); ``skill`` = 1 - NLL of the model / NLL of
    this one. ``..._thin``: on the rows whose labels do not overlap alone. ``overconfidence`` = mean confidence of the
    likeliest class - its accuracy, 0 of a calibrated forecast, with such an interval."""

    nll: float
    rps: float
    brier: float
    accuracy: float
    weighted_f1: float
    ece: float
    classwise_ece: float
    skill: float | None = None
    nll_diff: float | None = None
    nll_diff_lo: float | None = None
    nll_diff_hi: float | None = None
    ece_thin: float | None = None
    classwise_ece_thin: float | None = None
    overconfidence: float | None = None
    overconfidence_lo: float | None = None
    overconfidence_hi: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassScore:
    name: str
    precision: float
    recall: float
    f1: float
    support: int
    n_eff: float  # of the support


@dataclass(frozen=True, kw_only=True)
class Report:
    """``scores`` by forecaster ("model", "model_raw" before calibration, the baselines, "bayes"), all on the same
    ``n`` rows of ``block`` worth ``n_eff`` labels that do not overlap; ``sentences``, ``warnings`` are for people."""

    block: Block
    n: int
    n_eff: float
    n_thin: int  # those of which no two labels of one target overlap
    start: str
    stop: str
    scores: dict[str, Score]
    classes: tuple[ClassScore, ...]
    temperature: dict[str, Any] | None
    gap_closed: float | None  # (prior - model) / (prior - bayes) in NLL
    bootstrap_blocks: int
    bootstrap_block_s: float
    sentences: tuple[str, ...]
    warnings: tuple[str, ...]
    opening: Opening | None = None  # of the test block, where a ledger counts it
    about: dict[str, Any] = field(default_factory=dict)  # model, epoch, digests

    def table(self) -> str:
        """The model beside every baseline, plain text."""
        parts = [self._title(), text_table(*self._scores())]
        parts += [f"\n{line}" if k == 0 else line for k, line in enumerate(self.sentences)]
        parts += [INTERVAL_NOTE, *self._opened(), *(f"warning: {line}" for line in self.warnings)]
        return "\n".join(parts)

    def markdown(self, images: dict[str, str]) -> str:
        """The whole report; ``images`` maps a file name to what it shows."""
        head = ("class", "precision", "recall", "F1", "support", "n_eff")
        classes = [
            (c.name, number(c.precision), number(c.recall), number(c.f1), f"{c.support:,}", f"{c.n_eff:,.1f}")
            for c in self.classes
        ]
        parts = [
            "# Evaluation", self._title(), markdown_table(*self._scores()),
            "`skill` is 1 - NLL of the model / NLL of the row; `NLL difference` is model - row, so below 0 the model "
            f"is better. Intervals: 95 %, {self.bootstrap_blocks} blocks of {self.bootstrap_block_s:,.0f} s resampled. "
            + INTERVAL_NOTE,
            *self.sentences, *self._opened(),
        ]  # fmt: skip
        if self.warnings:
            parts += ["## Warnings", "\n".join(f"- {line}" for line in self.warnings)]
        parts += ["## Calibration", self._calibration_words(), markdown_table(*self._calibration())]
        parts += ["## Per class", self._title(), markdown_table(head, classes)]
        parts += [f"![{what}]({file})" for file, what in images.items()]
        about = "\n".join(f"- {key}: {value}" for key, value in sorted(self.about.items()))
        return "\n\n".join([*parts, "## About", about]) + "\n"

    def scalars(self) -> dict[str, float]:
        """Flat numbers for a tracker, "<forecaster>.<score>"; those that do not exist are left out."""
        out = {f"{name}.{key}": v for name, score in self.scores.items() for key, v in asdict(score).items()}
        out |= {"n": float(self.n), "n_eff": self.n_eff, "n_thin": float(self.n_thin), "gap_closed": self.gap_closed}
        for k, c in enumerate(self.classes):
            out |= {f"class_{k}.support": float(c.support), f"class_{k}.n_eff": c.n_eff}
        if self.temperature is not None:
            out["temperature"] = self.temperature["T"]
        return {key: float(value) for key, value in out.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        return {"schema": "bml.report/2", **asdict(self)}

    def _title(self) -> str:
        return f"{TITLES[self.block]} {self.start} to {self.stop}: n = {self.n:,}, n_eff = {self.n_eff:,.1f}"

    def _opened(self) -> list[str]:
        return [] if self.opening is None else [self.opening.words]

    def _calibration_words(self) -> str:
        return (
            f"ECE of all {self.n:,} rows (worth {self.n_eff:,.1f}), and of the {self.n_thin:,} of which no two labels "
            "of one symbol overlap; errors of unequal numbers of rows do not compare. Overconfidence: mean confidence "
            "- accuracy of the likeliest class, 0 of a calibrated forecast."
        )

    def _calibration(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        head = ("forecast", "ECE", "ECE, no overlap", "class ECE", "class ECE, no overlap", "overconfidence",
                "95 % interval")  # fmt: skip
        return head, [
            (
                name, number(s.ece), number(s.ece_thin), number(s.classwise_ece), number(s.classwise_ece_thin),
                number(s.overconfidence, sign=True), span(s.overconfidence_lo, s.overconfidence_hi),
            )
            for name, s in self.scores.items()
        ]  # fmt: skip

    def _scores(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        head = ("forecast", "NLL", "skill", "NLL difference", "95 % interval", "RPS", "Brier", "accuracy",
                "wF1", "ECE", "class ECE")  # fmt: skip
        rows: list[tuple[str, ...]] = [
            (
                name, number(s.nll), percent(s.skill), number(s.nll_diff, sign=True),
                span(s.nll_diff_lo, s.nll_diff_hi), number(s.rps), number(s.brier), number(s.accuracy),
                number(s.weighted_f1), number(s.ece), number(s.classwise_ece),
            )
            for name, s in self.scores.items()
        ]  # fmt: skip
        return head, rows


def verdicts(scores: dict[str, Score], baselines: tuple[str, ...], gap_closed: float | None) -> tuple[str, ...]:
    """One plain sentence per baseline that is not clearly beaten, or one that all are; and the gap to the optimum."""
    lines = []
    for name in baselines:
        told = _verdict(name, scores[MODEL].nll, scores[name])
        if told:
            lines.append(told)
    if not lines:
        lines.append(f"The model beats every baseline ({', '.join(baselines)}); every interval excludes 0.")
    if gap_closed is not None:
        lines.append(
            f"The model closes {100 * gap_closed:.1f} % of the gap between the prior and the best possible forecast."
        )
    return tuple(lines)


def _verdict(name: str, model_nll: float, other: Score) -> str | None:
    interval = span(other.nll_diff_lo, other.nll_diff_hi)
    told = f"NLL {model_nll:.4f} against {other.nll:.4f}, difference {number(other.nll_diff, sign=True)}"
    told += ", no interval: the scored block is too short" if interval == "-" else f", 95 % interval {interval}"
    if model_nll >= other.nll:
        return f"The model does not beat {name}: {told}."
    if other.nll_diff_hi is None or other.nll_diff_hi >= 0:
        return f"The model is ahead of {name}, but not beyond chance: {told}."
    return None
