"""``bml inspect``: what is in a day file, as text, JSON or a picture."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bml.cli import exits, options

if TYPE_CHECKING:
    from bml.book.store import DayFile
    from bml.types import Event

#: time ranges shown per flag; the rest is counted
MAX_RANGES = 3

Plot = Annotated[bool, typer.Option("--plot", help="Draw the book to FILE's name with .png, in this directory.")]
Events = Annotated[int, typer.Option("--events", min=0, metavar="N", help="Quality events shown of each kind.")]
Png = Annotated[str | None, typer.Option("--png", metavar="OUT.png", help="Draw the book to this file.")]


@exits.guarded
def inspect(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A day file (.h5) of the store.")],
    plot: Plot = False,
    png: Png = None,
    events: Events = MAX_RANGES,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Show what is in a day file, checksums verified; or draw it.

    Prints shape, coverage, flags of the grid with their times, moments, and the quality report of the raw
    snapshots: how many of what, and when (--events 1000 for a longer list; --json has all of them).
    """
    from bml.book.report import to_text
    from bml.book.store import open_file
    from bml.types import ConfigError

    if png is not None and Path(png).suffix.lower() != ".png":
        raise ConfigError(f"--png {png}: pictures are PNG files, so the name must end in .png")
    picture = Path(png) if png is not None else Path(Path(file).with_suffix(".png").name) if plot else None
    with open_file(file, verify=True) as day:
        found = summary(day) | {"file": file}
        quality = to_text(day.quality, per_flag=events)
        if picture is not None:
            from bml.cli.heatmap import save_picture

            save_picture(day, picture)
            found["picture"] = str(picture)
    if json:
        options.print_json(found)
    else:
        print(text(found))
        print(f"quality of the raw snapshots: {quality}", end="")
        if picture is not None:
            print(f"picture   {picture}")


def summary(day: DayFile) -> dict[str, Any]:
    """Everything ``bml inspect`` says, as plain values. Reads flags, coverage, moments and features, not the book."""
    import numpy as np

    from bml.types import FIELDS, STATS, Flag

    flag_T = np.asarray(day.flag_T)
    is_gap_T, is_filled_T = (flag_T & Flag.GAP) != 0, (flag_T & Flag.FILLED) != 0
    used_NL2 = np.asarray(day.coverage_TL2)[~is_gap_T]
    steps, levels = day.book_TLF.shape[:2]
    shape = {"times": steps, "levels": levels, "fields": list(FIELDS), "dtype": str(day.book_TLF.dtype)}
    shares = {
        "fresh": float(np.mean(~is_gap_T & ~is_filled_T)),
        "filled": float(np.mean(~is_gap_T & is_filled_T)),
        "gap": float(np.mean(is_gap_T)),
        "levels_present": float(used_NL2.mean()) if used_NL2.size else None,
    }
    flags = {flag.name: (flag_T & flag) != 0 for flag in Flag}
    series = zip(day.moments.names_V, day.moments.stats_SV.T, strict=True)
    return {
        "symbol": day.symbol,
        "day": str(day.day),
        "first": _time(day.grid_ns_T[0]),
        "last": _time(day.grid_ns_T[-1]),
        "cadence_s": day.cadence_ns / 1e9,
        "units": day.attrs["units"],
        "shape": shape,
        "edges": day.edges_L1.tolist(),
        "shares": shares,
        "flags": {name: _runs(is_set_T, day.grid_ns_T) for name, is_set_T in flags.items() if is_set_T.any()},
        "counts": dict(day.quality.counts),
        "events": [_event(event) for event in day.quality.events],
        "moments": {name: dict(zip(STATS, stats_S.tolist(), strict=True)) for name, stats_S in series},
        "features": dict(zip(day.feature_names, np.isfinite(day.feature_TK).mean(axis=0).tolist(), strict=True)),
        "attrs": day.attrs,
    }


def _event(event: Event) -> dict[str, Any]:
    from bml.book.report import iso

    times = {"start": iso(event.start_ns), "stop": iso(event.stop_ns)}
    return {"flag": event.flag.name, **times, "count": event.count, "detail": event.detail}


def _runs(is_set_T: Any, grid_ns_T: Any) -> dict[str, Any]:
    """How many grid cells carry a flag, in how many runs, and when the longest of them were."""
    import numpy as np

    edges = np.flatnonzero(np.diff(np.concatenate(([0], is_set_T.astype(np.int8), [0]))))
    first_R, last_R = edges[::2], edges[1::2] - 1
    longest_R = np.sort(np.argsort(first_R - last_R, kind="stable")[:MAX_RANGES])
    ranges = [[_time(grid_ns_T[first_R[r]]), _time(grid_ns_T[last_R[r]])] for r in longest_R]
    return {"cells": int(is_set_T.sum()), "runs": len(first_R), "longest": ranges}


def _time(ns: int) -> str:
    return dt.datetime.fromtimestamp(int(ns) / 1e9, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def text(found: dict[str, Any]) -> str:
    """The summary for people."""
    shape, shares = found["shape"], found["shares"]
    present = "" if shares["levels_present"] is None else f", levels present {shares['levels_present']:.2%}"
    lines = [
        f"{found['symbol']}  {found['first']} .. {found['last']}  every {found['cadence_s']:g} s",
        f"book      {shape['times']} times x {shape['levels']} levels x {len(shape['fields'])} fields"
        f" ({' '.join(shape['fields'])}), {shape['dtype']}, {found['units']}",
        f"coverage  fresh {shares['fresh']:.2%}, filled {shares['filled']:.2%}, gap {shares['gap']:.2%}{present}",
    ]
    if found["features"]:
        known = ", ".join(f"{name} {share:.2%}" for name, share in found["features"].items())
        lines.append(f"features  known in rows: {known}")
    lines += _flag_lines(found["flags"])
    lines += _moment_lines(found["moments"])
    return "\n".join(lines)


def _flag_lines(flags: dict[str, Any]) -> list[str]:
    if not flags:
        return ["flags     none"]
    lines: list[str] = []
    for name, one in flags.items():
        ranges = ", ".join(f"{a[11:19]}-{b[11:19]}" if a != b else a[11:19] for a, b in one["longest"])
        more = f" and {one['runs'] - len(one['longest'])} more" if one["runs"] > len(one["longest"]) else ""
        head = "flags" if not lines else ""
        lines.append(f"{head:9} {name:10} {one['cells']:6} cells in {one['runs']} runs: {ranges}{more}")
    return lines


def _moment_lines(moments: dict[str, Any]) -> list[str]:
    columns = list(next(iter(moments.values()), ()))
    width = max((len(name) for name in moments), default=0)
    lines = [f"moments   {'':{width}} " + " ".join(f"{column:>12}" for column in columns)]
    for name, one in moments.items():
        lines.append(f"{'':9} {name:{width}} " + " ".join(f"{one[column]:12.6g}" for column in columns))
    return lines
