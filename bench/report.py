"""From pytest-benchmark's JSON to the table, to the README's copy of it, and to the gate.

    python -m bench.report table build/bench.json [--readme README.md]
    python -m bench.report baseline build/gate-1.json build/gate-2.json ... > bench/baseline.json
    python -m bench.report gate build/gate.json bench/baseline.json

The gate compares ratios of times taken in the same minute by the same process, never times.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from bench.lines import OWN, TWO_THREADS
from bench.race import MEMCPY

START, STOP = "<!-- bench: start -->", "<!-- bench: stop (written by `make bench`) -->"
#: a ratio may fall by this share before the gate fails, or by twice the spread of the baseline's runs, if that is more
MARGIN = 0.15
REASON = (
    "A ratio may fall by its margin: twice the spread seen over the runs of the baseline, at least 0.15, because the"
    " memcpy of a shared machine alone varies by that much from one run to the next."
)

Figures = dict[str, float]


def figures(info: dict[str, Any]) -> Figures:
    """What others took / what the kernel took, larger is better; memcpy's also against two threads."""
    found = {name: ratio for name, ratio in info["ratio"].items() if name != TWO_THREADS}
    if TWO_THREADS in info["ratio"]:
        found[f"{MEMCPY}, 2 threads"] = found[MEMCPY] / info["ratio"][TWO_THREADS]
    return found


def read(path: Path) -> tuple[list[dict[str, Any]], str]:
    """The extra_info of every line, and the machine in words."""
    document = json.loads(path.read_text())
    cpu, python = document["machine_info"]["cpu"], document["machine_info"]["python_version"]
    return [
        b["extra_info"] for b in document["benchmarks"]
    ], f"{cpu['brand_raw']}, {cpu['count']} CPUs, Python {python}"


def table(lines: list[dict[str, Any]]) -> str:
    """The lines as a table in Markdown."""
    rows = [
        [
            "kernel, input",
            "ms",
            "GB/s",
            "of memcpy",
            "on 2 threads",
            "10 x 10, us",
            "others, in times of the kernel on one thread",
        ],
        ["---", "--:", "--:", "--:", "--:", "--:", "---"],
    ]
    for info in lines:
        found = figures(info)
        both = found.pop(f"{MEMCPY}, 2 threads", None)
        copied = found.pop(MEMCPY)
        ms, rounds = info["median_s"][OWN] * 1e3, info["rounds"]
        few = {name: f" ({rounds[name]} of {rounds[OWN]} rounds)" for name in found if rounds[name] < rounds[OWN]}
        peers = [f"{name} {ratio:.1f}{few.get(name, '')}" for name, ratio in sorted(found.items(), key=lambda x: x[1])]
        shares = [f"{copied:.2f}", "" if both is None else f"{both:.2f}", f"{info['small_s'] * 1e6:.1f}"]
        rows.append([info["line"], f"{ms:.1f}", f"{info['gb_per_s']:.1f}", *shares, ", ".join(peers)])
    widths = [max(len(row[k]) for row in rows) for k in range(6)]
    return "\n".join(
        "| " + " | ".join([x.ljust(w) for x, w in zip(row, widths, strict=False)] + row[6:]) + " |" for row in rows
    )


def with_table(text: str, lines: list[dict[str, Any]], machine: str) -> str:
    """The text with what lies between the two marks replaced."""
    head, _, rest = text.partition(START)
    _, stop, tail = rest.partition(STOP)
    if not stop:
        raise ValueError(f"the README needs the lines {START!r} and {STOP!r}, in this order")
    size = f"{lines[0]['times']:,} x {lines[0]['levels']:,}" if lines else ""
    said = f"Measured by `make bench` on {machine}; a day of {size} levels."
    return f"{head}{START}\n{said}\n\n{table(lines)}\n{stop}{tail}"


def baseline(runs: list[list[dict[str, Any]]], machine: str) -> dict[str, Any]:
    """Of several runs: the median of every ratio and a margin from their spread."""
    lines: dict[str, dict[str, dict[str, float]]] = {}
    for info in runs[0]:
        per_run = [figures(next(i for i in run if i["line"] == info["line"])) for run in runs]
        lines[info["line"]] = {name: _allowed([found[name] for found in per_run]) for name in per_run[0]}
    size = {"times": runs[0][0]["times"], "levels": runs[0][0]["levels"], "runs": len(runs)}
    return {"machine": machine, "reason": REASON, **size, "lines": lines}


def _allowed(ratios: list[float]) -> dict[str, float]:
    middle = statistics.median(ratios)
    margin = max(MARGIN, 2 * (max(ratios) - min(ratios)) / middle)
    return {"ratio": round(middle, 3), "margin": round(min(margin, 0.6), 3)}


def gate(measured: list[dict[str, Any]], base: dict[str, Any]) -> list[str]:
    """What is slower than the baseline allows, in words; empty when nothing is."""
    found = {info["line"]: figures(info) for info in measured}
    failures = []
    for line, allowed in base["lines"].items():
        if line not in found:
            failures.append(f"{line}: in the baseline but not measured; write a new one (make bench-baseline)")
            continue
        for name, rule in allowed.items():
            got, least = found[line].get(name), rule["ratio"] * (1 - rule["margin"])
            if got is None:
                failures.append(f"{line}: no figure against {name}, which the baseline has")
            elif got < least:
                failures.append(
                    f"{line}: {got:.2f} against {name}, was {rule['ratio']:.2f}, at least {least:.2f} is asked"
                )
    return failures


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    todo = parser.add_subparsers(dest="todo", required=True)
    shown = todo.add_parser("table")
    shown.add_argument("result", type=Path)
    shown.add_argument("--readme", type=Path)
    todo.add_parser("baseline").add_argument("result", type=Path, nargs="+")
    gated = todo.add_parser("gate")
    gated.add_argument("result", type=Path)
    gated.add_argument("baseline", type=Path)
    chosen = parser.parse_args(arguments)
    if chosen.todo == "baseline":
        runs = [read(path) for path in chosen.result]
        print(json.dumps(baseline([lines for lines, _ in runs], runs[0][1]), indent=1))
        return 0
    lines, machine = read(chosen.result)
    if chosen.todo == "table":
        print(table(lines))
        if chosen.readme:
            chosen.readme.write_text(with_table(chosen.readme.read_text(), lines, machine))
        return 0
    if not chosen.baseline.exists():
        print(f"there is no {chosen.baseline} to compare with: make bench-baseline writes it")
        return 1
    base = json.loads(chosen.baseline.read_text())
    if base["machine"] != machine:
        print(f"note: the baseline was measured on {base['machine']}, this is {machine}")
    for line in sorted({info["line"] for info in lines} - set(base["lines"])):
        print(f"note: {line} is not in the baseline yet (make bench-baseline)")
    failures = gate(lines, base)
    print("\n".join(failures) if failures else f"bench gate: {len(base['lines'])} lines, none slower than allowed")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
