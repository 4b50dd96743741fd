"""Small things fitted on a dataset's blocks, cheap and deterministic: they stand for whatever else is fitted there.

They go the way the pipeline's own go: rows by the fold, weights by the training's function, calibration by that of
the evaluation. A block's rows reach them only through :class:`bml.types.Fold`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bml.audit.dating import When
from bml.dataset.dataset import Dataset
from bml.evaluation import calibration
from bml.models import baselines
from bml.training import losses
from bml.types import Float64, Int64

#: half-life the weights are looked at with where the training has none
PROBE_DAYS = 30.0

#: baselines that take no time to fit
FORECASTERS = ("prior", "persistence", "volatility_only")


class Fits:
    """All of one dataset; a later block's are computed only when they are asked for."""

    def __init__(self, dataset: Dataset, training: Mapping[str, Any]) -> None:
        self._dataset, self._half_life_days = dataset, training.get("half_life_days") or PROBE_DAYS
        self._uniqueness = bool(training.get("uniqueness"))
        self._known: dict[When, dict[str, Any]] = {}

    def of(self, when: When) -> dict[str, Any]:
        """Name -> array or JSON-able value of what is known at that moment."""
        if when not in self._known:
            self._known[when] = _FITS[when](self)
        return self._known[when]

    def _forecasters(self) -> dict[str, baselines.Baseline]:
        train, families = self._dataset.fold.train, baselines.baselines_for(self._dataset)
        return {
            name: families[name].fit(self._dataset, train, self.of(When.TRAINING)["weights.row_weights_N"])
            for name in FORECASTERS
        }

    def training(self) -> dict[str, Any]:
        dataset = self._dataset
        weight_N = losses.row_weights(dataset, dataset.fold.train, self._half_life_days, uniqueness=self._uniqueness)
        self._known[When.TRAINING] = {"weights.row_weights_N": weight_N}
        out: dict[str, Any] = {"weights.row_weights_N": weight_N}
        for name, fitted in self._forecasters().items():
            arrays = {key: getattr(fitted, key) for key in fitted.__dataclass_fields__}  # type: ignore[attr-defined]
            out |= {f"baselines.{name}.{key}": value for key, value in arrays.items()}
        return out

    def early_stop(self) -> dict[str, Any]:
        """The mean NLL of each forecaster on the early-stop block, and the one that would be kept."""
        rows = self._dataset.fold.early_stop
        y_N = self._dataset.index.y_N[rows]
        nll = {name: calibration.mean_nll(self._logits(name, rows), y_N) for name in FORECASTERS}
        return {"early_stop.nll": nll, "early_stop.choice": min(nll, key=lambda name: nll[name])}

    def calibrate(self) -> dict[str, Any]:
        """The temperatures of the forecasters on the calibrate block; of too few rows, their number."""
        rows = self._dataset.fold.calibrate
        if rows.shape[0] < calibration.MIN_ROWS:
            return {"calibrator.rows": int(rows.shape[0])}
        y_N = self._dataset.index.y_N[rows]
        return {
            f"calibrator.{name}": calibration.fit_temperature(self._logits(name, rows), y_N).as_dict()
            for name in FORECASTERS
        }

    def _logits(self, name: str, rows: Int64) -> Float64:
        logits_NC: Float64 = np.log(self._forecasters()[name].proba(self._dataset, rows))
        return logits_NC


_FITS: dict[When, Callable[[Fits], dict[str, Any]]] = {
    When.TRAINING: Fits.training,
    When.EARLY_STOP: Fits.early_stop,
    When.CALIBRATE: Fits.calibrate,
}
