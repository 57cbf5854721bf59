"""Blobs that are being read: blocks come from a thread, which reads a few of them ahead."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Self

from brolga.aio.iteration import ThreadIterator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator

    from brolga.aio.calls import CallPool
    from brolga.spec.blob import BlobStream, Block

_READ_AHEAD: Final = 3  # blocks of up to 2 MiB


class AsyncBlobStream:
    """A blob, read by asynchronous iteration or as a file. It can be the source of a layer.

    Use it in `async with`, which stops the read at its end. It is opened by the first read.
    """

    def __init__(self, calls: CallPool, open_blob: Callable[[], BlobStream]) -> None:
        def generate() -> Generator[Block, None, None]:
            with open_blob() as stream:
                yield from stream

        self._blocks = ThreadIterator(calls, generate, _READ_AHEAD)
        self._rest = memoryview(b"")
        self._is_entered = False

    async def __aenter__(self) -> Self:
        """Begin to read; return the stream itself."""
        self._is_entered = True
        await self._blocks.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop reading."""
        await self.close()

    async def __aiter__(self) -> AsyncIterator[Block]:
        """Yield the bytes in blocks of any size, none of them empty.

        Outside of `async with`, the stream is closed with the iteration.
        """
        try:
            while block := await self._next():
                yield block
        finally:
            if not self._is_entered:
                await self.close()

    async def read(self, size: int = -1, /) -> bytes:
        """Return `size` bytes, fewer only at the end; all the rest if `size` is negative.

        If it is cancelled, the next read returns what this one had read.
        """
        parts: list[Block] = []
        try:
            while size and (block := await self._next()):
                part = memoryview(block)[:size] if size > 0 else block
                self._rest = memoryview(block)[len(part) :]
                parts.append(part)
                size -= len(part) if size > 0 else 0
        except asyncio.CancelledError:
            self._rest = memoryview(b"".join(parts))
            raise
        return b"".join(parts)

    async def close(self) -> None:
        """Stop reading, and wait until the thread has ended. Idempotent."""
        self._rest = memoryview(b"")
        await self._blocks.close()

    async def _next(self) -> Block | None:
        rest, self._rest = self._rest, memoryview(b"")
        return rest or await self._blocks.next()
