"""A part of a file: as bytes, as a blob, and as a layer that is compressed on the way.

Knows files that can be read anywhere. Must not know tars.

Strategy: every read says where it begins (pread), so that any number of threads read one file. It
is closed when the last section of it is gone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final, Protocol, cast

from brolga.disk.files import read_at
from brolga.errors import InvalidManifest, SourceError, excerpt
from brolga.images import BlockStream, StoredBlob
from brolga.spec.descriptor import Descriptor
from brolga.spec.json import MAX_SIZE
from brolga.spec.mediatypes import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD
from brolga.stores.archive.contents import check_digest, claimed, of_the_source, too_large
from brolga.stream.compression import BLOCK_SIZE, codec_for
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from collections.abc import Generator

    from brolga.spec.blob import Blob, BlockSource, Layer
    from brolga.spec.digest import Digest
    from brolga.stream.sources import Source

__all__ = [
    "LAYER_BY_KIND",
    "CheckedLayer",
    "OpenFile",
    "Packing",
    "Section",
    "check_diff_id",
    "check_size",
    "no_layer",
]


# A layer's media type by what its file begins as.
LAYER_BY_KIND: Final = {"tar": OCI_LAYER, "gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD}


class Pieces(Protocol):
    """A file that can be read anywhere: an archive, or a spool."""

    def read_at(self, size: int, start: int) -> memoryview:
        """Return `size` bytes from `start` on."""


class OpenFile:
    """A file that is open for reading anywhere, until it is closed or nobody has it any more."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read_at(self, size: int, start: int) -> memoryview:
        """Return `size` bytes from `start` on. Raises SourceError where it cannot give them."""
        try:
            block = read_at(self._fd, size, start)
        except OSError as error:
            reason = "it is closed" if self._fd < 0 else str(error)
            raise SourceError(f"the archive cannot be read: {reason}") from error
        if len(block) < size:
            raise SourceError(
                f"the archive ends at byte {start + len(block)}: it was longer before"
            )
        return block

    def close(self) -> None:
        """Close the file; nothing of it can be read then."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close


@dataclass(frozen=True)
class Packing:
    """How layers are compressed on the way. Raises ValueError for a compression that is none."""

    compression: str = "gzip"
    level: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        """Check it before anything is read."""
        codec_for(self.compression, self.level)

    def layer(self, source: Source, diff_id: Digest | None) -> CheckedLayer:
        """Return a layer of uncompressed bytes, which must be those of `diff_id`."""
        layer = CheckedLayer(source, self.compression, self.level, threads=self.threads, tar=False)
        layer.expected = diff_id
        return layer

    def as_is(self, source: Source, kind: str) -> CheckedLayer:
        """Return a layer of bytes that are compressed already, and have no name yet."""
        return CheckedLayer(source, "none", None, LAYER_BY_KIND[kind], tar=False)


class CheckedLayer(StreamLayer):
    """A stream that has no descriptor where its uncompressed bytes are not those `expected`.

    So no store can be told to keep it.
    """

    expected: Digest | None = None

    @property
    def descriptor(self) -> Descriptor:
        """Media type, digest and size. Raises NotComputed until done, DigestMismatch then."""
        descriptor = super().descriptor
        check_diff_id(self.diff_id, self.expected)
        return descriptor


def check_diff_id(actual: Digest, expected: Digest | None) -> None:
    """Raise DigestMismatch where a layer is another than its image says."""
    if expected is not None:
        check_digest("a layer", actual, expected, " uncompressed")


def no_layer(path: str) -> InvalidManifest:
    """Return the error for a file that is named as a layer."""
    return InvalidManifest(f"the layer {excerpt(path)} is neither a tar nor one in gzip or zstd")


@dataclass(frozen=True)
class Section:
    """`size` bytes of a file from `start` on, which an archive has under the name `path`."""

    runs_user_code: ClassVar = False

    path: str
    kind: str
    file: Pieces = field(repr=False)
    start: int
    size: int
    packing: Packing

    def data(self) -> bytes:
        """Return its bytes, as of a document. Raises InvalidManifest where they are too many."""
        if self.size > MAX_SIZE:
            raise too_large(self.path, self.size)
        return bytes(self.file.read_at(self.size, self.start))

    def blob(self, descriptor: Descriptor) -> Blob:
        """Return it as the blob that it is. Raises InvalidManifest where it is not, by its size."""
        check_size(self.size, descriptor)
        return StoredBlob(descriptor, lambda: self.verified(descriptor.digest), is_verified=True)

    def layer(self, diff_id: Digest) -> Layer:
        """Return it as a layer, compressed on the way where it is not. Raises InvalidManifest."""
        digest = claimed(self.path, self.kind)
        if self.kind == "tar":
            digest = diff_id if self.packing.compression == "none" else None
        elif self.kind not in {"gzip", "zstd"}:
            raise no_layer(self.path)
        if digest is not None:
            return StoredBlob(
                Descriptor(LAYER_BY_KIND[self.kind], digest, self.size),
                partial(self.verified, digest),
                diff_id_of=lambda: diff_id,
                is_verified=True,
            )
        if self.kind == "tar":
            return self.packing.layer(self, diff_id)
        return self.packing.as_is(self, self.kind)

    def verified(self, digest: Digest) -> BlockStream:
        """Open the bytes; DigestMismatch is raised at their end where they are others."""
        return BlockStream(self._verified(digest))

    def open_blocks(self, block_size: int) -> BlockSource:
        """Open it as blocks (`sources.OpensAgain`)."""
        return _Blocks(self, block_size)

    def open_first(self, block_size: int, count: int) -> BlockSource:
        """Open its first `count` bytes once more."""
        return _Blocks(replace(self, size=count), block_size)

    def _verified(self, digest: Digest) -> Generator[bytes, None, None]:
        verifier = digest.verifier()
        blocks = _Blocks(self, BLOCK_SIZE)
        while block := blocks.next_block(0):
            verifier.update(block)
            yield cast("bytes", block)  # nobody asks it for more than a buffer
        with of_the_source():
            verifier.verify()


class _Blocks:
    """A section as blocks of one size."""

    def __init__(self, section: Section, block_size: int) -> None:
        self._file = section.file
        self._at = section.start
        self._end = section.start + section.size
        self._block_size = block_size

    def next_block(self, timeout_s: float) -> memoryview:  # noqa: ARG002 - a file is there
        block = self._file.read_at(min(self._block_size, self._end - self._at), self._at)
        self._at += len(block)
        return block

    def close(self) -> None:
        """Leave the file open: others read it."""


def check_size(size: int, descriptor: Descriptor) -> None:
    """Raise InvalidManifest where a blob is not as large as a manifest says."""
    if size != descriptor.size:
        raise InvalidManifest(
            f"the archive has {size} bytes of {descriptor.digest}, where its manifest says "
            f"{descriptor.size}"
        )
