"""A dataset in words: how many windows each block has, why others were dropped, how the classes are shared."""

from __future__ import annotations

from typing import Any

import numpy as np

from bml.dataset.weights import average_uniqueness
from bml.types import SPLITS, Float64, Fold, Int64, SampleIndex


def table(summary: dict[str, Any]) -> str:
    """The plain-text table of :meth:`bml.dataset.dataset.Dataset.summary`, about twenty lines."""
    lines = [f"{'windows':20}" + "".join(f"{split:>12}" for split in SPLITS)]
    lines.append(f"{'  usable':20}" + "".join(f"{summary['rows'][split]:12,}" for split in SPLITS))
    lines.append(f"{'  effective (n_eff)':20}" + "".join(f"{summary['n_eff'][split]:12,.1f}" for split in SPLITS))
    lines.append(f"{'class shares':20}")
    for number, name in enumerate(summary["classes"]):
        shares = "".join(f"{summary['class_shares'][split][number]:12.1%}" for split in SPLITS)
        lines.append(f"  {name:18}{shares}")
    if summary["regimes"]:
        lines.append(f"{'regime shares':20}")
    for name, blocks in summary["regimes"].items():
        lines.append(f"  {name:18}" + "".join(f"{blocks[split]['share']:12.1%}" for split in SPLITS))
    for target, reasons in summary["dropped"].items():
        told = ", ".join(f"{reason} {count:,}" for reason, count in reasons.items() if count)
        lines.append(f"dropped, {target}: {told or 'none'}")
    lines.append(f"purged at block borders: {summary['n_purged']:,}")
    lines += [f"note: {note}" for note in summary["notes"]]
    return "\n".join(lines)


def by_regime(
    index: SampleIndex, fold: Fold, regime_N: Int64, names: tuple[str, ...], n_classes: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """Of each regime ("unknown" too, where there are names) and block: rows, their share of the block, n_eff, class
    shares (None without rows).

    The n_eff of a regime is its part of that of the block: the sum of its rows' average uniqueness.
    """
    out: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in (*names, "unknown") if names}
    for split in SPLITS if names else ():
        rows = getattr(fold, split)
        unique_N = _uniqueness(index, rows)
        for number, name in enumerate((*names, "unknown")):
            mine = regime_N[rows] == (number if number < len(names) else -1)
            counts = np.bincount(index.y_N[rows[mine]], minlength=n_classes)
            n_rows = int(mine.sum())
            out[name][split] = {
                "rows": n_rows,
                "share": n_rows / max(rows.shape[0], 1),
                "n_eff": float(unique_N[mine].sum()),
                "class_shares": (counts / n_rows).tolist() if n_rows else None,
            }
    return out


def _uniqueness(index: SampleIndex, rows: Int64) -> Float64:
    """Average uniqueness of each of ``rows``; labels overlap within a target."""
    unique_N = np.empty(rows.shape[0])
    for code in np.unique(index.target_N[rows]):
        mine = index.target_N[rows] == code
        unique_N[mine] = average_uniqueness(index.anchor_ns_N[rows[mine]], index.label_stop_ns_N[rows[mine]])
    return unique_N
