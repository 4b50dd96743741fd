"""Folders called key=value (hive partitions): which of them can hold the rows of a symbol and a time."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from urllib.parse import unquote

from bml.sources.remote import Disk, File
from bml.types import NS_PER_DAY, ConfigError

DATE_KEYS = ("dt", "date", "day")
_FORMS = ("%Y-%m-%d", "%Y%m%d")
_PART = re.compile(r"([^/=]+)=([^/]*)")
_DAY = dt.timedelta(days=1)
_EVER = (dt.date.min, dt.date.max)


class Partitions:
    """The rules a folder of partitions is searched by.

    ``symbol_key``: the key whose value must be the symbol. dt=, date= and day= (2024-01-31 or 20240131), or year=,
    month= and day=, must lie within a day of the time asked for: rows may be filed by another clock than theirs.
    ``wanted``: the value of any other key; a key with several values that is not named there is refused, since the
    rows of several exchanges, say, are no book.
    """

    def __init__(self, symbol_key: str | None, wanted: Mapping[str, str]) -> None:
        self._symbol_key = symbol_key
        self._wanted = dict(wanted)

    def of(self, path: str) -> dict[str, str]:
        """Key -> value of every folder on the way to ``path``."""
        return {key: unquote(value) for key, value in _PART.findall(path.rpartition("/")[0])}

    def files(self, disk: Disk, folder: File, symbol: str, start_ns: int | None, stop_ns: int | None) -> list[File]:
        """The files in ``folder``, or below its partitions that can hold the rows; in order of their names.

        None for a time is any time. Folders that cannot are never listed.
        """
        days = _EVER if start_ns is None or stop_ns is None else _days(start_ns, stop_ns)
        return self._below(disk, folder, symbol, days, {})

    def _below(
        self, disk: Disk, folder: File, symbol: str, days: tuple[dt.date, dt.date], known: dict[str, str]
    ) -> list[File]:
        children = [child for child in disk.children(folder) if not child.name.startswith((".", "_"))]
        parts = {child: match for child in children if (match := _PART.fullmatch(child.name))}
        if not parts:
            return children
        self._refuse_mixed(folder, {(match[1], unquote(match[2])) for match in parts.values()})
        out: list[File] = []
        for child, match in parts.items():
            values = known | {match[1]: unquote(match[2])}
            if self._may_hold(match[1], values, symbol, days):
                out += self._below(disk, child, symbol, days, values)
        return out

    def _may_hold(self, key: str, values: dict[str, str], symbol: str, days: tuple[dt.date, dt.date]) -> bool:
        if key in self._wanted:
            return values[key] == self._wanted[key]
        if key == self._symbol_key:
            return values[key] == symbol
        first, last = _span(values)
        return first <= days[1] and days[0] <= last

    def _refuse_mixed(self, folder: File, found: set[tuple[str, str]]) -> None:
        for key in sorted({key for key, _ in found}):
            values = sorted(value for other, value in found if other == key)
            told = key in self._wanted or key == self._symbol_key or key in (*DATE_KEYS, "year", "month", "hour")
            if len(values) > 1 and not told:
                shown = ", ".join(values[:5]) + (", ..." if len(values) > 5 else "")
                raise ConfigError(
                    f"{folder} has several {key}= ({shown}): say which with partitions: {{{key}: {values[0]}}}"
                )


def _days(start_ns: int, stop_ns: int) -> tuple[dt.date, dt.date]:
    epoch = dt.date(1970, 1, 1)
    last = max(start_ns, stop_ns - 1)
    first, stop = (epoch + dt.timedelta(days=ns // NS_PER_DAY) for ns in (start_ns, last))
    return first - _DAY, stop + _DAY


def _span(values: Mapping[str, str]) -> tuple[dt.date, dt.date]:
    """First and last day the values of date keys leave open; all time where they say nothing that can be read."""
    for key in DATE_KEYS:
        for form in _FORMS:
            try:
                day = dt.datetime.strptime(values.get(key, ""), form).date()
            except ValueError:
                continue
            return day, day
    try:
        year = int(values["year"])
        month = int(values.get("month", 1))
        first = dt.date(year, month, int(values.get("day", 1)))
    except (KeyError, ValueError):
        return _EVER
    if "day" in values:
        return first, first
    last_month = month if "month" in values else 12
    stop = dt.date(year + last_month // 12, last_month % 12 + 1, 1)
    return first, stop - _DAY
