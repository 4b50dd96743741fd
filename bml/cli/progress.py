"""Progress on stderr: a bar where somebody watches, plain lines where nobody does, nothing when quiet."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import Any, Self, TextIO

#: seconds between plain lines
EVERY_S = 2.0


class Progress:
    """Phases one after the other, each with a number of steps, or None where nobody knows it.

    A context manager: leaving it takes the bar away, however the block ends.
    """

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None, every_s: float = EVERY_S) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._quiet, self._every_s = quiet, every_s
        self._is_terminal = not quiet and self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._title = self._note = ""
        self._total: int | None = None
        self._done = 0
        self._started = self._last_line = 0.0
        self._bar: Any = None
        self._is_open = False

    @property
    def show(self) -> bool:
        """Whether progress is shown at all; for code that shows its own."""
        return not self._quiet

    def phase(self, title: str, total: int | None = None) -> None:
        """Begin a phase of ``total`` steps; ends the one before."""
        self.done()
        self._title, self._total, self._done, self._note = title, total, 0, ""
        self._started = self._last_line = time.monotonic()
        self._is_open = True
        if self._is_terminal:
            self._bar = self._new_bar()
            self._bar.start()
            self._bar.add_task(title, total=total, note="", rate="")
        else:
            self._line(title if total is None else f"{title}: {total} to do")

    def advance(self, n: int = 1, note: str = "") -> None:
        """``n`` steps are done; ``note`` says which, or what was found."""
        self._done += n
        self._note = note or self._note
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done, note=self._note, rate=self._rate())
        elif time.monotonic() - self._last_line >= self._every_s:
            self._last_line = time.monotonic()
            self._line(self._state())

    def say(self, text: str) -> None:
        """One line that stays, above the bar where there is one."""
        if self._bar is None:
            self._line(text)
        else:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def done(self) -> None:
        """End the phase; says how long it took."""
        if not self._is_open:
            return
        self._close()
        count = f"{self._done} " if self._done else ""
        self._line(f"{self._title}: {count}done in {_duration(time.monotonic() - self._started)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        self._is_open = False
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _state(self) -> str:
        elapsed = time.monotonic() - self._started
        text = f"{self._title}: {self._done}"
        if self._total:
            left = elapsed / max(self._done, 1) * (self._total - self._done)
            text += f"/{self._total} ({self._done / self._total:.0%}), {self._rate()}, {_duration(left)} left"
        return f"{text}, {self._note}" if self._note else text

    def _rate(self) -> str:
        """Steps a minute since the phase began; a second where it is more than one."""
        each_s = self._done / max(time.monotonic() - self._started, 1e-9)
        return f"{each_s:.1f}/s" if each_s >= 1 else f"{60 * each_s:.1f}/min"

    def _line(self, text: str) -> None:
        if not self._quiet:
            print(text, file=self._stream, flush=True)

    def _new_bar(self) -> Any:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        rate = TextColumn("{task.fields[rate]}")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
        console = Console(file=self._stream)
        return Bar(*columns, TextColumn("{task.fields[note]}", markup=False), console=console, transient=True)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min {rest:02} s"
