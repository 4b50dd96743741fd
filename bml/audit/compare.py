"""One world held against the real one: whatever the dating table dates at or before the cut must be the same."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from bml.audit import dating
from bml.audit.dating import When
from bml.audit.fits import Fits
from bml.audit.replay import Known, Replay
from bml.audit.tally import Locate, Tally
from bml.dataset.dataset import Dataset
from bml.dataset.features import anchor_features, newest_book
from bml.dataset.loader import Batch, WindowLoader
from bml.dataset.windows import REASONS
from bml.types import NS_PER_DAY, SPLITS, Int64

#: the newest rows whose inputs are gathered at a cut, with as many of the future in the same batch, and the most memory
#: the windows of both may take
INPUT_ROWS, INPUT_BYTES = 24, 256 << 20

#: arrays of a day file with a row for each grid row
DAY_ROWS = ("book_TLF", "mid_T", "age_ms_T", "flag_T", "coverage_TL2", "feature_TK")

Pairs = tuple[Int64, Int64]


class Comparison:
    """Compares other worlds with the real one of ``replay``, into ``tally``."""

    def __init__(self, replay: Replay, tally: Tally) -> None:
        self._replay, self._tally = replay, tally
        self._real = replay.real
        self._fits = Fits(self._real.dataset, replay.cfg.train.params)

    def at(self, other: Known) -> None:
        """Compare all that is known at the other world's cut."""
        cut_ns = other.world.cut_ns
        assert cut_ns is not None
        if cut_ns >= self._replay.learned_ns:
            self._tally.compare("learned", "end of the learning span", cut_ns, self._real.learned, other.learned)
        self._days(other, cut_ns)
        pairs = self._pairs(other, cut_ns)
        self._rows(other, cut_ns)
        self._reasons(other, cut_ns)
        self._fields(other, cut_ns, pairs)
        self._inputs(other, cut_ns, pairs)
        self._fitted(other, cut_ns)

    def _days(self, other: Known, cut_ns: int) -> None:
        """Rows of day files up to the cut, and all of a day that is over; files built only once are not read again."""
        for name, built in self._real.store.built.items():
            again = other.store.built[name]
            if again is built:
                continue
            with built.open() as a, again.open() as b:
                grid_ns_T = a.grid_ns_T
                n = int(np.searchsorted(grid_ns_T, cut_ns, side="right"))
                locate = partial(_row_place, name[0], grid_ns_T)
                for key in DAY_ROWS if n else ():
                    values = getattr(a, key)[:n], getattr(b, key)[:n]
                    self._tally.compare(f"day.{key}", "grid row", cut_ns, *values, locate=locate)
                if (cut_ns + 1) // NS_PER_DAY > int(grid_ns_T[0]) // NS_PER_DAY:
                    midnight_ns = np.array([grid_ns_T[0] // NS_PER_DAY * NS_PER_DAY])
                    locate = partial(_row_place, name[0], np.broadcast_to(midnight_ns, built.data.shape))
                    self._tally.compare("day.file", When.DAY, cut_ns, built.data, again.data, locate=locate)

    def _keys(self, dataset: Dataset) -> Int64:
        """(N,) one number a row, the same in every world."""
        keys_N: Int64 = dataset.row_N * len(dataset.symbols) + dataset.index.target_N
        return keys_N

    def _pairs(self, other: Known, cut_ns: int) -> Pairs:
        """Rows of both with an anchor up to the cut, by anchor and target."""
        a, b = self._real.dataset, other.dataset
        _, at_a, at_b = np.intersect1d(self._keys(a), self._keys(b), assume_unique=True, return_indices=True)
        until = a.index.anchor_ns_N[at_a] <= cut_ns
        return at_a[until].astype(np.int64), at_b[until].astype(np.int64)

    def _rows(self, other: Known, cut_ns: int) -> None:
        """A row whose label is known exists in both worlds or in none."""
        sets = [self._keys(d)[d.index.label_stop_ns_N <= cut_ns] for d in (self._real.dataset, other.dataset)]
        keys_N = np.union1d(*sets)

        def locate(at: tuple[int, ...]) -> tuple[str, int | None]:
            row, target = divmod(int(keys_N[at[0]]), len(self._real.dataset.symbols))
            return self._real.dataset.symbols[target], int(self._real.dataset.grid.time_ns(np.asarray(row)))

        self._tally.compare(
            "index.rows", When.LABEL, cut_ns, np.isin(keys_N, sets[0]), np.isin(keys_N, sets[1]), locate
        )

    def _reasons(self, other: Known, cut_ns: int) -> None:
        """Why an anchor was dropped is known at the anchor, up to reasons that speak of its label.

        Reasons are tried in order and the first is kept, so where one of two worlds names a reason of the label, the
        other may keep the anchor or name a later reason, until the label is over.
        """
        is_label_K = dating.label_reasons(REASONS)
        grid, horizon_rows = self._real.dataset.grid, self._real.dataset.horizon_rows
        first = int(is_label_K.argmax()) if is_label_K.any() else len(REASONS)
        for symbol, (rows_N, all_N) in self._real.reasons.items():
            until = grid.time_ns(rows_N) <= cut_ns
            a_N, b_N = all_N[until], other.reasons[symbol][1][until]
            is_open_N = grid.time_ns(rows_N[until] + horizon_rows) > cut_ns
            is_of_label_N = (is_label_K[a_N] & (a_N >= 0)) | (is_label_K[b_N] & (b_N >= 0))
            may_N = np.all([(x_N < 0) | (x_N >= first) for x_N in (a_N, b_N)], axis=0)
            is_free_N = is_open_N & is_of_label_N & may_N
            a_N, b_N = (np.where(is_free_N, -1, x_N) for x_N in (a_N, b_N))
            locate = partial(_row_place, symbol, grid.time_ns(rows_N[until]))
            self._tally.compare("windows.reason_N", "anchor; of the label: its end", cut_ns, a_N, b_N, locate)

    def _fields(self, other: Known, cut_ns: int, pairs: Pairs) -> None:
        """Every field of the dataset by its date."""
        real, bounds_ns = self._real.dataset, self._real.dataset.fold.bounds_ns
        mine, its = (dating.dated(d, dating.DATASET, "dataset") for d in (real, other.dataset))
        stops = real.index.label_stop_ns_N[pairs[0]], other.dataset.index.label_stop_ns_N[pairs[1]]
        known = np.minimum(*stops) <= cut_ns
        labelled = pairs[0][known], pairs[1][known]
        n_days = int((cut_ns + 1) // NS_PER_DAY - bounds_ns[0][0] // NS_PER_DAY)
        for name, (when, value) in mine.items():
            again, locate = its[name][1], self._locate(name)
            if when in (When.ANCHOR, When.LABEL):
                at = pairs if when is When.ANCHOR else labelled
                by_row = partial(_shifted, locate, at[0])
                self._tally.compare(name, when, cut_ns, value[at[0]], again[at[1]], by_row)
            elif when is When.DAY:
                self._tally.compare(name, when, cut_ns, value[: max(n_days, 0)], again[: max(n_days, 0)], locate)
            elif when is When.BLOCK:
                over = [key for key in value if key not in SPLITS or cut_ns >= dating.block_end_ns(key, bounds_ns)]
                a, b = ({key: part.get(key) for key in over} for part in (value, again))
                self._tally.compare(name, when, cut_ns, a, b)
            elif dating.is_single(when) and cut_ns >= dating.end_ns(when, bounds_ns):
                self._tally.compare(name, when, cut_ns, value, again, locate)
        codes = _block_codes(real)[labelled[0]], _block_codes(other.dataset)[labelled[1]]
        by_row = partial(_shifted, self._locate("fold.block_N"), labelled[0])
        self._tally.compare("fold.block_N", When.LABEL, cut_ns, *codes, by_row)

    def _inputs(self, other: Known, cut_ns: int, pairs: Pairs) -> None:
        """What a model is given of the newest anchors."""
        real = self._real.dataset
        shape = real.shape
        size = 4 * shape["assets"] * shape["steps"] * (shape["levels"] * shape["fields"] + shape["features"])
        n = max(1, min(INPUT_ROWS, INPUT_BYTES // (2 * size)))
        some = pairs[0][-n:], pairs[1][-n:]
        if not some[0].shape[0]:
            return
        later = (np.flatnonzero(d.index.anchor_ns_N > cut_ns)[:n] for d in (real, other.dataset))
        a, b = (inputs(*each) for each in zip((real, other.dataset), some, later, strict=True))
        for name, value in a.items():
            by_row = partial(_shifted, self._locate("input_N"), some[0])
            self._tally.compare(name, When.ANCHOR, cut_ns, value, b[name], by_row)

    def _fitted(self, other: Known, cut_ns: int) -> None:
        """What is fitted on blocks that are over."""
        again = Fits(other.dataset, self._replay.cfg.train.params)
        for when in (When.TRAINING, When.EARLY_STOP, When.CALIBRATE):
            if cut_ns >= dating.end_ns(when, self._real.dataset.fold.bounds_ns):
                its = again.of(when)
                for name, value in self._fits.of(when).items():
                    self._tally.compare(name, when, cut_ns, value, its.get(name))

    def _locate(self, name: str) -> Locate:
        """Where an element of a field lies, by the letters its name ends in."""
        dataset, letters = self._real.dataset, name.rpartition("_")[2]

        def locate(at: tuple[int, ...]) -> tuple[str, int | None]:
            symbol, at_ns = "", None
            if letters.startswith("N"):
                symbol = dataset.symbols[dataset.index.target_N[at[0]]]
                at_ns = int(dataset.index.anchor_ns_N[at[0]])
            elif letters.startswith("D"):
                at_ns = dataset.fold.bounds_ns[0][0] + at[0] * NS_PER_DAY
            if "A" in letters and letters.isupper():
                symbol = dataset.symbols[at[letters.index("A")]]
            return symbol, at_ns

        return locate


def inputs(dataset: Dataset, some: Int64, later: Int64) -> dict[str, Any]:
    """All a model may be given of rows ``some``, by name: the loader's batch, the features of baselines.

    ``later`` rows are gathered with them and left out again: a row's inputs must not depend on its company.
    """
    n, rows = some.shape[0], np.concatenate([some, later])
    batch = WindowLoader(dataset, rows).batch(np.arange(rows.shape[0]))
    out = {
        f"batch.{name}": value.numpy()[:n]
        for name, (when, value) in dating.dated(batch, dating.BATCH, Batch.__name__).items()
        if when is When.ANCHOR
    }
    return out | {
        "features.anchor_features_NK": anchor_features(dataset, rows)[0][:n],
        "features.newest_book_NK": newest_book(dataset, rows)[0][:n],
    }


def _block_codes(dataset: Dataset) -> Any:
    """(N,) number of each row's block, -1 for none."""
    code_N = np.full(len(dataset), -1, dtype=np.int8)
    for k, name in enumerate(SPLITS):
        code_N[getattr(dataset.fold, name)] = k
    return code_N


def _shifted(locate: Locate, rows: Int64, at: tuple[int, ...]) -> tuple[str, int | None]:
    return locate((int(rows[at[0]]), *at[1:]))


def _row_place(symbol: str, anchor_ns_N: Int64, at: tuple[int, ...]) -> tuple[str, int | None]:
    return symbol, int(anchor_ns_N[at[0]])
