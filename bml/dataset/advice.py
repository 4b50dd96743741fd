"""What the classes of a dataset are like from month to month, before anything is trained on them.

Shares of a month say whether the edges hold; what they drift by is told beside what chance alone would make of it,
for labels overlap and a month has far fewer outcomes than rows. The test block is left out unless asked for: edges
chosen by a look at it are fitted to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bml.dataset.classes import VolatilityClasses
from bml.dataset.labels import assign
from bml.dataset.weights import average_uniqueness
from bml.types import SPLITS, Fold, GateError, Int64, SampleIndex

if TYPE_CHECKING:
    from bml.dataset.dataset import Dataset

#: numbers of equally frequent classes that are tried beside the configured ones
TRIED = (8, 12, 16)
#: a class with a smaller share of a symbol's training rows is dead
MIN_SHARE = 0.01
#: or with fewer training rows, overlap discounted
MIN_EFFECTIVE = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Shares:
    """Classes of some rows of one symbol. ``n_eff``: rows, overlap of their labels discounted.

    ``entropy`` in nats. ``two_tails``: the two outermost classes. ``psi``: sum of (p - q) log(p / q) against the
    training rows q, with half a row added to every class; ``psi_noise``: about what it would be by chance.
    ``zeros``: share of returns of exactly 0. ``shares`` and ``n_eff_by_class`` have an entry a class.
    """

    rows: int
    n_eff: float
    shares: tuple[float, ...]
    n_eff_by_class: tuple[float, ...]
    entropy: float
    smallest: float
    two_tails: float
    psi: float
    psi_noise: float
    zeros: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Month:
    """Of one month, "2024-03": ``blocks`` its rows are of. Rows of the test block are a month of their own."""

    month: str
    blocks: tuple[str, ...]
    of: Shares


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """``classes`` equally frequent in training, edges at multiples of the volatility: the worst of all months.

    ``refused`` says why there are no such classes; the numbers are NaN then.
    """

    classes: int
    smallest: float = np.nan
    n_eff_smallest: float = np.nan
    two_tails_off: float = np.nan
    psi: float = np.nan
    refused: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dead:
    """A class that has next to no training row of its symbol."""

    name: str
    share: float
    n_eff: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SymbolAdvice:
    """One target; ``left_out``: its rows of the test block, where they were not looked at."""

    train: Shares
    months: tuple[Month, ...]
    tried: tuple[Tried, ...]
    dead: tuple[Dead, ...]
    left_out: int

    @property
    def two_tails_off(self) -> float:
        """Largest distance of a month's two tails from those of training."""
        return max(abs(month.of.two_tails - self.train.two_tails) for month in self.months)

    @property
    def smallest(self) -> float:
        """Smallest share of a class in a month."""
        return min(month.of.smallest for month in self.months)


@dataclass(frozen=True, kw_only=True, slots=True)
class Advice:
    """Of every target by its symbol. ``includes_test``: the test block was looked at."""

    class_names: tuple[str, ...]
    symbols: Mapping[str, SymbolAdvice]
    includes_test: bool

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        symbols = {
            symbol: {"smallest": one.smallest, "two_tails_off": one.two_tails_off, **asdict(one)}
            for symbol, one in self.symbols.items()
        }
        return {"classes": list(self.class_names), "test_included": self.includes_test, "symbols": symbols}

    def refusal(self) -> str:
        """The dead classes in words, "" if there is none."""
        told = [
            f"{symbol}: {', '.join(f'{one.name!r} {one.share:.2%} (n_eff {one.n_eff:.1f})' for one in advice.dead)}"
            for symbol, advice in self.symbols.items()
            if advice.dead
        ]
        return "; ".join(told)


def advise(
    index: SampleIndex,
    fold: Fold,
    symbols: Sequence[str],
    class_names: Sequence[str],
    *,
    include_test: bool = False,
    tried: Sequence[int] = TRIED,
    min_share: float = MIN_SHARE,
    min_effective: float = MIN_EFFECTIVE,
) -> Advice:
    """Advice on the classes ``index.y_N``; ``symbols`` by the codes of ``index.target_N``.

    A class is dead where a symbol's training rows have a share of it below ``min_share``, or fewer than
    ``min_effective`` of them, overlap discounted. ``tried``: numbers of classes to try on the same returns. Raises
    GateError for a symbol without a training row. O(N log N).
    """
    out: dict[str, SymbolAdvice] = {}
    for code in np.unique(index.target_N):
        blocks = {name: _of(index, getattr(fold, name), code) for name in SPLITS}
        if not blocks["train"].shape[0]:
            raise GateError(f"{symbols[code]}: no sample in the training block, so nothing can be said of its classes; "
                            "leave it out of targets or take more days")  # fmt: skip
        seen = {name: rows for name, rows in blocks.items() if include_test or name != "test"}
        counted = _Counted(index, len(class_names), blocks["train"], index.y_N[blocks["train"]])
        parts = _months(index, seen)
        out[symbols[code]] = SymbolAdvice(
            train=counted.train,
            months=tuple(
                Month(month=month, blocks=names, of=counted.shares(rows, index.y_N[rows]))
                for month, names, rows in parts
            ),
            tried=tuple(_try(index, n, blocks["train"], [rows for *_, rows in parts]) for n in tried),
            dead=_dead(counted.train, class_names, min_share, min_effective),
            left_out=0 if include_test else int(blocks["test"].shape[0]),
        )
    return Advice(class_names=tuple(class_names), symbols=out, includes_test=include_test)


def advise_on(dataset: Dataset, **options: Any) -> Advice:
    """:func:`advise` on a dataset; of triple barriers no other classes are tried, their labels end where they touch.

    Raises GateError for a target without a sample, too.
    """
    for symbol in dataset.targets:
        if not (dataset.index.target_N == dataset.symbols.index(symbol)).any():
            reasons = dataset.drop_reasons[symbol].items()
            raise GateError(f"{symbol}: no usable window, dropped anchors: "
                            f"{', '.join(f'{reason} {count}' for reason, count in reasons if count)}; leave it out of "
                            "targets or take more days")  # fmt: skip
    if dataset.outcomes is not None:
        options["tried"] = ()
    return advise(dataset.index, dataset.fold, dataset.symbols, dataset.class_names, **options)


def require_live(advice: Advice) -> None:
    """GateError if a class is dead."""
    if told := advice.refusal():
        raise GateError(f"dead classes, with next to no training row: {told}; take other edges, fewer classes or more "
                        "days (bml classes shows what others would give), or set classes.allow_dead: true")  # fmt: skip


def _of(index: SampleIndex, rows: Int64, code: int) -> Int64:
    mine: Int64 = rows[index.target_N[rows] == code]
    return mine


def _dead(train: Shares, class_names: Sequence[str], min_share: float, min_effective: float) -> tuple[Dead, ...]:
    every = zip(class_names, train.shares, train.n_eff_by_class, strict=True)
    return tuple(
        Dead(name=name, share=share, n_eff=n_eff)
        for name, share, n_eff in every
        if share < min_share or n_eff < min_effective
    )


def _months(index: SampleIndex, blocks: Mapping[str, Int64]) -> list[tuple[str, tuple[str, ...], Int64]]:
    """(month, blocks, rows) in the order of time."""
    out = []
    for names in (tuple(name for name in blocks if name != "test"), tuple(name for name in blocks if name == "test")):
        rows = np.concatenate([blocks[name] for name in names]) if names else np.empty(0, dtype=np.int64)
        month_N = index.anchor_ns_N[rows].astype("datetime64[ns]").astype("datetime64[M]")
        for month in np.unique(month_N):
            mine = rows[month_N == month]
            out.append((str(month), tuple(name for name in names if np.isin(blocks[name], mine).any()), np.sort(mine)))
    return out


class _Counted:
    """Shares of classes beside those of the training rows."""

    def __init__(self, index: SampleIndex, classes: int, train: Int64, y_train: Int64) -> None:
        self._index, self._classes = index, classes
        self._count_C = np.bincount(y_train, minlength=classes)
        self._n_eff = float(_unique(index, train).sum())
        self.train = self.shares(train, y_train)

    def shares(self, rows: Int64, y_R: Int64) -> Shares:
        """Of ``rows``, whose classes are ``y_R``."""
        count_C = np.bincount(y_R, minlength=self._classes)
        share_C = count_C / count_C.sum()
        weight_R = _unique(self._index, rows)
        by_class_C = np.bincount(y_R, weights=weight_R, minlength=self._classes)
        p_C, q_C = (_smoothed(counts_C) for counts_C in (count_C, self._count_C))
        some_C = share_C[share_C > 0]
        return Shares(
            rows=int(rows.shape[0]),
            n_eff=float(weight_R.sum()),
            shares=tuple(share_C.tolist()),
            n_eff_by_class=tuple(by_class_C.tolist()),
            entropy=float(-(some_C * np.log(some_C)).sum()),
            smallest=float(share_C.min()),
            two_tails=float(share_C[0] + share_C[-1]),
            psi=float(((p_C - q_C) * np.log(p_C / q_C)).sum()),
            psi_noise=(self._classes - 1) * (1.0 / float(weight_R.sum()) + 1.0 / self._n_eff),
            zeros=float(np.mean(self._index.return_N[rows] == 0)),
        )


def _smoothed(count_C: Int64) -> Any:
    return (count_C + 0.5) / (count_C + 0.5).sum()


def _unique(index: SampleIndex, rows: Int64) -> Any:
    return average_uniqueness(index.anchor_ns_N[rows], index.label_stop_ns_N[rows])


def _try(index: SampleIndex, classes: int, train: Int64, parts: Sequence[Int64]) -> Tried:
    """Equally frequent classes of one symbol: fitted to its rows ``train``, counted in each of ``parts``."""
    scheme = VolatilityClasses(shares=(1.0 / classes,) * classes)
    try:
        scheme = scheme.fitted({"": (index.return_N[train], index.sigma_N[train])})
    except GateError as error:
        return Tried(classes=classes, refused=str(error).removeprefix("classes: ").removeprefix(": "))

    def y(rows: Int64) -> Int64:
        return assign(index.return_N[rows], scheme.edges("", index.sigma_N[rows]))

    counted = _Counted(index, classes, train, y(train))
    found = [counted.shares(rows, y(rows)) for rows in parts]
    return Tried(
        classes=classes,
        smallest=min(one.smallest for one in found),
        n_eff_smallest=min(min(one.n_eff_by_class) for one in found),
        two_tails_off=max(abs(one.two_tails - counted.train.two_tails) for one in found),
        psi=max(one.psi for one in found),
    )
