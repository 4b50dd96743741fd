"""Where a training writes: a hidden folder beside the final one, whose files take its place when training ends.

Another training into the same folder therefore leaves the model that is there alone until it has a whole one of
its own, and may die at any moment.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bml.book.publish import host_label, is_alive
from bml.types import StoreError

BEST, LAST, HISTORY = "best.safetensors", "last.safetensors", "history.json"
#: the order of the final renames: who sees the best checkpoint sees all that belongs to it
_FILES = ("last.json", LAST, HISTORY, "best.json", BEST)
#: .NAME.HOST.PID-TOKEN.training
_WORKING = re.compile(r"\.(?P<host>[0-9A-Za-z_-]+)\.(?P<pid>\d+)-[0-9a-f]{8}\.training")


@contextmanager
def workspace(out: Path, told: Callable[[str], None]) -> Iterator[Path]:
    """A folder to write the files of a training into; they are moved to ``out`` when the block ends.

    Where the block raises (an interrupt is no exception to that), a finished model in ``out`` stays as it is and
    the new files are dropped; in any other case what there is of them is moved. ``told`` hears which.
    Folders that dead processes of this machine left are removed first. Raises StoreError if ``out`` cannot be made
    or the files cannot be moved.
    """
    out = Path(out).resolve()
    try:
        out.mkdir(parents=True, exist_ok=True)
        _sweep(out)
    except OSError as error:
        raise StoreError(f"cannot train into {out}: {error.strerror or error}; make it a writable folder") from error
    working = out.with_name(f".{out.name}.{host_label()}.{os.getpid()}-{secrets.token_hex(4)}.training")
    try:
        try:
            yield working
        except BaseException:
            if not (working / BEST).exists():
                told("training stopped before its first epoch ended: there is no checkpoint of it")
            elif finished(out):
                told(f"training stopped: {out} keeps the model of the training that finished there")
            else:
                _move(working, out)
                told(f"training stopped: the best epoch so far is in {out / BEST}")
            raise
        _move(working, out)
    finally:
        shutil.rmtree(working, ignore_errors=True)


def finished(out: Path) -> bool:
    """Whether ``out`` holds the model of a training that came to its end."""
    if not (out / BEST).exists():
        return False
    try:
        return json.loads((out / HISTORY).read_bytes())["finished"] is not False
    except (OSError, ValueError, KeyError, TypeError):
        return True  # nothing says that it was cut short


def _move(working: Path, out: Path) -> None:
    try:
        for name in _FILES:
            with suppress(FileNotFoundError):  # stopped within an epoch
                os.replace(working / name, out / name)
        fd = os.open(out, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise StoreError(f"cannot move the trained model to {out}: {error.strerror or error}") from error


def _sweep(out: Path) -> None:
    """Remove working folders of ``out`` whose process, of this host, is gone."""
    for path in out.parent.iterdir():
        match = _WORKING.fullmatch(path.name.removeprefix(f".{out.name}"))
        ours = match is not None and path.name.startswith(f".{out.name}.") and match["host"] == host_label()
        if match and ours and not is_alive(int(match["pid"])):
            shutil.rmtree(path, ignore_errors=True)
