"""The rest of a blob in parts, which several connections read at a time.

The reader's thread makes parts, up to a bound, and takes their bytes in order. Each worker thread
reads one part after the other, by one request each.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from brolga.protocol import BlobHead
from brolga.stores.read_budget import Share
from brolga.stream.worker import POLL_INTERVAL_S, Stop, Worker, current_stop, stop_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from brolga.spec.blob import Block
    from brolga.stores.read_budget import ReadBudget, ReadOptions

    # Returns what yields the heads and the bytes from one offset to another.
    Fetch = Callable[[int, int], Iterator[BlobHead | Block]]

_THREAD: Final = "brolga-part"
_SPARE: Final = 2  # parts beyond those that are received: a kill of the process loses them
# Bytes. A smaller block may keep far more: what a response that was cut left of its buffer.
_SMALL: Final = 1 << 18


class Part:
    """The bytes from `start` to `stop`, while a worker receives them.

    `position` is the offset of the next byte for the reader. `attempt` counts from 0.
    """

    def __init__(self, start: int, stop: int, parent: Stop, attempt: int = 0) -> None:
        self.position = start
        self.stop = stop
        self.attempt = attempt
        self.stop_request = Stop(parent, "another connection reads this part")
        # The end is None. An error is raised in the reader's thread.
        self.items: SimpleQueue[Block | BaseException | None] = SimpleQueue()
        self.begun: SimpleQueue[bool] = SimpleQueue()  # whether the response has begun, or failed
        self.begin_s = self.head_s = self.end_s = 0.0  # by time.monotonic(); 0 is not yet

    def receive(self, fetch: Fetch) -> None:
        """Receive the bytes, in a worker thread."""
        self.begin_s = time.monotonic()
        try:
            with stop_scope(self.stop_request):
                for item in _join_small(fetch(self.position, self.stop)):
                    if isinstance(item, BlobHead):
                        self.head_s = self.head_s or time.monotonic()
                        self.begun.put(True)  # noqa: FBT003 - an item of a queue
                    else:
                        self.items.put(item)
            self.end_s = time.monotonic()
            self.items.put(None)
        except BaseException as error:  # noqa: BLE001 - raised in the reader's thread
            self.begun.put(False)  # noqa: FBT003 - as above
            self.items.put(error)


class Parts:
    """A blob of `size` bytes from offset `start` on, read in parts. Begin it; close it at the end.

    `connections` is what the blob's reader has; more are taken while there are any.
    """

    def __init__(
        self, fetch: Fetch, start: int, size: int, budget: ReadBudget, connections: Share
    ) -> None:
        self._fetch = fetch
        self._size = size
        self._options: ReadOptions = budget.options
        self._connections = connections
        self._memory = Share(budget.parts)
        self._stop = Stop(current_stop(), "the blob is not read any more")
        self._next_start = start
        self._parts: deque[Part] = deque()
        self._todo: SimpleQueue[Part | None] = SimpleQueue()
        self._workers: list[Worker] = []
        self._running = 0  # workers that will take another part
        self._usual = 0.0, 0.0  # seconds of a part: up to the head, and then to the end

    def begin(self) -> None:
        """Ask for the first parts. Raises RuntimeError if no thread is available."""
        self._fill(self._connections.count - 1)

    @property
    def start(self) -> int:
        """The offset of the first part."""
        return self._parts[0].position

    def wait_begun(self) -> bool:
        """Wait a moment for the first response; return whether the registry gives parts."""
        end_s = time.monotonic() + self._options.begin_s
        while (left_s := end_s - time.monotonic()) > 0:
            current_stop().check()
            with suppress(Empty):
                return self._parts[0].begun.get(timeout=min(left_s, POLL_INTERVAL_S))
        return False

    def blocks(self) -> Generator[Block, None, None]:
        """Yield the bytes in order. Raises the error of a part at its place."""
        while self._parts or self._next_start < self._size:
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
        self._memory.close()
        for _ in self._workers:
            self._todo.put(None)
        for worker in self._workers:
            worker.join()

    # --- Inside

    def _fill(self, connections: int) -> None:
        """Make parts while there is memory, and have enough workers for so many connections."""
        workers = self._workers_for(connections)
        while (
            self._next_start < self._size
            and len(self._parts) < workers + _SPARE
            and (self._memory.take() or not self._parts)
        ):
            stop = min(self._next_start + self._options.part_size, self._size)
            part = Part(self._next_start, stop, self._stop)
            self._next_start = stop
            self._parts.append(part)
            self._todo.put(part)
        wanted = min(workers, len(self._parts))
        while self._running < wanted:
            try:
                self._start_worker()
            except RuntimeError:  # no thread is available
                if not self._running:
                    raise
                return
            self._running += 1

    def _share_connections(self) -> None:
        """Give a connection to another blob that has none, or take one that is free."""
        if not self._connections.give_if_owed():
            self._connections.take()
            return
        while self._running > self._workers_for(self._connections.count):
            self._running -= 1
            self._todo.put(None)  # it ends one worker

    def _workers_for(self, connections: int) -> int:
        """Return how many workers have so many connections receive: others wait for a response."""
        wait_s, receive_s = self._usual
        ahead = min(self._options.requests_ahead, wait_s / max(receive_s, 1e-6))
        return round(connections * (1 + ahead))

    def _start_worker(self, first: Part | None = None) -> None:
        worker = Worker(_THREAD, partial(self._work, first))
        self._workers.append(worker)
        worker.start()

    def _work(self, first: Part | None) -> None:
        """Receive parts until there are no more, or another worker reads this one's."""
        part = first or self._todo.get()
        while part is not None and not self._stop.requests:
            part.receive(self._fetch)
            part = None if part.stop_request.requests else self._todo.get()

    def _next_block(self) -> Block | None:
        """Return the next block of the first part, None at its end."""
        while True:
            part = self._parts[0]
            if part.items.empty() and self._is_slow(part):
                part = self._ask_again(part)
            with suppress(Empty):
                item = part.items.get(timeout=POLL_INTERVAL_S)
                if isinstance(item, BaseException):
                    raise item
                return item
            current_stop().check()

    def _is_slow(self, part: Part) -> bool:
        """Return whether a part takes so long that another connection may be faster."""
        if not part.begin_s or part.end_s:
            return False
        options = self._options
        patience_s = max(options.slow_after_s, options.slow_factor * sum(self._usual))
        return time.monotonic() - part.begin_s > patience_s * (1 << part.attempt)

    def _ask_again(self, part: Part) -> Part:
        """Have a new worker read the rest of a part; return that."""
        rest = Part(part.position, part.stop, self._stop, part.attempt + 1)
        with suppress(RuntimeError):  # no thread is available: it goes on
            self._start_worker(rest)
            self._parts[0] = rest
            part.stop_request.request_once()  # that ends its worker too
        return self._parts[0]

    def _note_end(self, part: Part) -> None:
        """Learn from a part how long others take."""
        wait_s, receive_s = self._usual
        wait_s += (part.head_s - part.begin_s - wait_s) / 4
        receive_s += (part.end_s - part.head_s - receive_s) / 4
        self._usual = wait_s, receive_s


def _join_small(items: Iterator[BlobHead | Block]) -> Iterator[BlobHead | Block]:
    """Yield items; join small blocks, so that what keeps them takes no more memory than bytes."""
    small = bytearray()
    for item in items:
        if isinstance(item, BlobHead):
            yield item
        elif small or len(item) < _SMALL:
            small += item
            if len(small) >= _SMALL:
                yield memoryview(small)
                small = bytearray()
        else:
            yield item
    if small:
        yield memoryview(small)
