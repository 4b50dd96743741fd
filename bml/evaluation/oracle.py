"""The forecaster that knows the synthetic market: exact class probabilities for any horizon and edges.

Everything comes from the truth file (:mod:`bml.sources.market_truth`). No forecast made from the books can
have a lower expected negative log likelihood than :func:`class_probabilities`; the gap to it is what a model
leaves on the table, and the gap from the class prior to it is what there is to win.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bml.sources.market import Dynamics
from bml.sources.market_faults import KINDS, PlantedFault
from bml.sources.market_law import law
from bml.sources.market_truth import SCHEMA
from bml.types import NS_PER_S, DataError, Float64, Int64, StoreError

#: probabilities count as at least this in a log score
FLOOR = 1e-12


def class_probabilities(
    truth_path: Path, symbol: str, ts_ns_N: Int64, horizon_steps: int, edges_NE: Float64
) -> Float64:
    """P(class | the book at each time), (N, E + 1) float64, rows sum to 1.

    Class c is ``edges[c-1] <= R < edges[c]`` of the log return R of the mid from ``ts_ns_N`` (grid points) to
    ``horizon_steps`` later. ``edges_NE`` is (N, E), or (E,) for all samples, and must not fall along E;
    +-inf is allowed, NaN is not. Absolute error of the law below 1e-12; labels taken from observed mids
    differ from it by the tick (see :mod:`bml.sources.market_book`).
    Raises DataError (unknown symbol, time off the grid, bad edges) or StoreError (no truth file).
    Cost: some 10 ms, then about 0.1 us a sample and edge.
    """
    if horizon_steps < 1:
        raise DataError(f"the oracle's horizon must be at least one step, not {horizon_steps}")
    ts_ns_N = np.asarray(ts_ns_N, np.int64)
    edges_NE = _edges(edges_NE, len(ts_ns_N))
    with _opened(truth_path) as (file, parameters):
        dynamics = Dynamics.read(parameters["dynamics"])
        symbols, reference = parameters["symbols"], parameters["reference"]
        a = _position(symbols, symbol, truth_path)
        step_N = _steps(parameters["grid"], ts_ns_N, truth_path)
        own, lead = dynamics.weights(is_reference=symbol == reference)
        pressure_AT = file["pressure_AT"]
        signal_N = own * pressure_AT[a][step_N] + lead * pressure_AT[symbols.index(reference)][step_N]
        regime_N = file["regime_T"][...][step_N]
    return law(dynamics, horizon_steps).class_probabilities(signal_N, regime_N, edges_NE)


def log_scores(proba_NC: Float64, y_N: Int64) -> Float64:
    """-log of the probability given to what happened, (N,) nats; probabilities count as at least 1e-12."""
    chosen_N = np.take_along_axis(proba_NC, np.asarray(y_N, np.int64)[:, None], axis=1)[:, 0]
    return np.asarray(-np.log(np.maximum(chosen_N, FLOOR)))


def bayes_nll(
    truth_path: Path, symbol: str, ts_ns_N: Int64, horizon_steps: int, edges_NE: Float64, y_N: Int64
) -> float:
    """Mean negative log likelihood, nats, of the exact probabilities on the labels ``y_N``: the score to reach."""
    proba_NC = class_probabilities(truth_path, symbol, ts_ns_N, horizon_steps, edges_NE)
    return float(log_scores(proba_NC, y_N).mean())


def ledger(truth_path: Path, symbol: str) -> tuple[PlantedFault, ...]:
    """The faults planted into ``symbol``, in order of time. Raises DataError or StoreError."""
    kinds = list(KINDS)
    with _opened(truth_path) as (file, parameters):
        a = _position(parameters["symbols"], symbol, truth_path)
        rows = file["ledger"][...]
    return tuple(
        PlantedFault(kind=kinds[kind], start_ns=start_ns, stop_ns=stop_ns, count=count)
        for asset, kind, start_ns, stop_ns, count in rows.tolist()
        if asset == a
    )


@contextmanager
def _opened(path: Path) -> Iterator[tuple[h5py.File, dict[str, Any]]]:
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise StoreError(f"{path}: no readable truth file ({error})") from error
    with file:
        if file.attrs.get("schema") != np.bytes_(SCHEMA) or file.attrs.get("complete") != 1:
            raise StoreError(f"{path}: not a complete {SCHEMA} file: write the truth again")
        yield file, json.loads(file["parameters"][...].tobytes())


def _position(symbols: list[str], symbol: str, path: Path) -> int:
    if symbol not in symbols:
        raise DataError(f"{symbol}: {path} knows only {', '.join(symbols)}")
    return symbols.index(symbol)


def _steps(grid: dict[str, Any], ts_ns_N: Int64, path: Path) -> Int64:
    step_N, rest_N = np.divmod(ts_ns_N - grid["first_ns"], grid["cadence_ns"])
    is_bad_N = (rest_N != 0) | (step_N < 0) | (step_N >= grid["steps"])
    if is_bad_N.any():
        n = int(np.argmax(is_bad_N))
        when = datetime.fromtimestamp(int(ts_ns_N[n]) / NS_PER_S, UTC).isoformat()
        raise DataError(f"sample {n} at {when} is no grid point of {path}")
    return np.asarray(step_N)


def _edges(edges_NE: Float64, n: int) -> Float64:
    edges = np.asarray(edges_NE, np.float64)
    if edges.ndim == 1:
        edges = np.broadcast_to(edges, (n, len(edges)))
    if edges.ndim != 2 or len(edges) != n:
        raise DataError(f"edges of shape {np.shape(edges_NE)} do not fit {n} samples")
    if not (np.diff(edges, axis=1) >= 0).all() or np.isnan(edges).any():
        raise DataError("class edges are NaN or fall: drop samples without a known volatility first")
    return edges
