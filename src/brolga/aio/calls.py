"""Blocking calls in threads, for the tasks of one event loop.

A task that is cancelled asks its thread to stop (`Stop`), and waits for its end: nothing that it
began goes on without it.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from brolga.stream.worker import Stop, stop_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_T = TypeVar("_T")

_MAX_THREADS: Final = 1 << 20  # `CallPool.run` bounds the calls, and each open stream has a thread


class Kind(Enum):
    """A kind of calls, whose number at a time is bounded.

    The source of a push may be code that makes requests with the same client. So they are counted
    apart: else the push, which waits for its source, could keep the request waiting.
    """

    REQUEST = "request"
    PUSH = "push"


class CallPool:
    """Runs blocking functions in threads, `jobs` of a kind at a time.

    Raises RuntimeError if no event loop is running.
    """

    def __init__(self, jobs: int) -> None:
        self.loop = asyncio.get_running_loop()
        self._bounds = {kind: asyncio.Semaphore(jobs) for kind in Kind}
        self._executor = ThreadPoolExecutor(_MAX_THREADS, "brolga-aio")
        self._running: set[Call[Any]] = set()
        self._is_closed = False

    async def run(self, kind: Kind, function: Callable[[], _T]) -> _T:
        """Call a function in a thread; return its result. Raises as `start` does."""
        async with self._bounds[kind]:
            return await self.start(function, Stop()).wait()

    def start(self, function: Callable[[], _T], stop: Stop) -> Call[_T]:
        """Start a function in a thread, in a copy of the task's context, within `stop`.

        Raises RuntimeError after `close`, and in another event loop.
        """
        if self._is_closed:
            raise RuntimeError("the client is closed")
        if asyncio.get_running_loop() is not self.loop:
            raise RuntimeError("the client belongs to the event loop in which it was made")
        run = partial(copy_context().run, _run_until_stopped, function, stop)
        try:
            future = self.loop.run_in_executor(self._executor, run)
        except BaseException:  # no thread could be started, but the function is in the queue
            stop.request()
            raise
        call = Call(future, stop)
        self._running.add(call)
        call.future.add_done_callback(lambda _: self._running.discard(call))
        return call

    async def close(self) -> None:
        """Stop what is running, and wait for its end. Its callers get a RuntimeError."""
        self._is_closed = True
        running = list(self._running)
        for call in running:
            call.stop.request()
        try:
            await _join(running)
        finally:
            self._executor.shutdown(wait=False)


class Call(Generic[_T]):
    """A function that runs in a thread. `stop` interrupts it."""

    def __init__(self, future: asyncio.Future[_T], stop: Stop) -> None:
        self.future = future
        self.stop = stop

    async def join(self) -> None:
        """Wait for the end. A cancellation meanwhile requests a stop, and is raised at the end."""
        await _join([self])

    async def wait(self) -> _T:
        """Wait for the end; return the result. Raises what the function raised."""
        await self.join()
        try:
            return self.future.result()
        except KeyboardInterrupt:
            if not self.stop.requests:
                raise
        finally:
            del self  # its future has the error, whose traceback refers to this frame
        raise RuntimeError("the client was closed before the call had ended")


async def _join(calls: Collection[Call[Any]]) -> None:
    cancelled: asyncio.CancelledError | None = None
    while pending := [call.future for call in calls if not call.future.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            for call in calls:
                call.stop.request()
            cancelled = error
    for call in calls:
        call.future.exception()  # else asyncio reports that no caller retrieved it
    try:
        if cancelled is not None:
            raise cancelled
    finally:
        del cancelled  # its traceback refers to this frame


def _run_until_stopped(function: Callable[[], _T], stop: Stop) -> _T:
    with stop_scope(stop):
        stop.check()
        return function()
