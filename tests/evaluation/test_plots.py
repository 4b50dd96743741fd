"""Pictures: whole PNGs of a legible size, equal for equal input."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from bml.evaluation import plots

NAMES = ("< -1 sd", "-1..0 sd", "0..1 sd", ">= 1 sd")
RNG = np.random.default_rng(0)
TOP_N = RNG.uniform(0.3, 0.9, 500)
HIT_N = RNG.random(500) < TOP_N
COUNTS = RNG.integers(0, 50, (4, 4))

FIGURES: dict[str, Callable[[], Figure]] = {
    "reliability": lambda: plots.reliability_diagram(
        {"raw": (TOP_N**2, HIT_N), "T = 1.3": (TOP_N, HIT_N)}, bins=10, title="x"
    ),
    "confusion": lambda: plots.confusion_matrix(COUNTS, NAMES, title="x"),
    "confusion of nothing": lambda: plots.confusion_matrix(np.zeros((4, 4), np.int64), NAMES, title="x"),
    "class shares": lambda: plots.class_shares({"train": np.full(4, 0.25), "test": np.full(4, 0.25)}, NAMES, title="x"),
    "training": lambda: plots.training_curve([{"train_loss": 2.0, "val_nll": 1.9}], 1, title="x"),
    "constant forecast": lambda: plots.reliability_diagram({"raw": (np.full(9, 0.5), HIT_N[:9])}, bins=9, title="x"),
}


@pytest.mark.parametrize("name", list(FIGURES))
def test_png_is_whole_legible_and_reproducible(name: str) -> None:
    data = plots.png(FIGURES[name]())
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert data.endswith(b"IEND\xaeB`\x82")
    width, height = (int.from_bytes(data[k : k + 4], "big") for k in (16, 20))
    assert width >= 700
    assert height >= 500
    for stamp in (b"Software", b"tEXt", b"tIME"):
        assert stamp not in data
    assert plots.png(FIGURES[name]()) == data


def test_confusion_shows_shares_of_rows_and_support() -> None:
    figure = plots.confusion_matrix(np.array([[3, 1], [0, 0]]), ("down", "up"), title="x")
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["75", "25", "-", "-"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["down  (n = 4)", "up  (n = 0)"]
