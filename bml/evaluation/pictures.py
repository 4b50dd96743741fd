"""The pictures of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bml.evaluation import metrics, plots
from bml.evaluation.result import MODEL, Report
from bml.types import DEVELOPMENT, Float64, Int64

if TYPE_CHECKING:
    from bml.dataset.dataset import Dataset

#: files and what they show
PICTURES = {
    "reliability.png": "Reliability of the likeliest class",
    "confusion.png": "Confusion matrix, share of each row",
    "class_shares.png": "Class shares per block",
    "training.png": "Training curve",
}


def draw(
    dataset: Dataset,
    report: Report,
    forecasts: dict[str, Float64],
    history: dict[str, Any] | None,
    rows: Int64,
    bins: int,
) -> dict[str, bytes]:
    """File name -> PNG. ``history`` is the training's, if it is known; shares of the test block only in its report."""
    y_N = dataset.index.y_N[rows]
    curves = {}
    for name in ("model_raw", MODEL):
        if name in forecasts:
            proba_NC = forecasts[name]
            label = f"T = {report.temperature['T']:.2f}" if name == MODEL and report.temperature else "raw"
            curves[label] = (proba_NC.max(axis=1), proba_NC.argmax(axis=1) == y_N)
    count = f"n = {report.n:,}, n_eff = {report.n_eff:,.0f}"
    bins = max(5, min(bins, int(report.n_eff) // 50))  # fewer labels a bin than that is a picture of noise
    names = dataset.class_names
    confusion_CC = metrics.confusion(forecasts[MODEL], y_N)
    shares = {name: np.asarray(dataset.class_shares[name]) for name in DEVELOPMENT}
    if report.block == "test":
        shares["test"] = np.bincount(y_N, minlength=len(names)) / report.n
    figures = {
        "reliability.png": plots.reliability_diagram(
            curves, bins=bins, title=f"Reliability, {report.block} block ({count})"
        ),
        "confusion.png": plots.confusion_matrix(
            confusion_CC, names, title=f"Percent of row, {report.block} block ({count})"
        ),
        "class_shares.png": plots.class_shares(shares, names, title="Class shares per block"),
    }
    if history is not None:
        figures["training.png"] = plots.training_curve(history["epochs"], history["best_epoch"], title="Training")
    return {name: plots.png(figure) for name, figure in figures.items()}
