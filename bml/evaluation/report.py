"""The evaluation stage: one model, every baseline and, where it is known, the truth, on the same rows."""

from __future__ import annotations

import hashlib
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from bml.dataset.sampling import stride_by_horizon
from bml.dataset.weights import uniqueness
from bml.evaluation import calibration as temperatures
from bml.evaluation import metrics
from bml.evaluation.bootstrap import MIN_BLOCKS, Interval, mean_interval
from bml.evaluation.pictures import PICTURES, draw
from bml.evaluation.result import MODEL, ClassScore, Report, Score, verdicts
from bml.evaluation.scored import Block, Scored, choose
from bml.openings import Opening
from bml.registry import stage
from bml.types import SPLITS, Float64, Int64, StoreError

if TYPE_CHECKING:
    from bml.dataset.dataset import Dataset
    from bml.training.checkpoint import Checkpoint

Forecasts = dict[str, Float64]
AtLeastOne = Annotated[int, Field(ge=1)]

#: said of labels whose exact probabilities nobody knows
NO_LAW = "no best possible forecast: the truth has no law of first touches, means of mids or exact zeros"


@stage
def evaluate(
    dataset: Dataset,
    checkpoint: Path,
    *,
    out: Path,
    truth: Path | None = None,
    calibration: Literal["temperature", "none"] = "temperature",
    sha256: str | None = None,
    open_test: bool = False,
    opening: Opening | None = None,
    bins: AtLeastOne = 15,
    min_support: Annotated[int, Field(ge=0)] = 100,
    draws: Annotated[int, Field(ge=100, le=100_000)] = 2000,
    seed: Annotated[int, Field(ge=0)] = 7,
    batch_size: AtLeastOne | None = None,
    device: str = "auto",
) -> Report:
    """Score ``checkpoint`` beside the baselines and, given ``truth``, the best possible forecast.

    The test block stays sealed without ``open_test``: then the temperature is fitted on the first half of the
    calibrate block and the second half is scored. With it the temperature is fitted on the calibrate block and the
    test block is scored; ``opening`` is the entry of the ledger that counts it, for the report to tell. Baselines are
    fitted on the rows of the train block, and with the weights, that the model was trained with. Differences of NLL
    and overconfidence come with a block-bootstrap interval (``draws``, ``seed``). Classes with fewer than
    ``min_support`` scored rows are warned of. ``batch_size`` defaults to that of the training. Equal inputs give
    equal files on one machine.

    Writes report.json, report.md, forecast.npz and PNGs into ``out``, each whole or not at all. Raises StoreError
    (a checkpoint of other data, or other bytes than those of ``sha256``), DataError (an empty block, labels shared
    by rows of two fits), GateError (too few rows to calibrate on).
    """
    from bml.training import checkpoint as checkpoints
    from bml.training.predict import logits, softmax

    _check_bytes(checkpoint, sha256)
    net, about = checkpoints.load(checkpoint, dataset_digest=dataset.digest, class_names=dataset.class_names)
    chosen = choose(dataset, open_test=open_test)
    rows, held = chosen.rows, chosen.held
    batch_size = batch_size or int(about.training.get("batch_size", 64))

    logits_NC = logits(net, dataset, rows, batch_size=batch_size, device=device)
    forecasts: Forecasts = {MODEL: softmax(logits_NC)}
    scale: temperatures.Temperature | None = None
    if calibration == "temperature":
        held_logits_NC = logits(net, dataset, held, batch_size=batch_size, device=device)
        scale = temperatures.fit_temperature(held_logits_NC, dataset.index.y_N[held])
        forecasts = {MODEL: scale.apply(logits_NC), "model_raw": forecasts[MODEL]}
    forecasts |= _baselines(dataset, about, rows)
    baselines = tuple(name for name in forecasts if name not in (MODEL, "model_raw"))
    lawless = truth is not None and not _has_law(dataset)
    if truth is not None and not lawless:
        forecasts["bayes"] = _bayes(dataset, truth, rows)

    thin = np.searchsorted(rows, stride_by_horizon(dataset.index, rows))
    scores, interval = _scores(dataset, forecasts, rows, thin, bins=bins, draws=draws, seed=seed)
    gap, classes = _gap_closed(scores), _classes(dataset, forecasts[MODEL], chosen)
    worth = float(uniqueness(dataset.index, held).sum())
    told = _warnings(dataset, scale, classes, interval, min_support, chosen.block)
    report = Report(
        block=chosen.block, opening=opening, n=int(rows.shape[0]), n_eff=float(chosen.unique_R.sum()),
        n_thin=int(thin.shape[0]), start=_iso(dataset, rows[0]), stop=_iso(dataset, rows[-1]), scores=scores,
        classes=classes, temperature=None if scale is None else scale.as_dict() | {"n_eff": worth}, gap_closed=gap,
        bootstrap_blocks=interval.blocks, bootstrap_block_s=interval.block_ns / 1e9,
        sentences=verdicts(scores, baselines, gap), warnings=(NO_LAW, *told) if lawless else told,
        about=_about(dataset, about, checkpoint),
    )  # fmt: skip
    _write(Path(out), dataset, report, forecasts, _history(checkpoint), rows, bins)
    return report


evaluate.__bml_injected__ = {"sha256", "open_test", "opening"}  # type: ignore[attr-defined]


def _check_bytes(checkpoint: Path, sha256: str | None) -> None:
    """Refuse a file that is not the one that training left: another training may have replaced it."""
    if sha256 is None:
        return
    try:
        found = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    except OSError as error:
        raise StoreError(f"{checkpoint}: cannot be read: {error.strerror or error}") from error
    if found != sha256:
        raise StoreError(
            f"{checkpoint}: not the file the recorded training left (sha256 {found[:12]}, recorded {sha256[:12]}): "
            "train again"
        )


def _baselines(dataset: Dataset, about: Checkpoint, rows: Int64) -> Forecasts:
    from bml.models.baselines import baselines_for
    from bml.training.losses import weights_of

    train, w_N = weights_of(dataset, about.training)
    families = baselines_for(dataset)
    return {name: family.fit(dataset, train, w_N).proba(dataset, rows) for name, family in families.items()}


def _has_law(dataset: Dataset) -> bool:
    """Whether labels are of the return at the horizon, which is all whose exact probabilities a truth knows."""
    labelling = dataset.labelling[0]
    return dataset.outcomes is None and not labelling["smooth_s"] and labelling["classes"].get("zero") != "own"


def _bayes(dataset: Dataset, truth: Path, rows: Int64) -> Float64:
    """The true class probabilities at each anchor, symbol by symbol."""
    from bml.evaluation import oracle

    index = dataset.index
    proba_NC = np.empty((rows.shape[0], len(dataset.class_names)))
    for target in np.unique(index.target_N[rows]):
        mine = np.flatnonzero(index.target_N[rows] == target)
        at = rows[mine]
        proba_NC[mine] = oracle.class_probabilities(
            truth, dataset.symbols[target], index.anchor_ns_N[at], dataset.horizon_rows, index.edges_NE[at]
        )
    return proba_NC


def _scores(
    dataset: Dataset, forecasts: Forecasts, rows: Int64, thin: Int64, *, bins: int, draws: int, seed: int
) -> tuple[dict[str, Score], Interval]:
    """All scores, and the last interval (blocks are the same for all); ``thin`` are places in ``rows``."""
    y_N, anchor_ns_N = dataset.index.y_N[rows], dataset.index.anchor_ns_N[rows]
    horizon_ns = int((dataset.index.label_stop_ns_N[rows] - anchor_ns_N).max())
    model_N = metrics.nll_N(forecasts[MODEL], y_N)
    scores = {}
    for name, proba_NC in forecasts.items():
        other_N = metrics.nll_N(proba_NC, y_N)
        over_N = proba_NC.max(axis=1) - (proba_NC.argmax(axis=1) == y_N)
        over = mean_interval(over_N, anchor_ns_N, horizon_ns, draws=draws, seed=seed)
        interval = mean_interval(model_N - other_N, anchor_ns_N, horizon_ns, draws=draws, seed=seed)
        scores[name] = score = Score(
            nll=float(other_N.mean()), rps=metrics.rps(proba_NC, y_N), brier=metrics.brier(proba_NC, y_N),
            accuracy=metrics.accuracy(proba_NC, y_N),
            weighted_f1=metrics.weighted_f1(metrics.confusion(proba_NC, y_N)),
            ece=metrics.ece(proba_NC, y_N, bins=bins), classwise_ece=metrics.classwise_ece(proba_NC, y_N, bins=bins),
            ece_thin=metrics.ece(proba_NC[thin], y_N[thin], bins=bins),
            classwise_ece_thin=metrics.classwise_ece(proba_NC[thin], y_N[thin], bins=bins),
            overconfidence=over.mean, overconfidence_lo=_or_none(over.lo), overconfidence_hi=_or_none(over.hi),
        )  # fmt: skip
        if name != MODEL:
            scores[name] = replace(
                score, skill=1.0 - float(model_N.mean()) / score.nll if score.nll > 0 else None,
                nll_diff=interval.mean, nll_diff_lo=_or_none(interval.lo), nll_diff_hi=_or_none(interval.hi),
            )  # fmt: skip
    return scores, interval


def _gap_closed(scores: dict[str, Score]) -> float | None:
    """None without a truth, or where the prior is as good as the truth."""
    if "bayes" not in scores:
        return None
    gap = scores["prior"].nll - scores["bayes"].nll
    return (scores["prior"].nll - scores[MODEL].nll) / gap if gap > 0 else None


def _classes(dataset: Dataset, proba_NC: Float64, chosen: Scored) -> tuple[ClassScore, ...]:
    y_N = dataset.index.y_N[chosen.rows]
    each = metrics.per_class(metrics.confusion(proba_NC, y_N))
    worth_C = np.bincount(y_N, weights=chosen.unique_R, minlength=len(dataset.class_names))
    return tuple(
        ClassScore(
            name=name, precision=float(each.precision_C[k]), recall=float(each.recall_C[k]), f1=float(each.f1_C[k]),
            support=int(each.support_C[k]), n_eff=float(worth_C[k]),
        )
        for k, name in enumerate(dataset.class_names)
    )  # fmt: skip


def _warnings(
    dataset: Dataset,
    scale: temperatures.Temperature | None,
    classes: tuple[ClassScore, ...],
    interval: Interval,
    min_support: int,
    block: Block,
) -> tuple[str, ...]:
    out = [
        f"class {c.name!r} has {c.support} {block} rows (fewer than {min_support}), n_eff {c.n_eff:,.1f}: its scores "
        "are noise"
        for c in classes
        if c.support < min_support
    ]
    if scale is not None and scale.at_bound:
        out.append(f"the temperature {scale.T:.3g} lies at the end of its range: the model carries no information, "
                   "or the calibrate block is too small")  # fmt: skip
    if math.isnan(interval.lo):
        out.append(f"the {block} block holds {interval.blocks} blocks of one label's length, intervals need at least "
                   f"{MIN_BLOCKS}: none are given")  # fmt: skip
    return (*out, *dataset.notes)


def _about(dataset: Dataset, about: Checkpoint, path: Path) -> dict[str, Any]:
    blocks = {name: int(getattr(dataset.fold, name).shape[0]) for name in SPLITS}
    return {
        "checkpoint": path.name, "model": about.model, "params": about.params, "epoch": about.epoch,
        "training": about.training, "dataset_digest": dataset.digest, "rows": blocks, "n_eff": dict(dataset.n_eff),
    }  # fmt: skip


def _history(checkpoint: Path) -> dict[str, Any] | None:
    """What training left beside the checkpoint; a checkpoint that was moved has none."""
    path = checkpoint.with_name("history.json")
    if not path.exists():
        return None
    try:
        history: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise StoreError(f"{path}: not JSON: {error}") from error
    return history


def _write(
    out: Path, dataset: Dataset, report: Report, forecasts: Forecasts, history: dict[str, Any] | None, rows: Int64,
    bins: int,
) -> None:  # fmt: skip
    from bml.book.publish import publish
    from bml.training.checkpoint import publish_json

    for name, data in draw(dataset, report, forecasts, history, rows, bins).items():
        publish(out / name, data)
    arrays = {f"proba_{name}_NC": proba_NC for name, proba_NC in forecasts.items()}
    index, buffer = dataset.index, io.BytesIO()
    np.savez_compressed(
        buffer, allow_pickle=False, ts_ns_N=index.anchor_ns_N[rows], row_N=rows, y_N=index.y_N[rows],
        symbol_N=np.array(dataset.symbols)[index.target_N[rows]], edges_NE=index.edges_NE[rows],
        class_names_C=np.array(dataset.class_names), **arrays,
    )  # fmt: skip
    publish(out / "forecast.npz", buffer.getvalue())
    publish_json(out / "report.json", report.to_json())
    shown = {name: what for name, what in PICTURES.items() if name != "training.png" or history is not None}
    publish(out / "report.md", report.markdown(shown).encode())


def _iso(dataset: Dataset, row: int) -> str:
    return str(np.datetime64(int(dataset.index.anchor_ns_N[row]), "ns").astype("datetime64[s]")) + "Z"


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
