"""A coverage ledger as text, as plain values and as CSV."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bml.book.coverage import DEFECTS, DayCoverage, Ledger, State, by_month, by_symbol, missing_range, spans, totals
from bml.book.publish import publish
from bml.book.report import iso
from bml.types import NS_PER_DAY, NS_PER_S, Event

if TYPE_CHECKING:
    from bml.dataset.dropped import Reasons

_SHARES = ("usable", "fresh", "filled", "missing")
_STATES = (State.ABSENT, State.EMPTY, State.DAMAGED, State.EVICTED)


def text(ledger: Ledger, reasons: Reasons | None, *, events: bool, worst: int) -> str:
    """For people: a line a symbol and month, what is not there, the worst days, and with ``events`` every range."""
    last = max(day.day for day in ledger.days)
    head = (
        f"{ledger.root}: built by {ledger.digest[:8]}, {len(ledger.symbols)} symbols from {ledger.start} to {last}, "
        f"{ledger.rows_per_day:,} rows a day"
    )
    parts = [head, _table(ledger), *_not_there(ledger), *_worst(ledger, worst), *_windows(reasons)]
    if events:
        parts += ["every range:", *(_told(*one) for one in ranges(ledger))]
    return "\n".join(parts)


def _table(ledger: Ledger) -> str:
    shown = [kind for kind in DEFECTS if any(day.defects.get(kind) for day in ledger.days)]
    width = max(len("symbol"), *(len(symbol) for symbol in ledger.symbols))
    head = f"{'symbol':{width}} {'month':7} {'days':>5}" + "".join(f" {state:>8}" for state in _STATES)
    lines = [head + "".join(f" {name:>8}" for name in _SHARES) + "".join(f" {kind:>9}" for kind in shown)]
    rows = [*by_month(ledger).items(), *(((symbol, "all"), total) for symbol, total in by_symbol(ledger).items())]
    rows.append((("all", "all"), totals(ledger.days, ledger.rows_per_day)))
    for (symbol, month), total in rows:
        states = "".join(f" {total[state]:8,.0f}" for state in _STATES)
        shares = "".join(f" {total[name] / max(total['rows'], 1):8.2%}" for name in _SHARES)
        counts = "".join(f" {total[kind]:9,.0f}" for kind in shown)
        lines.append(f"{symbol:{width}} {month:7} {total['days']:5,.0f}{states}{shares}{counts}")
    return "\n".join(lines)


def _not_there(ledger: Ledger) -> list[str]:
    """One line a stretch of days that are not there, and one a day that failed."""
    lines = []
    for state in (State.ABSENT, State.EMPTY, State.DAMAGED):
        for symbol, first, last in spans(ledger.days, state):
            more = f" .. {last} ({(last - first).days + 1} days)" if last != first else ""
            lines.append(f"{state}: {symbol} {first}{more}")
    failed = [day for day in ledger.days if day.state is State.ABSENT and day.problem]
    return lines + [f"{day.symbol} {day.day} {day.problem}" for day in failed]


def _worst(ledger: Ledger, worst: int) -> list[str]:
    there = [day for day in ledger.days if day.state is State.PRESENT and day.usable < day.rows]
    there.sort(key=lambda day: (day.usable / day.rows, day.symbol, day.day))
    lines = [
        f"  {day.symbol} {day.day}: usable {day.usable / day.rows:.1%}, longest missing "
        f"{_clock(day.longest_s['missing'])}, stuck {_clock(day.longest_s['stuck'])}, oldest snapshot "
        f"{_clock(day.oldest_s)}, found {_counts(day.defects)}"
        for day in there[:worst]
    ]
    return ["worst of the days that are there:", *lines] if lines else []


def _windows(reasons: Reasons | None) -> list[str]:
    return [] if reasons is None else [
        f"windows, {symbol}: {_counts(total)}" for symbol, total in _window_totals(reasons).items()
    ]  # fmt: skip


def _window_totals(reasons: Reasons) -> dict[str, dict[str, int]]:
    """Symbol -> reason -> anchors of all days; reasons without an anchor are left out."""
    from bml.dataset.dropped import NAMES

    summed = {
        symbol: {name: sum(counts.get(name, 0) for counts in days.values()) for name in NAMES}
        for symbol, days in reasons.items()
    }
    return {symbol: {name: n for name, n in total.items() if n} for symbol, total in summed.items()}


def ranges(ledger: Ledger) -> list[tuple[str, str, int, int, int, str]]:
    """(symbol, what, first ns, last ns, count, words) of every event and of every day that is not there."""
    out = []
    for day in ledger.days:
        if day.state in (State.ABSENT, State.DAMAGED):
            start, stop = missing_range(day)
            out.append((day.symbol, str(day.state).upper(), start, stop, ledger.rows_per_day, day.problem))
        out += [(day.symbol, _name(e), e.start_ns, e.stop_ns, e.count, e.detail) for e in day.events]
    return out


def document(ledger: Ledger, reasons: Reasons | None, *, events: bool) -> dict[str, Any]:
    """The whole ledger as plain values; ranges only with ``events``."""
    out: dict[str, Any] = {
        "store": str(ledger.root),
        "digest": ledger.digest,
        "start": str(ledger.start),
        "stop": str(ledger.stop),
        "rows_per_day": ledger.rows_per_day,
        "symbols": by_symbol(ledger),
        "months": [{"symbol": s, "month": m, **total} for (s, m), total in by_month(ledger).items()],
        "days": [_day(day, reasons) for day in ledger.days],
        "damaged": ledger.damaged,
    }
    if reasons is not None:
        out["windows"] = {symbol: {"total": total} for symbol, total in _window_totals(reasons).items()}
    if events:
        names = ("symbol", "what", "start_ns", "stop_ns", "count", "detail")
        out["ranges"] = [
            dict(zip(names, one, strict=True)) | {"start": iso(one[2]), "stop": iso(one[3])} for one in ranges(ledger)
        ]
    return out


def _day(day: DayCoverage, reasons: Reasons | None) -> dict[str, Any]:
    out: dict[str, Any] = {
        "symbol": day.symbol, "day": str(day.day), "state": str(day.state), "rows": day.rows, "fresh": day.fresh,
        "filled": day.filled, "missing": day.missing, "usable": day.usable, "oldest_s": day.oldest_s,
        "longest_s": day.longest_s, "defects": day.defects, "on_grid": day.on_grid, "problem": day.problem,
    }  # fmt: skip
    if reasons is not None and day.symbol in reasons:
        out["windows"] = reasons[day.symbol].get(day.day, {})
    return out


def write_csv(ledger: Ledger, reasons: Reasons | None, path: Path) -> None:
    """One line a symbol and day, whole or not at all."""
    names: tuple[str, ...] = ()
    if reasons is not None:
        from bml.dataset.dropped import NAMES

        names = NAMES
    head = ["symbol", "day", "state", "rows", "usable", "fresh", "filled", "missing", "oldest_s", "longest_missing_s",
            "longest_stuck_s", *DEFECTS, *(f"windows_{name}" for name in names), "problem"]  # fmt: skip
    buffer = io.StringIO()
    lines = csv.writer(buffer, lineterminator="\n")
    lines.writerow(head)
    for day in ledger.days:
        windows = (reasons or {}).get(day.symbol, {}).get(day.day, {})
        lines.writerow([
            day.symbol, day.day, day.state, day.rows, day.usable, day.fresh, day.filled, day.missing, day.oldest_s,
            day.longest_s.get("missing", ""), day.longest_s.get("stuck", ""),
            *(day.defects.get(kind, 0) for kind in DEFECTS), *(windows.get(name, 0) for name in names), day.problem,
        ])  # fmt: skip
    publish(path, buffer.getvalue().encode())


def _told(symbol: str, what: str, start_ns: int, stop_ns: int, count: int, words: str) -> str:
    whole = stop_ns - start_ns == NS_PER_DAY - 1
    times = iso(start_ns) if start_ns == stop_ns else f"{iso(start_ns)} .. {iso(stop_ns + whole)}"
    return f"  {symbol} {what:9} {times} x{count:,}" + (f"  {words}" if words else "")


def _name(event: Event) -> str:
    return event.flag.name or str(int(event.flag))


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count) or "nothing"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds * NS_PER_S) // NS_PER_S, 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
