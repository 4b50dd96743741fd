"""What training tells on stderr: a bar when a person watches, one plain line per epoch when nobody does."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    def batches(self, batches: Iterable[T], total: int, epoch: int) -> Iterable[T]: ...
    def epoch(self, epoch: int, epochs: int, metrics: dict[str, float], best: bool) -> None: ...
    def note(self, text: str) -> None: ...


class Silent:
    def batches(self, batches: Iterable[T], total: int, epoch: int) -> Iterable[T]:
        return batches

    def epoch(self, epoch: int, epochs: int, metrics: dict[str, float], best: bool) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class Lines(Silent):
    def epoch(self, epoch: int, epochs: int, metrics: dict[str, float], best: bool) -> None:
        self.note(epoch_line(epoch, epochs, metrics, best))

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def shown(progress: bool) -> Iterator[Progress]:
    """The right kind for this stderr; the bar is closed however the block ends."""
    if not progress:
        yield Silent()
    elif not sys.stderr.isatty():
        yield Lines()
    else:
        with _bar() as bar:
            yield bar


def epoch_line(epoch: int, epochs: int, metrics: dict[str, float], best: bool) -> str:
    told = (
        f"epoch {epoch:>3}/{epochs}  train {metrics['train_loss']:.5f}  val nll {metrics['val_nll']:.5f}  "
        f"val accuracy {metrics['val_accuracy']:.4f}  {metrics['samples_per_s']:.0f} samples/s"
    )
    return told + ("  best" if best else "")


@contextmanager
def _bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as bar:

        class Bar:
            def batches(self, batches: Iterable[T], total: int, epoch: int) -> Iterable[T]:
                task = bar.add_task(f"epoch {epoch}", total=total)
                for batch in batches:
                    yield batch
                    bar.advance(task)
                bar.remove_task(task)

            def epoch(self, epoch: int, epochs: int, metrics: dict[str, float], best: bool) -> None:
                self.note(epoch_line(epoch, epochs, metrics, best))

            def note(self, text: str) -> None:
                bar.console.print(text, highlight=False, soft_wrap=True, markup=False)

        yield Bar()
