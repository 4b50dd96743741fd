"""A dataset in words: how many windows each block has, why others were dropped, how the classes are shared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bml.types import DEVELOPMENT, SPLITS

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
        shares = [summary["class_shares"][split][number] for split in DEVELOPMENT]
        worth = [summary["n_eff_by_class"][split][number] for split in DEVELOPMENT]
        cells = [f"{s:.1%} / {w:,.1f}" for s, w in zip(shares, worth, strict=True)]
        lines.append(_line(f"  {name}", [*cells, "sealed"]))
    if summary["regimes"]:
        lines.append(_line("regime shares / n_eff", SPLITS))
    for name, blocks in summary["regimes"].items():
        regime = [f"{blocks[split]['share']:.1%} / {blocks[split]['n_eff']:,.1f}" for split in SPLITS]
        lines.append(_line(f"  {name}", regime))
    for target, reasons in summary["dropped"].items():
        told = ", ".join(f"{reason} {count:,}" for reason, count in reasons.items() if count)
        lines.append(f"dropped, {target}: {told or 'none'}")
    lines.append(f"purged at block borders: {summary['n_purged']:,}")
    lines += [f"note: {note}" for note in summary["notes"]]
    return "\n".join(lines)


def by_regime(dataset: Dataset) -> dict[str, dict[str, dict[str, Any]]]:
    """Of each regime ("unknown" too, where there are names) and block: rows, their share of the block, n_eff, class
    shares (None without rows, and in the test block, which is sealed).

    The n_eff of a regime is its part of that of the block: the sum of its rows' average uniqueness.
    """
    names = dataset.regime_names
    out: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in (*names, "unknown") if names}
    for split in SPLITS if names else ():
        rows, unique_R = getattr(dataset.fold, split), dataset.uniqueness[split]
        for number, name in enumerate((*names, "unknown")):
            mine = dataset.regime_N[rows] == (number if number < len(names) else -1)
            counts = np.bincount(dataset.index.y_N[rows[mine]], minlength=len(dataset.class_names))
            n_rows = int(mine.sum())
            out[name][split] = {
                "rows": n_rows,
                "share": n_rows / max(rows.shape[0], 1),
                "n_eff": float(unique_R[mine].sum()),
                "class_shares": (counts / n_rows).tolist() if n_rows and split in DEVELOPMENT else None,
            }
    return out


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
    """Block -> effective number of each class, which sum to that of the block; the test block's are for its report."""
    n_classes = len(dataset.class_names)
    return {
        name: np.bincount(dataset.index.y_N[getattr(dataset.fold, name)], dataset.uniqueness[name], n_classes).tolist()
        for name in DEVELOPMENT
    }


def _line(head: str, cells: Any) -> str:
    return f"{head:20}" + "".join(f"{cell:>20}" for cell in cells)


def _pair(count: int, worth: float) -> str:
    return f"{count:,} / {worth:,.1f}"
