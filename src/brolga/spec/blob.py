"""Blobs: protocols of what a store takes and gives, and how a stream of blocks is read.

A blob may be a stream, a file or bytes in memory. `BlockReader` reads any blocks as a file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol, Self, TypeAlias, runtime_checkable

from brolga.errors import NotComputed
from brolga.spec.digest import CANONICAL
from brolga.spec.value import Value, field

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest, Hasher

Block: TypeAlias = bytes | memoryview
UNKNOWN_SOURCE: Final = "stream"  # the identity of what is read if nothing more is known of it


class BlockSource(Protocol):
    """Blocks of one size, the last one shorter. A block never changes after it was returned."""

    def next_block(self, timeout_s: float) -> memoryview | None:
        """Return the next block; empty at the end; None after `timeout_s`. Raises SourceError."""

    def close(self) -> None:
        """Stop reading at once, and close what was opened here. Idempotent."""


class BlobStream(AbstractContextManager["BlobStream"], Protocol):
    """An open blob, read by iteration or as a file. A context manager that closes it."""

    def __iter__(self) -> Iterator[Block]:
        """Yield the bytes in blocks of any size, none of them empty."""

    def read(self, size: int = -1, /) -> bytes:
        """Return `size` bytes, fewer only at the end; all the rest if `size` is negative."""

    def blocks(self) -> Iterator[Block]:
        """Yield the bytes, and an empty block, a heartbeat, if nothing came for a while.

        An upload needs heartbeats to notice an early response; others iterate the stream itself.
        """


class Blob(Protocol):
    """Content that can be pushed: its bytes, and a descriptor once they were read."""

    @property
    def descriptor(self) -> Descriptor:
        """Media type, digest and size. Raises NotComputed too early."""

    def open(self) -> BlobStream:
        """Open the bytes for reading."""


def runs_user_code(blob: Blob) -> bool:
    """Return whether reading a blob calls the user's code, as a class of the user's does."""
    return getattr(blob, "runs_user_code", True)


def digest_algorithm(blob: Blob) -> str:
    """Return the algorithm of the digest that a blob has, or will have once it was read."""
    try:
        return blob.descriptor.digest.algorithm
    except NotComputed:
        return getattr(blob, "digest_algorithm", CANONICAL)


def source_identity(blob: Blob) -> str:
    """Return a text that is the same if the blob is pushed again: the digest, or what is read.

    Other bytes may have the same one.
    """
    try:
        return str(blob.descriptor.digest)
    except NotComputed:
        return getattr(blob, "source_identity", UNKNOWN_SOURCE)


class Layer(Blob, Protocol):
    """A blob that is a layer: it has uncompressed bytes too."""

    @property
    def media_type(self) -> str:
        """The media type of the compressed bytes."""

    @property
    def diff_id(self) -> Digest:
        """The digest of the uncompressed bytes. Raises NotComputed too early."""


class LayerState(Enum):
    """The state of a stream. It only moves forward, and FAILED is final."""

    FRESH = "fresh"
    OPEN = "open"
    DONE = "done"
    FAILED = "failed"


class Progress(Value):
    """Bytes so far: `read` uncompressed from the source, `written` compressed."""

    read: int
    written: int


class Prefix(Value):
    """The first `size` bytes of a blob, which its reader has already: `state` has hashed them."""

    size: int
    state: Hasher = field(repr=False)


@runtime_checkable
class MeasuresSource(Protocol):
    """A blob that is made from a source while it is read, as a `StreamLayer` is."""

    source_size: int | None  # if it is known before
    source_name: str

    @property
    def progress(self) -> Progress:
        """The bytes so far."""


@runtime_checkable
class Rereadable(Protocol):
    """A stream that may be able to read its source again."""

    @property
    def is_reopenable(self) -> bool:
        """Whether the source can be opened again."""

    def reread(self) -> Iterator[Block]:
        """Yield the bytes so far again, and perhaps some more."""


class BlockReader(ABC):
    """Base of block streams. A subclass defines `close`, and `_next` with `_take_rest()` first."""

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
        """Yield the bytes; an empty block means that nothing came for a while."""
        while (block := self._next()) is not None:
            yield block

    def read(self, size: int = -1, /) -> bytes:
        """Return `size` bytes, fewer only at the end; all the rest if `size` is negative."""
        if size < 0:
            return b"".join(self)
        buffer = bytearray(size)
        return bytes(memoryview(buffer)[: self.readinto(buffer)])

    def readinto(self, buffer: bytearray | memoryview, /) -> int:
        """Fill `buffer`; return the number of bytes, fewer than its length only at the end."""
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
        """Stop reading."""

    @abstractmethod
    def _next(self) -> Block | None:
        """Return the rest of a block, or the next one; None at the end."""

    def _take_rest(self) -> Block | None:
        """Return the rest of a block, or None."""
        rest, self._rest = self._rest, memoryview(b"")
        return rest or None
