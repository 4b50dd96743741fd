"""Which files a path names: a file, a folder or a pattern, filled with a symbol and dates."""

from __future__ import annotations

import datetime as dt
import glob
import os
import re
from collections.abc import Iterable
from pathlib import Path

from bml.sources.layout import did_you_mean
from bml.types import NS_PER_DAY, ConfigError, DataError

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".zip")
_HOLE = re.compile(r"\{([^{}:]*)(?::([^{}]*))?\}")
_STARS = re.compile(r"(\**)\{symbol\}(\**)")
_SAFE_SYMBOL = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")


class PathPattern:
    """A file, a folder or a glob; ``{symbol}`` and ``{date}`` (or ``{date:%Y%m%d}``) are filled in per read.

    A ``*`` beside ``{symbol}`` stands for nothing, or for text that is set off from the symbol by something other
    than a letter or digit: ``{symbol}*`` filled with BTCUSD matches BTCUSD_1.csv and BTCUSD.csv, not BTCUSDT.csv.
    """

    def __init__(self, path: str) -> None:
        if not path:
            raise ConfigError("path: a file, a folder or a pattern is needed")
        for name, form in _HOLE.findall(path):
            if name not in ("symbol", "date") or (name == "symbol" and form):
                raise ConfigError(
                    f"path: {{{name}}} is unknown{did_you_mean(name, ('symbol', 'date'))} "
                    "(a date may have a form: {date:%Y%m%d})"
                )
        self.path = os.path.expanduser(path)
        self.has_symbol = "{symbol}" in path
        self.has_date = "{date" in path
        self._variants = _set_off(self.path)

    def files(self, symbol: str, start_ns: int, stop_ns: int, others: Iterable[str] = ()) -> list[Path]:
        """The files that may hold rows of this symbol and time; DataError when there is none for any time.

        With ``{date}``, a date without a file is a date without rows. ``others`` are symbols no file may be shared
        with: ConfigError when a file matches the path of one of them too.
        """
        if self.has_symbol and not _SAFE_SYMBOL.fullmatch(symbol):
            raise ConfigError(f"path: the symbol {symbol!r} cannot be part of a file name")
        found = self._found(symbol, start_ns, stop_ns)
        if not found and not (self.has_date and self._matching(symbol, "*")):
            shown = self.path.replace("{symbol}", symbol)
            hint = "" if len(self._variants) == 1 else "; a * beside {symbol} does not begin with a letter or digit"
            raise DataError(f"no file matches {shown} (of the kinds {', '.join(SUFFIXES)}){hint}")
        if self.has_symbol and found and glob.has_magic(self.path):
            for other in others:
                self._refuse_shared(symbol, other, found, start_ns, stop_ns)
        return found

    def _found(self, symbol: str, start_ns: int, stop_ns: int) -> list[Path]:
        if not self.has_date:
            return self._matching(symbol, None)
        last = max(start_ns, stop_ns - 1) // NS_PER_DAY
        dates = [dt.date(1970, 1, 1) + dt.timedelta(days=d) for d in range(start_ns // NS_PER_DAY, last + 1)]
        return list(dict.fromkeys(file for date in dates for file in self._matching(symbol, date)))

    def _refuse_shared(self, symbol: str, other: str, found: list[Path], start_ns: int, stop_ns: int) -> None:
        if other == symbol or not _SAFE_SYMBOL.fullmatch(other):
            return
        shared = set(found).intersection(self._found(other, start_ns, stop_ns))
        if shared:
            raise ConfigError(
                f"path {self.path!r}: {min(shared)} matches it for {symbol} and for {other}, and there is no symbol "
                "column to tell their rows apart: name the column in columns.symbol, or make the path tell them apart"
            )

    def _matching(self, symbol: str, date: dt.date | str | None) -> list[Path]:
        def fill(hole: re.Match[str]) -> str:
            if hole[1] == "symbol":
                return symbol
            if isinstance(date, dt.date):
                return glob.escape(date.strftime(hole[2] or "%Y-%m-%d"))
            return str(date)

        matched: set[Path] = set()
        for variant in self._variants:
            pattern = _HOLE.sub(fill, variant)
            matched.update(map(Path, [pattern] if os.path.exists(pattern) else glob.glob(pattern, recursive=True)))
        paths = sorted(matched, key=str)
        out: list[Path] = []
        for path in paths:
            if path.is_dir():
                out += sorted(p for p in path.iterdir() if p.name.endswith(SUFFIXES) and not p.name.startswith("."))
            elif path.name.endswith(SUFFIXES):
                out.append(path)
            elif len(paths) == 1:
                raise DataError(f"{path}: not one of the kinds {', '.join(SUFFIXES)}")
        return out


def _set_off(path: str) -> list[str]:
    """The patterns that together are ``path``, each run of stars beside {symbol} being empty or set off from it."""
    variants = [""]
    end = 0
    for hole in _STARS.finditer(path):
        before = ["", f"{hole[1]}[!0-9A-Za-z]"] if hole[1] else [""]
        after = ["", f"[!0-9A-Za-z]{hole[2]}"] if hole[2] else [""]
        between = path[end : hole.start()]
        variants = [f"{v}{between}{b}{{symbol}}{a}" for v in variants for b in before for a in after]
        end = hole.end()
    return [variant + path[end:] for variant in variants]
