"""A request's body, written to disk while the rest of it arrives.

Knows the pace of a body. Must not know what is written, or where.

Pieces are gathered to about a megabyte, and each batch is handed to a worker thread while the
next is gathered: one batch in flight and one that fills, whatever the size of the body.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

from brolga.errors import BrolgaError
from brolga.server.session import Upload, UploadBusy, Writer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

__all__ = ["BodyStalled", "BodyTooLong", "bounded", "pour", "writing"]

# Large enough that a thread's wake-up is lost in it, small enough to stay in the cache.
BATCH = 1 << 20

# What must come of a body in the idle time: little enough for a slow line and for a source that
# makes its bytes slowly, too much for a client that only wants to stay.
LEAST = 64 << 10

# How long a request waits for the one before it to let go of a session. A client whose
# connection was cut may be back before the last bytes of the old connection are on disk.
PATIENCE_S = 1.0
_STEP_S = 0.02


class BodyTooLong(BrolgaError):
    """A body has more bytes than are taken."""


class BodyStalled(BrolgaError):
    """A body comes too slowly, or not at all."""


async def bounded(
    pieces: AsyncGenerator[bytes, None], limit: int | None, idle_s: float
) -> AsyncGenerator[bytes, None]:
    """Pass a body on.

    Raises BodyTooLong over `limit` bytes, BodyStalled where `LEAST` bytes of it, or the rest, take
    longer than `idle_s`. Only the time counts that is spent on waiting for the client.
    """
    clock = asyncio.get_running_loop().time
    size, recent, waited_s = 0, 0, 0.0
    async with aclosing(pieces):
        while True:
            begin = clock()
            try:
                async with asyncio.timeout(idle_s - waited_s):
                    piece = await anext(pieces, None)
            except TimeoutError as error:
                came = f"{recent} bytes" if recent else "nothing"
                raise BodyStalled(f"{came} came in {idle_s:g} seconds: too slow") from error
            if piece is None:
                return
            waited_s += clock() - begin
            size += len(piece)
            recent += len(piece)
            if recent >= LEAST:
                recent, waited_s = 0, 0.0
            if limit is not None and size > limit:
                raise BodyTooLong(f"no more than {limit} bytes are taken here")
            yield piece


async def pour(pieces: AsyncGenerator[bytes, None], write: Callable[[bytearray], object]) -> None:
    """Write a body in order, in a worker thread.

    Where the body breaks off, what has arrived is still written before the error goes on. After
    an error of `write` nothing more is written.
    """
    batch = bytearray()
    in_flight: asyncio.Future[object] | None = None
    loop = asyncio.get_running_loop()
    async with aclosing(pieces):
        try:
            async for piece in pieces:
                batch += piece
                if len(batch) >= BATCH:
                    if in_flight is not None:
                        await in_flight
                    in_flight = loop.run_in_executor(None, write, batch)
                    batch = bytearray()
        finally:
            if in_flight is not None:
                await in_flight
            if batch:
                await asyncio.to_thread(write, batch)


@asynccontextmanager
async def writing(upload: Upload) -> AsyncIterator[Writer]:
    """Hold a session as its one writer.

    Raises UploadUnknown, and UploadBusy where another request goes on writing.
    """
    writer = await _take(upload)
    with writer:
        yield writer


async def _take(upload: Upload) -> Writer:
    for _ in range(round(PATIENCE_S / _STEP_S)):
        try:
            return upload.writer()
        except UploadBusy:
            await asyncio.sleep(_STEP_S)
    return upload.writer()
