"""What a source is: something that hands out the tall rows of one symbol over a time range."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self, runtime_checkable

from bml.types import DepthBook, DepthRows


class Source(Protocol):
    """Opened by a function decorated with :func:`bml.registry.source`, used as a context manager.

    A source knows where rows lie and what its columns are called; it knows nothing of grids or tensors.
    """

    def read(self, symbol: str, start_ns: int, stop_ns: int) -> DepthRows:
        """Rows with ``start_ns <= ts < stop_ns``, in any order; no rows is an empty :class:`DepthRows`.

        Raises SourceError (unreachable, refused) or DataError (missing table or column, wrong type).
        """
        ...

    def describe(self) -> dict[str, str | int | float]:
        """Where the rows come from, for logs and files: never a password, never a dsn."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class ReadsBook(Protocol):
    """A source that can place its rows while they arrive, so that they are never held as columns."""

    @property
    def reads_book(self) -> bool:
        """Whether it can with the columns it was given."""
        ...

    def read_book(
        self, symbol: str, start_ns: int, stop_ns: int, *, levels: int, duplicates: Literal["error", "first", "last"]
    ) -> DepthBook:
        """What :meth:`Source.read` hands out, as a book of ``levels``; ``duplicates`` as of book.dataobject.build."""
        ...


@runtime_checkable
class EstimatesRows(Protocol):
    """A source whose server can guess how many rows a read has, without reading them."""

    def estimated_rows(self, symbol: str, start_ns: int, stop_ns: int) -> float | None:
        """About how many rows :meth:`Source.read` hands out; None where this server does not tell."""
        ...


@runtime_checkable
class HasTruth(Protocol):
    """A source that knows the true distribution its rows were drawn from (the synthetic market)."""

    def write_truth(self, folder: Path) -> Path:
        """Write the truth beside the data, atomically; returns the file."""
        ...
