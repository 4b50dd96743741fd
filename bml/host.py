"""What a process runs on, and which process it is."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bml import __version__
from bml.config.secret import HIDDEN, is_secret_name, redact_text

#: what a kernel takes at most
MOST_THREADS = 1024


def system() -> dict[str, Any]:
    """What a run ran on; asks torch for its devices only if torch is loaded already."""
    out: dict[str, Any] = {
        "bml": __version__, "python": platform.python_version(), "platform": platform.platform(),
        "host": socket.gethostname(), "cpus": len(os.sched_getaffinity(0)), "command": command_line(sys.argv),
    }  # fmt: skip
    torch = sys.modules.get("torch")
    if torch is not None:
        out["torch"] = torch.__version__
        out["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return out


def kernel_threads() -> int | None:
    """``threads`` for the kernels bml itself runs: every CPU this process may use, unless BML_NUM_THREADS is set."""
    return None if "BML_NUM_THREADS" in os.environ else min(len(os.sched_getaffinity(0)), MOST_THREADS)


def memory_bytes() -> int:
    """Memory this process may come to use: the machine's, or less where a control group limits it."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return machine  # no control groups here, or of the first kind
    return min(machine, int(limit)) if limit.isdigit() else machine


def command_line(arguments: Sequence[str]) -> str:
    """``arguments`` as one line; of ``key=value`` the value is hidden when any part of the key names a secret."""
    shown = []
    for argument in arguments:
        flag = "--set=" if argument.startswith("--set=") else ""
        key, equals, value = argument.removeprefix(flag).partition("=")
        hide = bool(equals and value) and any(is_secret_name(part) for part in key.split("."))
        shown.append(f"{flag}{key}={HIDDEN}" if hide else redact_text(argument))
    return " ".join(shown)


def git_state() -> dict[str, str]:
    """``bml.git_sha`` (and ``bml.git_dirty``) when this package runs from a git checkout that tracks it."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", "__init__.py") is None:
        return {}
    sha, changed = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    return {"bml.git_sha": sha, "bml.git_dirty": str(bool(changed)).lower()} if sha else {}


def process_tags() -> dict[str, str]:
    """Which process runs this, precisely enough to tell later whether it still does."""
    return {"bml.host": host_name(), "bml.pid": str(os.getpid()), "bml.pid_start": started(os.getpid())}


def host_name() -> str:
    """Host name and process id space: containers of one machine may share a name but not their ids."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return f"{socket.gethostname()} {space}".strip()


def started(pid: int) -> str:
    """When process ``pid`` started, in ticks since boot; "" when there is no such process or only its remains."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()  # from field 3 of proc(5) on: the name before may hold anything
    return "" if fields[0] in "ZX" else fields[19]
