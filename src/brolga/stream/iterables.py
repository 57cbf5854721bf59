"""Sources that are Python code: iterables of bytes, and objects with `read`.

They run in the thread that reads the stream, so generators that hold a database cursor or a context
variable work as they do elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from brolga.errors import BrolgaError, SourceError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from typing_extensions import Buffer


class Readable(Protocol):
    """What brolga needs of a file object."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, empty at the end."""


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
            while data := _to_bytes(source.read(size)):
                yield data
                count += len(data)
            _check_length(source, length, count)
        else:
            for piece in source:
                yield (data := _to_bytes(piece))
                count += len(data)
    except BrolgaError:
        raise
    except Exception as error:  # StopIteration from a `read` is an error too, not the end
        name = type(error).__name__
        raise SourceError(f"the source failed after {count} bytes: {name}: {error}") from error


def _check_length(source: object, length: object, count: int) -> None:
    """Raise SourceError if a source knows that bytes are missing.

    http.client.HTTPResponse.read(n) returns no bytes if the connection was cut; its `length` counts
    down the missing bytes. In other classes it may be the total length, which does not change.
    """
    missing = getattr(source, "length", None)
    if isinstance(length, int) and isinstance(missing, int) and 0 < missing == length - count:
        raise SourceError(f"the source ended {missing} bytes early")


def _to_bytes(piece: Buffer) -> bytes:
    """Return bytes as they are, and a copy of any other buffer, which its owner may refill."""
    if type(piece) is bytes:
        return piece
    try:
        return bytes(memoryview(piece))
    except TypeError:
        kind = type(piece).__name__
        raise SourceError(f"the source gave {kind} where bytes were expected") from None


def _reblock(pieces: Iterator[bytes], size: int) -> Generator[memoryview, None, None]:
    """Cut pieces of any size into blocks of `size` bytes. Only bytes to be joined are copied."""
    joined, filled = bytearray(size), 0
    for piece in pieces:
        view = memoryview(piece)
        while view:
            if not filled and len(view) >= size:
                yield view[:size]
                view = view[size:]
                continue
            count = min(size - filled, len(view))
            joined[filled : filled + count] = view[:count]
            filled, view = filled + count, view[count:]
            if filled == size:
                yield memoryview(joined)
                joined, filled = bytearray(size), 0
    if filled:
        yield memoryview(joined)[:filled]
