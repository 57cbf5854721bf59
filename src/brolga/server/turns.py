"""One change of a repository at a time, and no thread that waits for its turn.

Knows who waits for whom. Must not know what is changed.

The lock of a layout is another process's as well (see layout), and may be held for long. So it is
only tried: a change that finds it taken is tried again later, and the worker threads, which all
repositories share, are free meanwhile. Within this process changes queue for it in their order.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakValueDictionary

from brolga.server.layout import LayoutBusy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Turns"]

_T = TypeVar("_T")

# Longer than anybody needs who changes an index; one that hangs must not keep clients for ever.
PATIENCE_S = 60.0
_STEP_S = 0.02


class Turns:
    """The queue of each repository; one that nobody stands in is forgotten."""

    def __init__(self) -> None:
        self._queues: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()

    async def take(self, path: Path, work: Callable[[], _T]) -> _T:
        """Do some work on a layout in a worker thread, once it is not locked.

        It must do nothing, or the same again, after it raised LayoutBusy. Raises LayoutBusy where
        that goes on for too long.
        """
        end = asyncio.get_running_loop().time() + PATIENCE_S
        queue = self._queues.setdefault(path, asyncio.Lock())
        try:
            async with asyncio.timeout_at(end):
                await queue.acquire()
        except TimeoutError as error:
            raise LayoutBusy("the changes before this one take too long") from error
        try:
            return await _try(work, end)
        finally:
            queue.release()


async def _try(work: Callable[[], _T], end: float) -> _T:
    loop = asyncio.get_running_loop()
    while True:
        try:
            return await asyncio.to_thread(work)
        except LayoutBusy:
            if loop.time() > end:
                raise
            await asyncio.sleep(_STEP_S)
