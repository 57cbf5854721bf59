"""Sources that are Python code: iterables of bytes, and objects with `read`.

They run in the thread that reads the stream, so generators that hold a database cursor or a context
variable work as they do elsewhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any, Protocol

from brolga.errors import BrolgaError, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator

    from typing_extensions import Buffer


class Readable(Protocol):
    """What brolga needs of a file object."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, empty at the end."""


def is_asynchronous(source: object) -> bool:
    """Return whether a source is read by awaiting it."""
    return isinstance(source, AsyncIterable) or get_async_read(source) is not None


def get_async_read(source: object) -> Callable[[int], Coroutine[Any, Any, bytes]] | None:
    """Return the `read` of a source if it is a coroutine function, else None."""
    read = getattr(source, "read", None)
    if read is None:
        return None
    from inspect import iscoroutinefunction  # it costs start-up time, and files do not need it

    return read if iscoroutinefunction(read) else None


class IterableSource:
    """The bytes of an iterable or an object with `read`, as a `BlockSource`.

    The first block is read at once, so that a source which fails early fails before any request.
    """

    def __init__(self, source: Readable | Iterable[Buffer], block_size: int) -> None:
        self._blocks = _reblock(_read_pieces(source, block_size), block_size)
        self._first = next(self._blocks, None)

    def next_block(self, timeout_s: float) -> memoryview | None:  # noqa: ARG002 - Python code has no timeout
        """Return the next block, empty at the end."""
        block, self._first = self._first, None
        return next(self._blocks, memoryview(b"")) if block is None else block

    def close(self) -> None:
        """Close the generators. The source itself belongs to the user."""
        self._blocks.close()


def _read_pieces(source: Readable | Iterable[Buffer], size: int) -> Iterator[bytes]:
    """Yield the pieces of a source as bytes objects. Raises SourceError."""
    count = 0
    try:
        if hasattr(source, "read"):
            length = getattr(source, "length", None)
            while data := to_bytes(source.read(size)):
                yield data
                count += len(data)
            _check_length(source, length, count)
        else:
            for piece in source:
                yield (data := to_bytes(piece))
                count += len(data)
    except BrolgaError:
        raise
    except Exception as error:  # StopIteration from a `read` is an error too, not the end
        raise source_failure(error, count) from error


def source_failure(error: Exception, count: int) -> SourceError:
    """Return the error of a source whose code raised `error` after `count` bytes."""
    return SourceError(f"the source failed after {count} bytes: {type(error).__name__}: {error}")


def _check_length(source: object, length: object, count: int) -> None:
    """Raise SourceError if a source knows that bytes are missing.

    http.client.HTTPResponse.read(n) returns no bytes if the connection was cut; its `length` counts
    down the missing bytes. In other classes it may be the total length, which does not change.
    """
    missing = getattr(source, "length", None)
    if isinstance(length, int) and isinstance(missing, int) and 0 < missing == length - count:
        raise SourceError(f"the source ended {missing} bytes early")


def to_bytes(piece: Buffer) -> bytes:
    """Return bytes as they are, and a copy of any other buffer, which its owner may refill."""
    if type(piece) is bytes:
        return piece
    try:
        return bytes(memoryview(piece))
    except TypeError:
        kind = type(piece).__name__
        raise SourceError(f"the source gave {kind} where bytes were expected") from None


class BlockJoiner:
    """Joins pieces of any size to blocks of `size` bytes. Only bytes to be joined are copied."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._joined = bytearray()
        self._filled = 0

    def add(self, piece: bytes) -> Iterator[memoryview]:
        """Take a piece; yield the blocks that are complete."""
        view = memoryview(piece)
        while view:
            if not self._filled and len(view) >= self._size:
                yield view[: self._size]
                view = view[self._size :]
                continue
            self._joined = self._joined or bytearray(self._size)
            count = min(self._size - self._filled, len(view))
            self._joined[self._filled : self._filled + count] = view[:count]
            self._filled, view = self._filled + count, view[count:]
            if self._filled == self._size:
                yield self.take_rest()

    def take_rest(self) -> memoryview:
        """Return the bytes after the last complete block."""
        rest = memoryview(self._joined)[: self._filled]
        self._joined, self._filled = bytearray(), 0
        return rest


def _reblock(pieces: Iterator[bytes], size: int) -> Generator[memoryview, None, None]:
    joiner = BlockJoiner(size)
    for piece in pieces:
        yield from joiner.add(piece)
    if rest := joiner.take_rest():
        yield rest
