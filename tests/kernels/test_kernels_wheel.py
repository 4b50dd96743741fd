"""The wheel by itself: built, installed beside numpy alone, and used there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import bml
from bml.kernels import _isa
from bml.kernels._table import KERNELS

ROOT = Path(bml.__file__).parents[1]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_wheel_needs_numpy_only(tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    for name in ("bml", "csrc"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.so", "__pycache__", "*.c"))
    for path in ROOT.iterdir():
        if path.name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(path, source)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("BML_", "PYTHONPATH"))}
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, source], env=clean, check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if name.startswith(("csrc", "tests", "build"))]
    assert {"bml/py.typed", "bml/kernels/_core.pyi"} <= set(names)

    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", "--target", site, wheel], env=clean, check=True)
    for name in ("numpy", "numpy.libs"):  # beside it numpy, and nothing that numpy was installed with
        if (found := Path(np.__file__).parents[1] / name).exists():
            (site / name).symlink_to(found)
    script = Path(__file__).with_name("wheel_check.py")
    bare = [sys.executable, "-S", "-P", "-W", "error", script]
    done = subprocess.run(bare, env=clean | {"PYTHONPATH": str(site)}, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    checked, built, where = done.stdout.split()
    assert int(checked) == 2 * sum(len(k.examples) for k in KERNELS) * len(_isa.runnable())
    assert built == ("v4,v3,v2" if os.uname().machine == "x86_64" else "base")
    assert Path(where).is_relative_to(site)


def test_the_check_of_the_wheel_holds_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BML_KERNELS", raising=False)  # as it is by default, whatever these tests run on
    script = Path(__file__).with_name("wheel_check.py")
    done = subprocess.run(
        [sys.executable, script], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == ",".join(_isa.built())


def test_importing_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BML_KERNELS", raising=False)  # as it is by default, whatever these tests run on
    code = """
import time, numpy
began = time.perf_counter()
import bml.kernels
print(time.perf_counter() - began)
"""
    spent = [
        float(subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout)
        for _ in range(5)
    ]
    assert min(spent) < 0.05
