"""A password is told to the server and to nobody else: everything a run writes, says and shows is searched for it."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

import psycopg
import pytest

from tests.end_to_end import tiny
from tests.postgres_fixture import load_frame
from tests.secure_postgres import PASSWORD, SecureServer

#: every spelling the password may be met in; a part of it would be as bad
SPELLINGS = [PASSWORD, PASSWORD.split("'")[0], urllib.parse.quote(PASSWORD), urllib.parse.quote_plus(PASSWORD), "5e1f"]


@pytest.fixture(scope="module")
def server(secure_server: SecureServer) -> SecureServer:
    load_frame(secure_server.socket, tiny.book("BTCUSDT"), "book")
    with psycopg.connect(secure_server.socket, autocommit=True) as conn:
        conn.execute("GRANT SELECT ON book TO reader")
    return secure_server


def config(folder: Path) -> Path:
    tree = tiny.document(folder, folder / "store")
    tree["data"] |= {"symbols": ["BTCUSDT"]}  # type: ignore[operator]
    tree["stages"]["collect"] = {  # type: ignore[index]
        "fn": "sources.postgres.depth_rows", "with": {"dsn": "${BML_DSN}", "table": "book"}
    }  # fmt: skip
    del tree["tracking"]
    return tiny.write_config(folder / "c.yaml", tree)


def credentials(server: SecureServer, how: str, folder: Path) -> dict[str, str]:
    if how == "uri":
        secret = urllib.parse.quote(PASSWORD, safe="")
        return {"BML_DSN": f"postgresql://reader:{secret}@localhost:{server.port}/postgres"}
    if how == "PGPASSWORD":
        return {"BML_DSN": server.dsn(), "PGPASSWORD": PASSWORD}
    escaped = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
    (folder / "secret").mkdir()
    passfile = folder / "secret" / "pass"
    passfile.write_text(f"*:*:*:*:{escaped}\n")
    passfile.chmod(0o600)
    return {"BML_DSN": server.dsn(), "PGPASSFILE": str(passfile)}


def watched(config: Path, env: dict[str, str], *arguments: str) -> tuple[int, str]:
    """Exit code and all that was to be seen: both streams, and the command line and title while it ran."""
    command = [sys.executable, "-W", "error", "-m", "bml", *arguments, str(config), "--debug"]
    seen = []
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=tiny.environment(env),
        text=True,
        cwd=config.parent,
    ) as process:
        while process.poll() is None:
            for name in ("cmdline", "comm", "status"):
                try:
                    seen.append(Path(f"/proc/{process.pid}/{name}").read_text(errors="replace"))
                except OSError:
                    break  # it has just ended
            time.sleep(0.05)
        assert process.stdout is not None
        seen.append(process.stdout.read())
        return process.returncode, "\n".join(seen)


def search(folder: Path, told: str) -> int:
    """How many files were searched; none of them, nor ``told``, has the password."""
    n = 0
    for path in folder.rglob("*"):
        if path.is_file() and "secret" not in path.relative_to(folder).parts:
            content = path.read_bytes()
            n += 1
            for spelling in SPELLINGS:
                for encoding in ("utf-8", "utf-16-le"):
                    assert spelling.encode(encoding) not in content, path
    for spelling in SPELLINGS:
        assert spelling not in told
    return n


@pytest.mark.parametrize(
    ("how", "track"),
    [
        ("uri", False),
        pytest.param("file", False, marks=pytest.mark.slow),
        pytest.param("uri", True, marks=pytest.mark.slow),
        pytest.param("PGPASSWORD", True, marks=pytest.mark.slow),
    ],
)
def test_a_run_keeps_the_password(server: SecureServer, tmp_path: Path, how: str, track: bool) -> None:
    if track:
        pytest.importorskip("mlflow")
    env = credentials(server, how, tmp_path)
    tracked = () if track else ("--set", "tracking.enabled=false")
    path = config(tmp_path)
    code, told = watched(path, env, "preprocess", *tracked)
    assert code == 0, told
    assert search(tmp_path, told) >= 2
    assert list((tmp_path / "store").rglob("*.h5"))
    with psycopg.connect(server.socket, autocommit=True) as conn:
        conn.execute("ALTER TABLE book RENAME bid_px TO was_bid_px")
    try:
        code, told = watched(path, env, "preprocess", "--force", *tracked)
        assert code == 1
        assert "no column bid_px" in told
        code, failed = watched(path, env | {"PGPORT": "1", "BML_DSN": env["BML_DSN"].replace(str(server.port), "1")},
                               "preprocess", "--force", *tracked)  # fmt: skip
        assert code == 4
        search(tmp_path, told + failed)
    finally:
        with psycopg.connect(server.socket, autocommit=True) as conn:
            conn.execute("ALTER TABLE book RENAME was_bid_px TO bid_px")
    code, told = watched(path, env, "doctor", "--source")
    assert code == 0, told
    search(tmp_path, told)
