"""The rest of a blob in parts, which several connections read at a time.

The reader's thread makes parts, up to a bound, and takes their bytes in order. Each worker thread
reads one part after the other, by one request each.
"""

from __future__ import annotations

import time
from collections import deque
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from brolga.protocol import BlobHead
from brolga.stores.read_budget import Share
from brolga.stream.worker import POLL_INTERVAL_S, Stop, Worker, current_stop, stop_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from brolga.spec.blob import Block
    from brolga.stores.read_budget import ReadBudget, ReadLimits

    # Returns what yields the heads and the bytes from one offset to another.
    Fetch = Callable[[int, int], Iterator[BlobHead | Block]]

_THREAD: Final = "brolga-part"


class Part:
    """The bytes from `start` to `stop`, while a worker receives them.

    `position` is the offset of the next byte for the reader. `attempt` counts from 0.
    """

    def __init__(self, start: int, stop: int, parent: Stop, attempt: int = 0) -> None:
        self.position = start
        self.stop = stop
        self.attempt = attempt
        self.is_left = False
        self.stop_request = Stop(parent, "another connection reads this part")
        # The end is None. An error is raised in the reader's thread.
        self.items: SimpleQueue[Block | BaseException | None] = SimpleQueue()
        self.begin_s = self.head_s = self.end_s = 0.0  # by time.monotonic(); 0 is not yet

    def leave(self) -> None:
        """Let the worker stop, and end."""
        self.is_left = True
        self.stop_request.request_once()

    def receive(self, fetch: Fetch) -> None:
        """Receive the bytes, in a worker thread."""
        self.begin_s = time.monotonic()
        try:
            with stop_scope(self.stop_request):
                for item in fetch(self.position, self.stop):
                    if isinstance(item, BlobHead):
                        self.head_s = self.head_s or time.monotonic()
                    else:
                        self.items.put(item)
            self.end_s = time.monotonic()
            self.items.put(None)
        except BaseException as error:  # noqa: BLE001 - raised in the reader's thread
            self.items.put(error)


class Parts:
    """A blob of `size` bytes from offset `start` on, read in parts. Close it at the end.

    `connections` is what the blob's reader has; more are taken while there are any.
    """

    def __init__(
        self, fetch: Fetch, start: int, size: int, budget: ReadBudget, connections: Share
    ) -> None:
        self._fetch = fetch
        self._size = size
        self._limits: ReadLimits = budget.limits
        self._connections = connections
        self._memory = Share(budget.parts)
        self._stop = Stop(current_stop(), "the blob is not read any more")
        self._next_start = start
        self._parts: deque[Part] = deque()
        self._todo: SimpleQueue[Part | None] = SimpleQueue()
        self._workers: list[Worker] = []
        self._running = 0  # workers that will take another part
        self._ahead = 0  # requests, for each connection
        self._usual = 0.0, 0.0  # seconds of a part: up to the head, and then to the end
        self._fill(self._connections.count - 1)

    @property
    def start(self) -> int:
        """The offset of the first part."""
        return self._parts[0].position

    @property
    def has_begun(self) -> bool:
        """Whether the response for the first part has begun, so that the registry gives parts."""
        return bool(self._parts[0].head_s)

    def skip(self) -> bool:
        """Leave out the first part; return whether there is another."""
        self._parts.popleft().stop_request.request_once()
        return bool(self._parts)

    def blocks(self) -> Generator[Block, None, None]:
        """Yield the bytes in order. Raises the error of a part at its place."""
        while self._parts:
            self._share_connections()
            self._fill(self._connections.count)
            while (block := self._next_block()) is not None:
                self._parts[0].position += len(block)
                yield block
            self._note_end(self._parts.popleft())
            self._memory.give()

    def close(self) -> None:
        """Stop the workers, and wait for them."""
        self._stop.request_once()
        for _ in self._workers:
            self._todo.put(None)
        for worker in self._workers:
            worker.join()
        self._memory.close()

    # --- Inside

    def _fill(self, connections: int) -> None:
        """Make parts while there is memory, and have enough workers for so many connections."""
        while self._next_start < self._size and (self._memory.take() or not self._parts):
            stop = min(self._next_start + self._limits.part_size, self._size)
            part = Part(self._next_start, stop, self._stop)
            self._next_start = stop
            self._parts.append(part)
            self._todo.put(part)
        wanted = min(connections * (1 + self._ahead), len(self._parts))
        while self._running < wanted:
            self._running += 1
            self._start_worker()

    def _share_connections(self) -> None:
        """Give a connection to another blob that has none, or take one that is free."""
        if not self._connections.give_if_owed():
            self._connections.take()
        while self._running > self._connections.count * (1 + self._ahead):
            self._running -= 1
            self._todo.put(None)  # it ends one worker

    def _start_worker(self, first: Part | None = None) -> None:
        worker = Worker(_THREAD, partial(self._work, first))
        self._workers.append(worker)
        worker.start()

    def _work(self, first: Part | None) -> None:
        """Receive parts until there are no more, or another worker reads this one's."""
        part = first or self._todo.get()
        while part is not None and not self._stop.requests:
            part.receive(self._fetch)
            part = None if part.is_left else self._todo.get()

    def _next_block(self) -> Block | None:
        """Return the next block of the first part, None at its end."""
        while True:
            part = self._parts[0]
            if self._is_slow(part):
                part.leave()
                part = Part(part.position, part.stop, self._stop, part.attempt + 1)
                self._parts[0] = part
                self._start_worker(part)
            try:
                item = part.items.get(timeout=POLL_INTERVAL_S)
            except Empty:
                current_stop().check()
                continue
            if isinstance(item, BaseException):
                raise item
            return item

    def _is_slow(self, part: Part) -> bool:
        """Return whether a part takes so long that another connection may be faster."""
        if not part.begin_s or part.end_s:
            return False
        limits = self._limits
        patience_s = max(limits.slow_after_s, limits.slow_factor * sum(self._usual))
        return time.monotonic() - part.begin_s > patience_s * (1 << part.attempt)

    def _note_end(self, part: Part) -> None:
        """Learn from a part how long others take, and how many requests should be ahead."""
        wait_s, receive_s = self._usual
        wait_s += (part.head_s - part.begin_s - wait_s) / 4
        receive_s += (part.end_s - part.head_s - receive_s) / 4
        self._usual = wait_s, receive_s
        ahead = min(self._limits.requests_ahead, round(wait_s / max(receive_s, 1e-6)))
        self._ahead = max(self._ahead, ahead)
