"""Files that hold something else than an order book, told by their columns: what they are and what to use instead."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_SNAPSHOTS = "use snapshots of levels (a recorder's tall table, Tardis book_snapshot_25, Crypto Lake book)"


@dataclass(frozen=True, slots=True)
class NoBook:
    """A kind of file: columns that give it away, what it is, and what to use."""

    columns: frozenset[str]
    what: str
    instead: str

    def __str__(self) -> str:
        return f"holds {self.what}, no order book: {self.instead}"


def _kind(columns: str, what: str, instead: str = _SNAPSHOTS) -> NoBook:
    return NoBook(frozenset(columns.split()), what, instead)


#: whatever columns are mapped to, these rows are no levels
NEVER = (
    _kind(
        "timestamp percentage depth notional",
        "the exchange's bookDepth: quantity summed within percentages of the price, every half minute",
    ),
    _kind(
        "timestamp local_timestamp is_snapshot side price amount",
        "changes of a book (Tardis incremental_book_L2), each the new amount of one price",
        "use Tardis book_snapshot_25, or rebuild snapshots from the changes first",
    ),
    _kind(
        "sequence_number side_is_bid price size",
        "changes of a book (Crypto Lake book_delta_v2), each the new size of one price",
        "use Crypto Lake book, or rebuild snapshots from the changes first",
    ),
    _kind(
        "FirstUpdateId FinalUpdateId IsAsk Price Quantity",
        "changes of a book (a difference depth stream), each the new quantity of one price",
        "rebuild snapshots from a snapshot and the changes first",
    ),
    _kind("timestamp local_timestamp id side price amount", "trades"),
    _kind("price qty is_buyer_maker", "trades"),
    _kind("price quantity is_buyer_maker", "trades"),
    _kind("agg_trade_id price quantity", "aggregated trades"),
    _kind("TradeId Price Quantity", "trades"),
)
#: told when a column that is needed is not there
INSTEAD = (
    _kind("best_bid_price best_bid_qty best_ask_price best_ask_qty", "a top-of-book ticker: one level, no depth"),
    _kind("ask_amount ask_price bid_price bid_amount", "a top-of-book ticker: one level, no depth"),
    _kind("first_update_id last_update_id side update_type price qty", "snapshots and changes of a book, mixed",
          "rebuild snapshots from them first"),
    _kind("open high low close", "candles (klines)"),
)  # fmt: skip


def never(columns: Iterable[str]) -> NoBook | None:
    """What the file is, when no mapping can make a book of it."""
    return _found(NEVER, columns)


def instead(columns: Iterable[str]) -> NoBook | None:
    """What the file is, when it has not the columns that are asked for."""
    names = list(columns)
    if len(names) >= 3 and sum(_is_number(name) for name in names) > len(names) // 2:
        return NoBook(
            frozenset(),
            "numbers where the names of columns are expected",
            "such files are read by sources.files.wide_rows with header: [names], if they are a book",
        )
    return _found(INSTEAD, names)


def _found(kinds: Iterable[NoBook], columns: Iterable[str]) -> NoBook | None:
    names = set(columns)
    return next((kind for kind in kinds if kind.columns <= names), None)


def _is_number(text: str) -> bool:
    try:
        float(text.removesuffix("_duplicated_0"))
    except ValueError:
        return False
    return True
