"""Bad input of every kind ends in one clear line and a non-zero exit, with nothing half-written."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl
import pytest

from bml.book.store import open_file
from tests.end_to_end import tiny

Tree = dict[str, Any]
BTC = tiny.SYMBOLS[0]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_books(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, rows: Path) -> Path:
    """A store that went through preprocess and train, with its configuration; tests break copies of it."""
    folder = tmp_path_factory.mktemp("trained")
    config = tiny.write_config(folder / "tiny.yaml", tiny.document(rows, Path("${TINY_STORE}")))
    for command in ("preprocess", "train"):
        done = tiny.bml(command, config, "-q", env={"TINY_STORE": str(folder / "store")})
        assert done.code == 0, done.err
    return folder


def refused(outcome: tiny.Outcome, code: int, *words: str) -> None:
    """Exactly one error line, the documented exit code, every word in the line, no traceback, no result."""
    assert outcome.code == code, outcome.err
    assert "Traceback" not in outcome.err
    assert "internal error" not in outcome.err
    assert len(outcome.error_lines) == 1, outcome.err
    for word in words:
        assert word in outcome.err, f"{word!r} not in {outcome.err!r}"
    assert outcome.out == ""


def no_leftovers(store: Path) -> None:
    """No temporary file, and whatever has a final name opens and verifies."""
    if not store.exists():
        return
    assert [p for p in store.rglob(".*") if p.is_file() and p.suffix in (".h5", ".tmp", ".partial")] == []
    for name in tiny.published(store):
        with open_file(store / name) as file:
            file.verify()


# --- the configuration -------------------------------------------------------------------------------------------


def _set(tree: Tree, path: str, value: object) -> None:
    *parents, last = path.split(".")
    node: Any = tree
    for part in parents:
        node = node[int(part)] if part.isdigit() else node[part]
    node[int(last) if last.isdigit() else last] = value


CONFIG_FAULTS: list[tuple[str, str, object, tuple[str, ...]]] = [
    ("unknown key", "data.cadence_secs", 10, ("data.cadence_secs", "did you mean 'cadence_s'")),
    ("unknown parameter", "stages.preprocess.1.with.max_gap", 60, ("max_gap", "did you mean 'max_gap_s'")),
    ("missing variable", "stages.collect.with.path", "${BML_NOT_SET_ANYWHERE}/x.parquet", ("BML_NOT_SET_ANYWHERE",)),
    ("stop before start", "data.stop", "2023-01-01", ("data", "stop")),
    ("not a date", "data.start", "first of May", ("data.start",)),
    ("reference not traded", "data.reference", "DOGEUSDT", ("reference", "DOGEUSDT")),
    ("hostile symbol", "data.symbols", ["BTC'; DROP TABLE x;--"], ("data.symbols",)),
    ("symbol twice", "data.symbols", [BTC, BTC], ("data.symbols", BTC)),
    ("cadence that does not divide a day", "data.cadence_s", 7.7, ("cadence_s",)),
    ("no such function", "stages.collect.fn", "sources.files.depth_row", ("did you mean 'sources.files.depth_rows'",)),
    ("any function of Python", "stages.collect.fn", "os.system", ("os.system",)),
    ("a function that is no source", "stages.collect.fn", "book.align.to_grid", ("book.align.to_grid", "step")),
    ("wrong type", "stages.data_object.with.levels", "many", ("levels",)),
    ("steps in the wrong order", "stages.preprocess.0.fn", "book.moments.daily", ("takes a AlignedDay", "order")),
    ("a gap without end", "stages.preprocess.1.with.max_gap_s", float("inf"), ("max_gap_s",)),
    ("a day that is not over", "data.stop", "2100-01-01", ("not over",)),
    ("window between rows", "stages.features.with.window_h", 0.5005, ("window_h", "multiple")),
    ("horizon between rows", "stages.features.with.horizon_s", 90, ("horizon_s", "multiple")),
    ("target not traded", "stages.features.with.targets", ["DOGEUSDT"], ("targets", "DOGEUSDT")),
    ("more assets than there are", "stages.features.with.min_assets", 5, ("min_assets",)),
    ("shares that are no whole", "stages.features.with.split.fractions.test", 0.9, ("split",)),
    ("edges that fall", "stages.features.with.classes", {"method": "fixed", "edges_pct": [1, 0]}, ("edges",)),
]


@pytest.mark.parametrize(("path", "value", "words"), [c[1:] for c in CONFIG_FAULTS], ids=[c[0] for c in CONFIG_FAULTS])
def test_faulty_configuration(tmp_path: Path, rows: Path, path: str, value: object, words: tuple[str, ...]) -> None:
    tree = copy.deepcopy(tiny.document(rows, tmp_path / "store"))
    _set(tree, path, value)
    outcome = tiny.bml("preprocess", tiny.write_config(tmp_path / "bad.yaml", tree))
    refused(outcome, 2, *words)
    assert not (tmp_path / "store").exists()


def test_configuration_that_is_not_there(tmp_path: Path) -> None:
    refused(tiny.bml("preprocess", tmp_path / "nowhere.yaml"), 2, "nowhere.yaml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1, 2\nb: 3\n", ("bad.yaml:2",)),
        ("version: 1\nname: a\nname: b\n", ("bad.yaml:3", "name")),
        ("\x00\x01", ("bad.yaml",)),
        ("", ("bad.yaml",)),
        ("- just\n- a list\n", ("bad.yaml",)),
    ],
    ids=["syntax", "key twice", "binary", "empty", "not a mapping"],
)
def test_text_that_is_no_configuration(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    outcome = tiny.bml("config", "check", path)
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
    for word in words:
        assert word in outcome.err, outcome.err


# --- the rows ----------------------------------------------------------------------------------------------------

ROW_FAULTS: list[tuple[str, Callable[[pl.DataFrame], pl.DataFrame], tuple[str, ...]]] = [
    ("negative quantity", lambda d: _cell(d, "bid_qty", 401, -3.0), (BTC, "negative bid quantity", "drop")),
    ("NaN price", lambda d: _cell(d, "ask_px", 402, float("nan")), (BTC, "ask price", "bad_rows: drop")),
    ("infinite quantity", lambda d: _cell(d, "ask_qty", 402, float("inf")), (BTC, "ask quantity")),
    ("price zero", lambda d: _cell(d, "bid_px", 402, 0.0), (BTC, "bid price")),
    ("time goes back", lambda d: pl.concat([d[800:1600], d[:800], d[1600:]]), (BTC, "row", "monotonic_time")),
    ("duplicates that differ", lambda d: pl.concat([d[:4], d.with_columns(pl.col("bid_qty") + 1)]), (BTC, "duplicate")),
    ("level 0", lambda d: d.with_columns(pl.col("level") - 1), ("level", "0")),
    ("column of text", lambda d: d.with_columns(pl.lit("cheap").alias("bid_px")), ("bid_px",)),
    ("time as text", lambda d: d.with_columns(pl.lit("noon").alias("ts")), ("ts",)),
    ("column missing", lambda d: d.drop("ask_qty"), ("ask_qty",)),
    ("no rows at all", lambda d: d[:0], (BTC, "no rows")),
    ("another year", lambda d: d.with_columns(pl.col("ts").dt.offset_by("1y")), (BTC, "no rows")),
    ("every book crossed", lambda d: d.with_columns(pl.col("bid_px") * 2), (BTC,)),
]  # fmt: skip


def _cell(frame: pl.DataFrame, column: str, row: int, value: float) -> pl.DataFrame:
    return frame.with_columns(pl.when(pl.int_range(pl.len()) == row).then(value).otherwise(column).alias(column))


@pytest.mark.parametrize(("breaks", "words"), [c[1:] for c in ROW_FAULTS], ids=[c[0] for c in ROW_FAULTS])
def test_faulty_rows(
    tmp_path: Path, rows: Path, breaks: Callable[[pl.DataFrame], pl.DataFrame], words: tuple[str, ...]
) -> None:
    broken = tmp_path / "rows"
    shutil.copytree(rows, broken)
    breaks(tiny.book(BTC)).write_parquet(broken / f"{BTC}.parquet")
    config = tiny.write_config(tmp_path / "c.yaml", tiny.document(broken, tmp_path / "store"))
    outcome = tiny.bml("preprocess", config, "-q")
    refused(outcome, 1, *words)
    no_leftovers(tmp_path / "store")


def test_rows_that_come_late(tmp_path: Path, rows: Path) -> None:
    """A symbol that had no rows is asked for again once it has: nothing of the failed run is final."""
    late = tmp_path / "rows"
    shutil.copytree(rows, late)
    tiny.book(BTC)[:0].write_parquet(late / f"{BTC}.parquet")
    config = tiny.write_config(tmp_path / "c.yaml", tiny.document(late, tmp_path / "store"))
    refused(tiny.bml("preprocess", config, "-q"), 1, BTC, "no rows")
    shutil.copy(rows / f"{BTC}.parquet", late)
    assert tiny.bml("preprocess", config, "-q").code == 0
    with open_file(next((tmp_path / "store" / "days" / BTC).rglob("*.h5"))) as file:
        assert file.quality.counts["n_rows"] == tiny.LEVELS * 86_400 // tiny.CADENCE_S


def test_rows_that_are_not_there(tmp_path: Path, rows: Path) -> None:
    config = tiny.write_config(tmp_path / "c.yaml", tiny.document(tmp_path / "nowhere", tmp_path / "store"))
    outcome = tiny.bml("preprocess", config, "-q")
    assert outcome.code in (1, 4)
    refused(outcome, outcome.code, "nowhere")


def test_truncated_parquet(tmp_path: Path, rows: Path) -> None:
    broken = tmp_path / "rows"
    shutil.copytree(rows, broken)
    path = broken / f"{BTC}.parquet"
    path.write_bytes(path.read_bytes()[:5000])
    config = tiny.write_config(tmp_path / "c.yaml", tiny.document(broken, tmp_path / "store"))
    refused(tiny.bml("preprocess", config, "-q"), 1, f"{BTC}.parquet")


# --- the database ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table(postgres_dsn: str) -> str:
    """A paired depth table in the test server, and beside it one whose price column is text."""
    from tests.postgres_fixture import load_frame

    frame = tiny.book(BTC)
    load_frame(postgres_dsn, frame, "book")
    load_frame(postgres_dsn, frame.with_columns(pl.col("bid_px").cast(pl.String)), "book_text")
    return postgres_dsn


@pytest.mark.parametrize(
    ("dsn", "name", "code", "words"),
    [
        ("{dsn}", "no_such_table", 1, ("no_such_table",)),
        ("{dsn}", "book_text", 1, ("bid_px", "text")),
        ("host=127.0.0.1 port=1 user=u password=hunter2 dbname=d connect_timeout=2", "book", 4, ("127.0.0.1",)),
        ("{dsn}-no-such-database", "book", 4, ("no-such-database",)),
        ("not a dsn", "book", 2, ("dsn",)),
    ],
    ids=["missing table", "wrong dtype column", "unreachable", "no such database", "not a dsn"],
)
def test_faulty_database(tmp_path: Path, table: str, dsn: str, name: str, code: int, words: tuple[str, ...]) -> None:
    tree = tiny.document(tmp_path, tmp_path / "store")
    _set(tree, "data.symbols", [BTC])
    _set(tree, "stages.collect", {
        "fn": "sources.postgres.depth_rows", "with": {"dsn": "${BML_DSN}", "table": name, "layout": "paired"}
    })  # fmt: skip
    outcome = tiny.bml(
        "preprocess", tiny.write_config(tmp_path / "c.yaml", tree), "-q", env={"BML_DSN": dsn.format(dsn=table)}
    )
    refused(outcome, code, *words)
    assert "hunter2" not in outcome.err
    assert not list((tmp_path / "store").rglob("*.h5")) if (tmp_path / "store").exists() else True


# --- files bml wrote, damaged ------------------------------------------------------------------------------------


def _first_day(store: Path) -> Path:
    return store / next(iter(tiny.published(store)))


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        content[file["book"].id.get_offset() + 64] ^= 0xFF
    path.write_bytes(content)


def _foreign(path: Path) -> None:
    path.unlink()
    with h5py.File(path, "w") as file:
        file["weights"] = np.zeros(3)


@pytest.mark.parametrize(
    "damage",
    [_truncate, _foreign, lambda p: p.write_bytes(b"hello"), lambda p: p.write_bytes(b"")],
    ids=["truncated", "foreign HDF5", "no HDF5", "empty"],
)
def test_damaged_day_file(tmp_path: Path, trained: Path, damage: Callable[[Path], object]) -> None:
    store = tmp_path / "store"
    shutil.copytree(trained / "store", store)
    path = _first_day(store)
    damage(path)
    refused(tiny.bml("inspect", path), 1, path.name)
    assert tiny.bml("train", trained / "tiny.yaml", "-q", env={"TINY_STORE": str(store)}).code != 0


def test_flipped_byte_is_found(tmp_path: Path, trained: Path) -> None:
    shutil.copytree(trained / "store", tmp_path / "store")
    path = _first_day(tmp_path / "store")
    _flip(path)
    refused(tiny.bml("inspect", path), 1, path.name, "checksum")
    env = {"TINY_STORE": str(tmp_path / "store")}
    refused(tiny.bml("train", trained / "tiny.yaml", "-q", env=env), 1, path.name, "checksum", "delete it")


def test_damaged_checkpoint(tmp_path: Path, trained: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(trained / "store", store)
    for checkpoint in (store / "models").rglob("*.safetensors"):
        _truncate(checkpoint)
    refused(tiny.bml("evaluate", trained / "tiny.yaml", "-q", env={"TINY_STORE": str(store)}), 1, "safetensors")


def test_stages_out_of_order(tmp_path: Path, rows: Path) -> None:
    config = tiny.write_config(tmp_path / "c.yaml", tiny.document(rows, tmp_path / "store"))
    refused(tiny.bml("train", config, "-q"), 2, "bml preprocess")
    assert tiny.bml("preprocess", config, "-q").code == 0
    refused(tiny.bml("evaluate", config, "-q"), 2, "bml train")


@pytest.mark.parametrize("change", ["stages.train.with.seed=8", "data.reference=ETHUSDT", "data.stop=2024-01-03"])
def test_configuration_changed_since_training(tmp_path: Path, trained: Path, change: str) -> None:
    shutil.copytree(trained / "store", tmp_path / "store")
    env = {"TINY_STORE": str(tmp_path / "store")}
    assert tiny.bml("preprocess", trained / "tiny.yaml", "-q", "--set", change, env=env).code == 0
    outcome = tiny.bml("evaluate", trained / "tiny.yaml", "-q", "--set", change, env=env)
    refused(outcome, 2, "bml train")


def test_configuration_changed_since_preprocess(tmp_path: Path, trained: Path) -> None:
    shutil.copytree(trained / "store", tmp_path / "store")
    outcome = tiny.bml(
        "train", trained / "tiny.yaml", "-q", "--set", "data.cadence_s=300", env={"TINY_STORE": str(tmp_path / "store")}
    )
    refused(outcome, 2, "bml preprocess")


def test_day_files_changed_since_training(tmp_path: Path, trained: Path) -> None:
    """Other day files under the same name: a model, its labels and its scaler belong to the ones it was trained on."""
    shutil.copytree(trained / "store", tmp_path / "store")
    env = {"TINY_STORE": str(tmp_path / "store")}
    change = ("--set", "stages.data_object.with.levels=3")
    assert tiny.bml("preprocess", trained / "tiny.yaml", "-q", *change, env=env).code == 0
    outcome = tiny.bml("evaluate", trained / "tiny.yaml", "-q", *change, env=env)
    refused(outcome, outcome.code, "bml train")
    assert tiny.bml("preprocess", trained / "tiny.yaml", "-q", "--force", env=env).code == 0
    refused(tiny.bml("evaluate", trained / "tiny.yaml", "-q", env=env), 2, "bml train")


def test_split_changed_since_preprocess(tmp_path: Path, trained: Path) -> None:
    """The depth plan was learned from days that are test days now."""
    shutil.copytree(trained / "store", tmp_path / "store")
    split = "{fractions: {train: 0.7, early_stop: 0.1, calibrate: 0.1, test: 0.1}}"
    outcome = tiny.bml(
        "train",
        trained / "tiny.yaml",
        "-q",
        "--set",
        f"stages.features.with.split={split}",
        env={"TINY_STORE": str(tmp_path / "store")},
    )
    refused(outcome, 2, "bml preprocess")


@pytest.mark.parametrize("name", ["learned", "state/tiny"])
def test_emptied_hand_over(tmp_path: Path, trained: Path, name: str) -> None:
    """A power cut may leave an empty file: refused with the command that mends it, which then mends it."""
    shutil.copytree(trained / "store", tmp_path / "store")
    env = {"TINY_STORE": str(tmp_path / "store")}
    for path in (tmp_path / "store" / name).iterdir():
        path.write_bytes(b"")
    outcome = tiny.bml("train", trained / "tiny.yaml", "-q", env=env)
    refused(outcome, outcome.code, "bml preprocess")
    assert tiny.bml("preprocess", trained / "tiny.yaml", "-q", env=env).code == 0
    assert tiny.bml("train", trained / "tiny.yaml", "-q", env=env).code == 0


def test_no_usable_window(tmp_path: Path, trained: Path) -> None:
    shutil.copytree(trained / "store", tmp_path / "store")
    outcome = tiny.bml(
        "train",
        trained / "tiny.yaml",
        "-q",
        "--set",
        "stages.features.with.window_h=71",
        env={"TINY_STORE": str(tmp_path / "store")},
    )
    refused(outcome, 3)


# --- the disk ----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB, room for some day files but not for all."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mount.returncode:
        pytest.skip(f"mounting a small tmpfs is not allowed here: {mount.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk(tmp_path: Path, small_disk: Path, rows: Path) -> None:
    store = small_disk / "store"
    config = tiny.write_config(tmp_path / "c.yaml", tiny.document(rows, store))
    refused(tiny.bml("preprocess", config, "-q"), 1, "full")
    no_leftovers(store)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert tiny.bml("preprocess", config, "-q").code == 0
    no_leftovers(store)


def test_read_only_disk(tmp_path: Path, small_disk: Path, rows: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    config = tiny.write_config(tmp_path / "c.yaml", tiny.document(rows, small_disk / "store"))
    refused(tiny.bml("preprocess", config, "-q"), 1, "read-only")


def test_store_is_a_file(tmp_path: Path, rows: Path) -> None:
    (tmp_path / "store").write_text("I was here first")
    config = tiny.write_config(tmp_path / "c.yaml", tiny.document(rows, tmp_path / "store"))
    refused(tiny.bml("preprocess", config, "-q"), 1, str(tmp_path / "store"))
    assert (tmp_path / "store").read_text() == "I was here first"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_store_without_permission(tmp_path: Path, rows: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    config = tiny.write_config(tmp_path / "c.yaml", tiny.document(rows, folder / "store"))
    refused(tiny.bml("preprocess", config, "-q"), 1, "ermission")
