"""LOBSTER's pairs of files: an order book without times, and the messages that date its rows."""

from __future__ import annotations

import datetime as dt
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from bml.sources.frames import FrameSpec
from bml.sources.paths import PathPattern
from bml.sources.plain import CsvForm
from bml.sources.remote import File
from bml.sources.scan import Frames
from bml.types import DataError

COLUMNS = {"bid_px": "BidPrice{k}", "bid_qty": "BidSize{k}", "ask_px": "AskPrice{k}", "ask_qty": "AskSize{k}"}
_BOOK = CsvForm(header=("AskPrice{k}", "AskSize{k}", "BidPrice{k}", "BidSize{k}"))
_MESSAGE = CsvForm(header=("seconds", "type", "order_id", "size", "price", "direction"))
_DAY = re.compile(r"(?:^|_)(\d{4}-\d{2}-\d{2})_")


class LobsterFrames(Frames):
    """Pairs joined row by row; everything else as in :class:`bml.sources.scan.Frames`."""

    def __init__(self, pattern: PathPattern, spec: FrameSpec, scratch_gb: float, time_zone: str) -> None:
        super().__init__(pattern, spec, _BOOK, scratch_gb)
        self._zone = time_zone

    def _book_files(self, files: list[File]) -> list[File]:
        for file in files:
            if not isinstance(file, Path):
                raise DataError(f"{file}: LOBSTER's pairs of files are read from this machine only: copy them first")
        return [file for file in files if "_message_" not in file.name]

    def _convert(self, file: Path, target: Path, given: dict[str, str], where: str) -> None:
        assert self._scratch is not None
        with _pair(file, self._scratch) as (book, message, name):
            midnight = _midnight(name, where)
            raw = _scan(book, _BOOK, where)
            messages = _scan(message, _MESSAGE, f"{where}, its message file")
            n_book, n_message = (one.select(pl.len()).collect().item() for one in (raw, messages))
            if n_book != n_message:
                raise DataError(f"{where} has {n_book} rows, but its message file {n_message}: they belong together")
            seconds = messages.select(_nanoseconds(pl.col("seconds")).alias("after"))
            moment = (pl.lit(midnight).cast(pl.Datetime("ns")) + pl.col("after").cast(pl.Duration("ns"))).alias("time")
            moment = moment.dt.replace_time_zone(self._zone).dt.convert_time_zone("UTC")
            frame = pl.concat([seconds, raw], how="horizontal").with_columns(moment)
            self._spec.check(frame.collect_schema(), where)
            self._sink(frame, target, where)


def _scan(plain: Path, form: CsvForm, where: str) -> pl.LazyFrame:
    names = form.names(plain, where)
    return pl.scan_csv(plain, has_header=False, new_columns=names, infer_schema=False, glob=False)


def _nanoseconds(text: pl.Expr) -> pl.Expr:
    """Decimal seconds, exactly: 34200.017459617 is more than a float of seconds can hold to the nanosecond."""
    parts = text.str.strip_chars().str.extract_groups(r"^(\d+)(?:\.(\d{1,9})\d*)?$")
    whole = parts.struct.field("1").cast(pl.Int64)
    rest = parts.struct.field("2").fill_null("0").str.pad_end(9, "0").cast(pl.Int64)
    return whole * 1_000_000_000 + rest


def _midnight(name: str, where: str) -> dt.datetime:
    found = _DAY.search(name)
    if found is None:
        raise DataError(f"{where}: its name must hold the day, as in AMZN_2012-06-21_34200000_57600000_orderbook_5.csv")
    try:
        return dt.datetime.fromisoformat(found[1])
    except ValueError:
        raise DataError(f"{where}: {found[1]} is no day") from None


@contextmanager
def _pair(file: Path, scratch: Path) -> Iterator[tuple[Path, Path, str]]:
    """Order book, messages, and the name that tells the day."""
    if not file.name.endswith(".zip"):
        message = file.with_name(file.name.replace("_orderbook_", "_message_"))
        if message == file:
            raise DataError(f"{file}: the name of an order book holds _orderbook_, and that of its messages _message_")
        if not message.exists():
            raise DataError(f"{file}: its message file {message.name} is not there: it holds the times")
        yield file, message, file.name
        return
    made: list[Path] = []
    try:
        with zipfile.ZipFile(file) as archive:
            for kind in ("orderbook", "message"):
                inside = [name for name in archive.namelist() if re.search(rf"_{kind}_\d+\.csv$", name)]
                if len(inside) != 1:
                    raise DataError(f"{file}: a zip file must hold one ..._{kind}_N.csv, this one has {len(inside)}")
                made.append(Path(archive.extract(inside[0], scratch / kind)))
        yield made[0], made[1], made[0].name
    finally:
        for path in made:
            path.unlink(missing_ok=True)
