"""The sections that say where days are kept and how they are built: nothing in them changes what a day holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

STRICT = ConfigDict(frozen=True, extra="forbid", strict=True)


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


class StoreSpec(BaseModel):
    """Where day files, datasets, models and reports go; a relative root counts from the working directory."""

    model_config = STRICT

    root: Annotated[Path, AfterValidator(_absolute)] = Field(
        default=Path("bml-store"), validate_default=True, description="folder of everything bml writes"
    )
    any_origin: bool = Field(
        default=False, description="go on with day files built from another database or path: they hold the same rows"
    )
    keep: Literal["all", "rolling"] = Field(
        default="all", description="rolling: days that are built make room for the next; their moments stay"
    )
    max_gb: float | None = Field(
        default=None, gt=0, description="most gigabytes (1e9 bytes) of day files; keep: rolling needs it"
    )
    diagnostic_fraction: float = Field(
        default=0.01, ge=0, le=1, description="share of days, drawn by hash, that keep: rolling never removes"
    )

    @model_validator(mode="after")
    def _check_rolling(self) -> Self:
        if (self.keep == "rolling") != (self.max_gb is not None):
            raise ValueError("keep: rolling and max_gb go together: the one says what, the other how much")
        return self


class RunSpec(BaseModel):
    """How days are built; nothing here changes what is in them."""

    model_config = STRICT

    workers: int | None = Field(
        default=None,
        ge=0,
        le=256,
        description="processes that build days; 0: this one; default: see docs/unattended.md",
    )
    day_timeout_s: float = Field(
        default=3600.0, gt=0, description="seconds after which a worker process gives a day up: it failed"
    )
    retry_s: float = Field(default=600.0, ge=0, description="seconds a lost server is tried again before the run stops")
