"""A background thread that fills buffers ahead of who uses them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Room = TypeVar("Room")
Part = TypeVar("Part")
Filled = TypeVar("Filled")


def prefetched(fill: Callable[[Room, Part], Filled], parts: Sequence[Part], rooms: Sequence[Room]) -> Iterator[Filled]:
    """``fill(room, part)`` of every part, in order, each in one of ``rooms`` by turns.

    One thread fills as far ahead as there are rooms, less the one in use: what is handed out is valid until the next
    is asked for. What ``fill`` raises is raised where its part would have come. The thread ends with the iterator.
    """
    ahead = len(rooms) - 1
    pending: deque[Future[Filled]] = deque()
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bml-loader")
    try:
        for k, part in enumerate(parts):
            pending.append(pool.submit(fill, rooms[k % len(rooms)], part))
            if k >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
