"""``bml classes`` over a small store that begins at the end of a month."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bml import openings
from bml.cli.main import app
from tests.end_to_end import tiny

DEAD = "stages.features.with.classes={method: fixed}"
PAIR = [f"stages.features.with.targets=[{', '.join(tiny.SYMBOLS)}]"]


def invoke(command: str, config: Path, *args: str | Path, sets: list[str] | None = None) -> tuple[int, str, str]:
    changes = [word for change in sets or () for word in ("--set", change)]
    done = CliRunner().invoke(app, [command, str(config), *map(str, args), *changes])
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten days from 2024-01-27 on: six to train, one each to stop and to calibrate, two to test."""
    folder = tmp_path_factory.mktemp("classes")
    tree: dict[str, Any] = tiny.document(folder, folder / "store")
    tree["data"] |= {"start": "2024-01-27", "stop": "2024-02-06"}
    tree["stages"]["collect"] = {"fn": "sources.synthetic.depth_rows", "with": {"seed": 3, "levels": 4}}
    tree["stages"]["features"]["with"]["split"] = {
        "starts": {"early_stop": "2024-02-02", "calibrate": "2024-02-03", "test": "2024-02-04"}
    }
    path = tiny.write_config(folder / "tiny.yaml", tree)
    code, _, err = invoke("preprocess", path, "--quiet", "--workers", "0")
    assert code == 0, err
    return path


def test_shares_of_every_symbol_and_month(config: Path) -> None:
    code, out, err = invoke("classes", config, sets=PAIR)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 100
    assert out.startswith("classes of the return over 1200 s\n")
    for symbol in tiny.SYMBOLS:
        block = out.partition(f"\n\n{symbol}\n")[2].partition("\n\n")[0].splitlines()
        assert block[0].split() == ["rows", "n_eff", *map(str, range(8)), "entropy", "tails", "PSI", "zero"]
        assert [line.split()[0] for line in block[1:4]] == ["train", "2024-01", "2024-02"]
        assert [line.split()[1] for line in block[2:4]] == ["T", "TEC"]
        shares = [float(block[1][27 + 5 * k : 32 + 5 * k]) for k in range(8)]
        assert sum(shares) == pytest.approx(100.0, abs=0.5)
        assert [int(line.split()[0]) for line in block if "equal classes" in line] == [8, 12, 16]
        assert re.search(r"left out: \d+ rows of the test block", block[-1])


def test_as_json_with_more_classes_than_a_line_holds(config: Path) -> None:
    sets = ["stages.features.with.classes={method: volatility_scaled, n_classes: 12}"]
    code, out, _ = invoke("classes", config, "--json", sets=sets)
    found = json.loads(out)
    assert (code, found["name"], found["horizon_s"], found["test_included"]) == (0, "tiny", 1200, False)
    one = found["symbols"]["BTCUSDT"]
    assert len(found["classes"]) == len(one["train"]["shares"]) == 12
    assert sum(one["train"]["shares"]) == pytest.approx(1.0)
    assert [month["month"] for month in one["months"]] == ["2024-01", "2024-02"]
    assert one["months"][1]["blocks"] == ["train", "early_stop", "calibrate"]
    assert one["dead"] == []
    code, out, _ = invoke("classes", config, sets=sets)
    lines = out.partition("BTCUSDT\n")[2].splitlines()
    assert len(lines[1].split()) == 3 + 8 + 3
    assert len(lines[2].split()) == 4


def test_the_test_block_is_shown_only_when_asked_for_and_not_silently(config: Path) -> None:
    code, out, err = invoke("classes", config, "--include-test")
    assert code == 0
    assert "warning: the test block was looked at" in err
    assert "opened for the 1st time" in err
    assert re.search(r"^2024-02 !", out, re.MULTILINE)
    assert "left out" not in out
    _, out, err = invoke("classes", config, "--include-test", "--json")
    assert "opened for the 2nd time" in err
    assert json.loads(out)["test_included"]


def test_a_look_at_the_test_block_is_an_opening_whatever_the_name(config: Path) -> None:
    """Counted in the ledger that evaluations are counted in; another name of the configuration begins no new one."""
    ledger = openings.ledger(config.parent / "store")
    before = len(openings.read(ledger))
    assert invoke("classes", config)[0] == 0
    assert len(openings.read(ledger)) == before
    _, _, err = invoke("classes", config, "--include-test")
    assert err.endswith(f". The test block was opened for the {openings.ordinal(before + 1)} time.\n")
    other = ["name=other"]
    assert invoke("preprocess", config, "--quiet", "--workers", "0", sets=other)[0] == 0
    _, _, err = invoke("classes", config, "--include-test", sets=other)
    assert err.endswith(f". The test block was opened for the {openings.ordinal(before + 2)} time.\n")
    last = openings.read(ledger)[-1]
    assert (last.number, last.number_of_days, last.model) == (before + 2, before + 2, "")
    ledger.write_text("no ledger\n")
    code, out, err = invoke("classes", config, "--include-test")
    ledger.unlink()
    assert (code, out) == (1, "")
    assert "openings.jsonl: line 1 is damaged" in err


def test_dead_classes_are_refused_unless_allowed(config: Path) -> None:
    code, out, err = invoke("classes", config, sets=[DEAD])
    assert code == 3
    assert err.startswith("error: dead classes, with next to no training row: BTCUSDT: '< -10%' 0.00% (n_eff 0.0)")
    assert "allow_dead" in err
    assert "DEAD: '< -10%': 0.00% of the training rows, n_eff 0.0" in out
    assert invoke("classes", config, "--allow-dead-classes", sets=[DEAD])[0] == 0
    assert invoke("classes", config, sets=[DEAD.replace("}", ", allow_dead: true}")])[0] == 0
    assert invoke("classes", config, "--min-share", "0.3")[0] == 3
    assert invoke("classes", config, "--min-n-eff", "400")[0] == 3


def test_nothing_is_trained_on_dead_classes_unless_allowed(config: Path) -> None:
    code, _, err = invoke("train", config, "--quiet", sets=[DEAD])
    assert code == 3
    assert "error: dead classes" in err
    assert not (config.parent / "store" / "models").exists()
    code, _, err = invoke("train", config, "--quiet", sets=[DEAD.replace("}", ", allow_dead: true}")])
    assert (code, "dead classes" in err) == (0, False)


def test_a_picture(config: Path, tmp_path: Path) -> None:
    from matplotlib.image import imread

    code, out, _ = invoke("classes", config, "--include-test", "--plot", tmp_path / "deep" / "x.png", sets=PAIR)
    assert code == 0
    assert out.splitlines()[-1] == f"picture   {tmp_path / 'deep' / 'x.png'}"
    picture = imread(tmp_path / "deep" / "x.png")
    assert picture.shape[0] > 400
    assert picture.shape[1] > 800
    assert len({tuple(pixel) for pixel in picture[::4, ::4, :3].reshape(-1, 3).round(2).tolist()}) > 8
    code, _, err = invoke("classes", config, "--plot", tmp_path / "x.pdf")
    assert (code, "must end in .png" in err) == (2, True)


def test_before_preprocessing_it_says_what_to_run(config: Path, tmp_path: Path) -> None:
    code, out, err = invoke("classes", config, sets=[f"store.root={tmp_path / 'other'}"])
    assert (code, out) == (2, "")
    assert "bml preprocess" in err
