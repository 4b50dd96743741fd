"""``bml doctor --source``: what an owner sees on the first run against a database."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.test_cli_commands import invoke
from tests.depth_frames import paired_frame
from tests.scripted_server import END as TRAILER
from tests.scripted_server import HEADER, US_2024, Script, Server, copied, failed, row, selected

LoadTable = Callable[..., None]
SYMBOLS = ("BTCUSDT", "ETHUSDT")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGPASSWORD", "BML_DSN"):
        monkeypatch.delenv(name, raising=False)


def config(folder: Path, *, start: str = "2024-03-10", stop: str = "2024-03-11", **options: Any) -> Path:
    collect = {"fn": "sources.postgres.depth_rows", "with": {"dsn": "${BML_DSN}", "table": "depth"} | options}
    tree = {
        "version": 1,
        "name": "doctored",
        "data": {"symbols": list(SYMBOLS), "start": start, "stop": stop},
        "store": {"root": str(folder / "store")},
        "tracking": {"enabled": False},
        "stages": {"collect": collect, "preprocess": [{"fn": "book.align.to_grid"}]},
    }
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def lines(out: str, what: str) -> list[str]:
    return [line for line in out.splitlines() if line[6:].startswith(what + " ")]


def test_a_good_table(
    postgres_dsn: str, load_table: LoadTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BML_DSN", postgres_dsn)
    load_table(paired_frame(30, 100, SYMBOLS), "doctored")
    path = config(tmp_path, table="doctored")
    code, out, err = invoke("doctor", "--source", path)
    assert (code, err) == (0, "")
    assert out.startswith("ok    server       PostgreSQL 1")
    for ability in ("copy", "chunked", "streams", "cancel", "read-only", "time limit", "UTC"):
        assert lines(out, ability)[0].startswith("ok "), ability
    (trap,) = lines(out, "trap")
    assert trap.startswith("note")
    assert 'CREATE INDEX ON "public"."doctored" ("symbol", "ts")' in trap
    (minute,) = lines(out, "minute")
    assert re.search(r"BTCUSDT, one minute from 2024-03-10 00:00:00\+00:00: 600 rows.* every bit equal$", minute)
    assert not (tmp_path / "store").exists()

    code, out, _ = invoke("doctor", "--source", path, "--json", "--symbol", "ETHUSDT", "--at", "2024-03-10T00:04:30")
    document = json.loads(out)
    assert (code, document["ok"]) == (0, True)
    window = document["source"]["window"]
    assert (window["symbol"], window["n_rows"], window["difference"]) == ("ETHUSDT", 300, "")
    assert document["source"]["dialect"]["copy_binary"] is True
    assert document["source"]["traps"][0]["name"] == "index"

    _, out, _ = invoke("doctor", "--source", config(tmp_path, table="doctored", start="2025-01-01", stop="2025-01-02"))
    assert lines(out, "minute")[0].startswith("note  minute       BTCUSDT: no rows in [2025-01-01")


@pytest.mark.parametrize(
    ("layout", "columns", "change"),
    [
        ("paired", {"batch": "batch", "sequence": "seq"}, {}),
        ("sided", {}, {"depth": 3}),
        ("sided", {"level": None, "batch": "batch"}, {}),
        ("paired", {}, {"first_level": 0}),
    ],
)
def test_both_paths_agree_on_every_layout(
    postgres_dsn: str, load_table: LoadTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    layout: str, columns: dict[str, Any], change: dict[str, Any],
) -> None:  # fmt: skip
    import polars as pl

    frame = paired_frame(10, 6, ("BTCUSDT",)).with_columns(
        batch=pl.when(pl.int_range(60) % 5 > 0).then(pl.int_range(60)), seq=pl.lit(7)
    )
    frame = frame.with_columns(pl.when(pl.int_range(60) % 7 > 0).then("bid_px").alias("bid_px"))
    if layout == "sided":
        keys = ["ts", "symbol", "level", "batch", "seq"]
        frame = pl.concat([frame.select(*keys, side=pl.lit(s), px=f"{s}_px", qty=f"{s}_qty") for s in ("bid", "ask")])
    if change.get("first_level") == 0:
        frame = frame.with_columns(pl.col("level") - 1)
    types = {"px": "numeric", "level": "smallint"} if layout == "sided" else {"bid_px": "real", "level": "numeric"}
    load_table(frame.sample(fraction=1.0, shuffle=True, seed=1), "compared", types=types)
    monkeypatch.setenv("BML_DSN", postgres_dsn)
    code, out, err = invoke(
        "doctor", "--source", config(tmp_path, table="compared", layout=layout, columns=columns, **change)
    )
    assert (code, err) == (0, ""), out
    assert lines(out, "minute")[0].endswith("every bit equal")


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``play(server, *arguments)`` -> code and stdout of the doctor, who examines a scripted server."""
    scripts: list[Script] = []

    def run(server: Server, *arguments: str) -> tuple[int, str]:
        script = Script(server)
        script.start()
        scripts.append(script)
        monkeypatch.setenv("BML_DSN", f"postgresql://u:canary@127.0.0.1:{script.port}/public?sslmode=disable")
        path = config(tmp_path, start="2024-01-01", stop="2024-01-02")
        code, out, err = invoke("doctor", "--source", path, "--at", "2024-01-01", *arguments)
        assert "canary" not in out + err
        return code, out

    yield run
    for script in scripts:
        script.stop()


def test_a_greptimedb(play: Any) -> None:
    answer = copied(HEADER + row(US_2024), row(US_2024, 2), TRAILER, tag=b"COPY 2")
    code, out = play(Server(answer=answer, select=selected(2, 1)))
    assert code == 0, out
    assert "GreptimeDB 1.1.0 at 127.0.0.1" in lines(out, "server")[0]
    assert "source and documents only" in lines(out, "server")[0]
    assert lines(out, "connection")[0] == "note  connection   not encrypted"
    assert lines(out, "copy")[0].startswith("ok")
    assert lines(out, "cancel")[0].startswith("note")
    assert "no: Unsupported set variable default_transaction_read_only" in lines(out, "read-only")[0]
    assert "not promised" not in out
    assert [line[19:].split(":")[0] for line in lines(out, "trap")] == ["read-only", "cancel", "password"]
    assert "2 rows" in lines(out, "minute")[0]


def test_a_greptimedb_without_copy(play: Any) -> None:
    code, out = play(Server(version=b"16.3-greptimedb-0.17.2", copy_binary=False, select=selected(2, 1)))
    assert code == 0, out
    assert lines(out, "copy")[0].startswith("note  copy         no: sql parser error")
    assert "bml sets UTC" in lines(out, "trap")[2]
    assert "2 rows" in lines(out, "minute")[0]


@pytest.mark.parametrize(
    ("server", "what", "told"),
    [
        (Server(answer=copied(HEADER + row(US_2024), TRAILER, tag=b"COPY 1"), select=selected(1, bid_px=1.5)), "minute",
         "DIFFERENT: number 1 differs in 1 of 1 rows"),
        (Server(answer=copied(HEADER + row(US_2024), TRAILER, tag=b"COPY 1"), select=selected(1, 2)), "minute",
         "1 rows by the source's path, 2 by SELECT"),
        (Server(tags={"symbol": "TAG", "ts": "TIMESTAMP"}), "trap", "keeps one row for each (symbol, ts)"),
        (Server(copy_binary=False, known_values=(b"1.5", b"7")), "reading", "rows cannot be read"),
        (Server(answer=failed()), "source", "gave up in the middle of the stream"),
    ],
)  # fmt: skip
def test_what_is_wrong_has_a_code(play: Any, server: Server, what: str, told: str) -> None:
    code, out = play(server)
    assert code in (1, 4)
    (bad,) = (line for line in lines(out, what) if line.startswith("BAD"))
    assert told in bad
    code, out = play(server, "--json")
    assert json.loads(out)["ok"] is False


def test_an_unreachable_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BML_DSN", "postgresql://u:canary@127.0.0.1:1/d")
    code, out, _ = invoke("doctor", "--source", config(tmp_path))
    assert code == 4
    assert out.startswith("BAD   source       cannot reach PostgreSQL at 127.0.0.1:1/d: ")
    assert "canary" not in out


def test_another_machine_needs_a_certificate_or_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BML_DSN", "host=192.0.2.1 user=u password=canary sslmode=require")
    seen: list[bool] = []

    def record(target: Any, *, insecure: bool) -> dict[str, str]:
        seen.append(insecure)
        return {"hostaddr": "127.0.0.1", "port": "1"}

    code, out, _ = invoke("doctor", "--source", config(tmp_path))
    assert code == 2
    assert "sslmode=require does not make sure that 192.0.2.1" in out
    monkeypatch.setattr("bml.sources.pgconnect.secured", record)
    for arguments in (("doctor", "--source", config(tmp_path), "--insecure"), ("doctor", "--insecure")):
        assert invoke(*arguments)[0] == 4
    assert seen == [True, True]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--at", "noon"), "--at noon: expected a time such as"),
        (("--at", "9999-12-31T23:59:59"), "--at 9999-12-31T23:59:59: expected a time such as"),
        (("--symbol", "DOGE"), "--symbol DOGE: not in data.symbols (BTCUSDT, ETHUSDT)"),
    ],
)
def test_wrong_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], told: str) -> None:
    monkeypatch.setenv("BML_DSN", "postgresql://127.0.0.1:1/d")
    code, _, err = invoke("doctor", "--source", config(tmp_path), *arguments)
    assert code == 2
    assert told in err
    code, _, err = invoke("doctor", *arguments)
    assert code == 2
    assert "belong to --source" in err


def test_a_source_that_is_no_database(tmp_path: Path) -> None:
    tree = yaml.safe_load(config(tmp_path).read_text())
    tree["stages"]["collect"] = {"fn": "sources.files.depth_rows", "with": {"path": str(tmp_path / "x.parquet")}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    code, _, err = invoke("doctor", "--source", tmp_path / "c.yaml")
    assert code == 2
    assert "examines sources.postgres.depth_rows, and stages.collect is sources.files.depth_rows" in err


def test_source_or_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BML_DSN", "postgresql://127.0.0.1:1/d")
    code, _, err = invoke("doctor", "--source", config(tmp_path), "--config", config(tmp_path))
    assert code == 2
    assert "not both" in err


def test_libpq_environment_is_enough(monkeypatch: pytest.MonkeyPatch, postgres_dsn: str, tmp_path: Path) -> None:
    from psycopg.conninfo import conninfo_to_dict

    def database(*arguments: str | Path) -> str:
        found = json.loads(invoke("doctor", "--json", *arguments)[1])["findings"]
        (state,) = (one["state"] for one in found if one["what"] == "database")
        return str(state)

    monkeypatch.chdir(tmp_path)
    assert database() == "note"
    monkeypatch.setenv("PGHOST", str(conninfo_to_dict(postgres_dsn)["host"]))
    monkeypatch.setenv("PGUSER", "postgres")
    monkeypatch.setenv("PGDATABASE", "postgres")
    assert database() == "ok"
    tree = yaml.safe_load(config(tmp_path).read_text())
    tree["stages"]["collect"]["with"]["dsn"] = ""
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    assert database("--config", tmp_path / "c.yaml") == "ok"
    tree["stages"]["collect"] = {"fn": "sources.files.depth_rows", "with": {"path": str(tmp_path / "x.parquet")}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    assert database("--config", tmp_path / "c.yaml") == "note"
