"""One way to take the day out of a server, measured in a process of its own: ``python -m bench.extraction_work``.

Arguments: the way, a dsn, snapshots, levels, and for the replaying server the file. Prints one line of JSON: wall and
CPU seconds (user and system, all threads) of the work alone, resident bytes before it and at its highest point, the
bytes of the book if it is one and their digest. A peer that is not installed prints {"missing": why}.
"""

from __future__ import annotations

import atexit
import datetime as dt
import hashlib
import json
import os
import re
import resource
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.extraction_day import COLUMNS, DAY, ROW, SYMBOL, TABLE, step_us

Result = Any
NS_PER_DAY = 86_400 * 10**9
START_NS = (DAY - dt.date(1970, 1, 1)).days * NS_PER_DAY
SELECT = (
    f"SELECT {', '.join(COLUMNS)} FROM {TABLE} WHERE symbol = '{SYMBOL}' "
    f"AND ts >= '{DAY} 00:00:00+00:00' AND ts < '{DAY + dt.timedelta(days=1)} 00:00:00+00:00'"
)
FIELDS = [("ts", "time", "timestamp"), ("level", "level", "int4")] + [(n, "number", "float8") for n in COLUMNS[2:]]


class Given:
    """What a way is asked to do."""

    def __init__(self, dsn: str, n_times: int, levels: int, file: str) -> None:
        self.dsn, self.n_times, self.levels, self.file = dsn, n_times, levels, file


def _scratch() -> Path:
    """A folder that goes with the process."""
    folder = Path(tempfile.mkdtemp(prefix="bml-bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def floor(given: Given) -> Callable[[], Result]:
    """The server alone: the same COPY to the null device, on the server's side."""
    import psycopg

    conn = psycopg.connect(given.dsn, autocommit=True)
    return lambda: conn.execute(f"COPY ({SELECT}) TO '/dev/null' (FORMAT BINARY)".encode())


def _source(given: Given) -> Any:
    from bml.sources.postgres import depth_rows

    source = depth_rows(dsn=given.dsn, table=TABLE, max_rows=2 * 10**9)
    source._session.connection()
    return source


def book(given: Given) -> Callable[[], Result]:
    """bml, rows placed in the book as they arrive."""
    source = _source(given)
    return lambda: (
        source.read_book(SYMBOL, START_NS, START_NS + NS_PER_DAY, levels=given.levels, duplicates="error").book_TLF
    )


def chunked(given: Given) -> Callable[[], Result]:
    """bml, a binary SELECT an hour."""
    source = _source(given)
    type(source._transport).way = "chunked"
    return lambda: (
        source.read_book(SYMBOL, START_NS, START_NS + NS_PER_DAY, levels=given.levels, duplicates="error").book_TLF
    )


def columns(given: Given) -> Callable[[], Result]:
    """bml, rows as columns."""
    source = _source(given)
    return lambda: len(source.read(SYMBOL, START_NS, START_NS + NS_PER_DAY).ts_ns_N)


def day(given: Given, **options: Any) -> Callable[[], Result]:
    """bml, from the server to an aligned and binned day in HDF5."""
    from bml import config
    from bml.book.days import DayBuilder, Learned
    from bml.book.store import DayStore

    folder = _scratch()
    text = (Path(__file__).with_name("extraction.yaml")).read_text()
    path = folder / "day.yaml"
    path.write_text(text.replace("TABLE", TABLE).replace("LEVELS", str(given.levels)).replace("FOLDER", str(folder)))
    os.environ["BML_DSN"] = given.dsn
    cfg = config.load(path)
    source = _source(given)
    learned: Learned = {"book.depth.adaptive": {"edges": [*range(51), *range(145, given.levels + 1, 95)]}}
    builder = DayBuilder(cfg, source, learned, **options)
    store = DayStore(folder, "0" * 16)

    def run() -> None:
        store.write(builder.build(SYMBOL, DAY), meta={})

    return run


def day_steps(given: Given) -> Callable[[], Result]:
    """The same, step by step over the book the source placed."""
    return day(given, step_by_step=True)


def adbc(given: Given) -> Callable[[], Result]:
    """ADBC's Arrow table: columns, not a book."""
    import adbc_driver_postgresql.dbapi as driver

    cursor = driver.connect(given.dsn).cursor()

    def run() -> int:
        cursor.execute(SELECT)
        return int(cursor.fetch_arrow_table().num_rows)

    return run


def connectorx(given: Given) -> Callable[[], Result]:
    """connectorx's Arrow table, binary protocol."""
    import connectorx as cx

    return lambda: cx.read_sql(given.dsn, SELECT, return_type="arrow").num_rows


def cursor(given: Given) -> Callable[[], Result]:
    """psycopg's named cursor, binary, over the first tenth of the day, into numpy columns."""
    import psycopg

    conn = psycopg.connect(given.dsn)
    n_times = given.n_times // 10
    stop = dt.datetime.combine(DAY, dt.time()) + dt.timedelta(microseconds=n_times * step_us(given.n_times))
    query = f"{SELECT} AND ts < '{stop}+00:00'"

    def run() -> int:
        n = n_times * given.levels
        ts, level, numbers = np.empty(n, "datetime64[us]"), np.empty(n, np.int32), np.empty((4, n))
        at = 0
        with conn.cursor(name="tenth", binary=True) as rows:
            rows.execute(query.encode())
            while some := rows.fetchmany(10_000):
                here = slice(at, at + len(some))
                found = list(zip(*some, strict=True))
                ts[here], level[here], numbers[:, here] = found[0], found[1], found[2:]
                at += len(some)
        return at

    return run


def tenth(given: Given) -> Callable[[], Result]:
    """bml over the first tenth of the day."""
    source = _source(given)
    stop_ns = START_NS + given.n_times // 10 * step_us(given.n_times) * 1000
    return lambda: source.read_book(SYMBOL, START_NS, stop_ns, levels=given.levels, duplicates="error").book_TLF


def drain(given: Given) -> Callable[[], Result]:
    """A plain socket that throws away what comes."""
    parts = dict(re.findall(r"(\d+\.\d+\.\d+\.\d+):(\d+)", given.dsn))
    ((host, port),) = parts.items()
    client = socket.create_connection((host, int(port)))
    client.sendall(struct.pack(">ii", 8 + 11, 196608) + b"user\0bench\0\0"[:11])
    client.recv(65536)
    query = f"COPY /* {given.file} */\0".encode()
    room = bytearray(1 << 20)

    def run() -> int:
        client.sendall(b"Q" + struct.pack(">i", 4 + len(query)) + query)
        n = 0
        while got := client.recv_into(room):
            n += got
            if room[got - 6 : got] == b"Z\0\0\0\x05I":
                break
        return n

    return run


def _replayed(given: Given) -> tuple[Any, Any]:
    from bml.sources._copy_rows import CopyBook
    from bml.sources.pgcopy import Transport
    from bml.sources.pgsession import Session

    session = Session(given.dsn, statement_timeout_s=600, connect_timeout_s=10)
    session.connection()
    return Transport(session), CopyBook(FIELDS, levels=given.levels, max_rows=2 * 10**9)


def replay_libpq(given: Given) -> Callable[[], Result]:
    """libpq alone: every message of the COPY is taken and thrown away by a few lines of C."""
    import ctypes

    import psycopg

    from bml.sources.pgcopy import _address, _libpq, _woken_for

    folder = _scratch()
    subprocess.run(
        ["cc", "-O2", "-shared", "-fPIC", "-o", folder / "drain.so", Path(__file__).with_name("extraction_drain.c")],
        check=True,
    )
    take = ctypes.CDLL(str(folder / "drain.so")).take_all
    take.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_int]
    conn = psycopg.connect(given.dsn, autocommit=True).pgconn
    get, free, consume, *_ = _libpq() or ()

    def run() -> int:
        conn.send_query(f"COPY /* {given.file} */".encode())
        conn.flush()
        conn.get_result()
        with _woken_for(conn.socket, 1 << 18):
            return int(take(_address(conn, "pgconn_ptr"), get, free, consume, conn.socket))

    return run


def replay_copy(given: Given) -> Callable[[], Result]:
    """bml's COPY of recorded bytes."""
    transport, decoder = _replayed(given)
    return lambda: decoder.finish(transport.copy(f"COPY /* {given.file} */".encode(), decoder))[1]


def replay_chunked(given: Given) -> Callable[[], Result]:
    """bml's SELECT of recorded bytes."""
    transport, decoder = _replayed(given)

    def run() -> Result:
        n = transport.chunks(f"SELECT /* {given.file} */".encode(), decoder)
        decoder.close()
        return decoder.finish(n)[1]

    return run


def replay_portable(given: Given) -> Callable[[], Result]:
    """bml's COPY of recorded bytes through psycopg."""
    transport, decoder = _replayed(given)
    transport.libpq = None
    return lambda: decoder.finish(transport.copy(f"COPY /* {given.file} */".encode(), decoder))[1]


def replay_numpy(given: Given) -> Callable[[], Result]:
    """psycopg's copy.read() and numpy's view of the bytes, into columns."""
    import psycopg

    conn = psycopg.connect(given.dsn, autocommit=True)

    def run() -> int:
        with conn.cursor().copy(f"COPY /* {given.file} */".encode()) as copy:
            joined = b"".join(copy)
        rows = np.frombuffer(joined, ROW, (len(joined) - 21) // ROW.itemsize, offset=19)
        return sum(len(np.ascontiguousarray(rows[name].astype(ROW[name].newbyteorder("=")))) for name in COLUMNS)

    return run


def _status(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def main() -> None:
    way, dsn, n_times, levels, file = [*sys.argv[1:], ""][:5]
    given = Given(dsn, int(n_times), int(levels), file)
    try:
        run = globals()[way](given)
    except ImportError as error:
        print(json.dumps({"missing": str(error)}))
        return
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    used, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    result = run()
    wall, now = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    told: dict[str, Any] = {
        "wall": wall,
        "cpu": now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime,
        "rss": before,
        "peak": _status("VmHWM"),
    }
    if isinstance(result, np.ndarray):
        told |= {"bytes": result.nbytes, "digest": hashlib.blake2b(result.tobytes()).hexdigest()[:16]}
    elif isinstance(result, int):
        told["count"] = result
    print(json.dumps(told))


if __name__ == "__main__":
    main()
