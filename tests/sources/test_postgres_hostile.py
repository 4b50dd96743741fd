"""What a table, a symbol, a name or a clock may hold at worst, on a real PostgreSQL: right rows or a word."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import polars as pl
import psycopg
import pytest
from psycopg import sql

from bml.sources.pgtraps import create_table, table_traps
from bml.sources.postgres import depth_rows
from bml.types import NS_PER_DAY, NS_PER_S, BmlError, ConfigError, ConnectionLost, DataError, DepthRows, SourceError
from tests.depth_frames import DAY, NUMBERS, START, STOP, paired_frame

LoadTable = Callable[..., None]


def read(dsn: str, symbol: str = "BTCUSDT", start: int = START, stop: int = STOP, **options: Any) -> DepthRows:
    with depth_rows(dsn=dsn, **options) as source:
        return source.read(symbol, start, stop)


def execute(dsn: str, *statements: str | sql.Composable) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        for statement in statements:
            conn.execute(statement)  # type: ignore[arg-type]


def one_row(**columns: object) -> pl.DataFrame:
    made = {"ts": [DAY], "symbol": ["A"], "level": [1]} | {name: [float(i)] for i, name in enumerate(NUMBERS, 1)}
    return pl.DataFrame(made | {name: [value] for name, value in columns.items()})


SYMBOLS = [
    "'", "''", "\\", "\\'", "' OR '1'='1", "'; DROP TABLE hostile; --", "$$", "$1", "%s", "%(x)s", "{}", "{0}", "/*",
    "--", "\n", "\t", "\x01", "\xe9", "\u202e", "\U0001f600", "\uff42", "E'\\x41'", "U&'\\0041'", "NULL", "", " ", "A ",
    " A", "a" * 5000, ";", '"', "?", ":x", "\x7f",
]  # fmt: skip


def test_every_symbol_is_only_a_text(postgres_dsn: str, load_table: LoadTable) -> None:
    """Each names its own row and no other, whatever the server takes a backslash for."""
    n = len(SYMBOLS)
    numbers = {name: [float(i) for i in range(n)] for name in NUMBERS}
    execute(postgres_dsn, "DROP TABLE IF EXISTS hostile")
    load_table(pl.DataFrame({"ts": [DAY] * n, "symbol": ["x"] * n, "level": [1] * n} | numbers), "hostile")
    with psycopg.connect(postgres_dsn, autocommit=True) as conn:
        for i, symbol in enumerate(SYMBOLS):
            conn.execute("UPDATE hostile SET symbol = %s WHERE bid_px = %s", (symbol, float(i)))
    for setting in ("on", "off"):
        dsn = f"{postgres_dsn}&options=-c%20standard_conforming_strings%3D{setting}"
        with depth_rows(dsn=dsn, table="hostile") as source:
            for i, symbol in enumerate(SYMBOLS):
                assert source.read(symbol, START, STOP).columns[0].tolist() == [float(i)], repr(symbol)


@pytest.mark.parametrize("symbol", ["a\0b", "\ud800", "\0"])
def test_a_symbol_no_text_can_hold(postgres_dsn: str, load_table: LoadTable, symbol: str) -> None:
    load_table(one_row(), "plain_one")
    with pytest.raises(ConfigError, match="a symbol cannot be"):
        read(postgres_dsn, symbol, table="plain_one")
    with pytest.raises(ConfigError, match="the name of a table or column cannot be"):
        depth_rows(dsn=postgres_dsn, table="plain_one", columns={"bid_px": f"p{symbol}"})


NAMES = [
    'a"b', '"', '""', "a'b", "a;b", "a--b", "a/*b", "a.b", "%s", "{}", "a\\b", "a\nb", "select", "é", "😀", "A b", "$1",
    '"); DROP TABLE hostile; --', "x" * 63, "\x01",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_only_a_name(postgres_dsn: str, name: str) -> None:
    quoted = sql.Identifier(name)
    typed = sql.SQL(", ").join(sql.Identifier(n) + sql.SQL(" double precision") for n in NUMBERS[1:])
    execute(
        postgres_dsn,
        sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(quoted),
        sql.SQL("CREATE SCHEMA {}").format(quoted),
        sql.SQL('CREATE TABLE {} (ts timestamptz, symbol text, level int, {} double precision, {})').format(
            sql.Identifier(name, name), quoted, typed
        ),
        sql.SQL("INSERT INTO {} VALUES ('2024-03-10 01:00+00', 'A', 1, 1, 2, 3, 4)").format(sql.Identifier(name, name)),
    )  # fmt: skip
    options: dict[str, Any] = {"table": name, "schema": name, "columns": {"bid_px": name}}
    with depth_rows(dsn=postgres_dsn, **options) as source:
        assert source.read("A", START, STOP).columns[0].tolist() == [1.0]
        (trap,) = table_traps(source.session, source.table)
        assert trap.name == "index"
        statement = create_table(source.table, greptimedb=False)
    execute(postgres_dsn, sql.SQL("DROP TABLE {}").format(sql.Identifier(name, name)), statement)
    with depth_rows(dsn=postgres_dsn, **options) as source:
        assert source.read("A", START, STOP).n_rows == 0
        assert table_traps(source.session, source.table) == ()
    execute(postgres_dsn, sql.SQL("DROP SCHEMA {} CASCADE").format(quoted))


VALUES = [np.nan, np.inf, -np.inf, -0.0, 0.0, 5e-324, 1.7976931348623157e308, 0.1 + 0.2, 1e-300, -1.0]


def test_every_number_arrives_bit_by_bit(postgres_dsn: str, load_table: LoadTable) -> None:
    load_table(pl.concat([one_row(level=i) for i in range(1, len(VALUES) + 1)]), "numbers")
    with psycopg.connect(postgres_dsn, autocommit=True) as conn:
        for i, value in enumerate(VALUES, 1):
            conn.execute("UPDATE numbers SET bid_px = %b WHERE level = %s", (value, i))
    rows = read(postgres_dsn, "A", table="numbers")
    assert rows.columns[0][np.argsort(rows.level_N)].tobytes() == np.array(VALUES).tobytes()


@pytest.mark.parametrize(
    ("kind", "text", "want"),
    [
        ("numeric", "NaN", np.nan), ("numeric", "Infinity", np.inf), ("numeric", "0.1", 0.1), ("price", "2.5", 2.5),
        ("numeric(30,20)", "1e-20", 1e-20), ("real", "0.1", float(np.float32(0.1))), ("smallint", "-1", -1.0),
        ("bigint", "9007199254740993", 9007199254740992.0),
    ],
)  # fmt: skip
def test_types_a_number_may_have(postgres_dsn: str, load_table: LoadTable, kind: str, text: str, want: float) -> None:
    execute(postgres_dsn, "DROP DOMAIN IF EXISTS price CASCADE", "CREATE DOMAIN price AS double precision")
    load_table(one_row(bid_px=text), "kinds", types={"bid_px": kind})
    np.testing.assert_array_equal(read(postgres_dsn, "A", table="kinds").columns[0], [want])


@pytest.mark.parametrize(
    ("kind", "text"),
    [("money", "1"), ("interval", "1s"), ("jsonb", "1"), ("bytea", "1"), ("double precision[]", "{1}"),
     ("boolean", "t"), ("text", "1"), ("point", "(1,2)")],
)  # fmt: skip
def test_types_a_number_may_not_have(postgres_dsn: str, load_table: LoadTable, kind: str, text: str) -> None:
    load_table(one_row(bid_px=text), "no_numbers", types={"bid_px": kind})
    with pytest.raises(DataError, match=r"column bid_px has type .*but bid_px must be a number"):
        read(postgres_dsn, "A", table="no_numbers")


def test_a_numeric_beyond_float64_is_refused(postgres_dsn: str, load_table: LoadTable) -> None:
    load_table(one_row(bid_px="1e400"), "huge", types={"bid_px": "numeric"})
    with pytest.raises(DataError, match=r"huge, A: .*out of range.*SQLSTATE 22003"):
        read(postgres_dsn, "A", table="huge")


@pytest.mark.parametrize("level", [-1, 0, 2**31, 2**62, -(2**63)])
def test_levels_no_book_has(postgres_dsn: str, load_table: LoadTable, level: int) -> None:
    load_table(one_row(level=level), "levels", types={"level": "bigint"})
    with pytest.raises(DataError, match=f"level is {level}"):
        read(postgres_dsn, "A", table="levels")


MOMENTS = [
    dt.datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=dt.UTC), dt.datetime(1970, 1, 1, tzinfo=dt.UTC),
    dt.datetime(1900, 2, 28, 12, tzinfo=dt.UTC), dt.datetime(1999, 12, 31, 23, 59, 59, tzinfo=dt.UTC),
    dt.datetime(2000, 1, 1, tzinfo=dt.UTC), dt.datetime(2024, 2, 29, tzinfo=dt.UTC),
    dt.datetime(2038, 1, 19, 3, 14, 8, tzinfo=dt.UTC), dt.datetime(2262, 4, 10, 23, 59, 59, 999_999, tzinfo=dt.UTC),
    dt.datetime(2016, 12, 31, 23, 59, 59, 999_999, tzinfo=dt.UTC), dt.datetime(1678, 1, 1, tzinfo=dt.UTC),
]  # fmt: skip


@pytest.mark.parametrize("ts_type", ["timestamptz", "timestamp"])
def test_every_year_that_fits(postgres_dsn: str, load_table: LoadTable, ts_type: str) -> None:
    """Each to its microsecond: the rows before and after are left out."""
    step = dt.timedelta(microseconds=1)
    frame = pl.concat([one_row(ts=moment + k * step) for moment in MOMENTS for k in (-7, 0, 7)])
    load_table(
        frame if ts_type == "timestamptz" else frame.with_columns(pl.col("ts").dt.replace_time_zone(None)), "years"
    )
    with depth_rows(dsn=postgres_dsn, table="years") as source:
        for moment in MOMENTS:
            ns = (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // step * 1000
            assert source.read("A", ns, ns + 1000).ts_ns_N.tolist() == [ns]
            midnight = ns // NS_PER_DAY * NS_PER_DAY
            assert ns in source.read("A", midnight, midnight + NS_PER_DAY).ts_ns_N.tolist()


@pytest.mark.parametrize("text", ["infinity", "-infinity", "4713-01-01 00:00:00+00 BC", "294276-12-31 23:59:59+00"])
def test_moments_beyond_every_day_are_not_read(postgres_dsn: str, load_table: LoadTable, text: str) -> None:
    load_table(one_row(ts=text), "beyond", types={"ts": "timestamptz"})
    assert read(postgres_dsn, "A", table="beyond").n_rows == 0


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York", "Asia/Kathmandu", "Pacific/Kiritimati", "UTC"])
@pytest.mark.parametrize("ts_type", ["timestamptz", "timestamp", "view"])
def test_the_day_is_utc_whatever_the_clock_on_the_wall(
    postgres_dsn: str, load_table: LoadTable, zone: str, ts_type: str
) -> None:
    """2024-03-10 has 23 hours in New York. The view casts in the session's time zone, which is UTC for that reason."""
    hours = [DAY + dt.timedelta(minutes=30 * k) for k in range(-2, 50)]
    frame = pl.concat([one_row(ts=hour) for hour in hours])
    stored = frame if ts_type != "timestamp" else frame.with_columns(pl.col("ts").dt.replace_time_zone(None))
    execute(postgres_dsn, "DROP VIEW IF EXISTS wall_view")
    load_table(stored, "wall")
    columns = "ts::timestamp AS ts, symbol, level, bid_px, bid_qty, ask_px, ask_qty"
    execute(postgres_dsn, f"CREATE VIEW wall_view AS SELECT {columns} FROM wall",
            "DO $$ BEGIN CREATE ROLE traveller LOGIN SUPERUSER; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
            f"ALTER ROLE traveller SET timezone = '{zone}'")  # fmt: skip
    dsn = postgres_dsn.replace("postgres:@", "traveller:@")
    table = "wall_view" if ts_type == "view" else "wall"
    got = np.sort(read(dsn, "A", table=table).ts_ns_N)
    assert got.tolist() == [START + k * 1800 * NS_PER_S for k in range(48)]


def test_rows_that_begin_in_the_middle_after_an_aborted_scan(postgres_dsn: str) -> None:
    """Large tables are scanned from where another scan is: order means nothing, and nothing is lost."""
    execute(
        postgres_dsn,
        "DROP TABLE IF EXISTS scanned",
        "CREATE UNLOGGED TABLE scanned (ts timestamptz, symbol text, level int, bid_px float8, bid_qty float8, "
        "ask_px float8, ask_qty float8, padding text)",
        "INSERT INTO scanned SELECT '2024-03-10 00:00+00'::timestamptz + t * interval '1 s', "
        "'A', l, t, l, t, l, repeat('x', 400) FROM generate_series(0, 999) t, generate_series(1, 100) l",
    )
    query = b"COPY (SELECT ts FROM scanned) TO STDOUT"
    with psycopg.connect(postgres_dsn, autocommit=True) as conn, conn.cursor().copy(query) as copy:
        for _ in range(60_000):
            copy.read()
        conn.pgconn.finish()  # hangs up in the middle of the scan
    rows = read(postgres_dsn, "A", START - NS_PER_DAY, STOP + NS_PER_DAY, table="scanned")
    order = np.lexsort((rows.level_N, rows.ts_ns_N))
    assert rows.n_rows == 100_000
    assert not rows.ordered
    np.testing.assert_array_equal(rows.columns[0][order], np.repeat(np.arange(1000.0), 100))
    np.testing.assert_array_equal(rows.columns[1][order], np.tile(np.arange(1.0, 101.0), 1000))
    execute(postgres_dsn, "DROP TABLE scanned")


@contextmanager
def meddled(dsn: str, load_table: LoadTable, *statements: str) -> Iterator[Any]:
    """A source that has probed its table, after which others change it."""
    load_table(paired_frame(3, 4, ("BTCUSDT",)), "meddled")
    with depth_rows(dsn=dsn, table="meddled") as source:
        assert source.read("BTCUSDT", START, STOP).n_rows == 12
        execute(dsn, *statements)
        yield source


@pytest.mark.parametrize(
    ("statement", "error", "told"),
    [
        ("DROP TABLE meddled", DataError, "does not exist"),
        ("ALTER TABLE meddled DROP COLUMN ask_qty", DataError, "ask_qty.*does not exist"),
        ("ALTER TABLE meddled ALTER bid_px TYPE real", SourceError, "field bid_px has 4 bytes instead of 8"),
        ("ALTER TABLE meddled ALTER ts TYPE text", BmlError, "meddled"),
        ("ALTER TABLE meddled ALTER level TYPE smallint", SourceError, "field level has 2 bytes instead of 8"),
    ],
)
def test_a_table_that_changes_between_probe_and_read(
    postgres_dsn: str, load_table: LoadTable, statement: str, error: type[BmlError], told: str
) -> None:
    with meddled(postgres_dsn, load_table, statement) as source, pytest.raises(error, match=told) as caught:
        source.read("BTCUSDT", START, STOP)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, ConnectionLost)


def test_an_error_in_the_middle_of_the_stream(postgres_dsn: str, load_table: LoadTable) -> None:
    """Rows have arrived when the server finds that one cannot be computed: no rows at all are given."""
    execute(postgres_dsn, "DROP VIEW IF EXISTS dividing")
    load_table(paired_frame(500, 100, ("BTCUSDT",)), "divided")
    columns = "ts, symbol, level, bid_qty, ask_px, ask_qty"
    execute(
        postgres_dsn,
        f"CREATE VIEW dividing AS SELECT {columns}, bid_px / (CASE WHEN ts > '2024-03-10 01:20+00' THEN 0 ELSE 1 END) "
        "AS bid_px FROM divided",
    )
    with pytest.raises(DataError, match=r"dividing, BTCUSDT: division by zero \(SQLSTATE 22012\)"):
        read(postgres_dsn, table="dividing")
    execute(postgres_dsn, "DROP VIEW dividing")


def test_row_security_is_told(postgres_dsn: str, load_table: LoadTable) -> None:
    load_table(paired_frame(2, 3, ("BTCUSDT",)), "secured")
    execute(postgres_dsn, "ALTER TABLE secured ENABLE ROW LEVEL SECURITY")
    with depth_rows(dsn=postgres_dsn, table="secured") as source:
        assert [trap.name for trap in table_traps(source.session, source.table)] == ["row security", "index"]


@pytest.mark.parametrize(
    ("index", "is_missed"),
    [
        ("(symbol, ts)", False), ("(ts, symbol)", False), ("(symbol, ts, level)", False), ("(symbol)", True),
        ("(ts)", True),
        ("(level, symbol, ts)", True), ("(symbol, ts) WHERE level = 1", True), ("(lower(symbol), ts)", True),
    ],
)  # fmt: skip
def test_an_index_that_helps(postgres_dsn: str, load_table: LoadTable, index: str, is_missed: bool) -> None:
    load_table(paired_frame(2, 3, ("BTCUSDT",)), "indexed")
    execute(postgres_dsn, f"CREATE INDEX ON indexed {index}")
    with depth_rows(dsn=postgres_dsn, table="indexed") as source:
        assert bool(table_traps(source.session, source.table)) is is_missed
