"""The dataset: an index of windows over day files, never the windows themselves, with all a model may know of them."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from contextlib import closing
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
import numpy.typing as npt

from bml.book.hdf5 import pack
from bml.book.publish import publish
from bml.book.store import DayStore
from bml.dataset.calendar import CalendarScale
from bml.dataset.context import Scaler
from bml.dataset.describe import by_regime
from bml.dataset.labels import MoreLabels, Outcomes
from bml.dataset.series import Grid
from bml.types import FIELDS, SPLITS, Float32, Float64, Fold, Int64, SampleIndex, StoreError

SCHEMA = "bml.dataset/4"


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Samples of ``book_windows``; all arrays are in the order of ``index`` (anchor, then target).

    ``index.target_N`` is a place in ``symbols``. ``present_NA`` says which symbols are whole over the window.
    ``moments_DAS`` (NaN where undefined) has one row per day of the data; sample n may see only the days before
    the day of its anchor. ``vol_N`` is the volatility over the horizon blended from half-lives of 3 h and 24 h;
    ``last_y_N`` the class of the return over (anchor - horizon, anchor] under the edges of the anchor, -1 if
    unknown. ``drop_reasons`` counts dropped anchors per target, ``class_shares`` and ``n_eff`` (effective number
    of samples, see :func:`bml.dataset.weights.average_uniqueness`) are per block. ``notes`` are warnings in words.
    ``labelling`` says of each horizon, first the one trained on, what its labels and classes are, with the numbers
    that were fitted to training rows; ``more`` are the labels over the other horizons, ``outcomes`` how those of
    triple barriers ended (None: there are none).
    ``store_digest`` is the digest of the day files it was built from. ``feature_names`` are those of their window
    features, if there are any. ``lookbacks`` say in ns how far before an anchor what is known there may reach, see
    :func:`bml.dataset.conditions.lookbacks`; ``regime_N`` is a place in ``regime_names``, -1 where unknown, and
    ``regime_model`` what was fitted on training days to tell it.
    """

    symbols: tuple[str, ...]
    targets: tuple[str, ...]
    reference: str
    grid: Grid
    window_rows: int
    horizon_rows: int
    context_days: int
    levels: int
    index: SampleIndex
    fold: Fold
    class_names: tuple[str, ...]
    scaler: Scaler
    calendar: CalendarScale
    x_time_NK: Float32
    time_names: tuple[str, ...]
    present_NA: npt.NDArray[np.bool_]
    moments_DAS: Float64
    moments_present_DA: npt.NDArray[np.bool_]
    moment_names: tuple[str, ...]
    vol_N: Float64
    last_y_N: Int64
    drop_reasons: dict[str, dict[str, int]]
    class_shares: dict[str, list[float]]
    n_eff: dict[str, float]
    notes: tuple[str, ...]
    store_digest: str
    store: DayStore
    lookbacks: dict[str, int]
    regime_N: Int64
    regime_names: tuple[str, ...]
    regime_model: dict[str, Any]
    more: MoreLabels
    outcomes: Outcomes | None
    labelling: tuple[dict[str, Any], ...]
    feature_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def row_N(self) -> Int64:
        """Grid row of each anchor."""
        return self.grid.row(self.index.anchor_ns_N)

    @property
    def shape(self) -> dict[str, int]:
        """Sizes of a batch, as the keyword arguments of ``bml.models.base.InputShape``."""
        return {
            "assets": len(self.symbols),
            "steps": self.window_rows,
            "levels": self.levels,
            "fields": len(FIELDS),
            "days": self.context_days,
            "stats": len(self.moment_names),
            "calendar": len(self.time_names),
            "classes": len(self.class_names),
            "features": len(self.feature_names),
        }

    @cached_property
    def digest(self) -> str:
        """sha256 of everything but the store's place: equal datasets have equal digests."""
        arrays, document = _pack(self)
        sha = hashlib.sha256(json.dumps(document, sort_keys=True).encode())
        for name in sorted(arrays):
            array = np.ascontiguousarray(arrays[name])
            sha.update(f"{name} {array.dtype.str} {array.shape}".encode())
            sha.update(array.tobytes())
        return sha.hexdigest()

    def series(self, symbol: str) -> tuple[Float64, npt.NDArray[np.uint16]]:
        """Mid and flags of one symbol on the whole grid, (T,) each; NaN and 0 on days without a file.

        Reads the day files again: O(T), nothing is kept.
        """
        per_day = self.grid.rows_per_day
        mid_T = np.full(self.grid.n_rows, np.nan)
        flag_T = np.zeros(self.grid.n_rows, dtype=np.uint16)
        for number in range(self.grid.n_days):
            day = self.grid.day(number)
            if self.store.path(symbol, day).exists():
                with closing(self.store.open(symbol, day)) as file:
                    mid_T[number * per_day : (number + 1) * per_day] = file.mid_T
                    flag_T[number * per_day : (number + 1) * per_day] = file.flag_T
        return mid_T, flag_T

    def summary(self) -> dict[str, Any]:
        """What people and logs want to know of it, JSON-able."""
        return {
            "digest": self.digest,
            "store_digest": self.store_digest,
            "symbols": list(self.symbols),
            "targets": list(self.targets),
            "classes": list(self.class_names),
            "labelling": list(self.labelling),
            "rows": {name: int(getattr(self.fold, name).shape[0]) for name in SPLITS},
            "n_eff": self.n_eff,
            "n_purged": self.fold.n_purged,
            "dropped": self.drop_reasons,
            "class_shares": self.class_shares,
            "lookbacks": self.lookbacks,
            "regimes": by_regime(self.index, self.fold, self.regime_N, self.regime_names, len(self.class_names)),
            "shape": self.shape,
            "notes": list(self.notes),
        }

    def save(self, path: Path) -> Path:
        """Write one HDF5 file, whole or not at all; equal datasets give equal bytes. Raises StoreError."""
        arrays, document = _pack(self)
        text = np.frombuffer(json.dumps(document, sort_keys=True).encode(), dtype=np.uint8)
        publish(path, pack({**arrays, "document": text}, {"schema": SCHEMA, "digest": self.digest}))
        return path

    @classmethod
    def load(cls, path: Path, store: DayStore) -> Dataset:
        """Read what ``save`` wrote. Raises StoreError if it is missing, foreign, truncated or altered.

        Also for a store of another digest: its days may have the same shape and other books.
        """
        try:
            with h5py.File(path, "r") as file:
                schema, expected = (bytes(file.attrs.get(key, b"")).decode() for key in ("schema", "digest"))
                if schema != SCHEMA:
                    raise StoreError(f"{path}: its schema is {schema!r}, not {SCHEMA!r}; build it again")
                document = json.loads(bytes(file["document"][()]))
                arrays = {name: file[name][()] for name in file if name != "document"}
        except FileNotFoundError:
            raise StoreError(f"{path}: no such dataset; run the train stage") from None
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise StoreError(f"{path}: damaged dataset ({error}); build it again") from error
        dataset = _unpack(arrays, document, store)
        if dataset.digest != expected:
            raise StoreError(f"{path}: its content does not fit its digest; build it again")
        if dataset.store_digest != store.digest:
            raise StoreError(f"{path}: was built from other day files; run bml train")
        return dataset


_NESTED = {"index": SampleIndex, "fold": Fold, "scaler": Scaler, "calendar": CalendarScale, "grid": Grid,
           "more": MoreLabels, "outcomes": Outcomes}  # fmt: skip


def _pack(dataset: Dataset) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """All arrays by name ("index.y_N") and all else as one JSON document."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    document: dict[str, Any] = {}
    for item in fields(dataset):
        value = getattr(dataset, item.name)
        if item.name == "store" or value is None or (item.name == "feature_names" and not value):
            continue
        parts = {f"{item.name}.{f.name}": getattr(value, f.name) for f in fields(value)} \
            if item.name in _NESTED else {item.name: value}  # fmt: skip
        for name, part in parts.items():
            if isinstance(part, np.ndarray):
                arrays[name] = part
            elif part is not None:
                document[name] = str(part) if isinstance(part, dt.date) else part
    return arrays, cast(dict[str, Any], json.loads(json.dumps(document)))


def _unpack(arrays: dict[str, npt.NDArray[Any]], document: dict[str, Any], store: DayStore) -> Dataset:
    flat: dict[str, Any] = document | arrays
    flat["grid.first"] = dt.date.fromisoformat(flat["grid.first"])
    flat["fold.bounds_ns"] = tuple((low, high) for low, high in flat["fold.bounds_ns"])
    for name in ("symbols", "targets", "class_names", "time_names", "moment_names", "notes", "feature_names",
                 "labelling", "regime_names"):  # fmt: skip
        flat[name] = tuple(flat.get(name, ()))
    given: dict[str, Any] = {name: value for name, value in flat.items() if "." not in name}
    for outer, kind in _NESTED.items():
        parts = {f.name: flat[key] for f in fields(kind) if (key := f"{outer}.{f.name}") in flat}
        given[outer] = kind(**parts) if parts else None
    return Dataset(**given, store=store)
