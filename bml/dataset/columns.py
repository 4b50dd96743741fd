"""What a batch holds beside its windows: symbols in their order, daily statistics, calendar, label."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bml.dataset.context import INPUT_LIMIT
from bml.dataset.dataset import Dataset
from bml.dataset.labels import Bools
from bml.types import Int64

Arrays = dict[str, npt.NDArray[Any]]


class Columns:
    """Tables of a dataset, small beside its day files; rows are of its index."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        n_assets = len(dataset.symbols)
        # order[a] = the target a, then the others
        self._order_AA = np.array([[a, *(b for b in range(n_assets) if b != a)] for a in range(n_assets)])
        scaler = dataset.scaler
        scaled_DAS = ((dataset.moments_DAS - scaler.mean_AS) / scaler.std_AS).clip(-INPUT_LIMIT, INPUT_LIMIT)
        pad = ((dataset.context_days, 0), (0, 0))  # missing before the data
        self._long_DAS = np.pad(np.nan_to_num(scaled_DAS), (*pad, (0, 0))).astype(np.float32)
        self._long_present_DA = np.pad(dataset.moments_present_DA, pad).astype(np.float32)

    def assets(self, rows: Int64) -> tuple[Int64, Bools]:
        """(B, A) symbols of every row, the target first, and which of them are whole over its window."""
        order_BA = self._order_AA[self._dataset.index.target_N[rows]]
        return order_BA, np.take_along_axis(self._dataset.present_NA[rows], order_BA, axis=1)

    def of(self, rows: Int64, order_BA: Int64, present_BA: Bools) -> Arrays:
        """The fields of a batch that are no windows and no weights, by name."""
        dataset = self._dataset
        first_B = dataset.row_N[rows] // dataset.grid.rows_per_day  # the tables begin context_days early
        day_BD1 = first_B[:, None, None] + np.arange(dataset.context_days)[None, :, None]
        return {
            "present_BA": present_BA.astype(np.float32),
            "x_long_BDAS": self._long_DAS[day_BD1, order_BA[:, None, :]],
            "long_present_BDA": self._long_present_DA[day_BD1, order_BA[:, None, :]],
            "x_time_BK": dataset.x_time_NK[rows],
            "y_B": dataset.index.y_N[rows],
            "row_B": rows,
        }
