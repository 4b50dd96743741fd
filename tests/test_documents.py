"""What README and configs/ say can be run as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.end_to_end import tiny

ENV = {"BML_DATA": "/data", "BML_DSN": "postgresql://reader@db:5432/market"}
README = (ROOT / "README.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configuration_is_valid(path: Path) -> None:
    outcome = tiny.bml("config", "check", path, env=ENV)
    assert outcome.code == 0, outcome.err


def test_readme_configuration_is_valid(tmp_path: Path) -> None:
    (text,) = _blocks("yaml")
    path = tmp_path / "readme.yaml"
    path.write_text(text)
    outcome = tiny.bml("config", "check", path, env=ENV)
    assert outcome.code == 0, outcome.err


def test_readme_kernels_run() -> None:
    (code,) = _blocks("python")
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "(8, 3, 4)" in done.stdout
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith(("import", "from"))]
    assert len(lines) <= 15


def test_readme_names_every_command() -> None:
    outcome = tiny.bml("--help")
    commands = re.findall(r"^  (\w+)  ", outcome.out.split("Commands:")[1], flags=re.MULTILINE)
    assert {"preprocess", "train", "evaluate", "run", "inspect", "doctor", "config"} <= set(commands)
    for command in commands:
        assert f"`bml {command}" in README
