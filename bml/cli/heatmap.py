"""The book of one day as a picture: how much lies at each level on each side, and where the mid went."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bml.registry import missing_extra
from bml.types import ASK, ASK_QTY, BID, BID_QTY, NS_PER_DAY, Flag, Float64

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bml.book.store import DayFile

#: columns of the picture: more would be finer than its pixels
MAX_COLUMNS = 1440
#: the colour of the smallest quantity, so that "little" differs from "nothing"
FLOOR = 0.12
GAP_COLOUR, EMPTY_COLOUR = "#b9b3a7", "#ffffff"


def save_picture(day: DayFile, path: Path) -> None:
    """Draw ``day`` to the PNG ``path`` (parents are made); written whole or not at all."""
    figure = book_figure(day)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        figure.savefig(temporary, format="png")
        temporary.replace(path)
    except OSError as error:  # name the file that was wanted
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def book_figure(day: DayFile) -> Figure:
    """Two panels over time: the mid price, and log quantity by level, asks above the mid, bids below.

    Levels count from the mid outwards. Colour strength is the quantity on a log scale between its 1st and
    99th percentile; red is ask, blue is bid; grey time ranges are gaps. Reads the whole book once.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise missing_extra("matplotlib", "drawing") from error

    block = -(-len(day.grid_ns_T) // MAX_COLUMNS)
    strength_2LC, ticks = _strength(_quantities(day, block))
    levels, columns = strength_2LC.shape[1:]
    gap_C = _blocks((np.asarray(day.flag_T) & Flag.GAP != 0).astype(np.float64), block) > 0.5

    figure = Figure(figsize=(13, 7.5), dpi=110, layout="constrained")
    top, book, bar = _panels(figure)
    hours_C = _hours(day, block, columns)
    _draw_mid(top, hours_C, _blocks(np.asarray(day.mid_T, dtype=np.float64), block))
    image = _draw_book(book, strength_2LC, hours_C)
    for axes in (top, book):
        _shade(axes, gap_C, hours_C)
    _label_levels(book, day, levels)
    colours = figure.colorbar(image, cax=bar, label="quantity per level   (bid below, ask above)")
    colours.set_ticks([-s for s, _ in reversed(ticks)] + [s for s, _ in ticks])
    colours.set_ticklabels([label for _, label in reversed(ticks)] + [label for _, label in ticks])
    share = f"grey: gaps, {gap_C.mean():.1%}" if gap_C.any() else "no gaps"
    top.set_title(f"{day.symbol}  {day.day} UTC  ({share})", loc="left")
    return figure


def _panels(figure: Figure) -> tuple[Axes, Axes, Axes]:
    grid = figure.add_gridspec(2, 2, height_ratios=(1, 3), width_ratios=(60, 1))
    book = figure.add_subplot(grid[1, 0])
    return figure.add_subplot(grid[0, 0], sharex=book), book, figure.add_subplot(grid[1, 1])


def _blocks(values_TX: Float64, block: int) -> Float64:
    """Means over ``block`` times each, NaN where a block has no value; the last block may be shorter."""
    short = -len(values_TX) % block
    padded = np.concatenate((values_TX, np.full((short, *values_TX.shape[1:]), np.nan)))
    grouped = padded.reshape(-1, block, *values_TX.shape[1:])
    count = np.sum(~np.isnan(grouped), axis=1)
    total = np.nansum(grouped, axis=1)
    mean: Float64 = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean


def _quantities(day: DayFile, block: int) -> Float64:
    """(2, L, C) quantities in base units, bid and ask; of a bin, per level it spans."""
    width_L = np.diff(day.edges_L1)
    sides = []
    for field in (BID_QTY, ASK_QTY):
        qty_TL = np.expm1(np.asarray(day.book_TLF[:, :, field], dtype=np.float64))  # stored as log1p
        sides.append(_blocks(qty_TL / width_L, block).T)
    return np.stack(sides)


def _strength(qty_2LC: Float64) -> tuple[Float64, list[tuple[float, str]]]:
    """Quantities as FLOOR..1 on a log scale (NaN stays), and (strength, label) of the decades for the legend."""
    positive = qty_2LC[qty_2LC > 0]
    if positive.size == 0:
        return np.where(np.isnan(qty_2LC), np.nan, FLOOR), []
    low, high = np.log10(np.percentile(positive, [1, 99]))
    span = max(high - low, 0.5)
    log_2LC = np.log10(
        np.where(qty_2LC > 0, qty_2LC, 10.0**low), where=~np.isnan(qty_2LC), out=np.full_like(qty_2LC, np.nan)
    )

    def strength(log: Any) -> Any:
        return FLOOR + (1 - FLOOR) * np.clip((log - low) / span, 0, 1)

    decades = range(int(np.floor(low)), int(np.ceil(low + span)) + 1, 1 if span < 5 else 2)
    steps = (1, 2, 5) if span < 2.5 else (1,)
    values = [v for v in (m * 10.0**d for d in decades for m in steps) if low <= np.log10(v) <= low + span]
    return strength(log_2LC), [(float(strength(np.log10(v))), f"{v:.3g}") for v in values]


def _hours(day: DayFile, block: int, columns: int) -> Float64:
    """(C + 1,) edges of the columns, in hours from midnight."""
    since_midnight = int(day.grid_ns_T[0]) % NS_PER_DAY
    return (since_midnight + np.arange(columns + 1, dtype=np.float64) * block * day.cadence_ns) / 3.6e12


def _draw_mid(axes: Axes, hours_C: Float64, mid_C: Float64) -> None:
    axes.plot((hours_C[:-1] + hours_C[1:]) / 2, mid_C, color="#222222", linewidth=1.0)
    axes.set_ylabel("mid")
    axes.ticklabel_format(axis="y", useOffset=False, style="plain")
    axes.tick_params(labelbottom=False)
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.margins(x=0)


def _draw_book(axes: Axes, strength_2LC: Float64, hours_C: Float64) -> Any:
    """Asks upwards (red, positive), bids downwards (blue, negative), the mid between them."""
    signed_YC = np.concatenate((-strength_2LC[BID][::-1], strength_2LC[ASK]))
    levels = strength_2LC.shape[1]
    axes.set_facecolor(EMPTY_COLOUR)
    image = axes.imshow(
        np.ma.masked_invalid(signed_YC), aspect="auto", origin="lower", cmap="RdBu_r", vmin=-1, vmax=1,
        extent=(hours_C[0], hours_C[-1], -levels, levels), interpolation="nearest",
    )  # fmt: skip
    axes.axhline(0, color="#222222", linewidth=0.8)
    axes.set_xlabel("hour (UTC)")
    if hours_C[-1] - hours_C[0] > 6:
        axes.set_xticks(range(0, 25, 3), [f"{hour:02}:00" for hour in range(0, 25, 3)])
        axes.set_xlim(hours_C[0], hours_C[-1])
    return image


def _shade(axes: Axes, gap_C: Any, hours_C: Float64) -> None:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], gap_C.astype(np.int8), [0]))))
    for first, stop in zip(edges[::2], edges[1::2], strict=True):
        axes.axvspan(hours_C[first], hours_C[stop], color=GAP_COLOUR, linewidth=0, zorder=3)


def _label_levels(axes: Axes, day: DayFile, levels: int) -> None:
    """Ticks by raw level, a range where a bin folds several; a dashed line where the bins begin."""
    first_L, last_L = day.edges_L1[:-1] + 1, day.edges_L1[1:]
    shown = np.unique(np.linspace(0, levels - 1, min(levels, 7)).round().astype(int))[1 if levels > 3 else 0 :]
    names = [str(last_L[i]) if first_L[i] == last_L[i] else f"{first_L[i]}-{last_L[i]}" for i in shown]
    places = [*(-shown[::-1] - 0.5), 0, *(shown + 0.5)]
    axes.set_yticks(places, [*(f"bid {name}" for name in reversed(names)), "mid", *(f"ask {name}" for name in names)])
    folded = np.flatnonzero(first_L != last_L)
    for place in (folded[0], -folded[0]) if folded.size else ():
        axes.axhline(float(place), color="#222222", linewidth=0.6, linestyle=(0, (4, 4)))
    axes.set_ylabel("level, from the mid outwards")
