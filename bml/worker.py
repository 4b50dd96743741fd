"""Building one day wherever it runs: an open source that comes back, a day's outcome, a process that does nothing else.

:func:`main` is all such a process runs. It gets a :class:`Job` and then days over its
connection, and answers each with an :class:`Outcome`. When the other end of its lifeline closes, because whoever
started it is gone, it ends itself.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal, NoReturn, Self, TypeVar

from bml import __version__, types
from bml.book.days import DayBuilder, DaySummary, Learned, publish, store_digest
from bml.book.store import DayStore
from bml.config import Config, load
from bml.config.model import Written
from bml.config.params import accepts
from bml.config.secret import redact_text
from bml.sources.base import Source
from bml.types import BmlError, ConfigError, ConnectionLost, DataError, SourceError, StoreError

T = TypeVar("T")

#: pauses between attempts to reach a lost server: doubled from the first up to the last, each shortened by chance
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0

#: so often a connection may break within one day before the day itself is suspected
MOST_BREAKS = 5

#: tells whoever watches what is being waited for, and for how many seconds
Tell = Callable[[str, float], None]

#: what is wrong with a day that failed; "every": with all days, so the run must stop
Blame = Literal["data", "source", "internal", "timeout", "died", "every"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a day: its summary, or why there is none (``error``: the exception's class and text)."""

    symbol: str
    day: dt.date
    summary: DaySummary | None = None
    seconds: float = 0.0
    size: int = 0
    blame: Blame | None = None
    error: tuple[str, str] = ("", "")

    def exception(self) -> BmlError:
        """The error as it was raised, or as much of it as another process can know."""
        name, text = self.error
        kind: object = getattr(types, name, None)
        if isinstance(kind, type) and issubclass(kind, BmlError):
            return kind(text)
        return BmlError(f"{name}: {text}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """All that another process needs to build days like this one. Holds no secret: it reads its own environment.

    ``key`` names the run; ``probe`` is a file below ``root`` that every machine must see; ``threads`` is what the
    kernels of one worker process may use.
    """

    key: str
    path: str
    written: Written
    root: str
    digest: str
    learned: Learned
    origin: dict[str, str | int | float]
    force: bool
    threads: int
    probe: str
    version: str = __version__


def open_source(cfg: Config) -> Source:
    """The configured source, not connected yet."""
    fn = cfg.collect.function()
    injected = {"data": cfg.data} if accepts(fn, "data") else {}
    source: Source = fn(**injected, **cfg.collect.params)
    return source


class Supply:
    """A configuration's source, opened again when its connection was lost. A context manager."""

    def __init__(self, cfg: Config, tell: Tell) -> None:
        self._cfg, self._tell = cfg, tell
        self.source = open_source(cfg)

    def __enter__(self) -> Self:
        self.source.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.source.__exit__(kind, error, trace)

    def connect(self) -> None:
        """Open the source once, trying again as :meth:`use` does. Raises as it does."""
        try:
            self.source.__enter__()
        except ConnectionLost as error:
            self._reconnect("the first connection", error)

    def use(self, what: str, fn: Callable[[Source], T]) -> T:
        """``fn`` of the open source; once more after every lost connection.

        Raises SourceError when the connection breaks :data:`MOST_BREAKS` times though the server can be reached,
        ConnectionLost when it cannot for ``run.retry_s`` seconds, and whatever else ``fn`` raises.
        """
        for breaks in range(1, MOST_BREAKS + 1):
            try:
                return fn(self.source)
            except ConnectionLost as error:
                lost = error
                if breaks < MOST_BREAKS:
                    self._reconnect(what, error)
        told = f"{what}: the connection broke {MOST_BREAKS} times while this was read; the last time: {lost}"
        raise SourceError(told) from lost

    def _reconnect(self, what: str, error: ConnectionLost) -> None:
        end = time.monotonic() + self._cfg.run.retry_s
        pause_s = FIRST_PAUSE_S
        while True:
            left_s = end - time.monotonic()
            if left_s <= 0:
                raise error
            wait_s = min(pause_s * random.uniform(0.5, 1.0), left_s)  # chance: workers must not come back as one
            self._tell(f"{what}: {error}; trying again in {wait_s:.1f} s", wait_s)
            time.sleep(wait_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            self.source.__exit__(None, None, None)
            self.source = open_source(self._cfg)
            try:
                self.source.__enter__()
            except ConnectionLost as again:
                error = again
            else:
                return


class DayWorker:
    """Builds days of one configuration into one store."""

    def __init__(
        self, cfg: Config, supply: Supply, store: DayStore, learned: Learned, origin: Any, *, force: bool
    ) -> None:
        self._cfg, self._supply, self._store, self._learned = cfg, supply, store, learned
        self._meta, self._force = {"origin": origin, "learned": learned}, force

    def build(self, symbol: str, day: dt.date) -> Outcome:
        """Build and publish one day. Nothing an ordinary exception says is lost: it is the outcome's blame and error.

        KeyboardInterrupt and SystemExit go on.
        """
        began = time.monotonic()
        try:
            summary = self._supply.use(f"{symbol} {day}", lambda source: self._publish(source, symbol, day))
        except Exception as error:
            return failure(symbol, day, error, time.monotonic() - began)
        size = 0  # another run may need the room: then it is removed by now
        with contextlib.suppress(OSError):
            size = self._store.path(symbol, day).stat().st_size
        return Outcome(symbol=symbol, day=day, summary=summary, seconds=time.monotonic() - began, size=size)

    def _publish(self, source: Source, symbol: str, day: dt.date) -> DaySummary:
        builder = DayBuilder(self._cfg, source, self._learned)
        options = {"force": self._force, "any_origin": self._cfg.store.any_origin}
        return publish(builder, self._store, symbol, day, meta=self._meta, **options)


def failure(symbol: str, day: dt.date, error: Exception, seconds: float = 0.0) -> Outcome:
    """The outcome of a day whose building raised ``error``."""
    blame: Blame = "internal"
    if isinstance(error, (ConfigError, StoreError, ConnectionLost, OSError)):
        blame = "every"
    elif isinstance(error, SourceError):
        blame = "source"
    elif isinstance(error, (DataError, MemoryError)):
        blame = "data"
    name, text = type(error).__name__, " ".join(str(error).split())
    if isinstance(error, ConfigError):
        name = "ConfigError"  # its subclasses want more than a text
    elif isinstance(error, OSError):
        name, text = "StoreError", f"{error.filename or 'the system'}: {error.strerror or error}"
    elif isinstance(error, MemoryError):
        name, text = "DataError", "out of memory: too many rows or levels for this machine"
    return Outcome(symbol=symbol, day=day, seconds=seconds, blame=blame, error=(name, redact_text(text)))


def prepared(job: Job, tell: Tell) -> tuple[Config, Supply, DayStore]:
    """The job's configuration as this process's environment makes it, its source, and its store.

    Raises ConfigError when the store is not the one whoever made the job sees, or the environment, or the version of
    bml, makes it another configuration.
    """
    where = f"worker on {os.uname().nodename}"
    if job.version != __version__:
        raise ConfigError(f"{where}: has bml {__version__}, the run has {job.version}: install the same version")
    if job.probe and not (Path(job.root) / job.probe).exists():
        raise ConfigError(
            f"{where}: does not see the run's store.root {job.root}: all machines must share that folder, "
            "under the same path"
        )
    cfg = load(job.path, job.written.overrides, stages=job.written.stages, text=job.written.text)
    cfg = cfg.model_copy(update={"store": cfg.store.model_copy(update={"root": Path(job.root)})})
    digest = store_digest(cfg, job.learned)
    if digest != job.digest:
        raise ConfigError(
            f"{where}: its environment makes another configuration (days of {digest[:8]}, not {job.digest[:8]}): "
            "set the same variables there"
        )
    return cfg, Supply(cfg, tell), DayStore(cfg.store.root, digest)


def _serve(connection: Connection) -> None:
    job: Job = connection.recv()

    def tell(text: str, seconds: float) -> None:
        connection.send((redact_text(text), seconds))

    first: tuple[str, dt.date] | None = connection.recv()
    if first is None:
        return
    try:
        cfg, supply, store = prepared(job, tell)
        supply.connect()
    except Exception as error:
        connection.send(replace(failure(*first, error), blame="every"))
        return
    try:
        worker = DayWorker(cfg, supply, store, job.learned, job.origin, force=job.force)
        wanted: tuple[str, dt.date] | None = first
        while wanted is not None:
            connection.send(worker.build(*wanted))
            wanted = connection.recv()
    finally:
        supply.source.__exit__(None, None, None)


def _end_with(lifeline: int) -> None:
    """End this process when nobody holds the other end of ``lifeline``: no orphan goes on writing."""

    def watch() -> None:
        os.read(lifeline, 1)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise SystemExit(143)


def main() -> None:
    """The worker process, of two file descriptors as arguments: its connection and its lifeline."""
    _end_with(int(sys.argv[2]))
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it decides
    with Connection(int(sys.argv[1])) as connection:
        try:
            _serve(connection)
        except (EOFError, BrokenPipeError, ConnectionResetError):  # nobody listens any more
            return
