"""Blobs that can be read again: bytes in memory, and content of a store."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final, cast

from brolga.errors import LayerError, NotComputed
from brolga.spec.blob import BlobStream, Block, BlockReader, runs_user_code
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.value import Value, field
from brolga.stream.worker import current_stop

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from brolga.images.seekable import RangeOpener, RangeOptions, SeekableBlob
    from brolga.spec.blob import Blob, Prefix
    from brolga.spec.reference import Repository
    from brolga.stream.decompression import Limits

_BLOCK_SIZE: Final = 1 << 20  # bytes
_READ_AHEAD: Final = 4 << 20  # uncompressed bytes


class BlockStream(BlockReader):
    """A blob being read, by iteration or as a file. It raises what its blocks raise."""

    def __init__(self, blocks: Generator[Block, None, None]) -> None:
        self._blocks = blocks

    def start(self) -> None:
        """Read the first block now. Raises what the blocks raise."""
        if not self._rest:
            self._rest = memoryview(next(self._blocks, b""))

    def close(self) -> None:
        """Stop reading."""
        self._rest = memoryview(b"")
        self._blocks.close()

    def _next(self) -> Block | None:
        current_stop().check()
        return self._take_rest() or next(self._blocks, None)


class InMemoryBlob(Value):
    """A blob in memory: a config, or small content. `algorithm` is for its digest."""

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
        starts = range(0, len(self.data), _BLOCK_SIZE)
        return BlockStream(self.data[start : start + _BLOCK_SIZE] for start in starts)

    def uncompressed(self, limits: Limits | None = None) -> BlockStream:
        """Open the bytes, decompressed: see `uncompressed`."""
        return uncompressed(self, limits)

    def open_range(self, start: int, stop: int) -> BlockStream:
        """Open the bytes from `start` up to `stop`."""
        return BlockStream(data for data in (self.data[start:stop],))


class StoredBlob(Value):
    """A blob of a store, which can be read any number of times.

    `opener` opens its bytes, which are verified as they are read. `mount_source` is its repository
    if the store is a registry: other repositories there can mount it. `diff_id_of` returns the
    DiffID, from the config of its image. `open_rest` opens the bytes after a prefix, verified
    together with it, and `open_range` those from one position up to another, not verified, if the
    store can do that. `is_verified` means that the store itself raises an error for wrong bytes, so
    they need not be hashed again.
    """

    runs_user_code: ClassVar = False

    descriptor: Descriptor
    opener: Callable[[], BlobStream] = field(repr=False)
    mount_source: Repository | None = None
    diff_id_of: Callable[[], Digest] | None = field(default=None, repr=False)
    open_rest: Callable[[Prefix], BlobStream] | None = field(default=None, repr=False)
    open_range: RangeOpener | None = field(default=None, repr=False)
    is_verified: bool = field(default=False, kw_only=True)

    @property
    def media_type(self) -> str:
        """The media type of the bytes."""
        return self.descriptor.media_type

    @property
    def diff_id(self) -> Digest:
        """The digest of the uncompressed bytes. Raises NotComputed if no config has it."""
        if self.diff_id_of is None:
            raise NotComputed(f"the DiffID of {self.descriptor.digest} is not known here")
        return self.diff_id_of()

    def open(self) -> BlobStream:
        """Open the bytes for reading."""
        return self.opener()

    def uncompressed(self, limits: Limits | None = None) -> BlockStream:
        """Open the bytes, decompressed: see `uncompressed`."""
        return uncompressed(self, limits)

    def open_seekable(
        self, *, verify: bool = False, options: RangeOptions | None = None
    ) -> SeekableBlob:
        """Open the bytes as a file that is read at any position, by requests for parts of it.

        What is read is not covered by the digest. With `verify`, the whole blob is read and
        verified first, and what is read must be the same then. Raises LayerError if the store
        cannot read parts.
        """
        from brolga.images import seekable

        open_range, data = self.open_range, self.descriptor.data
        if data is not None:
            open_range = InMemoryBlob(data, self.media_type).open_range
        if open_range is None:
            raise LayerError(f"parts of {self.descriptor.digest} cannot be read alone")
        options, hashes = options or seekable.DEFAULT_RANGES, None
        if verify:
            with self.open() as stream:
                blocks = verified_blocks(self, stream)
                hashes = seekable.hash_blocks(blocks, options.block_size)
        return seekable.SeekableBlob(self.descriptor, open_range, options, hashes)


def uncompressed(
    blob: Blob, limits: Limits | None = None, compression: str | None = None
) -> BlockStream:
    """Open a blob, decompressed from gzip or zstd ahead of the reader, in another thread.

    A layer's compression is told from its first bytes, as runtimes do, and that of other blobs from
    the media type, unless `compression` is given. Several gzip members or zstd frames are one
    stream. The last block comes after the digest was verified. Reading raises DigestMismatch, and
    CorruptBlob for invalid bytes and beyond `limits`.
    """
    from brolga.spec.mediatypes import COMPRESSION_BY_LAYER, compression_of_media_type
    from brolga.stream.decompression import DEFAULT_LIMITS
    from brolga.stream.read_ahead import read_ahead

    media_type = getattr(blob, "media_type", "") or blob.descriptor.media_type
    if compression is None and media_type not in COMPRESSION_BY_LAYER:
        compression = compression_of_media_type(media_type)
    open_blocks = partial(_decompress, blob, limits or DEFAULT_LIMITS, compression)
    if compression == "none" or runs_user_code(blob):  # the user's code runs in its own thread
        return BlockStream(_hold_last_back(open_blocks()))
    return BlockStream(_hold_last_back(read_ahead(open_blocks, limit=_READ_AHEAD)))


def _decompress(
    blob: Blob, limits: Limits, compression: str | None
) -> Generator[Block, None, None]:
    from brolga.stream.decompression import decompress

    with blob.open() as stream:
        yield from decompress(_verified_if_known(blob, stream), limits, compression)


def _hold_last_back(blocks: Generator[Block, None, None]) -> Generator[Block, None, None]:
    """Yield blocks, the last of them after `blocks` ended without an error."""
    last: Block = b""
    with closing(blocks):
        for block in blocks:
            if last:
                yield last
            last = block
    if last:
        yield last


def _verified_if_known(blob: Blob, stream: BlobStream) -> Iterator[Block]:
    """Return the blocks of a blob, verified unless it computes its digest from them."""
    if isinstance(blob, InMemoryBlob):
        return iter(stream)
    try:
        return verified_blocks(blob, stream)
    except NotComputed:
        return iter(stream)


def verify_blocks(
    digest: Digest, blocks: Iterable[Block], prefix: Prefix | None = None
) -> Generator[bytes, None, None]:
    """Yield blocks. Raises DigestMismatch at the end if `prefix` and they have another digest."""
    verifier = digest.verifier(prefix.state if prefix else None)
    for block in blocks:
        verifier.update(block)
        yield cast("bytes", block)  # a BlockStream accepts any buffer
    verifier.verify()


def verified_blocks(blob: Blob, stream: BlobStream) -> Iterator[Block]:
    """Return the blocks of a blob with a known digest, verified here unless the stream does it."""
    if isinstance(blob, StoredBlob) and blob.is_verified:
        return iter(stream)
    return verify_blocks(blob.descriptor.digest, stream)
