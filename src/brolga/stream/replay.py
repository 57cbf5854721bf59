"""The bytes of an upload that may have to be sent again.

A `ReplayableBody` reads a stream once and buffers its blocks. Bytes that are no longer buffered
come from a second pass, if the source can be opened again, up to the position of the live stream:

                    ┌─ memory, spool ─┐
    live stream ────┴─────────────────┴──> blocks(0), blocks(offset) …
    second pass ──(same prefix, hashed)──┘
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from brolga.stream import DEFAULT_WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from brolga.spec.blob import Block


class ReplayBuffer(Protocol):
    """A buffer of compressed bytes that may have to be sent again."""

    @property
    def start(self) -> int:
        """The offset of the first buffered byte."""

    def add(self, block: Block, retain_from: int | None = None) -> None:
        """Append the next bytes; keep all from offset `retain_from` on, if it is given."""

    def read(self, start: int) -> Iterator[Block]:
        """Yield the buffered bytes from offset `start` on."""

    def close(self) -> None:
        """Drop all bytes."""


class MemoryBuffer:
    """A buffer of the last `limit` bytes, or a little less, as blocks are dropped whole.

    It holds more if more must be retained.
    """

    def __init__(self, limit: int = DEFAULT_WINDOW) -> None:
        self.start = 0
        self._limit = limit
        self._size = 0
        self._blocks: deque[Block] = deque()

    def add(self, block: Block, retain_from: int | None = None) -> None:
        """Append a block, and drop the oldest ones over the limit."""
        self._blocks.append(block)
        self._size += len(block)
        while self._size > self._limit:
            oldest = len(self._blocks[0])
            if retain_from is not None and self.start + oldest > retain_from:
                break
            self._blocks.popleft()
            self._size -= oldest
            self.start += oldest

    def read(self, start: int) -> Iterator[Block]:
        """Yield the buffered bytes from offset `start` on."""
        offset = self.start
        for block in list(self._blocks):
            if offset + len(block) > start:
                yield memoryview(block)[max(0, start - offset) :]
            offset += len(block)

    def close(self) -> None:
        """Drop all bytes."""
        self._blocks.clear()


class ReplayableBody:
    """The bytes of one blob's upload, from any offset that is available (`protocol.upload.Body`).

    `stream` is read once. `reopen` yields at least the bytes read so far again, and raises if they
    have changed; it is None if the source cannot be opened again. `count(blocks, offset)` returns
    the blocks that it is given, and may count them as they are sent.
    """

    def __init__(
        self,
        stream: Iterable[Block],
        buffer: ReplayBuffer,
        reopen: Callable[[], Iterator[Block]] | None,
        count: Callable[[Iterator[Block], int], Iterator[Block]] = lambda blocks, _offset: blocks,
    ) -> None:
        self.bytes_read = 0
        self.ended = False
        self._retain_from: int | None = None
        self._stream = iter(stream)
        self._has_failed = False
        self._buffer = buffer
        self._reopen = reopen
        self._count = count

    @property
    def replayable_from(self) -> int:
        """The first offset that can be sent again."""
        return 0 if self._reopen else self._buffer.start

    def retain_from(self, start: int | None) -> None:
        """Keep the bytes from offset `start` on, whatever the buffer's limit; None ends that."""
        self._retain_from = start

    def blocks(self, start: int) -> Iterator[Block]:
        """Yield the bytes from offset `start` on; an empty block is a heartbeat.

        Raises ValueError for an offset before `replayable_from`, and if the stream has failed
        before: that it yields no more is not its end.
        """
        return self._count(self._blocks(start), start)

    def _blocks(self, start: int) -> Iterator[Block]:
        if self._has_failed:
            raise ValueError("the stream has failed")
        if start >= self._buffer.start:
            yield from self._buffer.read(start)
        elif self._reopen:
            yield from _slice(self._reopen(), start, self.bytes_read)
        else:
            raise ValueError(
                f"the bytes from {start} on are gone: {self.replayable_from} is the first"
            )
        while (block := self._next()) is not None:
            yield block
        self.ended = True

    def _next(self) -> Block | None:
        self._has_failed = True  # until the block has come
        block = next(self._stream, None)
        if block:  # a heartbeat is not buffered
            self._buffer.add(block, self._retain_from)
            self.bytes_read += len(block)
        self._has_failed = False
        return block


def _slice(blocks: Iterator[Block], start: int, end: int) -> Iterator[Block]:
    """Yield the bytes from `start` to `end`. All blocks are read, so that they are checked."""
    offset = 0
    for block in blocks:
        part = memoryview(block)[max(0, start - offset) : max(0, end - offset)]
        offset += len(block)
        yield part
