"""The frozen objects a configuration becomes."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from bml.config.digest import digest
from bml.config.storing import STRICT, RunSpec, StoreSpec
from bml.types import NS_PER_DAY, NS_PER_S, ConfigError

#: stage -> (what kind of function it names, the function when none is named); the order is that of the pipeline
STAGES: dict[str, tuple[str, str | None]] = {
    "collect": ("source", None),
    "data_object": ("stage", "book.dataobject.build"),
    "preprocess": ("step", None),
    "features": ("stage", "dataset.samples.book_windows"),
    "train": ("stage", "training.fit.train"),
    "evaluate": ("stage", "evaluation.report.evaluate"),
}

_SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9_.-]{0,31}")
_ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
#: int64 nanoseconds reach from 1677 to 2262; whole years inside leave room for look-back and horizon
FIRST_YEAR, LAST_YEAR = 1970, 2200


def _iso_date(value: object) -> object:
    if isinstance(value, dt.date):
        return value
    if not isinstance(value, str) or not _ISO_DATE.fullmatch(value):
        raise ValueError("must be a date written YYYY-MM-DD")
    try:
        return dt.date.fromisoformat(value)
    except ValueError as error:
        raise ValueError(f"must be a date written YYYY-MM-DD ({error})") from error


Date = Annotated[
    dt.date,
    BeforeValidator(_iso_date),
    Field(json_schema_extra={"type": "string", "format": "date"}),
]


class DataSpec(BaseModel):
    """What the data are: symbols, days [start, stop) in UTC, and the common grid."""

    model_config = STRICT

    symbols: tuple[str, ...] = Field(min_length=1, description="exchange names, such as BTCUSDT; each once")
    start: Date = Field(description="first day, UTC")
    stop: Date = Field(description="the day after the last, UTC")
    reference: str = Field(
        default="", validate_default=True, description="the symbol that anchors the grid; default: the first"
    )
    cadence_s: float = Field(default=10.0, gt=0, description="seconds between grid points; must divide a day")
    phase_ms: int = Field(default=0, ge=0, description="milliseconds from midnight to the first grid point")

    @field_validator("symbols")
    @classmethod
    def _check_symbols(cls, symbols: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [symbol for symbol in symbols if not _SYMBOL.fullmatch(symbol)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is not a symbol: 1 to 32 of A-Z 0-9 _ . - and first a letter or digit")
        twice = sorted({symbol for symbol in symbols if symbols.count(symbol) > 1})
        if twice:
            raise ValueError(f"each symbol once: {', '.join(twice)} given more than once")
        return symbols

    @field_validator("start", "stop")
    @classmethod
    def _check_days(cls, day: dt.date, info: ValidationInfo) -> dt.date:
        if not FIRST_YEAR <= day.year <= LAST_YEAR:
            raise ValueError(f"must lie between {FIRST_YEAR} and {LAST_YEAR}")
        start = info.data.get("start")
        if info.field_name == "stop" and start is not None and day <= start:
            raise ValueError(f"must be after start ({start}); stop is the day after the last")
        return day

    @field_validator("reference")
    @classmethod
    def _check_reference(cls, reference: str, info: ValidationInfo) -> str:
        symbols = info.data.get("symbols")
        if symbols is None:
            return reference
        if reference and reference not in symbols:
            raise ValueError(f"must be one of the symbols ({', '.join(symbols)})")
        return reference or symbols[0]

    @field_validator("cadence_s")
    @classmethod
    def _check_cadence(cls, cadence_s: float) -> float:
        nanoseconds = cadence_s * NS_PER_S
        if nanoseconds > NS_PER_DAY or abs(nanoseconds - round(nanoseconds)) > 1e-3 or NS_PER_DAY % round(nanoseconds):
            raise ValueError("must divide a day (86400 s) into whole steps")
        return cadence_s

    @field_validator("phase_ms")
    @classmethod
    def _check_phase(cls, phase_ms: int, info: ValidationInfo) -> int:
        cadence_s = info.data.get("cadence_s")
        if cadence_s is not None and phase_ms >= cadence_s * 1000:
            raise ValueError(f"must be less than the cadence ({cadence_s:g} s)")
        return phase_ms

    @property
    def cadence_ns(self) -> int:
        return round(self.cadence_s * NS_PER_S)

    @property
    def steps_per_day(self) -> int:
        return NS_PER_DAY // self.cadence_ns


class TrackingSpec(BaseModel):
    """MLflow: on by default, in an SQLite file below the store."""

    model_config = STRICT

    enabled: bool = Field(default=True, description="log runs to MLflow")
    uri: str | None = Field(
        default=None, repr=False, description="tracking server or database; default: {store.root}/mlflow.db"
    )
    prefix: str = Field(default="binance", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="experiments: {prefix}-...")

    @field_validator("uri")
    @classmethod
    def _empty_is_none(cls, uri: str | None) -> str | None:
        return uri or None


class Call(BaseModel):
    """A function named in the configuration with the parameters given there.

    ``params`` are validated against the function's signature and complete: its defaults are filled in.
    ``path`` is the place in the document, ``written`` whether the file speaks of the stage at all.
    Parameters can hold secrets, so they are not part of ``repr``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    fn: str
    params: dict[str, Any] = Field(default_factory=dict, repr=False)
    path: str
    kind: str
    written: bool = True
    validated: bool = True

    def function(self) -> Callable[..., Any]:
        """The function itself; imports its module. Raises ConfigError when the call was not validated."""
        from bml.registry import resolve

        if not self.validated:
            raise ConfigError(f"{self.path}: not validated, because the configuration was loaded without this stage")
        return resolve(self.fn, self.kind)


@dataclass(frozen=True, slots=True)
class Written:
    """What a configuration was loaded from: its text (which holds no secret), the values replaced, the stages."""

    text: str
    overrides: tuple[str, ...]
    stages: tuple[str, ...]


class Config(BaseModel):
    """A whole configuration, frozen. Made by :func:`bml.config.load`; picklable.

    ``document`` is the resolved document as plain JSON values, defaults filled in and secrets replaced by ``***``.
    ``written`` is what another process needs to load it with its own environment.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    data: DataSpec
    store: StoreSpec
    tracking: TrackingSpec
    run: RunSpec = Field(default_factory=RunSpec)
    collect: Call
    data_object: Call
    preprocess: tuple[Call, ...]
    features: Call
    train: Call
    evaluate: Call
    path: Path
    document: dict[str, Any] = Field(repr=False)
    written: Written | None = Field(default=None, repr=False)

    def digest(self, *parts: str) -> str:
        """Digest of document parts: stage names (``"collect"``) or sections (``"data"``); none: all that matter.

        Covers the resolved, redacted document: a default that changes counts, a database that moves or a new
        password does not. ``name``, ``store`` and ``tracking`` never count unless named.
        """
        names = parts or ("data", *STAGES)
        for name in names:
            calls = getattr(self, name) if name in STAGES else ()
            for call in calls if isinstance(calls, tuple) else (calls,):
                if not call.validated:
                    raise ConfigError(f"{call.path}: no digest, because the configuration was loaded without it")
        stages = self.document["stages"]
        return digest(*([name, stages[name] if name in STAGES else self.document[name]] for name in names))


def _none_is_empty(value: object) -> object:
    return {} if value is None else value


class CallSpec(BaseModel):
    """``{fn: module.function, with: {parameter: value}}``."""

    model_config = STRICT

    fn: str | None = Field(default=None, min_length=1)
    params: Annotated[dict[str, Any], BeforeValidator(_none_is_empty)] = Field(default_factory=dict, alias="with")


class RequiredCall(CallSpec):
    """A call of a stage that has no default function."""

    fn: str = Field(min_length=1)  # the field is narrowed on purpose: a str is a str | None


OptionalCall = Annotated[CallSpec, BeforeValidator(_none_is_empty)]


class StagesSpec(BaseModel):
    """Which function does what, stage by stage."""

    model_config = STRICT

    collect: RequiredCall
    data_object: OptionalCall = Field(default_factory=CallSpec)
    preprocess: tuple[RequiredCall, ...] = Field(min_length=1)
    features: OptionalCall = Field(default_factory=CallSpec)
    train: OptionalCall = Field(default_factory=CallSpec)
    evaluate: OptionalCall = Field(default_factory=CallSpec)


class Document(BaseModel):
    """The file as written."""

    model_config = STRICT

    version: Literal[1] = Field(description="the format of this file: 1")
    name: str = Field(  # part of file names: "..", ".hidden" and "-x" would be trouble
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", description="names runs, datasets and models"
    )
    data: DataSpec
    store: Annotated[StoreSpec, BeforeValidator(_none_is_empty)] = Field(default_factory=StoreSpec)
    tracking: Annotated[TrackingSpec, BeforeValidator(_none_is_empty)] = Field(default_factory=TrackingSpec)
    run: Annotated[RunSpec, BeforeValidator(_none_is_empty)] = Field(default_factory=RunSpec)
    stages: StagesSpec
