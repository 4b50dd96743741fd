"""Day files: what is written is what is read, byte for byte the same, and nothing damaged gets through."""

from __future__ import annotations

import gc
import os
import pickle
import resource
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from bml.book import layout
from bml.book.days import counted
from bml.book.hdf5 import PAGE, Attribute, pack, read_header
from bml.book.store import SCHEMA, DayFile, DayStore, open_file
from bml.types import AlignedDay, ConfigError, DataError, StoreError, UnreadableFile
from tests.book.book_days import DAY, MIDNIGHT, clean_day, context

DIGEST = "0123456789abcdef" * 4
META = {"origin": {"path": "x.parquet", "rows": 3}, "learned": {"book.depth.adaptive": {"edges": [0, 1]}}}


@pytest.fixture
def day() -> AlignedDay:
    return clean_day()


@pytest.fixture
def store(tmp_path: Path) -> DayStore:
    return DayStore(tmp_path, DIGEST)


@pytest.fixture
def path(store: DayStore, day: AlignedDay) -> Path:
    return store.write(day, meta=META)


def same(file: DayFile, day: AlignedDay) -> None:
    assert day.moments is not None
    pairs = [
        (file.book_TLF, day.book_TLF),
        (file.grid_ns_T, day.grid_ns_T),
        (file.mid_T, day.mid_T),
        (file.age_ms_T, day.age_ms_T),
        (file.flag_T, day.flag_T),
        (file.coverage_TL2, day.coverage_TL2),
        (file.edges_L1, day.edges_L1),
        (file.moments.stats_SV, day.moments.stats_SV),
        (file.moments.scaler_SLF, day.moments.scaler_SLF),
    ]
    for actual, expected in pairs:
        np.testing.assert_array_equal(actual, expected)
        assert actual.dtype == np.asarray(expected).dtype


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_round_trip(store: DayStore, day: AlignedDay, dtype: str) -> None:
    day = replace(day, book_TLF=day.book_TLF.astype(dtype), query="select '1'")
    path = store.write(day, meta=META)
    assert path == store.root / "days" / "BTCUSDT" / "2024" / "BTCUSDT_2024-01-15_01234567.h5"
    assert store.has("BTCUSDT", DAY)
    with store.open("BTCUSDT", DAY) as file:
        same(file, day)
        assert file.quality == day.quality
        assert file.moments.names_V == day.moments.names_V  # type: ignore[union-attr]
        assert (file.symbol, file.day, file.cadence_ns) == ("BTCUSDT", DAY, day.cadence_ns)
        attrs = file.attrs
        file.verify()
    assert attrs["meta"] == META
    assert attrs["query"] == "select '1'"
    assert attrs["edges"] == [0, 1, 2, 3, 6]
    assert attrs["fields"] == ["bid_px", "bid_qty", "ask_px", "ask_qty"]
    expected = {
        "schema": "bml.day/1", "symbol": "BTCUSDT", "date": "2024-01-15", "start_ns": MIDNIGHT, "rows": 144,
        "step_ns": day.cadence_ns, "depth": 4, "units": "bps_log1p", "dtype": dtype, "config_digest": DIGEST,
        "complete": 1,
    }  # fmt: skip
    assert {key: attrs[key] for key in expected} == expected


def test_equal_days_are_equal_bytes_whenever_written(tmp_path: Path, day: AlignedDay) -> None:
    first = DayStore(tmp_path / "a", DIGEST).write(day, meta=META).read_bytes()
    time.sleep(1.1)  # HDF5 keeps times in seconds
    assert DayStore(tmp_path / "b", DIGEST).write(clean_day(), meta=META).read_bytes() == first
    assert DayStore(tmp_path / "b", DIGEST).write(clean_day(seed=2), meta=META).read_bytes() != first


def test_any_hdf5_tool_reads_it_and_arrays_are_whole_pages(path: Path, day: AlignedDay) -> None:
    with h5py.File(path) as file:
        assert file.attrs["complete"] == 1
        np.testing.assert_array_equal(file["book"][...], day.book_TLF)
        for dataset in file.values():
            assert dataset.chunks is None
            assert dataset.compression is None
        assert file["book"].id.get_offset() % PAGE == 0
        assert file["mid"].id.get_offset() % PAGE == 0


def test_arrays_are_read_only_and_outlive_the_file(store: DayStore, path: Path, day: AlignedDay) -> None:
    file = store.open("BTCUSDT", DAY)
    book_TLF, mid_T = file.book_TLF, file.mid_T
    for x in (book_TLF, mid_T, file.grid_ns_T, file.flag_T):
        with pytest.raises(ValueError, match="read-only"):
            x[0] = 0
    for x in (book_TLF, mid_T, file.flag_T):
        with pytest.raises(ValueError, match="WRITEABLE"):
            x.flags.writeable = True
    file.close()
    with pytest.raises(ValueError, match="closed"):
        _ = file.book_TLF
    path.unlink()
    del file
    gc.collect()
    np.testing.assert_array_equal(book_TLF, day.book_TLF)
    np.testing.assert_array_equal(mid_T, day.mid_T)


def test_no_descriptor_stays_open_and_mappings_go_away(store: DayStore, path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 128), hard))
    try:
        before = len(os.listdir("/proc/self/fd"))
        files = [store.open("BTCUSDT", DAY) for _ in range(300)]
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert Path("/proc/self/maps").read_text().count(path.name) >= 1
    files.clear()
    gc.collect()
    assert path.name not in Path("/proc/self/maps").read_text()


def test_a_store_and_a_file_can_be_pickled(store: DayStore, path: Path, day: AlignedDay) -> None:
    assert pickle.loads(pickle.dumps(store)) == store  # noqa: S301
    with store.open("BTCUSDT", DAY) as file:
        same(pickle.loads(pickle.dumps(file)), day)  # noqa: S301


def test_replacing_a_day_leaves_open_readers_alone(store: DayStore, path: Path, day: AlignedDay) -> None:
    file = store.open("BTCUSDT", DAY)
    other = clean_day(seed=5)
    store.write(other, meta=META)
    same(file, day)
    same(store.open("BTCUSDT", DAY), other)


# --- what is refused ---------------------------------------------------------------------------------------------


def edit(change: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    return apply


def truncate(share: float) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, int(path.stat().st_size * share))


def swapped(name: str, **options: object) -> Callable[[h5py.File], None]:
    """``name`` written again, with another layout or type."""

    def change(file: h5py.File) -> None:
        x = file[name][...]
        dtype = options.pop("dtype", None)
        del file[name]
        file.create_dataset(name, data=x if dtype is None else x.astype(dtype), **options)

    return change


def unlinked(name: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]

    return change


def attribute(name: str, value: Attribute | None) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file.attrs[name]
        if value is not None:
            file.attrs[name] = value

    return change


def reshaped(file: h5py.File) -> None:
    del file["age"]
    file["age"] = np.zeros(9, "<i4")


def never_written(file: h5py.File) -> None:
    """Contiguous, but HDF5 gives such an array no place before it is written."""
    del file["age"]
    file.create_dataset("age", (144,), "<i4")


def foreign(path: Path) -> None:
    path.unlink()
    with h5py.File(path, "w") as file:
        file["book"] = np.zeros((144, 4, 4), np.float32)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def text(path: Path) -> None:
    path.write_text("ts,symbol\n" * 99)


def first_bytes(path: Path) -> None:
    path.write_bytes(b"\0\0" + path.read_bytes()[2:])


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (Path.unlink, "there is no such day file"),
    "a folder": (a_folder, "cannot be read"),
    "empty": (truncate(0), "not an HDF5 file"),
    "truncated early": (truncate(0.05), "truncated"),
    "truncated late": (truncate(0.999), "truncated"),
    "text": (text, "not an HDF5 file"),
    "first bytes": (first_bytes, "not an HDF5 file"),
    "foreign HDF5": (foreign, "no day file of bml"),
    "another schema": (edit(attribute("schema", "bml.day/9")), "schema 'bml.day/9', this bml reads 'bml.day/1'"),
    "incomplete": (edit(attribute("complete", 0)), "incomplete"),
    "never completed": (edit(attribute("complete", None)), "incomplete"),
    "attribute missing": (edit(attribute("step_ns", None)), "attribute 'step_ns' is missing"),
    "attribute changed": (edit(attribute("start_ns", MIDNIGHT + 1)), "header does not match its checksum"),
    "array missing": (edit(unlinked("mid")), "/mid is missing"),
    "chunked": (edit(swapped("book", chunks=(8, 4, 4))), "/book is chunked"),
    "compressed": (edit(swapped("flags", compression="gzip")), "/flags is chunked or compressed"),
    "byte order": (edit(swapped("book", dtype=">f4")), "/book is >f4, not <f4"),
    "type": (edit(swapped("mid", dtype="<f4")), "/mid is <f4, not <f8"),
    "shape": (edit(reshaped), r"/age has shape \(9,\), not \(144,\)"),
    "never written": (edit(never_written), "/age is not stored contiguously"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_files_are_refused(store: DayStore, path: Path, name: str) -> None:
    damage, words = DAMAGE[name]
    damage(path)
    with pytest.raises(StoreError, match=words) as caught:
        store.open("BTCUSDT", DAY)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not store.has("BTCUSDT", DAY)


@pytest.mark.parametrize("fault", ["Input/output error", "Too many levels of symbolic links"])
def test_a_file_the_system_refuses_is_told_and_not_taken_as_missing(store: DayStore, path: Path, fault: str) -> None:
    """A read that fails in the kernel itself: of a process's memory at 0, or of a link to itself."""
    path.unlink()
    path.symlink_to("/proc/self/mem" if fault.startswith("Input") else path)
    for ask in (store.has, store.open, partial(counted, store)):
        with pytest.raises(UnreadableFile, match=rf"cannot be read: {fault}; check its owner") as caught:
            ask("BTCUSDT", DAY)
        assert str(path) in str(caught.value)


def test_a_damaged_day_can_be_written_again(store: DayStore, path: Path, day: AlignedDay) -> None:
    truncate(0.5)(path)
    store.write(day, meta=META)
    same(store.open("BTCUSDT", DAY), day)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_every_flipped_byte_of_the_arrays_is_found(tmp_path: Path, store: DayStore, path: Path) -> None:
    _, places = read_header(path)
    rng = np.random.default_rng(2)
    for name, place in places.items():
        for at in rng.integers(place.offset, place.stop, 3).tolist():
            copy = Path(shutil.copy(path, tmp_path / "copy.h5"))
            flip(copy, at)
            with pytest.raises(StoreError, match="does not match its checksum"):
                open_file(copy, verify=True)
            if name not in ("quality", "meta"):
                open_file(copy).close()  # the header alone does not tell


def test_the_damaged_part_is_named(store: DayStore, path: Path) -> None:
    _, places = read_header(path)
    row = 144 * 13 // 24
    flip(path, places["book"].offset + (row + 2) * 4 * 4 * 4)
    with pytest.raises(StoreError, match=r"part 13 of 24 of /book \(rows 78 to 83\)"):
        DayStore(store.root, DIGEST, verify=True).open("BTCUSDT", DAY)
    store.open("BTCUSDT", DAY).close()


def test_random_damage_never_gets_through_a_verified_open(tmp_path: Path, path: Path, day: AlignedDay) -> None:
    """Whatever byte is hit, opening ends in a StoreError or in exactly the day that was written."""
    clean = path.read_bytes()
    copy = tmp_path / "copy.h5"
    rng = np.random.default_rng(7)
    refused = 0
    for at in [*range(0, 400, 9), *rng.integers(0, len(clean), 60).tolist()]:
        copy.write_bytes(clean[:at] + bytes([clean[at] ^ int(rng.integers(1, 256))]) + clean[at + 1 :])
        try:
            with open_file(copy, verify=True) as file:
                same(file, day)
                assert file.quality == day.quality
                assert file.attrs["meta"] == META
        except StoreError:
            refused += 1
    assert refused > 10


def test_another_configuration_with_the_same_prefix(store: DayStore, path: Path) -> None:
    other = DayStore(store.root, DIGEST[:8] + "f" * 56)
    assert other.path("BTCUSDT", DAY) == path
    with pytest.raises(StoreError, match="of configuration 0123456789abcdef, not 01234567ffffffff"):
        other.open("BTCUSDT", DAY)
    assert not other.has("BTCUSDT", DAY)


def test_a_renamed_file_is_refused(store: DayStore, path: Path) -> None:
    wrong = store.path("ETHUSDT", DAY)
    wrong.parent.mkdir(parents=True)
    shutil.copy(path, wrong)
    with pytest.raises(StoreError, match="holds BTCUSDT 2024-01-15"):
        store.open("ETHUSDT", DAY)


@pytest.mark.parametrize("symbol", ["", "../x", "a/b", ".hidden", "a b", "x" * 65, "BTC\n", "-rf"])
def test_symbols_that_cannot_name_a_file(store: DayStore, symbol: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a file"):
        store.path(symbol, DAY)


@pytest.mark.parametrize("digest", ["", "0123456", "../../..", "ABCDEF01"])
def test_digests_that_are_none(tmp_path: Path, digest: str) -> None:
    with pytest.raises(ConfigError, match="digest"):
        DayStore(tmp_path, digest)


def test_days_that_are_not_ready_are_not_written(store: DayStore, day: AlignedDay) -> None:
    wrong: list[tuple[AlignedDay, str]] = [
        (replace(day, units="raw"), "not model-ready"),
        (replace(day, edges_L1=None), "not model-ready"),
        (replace(day, moments=None), "needs its moments"),
        (replace(day, book_TLF=day.book_TLF.astype(np.float64)), r"book is <f8, not <f4"),
        (replace(day, mid_T=day.mid_T[:-1]), r"mid has shape \(143,\)"),
        (replace(day, grid_ns_T=day.grid_ns_T * 2), "not a day's grid"),
        (replace(day, cadence_ns=1), "not a day's grid"),
    ]
    for one, words in wrong:
        with pytest.raises(DataError, match=words):
            store.write(one, meta={})
    with pytest.raises(TypeError):
        store.write(day, meta={"a": {1, 2}})
    assert list(store.root.iterdir()) == []


def test_long_reports_and_unicode_fit(store: DayStore, day: AlignedDay) -> None:
    """HDF5 attributes end at 64 KB; the report and meta are not attributes."""
    quality = replace(day.quality, events=day.quality.events * 1, counts={f"n_{k}": k for k in range(20_000)})
    meta = {"note": "μ€" * 50_000}
    store.write(replace(day, quality=quality), meta=meta)
    with store.open("BTCUSDT", DAY) as file:
        assert file.quality == quality
        assert file.attrs["meta"] == meta


def test_the_parts_of_a_day_cover_it_once() -> None:
    for rows in (1, 5, 24, 144, 8640, 86_400):
        parts = layout.part_rows(rows)
        assert [row for start, stop in parts for row in range(start, stop)] == list(range(rows))
        assert len(parts) == layout.PARTS


def test_the_container_takes_empty_text() -> None:
    data = pack({"x": np.arange(3.0)}, {"empty": "", "n": 3})
    assert data[:4] == b"\x89HDF"
    assert SCHEMA == "bml.day/1"
    assert context().day == DAY
