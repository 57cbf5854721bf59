"""What the files of an archive become: blobs, layers and documents.

A file is a range of an open file or spool (FileRange), a small document in memory (BufferedEntry),
or was pushed (PushedEntry) or ignored (IgnoredEntry) when it came down a pipe.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar, Protocol

from brolga.disk.files import read_at
from brolga.errors import InvalidManifest, SourceError, SpoolRequired, excerpt
from brolga.images import BlockStream, InMemoryBlob, StoredBlob
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.json import MAX_SIZE
from brolga.spec.value import Value, field, replace
from brolga.stores.archive.contents import (
    LAYER_BY_KIND,
    check_digest,
    digest_from_name,
    document_too_large,
    verify_data,
)
from brolga.stores.store import PushedBlob
from brolga.stream.compression import BLOCK_SIZE, codec_for
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from collections.abc import Generator

    from brolga.spec.blob import Blob, BlockSource, Layer, Prefix
    from brolga.stores.store import WriteStore
    from brolga.stream.sources import Source


class RandomAccessFile(Protocol):
    """A file that can be read at any offset: an archive, or a spool."""

    def read_at(self, size: int, start: int) -> memoryview:
        """Return `size` bytes from offset `start` on."""


class OpenFile:
    """An open file, which closes when the last FileRange of it is gone."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read_at(self, size: int, start: int) -> memoryview:
        """Return `size` bytes from offset `start` on. Raises SourceError if it cannot."""
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
        """Close the file. Later reads raise SourceError."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close


class CompressionOptions(Value):
    """How uncompressed layers are compressed. Raises ValueError for an unknown compression."""

    compression: str = "gzip"
    level: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        """Check the options before anything is read."""
        codec_for(self.compression, self.level)

    def compressed_layer(self, source: Source, diff_id: Digest | None) -> CheckedLayer:
        """Return a layer of uncompressed bytes, which must have the digest `diff_id`."""
        layer = CheckedLayer(source, self.compression, self.level, threads=self.threads, tar=False)
        layer.expected = diff_id
        return layer

    def stored_layer(self, source: Source, kind: str) -> CheckedLayer:
        """Return a layer of bytes that are compressed already."""
        return CheckedLayer(source, "none", None, LAYER_BY_KIND[kind], tar=False)


class CheckedLayer(StreamLayer):
    """A stream layer that has a descriptor only if its uncompressed bytes are the `expected`.

    So no store keeps wrong bytes.
    """

    expected: Digest | None = None

    @property
    def source_identity(self) -> str:
        """What is the same if the layer is pushed again: the DiffID, if it is known."""
        return self._identify(f"tar {self.expected}") if self.expected else super().source_identity

    @property
    def descriptor(self) -> Descriptor:
        """Media type, digest and size. Raises NotComputed until done, DigestMismatch then."""
        descriptor = super().descriptor
        if self.expected is not None:
            _check_diff_id(self.diff_id, self.expected)
        return descriptor


class FileRange(Value):
    """The file `path` of an archive: `size` bytes of `file` from offset `start` on."""

    runs_user_code: ClassVar = False

    path: str
    kind: str
    file: RandomAccessFile = field(repr=False)
    start: int
    size: int
    compression: CompressionOptions

    def data(self) -> bytes:
        """Return the bytes of a document. Raises InvalidManifest if it is too large."""
        if self.size > MAX_SIZE:
            raise document_too_large(self.path, self.size)
        return bytes(self.file.read_at(self.size, self.start))

    def blob(self, descriptor: Descriptor) -> Blob:
        """Return the file as a blob. Raises InvalidManifest if its size differs."""
        _check_size(self.size, descriptor)
        return self._stored(descriptor)

    def layer(self, diff_id: Digest) -> Layer:
        """Return the file as a layer, to be compressed if it is not. Raises InvalidManifest."""
        _check_layer(self.path, self.kind)
        digest = digest_from_name(self.path, self.kind)
        if self.kind == "tar":
            if self.compression.compression != "none":
                return self.compression.compressed_layer(self, diff_id)
            digest = diff_id
        if digest is None:
            return self.compression.stored_layer(self, self.kind)
        descriptor = Descriptor(LAYER_BY_KIND[self.kind], digest, self.size)
        return replace(self._stored(descriptor), diff_id_of=lambda: diff_id)

    def open_blocks(self, block_size: int) -> BlockSource:
        """Open the file as blocks (`sources.Reopenable`)."""
        return _RangeBlocks(self, block_size)

    def open_first(self, block_size: int, count: int) -> BlockSource:
        """Open the first `count` bytes again."""
        return _RangeBlocks(replace(self, size=count), block_size)

    def open_range(self, start: int, stop: int) -> BlockStream:
        """Open the bytes from `start` up to `stop` of the file."""
        part = replace(self, start=self.start + start, size=min(stop, self.size) - start)
        return BlockStream(part._read())  # noqa: SLF001 - it is of this class

    def _read(self) -> Generator[memoryview, None, None]:
        yield from iter(_RangeBlocks(self, BLOCK_SIZE).read, b"")

    def _stored(self, descriptor: Descriptor) -> StoredBlob:
        def open_verified(prefix: Prefix | None = None) -> BlockStream:
            known = prefix.size if prefix else 0
            rest = replace(self, start=self.start + known, size=self.size - known)
            return BlockStream(verify_data(descriptor.digest, rest._read(), prefix))  # noqa: SLF001 - it is of this class

        return StoredBlob(
            descriptor,
            open_verified,
            open_rest=open_verified,
            open_range=self.open_range,
            is_verified=True,
        )


class _RangeBlocks:
    """A FileRange as blocks of one size."""

    def __init__(self, file_range: FileRange, block_size: int) -> None:
        self._file = file_range.file
        self._position = file_range.start
        self._end = file_range.start + file_range.size
        self._block_size = block_size

    def read(self) -> memoryview:
        """Return the next block, an empty one at the end."""
        size = min(self._block_size, self._end - self._position)
        block = self._file.read_at(size, self._position)
        self._position += size
        return block

    def next_block(self, timeout_s: float) -> memoryview:  # noqa: ARG002 - a file never waits
        return self.read()

    def close(self) -> None:
        """Leave the file open: other ranges share it."""


class BufferedEntry(Value):
    """A small file of an archive, in memory."""

    path: str
    kind: str
    content: bytes = field(repr=False)

    def data(self) -> bytes:
        """Return the bytes."""
        return self.content

    def blob(self, descriptor: Descriptor) -> Blob:
        """Return the file as a blob. Raises InvalidManifest or DigestMismatch if it differs."""
        _check_size(len(self.content), descriptor)
        actual = Digest.of(self.content, descriptor.digest.algorithm)
        check_digest("a file", actual, descriptor.digest)  # a link may have led here
        return InMemoryBlob(self.content, descriptor.media_type, descriptor.digest.algorithm)

    def layer(self, diff_id: Digest) -> Layer:  # noqa: ARG002 - the protocol's signature
        """Raise InvalidManifest: a layer is not JSON."""
        raise _not_a_layer(self.path)


class PushedEntry(Value):
    """A file that was pushed to `store` as `descriptor`.

    `diff_id` is the digest of a tar that was compressed on the way, None if no byte was changed.
    """

    path: str
    kind: str
    size: int
    store: WriteStore
    descriptor: Descriptor
    diff_id: Digest | None = None

    def data(self) -> bytes:
        """Raise SpoolRequired if the file is a document, InvalidManifest if it is not."""
        if self.kind != "json" or self.size > MAX_SIZE:
            raise document_too_large(self.path, self.size)
        raise SpoolRequired(
            f"{excerpt(self.path)} is a document of the image, but the memory for documents was "
            "full, so it was pushed as a blob: --spool keeps such files on disk"
        )

    def blob(self, descriptor: Descriptor) -> Blob:
        """Return the file as a blob."""
        _check_size(self.size, descriptor)
        if self.diff_id is not None:
            raise SpoolRequired(
                f"the layer {descriptor.digest} is not compressed and came before oci-layout and "
                "index.json, so it was taken for one of docker save and compressed: say that this "
                "is an OCI archive (oci-archive:), or use --spool"
            )
        check_digest("a file", self.descriptor.digest, descriptor.digest)
        return PushedBlob(descriptor, self.store)

    def layer(self, diff_id: Digest) -> Layer:
        """Return the file as a layer. Raises DigestMismatch if it is known to be another."""
        _check_layer(self.path, self.kind)
        if self.kind == "tar":
            _check_diff_id(self.diff_id or self.descriptor.digest, diff_id)
        return PushedBlob(self.descriptor, self.store, diff_id)


class IgnoredEntry(Value):
    """A file that cannot be a part of an image. Every use of it is an InvalidManifest."""

    path: str
    kind: str

    def data(self) -> bytes:
        """Raise InvalidManifest."""
        raise InvalidManifest(f"{excerpt(self.path)} of the archive is not JSON of bounded size")

    def blob(self, descriptor: Descriptor) -> Blob:
        """Raise InvalidManifest: the name of the file is not a digest."""
        raise InvalidManifest(f"{excerpt(self.path)} of the archive is not {descriptor.digest}")

    def layer(self, diff_id: Digest) -> Layer:  # noqa: ARG002 - the protocol's signature
        """Raise InvalidManifest."""
        raise _not_a_layer(self.path)


def _check_layer(path: str, kind: str) -> None:
    if kind not in LAYER_BY_KIND:
        raise _not_a_layer(path)


def _not_a_layer(path: str) -> InvalidManifest:
    return InvalidManifest(f"the layer {excerpt(path)} is neither a tar nor one in gzip or zstd")


def _check_diff_id(actual: Digest, expected: Digest) -> None:
    check_digest("a layer", actual, expected, " uncompressed")


def _check_size(size: int, descriptor: Descriptor) -> None:
    if size != descriptor.size:
        raise InvalidManifest(
            f"the archive has {size} bytes of {descriptor.digest}, but its manifest says "
            f"{descriptor.size}"
        )
