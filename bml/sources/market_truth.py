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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bml.book.hdf5 import pack
from bml.book.publish import publish
from bml.sources.market import Dynamics, Paths
from bml.sources.market_faults import KINDS, PlantedFault
from bml.sources.market_law import law
from bml.types import Float64, Int64

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
    """Write the truth to ``folder`` whole or not at all; returns the file. Raises StoreError, of one line.

    Memory: some three times the file, which is built there, so that HDF5 never meets a full disk.
    """
    text = json.dumps(parameters, sort_keys=True, separators=(",", ":"))
    arrays: dict[str, npt.NDArray[Any]] = {
        "parameters": np.frombuffer(text.encode(), np.uint8),
        "grid_ns_T": grid_ns_T,
        "regime_T": paths.regime_T,
        "pressure_AT": paths.pressure_AT,
        "mid_AT": np.exp(paths.log_mid_AT),
    }
    for horizon in horizons:
        arrays[f"proba_{horizon}_ATC"] = _probabilities(dynamics, paths, reference, horizon, edges_E)
    arrays["ledger"] = _ledger(paths.symbols, ledgers)
    path = folder / FILE_NAME
    publish(path, pack(arrays, {"schema": SCHEMA, "complete": 1}))
    return path


def _probabilities(dynamics: Dynamics, paths: Paths, reference: str, horizon: int, edges_E: Float64) -> Float64:
    found = law(dynamics, horizon)
    proba_ATC = np.empty((*paths.pressure_AT.shape, len(edges_E) + 1))
    lead_T = paths.pressure_AT[paths.symbols.index(reference)]
    for a, symbol in enumerate(paths.symbols):
        own, lead = dynamics.weights(is_reference=symbol == reference)
        signal_T = own * paths.pressure_AT[a] + lead * lead_T
        edges_TE = np.broadcast_to(edges_E, (len(signal_T), len(edges_E)))
        proba_ATC[a] = found.class_probabilities(signal_T, paths.regime_T, edges_TE)
    return proba_ATC


def _ledger(symbols: Sequence[str], ledgers: Mapping[str, Sequence[PlantedFault]]) -> np.ndarray[Any, Any]:
    kinds = list(KINDS)
    rows = [
        (a, kinds.index(fault.kind), fault.start_ns, fault.stop_ns, fault.count)
        for a, symbol in enumerate(symbols)
        for fault in ledgers[symbol]
    ]
    return np.array(rows, LEDGER)
