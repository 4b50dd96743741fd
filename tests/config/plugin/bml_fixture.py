"""A plugin as another package would ship it: functions of every kind, reached by entry point."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Required, TypedDict

from pydantic import AfterValidator, Field

from bml.registry import model, source, stage, step
from bml.types import ConfigError

if TYPE_CHECKING:
    from nowhere import DataSpec  # injected parameters may be annotated with what only a type checker sees


@dataclass(frozen=True)
class Faults:
    """Nested parameters with a check of their own."""

    crossed: float = 0.0
    gaps: int = 0

    def __post_init__(self) -> None:
        if self.gaps < 0:
            raise ValueError("gaps must not be negative")


class Classes(TypedDict, total=False):
    method: Required[Literal["fixed", "volatility_scaled"]]
    edges: list[float]


def _rising(classes: Classes | None) -> Classes | None:
    edges = [] if classes is None else classes.get("edges", [])
    if edges != sorted(edges):
        raise ConfigError("edges must rise")  # as library code would, unaware of pydantic
    return classes


@source
def rows(
    *,
    data: DataSpec | None = None,
    dsn: str,
    table: str = "order_book",
    depth: int = 1000,
    timeout_s: float = 30.0,
    columns: dict[str, str] | None = None,
    faults: Faults = Faults(),
) -> Any:
    return data, dsn, table, depth, timeout_s, columns, faults


@stage
def build(rows: Any, *, levels: int = 1000, monotonic_time: bool = True) -> Any:
    return rows, levels, monotonic_time


@step()
def grid(obj: Any, ctx: Any, *, method: Literal["forward_fill"] = "forward_fill", max_gap_s: float = 60.0) -> Any:
    return obj, ctx, method, max_gap_s


@step()
def gaps(obj: Any, ctx: Any, *, near: int | None = None, edges: list[int] | float | None = None) -> Any:
    return obj, ctx, near, edges


@stage
def windows(
    cfg: Any,
    store: Any,
    *,
    horizon_s: Annotated[float, Field(gt=0)] = 1800.0,
    classes: Annotated[Classes | None, AfterValidator(_rising)] = None,
    since: dt.date | None = None,
    copy: bool = False,
) -> Any:
    return cfg, store, horizon_s, classes, since, copy


def _fits_the_data(data: Any, params: dict[str, Any]) -> list[tuple[str, str]]:
    """As a stage would whose parameters must agree with the data section."""
    told = []
    if params["horizon_s"] % data.cadence_s:
        told.append(("horizon_s", f"must be a multiple of data.cadence_s ({data.cadence_s:g})"))
    if (params["classes"] or {}).get("edges") == [0.0]:
        told.append(("classes.edges", "too few"))
    if params["copy"]:
        raise ConfigError("cannot copy")
    return told


windows.__bml_check__ = _fits_the_data  # type: ignore[attr-defined]


@stage
def fit(
    dataset: Any,
    *,
    out: Path,
    model: str = "fixture.net",
    params: dict[str, Any] | None = None,
    learning_rate: float = 1e-3,
    on_epoch: Any = None,
    progress: Any = None,
    rank: int,
) -> Any:
    return dataset, out, model, params, learning_rate, on_epoch, progress, rank


fit.__bml_injected__ = {"rank"}  # type: ignore[attr-defined]


@stage
def report(dataset: Any, checkpoint: Path, *, out: Path, truth: Path | None = None, bins: int = 15) -> Any:
    return dataset, checkpoint, out, truth, bins


@model
def net(shape: Any, *, hidden: int = 64, dropout: float = 0.0) -> Any:
    return shape, hidden, dropout
