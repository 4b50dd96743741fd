"""Tables as text: aligned for a terminal, piped for Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def number(value: float | None, digits: int = 4, *, sign: bool = False) -> str:
    """Fixed digits; "-" for None."""
    return "-" if value is None else f"{value:{'+' if sign else ''}.{digits}f}"


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.2f} %"


def span(lo: float | None, hi: float | None, digits: int = 4) -> str:
    return "-" if lo is None or hi is None else f"{lo:+.{digits}f} .. {hi:+.{digits}f}"


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns two spaces apart, the first to the left, the others to the right."""
    widths = [max(len(line[k]) for line in (head, *rows)) for k in range(len(head))]

    def aligned(line: Sequence[str]) -> str:
        rest = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        return "  ".join([line[0].ljust(widths[0]), *rest]).rstrip()

    return "\n".join(aligned(line) for line in (head, *rows))


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A pipe table, numbers to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (head, rule, *rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
