"""A blob as a file that is read at any position, by requests for ranges of it.

Ranges consist of whole blocks. The blocks that were used last are kept, so that the small reads of
`zipfile` or `tarfile` in one place are one request.
"""

from __future__ import annotations

import errno
import io
import os
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from brolga.errors import CorruptBlob, DigestMismatch
from brolga.spec.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    from typing_extensions import Buffer

    from brolga.spec.blob import BlobStream, Block
    from brolga.spec.descriptor import Descriptor

    # It opens the bytes from one position up to another.
    RangeOpener: TypeAlias = Callable[[int, int], BlobStream]

_HASH_SIZE: Final = 32  # bytes of a sha256


class RangeOptions(Value):
    """How a blob is requested and kept in memory. Raises ValueError if a number is not positive.

    Blocks of `block_size` bytes are requested, and the `cached_blocks` that were used last are
    kept. As long as the blocks are read in order, each request is for twice as many, up to
    `max_request` bytes.
    """

    block_size: int = 1 << 20
    cached_blocks: int = 8
    max_request: int = 64 << 20

    def __post_init__(self) -> None:
        """Check that each number is positive."""
        for name in ("block_size", "cached_blocks", "max_request"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is not a positive number")


DEFAULT_RANGES: Final = RangeOptions()


class SeekableBlob(io.RawIOBase):
    """A blob as a binary file for reading. Its reads are complete: short at the end only.

    The digest is that of the whole blob, so it does not cover what is read here. `hashes` are the
    sha256 of each block of a blob that was read and verified before (`hash_blocks`): then each
    block must be the same. A read that failed may be repeated. Threads cannot share one.
    """

    def __init__(
        self,
        descriptor: Descriptor,
        open_range: RangeOpener,
        options: RangeOptions = DEFAULT_RANGES,
        hashes: bytes | None = None,
    ) -> None:
        super().__init__()
        self.descriptor = descriptor
        self._ranges = _Ranges(open_range, descriptor.size, options)
        self._hashes = hashes
        self._block_size = options.block_size
        self._cached_blocks = options.cached_blocks
        self._cache: dict[int, bytes] = {}  # by number, the block that was used last is the last
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        self._check_open()
        return True

    def seekable(self) -> bool:
        """Return True."""
        self._check_open()
        return True

    def tell(self) -> int:
        """Return the position of the next read."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Change the position, and return it. It makes no request, and may lead behind the end.

        Raises OSError if it would be negative, as a file does.
        """
        self._check_open()
        starts = {
            os.SEEK_SET: 0,
            os.SEEK_CUR: self._position,
            os.SEEK_END: self.descriptor.size,
        }
        if whence not in starts:
            raise ValueError(f"whence is 0, 1 or 2, not {whence!r}")
        position = starts[whence] + offset
        if position < 0:
            raise OSError(errno.EINVAL, "a position in a blob is not negative")
        self._position = position
        return position

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill `buffer`; return the number of bytes, fewer than its length only at the end.

        Raises what a request raises, and DigestMismatch if a verified block has changed.
        """
        self._check_open()
        view = memoryview(buffer).cast("B")
        start = self._position
        end = max(start, min(start + len(view), self.descriptor.size))
        filled = 0
        while filled < end - start:
            number, offset = divmod(start + filled, self._block_size)
            part = memoryview(self._load(number, end))[offset : offset + end - start - filled]
            view[filled : filled + len(part)] = part
            filled += len(part)
        self._position = end
        return filled

    def readall(self) -> bytes:
        """Return all bytes from the position on."""
        self._check_open()
        buffer = bytearray(max(0, self.descriptor.size - self._position))
        self.readinto(buffer)
        return bytes(buffer)

    def close(self) -> None:
        """Close the file, and the response that it reads. Idempotent."""
        try:
            if not self.closed:
                self._cache.clear()
                self._ranges.close()
        finally:
            super().close()

    def _load(self, number: int, end: int) -> bytes:
        """Return a block. A request for it is for the blocks up to the byte `end` as well."""
        block = self._cache.pop(number, None)
        while block is None:
            loaded, data = self._ranges.take(number, end)
            self._verify(loaded, data)
            if loaded == number:
                block = data
            else:
                self._keep(loaded, data)
        self._keep(number, block)
        return block

    def _keep(self, number: int, block: bytes) -> None:
        self._cache[number] = block
        while len(self._cache) > self._cached_blocks:
            del self._cache[next(iter(self._cache))]

    def _verify(self, number: int, block: bytes) -> None:
        if self._hashes is None:
            return
        expected = self._hashes[number * _HASH_SIZE : (number + 1) * _HASH_SIZE]
        actual = sha256(block).digest()
        if actual != expected:
            start = number * self._block_size
            raise DigestMismatch(
                f"the bytes of {self.descriptor.digest} from {start} to {start + len(block)} have "
                "changed since the blob was verified",
                expected=f"sha256:{expected.hex()}",
                actual=f"sha256:{actual.hex()}",
            )

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on a closed blob")


class _Ranges:
    """The blocks of a blob, taken one by one out of requests for ranges.

    The response is read as far as blocks are taken, so a long range that is left costs little.
    """

    def __init__(self, open_range: RangeOpener, size: int, options: RangeOptions) -> None:
        self._open_range = open_range
        self._size = size
        self._block_size = options.block_size
        self._max_count = max(1, options.max_request // options.block_size)
        self._stream: BlobStream | None = None
        self._next = 0  # the block that the stream gives next
        self._stop = 0  # the block behind the range that was requested last
        self._count = 0  # blocks in that range

    def take(self, number: int, end: int) -> tuple[int, bytes]:
        """Return a block and its number: `number`, or the one before if it has to be passed.

        A new request is for the blocks up to the byte `end`, or more.
        """
        try:
            is_near = self._next <= number <= self._next + 1 and number < self._stop
            if self._stream is None or not is_near:
                self._stream = self._request(number, -(-end // self._block_size))
            block = self._read(self._stream, self._next)
            taken, self._next = self._next, self._next + 1
            if self._next == self._stop:
                self._stream.read(1)  # the end of the response, so that its connection is kept
                self.close()
        except BaseException:
            self.close()
            raise
        return taken, block

    def _read(self, stream: BlobStream, number: int) -> bytes:
        start, end = number * self._block_size, self._end_of(number)
        block = stream.read(end - start)
        if start + len(block) < end:
            raise CorruptBlob(
                f"the blob ends at byte {start + len(block)}, but its descriptor says {self._size}"
            )
        return block

    def close(self) -> None:
        """Close the response."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.__exit__(None, None, None)

    def _request(self, number: int, stop: int) -> BlobStream:
        """Open the blocks from `number` up to `stop`, more if the last request ended there."""
        self.close()
        count = min(2 * self._count, self._max_count) if number == self._stop else 1
        stop = min(number + max(count, stop - number), -(-self._size // self._block_size))
        self._next, self._stop, self._count = number, stop, stop - number
        return self._open_range(number * self._block_size, self._end_of(stop - 1))

    def _end_of(self, number: int) -> int:
        return min((number + 1) * self._block_size, self._size)


def hash_blocks(blocks: Iterable[Block], block_size: int) -> bytes:
    """Return the sha256 of each `block_size` bytes, one behind the other.

    `blocks` may have any sizes. Raises what they raise.
    """
    hashes = bytearray()
    state, left = sha256(), block_size
    for block in blocks:
        rest = memoryview(block)
        while rest:
            part, rest = rest[:left], rest[left:]
            state.update(part)
            left -= len(part)
            if not left:
                hashes += state.digest()
                state, left = sha256(), block_size
    return bytes(hashes + state.digest() if left < block_size else hashes)
