"""Asynchronous sources: iterables of bytes, and objects whose `read` is a coroutine function.

A source is bound to the event loop that runs where its layer is made. A task of that loop reads it,
in a copy of its maker's context, a few blocks ahead of the thread that reads the layer.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, ClassVar, Final, Protocol, TypeAlias

from brolga.errors import BrolgaError, SourceError
from brolga.stream.iterables import BlockJoiner, get_async_read, source_failure, to_bytes
from brolga.stream.worker import POLL_INTERVAL_S, current_stop

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable
    from contextvars import Context

    from typing_extensions import Buffer

    from brolga.spec.blob import BlockSource

_READ_AHEAD: Final = 3  # blocks


class AsyncReadable(Protocol):
    """What brolga needs of an asynchronous file object."""

    async def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, empty at the end."""


AsyncSource: TypeAlias = "AsyncReadable | AsyncIterable[Buffer]"


def _require_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "an asynchronous source belongs to the event loop in which its layer is made, and no "
            "event loop is running"
        ) from None


@dataclass(frozen=True, eq=False)
class BoundSource:
    """An asynchronous source, its event loop, and the context of its maker.

    No code of the user runs in the thread that reads it. Raises RuntimeError if no loop is running.
    """

    runs_user_code: ClassVar = False

    source: AsyncSource
    loop: asyncio.AbstractEventLoop = field(default_factory=_require_loop)
    context: Context = field(default_factory=copy_context)

    def open_blocks(self, block_size: int) -> BlockSource:
        """Begin to read it. Raises RuntimeError in a coroutine of its own event loop."""
        if runs_here(self.loop):
            raise RuntimeError(
                "the source would wait for its own event loop, which waits for the source: use "
                "brolga.aio.AsyncClient, or read it in another thread (asyncio.to_thread)"
            )
        if not self.loop.is_running():
            raise SourceError("the event loop of the source has ended")
        return _AsyncBlocks(_LoopReader(self.source, block_size), self.loop, self.context)


def runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether this is the thread of a loop that is running."""
    with suppress(RuntimeError):
        return asyncio.get_running_loop() is loop
    return False


class _LoopReader:
    """The event loop's side of an `_AsyncBlocks`."""

    def __init__(self, source: AsyncSource, block_size: int) -> None:
        self.blocks: SimpleQueue[memoryview | BaseException] = SimpleQueue()
        self.free_slots = asyncio.Semaphore(_READ_AHEAD)
        self.ended: SimpleQueue[None] = SimpleQueue()
        self._source = source
        self._block_size = block_size
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(lambda _: self.ended.put(None))

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        joiner = BlockJoiner(self._block_size)
        try:
            async with aclosing(_read_pieces(self._source, self._block_size)) as pieces:
                async for piece in pieces:
                    for block in joiner.add(piece):
                        await self._put(block)
            if rest := joiner.take_rest():
                await self._put(rest)
            self.blocks.put(memoryview(b""))
        except Exception as error:  # noqa: BLE001 - raised in the thread that reads the blocks
            self.blocks.put(error)
        except BaseException as error:
            self.blocks.put(error)
            raise

    async def _put(self, block: memoryview) -> None:
        await self.free_slots.acquire()
        self.blocks.put(block)


class _AsyncBlocks:
    """The blocks of an asynchronous source, as a `BlockSource` for another thread."""

    def __init__(
        self, reader: _LoopReader, loop: asyncio.AbstractEventLoop, context: Context
    ) -> None:
        self._reader = reader
        self._loop = loop
        self._process = os.getpid()
        self._has_ended = self._is_closed = False
        loop.call_soon_threadsafe(reader.start, context=context)

    def next_block(self, timeout_s: float) -> memoryview | None:
        """Return the next block, empty at the end; None after `timeout_s`. Raises SourceError."""
        if self._has_ended:
            return memoryview(b"")
        try:
            block = self._reader.blocks.get(block=timeout_s > 0, timeout=timeout_s)
        except Empty:
            if not self._loop.is_running():
                raise SourceError("the event loop of the source has ended") from None
            return None
        if isinstance(block, BaseException):
            self._reader.blocks.put(block)  # the next call raises it again
            try:
                if isinstance(block, BrolgaError):
                    raise block
                raise SourceError(f"the source was cancelled: {type(block).__name__}") from block
            finally:
                del block  # its traceback refers to this frame
        with suppress(RuntimeError):  # the loop was closed after the last block
            self._loop.call_soon_threadsafe(self._reader.free_slots.release)
        self._has_ended = not block
        return block

    def close(self) -> None:
        """Cancel what is awaited, and wait for it, unless its loop cannot run meanwhile.

        The source itself belongs to the user.
        """
        if self._is_closed or self._process != os.getpid():
            return
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._reader.cancel)
        while self._loop.is_running() and not runs_here(self._loop):
            current_stop().check(1)
            with suppress(Empty):
                self._reader.ended.get(timeout=POLL_INTERVAL_S)
                break
        self._is_closed = self._has_ended = True
        with suppress(Empty):  # the traceback of an error refers to this queue, and to blocks
            while True:
                self._reader.blocks.get_nowait()


async def _read_pieces(source: AsyncSource, size: int) -> AsyncGenerator[bytes, None]:
    """Yield the pieces of a source as bytes objects. Raises SourceError."""
    count = 0
    read = get_async_read(source)
    try:
        if read is not None:
            while data := to_bytes(await read(size)):
                yield data
                count += len(data)
        else:
            async for piece in source:  # type: ignore[union-attr] # without `read` it is an iterable
                yield (data := to_bytes(piece))
                count += len(data)
    except BrolgaError:
        raise
    except Exception as error:  # StopAsyncIteration from a `read` is an error too, not the end
        raise source_failure(error, count) from error
