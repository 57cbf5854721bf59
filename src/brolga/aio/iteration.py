"""Iteration over what a thread yields, read ahead by a bounded number of items."""

from __future__ import annotations

import asyncio
import warnings
from contextlib import closing, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from brolga.stream.worker import POLL_INTERVAL_S, Stop

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from brolga.aio.calls import Call, CallPool

_T = TypeVar("_T")


@dataclass(frozen=True)
class _End:
    """The end of an iteration, and the error that was its cause."""

    error: BaseException | None = None


class _Producer(Generic[_T]):
    """The thread's side: it takes a slot for each item that it computes."""

    def __init__(self, generate: Callable[[], Generator[_T, None, object]], ahead: int) -> None:
        self.items: SimpleQueue[_T | _End] = SimpleQueue()
        self.slots: SimpleQueue[None] = SimpleQueue()
        for _ in range(ahead):
            self.slots.put(None)
        self.is_awaited = False
        self.arrived = asyncio.Event()
        self.stop = Stop()
        self._loop = asyncio.get_running_loop()
        self._generate = generate

    def run(self) -> None:
        end = _End()
        try:
            with closing(self._generate()) as items:
                self._wait_for_slot()
                for item in items:
                    self._put(item)
                    self._wait_for_slot()
        except BaseException as error:  # noqa: BLE001 - raised in the task
            end = _End(error)
        self._put(end)

    def _wait_for_slot(self) -> None:
        while True:
            with suppress(Empty):
                self.slots.get(timeout=POLL_INTERVAL_S)
                break
            # The client may be closed, or the loop be gone, while no item is requested.
            self.stop.check()
            if self._loop.is_closed():
                raise RuntimeError("the event loop of the client has ended")
        self.stop.check()

    def _put(self, item: _T | _End) -> None:
        self.items.put(item)
        if self.is_awaited:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self.arrived.set)


class ThreadIterator(Generic[_T]):
    """The items of a generator that runs in a thread. Close it, or iterate it to its end.

    At most `ahead` items are computed before they are requested.
    """

    def __init__(
        self, calls: CallPool, generate: Callable[[], Generator[_T, None, object]], ahead: int
    ) -> None:
        self._calls = calls
        # The thread refers to the producer only, so that dropping this object stops it.
        self._producer = _Producer(generate, ahead)
        self._call: Call[None] | None = None
        self._is_requested = False
        self._is_over = False

    async def __aenter__(self) -> Self:
        """Start the thread."""
        self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop the thread."""
        await self.close()

    def __del__(self) -> None:
        """Stop a thread that was left running, with a warning, as files do."""
        if self._call is not None and not self._is_over:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self._request_stop()

    async def next(self) -> _T | None:
        """Return the next item; None at the end. Raises what the generator raises."""
        if self._is_over:
            return None
        self._start()
        producer = self._producer
        if producer.is_awaited:
            raise RuntimeError("another task waits for the next item")
        if not self._is_requested:  # else a call was cancelled while it waited
            producer.slots.put(None)
            self._is_requested = True
        producer.is_awaited = True
        try:
            while producer.items.empty():
                producer.arrived.clear()
                await producer.arrived.wait()
        finally:
            producer.is_awaited = False
        item = producer.items.get_nowait()
        self._is_requested = False
        if not isinstance(item, _End):
            return item
        self._is_over = True
        if item.error is None:
            return None
        if isinstance(item.error, KeyboardInterrupt) and producer.stop.requests:
            raise RuntimeError("the client was closed before the iteration had ended")
        raise item.error

    async def close(self) -> None:
        """Stop the thread, and wait for its end. Idempotent."""
        self._is_over = True
        if self._call is not None:
            self._request_stop()
            await self._call.join()

    def _start(self) -> None:
        if self._call is None:
            self._call = self._calls.start(self._producer.run, self._producer.stop)

    def _request_stop(self) -> None:
        self._producer.stop.request_once()
        self._producer.slots.put(None)


async def iterate(
    calls: CallPool, generate: Callable[[], Generator[_T, None, object]], ahead: int
) -> AsyncGenerator[_T, None]:
    """Yield the items of a generator that runs in a thread."""
    async with ThreadIterator(calls, generate, ahead) as items:
        while (item := await items.next()) is not None:
            yield item
