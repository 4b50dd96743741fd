"""Files that appear whole or not at all.

Bytes go to a temporary file in the same folder, reach the disk, and only then take the final name, so a reader
never sees a part of a file and a writer that dies leaves the previous file as it was.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from pathlib import Path

from bml.host import host_name, started
from bml.types import StoreError

#: .NAME.HOST.PID-TOKEN.tmp: hidden, and never ending in the final suffix
_TEMPORARY = re.compile(r"\..+\.(?P<host>[0-9A-Za-z_-]+)\.(?P<pid>\d+)-[0-9a-f]{8}\.tmp")

_HINTS = {
    errno.ENOSPC: "free some space or set store.root to another disk",
    errno.EDQUOT: "the quota is used up: free some space or set store.root to another disk",
    errno.EFBIG: "the process may not write files this large: raise the limit (ulimit -f)",
    errno.EROFS: "the file system is read-only: set store.root to a writable folder",
    errno.EACCES: "make the folder writable or set store.root to one that is",
    errno.EPERM: "make the folder writable or set store.root to one that is",
    errno.ENOTDIR: "a part of the path is a file: set store.root to a folder",
    errno.EEXIST: "a part of the path is a file: set store.root to a folder",
}


def publish(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically and durably, replacing what was there; folders are made.

    Temporary files that dead processes of this machine left in the folder are removed first.
    Raises StoreError (what, where, free space, what to do); then no temporary file stays behind and an
    older file at ``path`` is untouched. Cost: one write and two syncs.
    """
    try:
        _make_folder(path.parent)
        sweep(path.parent, _TEMPORARY)
        temporary = path.with_name(f".{path.name}.{host_label()}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
        try:
            _write(temporary, data)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                temporary.unlink()
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise StoreError(_words(path, len(data), error)) from error


def _write(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def _make_folder(folder: Path) -> None:
    missing = [f for f in (folder, *folder.parents) if not f.exists()]
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
        _sync_folder(one.parent)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sweep(folder: Path, pattern: re.Pattern[str]) -> None:
    """Remove files of this host whose process is gone; ``pattern`` finds ``host`` and ``pid`` in their names."""
    with os.scandir(folder) as entries:
        found = [(entry.path, match) for entry in entries if (match := pattern.fullmatch(entry.name))]
    for name, match in found:
        if match["host"] == host_label() and not is_alive(int(match["pid"])):
            with contextlib.suppress(FileNotFoundError):  # another writer swept it
                os.unlink(name)


def is_alive(pid: int) -> bool:
    """Whether a process of this machine has that number; one that ended and is not reaped yet (a zombie) counts not.

    In a container whose first process reaps late, or never, a killed process stays a zombie for long.
    """
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True  # someone else's process
    return started(pid) != "" or not Path("/proc/self/stat").exists()


def host_label() -> str:
    """This machine's name and process id space, fit for a file name: in another space a process id says nothing."""
    return re.sub(r"[^0-9A-Za-z_-]+", "-", host_name()).strip("-") or "host"


def _words(path: Path, size: int, error: OSError) -> str:
    existing = next((f for f in path.parents if f.exists()), Path("/"))
    try:
        free = f"{shutil.disk_usage(existing).free / 1e6:,.1f} MB free"
    except OSError:
        free = "free space unknown"
    reason = error.strerror or str(error)
    hint = _HINTS.get(error.errno or 0, "check the disk and the path in store.root")
    return f"cannot write {path}: {reason} (the file takes {size / 1e6:,.1f} MB, {free}); {hint}"
