"""Which files a path names: a file, a folder (hive-partitioned or not) or a pattern, filled with symbol and dates."""

from __future__ import annotations

import datetime as dt
import glob
import re
from collections.abc import Iterable, Mapping

from bml.sources.hive import Partitions
from bml.sources.layout import did_you_mean
from bml.sources.remote import File, disk_of
from bml.types import NS_PER_DAY, ConfigError, DataError

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".zip")
_HOLE = re.compile(r"\{([^{}:]*)(?::([^{}]*))?\}")
_STARS = re.compile(r"(\**)\{symbol\}(\**)")
_SAFE_SYMBOL = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")


class PathPattern:
    """A file, a folder or a glob; ``{symbol}`` and ``{date}`` (or ``{date:%Y%m%d}``) are filled in per read.

    A ``*`` beside ``{symbol}`` stands for nothing, or for text that is set off from the symbol by something other
    than a letter or digit: ``{symbol}*`` filled with BTCUSD matches BTCUSD_1.csv and BTCUSD.csv, not BTCUSDT.csv.
    A folder of folders called key=value is searched for files below the partitions that can hold the rows asked
    for: see :class:`bml.sources.hive.Partitions`. ``margin_days``: how many days before and after its date a file
    named by {date} may hold rows of.
    """

    def __init__(
        self,
        path: str,
        *,
        symbol_key: str | None = None,
        partitions: Mapping[str, str] | None = None,
        margin_days: int = 0,
    ) -> None:
        if not path:
            raise ConfigError("path: a file, a folder or a pattern is needed")
        for name, form in _HOLE.findall(path):
            if name not in ("symbol", "date") or (name == "symbol" and form):
                raise ConfigError(
                    f"path: {{{name}}} is unknown{did_you_mean(name, ('symbol', 'date'))} "
                    "(a date may have a form: {date:%Y%m%d})"
                )
        self._disk, self.path = disk_of(path)
        self._hive = Partitions(symbol_key, partitions or {})
        self._margin_days = margin_days
        self.has_symbol = "{symbol}" in path
        self.has_date = "{date" in path
        self._variants = _set_off(self.path)

    def files(
        self, symbol: str, start_ns: int, stop_ns: int, others: Iterable[str] = (), name: str | None = None
    ) -> list[File]:
        """The files that may hold rows of this symbol and time; DataError when there is none for any time.

        ``name`` is what the symbol is called in partitions (default: as in the configuration). With ``{date}``, a
        date without a file is a date without rows. ``others`` are symbols no file may be shared with: ConfigError
        when a file matches the path of one of them too.
        """
        if self.has_symbol and not _SAFE_SYMBOL.fullmatch(symbol):
            raise ConfigError(f"path: the symbol {symbol!r} cannot be part of a file name")
        asked = (symbol if name is None else name, start_ns, stop_ns)
        found = self._found(symbol, asked)
        if not found and not self._matching(symbol, "*" if self.has_date else None, (asked[0], None, None)):
            shown = self.path.replace("{symbol}", symbol)
            hint = "" if len(self._variants) == 1 else "; a * beside {symbol} does not begin with a letter or digit"
            raise DataError(f"no file matches {shown} (of the kinds {', '.join(SUFFIXES)}){hint}")
        if self.has_symbol and found and glob.has_magic(self.path):
            for other in others:
                self._refuse_shared(symbol, other, found, asked)
        return found

    def partitions(self, file: File) -> dict[str, str]:
        """Values that the names of a file's folders give it, as in symbol=BTC-USDT/dt=2024-01-01/."""
        return self._hive.of(str(file))

    def _found(self, symbol: str, asked: tuple[str, int, int]) -> list[File]:
        if not self.has_date:
            return self._matching(symbol, None, asked)
        _, start_ns, stop_ns = asked
        margin, last = self._margin_days, max(start_ns, stop_ns - 1) // NS_PER_DAY
        dates = [_date(d) for d in range(start_ns // NS_PER_DAY - margin, last + 1 + margin)]
        return list(dict.fromkeys(file for date in dates for file in self._matching(symbol, date, asked)))

    def _refuse_shared(self, symbol: str, other: str, found: list[File], asked: tuple[str, int, int]) -> None:
        if other == symbol or not _SAFE_SYMBOL.fullmatch(other):
            return
        shared = set(map(str, found)).intersection(map(str, self._found(other, asked)))
        if shared:
            raise ConfigError(
                f"path {self.path!r}: {min(shared)} matches it for {symbol} and for {other}, and there is no symbol "
                "column to tell their rows apart: name the column in columns.symbol, or make the path tell them apart"
            )

    def _matching(
        self, symbol: str, date: dt.date | str | None, asked: tuple[str, int | None, int | None]
    ) -> list[File]:
        def fill(hole: re.Match[str]) -> str:
            if hole[1] == "symbol":
                return symbol
            if isinstance(date, dt.date):
                return glob.escape(date.strftime(hole[2] or "%Y-%m-%d"))
            return str(date)

        matched: dict[str, File] = {}
        for variant in self._variants:
            matched |= {str(file): file for file in self._disk.glob(_HOLE.sub(fill, variant))}
        out: list[File] = []
        for text in sorted(matched):
            path = matched[text]
            if path.name.endswith(SUFFIXES):
                out.append(path)
            elif self._disk.is_dir(path):
                out += [p for p in self._hive.files(self._disk, path, *asked) if p.name.endswith(SUFFIXES)]
            elif len(matched) == 1:
                raise DataError(f"{path}: not one of the kinds {', '.join(SUFFIXES)}")
        return out


def _date(day: int) -> dt.date:
    return dt.date(1970, 1, 1) + dt.timedelta(days=day)


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
