"""What an audit found, as a document for programs and a page for people. Equal audits give equal bytes."""

from __future__ import annotations

import json
from typing import Any

from bml import __version__
from bml.audit.leak import Audit
from bml.audit.tally import Finding
from bml.book.report import iso
from bml.config import Config
from bml.config.digest import digest
from bml.host import git_state

SCHEMA = "bml.leak-certificate/1"

#: findings listed; the rest is counted
MAX_FINDINGS = 20


def document(cfg: Config, audit: Audit) -> dict[str, Any]:
    """The certificate as JSON values: no time of making, no duration, no place."""
    return {
        "schema": SCHEMA,
        "name": cfg.name,
        "verdict": "no leak found" if audit.is_clean else "leaks",
        "config_sha256": digest(cfg.document["data"], cfg.document["stages"]),
        "store_digest": audit.store_digest,
        "dataset_digest": audit.dataset_digest,
        "code": {"bml": __version__, **git_state()},
        "seed": audit.seed,
        "rows": audit.rows,
        "bytes": {"compared": audit.tally.compared, "differing": audit.tally.differing},
        "structure": [{"property": c.name, "checked": c.checked, "broken": c.broken} for c in audit.structure],
        "fields": {
            name: {"dated": str(one.dated), "compared": one.compared, "differing": one.differing}
            for name, one in sorted(audit.tally.fields.items())
        },
        "findings": [_finding(one) for one in audit.tally.findings[:MAX_FINDINGS]],
        "n_findings": len(audit.tally.findings),
        "cuts": [
            {"at": iso(cut.at_ns), "kind": cut.kind, "spell": cut.spell, "compared": compared, "differing": differing}
            for cut, compared, differing in audit.cuts
        ],
        "planted": [
            {"leak": one.leak, "caught_by": one.by, "cuts": one.cuts, "pointless": one.pointless}
            for one in audit.planted
        ],
    }


def to_bytes(told: dict[str, Any]) -> bytes:
    """The document as it is written."""
    return (json.dumps(told, indent=1, sort_keys=True) + "\n").encode()


def text(told: dict[str, Any]) -> str:
    """The certificate in a few lines for a terminal."""
    count = told["bytes"]
    lines = [
        f"{told['name']}: {told['verdict']}",
        f"  cuts      {len(told['cuts'])}, seed {told['seed']}",
        f"  compared  {count['compared']:,} bytes in {len(told['fields'])} fields; {count['differing']:,} differ",
    ]
    broken = [one for one in told["structure"] if one["broken"]]
    lines.append(f"  blocks    {len(told['structure']) - len(broken)} of {len(told['structure'])} properties hold")
    lines += [f"            {one['property']}: {one['broken']}" for one in broken]
    lines += [f"            {_words(one)}" for one in told["findings"]]
    if told["planted"]:
        lines += ["", *_planted(told)]
    return "\n".join(lines)


def markdown(told: dict[str, Any]) -> str:
    """The certificate as a page."""
    count = told["bytes"]
    lines = [
        f"# Leak certificate: {told['name']}",
        "",
        f"**{told['verdict']}**: {len(told['cuts'])} cuts, {count['compared']:,} bytes compared, "
        f"{count['differing']:,} differ.",
        "",
        *(f"- {name}: `{told[key]}`" for name, key in (
            ("dataset", "dataset_digest"), ("day files", "store_digest"), ("configuration", "config_sha256"))),
        f"- code: `{json.dumps(told['code'], sort_keys=True)}`, seed {told['seed']}",
        "",
        "| property | checked | broken |",
        "|---|---:|---|",
        *(f"| {one['property']} | {one['checked']:,} | {one['broken'] or 'no'} |" for one in told["structure"]),
        "",
        "| field | known from | bytes compared | differing |",
        "|---|---|---:|---:|",
        *(f"| {name} | {one['dated']} | {one['compared']:,} | {one['differing']:,} |"
          for name, one in told["fields"].items()),
    ]  # fmt: skip
    if told["findings"]:
        lines += ["", f"{told['n_findings']} findings, the first of them:", ""]
        lines += [f"- {_words(one)}" for one in told["findings"]]
    if told["planted"]:
        lines += ["", "| planted leak | caught by |", "|---|---|"]
        lines += [f"| {one['leak']} | {_outcome(one)} |" for one in told["planted"]]
    return "\n".join([*lines, ""])


def fault(told: dict[str, Any]) -> str:
    """One line that says what is wrong first; "" when nothing is."""
    broken = next((one for one in told["structure"] if one["broken"]), None)
    if told["findings"]:
        more = f" ({told['n_findings'] - 1} more findings)" if told["n_findings"] > 1 else ""
        return f"leak: {_words(told['findings'][0])}{more}"
    if broken:
        return f"leak: {broken['property']}: {broken['broken']}"
    missed = [one["leak"] for one in told["planted"] if not (one["caught_by"] or one["pointless"])]
    return f"the audit missed {len(missed)} planted leaks: {', '.join(missed)}" if missed else ""


def _finding(one: Finding) -> dict[str, Any]:
    at = None if one.at_ns is None else iso(one.at_ns)
    where = {"symbol": one.symbol, "at": at, "cut": iso(one.cut_ns)}
    return {"field": one.field, "dated": str(one.dated), **where, "differing": one.differing}


def _words(one: dict[str, Any]) -> str:
    place = f" of {one['symbol']}" * bool(one["symbol"]) + f" at {one['at']}" * (one["at"] is not None)
    return f"{one['field']}{place} changes with rows after {one['cut']} ({one['differing']:,} bytes)"


def _planted(told: dict[str, Any]) -> list[str]:
    """The table of planted leaks."""
    width = max(len(one["leak"]) for one in told["planted"])
    caught = sum(bool(one["caught_by"]) for one in told["planted"])
    head = f"{'planted leak':{width}}  caught by ({caught} of {len(told['planted'])})"
    return [head, *(f"{one['leak']:{width}}  {_outcome(one)}" for one in told["planted"])]


def _outcome(one: dict[str, Any]) -> str:
    """What a planted leak came to."""
    told: str = one["caught_by"] or (f"(harmless here: {one['pointless']})" if one["pointless"] else "NOT CAUGHT")
    return told
