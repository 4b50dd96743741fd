"""What README and configs/ say can be run as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from bml.book.store import open_file
from tests.conftest import ROOT
from tests.end_to_end import tiny

ENV = {"BML_DATA": "/data", "BML_DSN": "postgresql://reader@db:5432/market"}
README = (ROOT / "README.md").read_text()
FEATURES = (ROOT / "docs" / "features.md").read_text()


def _blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


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


def test_the_guide_to_features_runs_as_it_stands(tmp_path: Path) -> None:
    """Its module, its entry point and its preprocessing, on the rows of a small market."""
    (code,), (steps,), (points,) = (_blocks(language, FEATURES) for language in ("python", "yaml", "toml"))
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    (tmp_path / "my_features.py").write_text(code)
    package = tmp_path / "my_features-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: my-features\nVersion: 1.0\n")
    (entry,) = tomllib.loads(points)["project"]["entry-points"]["bml.features"].items()
    (package / "entry_points.txt").write_text(f"[bml.features]\n{entry[0]} = {entry[1]}\n")
    tree: Any = tiny.document(tiny.write_books(tmp_path / "rows"), tmp_path / "store")
    tree["stages"] |= yaml.safe_load(steps)
    config = tiny.write_config(tmp_path / "c.yaml", tree)
    env = {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    outcome = tiny.bml("preprocess", config, "-q", env=env)
    assert outcome.code == 0, outcome.err
    days = tiny.published(tmp_path / "store")
    told = tiny.bml("inspect", tmp_path / "store" / next(iter(days)))
    assert "features  known in rows: book.features.microprice_bps 100.00%, book.features.order_flow" in told.out
    with open_file(tmp_path / "store" / next(iter(days))) as file:
        assert file.feature_names == (
            "book.features.microprice_bps",
            "book.features.order_flow_imbalance(rows=7, levels=3)",
            "my_features.spread_against_usual(least_bps=0.05)",
        )
        spread_T = file.feature_TK[:, 2]
        assert np.isnan(spread_T[:29]).all()
        assert np.isfinite(spread_T[29:]).all()
    (tmp_path / "my_features.py").write_text(code.replace("usual - 1.0", "usual - 2.0"))
    again = tiny.bml("preprocess", config, "-q", env=env)
    assert again.code == 0, again.err
    assert len(tiny.published(tmp_path / "store")) == 2 * len(days)  # other code, other days
    tree["stages"]["preprocess"][2]["with"]["features"][2] = "my_features.spread"
    wrong = tiny.bml("config", "check", tiny.write_config(config, tree), env=env)
    assert wrong.code == 2
    assert "no feature called 'my_features.spread'; did you mean 'my_features.spread_against_usual'?" in wrong.err
