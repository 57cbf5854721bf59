"""Blobs: what a store takes and gives, as protocols, and how a stream of blocks is read.

Knows what may be asked of a blob and of its bytes. Must not know how bytes are made, compressed or
kept: who moves blobs needs none of that.

Strategy: protocols, so that a blob may be a stream, a file or bytes at hand; and one class that
reads blocks as a file is read, for all that have blocks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol, Self, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest

__all__ = [
    "Blob",
    "BlobStream",
    "Block",
    "BlockReader",
    "BlockSource",
    "Layer",
    "LayerState",
    "Progress",
    "Rereadable",
    "runs_user_code",
]

Block: TypeAlias = bytes | memoryview


class BlockSource(Protocol):
    """Blocks of one size, the last one shorter; none of them changes after it was given."""

    def next_block(self, timeout_s: float) -> memoryview | None:
        """Return the next block; empty at the end; None where none came in `timeout_s` seconds.

        Raises SourceError where the source fails.
        """

    def close(self) -> None:
        """Stop reading, at once, and free what was opened here. Idempotent."""


class BlobStream(Protocol):
    """A blob's bytes, being read: by iteration or as a file.

    A context manager, closed at the end of its block.
    """

    def __enter__(self) -> Self:
        """Return the stream itself."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        """Close the stream."""

    def __iter__(self) -> Iterator[Block]:
        """Yield the bytes in blocks of any size, none of them empty."""

    def read(self, size: int = -1, /) -> bytes:
        """Return `size` bytes, fewer at the end only; all that is left if `size` is negative."""

    def blocks(self) -> Iterator[Block]:
        """Yield the bytes; an empty block says that nothing came for a while."""


class Blob(Protocol):
    """What a client pushes: bytes to read, and what is known of them once they were read."""

    @property
    def descriptor(self) -> Descriptor:
        """Media type, digest and size. Raises NotComputed too early."""

    def open(self) -> BlobStream:
        """Open the bytes for reading."""


def runs_user_code(blob: Blob) -> bool:
    """Return whether reading a blob calls the user's Python code, as its attribute says.

    A blob without the attribute is a class of the user's: it does.
    """
    return getattr(blob, "runs_user_code", True)


class Layer(Blob, Protocol):
    """A blob that is a layer: it has uncompressed bytes as well."""

    @property
    def media_type(self) -> str:
        """The media type of the compressed bytes."""

    @property
    def diff_id(self) -> Digest:
        """The digest of the uncompressed bytes. Raises NotComputed too early."""


class LayerState(Enum):
    """Where a stream stands. It goes forward only, and a failed one stays failed."""

    FRESH = "fresh"
    OPEN = "open"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes so far: `read` uncompressed ones from the source, `written` compressed ones."""

    read: int
    written: int


@runtime_checkable
class Rereadable(Protocol):
    """A stream whose bytes can perhaps be given once more, from its source."""

    @property
    def is_reopenable(self) -> bool:
        """Whether the source can be opened once more."""

    def reread(self) -> Iterator[Block]:
        """Yield again the bytes that were given so far, and perhaps some more."""


class BlockReader(ABC):
    """Blocks, read by iteration or as a file is read: what streams of blobs have in common.

    A class of this kind gives `_next`, which returns what is in `_rest` first, and `close`.
    """

    _rest = memoryview(b"")

    def __enter__(self) -> Self:
        """Return the stream itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the stream."""
        self.close()

    def __iter__(self) -> Iterator[Block]:
        """Yield the bytes in blocks of any size, none of them empty."""
        return filter(len, self.blocks())

    def blocks(self) -> Iterator[Block]:
        """Yield the bytes; an empty block says that nothing came for a while."""
        while (block := self._next()) is not None:
            yield block

    def read(self, size: int = -1, /) -> bytes:
        """Return `size` bytes, fewer at the end only; all that is left where `size` is negative."""
        if size < 0:
            return b"".join(self)
        buffer = bytearray(size)
        return bytes(memoryview(buffer)[: self.readinto(buffer)])

    def readinto(self, buffer: bytearray | memoryview, /) -> int:
        """Fill `buffer`; return how many bytes came, fewer than it holds at the end only."""
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view):
            block = self._next()
            if block is None:
                break
            count = min(len(view) - filled, len(block))
            view[filled : filled + count] = block[:count]
            self._rest = memoryview(block)[count:]
            filled += count
        return filled

    @abstractmethod
    def close(self) -> None:
        """Read no more."""

    @abstractmethod
    def _next(self) -> Block | None:
        """Return what is left of a block, or the next one; None at the end."""

    def _take_rest(self) -> Block | None:
        """Return what is left of a block, None if that is nothing."""
        rest, self._rest = self._rest, memoryview(b"")
        return rest or None
