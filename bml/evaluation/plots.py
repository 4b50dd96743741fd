"""Pictures of a report: each function returns a Figure, :func:`png` its bytes.

No pyplot and so no global state; Agg only; colours told apart with any colour vision (Okabe and Ito) and by
marker or hatch as well; equal input gives equal bytes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bml.evaluation.metrics import reliability
from bml.types import Float64, Int64

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Bools = npt.NDArray[np.bool_]

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#595959"
_COLOURS = (ORANGE, BLUE, GREEN, PURPLE)
_MARKERS = ("o", "s", "^", "D")
_HATCHES = ("", "//", "..", "xx")


def png(figure: Figure, *, dpi: int = 150) -> bytes:
    """The figure as PNG, without the writer's name or the time in it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def reliability_diagram(forecasts: Mapping[str, tuple[Float64, Bools]], *, bins: int, title: str) -> Figure:
    """Frequency against confidence, one curve per name, in bins of equally many rows; below, where the rows lie.

    ``forecasts`` maps a name to (confidence_N, whether the likeliest class came_N).
    """
    figure = _figure(6.0, 6.6)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    curves = {name: reliability(forecast_N, came_N, bins) for name, (forecast_N, came_N) in forecasts.items()}
    # the curve ends at the mean of its last bin, the rows below reach further
    every = np.concatenate([c.came_M for c in curves.values()] + [forecast_N for forecast_N, _ in forecasts.values()])
    low, high = max(0.0, float(every.min()) - 0.02), min(1.015, float(every.max()) + 0.02)
    top.plot([low, high], [low, high], color=GREY, linestyle="--", linewidth=1.2, label="perfect")
    cells = np.linspace(low, high, 41)
    for (name, curve), colour, marker in zip(curves.items(), _COLOURS, _MARKERS, strict=False):
        label = f"{name} (n = {int(curve.count_M.sum()):,}, {int(curve.count_M.max()):,} per bin)"
        top.plot(curve.forecast_M, curve.came_M, color=colour, marker=marker, markersize=5, label=label)
        rows, _ = np.histogram(forecasts[name][0], bins=cells)
        bottom.stairs(rows, cells, color=colour, linewidth=1.4)
    top.set(ylabel="share that came true", title=title, xlim=(low, high), ylim=(low, high))
    bottom.set(xlabel="confidence (probability of the likeliest class)", ylabel="rows")
    top.legend(loc="upper left", frameon=False)
    _plain(top, bottom)
    return figure


def confusion_matrix(counts_CC: Int64, class_names: Sequence[str], *, title: str) -> Figure:
    """Rows: the class that came, with its support, as shares of the row; columns: the likeliest class."""
    classes = len(class_names)
    support_C = counts_CC.sum(axis=1)
    share_CC = counts_CC / np.maximum(support_C, 1)[:, None]
    figure = _figure(max(5.2, 2.6 + 0.72 * classes), max(4.4, 1.9 + 0.6 * classes))
    axes = figure.subplots()
    # the scale ends at the largest share: with many classes no cell comes near 1 and all would look alike
    image = axes.imshow(share_CC, cmap="cividis", vmin=0.0, vmax=max(float(share_CC.max()), 1e-9), aspect="auto")
    light = 0.55 * float(share_CC.max())
    for row, column in np.ndindex(classes, classes):
        share, empty = share_CC[row, column], support_C[row] == 0
        colour = "black" if share > light else "white"
        text = "-" if empty else f"{100 * share:.0f}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=10)
    axes.set_xticks(range(classes), class_names, rotation=35, ha="right")
    axes.set_yticks(range(classes), [f"{n}  (n = {s:,})" for n, s in zip(class_names, support_C, strict=True)])
    axes.set(xlabel="likeliest class", ylabel="class that came", title=title)
    figure.colorbar(image, ax=axes, label="share of the row", format=lambda v, _: f"{100 * v:.0f} %")
    return figure


def class_shares(blocks: Mapping[str, Float64], class_names: Sequence[str], *, title: str) -> Figure:
    """Share of each class per block of the split, side by side."""
    classes, width = len(class_names), 0.8 / max(1, len(blocks))
    figure = _figure(max(6.0, 1.5 + 1.05 * classes), 4.2)
    axes = figure.subplots()
    styles = zip(blocks.items(), (BLUE, ORANGE, GREEN, PURPLE), _HATCHES, strict=False)
    for place, ((name, share_C), colour, hatch) in enumerate(styles):
        x_C = np.arange(classes) + (place - (len(blocks) - 1) / 2) * width
        axes.bar(x_C, 100 * share_C, width, color=colour, hatch=hatch, edgecolor="white", linewidth=0.4, label=name)
    axes.set_xticks(range(classes), class_names, rotation=25, ha="right")
    axes.set(ylabel="share of rows, %", title=title)
    axes.legend(frameon=False, ncols=len(blocks), loc="upper center", bbox_to_anchor=(0.5, -0.28))
    _plain(axes)
    return figure


def training_curve(history: Sequence[Mapping[str, float]], best_epoch: int, *, title: str) -> Figure:
    """Training loss and early-stop NLL per epoch; a line marks the epoch that was kept."""
    from matplotlib.ticker import MaxNLocator

    figure = _figure(6.4, 4.0)
    axes = figure.subplots()
    epochs = np.arange(1, len(history) + 1)
    for key, label, colour, marker in (
        ("train_loss", "training loss (weighted)", ORANGE, "o"),
        ("val_nll", "early-stop NLL", BLUE, "s"),
    ):
        axes.plot(epochs, [h[key] for h in history], color=colour, marker=marker, markersize=4, label=label)
    axes.axvline(best_epoch, color=GREY, linestyle="--", linewidth=1.2, label=f"kept: epoch {best_epoch}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel="nats", title=title)
    axes.legend(frameon=False)
    _plain(axes)
    return figure


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def _plain(*every: Any) -> None:
    axes: Axes
    for axes in every:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(visible=True, color="#D9D9D9", linewidth=0.6)
        axes.set_axisbelow(True)
