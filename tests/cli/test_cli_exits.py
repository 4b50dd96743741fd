"""Every way a command can end: one line on stderr, and a code."""

from __future__ import annotations

import errno
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from bml.cli import exits, stages
from bml.config import secret
from bml.config.faults import Fault, InvalidConfig, Where
from bml.types import ConfigError, DataError, GateError, RunRef, SourceError, StoreError

Run = Callable[..., subprocess.CompletedProcess[str]]

FULL = OSError(errno.ENOSPC, "No space left on device", "/store/x.h5")
READ_ONLY = OSError(errno.EROFS, "Read-only file system", "/store")


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (DataError("BTCUSDT: row 7"), 1, "error: BTCUSDT: row 7"),
        (StoreError("a\nb"), 1, "error: a b"),
        (ConfigError("c.yaml: no"), 2, "error: c.yaml: no"),
        (GateError("too few"), 3, "error: too few"),
        (SourceError("gone"), 4, "error: gone"),
        (FULL, 1, "error: /store/x.h5: no space left on device; the disk is full: free some space, or set store.root"),
        (READ_ONLY, 1, "error: /store: read-only file system; set store.root to a place that can be written"),
        (NotADirectoryError(errno.ENOTDIR, "x", "/a"), 1, "error: /a: not a directory"),
        (MemoryError(), 1, "error: out of memory; use smaller batches"),
        (ImportError("bml.kernels: not compiled"), 1, "error: bml.kernels: not compiled"),
        (ZeroDivisionError("by\nzero"), 1, "internal error: ZeroDivisionError: by zero (run with --debug for"),
        (ValueError("at postgresql://me:hunter2@h/d"), 1, "internal error: ValueError: at postgresql://***@h/d"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (SystemExit(143), 143, "terminated"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_one_line_and_a_code(error: BaseException, code: int, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    @exits.guarded
    def command(debug: bool = False) -> None:
        raise error

    with pytest.raises(typer.Exit) as caught:
        command(debug=False)
    assert caught.value.exit_code == code
    out, err = capsys.readouterr()
    assert err.startswith(told)
    assert err.count("\n") == 1
    assert out == ""


def test_debug_shows_the_traceback_and_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    @exits.guarded
    def command(debug: bool = False) -> None:
        raise DataError("row 7")

    with pytest.raises(typer.Exit):
        command(debug=True)
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("error: row 7\n")


def test_no_value_of_a_secret_variable_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    secret.remember("c0ffee/x")
    place = "/data/c0ffee/x/day.csv"
    noted = DataError("row 7")
    noted.add_note(place)
    faults = [Fault(Where(place, line), "a", "no") for line in (1, 2)]
    for error in (DataError(place), OSError(errno.EACCES, "x", place), ValueError(place), noted, InvalidConfig(faults)):

        @exits.guarded
        def command(error: Exception = error, debug: bool = False) -> None:
            raise error

        with pytest.raises(typer.Exit):
            command(debug=True)
        out, err = capsys.readouterr()
        assert "Traceback" in err
        assert "/data/***/day.csv" in err
        assert "c0ffee" not in out + err


def test_no_value_of_a_secret_variable_is_logged_or_in_json() -> None:
    """In a process of its own: pytest has handlers of its own."""
    code = (
        "import logging; from bml.cli import options; from bml.config import secret\n"
        "secret.remember('c0ffee/x'); options.start_logging(False, True)\n"
        "logging.getLogger('bml.a').info('from %s', '/data/c0ffee/x')\n"
        "try: open('/nowhere/c0ffee/x')\n"
        "except OSError: logging.getLogger('other').exception('no')\n"
        "options.print_json({'a': ['/data/c0ffee/x'], 'c0ffee/x': 1})\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert "INFO bml.a: from /data/***\n" in done.stderr
    assert "FileNotFoundError" in done.stderr
    assert done.stdout == '{\n  "a": [\n    "/data/***"\n  ],\n  "***": 1\n}\n'
    assert "c0ffee" not in done.stderr


def test_notes_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    @exits.guarded
    def command() -> None:
        error = DataError("row 7")
        error.add_note("BTCUSDT 2024-01-15")
        raise error

    with pytest.raises(typer.Exit):
        command()
    assert capsys.readouterr().err == "error: row 7 (BTCUSDT 2024-01-15)\n"


def test_several_faults_are_several_lines(capsys: pytest.CaptureFixture[str]) -> None:
    @exits.guarded
    def command() -> None:
        raise InvalidConfig(Fault(Where("c.yaml", line, 1), "a", "no") for line in (2, 1))

    with pytest.raises(typer.Exit) as caught:
        command()
    assert caught.value.exit_code == 2
    assert capsys.readouterr().err == "error: 2 faults in the configuration\nc.yaml:1:1: a: no\nc.yaml:2:1: a: no\n"


@pytest.mark.parametrize("as_json", [False, True])
def test_what_stages_print(config: Path, as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    from bml.pipeline import StageResult

    document = {"days": 3, "loss": float("nan"), "n_failed": 2}
    ref = RunRef(stage="preprocessing", experiment="e", run_id="r", digest="d")
    result = StageResult(table="a table", document=document, ref=ref, places={"day files": "/days"})
    assert stages._run(str(config), lambda *_: [result], None, as_json=as_json, quiet=True, debug=False) == exits.OK
    out, err = capsys.readouterr()
    assert err == ""
    if as_json:
        import json

        found = json.loads(out)
        assert found["stages"][0]["result"]["loss"] is None
        assert found["stages"][0]["places"] == {"day files": "/days"}
    else:
        assert out == "a table\nday files: /days\n"


SLEEPER = """
import sys, time, typer
from bml.cli import exits
app = typer.Typer()
@app.command()
@exits.guarded
def sleep() -> None:
    print("ready", flush=True)
    time.sleep(60)
exits.handle_signals()
app()
"""


@pytest.mark.parametrize(
    ("number", "code", "told"), [(signal.SIGTERM, 143, "terminated\n"), (signal.SIGINT, 130, "interrupted\n")]
)
def test_signals(number: signal.Signals, code: int, told: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (code, told)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_closed_streams_are_no_error(config: Path, day_file: Path, closed: str) -> None:
    from tests.cli.conftest import environment

    for command in (f"inspect '{day_file}'", f"config show '{config}'"):
        line = f"'{sys.executable}' -W error -m bml {command} {closed}"
        done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, env=environment())
        assert (done.returncode, done.stderr) == (0, "")
        assert bool(done.stdout) == (not closed.startswith(">"))
    line = f"'{sys.executable}' -m bml config show /none.yaml {closed}"
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, env=environment())
    assert done.returncode == 2
    assert done.stdout == "", "what is for stderr must not end up in stdout"


def test_a_closed_stream_gives_its_number_to_no_file(tmp_path: Path) -> None:
    """Else a library that writes to stdout writes into a day file; and a progress bar has nowhere to go."""
    code = (
        "import sys; from bml.cli import main; from bml.cli.progress import Progress\n"
        "def app():\n"
        "    with open(sys.argv[1], 'w') as file, Progress() as progress:\n"
        "        progress.phase('work'); print('unheard', flush=True); file.write(str(file.fileno()))\n"
        "main.app = app; main.main()"
    )
    line = f"'{sys.executable}' -W error -c \"{code}\" '{tmp_path / 'x'}' >&- 2>&- <&-"
    assert subprocess.run(["/bin/sh", "-c", line]).returncode == 0
    assert int((tmp_path / "x").read_text()) > 2


def test_a_command_without_stdout_ends_well(monkeypatch: pytest.MonkeyPatch) -> None:
    @exits.guarded
    def command() -> None:
        print("unheard")

    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(typer.Exit) as caught:
        command()
    assert caught.value.exit_code == 0


def test_a_reader_that_leaves_is_no_error(config: Path) -> None:
    code = "import sys; sys.argv = ['bml', 'config', 'show', sys.argv[1]]; from bml.cli.main import main; main()"
    from tests.cli.conftest import environment

    process = subprocess.Popen([sys.executable, "-c", code, config], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env=environment())  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=30) == exits.BROKEN_PIPE
    process.stderr.close()


@pytest.mark.parametrize(
    "args", [["nonsense"], ["preprocess"], ["preprocess", "--wrong"], ["config", "check", "a", "b"]]
)
def test_wrong_usage(bml: Run, args: list[str]) -> None:
    done = bml(*args)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_version(bml: Run) -> None:
    from bml import __version__

    assert bml("--version").stdout == f"bml {__version__}\n"


@pytest.mark.parametrize(("extra", "is_red"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colour_only_on_a_terminal(tmp_path: Path, extra: dict[str, str], is_red: bool) -> None:
    master, slave = pty.openpty()
    env = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | {"TERM": "xterm"} | extra
    command = [sys.executable, "-m", "bml", "config", "check", str(tmp_path / "none.yaml")]
    process = subprocess.Popen(command, stderr=slave, stdout=subprocess.DEVNULL, env=env)
    os.close(slave)
    assert process.wait(timeout=60) == 2
    time.sleep(0.05)
    shown = os.read(master, 10_000).decode()
    os.close(master)
    assert "error:" in shown
    assert ("\x1b[31m" in shown) == is_red
