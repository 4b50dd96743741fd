"""What the columns of a tall table mean: logical names of each layout, mapped to the names in a table or file."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from bml.types import ConfigError

Layout = Literal["paired", "sided", "price_pair"]
TsUnit = Literal["s", "ms", "us", "ns"]

#: the numbers of a row, in the order of the arrays they become
NUMBERS: dict[str, tuple[str, ...]] = {
    "paired": ("bid_px", "bid_qty", "ask_px", "ask_qty"),
    "sided": ("px", "qty"),
    "price_pair": ("px", "bid_qty", "ask_qty"),
}
_KEYS: dict[str, tuple[str, ...]] = {"paired": ("level",), "sided": ("side", "level"), "price_pair": ()}
_OPTIONAL = ("batch", "sequence")
NS_PER_UNIT: dict[str, int] = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Name in the table of each logical column; None where there is no such column.

    ``level`` None in the layout "sided" means price-keyed rows: levels are ranked by price.
    """

    layout: Layout
    ts: str
    symbol: str | None
    level: str | None
    side: str | None
    numbers: tuple[str, ...]
    batch: str | None
    sequence: str | None

    @property
    def number_names(self) -> tuple[str, ...]:
        """The logical names of ``numbers``."""
        return NUMBERS[self.layout]


def resolve_columns(layout: Layout, columns: Mapping[str, str | None] | None) -> Columns:
    """Fill in defaults (the logical name itself; none for batch and sequence) and refuse what makes no sense."""
    if layout not in NUMBERS:
        raise ConfigError(f"layout: {layout!r} is none of {', '.join(NUMBERS)}")
    keys = _KEYS[layout]
    known = ("ts", "symbol", *keys, *NUMBERS[layout], *_OPTIONAL)
    given = dict(columns or {})
    for name in given:
        if name not in known:
            raise ConfigError(f"columns.{name}: unknown in layout {layout!r}{did_you_mean(name, known)}")
    names: dict[str, str | None] = {name: None if name in _OPTIONAL else name for name in known}
    names.update(given)
    may_miss = {"symbol", *_OPTIONAL} | ({"level"} if layout == "sided" else set())
    for name, column in names.items():
        if not column and name not in may_miss:
            raise ConfigError(f"columns.{name}: layout {layout!r} needs this column")
    _refuse_twice(names)
    return Columns(
        layout=layout,
        ts=str(names["ts"]),
        symbol=names["symbol"] or None,
        level=names.get("level") or None,
        side=names.get("side") or None,
        numbers=tuple(str(names[name]) for name in NUMBERS[layout]),
        batch=names["batch"] or None,
        sequence=names["sequence"] or None,
    )


def _refuse_twice(names: Mapping[str, str | None]) -> None:
    seen: dict[str, str] = {}
    for name, column in names.items():
        if column and column in seen:
            raise ConfigError(f"columns.{name}: column {column!r} already serves as {seen[column]!r}")
        if column:
            seen[column] = name


@dataclass(frozen=True, kw_only=True, slots=True)
class SideValues:
    """What the side column holds for a bid and for an ask; both of one type."""

    bid: str | int | bool
    ask: str | int | bool


def resolve_sides(values: Mapping[str, str | int | bool] | None) -> SideValues:
    """The default is "bid" and "ask"."""
    if values is None:
        return SideValues(bid="bid", ask="ask")
    if set(values) != {"bid", "ask"}:
        raise ConfigError("side_values: exactly the keys bid and ask are needed, e.g. {bid: B, ask: A}")
    bid, ask = values["bid"], values["ask"]
    if type(bid) is not type(ask) or not isinstance(bid, str | int):
        raise ConfigError(f"side_values: bid {bid!r} and ask {ask!r} must both be texts, integers or booleans")
    if bid == ask:
        raise ConfigError(f"side_values: bid and ask are both {bid!r}")
    return SideValues(bid=bid, ask=ask)


def check_numbers(*, first_level: int, depth: int | None) -> None:
    """Refuse a first level other than 0 or 1 and a depth below 1."""
    if first_level not in (0, 1):
        raise ConfigError(f"first_level: {first_level}: the best level is numbered 0 or 1")
    if depth is not None and depth < 1:
        raise ConfigError(f"depth: {depth}: at least 1, or leave it out for all levels")


class OneSymbol:
    """Guards a table without a symbol column: all its rows belong to one symbol, so only one may be read."""

    def __init__(self, what: str, symbols: Iterable[str] = ()) -> None:
        self._what = what
        self._symbol: str | None = None
        for symbol in symbols:
            self.check(symbol)

    def check(self, symbol: str) -> None:
        """ConfigError when ``symbol`` is not the one that came first."""
        if self._symbol is None:
            self._symbol = symbol
        elif symbol != self._symbol:
            raise ConfigError(
                f"{self._what} has no symbol column, so its rows cannot be both {self._symbol} and {symbol}: "
                "name the column in columns.symbol, or configure one symbol"
            )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint to append to a message: the closest known name, or all of them (at most 20)."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    more = ", ..." if len(names) > 20 else ""
    return f"; there are: {', '.join(names[:20])}{more}" if names else "; there are none"
