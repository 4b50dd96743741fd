"""YAML and environment variables to validated, frozen objects; every fault at once, with its line.

Example: ``cfg = bml.config.load("configs/demo.yaml", overrides=["data.cadence_s=5"])``.
"""

from bml.config.digest import digest
from bml.config.faults import Fault, InvalidConfig
from bml.config.loading import load
from bml.config.model import Call, Config, DataSpec, TrackingSpec
from bml.config.output import json_schema, to_yaml
from bml.config.storing import RunSpec, StoreSpec

__all__ = [
    "Call",
    "Config",
    "DataSpec",
    "Fault",
    "InvalidConfig",
    "RunSpec",
    "StoreSpec",
    "TrackingSpec",
    "digest",
    "json_schema",
    "load",
    "to_yaml",
]
