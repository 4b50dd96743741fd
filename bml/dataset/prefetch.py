"""A background thread that fills buffers ahead of who uses them."""

from __future__ import annotations

import os
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
    Raises RuntimeError in a forked child, which has no such thread: begin a new iteration there.
    """
    ahead, process = len(rooms) - 1, os.getpid()
    pending: deque[Future[Filled]] = deque()
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bml-loader")
    try:
        for k, part in enumerate(parts):
            pending.append(pool.submit(fill, rooms[k % len(rooms)], part))
            if k >= ahead:
                yield _result(pending.popleft(), process)
        while pending:
            yield _result(pending.popleft(), process)
    finally:
        pool.shutdown(cancel_futures=True)


def _result(filled: Future[Filled], process: int) -> Filled:
    if os.getpid() != process:
        raise RuntimeError("an iteration over a loader cannot go on in a forked process: begin a new one there")
    return filled.result()
