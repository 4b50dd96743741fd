"""Whole configurations: what loads, every fault at once, secrets, digests."""

from __future__ import annotations

import copy
import datetime as dt
import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bml import config
from bml.config import Config, InvalidConfig
from bml.config.secret import is_secret_name, redact_text, redact_values
from bml.host import command_line
from bml.types import ConfigError

Tree = dict[str, Any]
SECRET = "hunter2-canary"

TREE: Tree = {
    "version": 1,
    "name": "demo",
    "data": {"symbols": ["BTCUSDT", "ETHUSDT"], "start": "2024-01-01", "stop": "2024-01-03"},
    "store": {"root": "/tmp/somewhere"},
    "stages": {
        "collect": {"fn": "fixture.rows", "with": {"dsn": "${BML_DSN}", "faults": {"gaps": 2}}},
        "data_object": {"fn": "fixture.build"},
        "preprocess": [{"fn": "fixture.grid", "with": {"max_gap_s": 30}}, {"fn": "fixture.gaps"}],
        "features": {"fn": "fixture.windows", "with": {"classes": {"method": "fixed"}, "since": "2024-01-01"}},
        "train": {"fn": "fixture.fit", "with": {"params": {"hidden": 8}}},
        "evaluate": {"fn": "fixture.report"},
    },
}
ENVIRON = {"BML_DSN": f"postgresql://me:{SECRET}@db.local/book"}


def load(tmp_path: Path, tree: Tree | str, *overrides: str, **options: Any) -> Config:
    path = tmp_path / "c.yaml"
    path.write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree, sort_keys=False))
    return config.load(path, overrides, **({"environ": ENVIRON} | options))


def faults(tmp_path: Path, tree: Tree | str, *overrides: str, **options: Any) -> list[str]:
    with pytest.raises(InvalidConfig) as caught:
        load(tmp_path, tree, *overrides, **options)
    assert caught.value.exit_code == 2
    return [line.replace(f"{tmp_path}/", "") for line in str(caught.value).splitlines()]


def changed(path: str, value: object) -> Tree:
    tree = copy.deepcopy(TREE)
    *parents, last = path.split(".")
    node: Any = tree
    for part in parents:
        node = node[int(part)] if part.isdigit() else node.setdefault(part, {})
    node[last] = value
    return tree


def test_a_good_configuration(tmp_path: Path) -> None:
    from bml_fixture import Faults, fit, rows

    cfg = load(tmp_path, TREE)
    assert cfg.data.symbols == ("BTCUSDT", "ETHUSDT")
    assert (cfg.data.start, cfg.data.stop) == (dt.date(2024, 1, 1), dt.date(2024, 1, 3))
    assert (cfg.data.reference, cfg.data.cadence_s, cfg.data.steps_per_day) == ("BTCUSDT", 10.0, 8640)
    assert cfg.collect.function() is rows
    assert cfg.collect.params["dsn"] == ENVIRON["BML_DSN"]
    assert cfg.collect.params["faults"] == Faults(gaps=2)
    assert cfg.preprocess[0].params == {"method": "forward_fill", "max_gap_s": 30.0}
    assert cfg.preprocess[1].path == "stages.preprocess[1]"
    assert cfg.features.params["since"] == dt.date(2024, 1, 1)
    assert cfg.features.params["copy"] is False
    assert cfg.train.function() is fit
    assert cfg.train.params == {"model": "fixture.net", "params": {"hidden": 8, "dropout": 0.0}, "learning_rate": 1e-3}
    assert cfg.tracking.enabled
    assert cfg.store.root == Path("/tmp/somewhere")


def test_it_is_frozen_and_pickles(tmp_path: Path) -> None:
    cfg = load(tmp_path, TREE)
    for holder, name in ((cfg, "name"), (cfg.data, "start"), (cfg.collect, "fn")):
        with pytest.raises(ValueError, match="frozen"):
            setattr(holder, name, "x")
    assert pickle.loads(pickle.dumps(cfg)) == cfg  # noqa: S301 (our own bytes: worker processes get it this way)


def test_a_positional_or_injected_parameter_is_no_yaml_key(tmp_path: Path) -> None:
    assert faults(tmp_path, changed("stages.train.with.out", "x")) == [
        "c.yaml:36:7: stages.train.with.out: unknown key; there are: learning_rate, model, params"
    ]
    for name in ("on_epoch", "rank", "dataset"):
        assert "unknown key" in faults(tmp_path, changed(f"stages.train.with.{name}", 1))[0]


BAD = """\
version: 1
name: de mo
dta: 3
data: {symbols: [BTC, ETH, BTC], start: 2024-01-05, stop: 2024-01-05, cadence_s: 7, phase_ms: 7000}
tracking: {enabled: yes, uri: "${NOPE}"}
stages:
  collect: {fn: fixture.row}
  data_object: {fn: fixture.build, with: {levels: "12", monotonic_time: no}}
  preprocess:
    - {fn: fixture.grid, with: {max_gap: 1, method: fill}}
    - fn: fixture.gaps
      with: {edges: [a], near: 010}
    - with: {}
  features: {fn: fixture.windows, with: {horizon_s: -1, classes: {metod: fixed}}}
  train: {fn: fixture.fit, with: {params: {hiden: 8}, lerning_rate: 1}}
  evaluate: {fn: fixture.report, with: {bins: 1.0}}
"""


def test_every_fault_at_once_each_with_its_place(tmp_path: Path) -> None:
    assert faults(tmp_path, BAD) == [
        "c.yaml:2:7: name: should match pattern '^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$', got 'de mo'",
        "c.yaml:3:1: dta: unknown key, did you mean 'data'?",
        "c.yaml:4:17: data.symbols: each symbol once: BTC given more than once",
        "c.yaml:4:59: data.stop: must be after start (2024-01-05); stop is the day after the last, got '2024-01-05'",
        "c.yaml:4:82: data.cadence_s: must divide a day (86400 s) into whole steps, got 7",
        "c.yaml:5:21: tracking.enabled: should be true or false, got 'yes'",
        "c.yaml:5:31: tracking.uri: environment variable NOPE is not set (a default is written ${NOPE:-default})",
        "c.yaml:7:17: stages.collect.fn: no source called 'fixture.row'; did you mean 'fixture.rows'?",
        "c.yaml:8:51: stages.data_object.with.levels: should be a valid integer, got '12'",
        "c.yaml:8:73: stages.data_object.with.monotonic_time: should be true or false, got 'no'",
        "c.yaml:10:33: stages.preprocess[0].with.max_gap: unknown key, did you mean 'max_gap_s'?",
        "c.yaml:10:53: stages.preprocess[0].with.method: should be 'forward_fill', got 'fill'",
        "c.yaml:12:22: stages.preprocess[1].with.edges[0]: should be a valid integer, got 'a'",
        "c.yaml:12:32: stages.preprocess[1].with.near: should be a valid integer, got '010'",
        "c.yaml:13:7: stages.preprocess[2].fn: missing",
        "c.yaml:14:53: stages.features.with.horizon_s: should be greater than 0, got -1",
        "c.yaml:14:57: stages.features.with.classes.method: missing: fixture.windows needs it",
        "c.yaml:14:67: stages.features.with.classes.metod: unknown key, did you mean 'method'?",
        "c.yaml:15:44: stages.train.with.params.hiden: unknown key, did you mean 'hidden'?",
        "c.yaml:15:55: stages.train.with.lerning_rate: unknown key, did you mean 'learning_rate'?",
        "c.yaml:16:47: stages.evaluate.with.bins: should be a valid integer, got 1.0",
    ]


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("data.start", 20240101, "YYYY-MM-DD"),
        ("data.start", "2024-1-1", "YYYY-MM-DD"),
        ("data.start", "2024-02-30", "YYYY-MM-DD"),
        ("data.stop", "2300-01-01", "between 1970 and 2200"),
        ("data.symbols", [], "data.symbols"),
        ("data.symbols", ["BTC'; DROP TABLE x;--"], "is not a symbol"),
        ("data.symbols", [".."], "is not a symbol"),
        ("data.symbols", "BTCUSDT", "should be a list"),
        ("data.reference", "DOGE", "must be one of the symbols (BTCUSDT, ETHUSDT)"),
        ("data.cadence_s", 0, "greater than 0"),
        ("data.cadence_s", 100_000, "divide a day"),
        ("data.cadence_s", True, "valid number"),
        ("data.phase_ms", 10_000, "less than the cadence"),
        ("version", 2, "should be 1"),
        ("name", "..", "name: should match pattern"),
        ("name", ".x", "name: should match pattern"),
        ("name", "-x", "name: should match pattern"),
        ("name", "x" * 65, "name: should match pattern"),
        ("stages.collect.with", {}, "stages.collect.with.dsn: missing: fixture.rows needs it"),
        ("stages.collect.with.faults", {"gap": 1}, "stages.collect.with.faults.gap: unknown key, did you mean 'gaps'"),
        ("stages.collect.with.faults", {"gaps": -1}, "gaps must not be negative"),
        ("stages.collect.with.columns", {"ts": 3}, "stages.collect.with.columns.ts: should be a valid string"),
        ("stages.collect.with", [1], "should be a mapping"),
        ("stages.features.with.classes", {"method": "fixed", "edges": [2, 1]}, "stages.features.with: edges must rise"),
        ("stages.collect.fn", "os.system", "no source called 'os.system'"),
        ("stages.collect.fn", "fixture.grid", "no source called 'fixture.grid'"),
        ("stages.collect.fn", "../x", "is not a source: expected a name such as"),
        ("stages.preprocess", [], "stages.preprocess"),
        ("stages.preprocess", None, "stages.preprocess"),
        ("stages.train.with.model", "fixture.nett", "no model called 'fixture.nett'; did you mean 'fixture.net'"),
        ("stages.extra", {}, "unknown key"),
    ],
)
def test_one_fault(tmp_path: Path, path: str, value: object, told: str) -> None:
    found = faults(tmp_path, changed(path, value))
    assert len(found) == 1, found
    assert told in found[0]
    assert found[0].startswith("c.yaml:")


def test_missing_sections(tmp_path: Path) -> None:
    assert [line.split(": ", 1)[1] for line in faults(tmp_path, "version: 1\n")] == [
        "data: missing", "name: missing", "stages: missing",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "- a\n", "just words", "# nothing\n"])
def test_not_a_mapping(tmp_path: Path, text: str) -> None:
    assert "expected version, name, data and stages" in faults(tmp_path, text)[0]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, told in ((tmp_path / "none.yaml", "No such file"), (tmp_path, "directory")):
        with pytest.raises(InvalidConfig, match=told):
            config.load(path)
    (tmp_path / "b.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(InvalidConfig, match="not UTF-8"):
        config.load(tmp_path / "b.yaml")


def test_overrides_win_and_their_faults_name_the_flag(tmp_path: Path) -> None:
    cfg = load(tmp_path, TREE, "data.cadence_s=5", "stages.preprocess[0].with.max_gap_s=${GAP}",
               "tracking.enabled=false", environ=ENVIRON | {"GAP": "7"})  # fmt: skip
    assert (cfg.data.cadence_s, cfg.preprocess[0].params["max_gap_s"], cfg.tracking.enabled) == (5.0, 7.0, False)
    assert faults(tmp_path, TREE, "data.cadence_s=7", "data.cadance=1") == [
        "--set data.cadance: data.cadance: unknown key, did you mean 'cadence_s'?",
        "--set data.cadence_s: data.cadence_s: must divide a day (86400 s) into whole steps, got 7",
    ]


def test_stages_can_be_checked_alone(tmp_path: Path) -> None:
    tree = changed("stages.train", {"fn": "models.not_there.fit", "with": {"anything": 1}})
    cfg = load(tmp_path, tree, stages=("collect", "data_object", "preprocess"))
    assert cfg.preprocess[0].function() is not None
    assert cfg.train.params == {"anything": 1}
    with pytest.raises(ConfigError, match=r"stages\.train: not validated"):
        cfg.train.function()
    with pytest.raises(ConfigError, match="no digest"):
        cfg.digest()
    assert cfg.digest("data", "collect") == load(tmp_path, TREE).digest("data", "collect")
    with pytest.raises(ConfigError, match="there is no stage 'fit'"):
        load(tmp_path, tree, stages=("fit",))


# --- secrets -----------------------------------------------------------------------------------------------------


def test_secrets_are_nowhere_to_be_seen(tmp_path: Path) -> None:
    tree = changed("tracking.uri", "https://me:${PW}@mlflow.local/")
    tree["stages"]["collect"]["with"] |= {"table": "${MY_API_KEY}", "columns": {"note": "postgresql://a:${PW}@h/d"}}
    cfg = load(tmp_path, tree, environ=ENVIRON | {"PW": SECRET, "MY_API_KEY": SECRET})
    assert SECRET in cfg.collect.params["dsn"]
    assert cfg.tracking.uri == f"https://me:{SECRET}@mlflow.local/"
    for text in (
        json.dumps(cfg.document),
        repr(cfg),
        str(cfg.collect),
        config.to_yaml(cfg.document),
        str(cfg.tracking),
    ):
        assert SECRET not in text
    with_ = cfg.document["stages"]["collect"]["with"]
    assert (with_["dsn"], with_["table"]) == ("***", "***")


@pytest.mark.parametrize("key", ["dsn", "db_password", "apiToken", "credentials", "auth"])
def test_secrets_are_hidden_by_their_key(tmp_path: Path, key: str) -> None:
    columns = {key: "${PLAIN}", "monkey": "kept", "key": "kept"}
    cfg = load(tmp_path, changed("stages.collect.with.columns", columns), environ=ENVIRON | {"PLAIN": SECRET})
    assert cfg.document["stages"]["collect"]["with"]["columns"] == {key: "***", "monkey": "kept", "key": "kept"}


@pytest.mark.parametrize(
    ("key", "name"), [("dsn", "BML_DSN"), ("db-password", "BML_DB_PASSWORD"), ("auth", "BML_AUTH")]
)
def test_literal_secrets_are_refused_with_their_place(tmp_path: Path, key: str, name: str) -> None:
    tree = changed("stages.collect.with.columns", {key: SECRET, "monkey": "kept", "empty_password": ""})
    assert faults(tmp_path, tree) == [
        f"c.yaml:19:{11 + len(key)}: stages.collect.with.columns.{key}: must come from the environment: "
        f'write "${{{name}}}"'
    ]


def test_a_literal_dsn_is_refused_wherever_it_is_written(tmp_path: Path) -> None:
    told = 'stages.collect.with.dsn: must come from the environment: write "${BML_DSN}"'
    dsn = f"postgresql://me:{SECRET}@h/d"
    assert faults(tmp_path, changed("stages.collect.with.dsn", dsn)) == [f"c.yaml:15:12: {told}"]
    assert faults(tmp_path, TREE, f"stages.collect.with.dsn={dsn}") == [f"--set stages.collect.with.dsn: {told}"]
    assert faults(tmp_path, TREE, "stages.collect.with.dsn=host=h password=x", stages=("train",)) == [
        f"--set stages.collect.with.dsn: {told}"
    ]
    assert load(tmp_path, changed("stages.collect.with.dsn", "${X:-service=book}")).collect.params["dsn"]


def test_a_password_inside_another_literal_is_refused(tmp_path: Path) -> None:
    for value in (f"https://me:{SECRET}@mlflow.local/", f"postgresql://h/d?password={SECRET}"):
        (found,) = faults(tmp_path, changed("tracking.uri", value))
        assert "tracking.uri: must come from the environment" in found
        assert SECRET not in found
    assert load(tmp_path, changed("tracking.uri", "https://me@mlflow.local:5000/a@b")).tracking.uri
    assert load(tmp_path, changed("tracking.uri", "https://me:${PW}@h/"), environ=ENVIRON | {"PW": "x"}).tracking.uri


def test_values_of_secret_variables_are_hidden_everywhere_afterwards(tmp_path: Path) -> None:
    tree = changed("stages.collect.with.table", "/data/${API_TOKEN}/${PLACE}")
    load(tmp_path, tree, environ=ENVIRON | {"API_TOKEN": "s3 cr/et", "PLACE": "attic"})
    told = "cannot open /data/s3 cr/et/attic/x.csv, nor file:///data/s3%20cr/et"
    assert redact_text(told) == "cannot open /data/***/attic/x.csv, nor file:///data/***"
    assert redact_text(f"at {ENVIRON['BML_DSN']}!") == "at ***!"
    found = {"s3 cr/et": ["a s3 cr/et", ("s3 cr/et", 3)], "n": None, "x": 1.5}
    assert redact_values(found) == {"***": ["a ***", ("***", 3)], "n": None, "x": 1.5}


def test_short_and_default_values_hide_nothing(tmp_path: Path) -> None:
    tree = changed("stages.collect.with.table", "${A_TOKEN}${B_TOKEN:-none}")
    load(tmp_path, tree, environ=ENVIRON | {"A_TOKEN": "abc"})
    assert redact_text("abc none") == "abc none"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:a#b?c/d@e@h/d", "postgresql://***@h/d"),
        ("at http://:p/w@h:5000/x, then", "at http://***@h:5000/x, then"),
        ("https://ghp_abc@github.com/x", "https://***@github.com/x"),
        ("postgresql://a@tenant:p#w@h/d", "postgresql://***@h/d"),
        ("s3://bucket/a@b/c.csv", "s3://bucket/a@b/c.csv"),
        ("http://h:5000/x and me@h", "http://h:5000/x and me@h"),
        ("password='a b' x", "password=*** x"),
    ],
)
def test_passwords_in_uris(text: str, shown: str) -> None:
    assert redact_text(text) == shown


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [("PGPASSWORD", True), ("DBTOKEN", True), ("BML_DSN", True), ("monkey", False), ("author", False), ("path", False)],
)
def test_names_of_secrets(name: str, *, is_secret: bool) -> None:
    assert is_secret_name(name) == is_secret


def test_secret_values_on_the_command_line_are_hidden() -> None:
    shown = command_line(
        ["bml", "run", "c.yaml", "--set", "stages.collect.with.dsn=host=h pw=x", "--set=a.apiToken.b=x y",
         "--set", "data.cadence_s=5", "--set", "tracking.uri=http://me:a/b#c@h", "--set", "a.dsn=", "--plain"]
    )  # fmt: skip
    assert shown == (
        "bml run c.yaml --set stages.collect.with.dsn=*** --set=a.apiToken.b=*** --set data.cadence_s=5"
        " --set tracking.uri=http://***@h --set a.dsn= --plain"
    )


# --- data and parameters together ---------------------------------------------------------------------------------


def test_parameters_are_checked_against_the_data(tmp_path: Path) -> None:
    tree = changed("stages.features.with", {"classes": {"method": "fixed", "edges": [0.0]}, "horizon_s": 61})
    assert faults(tmp_path, tree) == [
        "c.yaml:31:9: stages.features.with.classes.edges: too few",
        "c.yaml:32:18: stages.features.with.horizon_s: must be a multiple of data.cadence_s (10)",
    ]
    assert "cadence_s (7" in faults(tmp_path, TREE, "data.cadence_s=7.2", "stages.features.with.horizon_s=61")[0]
    assert load(tmp_path, TREE, "data.cadence_s=5", "stages.features.with.horizon_s=65") is not None
    assert load(tmp_path, tree, stages=("collect",)) is not None


def test_a_check_against_the_data_tells_with_the_other_faults(tmp_path: Path) -> None:
    found = faults(tmp_path, TREE, "stages.features.with.horizon_s=61", "name=a b", "stages.train.with.x=1")
    assert len(found) == 3
    assert faults(tmp_path, TREE, "stages.features.with.copy=true") == [
        "c.yaml:28:7: stages.features.with: cannot copy"
    ]  # fmt: skip
    (found_alone,) = faults(tmp_path, TREE, "stages.features.with.horizon_s=61", "data.cadence_s=0")
    assert "greater than 0" in found_alone


def test_faults_show_no_secret_value(tmp_path: Path) -> None:
    tree = changed("stages.data_object.with", {"levels": "${COUNT}"})
    assert SECRET not in "".join(faults(tmp_path, tree, environ=ENVIRON | {"COUNT": SECRET}))
    assert SECRET not in "".join(faults(tmp_path, TREE, f"stages.collect.with.dsn={{a: {SECRET}}}"))
    assert SECRET not in "".join(faults(tmp_path, changed("stages.features.with", {"password": SECRET})))


# --- digests and output ------------------------------------------------------------------------------------------


def test_digest_ignores_what_does_not_decide_the_data(tmp_path: Path) -> None:
    digest = load(tmp_path, TREE).digest()
    assert load(tmp_path, TREE, environ={"BML_DSN": "postgresql://other@elsewhere/x"}).digest() == digest
    assert load(tmp_path, TREE, "name=other", "store.root=/else", "tracking.enabled=false").digest() == digest
    assert load(tmp_path, TREE, "stages.preprocess[0].with.max_gap_s=30.0").digest() == digest
    assert load(tmp_path, TREE, "stages.data_object.with.levels=1000").digest() == digest  # the default, written out


def test_digest_changes_with_what_does(tmp_path: Path) -> None:
    base = load(tmp_path, TREE)
    for override, part in (
        ("data.cadence_s=5", "data"), ("stages.collect.with.depth=10", "collect"),
        ("stages.preprocess[0].with.max_gap_s=31", "preprocess"), ("stages.train.with.params.hidden=9", "train"),
    ):  # fmt: skip
        other = load(tmp_path, TREE, override)
        assert other.digest() != base.digest()
        for name in ("data", "collect", "preprocess", "train"):
            assert (other.digest(name) == base.digest(name)) == (name != part)


def test_digest_is_sha256_of_canonical_json() -> None:
    expected = hashlib.sha256(b'["a",{"a":null,"b":[1,2.5]}]').hexdigest()
    assert config.digest("a", {"b": [1, 2.5], "a": None}) == expected


def test_resolved_yaml_loads_to_the_same_document(tmp_path: Path) -> None:
    tree = changed("stages.collect.with.dsn", "${BML_DSN}")
    words = {"a": "no", "b": "010", "c": "1e3", "d": "a $ b ${c}", "e": "", "f": "5", "g": "null", "h": "x: y #z"}
    tree["stages"]["collect"]["with"]["columns"] = words
    cfg = load(tmp_path, config.to_yaml(tree), "stages.collect.with.dsn=${BML_DSN}")  # to_yaml doubles the $
    assert cfg.collect.params["columns"] == words
    assert 'write "${BML_DSN}"' in faults(tmp_path, config.to_yaml(cfg.document))[0]
    again = load(tmp_path, config.to_yaml(cfg.document), "stages.collect.with.dsn=${BML_DSN}")
    assert again.document == cfg.document
    assert again.digest() == cfg.digest()


def test_broken_plugin_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "bad_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bml.sources]\nbad.rows = bad_plugin:rows\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = faults(tmp_path, changed("stages.collect.fn", "bad.rows"))
    assert len(found) == 1
    assert "the plugin of bad-plugin cannot be loaded: No module named 'bad_plugin'" in found[0]


def test_json_schema_describes_the_file(plugin: Path) -> None:
    """In a process of its own: it imports everything that registers functions."""
    code = "import json; from bml.config import json_schema; print(json.dumps(json_schema()))"
    path = os.pathsep.join([str(plugin), *sys.path])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    schema = json.loads(done.stdout)
    assert schema["required"] == ["version", "name", "data", "stages"]
    assert schema["$defs"]["fixture.rows"]["properties"]["depth"]["type"] == "integer"
    assert schema["$defs"]["fixture.rows"]["required"] == ["dsn"]
    assert schema["$defs"]["StoreSpec"]["additionalProperties"] is False
    names = [
        call["properties"]["fn"]["const"] for call in schema["$defs"]["StagesSpec"]["properties"]["collect"]["anyOf"]
    ]
    assert {"fixture.rows", "sources.files.depth_rows", "sources.synthetic.depth_rows"} <= set(names)
