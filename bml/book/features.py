"""Window features: numbers computed from the raw books of the last few rows, by functions of ours or of the user.

A feature is a function under ``@bml.window_feature`` (see :mod:`bml.kernels.jit`); this module has some, with their
definitions, and the preprocessing step that keeps the features of a day beside its book.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from bml.book.report import iso
from bml.kernels.jit import WindowFeature, window_feature
from bml.registry import missing_extra, resolve, step
from bml.types import (
    ASK_PX,
    ASK_QTY,
    BID_PX,
    BID_QTY,
    AlignedDay,
    ConfigError,
    DataError,
    DayContext,
    Float32,
    Float64,
)

BPS = 1e4


@window_feature(rows=2)
def order_flow_imbalance(book_WLF: Float64, mid_W: Float64, *, levels: int = 1) -> float:
    """Order-flow imbalance over the window, in base units: above 0 where demand grew more than supply.

    Of two consecutive rows and one level, with bid price P and quantity q, ask price A and quantity r, ' the earlier:

        e = [P >= P'] q - [P <= P'] q' - [A <= A'] r + [A >= A'] r'

    The feature is the sum of e over the first ``levels`` levels and over all pairs of consecutive rows of the window
    (one pair with 2 rows). A side of a level that is absent counts as quantity 0 at a price worse than any. Between
    two rows of a grid only the net change of the book is seen, not each event. A FILLED row repeats the one before,
    so it adds 0, and the next fresh row adds the whole change.
    Source: Cont, Kukanov and Stoikov (2014), J. Financial Econometrics 12(1), 47-88, section 2; the sum over levels
    follows Xu, Gould and Howison (2018), Market Microstructure and Liquidity 4(3-4), who keep them apart.
    """
    total = 0.0
    for w in range(1, len(book_WLF)):
        for level in range(min(levels, book_WLF.shape[1])):
            bid_px, bid_was = book_WLF[w, level, BID_PX], book_WLF[w - 1, level, BID_PX]
            ask_px, ask_was = book_WLF[w, level, ASK_PX], book_WLF[w - 1, level, ASK_PX]
            if bid_px >= bid_was or (np.isnan(bid_was) and not np.isnan(bid_px)):
                total += book_WLF[w, level, BID_QTY]
            if bid_px <= bid_was or (np.isnan(bid_px) and not np.isnan(bid_was)):
                total -= book_WLF[w - 1, level, BID_QTY]
            if ask_px <= ask_was or (np.isnan(ask_was) and not np.isnan(ask_px)):
                total -= book_WLF[w, level, ASK_QTY]
            if ask_px >= ask_was or (np.isnan(ask_px) and not np.isnan(ask_was)):
                total += book_WLF[w - 1, level, ASK_QTY]
    return total


@window_feature(rows=1)
def microprice_bps(book_WLF: Float64, mid_W: Float64) -> float:
    """The quantity-weighted mid of the best level less the mid, in bps of the mid.

    (P r + A q) / (q + r) - (P + A) / 2 with bid P, q and ask A, r, which equals (A - P) / 2 * (q - r) / (q + r) and
    is computed so: no digits cancel. NaN where both quantities are 0. This is the weighted mid that Stoikov's
    micro-price starts from, not his fitted adjustment of it.
    Source: Stoikov (2018), Quantitative Finance 18(12), 1959-1966.
    """
    bid_qty, ask_qty = book_WLF[-1, 0, BID_QTY], book_WLF[-1, 0, ASK_QTY]
    both = bid_qty + ask_qty
    if not both > 0.0:
        return np.nan
    half_spread = 0.5 * (book_WLF[-1, 0, ASK_PX] - book_WLF[-1, 0, BID_PX])
    bps: float = half_spread / mid_W[-1] * BPS * ((bid_qty - ask_qty) / both)
    return bps


@window_feature(rows=1)
def depth_imbalance(book_WLF: Float64, mid_W: Float64, *, levels: int = 5) -> float:
    """(bid - ask) / (bid + ask) of the quantity of the first ``levels`` levels, from -1 to 1.

    Absent levels count as none; NaN where both sums are 0.
    Source: the queue imbalance of Gould and Bonart (2016), Market Microstructure and Liquidity 2(2), over levels.
    """
    bid, ask = 0.0, 0.0
    for level in range(min(levels, book_WLF.shape[1])):
        if not np.isnan(book_WLF[-1, level, BID_QTY]):
            bid += book_WLF[-1, level, BID_QTY]
        if not np.isnan(book_WLF[-1, level, ASK_QTY]):
            ask += book_WLF[-1, level, ASK_QTY]
    if not bid + ask > 0.0:
        return np.nan
    return (bid - ask) / (bid + ask)


@window_feature(rows=1, names=("bid", "ask"))
def book_slope(book_WLF: Float64, mid_W: Float64, *, levels: int = 10) -> tuple[float, float]:
    """How fast quantity grows with the distance from the mid, base units per bps, of each side: (bid, ask).

    With d the distance of a level's price from the mid in bps and Q the quantity up to and with that level, the
    slope of the least-squares line through the origin, sum(d Q) / sum(d d), over the present ones of the first
    ``levels`` levels. NaN where none is present or all lie at the mid.
    Source: one of many measures called so; compare Naes and Skjeltorp (2006), J. Financial Markets 9(4), 408-432.
    """
    bid_dq, bid_dd, bid = 0.0, 0.0, 0.0
    ask_dq, ask_dd, ask = 0.0, 0.0, 0.0
    for level in range(min(levels, book_WLF.shape[1])):
        distance = (1.0 - book_WLF[-1, level, BID_PX] / mid_W[-1]) * BPS
        if not np.isnan(distance):
            bid += book_WLF[-1, level, BID_QTY]
            bid_dq += distance * bid
            bid_dd += distance * distance
        distance = (book_WLF[-1, level, ASK_PX] / mid_W[-1] - 1.0) * BPS
        if not np.isnan(distance):
            ask += book_WLF[-1, level, ASK_QTY]
            ask_dq += distance * ask
            ask_dd += distance * distance
    bid_slope = bid_dq / bid_dd if bid_dd > 0.0 else np.nan
    ask_slope = ask_dq / ask_dd if ask_dd > 0.0 else np.nan
    return bid_slope, ask_slope


class Entry(BaseModel):
    """One feature as a configuration names it: ``{fn: NAME, rows: 31, with: {levels: 5}}``, or NAME alone.

    ``code`` is filled in: it says which code the name stood for, so that days built by other code are other days.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    fn: str
    rows: Annotated[int, Field(ge=1)] | None = None
    params: dict[str, bool | int | float] = Field(default_factory=dict, alias="with")
    code: str | None = None

    def function(self) -> WindowFeature:
        """The feature itself. Raises ConfigError when no feature has this name."""
        found = resolve(self.fn, "feature")
        assert isinstance(found, WindowFeature)  # nothing else is marked as one
        return found

    @property
    def names(self) -> list[str]:
        """What its values are called: the name, with what was set, and after a dot which of several values it is."""
        given = ({} if self.rows is None else {"rows": self.rows}) | self.params
        label = self.fn + (f"({', '.join(f'{key}={value}' for key, value in given.items())})" if given else "")
        several = self.function().names
        return [label] if several is None else [f"{label}.{name}" for name in several]


def _spelt_out(entry: object) -> object:
    return {"fn": entry} if isinstance(entry, str) else entry


def _resolved(entry: Entry) -> Entry:
    try:
        feature = entry.function()
        feature.arguments(entry.params)
    except (ConfigError, TypeError) as error:
        raise ValueError(str(error)) from error
    if entry.code not in (None, feature.code):
        raise ValueError(f"{entry.fn} is {feature.code} now, not {entry.code}: leave out `code` to take it as it is")
    return entry.model_copy(update={"code": feature.code})


def _distinct(entries: list[Entry]) -> list[Entry]:
    twice = [name for name, count in Counter(name for entry in entries for name in entry.names).items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]} is named twice")
    return entries


_ENTRY_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {
                "fn": {"type": "string"},
                "rows": {"type": ["integer", "null"], "minimum": 1},
                "with": {"type": "object"},
                "code": {"type": ["string", "null"]},
            },
            "required": ["fn"],
            "additionalProperties": False,
        },
    ]
}

Named = Annotated[Entry, BeforeValidator(_spelt_out), AfterValidator(_resolved), WithJsonSchema(_ENTRY_SCHEMA)]


@step()
def window(
    day: AlignedDay,
    ctx: DayContext,
    *,
    features: Annotated[list[Named], Field(min_length=1), AfterValidator(_distinct)],
) -> AlignedDay:
    """Compute the features named and keep them in the day, float32 (T, K), in their order.

    They are computed from the raw book on the grid, so this step stands between book.align.to_grid and
    book.depth.adaptive. A row may use the ``rows`` - 1 rows of the same day before it:

    GAP, ABSENT   a window that touches one is NaN: the book is not known there
    FILLED        counts as the book it carries forward, which is what was known then; a change over it is 0
    midnight      the first rows - 1 rows of every day are NaN: a day file depends on its day alone

    Raises ConfigError (a feature that does not compile or fails), DataError (not raw, an infinite value). Cost: that
    of the features; they are compiled once (see :mod:`bml.kernels.jit`).
    """
    del ctx
    if day.units != "raw" or day.edges_L1 is not None:
        raise DataError(
            f"{day.symbol} {day.day}: book.features.window needs raw levels: put it between book.align.to_grid and "
            "book.depth.adaptive"
        )
    if day.feature_names:
        raise DataError(f"{day.symbol} {day.day}: has its features already: name them all in one book.features.window")
    columns = [_values(day, entry) for entry in features]
    names = tuple(name for entry in features for name in entry.names)
    return replace(day, feature_TK=_narrowed(day, np.concatenate(columns, axis=1), names), feature_names=names)


def entries(*given: str | dict[str, Any]) -> list[Entry]:
    """``given`` as the step takes them: each a name, or what YAML would hold. Raises pydantic's ValidationError."""
    return [_resolved(Entry.model_validate(_spelt_out(one))) for one in given]


def _values(day: AlignedDay, entry: Entry) -> Float64:
    try:
        params: dict[str, Any] = entry.params
        values = entry.function()(day.book_TLF, day.mid_T, rows=entry.rows, **params)
    except ImportError as error:
        raise missing_extra("numba", "book.features.window") from error
    except (TypeError, ValueError, IndexError) as error:
        raise ConfigError(f"{entry.fn}: {error}") from error
    return values.reshape(len(values), len(entry.names))


def _narrowed(day: AlignedDay, value_TK: Float64, names: Sequence[str]) -> Float32:
    with np.errstate(over="ignore"):
        out_TK = value_TK.astype(np.float32)
    bad = np.argwhere(np.isinf(out_TK))
    if len(bad):
        t, k = bad[0].tolist()
        raise DataError(
            f"{day.symbol} {iso(int(day.grid_ns_T[t]))}: {names[k]} is {value_TK[t, k]:g}, which float32 does not hold "
            f"({len(bad) - 1} more like it): where it is not known a feature returns NaN"
        )
    return out_TK
