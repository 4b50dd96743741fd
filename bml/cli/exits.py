"""Exit codes, and how every way a command can end becomes one line on stderr and a code."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import NoReturn, TypeVar

Command = TypeVar("Command", bound=Callable[..., object])

OK, FAILED, USAGE, GATE, UNREACHABLE, SOME_FAILED = range(6)
INTERRUPTED, BROKEN_PIPE, TERMINATED = 130, 141, 143

EPILOG = """\b
Exit codes:
  0    done
  1    failed
  2    wrong usage or invalid configuration
  3    the data do not suffice (no usable windows, too few rows to calibrate)
  4    a service cannot be reached
  5    some days failed, all others are done
  130  interrupted (SIGINT), 141 nobody reads stdout, 143 terminated (SIGTERM)

\b
stdout carries the result, stderr everything else; NO_COLOR is honoured."""

#: environment where a missing or full file system shows, with what to do about it
_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space, or set store.root to another one",
    errno.EDQUOT: "the quota is used up: free some space, or set store.root to another disk",
    errno.EROFS: "set store.root to a place that can be written",
    errno.EACCES: "check the owner and mode of the place",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


def guarded(command: Command) -> Command:
    """Wrap a command: errors become one line on stderr and an exit code, never a traceback without ``--debug``."""

    @functools.wraps(command)
    def run(*args: object, **kwargs: object) -> object:
        debug = bool(kwargs.get("debug"))
        try:
            code = command(*args, **kwargs)
            if sys.stdout is not None:  # closed by whoever started us
                sys.stdout.flush()
        except BaseException as error:
            code = _told(error, debug)
        import typer

        raise typer.Exit(code if isinstance(code, int) else OK)

    return run  # type: ignore[return-value]


def handle_signals() -> None:
    """SIGTERM unwinds the program as SystemExit(143), so that runs and files are closed; a second one kills."""

    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise SystemExit(TERMINATED)

    signal.signal(signal.SIGTERM, terminate)


def open_missing_streams() -> None:
    """Give a stdin, stdout or stderr that was closed at the start to the null device.

    Else the next file opened takes the stream's number, and what is meant for the stream ends up in it.
    """
    for name, mode, flags in (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_WRONLY), ("stderr", "w", os.O_WRONLY)):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, flags)  # the lowest free one: the stream's own
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 (open to the end)


def say(text: str) -> None:
    """One message on stderr; nobody listening there is no error."""
    if sys.stderr is None:
        return
    with contextlib.suppress(BrokenPipeError, ValueError):
        print(text, file=sys.stderr, flush=True)


def use_colour(stream: object) -> bool:
    """Whether ``stream`` is a terminal that takes colours, and the user did not say no."""
    is_terminal = getattr(stream, "isatty", lambda: False)()
    return bool(is_terminal) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _told(error: BaseException, debug: bool) -> int:
    """Say what happened and give the exit code; what is no error of ours or the system's goes on."""
    if type(error).__module__.split(".")[0] in ("typer", "click"):
        raise error  # Exit and usage errors: typer's own
    if debug and not isinstance(error, BrokenPipeError):
        from bml.config.secret import redact_text

        say(redact_text("".join(traceback.format_exception(error))).rstrip())
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the flush at exit has somewhere to go
        return BROKEN_PIPE
    if isinstance(error, KeyboardInterrupt):
        say("interrupted")
        return INTERRUPTED
    if isinstance(error, SystemExit):
        if error.code == TERMINATED:
            say("terminated")
        return error.code if isinstance(error.code, int) else OK if error.code is None else FAILED
    if isinstance(error, Exception):
        return _explained(error)
    raise error


def _explained(error: Exception) -> int:
    from bml.config.faults import InvalidConfig
    from bml.config.secret import redact_text
    from bml.types import BmlError

    head = "\033[31merror:\033[0m" if use_colour(sys.stderr) else "error:"
    notes = redact_text("".join(f" ({note})" for note in getattr(error, "__notes__", ())))
    if isinstance(error, InvalidConfig) and len(error.faults) > 1:
        say(f"{head} {len(error.faults)} faults in the configuration\n" + redact_text(str(error)) + notes)
        return error.exit_code
    text = redact_text(" ".join(f"{error}{notes}".split()))
    if isinstance(error, BmlError):
        say(f"{head} {text}")
        return error.exit_code
    if isinstance(error, OSError) and error.errno is not None:
        place = "" if error.filename is None else redact_text(f"{error.filename}: ")
        advice = f"; {_ADVICE[error.errno]}" if error.errno in _ADVICE else ""
        told = os.strerror(error.errno)
        say(f"{head} {place}{told[:1].lower()}{told[1:]}{advice}{notes}")
    elif isinstance(error, MemoryError):
        say(f"{head} out of memory{': ' + text if text else ''}; use smaller batches or fewer levels")
    elif isinstance(error, ImportError):
        say(f"{head} {text}")
    else:
        say(f"internal error: {type(error).__name__}: {text} (run with --debug for the traceback)")
    return FAILED
