"""Blobs that are read at any position: each call is one of `SeekableBlob`, in a thread."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar

from brolga.aio.calls import CallPool, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from brolga.images import SeekableBlob

_T = TypeVar("_T")


class AsyncSeekableBlob:
    """A blob that is read at any position: see `SeekableBlob`. Its calls are made one by one.

    Use it in `async with`, which closes it. It is opened by the first call.
    """

    def __init__(self, calls: CallPool, open_blob: Callable[[], SeekableBlob]) -> None:
        self._calls = calls
        self._open_blob = open_blob
        self._file: SeekableBlob | None = None
        self._lock = asyncio.Lock()
        self._is_closed = False

    async def __aenter__(self) -> Self:
        """Return the blob itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the blob."""
        await self.close()

    async def read(self, size: int = -1, /) -> bytes:
        """Return `size` bytes, fewer only at the end; all the rest if `size` is negative.

        If it is cancelled, the position stays.
        """
        return await self._call(lambda file: file.read(size) or b"")

    async def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Change the position, and return it. It may lead behind the end."""
        return await self._call(lambda file: file.seek(offset, whence))

    async def tell(self) -> int:
        """Return the position of the next read."""
        return await self._call(lambda file: file.tell())

    async def close(self) -> None:
        """Close the blob, and the response that it reads. Idempotent."""
        self._is_closed = True
        async with self._lock:
            if self._file is not None:
                self._file.close()

    async def _call(self, function: Callable[[SeekableBlob], _T]) -> _T:
        async with self._lock:
            if self._is_closed:
                raise ValueError("I/O operation on a closed blob")
            return await self._calls.run(Kind.REQUEST, partial(self._run, function))

    def _run(self, function: Callable[[SeekableBlob], _T]) -> _T:
        if self._file is None:
            self._file = self._open_blob()
        return function(self._file)
