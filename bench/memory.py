"""The peak memory of one call in a process of its own, as a share of the bytes of its input and output.

    python -m bench.memory LINE [--times 8640] [--levels 1000] [--threads 1]

The input is there before; what the process grows by until the highest point of the call, the output included, is
added to it. Linux only: the mark of the highest point is reset through /proc/self/clear_refs.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from bench.lines import Size, lines
from bml.kernels._table import Call, bytes_of


def status(field: str) -> int:
    """Bytes of a field of /proc/self/status."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    if not found:
        raise RuntimeError(f"/proc/self/status has no {field}")
    return int(found[1]) * 1024


def share(name: str, size: Size, threads: int | None = None) -> float:
    """(input + growth at the peak) / (input + output) of the line of this name. Call it in a fresh process."""
    line = next(line for line in lines() if line.name == name)
    small, call = (line.call(s) for s in (Size(times=5, levels=5), size))
    given = {} if threads is None else {"threads": threads}
    line.kernel.run(Call(small.args, small.kwargs | given))  # what is loaded once
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    result = line.kernel.run(Call(call.args, call.kwargs | given))
    return (bytes_of(call) + status("VmHWM") - before) / bytes_of(call, result)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("line")
    parser.add_argument("--times", type=int, default=Size.times)
    parser.add_argument("--levels", type=int, default=Size.levels)
    parser.add_argument("--threads", type=int)
    chosen = parser.parse_args()
    print(f"{share(chosen.line, Size(times=chosen.times, levels=chosen.levels), chosen.threads):.3f}")


if __name__ == "__main__":
    main()
