"""A store as a calendar: one strip of weeks a symbol, a cell a day, its colour the share of rows that are usable."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bml.book.coverage import DayCoverage, Ledger, State
from bml.registry import missing_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: weeks of a strip: a year and the week it may begin in
WEEKS = 53
#: weeks that the name of a month and a year takes
NAME_WEEKS = 3
#: a run of missing or stuck rows this long is marked
LONG_S = 3600.0
#: borders of the classes of usable shares
BORDERS = (0.0, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.995, 1.0)
EDGE, LINE, INK = "#c8c8c8", "#000000", "#222222"
#: the end of the colour map that is used: black lines must be seen on it
DARKEST = 0.8

#: state or defect -> marker, its colour, its meaning; told apart by shape
MARKS = {
    State.ABSENT: ("x", "#8a8a8a", "no file"),
    State.EMPTY: ("o", "#8a8a8a", "a file without any row"),
    State.DAMAGED: ("X", "#c1121f", "damaged file"),
    State.EVICTED: (".", "#222222", "removed by a rolling store"),
    "missing": ("_", "#d1495b", "missing for an hour or longer"),
    "stuck": ("^", "#e09f3e", "stuck for an hour or longer"),
}


def save_picture(ledger: Ledger, path: Path) -> None:
    """Draw ``ledger`` to the PNG ``path`` (parents are made), whole or not at all; equal ledgers give equal bytes."""
    from bml.book.publish import publish
    from bml.evaluation.plots import png

    publish(path, png(calendar(ledger), dpi=110))


def calendar(ledger: Ledger) -> Figure:
    """One strip of up to ``WEEKS`` weeks a symbol, Monday on top; longer spans take several strips a symbol."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise missing_extra("matplotlib", "drawing") from error

    monday = ledger.start - dt.timedelta(days=ledger.start.weekday())
    weeks = (ledger.stop - monday).days // 7 + 1
    chunks = [(monday + dt.timedelta(weeks=w), min(WEEKS, weeks - w)) for w in range(0, weeks, WEEKS)]
    strips = [(symbol, *chunk) for symbol in ledger.symbols for chunk in chunks]
    wide = max(n for _, n in chunks)
    figure = Figure(figsize=(max(7.5, 1.6 + 0.215 * wide), 1.3 + 1.62 * len(strips)), layout="constrained")
    every = figure.subplots(len(strips), 1, squeeze=False)[:, 0]
    image = None
    for axes, (symbol, first, n_weeks) in zip(every, strips, strict=True):
        image = _strip(axes, symbol, [day for day in ledger.days if day.symbol == symbol], first, n_weeks, wide)
    _legend(figure, every, image, ledger)
    return figure


def _strip(axes: Axes, symbol: str, days: list[DayCoverage], first: dt.date, n_weeks: int, wide: int) -> Any:
    from matplotlib import colormaps
    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.patches import Rectangle

    share_WK = np.full((7, n_weeks), np.nan)
    inside = [day for day in days if 0 <= (day.day - first).days < 7 * n_weeks]
    for day in inside:
        week, weekday = divmod((day.day - first).days, 7)
        if day.rows:
            share_WK[weekday, week] = day.usable / day.rows
        else:
            axes.add_patch(Rectangle((week, weekday), 1, 1, facecolor="none", edgecolor=EDGE, linewidth=0.8))
    colours = ListedColormap(colormaps["YlGnBu"](np.linspace(0.0, DARKEST, len(BORDERS) - 1)))
    image = axes.pcolormesh(
        np.arange(n_weeks + 1), np.arange(8), np.ma.masked_invalid(share_WK), cmap=colours,
        norm=BoundaryNorm(BORDERS, colours.N), edgecolors="white", linewidth=1.0,
    )  # fmt: skip
    _borders(axes, inside, first)
    _marks(axes, inside, first)
    axes.set(xlim=(-0.1, wide + 0.1), ylim=(7.1, -0.1), aspect="equal")
    axes.set_yticks([0.5, 2.5, 4.5, 6.5], ["Mon", "Wed", "Fri", "Sun"], fontsize=7)
    axes.set_ylabel(symbol, fontsize=10, fontweight="bold")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image


def _borders(axes: Axes, days: list[DayCoverage], first: dt.date) -> None:
    """A line around every month, and its name above its first whole week; the first with its year, if there is room."""
    months: dict[int, dt.date] = {}
    for day in days:
        week, weekday = divmod((day.day - first).days, 7)
        if day.day.day == 1 and week:
            axes.plot([week, week], [weekday, 7], color=LINE, linewidth=1.6)
            axes.plot([week + 1, week + 1], [0, weekday], color=LINE, linewidth=1.6)
            if weekday:
                axes.plot([week, week + 1], [weekday, weekday], color=LINE, linewidth=1.6)
        if day.day.day == 1 or not months:
            months[week + (weekday > 0)] = day.day
    first_two = list(months)[:2]
    if len(first_two) == 2 and first_two[1] - first_two[0] < NAME_WEEKS:
        del months[first_two[0]]
    names = [f"{day:%b %Y}" if day.month == 1 or k == 0 else f"{day:%b}" for k, day in enumerate(months.values())]
    axes.set_xticks(list(months), names, fontsize=8, ha="left")
    axes.xaxis.tick_top()


def _marks(axes: Axes, days: list[DayCoverage], first: dt.date) -> None:
    """What a cell's colour does not tell; a day has the first mark that is true of it."""
    from matplotlib.patheffects import withStroke

    places: dict[str, list[tuple[float, float]]] = {}
    for day in days:
        what = mark_of(day)
        if what is not None:
            week, weekday = divmod((day.day - first).days, 7)
            places.setdefault(what, []).append((week + 0.5, weekday + 0.5))
    for what, at in places.items():
        marker, colour, _ = MARKS[what]
        x, y = zip(*at, strict=True)
        halo = [withStroke(linewidth=3.2, foreground="white")]  # seen on any colour
        axes.scatter(x, y, marker=marker, color=colour, s=30, linewidths=1.6, path_effects=halo, zorder=3)


def mark_of(day: DayCoverage) -> str | None:
    """The key of ``MARKS`` a day is drawn with."""
    if day.state is not State.PRESENT:
        return day.state
    return next((what for what in ("missing", "stuck") if day.longest_s.get(what, 0.0) >= LONG_S), None)


def _legend(figure: Figure, every: Any, image: Any, ledger: Ledger) -> None:
    from matplotlib.lines import Line2D

    bar = figure.colorbar(image, ax=list(every), location="bottom", fraction=0.5 / len(every), aspect=60, pad=0.01,
                          shrink=0.7)  # fmt: skip
    bar.set_ticks(list(BORDERS), labels=[f"{100 * border:g}" for border in BORDERS])
    bar.set_label("rows of the day that are usable, %", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    used = {mark_of(day) for day in ledger.days}
    handles = [
        Line2D([], [], linestyle="", marker=marker, color=colour, markersize=7, label=words)
        for what, (marker, colour, words) in MARKS.items()
        if what in used
    ]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    last = ledger.stop - dt.timedelta(days=1)
    figure.suptitle(f"{ledger.root.name}: days {ledger.start} to {last}, built by {ledger.digest[:8]}", fontsize=10,
                    color=INK)  # fmt: skip
