"""``bml doctor --source``: the first run against a database, line by line."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bml.cli import exits
from bml.cli.diagnosis import Finding
from bml.types import NS_PER_DAY, NS_PER_S, BmlError, ConfigError

if TYPE_CHECKING:
    from bml.config import Config
    from bml.sources.pgdialect import Dialect
    from bml.sources.pgdoctor import Examination
    from bml.sources.postgres import PostgresSource

_STATES = {"refuse": "bad", "warn": "note", "hint": "note"}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def examined(cfg: Config, at: str | None, symbol: str | None, insecure: bool) -> tuple[list[Finding], dict[str, Any]]:
    """The findings about the source of ``cfg`` and the same as a document.

    Raises ConfigError for a source that is no database or a wrong option. A connection that fails is a finding.
    """
    name = _symbol(cfg, symbol)
    at_ns = _moment_ns(at)
    source = _source(cfg, insecure)
    found: list[Finding] = []
    document: dict[str, Any] = {}
    try:
        with source.session:  # not the source: it refuses a server it cannot read, and the lines shall say why
            _examine(source, cfg, name, at_ns, found, document)
    except BmlError as error:
        found.append(Finding("source", "bad", str(error), error.exit_code))
    return found, document


def _examine(
    source: PostgresSource, cfg: Config, symbol: str, at_ns: int | None, found: list[Finding], document: dict[str, Any]
) -> None:
    from bml.sources import pgdoctor

    seen = pgdoctor.examine(source)
    found += _server(seen)
    found += _abilities(seen.dialect)
    for trap in seen.traps:
        code = exits.FAILED if trap.severity == "refuse" else exits.OK
        found.append(Finding("trap", _STATES[trap.severity], f"{trap.name}: {trap.told}", code))
    document["source"] = {
        "place": seen.place,
        "encryption": seen.encryption,
        "dialect": asdict(seen.dialect),
        "traps": [asdict(trap) for trap in seen.traps],
    }
    if any(one.state == "bad" for one in found):
        return  # a read would say the same again
    start_ns, stop_ns = (_day_ns(day) for day in (cfg.data.start, cfg.data.stop))
    window = pgdoctor.compare(source, symbol, start_ns, stop_ns, at_ns=at_ns)
    document["source"]["window"] = asdict(window)
    if window.difference:
        found.append(Finding("minute", "bad", pgdoctor.told(window), exits.FAILED))
    else:
        found.append(Finding("minute", "ok" if window.n_rows else "note", pgdoctor.told(window)))


def _server(seen: Examination) -> Iterator[Finding]:
    dialect = seen.dialect
    told = f"{dialect.product} at {seen.place} (calls itself {dialect.server})"
    if dialect.is_greptimedb:
        told += "; bml's tests know GreptimeDB from its source and documents only: look at every line below"
    yield Finding("server", "ok", told)
    verified = {"verify-full": "encrypted, certificate and name verified"}
    if seen.encryption:
        yield Finding("connection", "ok", verified.get(seen.encryption, f"encrypted, sslmode={seen.encryption}"))
    else:
        yield Finding("connection", "note", "not encrypted")


def _abilities(dialect: Dialect) -> Iterator[Finding]:
    """A line for each ability. Reading takes one of the first two."""
    notes = dict(note.split(": ", 1) for note in dialect.notes)
    rows = [
        ("copy", dialect.copy_binary, "binary COPY gives the 43 known bytes", notes.get("binary COPY")),
        ("chunked", dialect.chunked, "binary SELECT gives the known values, in chunks", notes.get("binary SELECT")),
        ("streams", dialect.streams_portal, "a SELECT is sent as it is made", "a SELECT is gathered in memory first"),
        ("cancel", dialect.cancel, "a running query can be cancelled", "closing the connection is the only way"),
        ("read-only", dialect.read_only, "the session cannot write, says SHOW",
         notes.get("default_transaction_read_only")),
        ("time limit", dialect.statement_timeout, "statement_timeout is set", notes.get("statement_timeout")),
        ("UTC", "timezone" not in "".join(notes), "the session's time zone is UTC", notes.get("timezone")),
    ]  # fmt: skip
    for name, able, words, why in rows:
        told = words if able else f"no: {why or 'not promised by this version'}"
        yield Finding(name, "ok" if able else "note", told)
    if not (dialect.copy_binary or dialect.chunked):
        told = "neither binary COPY nor binary SELECT works: rows cannot be read"
        yield Finding("reading", "bad", told, exits.UNREACHABLE)


def _source(cfg: Config, insecure: bool) -> PostgresSource:
    try:
        from bml.sources.postgres import depth_rows
    except ModuleNotFoundError as error:
        raise ConfigError("doctor --source needs psycopg:  pip install 'bml[postgres]'") from error
    call = cfg.collect
    if call.function() is not depth_rows:
        raise ConfigError(f"doctor --source examines sources.postgres.depth_rows, and stages.collect is {call.fn}")
    params = dict(call.params) | ({"insecure": True} if insecure else {})
    source: PostgresSource = depth_rows(**params, data=cfg.data)
    return source


def _symbol(cfg: Config, wanted: str | None) -> str:
    if wanted is None:
        return cfg.data.symbols[0]
    if wanted not in cfg.data.symbols:
        raise ConfigError(f"--symbol {wanted}: not in data.symbols ({', '.join(cfg.data.symbols)})")
    return wanted


def _moment_ns(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
        if not 1678 <= moment.year <= 2261:  # what int64 nanoseconds hold
            raise ValueError(text)
    except ValueError:
        raise ConfigError(f"--at {text}: expected a time such as 2025-03-01T12:00:00 (UTC)") from None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=dt.UTC)
    return (aware - _EPOCH) // dt.timedelta(microseconds=1) * (NS_PER_S // 1_000_000)


def _day_ns(day: dt.date) -> int:
    return (day - _EPOCH.date()).days * NS_PER_DAY
