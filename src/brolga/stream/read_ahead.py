"""Read blocks ahead in a thread, up to a number of bytes.

The thread runs code of brolga only, never the user's. Signal handlers may raise in the reader's
thread between any two bytecodes, so it shares only SimpleQueues with the other.
"""

from __future__ import annotations

from contextlib import closing, suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Self

from brolga.stream.worker import POLL_INTERVAL_S, Stop, Worker, current_stop, stop_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from brolga.spec.blob import Block


def read_ahead(
    open_blocks: Callable[[], Generator[Block, None, object]], *, limit: int
) -> Generator[Block, None, None]:
    """Yield the blocks of a generator, which runs in a thread of its own from the first one on.

    See `ReadAhead`. Closing stops the thread, and returns when it has closed the generator.
    """
    with closing(ReadAhead(open_blocks, limit=limit)) as ahead:
        yield from ahead


class ReadAhead:
    """An iterator over the blocks of a generator that runs in a thread, and closes there.

    `open_blocks` is called in the thread. It reads on while fewer than `limit` bytes wait, and then
    again when half of them were taken. What the generator raises is raised here, after the blocks
    before it. A stop request of the thread that makes this object interrupts the other as well.
    Close it, or iterate it to its end, in any one thread.
    """

    def __init__(
        self, open_blocks: Callable[[], Generator[Block, None, object]], *, limit: int
    ) -> None:
        # The thread refers to the producer only, so that dropping this object stops it.
        self._producer = _Producer(open_blocks, limit)
        self._worker = Worker("brolga-read-ahead", self._producer.run)
        self._is_over = False

    def start(self) -> None:
        """Start the thread, unless it runs. The first block starts it as well."""
        self._worker.start()

    def __iter__(self) -> Self:
        """Return the iterator itself."""
        return self

    def __next__(self) -> Block:
        """Return the next block. Raises what the generator raises."""
        if self._is_over:
            raise StopIteration
        self.start()
        block = self._producer.take()
        if isinstance(block, _End):
            self._is_over = True
            try:
                raise StopIteration if block.error is None else block.error
            finally:
                del block  # the traceback of its error refers to this frame
        return block

    def close(self) -> None:
        """Stop the thread, and wait until it has closed the generator. Idempotent."""
        self._is_over = True
        self._request_stop()
        self._worker.join()
        self._producer.drop()

    def __del__(self) -> None:
        """Ask a thread that was left running to stop."""
        self._request_stop()

    def _request_stop(self) -> None:
        if self._worker.is_in_this_process:
            self._producer.request_stop()


class _End:
    """The end of the blocks, and the error that was its cause."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class _Producer:
    """The thread's side."""

    def __init__(
        self, open_blocks: Callable[[], Generator[Block, None, object]], limit: int
    ) -> None:
        self._open_blocks = open_blocks
        self._limit = limit
        self._stop = Stop(current_stop())
        self._blocks: SimpleQueue[Block | _End] = SimpleQueue()
        self._taken: SimpleQueue[int] = SimpleQueue()  # sizes of blocks

    def run(self) -> None:
        end = _End(None)
        try:
            with stop_scope(self._stop), closing(self._open_blocks()) as blocks:
                self._read(blocks)
        except BaseException as error:  # noqa: BLE001 - raised in the thread of the reader
            end.error = error
        self._blocks.put(end)
        del end  # the traceback of its error refers to this frame

    def _read(self, blocks: Generator[Block, None, object]) -> None:
        waiting = 0
        for block in blocks:
            waiting += len(block)
            self._blocks.put(block)
            del block  # it belongs to the reader
            self._stop.check()
            if waiting >= self._limit:
                # Down to a half, as threads that wait for each other at each block are slow.
                while waiting > self._limit // 2:
                    waiting -= self._wait_for_reader()

    def _wait_for_reader(self) -> int:
        while True:
            with suppress(Empty):
                size = self._taken.get(timeout=POLL_INTERVAL_S)
                break
            self._stop.check()
        self._stop.check()
        return size

    # --- For the reader

    def take(self) -> Block | _End:
        """Wait for the next block, or the end. Raises KeyboardInterrupt if asked to stop."""
        stop = current_stop()
        while True:
            stop.check()
            with suppress(Empty):
                block = self._blocks.get(timeout=POLL_INTERVAL_S)
                break
        if not isinstance(block, _End):
            self._taken.put(len(block))
        return block

    def request_stop(self) -> None:
        self._stop.request_once()
        self._taken.put(0)  # wakes it

    def drop(self) -> None:
        """Free the blocks that wait: the traceback of an error may refer to this object."""
        with suppress(Empty):
            while True:
                self._blocks.get_nowait()
