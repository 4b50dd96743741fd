"""A dataset in words: how many windows each block has, why others were dropped, how the classes are shared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bml.types import SPLITS

if TYPE_CHECKING:
    from bml.dataset.dataset import Dataset


def table(summary: dict[str, Any]) -> str:
    """The plain-text table of :meth:`bml.dataset.dataset.Dataset.summary`, about twenty lines.

    Beside every count and share stands how many labels that do not overlap it is worth (n_eff).
    """
    rows, n_eff, by_symbol = summary["rows"], summary["n_eff"], summary["by_symbol"]
    lines = [_line("rows / n_eff", SPLITS), _line("  usable", [_pair(rows[s], n_eff[s]) for s in SPLITS])]
    if len(by_symbol) > 1:
        lines += [
            _line(f"  {symbol}", [_pair(blocks[split]["rows"], blocks[split]["n_eff"]) for split in SPLITS])
            for symbol, blocks in by_symbol.items()
        ]
    lines.append(_line("class shares / n_eff", SPLITS))
    for number, name in enumerate(summary["classes"]):
        shares = [summary["class_shares"][split][number] for split in SPLITS]
        worth = [summary["n_eff_by_class"][split][number] for split in SPLITS]
        lines.append(_line(f"  {name}", [f"{s:.1%} / {w:,.1f}" for s, w in zip(shares, worth, strict=True)]))
    for target, reasons in summary["dropped"].items():
        told = ", ".join(f"{reason} {count:,}" for reason, count in reasons.items() if count)
        lines.append(f"dropped, {target}: {told or 'none'}")
    lines.append(f"purged at block borders: {summary['n_purged']:,}")
    lines += [f"note: {note}" for note in summary["notes"]]
    return "\n".join(lines)


def counts(summary: dict[str, Any]) -> dict[str, float]:
    """Every count of the summary with its n_eff, for a tracker: n_train, n_eff_train, BTCUSDT.n_train ..."""
    out = {f"n_{split}": float(count) for split, count in summary["rows"].items()}
    out |= {f"n_eff_{split}": float(worth) for split, worth in summary["n_eff"].items()}
    for symbol, blocks in summary["by_symbol"].items():
        for split, one in blocks.items():
            out |= {f"{symbol}.n_{split}": float(one["rows"]), f"{symbol}.n_eff_{split}": float(one["n_eff"])}
    return out


def by_symbol(dataset: Dataset) -> dict[str, dict[str, dict[str, float]]]:
    """Target -> block -> rows and their effective number."""
    out: dict[str, dict[str, dict[str, float]]] = {symbol: {} for symbol in dataset.targets}
    for name, unique_R in dataset.uniqueness.items():
        code_R = dataset.index.target_N[getattr(dataset.fold, name)]
        for symbol in dataset.targets:
            mine = code_R == dataset.symbols.index(symbol)
            out[symbol][name] = {"rows": int(mine.sum()), "n_eff": float(unique_R[mine].sum())}
    return out


def by_class(dataset: Dataset) -> dict[str, list[float]]:
    """Block -> effective number of each class; they sum to that of the block."""
    n_classes = len(dataset.class_names)
    return {
        name: np.bincount(dataset.index.y_N[getattr(dataset.fold, name)], unique_R, n_classes).tolist()
        for name, unique_R in dataset.uniqueness.items()
    }


def _line(head: str, cells: Any) -> str:
    return f"{head:20}" + "".join(f"{cell:>20}" for cell in cells)


def _pair(count: int, worth: float) -> str:
    return f"{count:,} / {worth:,.1f}"
