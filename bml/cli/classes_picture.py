"""Class shares by month as stacked bars, one row of panels a symbol, beside the share of the two tails."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bml.dataset.advice import Advice, SymbolAdvice
from bml.registry import missing_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: points around the tails of training that are shaded
BAND = 6.0
INK, LINE, BAND_COLOUR = "#222222", "#0072B2", "#d9d9d9"
#: classes from which on the legend takes the outermost and the middle ones only
MANY = 12


def save_picture(advice: Advice, path: Path) -> None:
    """Draw ``advice`` to the PNG ``path`` (parents are made), whole or not at all."""
    from bml.book.publish import publish
    from bml.evaluation.plots import png

    publish(path, png(shares_figure(advice), dpi=110))


def shares_figure(advice: Advice) -> Figure:
    """Left: shares of every month, with dashes where training has its borders. Right: the two tails in points."""
    try:
        from matplotlib import colormaps
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise missing_extra("matplotlib", "drawing") from error

    n, classes = len(advice.symbols), len(advice.class_names)
    months = max(len(one.months) for one in advice.symbols.values())
    figure = Figure(figsize=(max(11.0, 6.0 + 0.62 * months), 1.5 + 2.7 * n), layout="constrained")
    panels = figure.subplots(n, 2, squeeze=False, width_ratios=(1.7, 1.0))
    colours = colormaps["RdBu"](np.linspace(0.04, 0.96, classes))
    handles: list[Any] = []
    for (left, right), (symbol, one) in zip(panels, advice.symbols.items(), strict=True):
        handles = _draw_shares(left, symbol, one, colours)
        _draw_tails(right, one)
    shown = range(classes) if classes <= MANY else sorted({0, classes // 2 - 1, classes // 2, classes - 1})
    figure.legend(
        [handles[k] for k in shown][::-1],
        [f"{k}: {advice.class_names[k]}" for k in shown][::-1],
        loc="outside right upper",
        title="class",
        fontsize=9,
    )
    seen = "the test block, marked *, among them" if advice.includes_test else "without the test block"
    figure.suptitle(f"class shares by month, {seen}", fontsize=12)
    return figure


def _draw_shares(axes: Axes, symbol: str, one: SymbolAdvice, colours: Any) -> list[Any]:
    share_MC = 100 * np.array([month.of.shares for month in one.months])
    at_M = np.arange(len(one.months))
    handles = []
    below_M = np.zeros(len(one.months))
    for k, colour in enumerate(colours):
        bars = axes.bar(at_M, share_MC[:, k], bottom=below_M, width=0.86, color=colour, edgecolor="white", lw=0.4)
        handles.append(bars[0])
        below_M += share_MC[:, k]
    for border in 100 * np.cumsum(one.train.shares)[:-1]:
        axes.axhline(border, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    _label_months(axes, one)
    axes.set(ylim=(0, 100), ylabel="share, %")
    axes.set_title(f"{symbol}   (dashed: training, n_eff {one.train.n_eff:,.0f})", loc="left", fontsize=10)
    return handles


def _draw_tails(axes: Axes, one: SymbolAdvice) -> None:
    nominal = 100 * one.train.two_tails
    tails_M = 100 * np.array([month.of.two_tails for month in one.months])
    axes.axhspan(nominal - BAND, nominal + BAND, color=BAND_COLOUR, linewidth=0)
    axes.axhline(nominal, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.plot(np.arange(len(tails_M)), tails_M, color=LINE, marker="o", markersize=4.5, linewidth=1.3)
    reach = max(1.4 * BAND, 1.15 * float(np.abs(tails_M - nominal).max()))
    axes.set(ylim=(max(0.0, nominal - reach), nominal + reach), ylabel="two outermost, %")
    axes.set_title(f"training {nominal:.1f}, shaded ±{BAND:g}", loc="left", fontsize=10)
    _label_months(axes, one)


def _label_months(axes: Axes, one: SymbolAdvice) -> None:
    names = [month.month + ("*" if "test" in month.blocks else "") for month in one.months]
    axes.set_xlim(-0.6, len(names) - 0.4)
    every = -(-len(names) // 18)
    axes.set_xticks(range(0, len(names), every), names[::every], rotation=45, ha="right", fontsize=8.5)
