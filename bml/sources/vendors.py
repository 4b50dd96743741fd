"""Order-book files of known vendors, with their exact columns and units: Tardis, Crypto Lake, LOBSTER.

The columns, and what to know about each vendor's files, are in docs/files.md. All of them are snapshots dated by the
event, so several may have one time: then the last is the book, and rows of the others are counted as superseded.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Mapping
from typing import Any, Literal

from bml.registry import source
from bml.sources.frames import Field, FrameSpec
from bml.sources.layout import OneSymbol
from bml.sources.lobster import COLUMNS as LOBSTER_COLUMNS
from bml.sources.lobster import LobsterFrames
from bml.sources.paths import PathPattern
from bml.sources.plain import CsvForm
from bml.sources.scan import Frames
from bml.sources.wide import WideColumns, WideSource
from bml.types import ConfigError


@source
def tardis_snapshots(
    *,
    path: str,
    levels: int = 25,
    clock: Literal["local", "exchange"] = "local",
    symbols: dict[str, str] | None = None,
    scratch_gb: float = 20.0,
    data: Any = None,
) -> WideSource:
    """Open Tardis ``book_snapshot_25`` (or ``_5``, with levels: 5) files: .csv.gz or .csv.

    Columns: exchange, symbol, timestamp, local_timestamp (microseconds since 1970), then for i = 0 (best) ... 24
    asks[i].price, asks[i].amount, bids[i].price, bids[i].amount; an empty cell is no level. A file holds the day of
    its local_timestamp; a day without data is an empty file.
    path: e.g. tardis/binance_book_snapshot_25_{date}_{symbol}.csv.gz. symbols: symbol of the configuration -> in the
    files, where they differ. clock: which time dates a snapshot, when the collector had it ("local", causal) or the
    exchange's own; by the latter, the files of the days before and after are looked into too.
    """
    _check_levels(levels, 25)
    return _wide(
        PathPattern(path, symbol_key="symbol", margin_days=1 if clock == "exchange" else 0),
        CsvForm(may_be_empty=True),
        Field(name="ts", kind="time", column="local_timestamp" if clock == "local" else "timestamp"),
        {
            "bid_px": "bids[{k}].price",
            "bid_qty": "bids[{k}].amount",
            "ask_px": "asks[{k}].price",
            "ask_qty": "asks[{k}].amount",
        },
        levels,
        ts_unit="us",
        symbols=symbols,
        scratch_gb=scratch_gb,
        kind="Tardis book_snapshot",
    )


@source
def crypto_lake_book(
    *,
    path: str,
    levels: int = 20,
    clock: Literal["received", "origin"] = "received",
    exchange: str | None = None,
    symbols: dict[str, str] | None = None,
    scratch_gb: float = 20.0,
    data: Any = None,
) -> WideSource:
    """Open Crypto Lake ``book`` files: parquet below exchange=.../symbol=BTC-USDT/dt=2024-01-31/.

    Columns: origin_time, received_time (timestamps of nanoseconds, UTC), sequence_number, bid_0_price, bid_0_size ...
    bid_19_size, ask_0_price ... ask_19_size; level 0 is the best; symbol is a column or a partition.
    path: the folder above the partitions, or a pattern. exchange: which one, where the folder has several.
    symbols: e.g. {BTCUSDT: BTC-USDT} (perpetuals end in -PERP). clock: which time dates a snapshot.
    """
    _check_levels(levels, 20)
    partitions = {} if exchange is None else {"exchange": exchange}
    return _wide(
        PathPattern(path, symbol_key="symbol", partitions=partitions),
        CsvForm(),
        Field(name="ts", kind="time", column=f"{clock}_time"),
        {"bid_px": "bid_{k}_price", "bid_qty": "bid_{k}_size", "ask_px": "ask_{k}_price", "ask_qty": "ask_{k}_size"},
        levels,
        sequence="sequence_number",
        symbols=symbols,
        scratch_gb=scratch_gb,
        kind="Crypto Lake book",
    )


@source
def lobster_books(
    *,
    path: str,
    levels: int,
    time_zone: str = "America/New_York",
    price_scale: float = 10_000.0,
    scratch_gb: float = 20.0,
    data: Any = None,
) -> WideSource:
    """Open LOBSTER order books: ``..._orderbook_N.csv`` beside its ``..._message_N.csv``, or the .zip that holds both.

    No header. Order book: AskPrice1, AskSize1, BidPrice1, BidSize1, AskPrice2, ...; message: seconds after midnight,
    type, order id, size, price, direction; row i of both belong together. The day stands in the file's name.
    path: e.g. lobster/{symbol}_{date}_34200000_57600000_orderbook_5.csv. time_zone: the exchange's. price_scale:
    prices are divided by it. Prices of +-9999999999 are no level.
    """
    if levels < 1:
        raise ConfigError(f"levels: {levels}: at least 1")
    if time_zone not in zoneinfo.available_timezones():
        raise ConfigError(f"time_zone: {time_zone!r} is not a zone such as America/New_York")
    wide = WideColumns.resolve(
        dict(LOBSTER_COLUMNS),
        first=1,
        levels=levels,
        price_scale=price_scale,
        absent_px=(9_999_999_999, -9_999_999_999),
    )
    pattern = PathPattern(path, margin_days=1)  # a file's day is the exchange's own, not UTC's
    spec = FrameSpec(fields=(Field(name="ts", kind="time", column="time"), *wide.fields()))
    symbols = getattr(data, "symbols", ())
    return WideSource(
        LobsterFrames(pattern, spec, scratch_gb, time_zone),
        wide,
        has_symbol=False,
        has_sequence=False,
        symbols={},
        guard=None if pattern.has_symbol else OneSymbol(f"path {path!r}", symbols),
        others=symbols,
        last_of_time=True,
        kind="LOBSTER order book",
    )


def _wide(
    pattern: PathPattern,
    form: CsvForm,
    time: Field,
    patterns: dict[str, str],
    levels: int,
    *,
    symbols: Mapping[str, str] | None,
    scratch_gb: float,
    kind: str,
    ts_unit: Literal["us"] | None = None,
    sequence: str | None = None,
) -> WideSource:
    wide = WideColumns.resolve(patterns, first=0, levels=levels)
    fields = [time, Field(name="symbol", kind="text", column="symbol")]
    if sequence is not None:
        fields.append(Field(name="sequence", kind="count", column=sequence))
    spec = FrameSpec(fields=(*fields, *wide.fields()), ts_unit=ts_unit)
    return WideSource(
        Frames(pattern, spec, form, scratch_gb),
        wide,
        has_symbol=True,
        has_sequence=sequence is not None,
        symbols=symbols or {},
        guard=None,
        others=(),
        last_of_time=True,
        kind=kind,
    )


def _check_levels(levels: int, most: int) -> None:
    if not 1 <= levels <= most:
        raise ConfigError(f"levels: {levels}: these files have 1 to {most}")
