"""The truth file: what the synthetic market's rows were drawn from, beside the data.

HDF5, one file a market, contiguous and without times, so that equal parameters give equal bytes:

    schema, complete     attributes; ``complete`` = 1 is set last
    parameters           JSON: symbols, reference, grid, dynamics per step, book, faults, horizons and edges
    grid_ns_T            int64 grid points g_k
    regime_T             uint8, 1 is volatile
    pressure_AT, mid_AT  float64, A in the order of ``symbols``
    proba_<h>_ATC        float64, exact class probabilities over h steps from each grid point, fixed edges
    ledger               planted faults: symbol (index), kind (index), start_ns, stop_ns (inclusive), count

Probabilities are those of an observer who sees the undamaged book of step k at g_k: where a fault hides it,
nobody can do better, and a forecast that must use an older book does worse.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bml.sources.market import Dynamics, Paths
from bml.sources.market_faults import KINDS, PlantedFault
from bml.sources.market_law import law
from bml.types import Float64, Int64, StoreError

SCHEMA = "bml.truth/1"
FILE_NAME = "truth.h5"
LEDGER = np.dtype([("symbol", "<i4"), ("kind", "<i4"), ("start_ns", "<i8"), ("stop_ns", "<i8"), ("count", "<i8")])


def write(
    folder: Path,
    *,
    parameters: Mapping[str, Any],
    dynamics: Dynamics,
    paths: Paths,
    reference: str,
    grid_ns_T: Int64,
    horizons: Sequence[int],
    edges_E: Float64,
    ledgers: Mapping[str, Sequence[PlantedFault]],
) -> Path:
    """Write the truth to ``folder`` atomically and durably; returns the file. Raises StoreError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    temporary = folder / f".{FILE_NAME}.{os.getpid()}.tmp"
    try:
        with h5py.File(temporary, "w") as file:
            file.attrs["schema"] = np.bytes_(SCHEMA)
            text = json.dumps(parameters, sort_keys=True, separators=(",", ":"))
            _put(file, "parameters", np.frombuffer(text.encode(), np.uint8))
            _put(file, "grid_ns_T", grid_ns_T)
            _put(file, "regime_T", paths.regime_T)
            _put(file, "pressure_AT", paths.pressure_AT)
            _put(file, "mid_AT", np.exp(paths.log_mid_AT))
            for horizon in horizons:
                _put_probabilities(file, dynamics, paths, reference, horizon, edges_E)
            _put(file, "ledger", _ledger(paths.symbols, ledgers))
            file.attrs["complete"] = np.int64(1)
        _publish(temporary, path)
    except OSError as error:
        raise StoreError(f"{path}: cannot write the truth: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _put(file: h5py.File, name: str, values: np.ndarray[Any, Any]) -> None:
    file.create_dataset(name, data=values, track_times=False)


def _put_probabilities(
    file: h5py.File, dynamics: Dynamics, paths: Paths, reference: str, horizon: int, edges_E: Float64
) -> None:
    """One asset after the other, to keep memory at one asset's share."""
    found = law(dynamics, horizon)
    shape = (*paths.pressure_AT.shape, len(edges_E) + 1)
    data = file.create_dataset(f"proba_{horizon}_ATC", shape=shape, dtype=np.float64, track_times=False)
    lead_T = paths.pressure_AT[paths.symbols.index(reference)]
    for a, symbol in enumerate(paths.symbols):
        own, lead = dynamics.weights(is_reference=symbol == reference)
        signal_T = own * paths.pressure_AT[a] + lead * lead_T
        edges_TE = np.broadcast_to(edges_E, (len(signal_T), len(edges_E)))
        data[a] = found.class_probabilities(signal_T, paths.regime_T, edges_TE)


def _ledger(symbols: Sequence[str], ledgers: Mapping[str, Sequence[PlantedFault]]) -> np.ndarray[Any, Any]:
    kinds = list(KINDS)
    rows = [
        (a, kinds.index(fault.kind), fault.start_ns, fault.stop_ns, fault.count)
        for a, symbol in enumerate(symbols)
        for fault in ledgers[symbol]
    ]
    return np.array(rows, LEDGER)


def _publish(temporary: Path, path: Path) -> None:
    """Make the file durable, then visible under its name, whole or not at all."""
    for step, target in ((None, temporary), (temporary, path.parent)):
        if step is not None:
            os.replace(step, path)
        handle = os.open(target, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
