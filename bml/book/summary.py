"""Days added up per symbol: how much there is, how much of the grid is fresh, and what was found wrong."""

from __future__ import annotations

from collections.abc import Sequence

from bml.book.days import DaySummary

#: counts that are columns of the table, or finer than a table needs
_NOT_DEFECTS = {"n_rows", "n_snapshots", "n_filled", "n_gap", "n_late"}

Totals = dict[str, dict[str, float]]


def by_symbol(summaries: Sequence[DaySummary]) -> Totals:
    """Symbol -> totals of days, grid cells and everything the quality reports count."""
    totals: Totals = {}
    for s in summaries:
        total = totals.setdefault(s.symbol, {})
        new = {"days": 1, "built": int(s.built), "cells": s.cells, "fresh": s.fresh, "filled": s.filled, "gap": s.gap}
        for key, value in (new | s.counts).items():
            total[key] = total.get(key, 0) + value
    return totals


def table(totals: Totals) -> str:
    """One line a symbol; the shares are of all grid cells."""
    head = (
        f"{'symbol':12} {'days':>5} {'built':>6} {'rows':>14} {'snapshots':>10} {'fresh':>7} {'filled':>7} {'gap':>7}"
    )
    lines = [head + "  found in the raw snapshots"]
    for symbol, t in totals.items():
        shares = " ".join(f"{t[key] / max(t['cells'], 1):7.2%}" for key in ("fresh", "filled", "gap"))
        lines.append(
            f"{symbol:12} {t['days']:5.0f} {t['built']:6.0f} {t.get('n_rows', 0):14,.0f} "
            f"{t.get('n_snapshots', 0):10,.0f} {shares}  {_defects(t)}"
        )
    return "\n".join(lines)


def _defects(total: dict[str, float]) -> str:
    found = {
        key.removeprefix("n_").removesuffix("_raw"): value
        for key, value in sorted(total.items())
        if value and key.startswith("n_") and key not in _NOT_DEFECTS
    }
    return ", ".join(f"{key} {value:,.0f}" for key, value in found.items()) or "nothing"
