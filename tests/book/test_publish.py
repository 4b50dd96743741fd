"""Publishing: whole or not at all, whatever happens to the writer or the disk."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bml.book import publish as publishing
from bml.book.publish import is_alive, publish
from bml.book.store import DayStore, open_file
from bml.types import StoreError
from tests.book.book_days import DAY, clean_day

ROOT = Path(__file__).resolve().parents[2]


def temporaries(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob(".*.tmp"))


def in_a_process(code: str, *args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, args)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_file_appears_whole_and_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.h5"
    publish(path, b"one")
    publish(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["x.h5"]


def test_temporary_names_cannot_be_taken_for_day_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (seen.append(Path(a).name), real(a, b)))
    publish(tmp_path / "x.h5", b"data")
    (name,) = seen
    assert name.startswith(".x.h5.")
    assert f".{os.getpid()}-" in name
    assert name.endswith(".tmp")
    assert not name.endswith(".h5")


def test_files_left_by_dead_processes_are_swept(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = publishing.host_label()
    gone = tmp_path / f".old.h5.{host}.{dead.pid}-00000000.tmp"
    stay = [
        f".x.h5.{host}.{os.getpid()}-00000000.tmp",  # this process: another thread's
        f".x.h5.{host}.1-00000000.tmp",  # alive
        f".x.h5.elsewhere.{dead.pid}-00000000.tmp",  # another machine's
        "plain.tmp",
    ]
    for name in (gone.name, *stay):
        (tmp_path / name).write_bytes(b"x")
    publish(tmp_path / "new.h5", b"data")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*stay, "new.h5"])


LIMITED = """
import resource, signal, sys
from pathlib import Path
from bml.book.publish import is_alive, publish
from bml.types import StoreError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    publish(Path(sys.argv[1]), bytes(1_000_000))
except StoreError as error:
    print(error)
"""


def test_a_write_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(b"older")
    done = in_a_process(LIMITED, path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"cannot write {path}: File too large (the file takes 1.0 MB, ")
    assert "MB free); the process may not write files this large" in done.stdout
    assert path.read_bytes() == b"older"
    assert temporaries(tmp_path) == []


FULL = """
import ctypes, os, sys
from pathlib import Path
libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWUSER, MS_REC_PRIVATE = 0x20000, 0x10000000, 0x44000
def call(result):
    if result:
        print("SKIP", os.strerror(ctypes.get_errno())); sys.exit()
call(libc.unshare(CLONE_NEWNS))
call(libc.mount(None, b"/", None, MS_REC_PRIVATE, None))
call(libc.mount(b"tmpfs", sys.argv[1].encode(), b"tmpfs", 0, b"size=64k"))
from bml.book.publish import is_alive, publish
from bml.types import StoreError
path = Path(sys.argv[1]) / "days" / "x.h5"
publish(path, bytes(1000))
try:
    publish(path, bytes(1_000_000))
except StoreError as error:
    print(error)
print(path.stat().st_size, [p.name for p in path.parent.iterdir()])
"""


def test_a_full_disk(tmp_path: Path) -> None:
    done = in_a_process(FULL, tmp_path)
    assert done.returncode == 0, done.stderr
    if done.stdout.startswith("SKIP"):
        pytest.skip(f"cannot mount a small file system here: {done.stdout[5:].strip()}")
    message, state = done.stdout.splitlines()
    assert message.startswith(f"cannot write {tmp_path}/days/x.h5: No space left on device (the file takes 1.0 MB, 0.")
    assert message.endswith("free some space or set store.root to another disk")
    assert state == "1000 ['x.h5']"


DROPPED = """
import os, sys
from pathlib import Path
from bml.book.publish import is_alive, publish
from bml.types import StoreError
os.setgid(65534); os.setuid(65534)
try:
    publish(Path(sys.argv[1]) / "days" / "x.h5", b"data")
except StoreError as error:
    print(error)
"""


def test_a_folder_one_may_not_write_to(tmp_path: Path) -> None:
    if os.getuid() != 0:
        tmp_path.chmod(0o555)
        with pytest.raises(StoreError, match=r"Permission denied .* make the folder writable"):
            publish(tmp_path / "days" / "x.h5", b"data")
        return
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    done = in_a_process(DROPPED, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Permission denied" in done.stdout
    assert "make the folder writable or set store.root" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("not a folder")
    with pytest.raises(StoreError, match="a part of the path is a file"):
        publish(tmp_path / "store" / "days" / "x.h5", b"data")


def test_an_interrupt_removes_the_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(fd: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        publish(tmp_path / "x.h5", b"data")
    assert list(tmp_path.iterdir()) == []


WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from bml.book.store import DayStore
from tests.book.book_days import finished, rows_of, times, walk
store = DayStore(Path(sys.argv[1]), "0123456789abcdef")
day = finished(rows_of(times(144), walk(144)), edges=[*range(7), 3000])
print("ready", flush=True)
while True:
    store.write(day, meta={})
"""


def test_killed_at_any_moment_no_part_of_a_file_is_left(tmp_path: Path) -> None:
    store = DayStore(tmp_path, "0123456789abcdef")
    rng = random.Random(4)
    for _ in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0.0, 0.08))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        for path in tmp_path.rglob("*.h5"):
            if path.name.startswith("."):
                continue
            open_file(path, verify=True).close()
        assert len(temporaries(tmp_path)) <= 1  # each writer sweeps what the one before it left
    store.write(clean_day(), meta={})
    assert temporaries(tmp_path) == []
    store.open("BTCUSDT", DAY).verify()


def test_a_process_that_ended_is_not_alive_even_before_it_is_reaped() -> None:
    """Where the first process of a container reaps late, what a killed writer left must be swept all the same."""
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    stat = Path(f"/proc/{process.pid}/stat")
    while stat.read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.005)
    assert not is_alive(process.pid)
    process.wait()
    assert not is_alive(process.pid)
    assert is_alive(os.getpid())


def test_another_process_id_space_is_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers of one machine may share a name and a folder; a number there is another process, or none, here."""
    label = publishing.host_label()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    theirs = tmp_path / f".x.h5.{label}.{dead.pid}-00000000.tmp"
    theirs.write_bytes(b"x")
    monkeypatch.setattr(publishing, "host_name", lambda: f"{os.uname().nodename} pid:[1]")
    assert publishing.host_label() == f"{os.uname().nodename}-pid-1"
    publish(tmp_path / "new.h5", b"data")
    assert theirs.exists()
