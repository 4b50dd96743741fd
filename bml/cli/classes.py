"""``bml classes``: what the classes of a configuration are like from month to month, before anything is trained."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bml.cli import exits, options
from bml.cli.stages import PREPROCESS_STAGES

if TYPE_CHECKING:
    from bml.config import Config
    from bml.dataset.advice import Advice, Month, Shares, SymbolAdvice, Tried
    from bml.dataset.dataset import Dataset

#: columns of the table
WIDTH = 100
#: shares in one line of the table
WIDE = 8
#: a drift this many times what chance makes is marked
LOUD = 3.0
TEST_SEEN = ("the test block was looked at: what you choose by these months is fitted to it, and its results are no "
             "test any more")  # fmt: skip

Plot = Annotated[str | None, typer.Option("--plot", metavar="OUT.png", help="Draw the shares of every month.")]
IncludeTest = Annotated[
    bool,
    typer.Option(
        "--include-test", help="Open the test block too, which is counted: no longer a test of what is chosen by it."
    ),
]
AllowDead = Annotated[bool, typer.Option("--allow-dead-classes", help="Tell of dead classes, but do not refuse them.")]
MinShare = Annotated[
    float, typer.Option("--min-share", min=0.0, max=1.0, metavar="SHARE", help="A class with less is dead.")
]
MinEffective = Annotated[
    float, typer.Option("--min-n-eff", min=0.0, metavar="N", help="Or with fewer rows, overlap discounted.")
]


@exits.guarded
def classes(
    config: options.ConfigPath,
    plot: Plot = None,
    include_test: IncludeTest = False,
    allow_dead_classes: AllowDead = False,
    min_share: MinShare = 0.01,
    min_n_eff: MinEffective = 2.0,
    set_: options.Set = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Tell how often each class comes, by symbol and month, and what other numbers of classes would give.

    From the day files' mids, after bml preprocess and before any training. Refuses (exit code 3) classes that have
    next to no training row. The test block is left out: edges chosen by a look at it are fitted to it.
    """
    from bml.dataset.advice import advise_on, require_live
    from bml.types import ConfigError

    options.start_logging(False, debug)
    if plot is not None and Path(plot).suffix.lower() != ".png":
        raise ConfigError(f"--plot {plot}: pictures are PNG files, so the name must end in .png")
    cfg = options.load(config, set_, PREPROCESS_STAGES)
    dataset = _dataset(cfg)
    if include_test:
        exits.say(f"warning: {TEST_SEEN}. {_opened(cfg, dataset)}")
    advice = advise_on(dataset, include_test=include_test, min_share=min_share, min_effective=min_n_eff)
    found = {"name": cfg.name, "horizon_s": _horizon_s(dataset), **advice.document()}
    told = text(advice, _horizon_s(dataset))
    if plot is not None:
        from bml.cli.classes_picture import save_picture

        save_picture(advice, Path(plot))
        found["picture"] = plot
        told += f"\npicture   {plot}"
    if json:
        options.print_json(found)
    else:
        print(told)
    if not (allow_dead_classes or _allowed(cfg)):
        require_live(advice)


def _dataset(cfg: Config) -> Dataset:
    """The dataset that would be trained on; checksums of the books, which are not read, are left alone."""
    from bml import handover
    from bml.book.rolling import reading

    with reading(cfg.store.root):
        dataset: Dataset = cfg.features.function()(cfg, handover.day_store(cfg, verify=False), **cfg.features.params)
    return dataset


def _opened(cfg: Config, dataset: Dataset) -> str:
    """Count that the test block is looked at, like an evaluation of it; how often that was, in words."""
    from bml import handover, pipeline
    from bml.tracking import Tracker

    tracker = Tracker(cfg.tracking, cfg.store.root, document=cfg.document)
    upstream = [handover.load(cfg, "preprocess")]
    with tracker.stage("dataset-preparation", upstream=upstream, name=f"{cfg.name}-classes-test") as run:
        return pipeline.count_opening(cfg, dataset, run, model="").words


def _allowed(cfg: Config) -> bool:
    from bml.dataset.classes import allows_dead

    return allows_dead(cfg.features.params.get("classes"))


def _horizon_s(dataset: Dataset) -> float:
    return dataset.horizon_rows * dataset.grid.cadence_ns / 1e9


def text(advice: Advice, horizon_s: float) -> str:
    """The advice for people, in ``WIDTH`` columns."""
    names = [f"  {k:2}  {name}" for k, name in enumerate(advice.class_names)]
    width = max(map(len, names)) + 2
    per_line = max(1, WIDTH // width)
    lines = [f"classes of the return over {horizon_s:g} s"]
    lines += ["".join(name.ljust(width) for name in names[k : k + per_line]).rstrip()
              for k in range(0, len(names), per_line)]  # fmt: skip
    for symbol, one in advice.symbols.items():
        lines += ["", *_symbol_lines(symbol, one, len(advice.class_names))]
    lines += [
        "",
        "n_eff: rows, overlap of labels discounted.  tails: the two outermost classes.  PSI: drift of the",
        f"shares against training; ! where above {LOUD:g} times what chance gives.  zero: returns of exactly 0.",
        "Shares, tails and zero in %.  Blocks: T train, E early_stop, C calibrate, ! test.",
    ]
    return "\n".join(lines)


def _symbol_lines(symbol: str, one: SymbolAdvice, classes: int) -> list[str]:
    head = "".join(f"{k:5d}" for k in range(min(classes, WIDE)))
    lines = [symbol, f"{'rows':>19}{'n_eff':>8}{head.ljust(5 * WIDE)} entropy tails    PSI  zero"]
    lines += _line("train", "", one.train, drift=False)
    for month in one.months:
        lines += _line(month.month, _letters(month), month.of)
    best = math.log(classes)
    lines.append(f"  at worst: smallest {one.smallest:.2%}, tails {100 * one.two_tails_off:.1f} points off training; "
                 f"entropy of equal shares {best:.3f}")  # fmt: skip
    for tried in one.tried:
        lines += textwrap.wrap(_tried(tried), WIDTH, initial_indent="  ", subsequent_indent=" " * 20)
    lines += [
        f"  DEAD: {dead.name!r}: {dead.share:.2%} of the training rows, n_eff {dead.n_eff:.1f}" for dead in one.dead
    ]
    if one.left_out:
        lines.append(f"  left out: {one.left_out:,} rows of the test block")
    return lines


def _letters(month: Month) -> str:
    return "".join("!" if name == "test" else name[0].upper() for name in month.blocks)


def _line(name: str, blocks: str, of: Shares, *, drift: bool = True) -> list[str]:
    """One line, and further ones for the shares that it has no room for."""
    shares = [f"{100 * share:5.1f}" for share in of.shares]
    psi = f"{of.psi:6.3f}{'!' if of.psi > LOUD * of.psi_noise else ' '}" if drift else " " * 7
    first = "".join(shares[:WIDE]).ljust(5 * WIDE)
    line = f"{name:8}{blocks:3}{of.rows:8,d}{of.n_eff:8,.0f}{first}{of.entropy:8.3f}{100 * of.two_tails:6.1f} {psi}"
    rest = [" " * 27 + "".join(shares[k : k + WIDE]) for k in range(WIDE, len(shares), WIDE)]
    return [f"{line}{100 * of.zeros:5.2f}", *rest]


def _tried(tried: Tried) -> str:
    start = f"{tried.classes:2} equal classes:"
    if tried.refused:
        return f"{start} {tried.refused}"
    return (f"{start} at worst smallest {tried.smallest:.2%} (n_eff {tried.n_eff_smallest:.0f}), tails "
            f"{100 * tried.two_tails_off:.1f} points off, PSI {tried.psi:.3f}")  # fmt: skip
