"""``bml --help`` is light: nothing heavy is imported, and it takes little more than its interpreter."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

HEAVY = [
    "torch", "mlflow", "numba", "polars", "pandas", "optuna", "matplotlib", "h5py", "psycopg", "sklearn",
    "sqlalchemy", "numpy", "rich", "yaml",
]  # fmt: skip

LOADED = """
import sys
from bml.cli.main import app
try:
    app({arguments})
except SystemExit as end:
    assert end.code == 0, end.code
print("loaded:", *[name for name in {heavy} if name in sys.modules], file=sys.stderr)
"""


LIGHT = [["--help"], ["--version"], ["preprocess", "--help"], ["config", "--help"], ["audit", "leak", "--help"]]


@pytest.mark.parametrize("arguments", LIGHT)
def test_nothing_heavy_is_imported(arguments: list[str]) -> None:
    code = LOADED.format(arguments=arguments, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "loaded:\n"
    assert done.stdout.strip()


def test_help_within_1_8_of_the_bare_imports() -> None:
    """Medians over interleaved runs, so that a machine that slows down slows both."""
    commands = {"help": ["-m", "bml", "--help"], "bare": ["-c", "import typer, numpy"]}
    took: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(8):
        for name, arguments in commands.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
            took[name].append(time.perf_counter() - began)
    ratio = statistics.median(took["help"][1:]) / statistics.median(took["bare"][1:])  # the first ones warm the disk
    print(f"help / bare imports: {ratio:.2f}")
    assert ratio <= 1.8


def test_help_names_commands_and_exit_codes(bml: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = bml("--help")
    assert done.returncode == 0
    for word in ("preprocess", "train", "evaluate", "run", "inspect", "doctor", "config", "130", "do not suffice"):
        assert word in done.stdout
    assert "\b" not in done.stdout
    assert "partly" not in done.stdout
    assert "\x1b" not in done.stdout


def test_validating_preprocess_needs_no_torch(bml: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """The stages left of training load without what trains."""
    from bml.cli.stages import PREPROCESS_STAGES

    code = (
        "import sys; from bml.registry import resolve\n"
        "resolve('book.dataobject.build', 'stage'); resolve('dataset.samples.book_windows', 'stage')\n"
        "for name in ('align.to_grid', 'quality.check', 'depth.adaptive', 'moments.daily'):\n"
        "    resolve(f'book.{name}', 'step')\n"
        "print(*[name for name in ('torch', 'mlflow', 'matplotlib', 'sklearn') if name in sys.modules])"
    )
    assert set(PREPROCESS_STAGES) == {"collect", "data_object", "preprocess", "features"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr
