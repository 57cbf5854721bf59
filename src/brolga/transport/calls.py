"""The blocking calls of a flow that runs on an event loop, which a thread makes."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from brolga.stream.worker import POLL_INTERVAL_S, Stop

if TYPE_CHECKING:
    from collections.abc import Callable

_THREAD: Final = "brolga-call"


class _Call:
    """A call under way in a thread."""

    def __init__(self, function: Callable[[], object]) -> None:
        self.waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self._function = function

    def perform(self) -> None:
        """Call the function, in the thread."""
        loop = self.waiter.get_loop()
        try:
            self.result = self._function()
        except BaseException as error:  # noqa: BLE001 - raised where the call is awaited
            self.error = error
        loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self.is_done = True
        if not self.waiter.done():
            self.waiter.set_result(None)


class Calls:
    """The blocking calls of one flow on a loop, which one thread makes in turn.

    `end_wait` ends what the flow waits for on the loop. It is called, on the loop, after an
    interrupt of the thread and after a `stop` request.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, stop: Stop | None = None) -> None:
        self._loop = loop
        self._stop = stop or Stop()
        self._interrupts: list[BaseException] = []
        self._is_over = False
        self.end_wait: Callable[[], None] | None = None
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._start: Callable[[], object] | None = None

    @classmethod
    def in_new_thread(cls) -> Calls:
        """Return calls that are made by a thread of their own, in the context of this task."""
        calls, context = cls(asyncio.get_running_loop()), contextvars.copy_context()
        thread = threading.Thread(
            target=context.run, args=(calls.serve,), name=_THREAD, daemon=True
        )
        calls._start = thread.start
        return calls

    async def make(self, function: Callable[[], object]) -> object:
        """Call a function in the thread. A cancellation is raised when the call has ended."""
        if self._start is not None:
            start, self._start = self._start, None
            start()
        call = _Call(function)
        self._calls.put(call)
        cancellation = None
        while not call.is_done:
            try:
                await call.waiter
            except asyncio.CancelledError as error:
                cancellation = error
                call.waiter = asyncio.get_running_loop().create_future()
        if cancellation is not None:
            raise cancellation
        # The traceback of the error refers to the call, and to this frame.
        failure, call.error = call.error, None
        if failure is not None:
            try:
                raise failure
            finally:
                del failure
        return call.result

    def serve(self) -> None:
        """Make the calls, in the thread, until `close` or the end of the loop."""
        seen = 0
        while not self._is_over:
            try:
                if (call := self._calls.get(timeout=POLL_INTERVAL_S)) is not None:
                    call.perform()
                del call  # it has the error, and so the frames, of what was called
            except Empty:
                if self._stop.requests > seen:
                    seen = self._stop.requests
                    self._end_wait()
                if not self._loop.is_running():
                    return
            except BaseException as interrupt:  # noqa: BLE001 - raised in the flow, see `check`
                self._interrupts.append(interrupt)
                self._end_wait()

    def reopen(self, stop: Stop) -> None:
        """Let `serve` make calls again after `close`, until a request of `stop`."""
        self._stop = stop
        self._is_over = False

    def check(self, ignored_stops: int) -> None:
        """Raise an interrupt of the thread, or KeyboardInterrupt after a stop request."""
        if self._interrupts:
            raise self._interrupts.pop(0)
        self._stop.check(ignored_stops)

    def close(self) -> None:
        """Let the thread end."""
        self._is_over = True
        if self._start is None:
            self._calls.put(None)

    def _end_wait(self) -> None:
        if (end_wait := self.end_wait) is not None:
            self._loop.call_soon_threadsafe(end_wait)
