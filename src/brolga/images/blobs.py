"""Blobs that can be read again: bytes at hand, and what a store keeps.

Knows descriptors and the `Blob` protocol. Must not know where a store is, or how it is asked: an
opener is given.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final

from brolga.errors import NotComputed
from brolga.spec.blob import BlockReader
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from brolga.spec.blob import BlobStream, Block
    from brolga.spec.reference import Repository

__all__ = ["BlockStream", "InMemoryBlob", "StoredBlob"]

_BLOCK_SIZE: Final = 1 << 20  # bytes


class BlockStream(BlockReader):
    """A blob's bytes, being read: by iteration or as a file. A context manager.

    It raises what the blocks raise: DigestMismatch at the end of a blob whose bytes are wrong.
    """

    def __init__(self, blocks: Generator[bytes, None, None]) -> None:
        self._blocks = blocks

    def start(self) -> None:
        """Ask for the first block now. Raises what the blocks raise."""
        if not self._rest:
            self._rest = memoryview(next(self._blocks, b""))

    def close(self) -> None:
        """Read no more."""
        self._rest = memoryview(b"")
        self._blocks.close()

    def _next(self) -> Block | None:
        return self._take_rest() or next(self._blocks, None)


@dataclass(frozen=True)
class InMemoryBlob:
    """A blob whose bytes are at hand: a config, an artifact's small content.

    `algorithm` is that of the digest that names it.
    """

    runs_user_code: ClassVar = False

    data: bytes = field(repr=False)
    media_type: str
    algorithm: str = "sha256"

    @property
    def descriptor(self) -> Descriptor:
        """Media type, digest and size."""
        digest = Digest.of(self.data, self.algorithm)
        return Descriptor(self.media_type, digest, len(self.data))

    def open(self) -> BlockStream:
        """Open the bytes for reading."""
        return BlockStream(self._blocks())

    def _blocks(self) -> Generator[bytes, None, None]:
        for start in range(0, len(self.data), _BLOCK_SIZE):
            yield self.data[start : start + _BLOCK_SIZE]


@dataclass(frozen=True)
class StoredBlob:
    """A blob that a store keeps, and that can be read as often as needed.

    `opener` opens its bytes, verified. `home` is the repository that it is in, where it is in a
    registry: another repository of that registry can take it over without its bytes (mount).
    `diff_id_of` tells the DiffID, from the config of its image. `is_verified` is said by a store
    whose own streams end with an error where bytes are wrong: nobody need hash them again.
    """

    runs_user_code: ClassVar = False

    descriptor: Descriptor
    opener: Callable[[], BlobStream] = field(repr=False)
    mount_source: Repository | None = None
    diff_id_of: Callable[[], Digest] | None = field(default=None, repr=False)
    is_verified: bool = field(default=False, kw_only=True)

    @property
    def media_type(self) -> str:
        """The media type of the bytes."""
        return self.descriptor.media_type

    @property
    def diff_id(self) -> Digest:
        """The digest of the uncompressed bytes. Raises NotComputed where no config tells it."""
        if self.diff_id_of is None:
            raise NotComputed(f"the DiffID of {self.descriptor.digest} is not known here")
        return self.diff_id_of()

    def open(self) -> BlobStream:
        """Open the bytes for reading."""
        return self.opener()
