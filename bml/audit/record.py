"""Where a certificate is kept: with the runs of the dataset it speaks of."""

from __future__ import annotations

from typing import Any

from bml import handover
from bml.audit import certificate
from bml.config import Config
from bml.tracking import Tracker
from bml.types import ConfigError, RunRef


def record(cfg: Config, tracker: Tracker, told: dict[str, Any]) -> None:
    """Log the certificate as a run of the experiment of datasets, tagged with the dataset's digest and run.

    Its parameters are what was asked, its metrics what was counted, its artifacts the certificate
    as JSON and as a page.
    """
    asked = {"features": cfg.document["stages"]["features"], "cuts": len(told["cuts"]), "seed": told["seed"]}
    count = {f"audit_{name}": value for name, value in told["bytes"].items()}
    count["audit_broken"] = sum(bool(one["broken"]) for one in told["structure"])
    count["audit_planted"] = len(told["planted"])
    count["audit_caught"] = sum(bool(one["caught_by"]) for one in told["planted"])
    upstream = _prepared(cfg, told["dataset_digest"])
    with tracker.stage("dataset-preparation", asked, upstream, name=f"{cfg.name}-leak-audit") as run:
        run.tag("bml.dataset_digest", told["dataset_digest"])
        run.tag("bml.verdict", told["verdict"])
        run.metrics(count)
        run.text("leak-certificate.json", certificate.to_bytes(told).decode())
        run.text("leak-certificate.md", certificate.markdown(told))
        run.ref(digest=told["dataset_digest"])


def _prepared(cfg: Config, dataset_digest: str) -> list[RunRef]:
    """The run that prepared just this dataset, if it has been."""
    try:
        refs = handover.upstream(cfg, "train")
    except ConfigError:  # nothing is trained yet
        return []
    return [ref for ref in refs if ref.stage == "dataset-preparation" and ref.digest == dataset_digest]
