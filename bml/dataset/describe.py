"""A dataset in words: how many windows each block has, why others were dropped, how the classes are shared."""

from __future__ import annotations

from typing import Any

from bml.types import SPLITS


def table(summary: dict[str, Any]) -> str:
    """The plain-text table of :meth:`bml.dataset.dataset.Dataset.summary`, about twenty lines."""
    lines = [f"{'windows':20}" + "".join(f"{split:>12}" for split in SPLITS)]
    lines.append(f"{'  usable':20}" + "".join(f"{summary['rows'][split]:12,}" for split in SPLITS))
    lines.append(f"{'  effective (n_eff)':20}" + "".join(f"{summary['n_eff'][split]:12,.1f}" for split in SPLITS))
    lines.append(f"{'class shares':20}")
    for number, name in enumerate(summary["classes"]):
        shares = "".join(f"{summary['class_shares'][split][number]:12.1%}" for split in SPLITS)
        lines.append(f"  {name:18}{shares}")
    for target, reasons in summary["dropped"].items():
        told = ", ".join(f"{reason} {count:,}" for reason, count in reasons.items() if count)
        lines.append(f"dropped, {target}: {told or 'none'}")
    lines.append(f"purged at block borders: {summary['n_purged']:,}")
    lines += [f"note: {note}" for note in summary["notes"]]
    return "\n".join(lines)
