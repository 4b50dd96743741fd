"""``bml coverage`` as a user sees it: text, JSON, CSV, a calendar, exit codes, and the run it leaves in MLflow."""

from __future__ import annotations

import csv
import datetime as dt
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bml.book import rolling
from bml.cli.main import app
from bml.config import Config
from tests.book.test_coverage import SYMBOLS, configured, day_store, planted, truncate

__all__ = ["planted"]  # a fixture


@pytest.fixture
def copy(planted: Config, tmp_path: Path) -> Config:
    shutil.copytree(planted.store.root, tmp_path / "store")
    return configured(tmp_path, tmp_path / "store")


def invoke(*args: str | Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["coverage", *map(str, args)])
    return done.exit_code, done.stdout, done.stderr


def test_text_tells_months_worst_days_and_windows(planted: Config) -> None:
    root = planted.store.root
    code, out, err = invoke(root)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{root}: built by {day_store(planted).digest[:8]}, 2 symbols from 2024-03-01 to 2024-03-03, " \
        "4,320 rows a day"  # fmt: skip
    table = [line for line in lines[1:7] if line]
    assert [line.split()[:3] for line in table[1:]] == [
        ["BTC", "2024-03", "3"], ["ETH", "2024-03", "3"], ["BTC", "all", "3"], ["ETH", "all", "3"], ["all", "all", "6"],
    ]  # fmt: skip
    assert len({len(line) for line in table}) == 1
    assert "empty: ETH 2024-03-02" in lines
    assert "windows" not in out
    code, out, _ = invoke(root, "--config", planted.path)
    assert code == 0
    counted = [line for line in out.splitlines() if line.startswith("windows, ")]
    assert [line.split(":")[0] for line in counted] == ["windows, BTC", "windows, ETH"]
    assert "target_gap" in counted[1]
    assert "usable" in counted[0]


def test_every_range_is_told_with_its_times(planted: Config) -> None:
    code, out, _ = invoke(planted.store.root, "--events", "--json")
    document = json.loads(out)
    assert code == 0
    assert [day["state"] for day in document["days"]].count("empty") == 1
    one = next(r for r in document["ranges"] if (r["symbol"], r["what"]) == ("BTC", "TRUNCATED"))
    _, text, _ = invoke(planted.store.root, "--events")
    assert f"  BTC TRUNCATED {one['start']} .. {one['stop']} x{one['count']}  {one['detail']}" in text.splitlines()
    assert len(text.splitlines()) > len(document["ranges"]) > 50
    assert "ranges" not in json.loads(invoke(planted.store.root, "--json")[1])


def test_csv_has_a_line_a_symbol_and_day(planted: Config, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "days.csv"
    assert invoke(planted.store.root, "--config", planted.path, "--csv", path)[0] == 0
    lines = list(csv.DictReader(path.read_text().splitlines()))
    days = json.loads(invoke(planted.store.root, "--config", planted.path, "--json")[1])["days"]
    assert [(line["symbol"], line["day"]) for line in lines] == [(day["symbol"], day["day"]) for day in days]
    for line, day in zip(lines, days, strict=True):
        assert int(line["usable"]) == day["usable"]
        assert int(line["crossed"]) == day["defects"].get("crossed", 0)
        assert int(line["windows_target_gap"]) == day["windows"].get("target_gap", 0)


def test_a_damaged_file_is_named_the_rest_told_and_the_code_1(copy: Config) -> None:
    path = day_store(copy).path("BTC", dt.date(2024, 3, 2))
    truncate(path)
    for more in ((), ("--config", copy.path)):
        code, out, err = invoke(copy.store.root, *more)
        assert code == 1
        assert err.count("\n") == 1
        assert err.startswith(f"damaged: {path}: ")
        assert "damaged: BTC 2024-03-02" in out.splitlines()
        assert "empty: ETH 2024-03-02" in out.splitlines()
        assert "windows, " not in out  # no count may leave a file out
        assert ("windows: not counted" in out) == bool(more)


def test_windows_are_not_counted_without_days_that_were_removed(copy: Config) -> None:
    """The days are no gap of the data: they can be built again, and nothing is trained before."""
    rolling.evict(day_store(copy), "BTC", dt.date(2024, 3, 2))
    code, out, err = invoke(copy.store.root, "--config", copy.path)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "windows: not counted while a day file is damaged or removed"
    assert "windows" not in json.loads(invoke(copy.store.root, "--config", copy.path, "--json")[1])


def test_a_store_of_damaged_files_alone_has_all_rows_missing(copy: Config) -> None:
    for path in sorted((copy.store.root / "days").glob("*/*/*.h5")):
        truncate(path)
    code, out, _ = invoke(copy.store.root, "--config", copy.path)
    assert code == 1
    assert "4,320 rows a day" in out.splitlines()[0]
    (everything,) = (line for line in out.splitlines() if line.split()[:2] == ["all", "all"])
    assert everything.split()[-4:] == ["0.00%", "0.00%", "0.00%", "100.00%"]


def test_wrong_usage_is_one_line(planted: Config, tmp_path: Path) -> None:
    for args, told in (
        ((tmp_path,), "no day files of bml"),
        ((planted.store.root, "--plot", tmp_path / "x.pdf"), "must end in .png"),
        ((planted.store.root, "--csv", tmp_path / "x"), "must end in .csv"),
        ((planted.store.root, "--set", "data.cadence_s=5"), "give --config CONFIG"),
        ((tmp_path, "--config", planted.path), "run bml preprocess"),
    ):
        code, out, err = invoke(*args)
        assert (code, out) == (2, "")
        assert told in err
        assert err.count("\n") == 1
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_a_calendar_is_drawn(planted: Config, tmp_path: Path) -> None:
    from matplotlib.image import imread

    for name in ("a", "b"):
        assert invoke(planted.store.root, "--plot", tmp_path / name / "x.png")[0] == 0
    first, second = ((tmp_path / name / "x.png").read_bytes() for name in ("a", "b"))
    assert first == second
    picture = imread(tmp_path / "a" / "x.png")
    assert picture.shape[0] > 300
    red, blue = picture[..., 0], picture[..., 2]
    assert (blue - red > 0.3).mean() > 0.002, "usable days are blue"


def test_a_cell_is_the_share_of_its_day(planted: Config) -> None:
    from bml.book.coverage import of_store
    from bml.cli.coverage_picture import calendar, mark_of

    ledger = of_store(planted.store.root)
    strips = [axes for axes in calendar(ledger).axes if axes.get_ylabel() in SYMBOLS]
    assert [axes.get_ylabel() for axes in strips] == list(SYMBOLS)
    for axes in strips:
        shares = np.ma.getdata(axes.collections[0].get_array()).reshape(7, -1)
        for day in ledger.days:
            if day.symbol == axes.get_ylabel():
                at = (day.day - dt.date(2024, 2, 26)).days  # a Monday
                assert shares[at % 7, at // 7] == day.usable / day.rows
        assert np.isfinite(shares).sum() == 3
    assert [mark_of(day) for day in ledger.days].count("empty") == 1


def test_names_of_months_do_not_overlap() -> None:
    """A calendar that begins in the last weeks of a month has no room for that month's name; the next has the year."""
    from bml.book.coverage import DayCoverage, Ledger, State
    from bml.cli.coverage_picture import NAME_WEEKS, calendar

    for start, n_days, first in ((20, 60, "Apr 2023"), (1, 60, "Mar 2023"), (30, 1, "Mar 2023"), (25, 400, "Apr 2023")):
        dates = [dt.date(2023, 3, start) + dt.timedelta(days=k) for k in range(n_days)]
        days = tuple(DayCoverage(symbol="BTC", day=day, state=State.PRESENT, rows=1, usable=1) for day in dates)
        ledger = Ledger(root=Path("store"), digest="ab" * 32, symbols=("BTC",), start=dates[0],
                        stop=dates[-1] + dt.timedelta(days=1), days=days, damaged={}, rows_per_day=1)  # fmt: skip
        strips = [axes for axes in calendar(ledger).axes if axes.get_ylabel() == "BTC"]
        assert strips[0].get_xticklabels()[0].get_text() == first
        for axes in strips:
            assert np.all(np.diff(axes.get_xticks())[:1] >= NAME_WEEKS)


def test_totals_go_to_mlflow(copy: Config, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    text = copy.path.read_text().replace("enabled: false", "enabled: true")
    copy.path.write_text(text)
    code, out, _ = invoke(copy.store.root, "--config", copy.path, "--json", "--plot", tmp_path / "x.png")
    assert code == 0
    assert invoke(copy.store.root)[0] == 0  # a store that has a database keeps the book of it without being asked
    client = MlflowClient(f"sqlite:///{copy.store.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("binance-preprocessing")
    assert experiment is not None
    plain, run = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])
    document = json.loads(out)
    for symbol in SYMBOLS:
        assert run.data.metrics[f"{symbol}.usable"] == document["symbols"][symbol]["usable"]
        assert run.data.metrics[f"{symbol}.windows.usable"] == document["windows"][symbol]["total"]["usable"]
        assert plain.data.metrics[f"{symbol}.usable"] == document["symbols"][symbol]["usable"]
    assert run.data.params["digest"] == document["digest"]
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"coverage.json", "figures"} <= names
