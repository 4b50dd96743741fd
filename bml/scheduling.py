"""Where days are built: in this process, in worker processes of this machine, or on a Dask cluster.

One small interface: ``run(days)`` yields an :class:`~bml.worker.Outcome` a day, in the order they are ready. What a
day's file holds does not depend on who built it, nor on how many did.
"""

from __future__ import annotations

import collections
import contextlib
import datetime as dt
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Protocol, Self

from bml.worker import DayWorker, Job, Outcome, Tell

SymbolDay = tuple[str, dt.date]

#: seconds a worker process has to close its source and go
GRACE_S = 5.0

#: the system waits no longer at a time than a few weeks, and a day's limit may be infinite
LONGEST_WAIT_S = 3600.0

#: a day whose worker died is built once more, alone to blame when it dies again
MOST_DEATHS = 2


#: not ``-m``: then the module would be another one, and what it sends of another class
_MAIN = "from bml.worker import main; main()"


class Scheduler(Protocol):
    """A context manager that builds days; leaving it stops every worker, however the block ends."""

    def run(self, days: Sequence[SymbolDay]) -> Iterator[Outcome]:
        """One outcome for each of ``days``; raises only what stops the whole run."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Serial:
    """In this process, one day after the other. A day that kills the process ends the run."""

    def __init__(self, worker: DayWorker) -> None:
        self._worker = worker

    def run(self, days: Sequence[SymbolDay]) -> Iterator[Outcome]:
        """See :class:`Scheduler`."""
        for symbol, day in days:
            yield self._worker.build(symbol, day)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to stop."""


class _Hand:
    """One worker process and the day it is at."""

    def __init__(self, job: Job) -> None:
        ours, theirs = socket.socketpair()
        life, lifeline = os.pipe()
        with theirs:
            flags = [f"-W{option}" for option in sys.warnoptions]
            numbers = (theirs.fileno(), life)
            try:
                self.process = subprocess.Popen(
                    [sys.executable, *flags, "-c", _MAIN, *map(str, numbers)],
                    pass_fds=numbers,
                    env=_environment(job),
                    stdin=subprocess.DEVNULL,
                    stdout=2,  # stdout carries the result, and that is not the worker's
                    start_new_session=True,  # Ctrl-C reaches the process that then stops this one
                )
            finally:
                os.close(life)
        self._lifeline = lifeline
        self.connection = Connection(ours.detach())
        self.at: SymbolDay | None = None
        self.since = self.deadline = 0.0
        self._send(job)

    def give(self, what: SymbolDay, timeout_s: float) -> None:
        """Have it build a day within ``timeout_s`` seconds."""
        self.at, self.since = what, time.monotonic()
        self.deadline = self.since + timeout_s
        self._send(what)

    def _send(self, message: object) -> None:
        with contextlib.suppress(OSError):  # it died: the closed connection says so when it is read
            self.connection.send(message)

    def stop(self) -> int:
        """End the process, by force if it does not go; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
        code = self.process.wait()
        if not self.connection.closed:
            self.connection.close()
            os.close(self._lifeline)
        return code


class Processes:
    """``count`` worker processes of this machine. A worker that dies or takes too long is replaced."""

    def __init__(self, job: Job, count: int, *, timeout_s: float, tell: Tell) -> None:
        self._job, self._count, self._timeout_s, self._tell = job, count, timeout_s, tell
        self._idle: list[_Hand] = []
        self._busy: list[_Hand] = []

    def run(self, days: Sequence[SymbolDay]) -> Iterator[Outcome]:
        """See :class:`Scheduler`. Workers stay for the next call."""
        todo = collections.deque(days)
        deaths: collections.Counter[SymbolDay] = collections.Counter()
        while todo or self._busy:
            while todo and len(self._busy) < self._count:
                hand = self._idle.pop() if self._idle else _Hand(self._job)
                self._busy.append(hand)
                hand.give(todo.popleft(), self._timeout_s)
            first = min(hand.deadline for hand in self._busy)
            left_s = min(max(0.0, first - time.monotonic()), LONGEST_WAIT_S)
            ready = wait([hand.connection for hand in self._busy], left_s)
            for hand in list(self._busy):
                if hand.connection in ready:
                    outcome = self._answer(hand, deaths, todo)
                elif time.monotonic() >= hand.deadline:
                    outcome = self._late(hand)
                else:
                    continue
                if outcome is not None:
                    yield outcome

    def _answer(
        self, hand: _Hand, deaths: collections.Counter[SymbolDay], todo: collections.deque[SymbolDay]
    ) -> Outcome | None:
        assert hand.at is not None
        try:
            message = hand.connection.recv()
        except (EOFError, OSError):
            return self._died(hand, hand.at, deaths, todo)
        if isinstance(message, Outcome):
            self._busy.remove(hand)
            self._idle.append(hand)
            hand.at = None
            return message
        text, seconds = message
        hand.deadline += seconds  # waiting for a lost server is no fault of the day
        self._tell(text, seconds)
        return None

    def _died(
        self,
        hand: _Hand,
        at: SymbolDay,
        deaths: collections.Counter[SymbolDay],
        todo: collections.deque[SymbolDay],
    ) -> Outcome | None:
        self._busy.remove(hand)
        code = hand.stop()
        how = f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"
        deaths[at] += 1
        if deaths[at] < MOST_DEATHS:
            self._tell(f"{at[0]} {at[1]}: its worker process ended with {how}; building it once more", 0.0)
            todo.append(at)
            return None
        hint = "; killed so, it may have run out of memory: fewer workers need less" if code == -signal.SIGKILL else ""
        told = f"{MOST_DEATHS} worker processes ended while building it, the last with {how}{hint}"
        seconds = time.monotonic() - hand.since
        return Outcome(symbol=at[0], day=at[1], seconds=seconds, blame="died", error=("BmlError", told))

    def _late(self, hand: _Hand) -> Outcome:
        assert hand.at is not None
        symbol, day = hand.at
        self._busy.remove(hand)
        hand.stop()
        told = f"not done after {self._timeout_s:g} s (run.day_timeout_s), so it was given up"
        seconds = time.monotonic() - hand.since
        return Outcome(symbol=symbol, day=day, seconds=seconds, blame="timeout", error=("BmlError", told))

    def stop(self) -> None:
        """End every worker process; days they are at are left out, nothing half-written stays visible."""
        hands = self._busy + self._idle
        self._busy, self._idle = [], []
        for hand in hands:
            if hand.process.poll() is None:
                hand.process.send_signal(signal.SIGTERM)  # all at once, then each is waited for
        for hand in hands:
            hand.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _environment(job: Job) -> dict[str, str]:
    """This process's environment, where to find the same modules, and the kernels' share of the CPUs."""
    path = os.pathsep.join(part for part in sys.path if part)
    return {"BML_NUM_THREADS": str(job.threads), **os.environ, "PYTHONPATH": path}


def threads_of(workers: int) -> int:
    """How many threads the kernels of each of ``workers`` processes of this machine get."""
    return max(1, len(os.sched_getaffinity(0)) // max(1, workers))
