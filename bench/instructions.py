"""Instructions per element, counted by callgrind, beside those of bench/instructions.json: no noise, a small margin.

    python -m bench.instructions FOLDER COMPILER [--write]     run by csrc/tests/callgrind.sh

Counts hold for one compiler: with another they are printed, and not judged.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

RECORDED = Path(__file__).with_name("instructions.json")
MARGIN = 0.05  # what a change of the code around a loop may cost


def counted(folder: Path) -> dict[str, float]:
    """Instructions per element of every dump in the folder."""
    found = {}
    for dump in sorted(folder.glob("out.*"), key=lambda path: int(path.suffix[1:])):
        text = dump.read_text()
        named = re.search(r"^desc: Trigger: Client Request: (.*)/(\d+)$", text, re.MULTILINE)
        total = re.search(r"^totals: (\d+)$", text, re.MULTILINE)
        if named and total:
            found[named[1]] = round(int(total[1]) / int(named[2]), 3)
    return found


def slower(found: dict[str, float], recorded: dict[str, float]) -> list[str]:
    """What takes more instructions than the margin allows, or was not counted."""
    failures = [f"{name}: recorded, but not counted" for name in recorded if name not in found]
    for name, now in found.items():
        before = recorded.get(name, now)
        if now > before * (1 + MARGIN):
            failures.append(f"{name}: {now} instructions per element, were {before} (+{now / before - 1:.0%})")
    return failures


def main(folder: str, compiler: str, write: str = "") -> int:
    found = counted(Path(folder))
    if not found:
        print("no counts: callgrind wrote no dumps")
        return 1
    if write == "--write":
        RECORDED.write_text(json.dumps({"compiler": compiler, "instructions": found}, indent=1) + "\n")
    recorded = json.loads(RECORDED.read_text())
    for name, now in found.items():
        print(f"{name:32} {now:8.3f}  recorded {recorded['instructions'].get(name, 'not yet'):>8}")
    if recorded["compiler"] != compiler:
        print(f"not judged: recorded with {recorded['compiler']}, this is {compiler}")
        return 0
    failures = slower(found, recorded["instructions"])
    failures += ["meant? record it: bash csrc/tests/callgrind.sh --write"] if failures else []
    print("\n".join(failures) if failures else f"callgrind: none beyond {MARGIN:.0%}")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
