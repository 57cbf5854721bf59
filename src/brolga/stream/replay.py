"""The bytes of an upload that may have to go out again, and who has them still.

Knows the streams of blobs, and the three that can give their bytes again: a window in memory, a
spool on disk (`spool`), a source that can be opened once more. Must not know registries: what
failed, and from which byte on it goes again, is for the upload to say.

Strategy: a `ReplayableBody` stands between a stream and the upload. The stream is read once, live; each of
its blocks is kept on the way. Whoever asks for the bytes from an offset on gets those that were
kept, then the live ones. Where they are not kept, but the source can be opened again, a second pass
makes them once more, up to where the live stream stands, and must come to the same hash there.

                    ┌─ window, spool ─┐
    live stream ────┴─────────────────┴──> blocks(0), blocks(offset) …
    second pass ──(same prefix, hashed)──┘
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from brolga.spec.blob import Block

__all__ = [
    "DEFAULT_WINDOW",
    "MemoryBuffer",
    "ReplayBuffer",
    "ReplayableBody",
]

DEFAULT_WINDOW: Final = 32 << 20  # bytes


class ReplayBuffer(Protocol):
    """Where compressed bytes are kept while they may have to go out again."""

    @property
    def start(self) -> int:
        """The offset of the first byte that is kept."""

    def add(self, block: Block, hold: int | None = None) -> None:
        """Keep the next bytes, and all from offset `hold` on, where that is."""

    def read(self, start: int) -> Iterator[Block]:
        """Yield what is kept from offset `start` on."""

    def close(self) -> None:
        """Keep nothing any more."""


class MemoryBuffer:
    """The last `limit` bytes, in memory. Whole blocks are kept, so it may be a little less.

    Where more than that is held, it is more.
    """

    def __init__(self, limit: int = DEFAULT_WINDOW) -> None:
        self.start = 0
        self._limit = limit
        self._size = 0
        self._blocks: deque[Block] = deque()

    def add(self, block: Block, hold: int | None = None) -> None:
        """Keep a block, and drop the oldest that are too many."""
        self._blocks.append(block)
        self._size += len(block)
        while self._size > self._limit:
            oldest = len(self._blocks[0])
            if hold is not None and self.start + oldest > hold:
                break
            self._blocks.popleft()
            self._size -= oldest
            self.start += oldest

    def read(self, start: int) -> Iterator[Block]:
        """Yield what is kept from offset `start` on."""
        offset = self.start
        for block in list(self._blocks):
            if offset + len(block) > start:
                yield memoryview(block)[max(0, start - offset) :]
            offset += len(block)

    def close(self) -> None:
        """Keep nothing any more."""
        self._blocks.clear()


class ReplayableBody:
    """The bytes of one blob's upload, from any offset that can be had (`wire.upload.Body`).

    `stream` is read once. `again` gives its bytes once more, those that came out of it so far at
    least, and raises where they are others now; None where its source cannot be opened again.
    `watch` is called before each block that is read; what it raises ends the upload.
    """

    def __init__(
        self,
        stream: Iterable[Block],
        keep: ReplayBuffer,
        again: Callable[[], Iterator[Block]] | None,
        watch: Callable[[], None],
    ) -> None:
        self.bytes_read = 0
        self.ended = False
        self._hold: int | None = None
        self._live = iter(stream)
        self._has_failed = False
        self._keep = keep
        self._again = again
        self._watch = watch

    @property
    def replayable_from(self) -> int:
        """The offset from which on the bytes can be given again."""
        return 0 if self._again else self._keep.start

    def retain_from(self, start: int | None) -> None:
        """Keep the bytes from offset `start` on, whatever else; None: no longer."""
        self._hold = start

    def blocks(self, start: int) -> Iterator[Block]:
        """Yield the bytes from offset `start` on; an empty block is a heartbeat.

        Raises ValueError for an offset before `kept_from`: other bytes than those must not go out;
        and where the stream has failed before: it gives no more, and that is not its end.
        """
        if self._has_failed:
            raise ValueError("the stream has failed")
        if start >= self._keep.start:
            yield from self._keep.read(start)
        elif self._again:
            yield from _cut(self._again(), start, self.bytes_read)
        else:
            raise ValueError(
                f"the bytes from {start} on are gone: {self.replayable_from} is the first"
            )
        while (block := self._next()) is not None:
            yield block
        self.ended = True

    def _next(self) -> Block | None:
        """Take the next block of the stream, None at its end."""
        self._has_failed = True  # unless it comes through
        block = next(self._live, None)
        if block is not None:
            self._watch()
            if block:  # a heartbeat is nothing to keep
                self._keep.add(block, self._hold)
                self.bytes_read += len(block)
        self._has_failed = False
        return block


def _cut(blocks: Iterator[Block], start: int, end: int) -> Iterator[Block]:
    """Yield the bytes from offset `start` to `end`; take the blocks to their end all the same."""
    offset = 0
    for block in blocks:
        part = memoryview(block)[max(0, start - offset) : max(0, end - offset)]
        offset += len(block)
        yield part
