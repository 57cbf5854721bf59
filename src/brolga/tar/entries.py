"""The entries of a tar stream, read one by one in constant memory.

An entry's data is an iterator over the stream. Names and pax records stay bytes, since nothing says
that they are text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from brolga.errors import CorruptBlob
from brolga.spec.mediatypes import detect_unsupported_compression
from brolga.spec.value import Value, field
from brolga.tar import reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from brolga.spec.blob import Block

_HEAD_SIZE: Final = 6  # bytes that show an unsupported compression


class Entry(Value):
    """One entry of a tar. Names are as written; `records` are those of pax, undecoded.

    `data` must be read before the next entry; the rest of it is skipped. `size` counts the bytes in
    the archive, which begin at `start`; a sparse file shows more.
    """

    kind: bytes
    name: bytes
    link: bytes
    size: int
    metadata: reader.Metadata = field(repr=False)
    records: dict[bytes, bytes] = field(default_factory=dict, repr=False)
    data: Iterator[memoryview] = field(default=iter(()), repr=False)
    start: int = 0

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file that is not sparse."""
        is_sparse = any(key.startswith(reader.SPARSE_KEYS) for key in self.records)
        return self.kind == reader.FILE and not is_sparse

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return self.kind == reader.DIRECTORY

    @property
    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return self.kind == reader.SYMLINK

    @property
    def is_hard_link(self) -> bool:
        """Whether it is another name of an earlier entry."""
        return self.kind == reader.HARD_LINK


def read_entries(blocks: Iterable[Block], *, needs_end: bool = False) -> Iterator[Entry]:
    """Yield the entries of a tar stream, then read the rest of the stream.

    If `blocks` has a method `skip`, it is called with the number of bytes to skip. With `needs_end`
    the two blocks of zeros at the end are required; some layers lack them. Raises CorruptBlob for
    a stream that is not a valid tar, or on which readers differ.
    """
    stream = _Stream(blocks)
    if compression := detect_unsupported_compression(stream.peek(_HEAD_SIZE)):
        raise CorruptBlob(
            f"compressed by {compression}, which layers do not have (image-spec has gzip and "
            "zstd): the bytes cannot be read as a tar"
        )
    while isinstance(header := stream.next_header(), reader.Header):
        if header.kind not in reader.KNOWN_KINDS:
            raise CorruptBlob(
                f"the entry {reader.printable_name(header.name)} is of the type "
                f"{reader.printable_name(header.kind)}, not known here"
            )
        stream.left, start = header.size, stream.position
        kind, name, link, size, records, _ = header
        yield Entry(kind, name, link, size, header.metadata, records, stream.data(), start)
        stream.skip(header.size_in_blocks - header.size)
    if needs_end and header is reader.End.MISSING:
        raise CorruptBlob("the tar is cut short: its end, two blocks of zeros, is missing")
    stream.drain()


class _Stream:
    """The bytes of an archive, read in exact amounts."""

    def __init__(self, blocks: Iterable[Block]) -> None:
        self.position = 0
        self._blocks = iter(blocks)
        self._skip: Callable[[int], None] | None = getattr(blocks, "skip", None)
        self._rest = memoryview(b"")
        self.left = 0  # bytes of an entry's data

    def peek(self, size: int) -> bytes:
        """Return the next bytes without consuming them."""
        head = b""
        for block in iter(self._current, None):
            head += block
            self._rest = memoryview(b"")
            if len(head) >= size:
                break
        self._rest = memoryview(head)
        return head[:size]

    def next_header(self) -> reader.Header | reader.End:
        """Read the headers of the next entry."""
        headers = reader.read_header()
        needed = next(headers)
        try:
            while True:
                is_at_end = not any(iter(self._current, None))
                needed = headers.send(b"" if is_at_end else b"".join(self._take(needed)))
        except StopIteration as stop:
            header: reader.Header | reader.End = stop.value
            return header

    def data(self) -> Iterator[memoryview]:
        """Yield an entry's data, of which `skip` skips the rest."""
        for piece in self._take(self.left):
            self.left -= len(piece)
            yield piece

    def skip(self, size: int) -> None:
        """Skip the rest of an entry's data, and `size` more bytes."""
        size, self.left = self.left + size, 0
        if self._skip and size > len(self._rest):
            self._skip(size - len(self._rest))
            self.position += size
            self._rest = memoryview(b"")
            return
        for _ in self._take(size):
            pass

    def drain(self) -> None:
        """Read to the end of the stream."""
        while any(iter(self._current, None)):
            self._rest = memoryview(b"")

    def _take(self, size: int) -> Iterator[memoryview]:
        while size:
            rest = self._current()
            if rest is None:
                raise CorruptBlob(f"the tar is cut short: {size} bytes of an entry are missing")
            piece, self._rest = rest[:size], rest[size:]
            size -= len(piece)
            self.position += len(piece)
            yield piece

    def _current(self) -> memoryview | None:
        """Return the rest of a block, or the next one; None at the end."""
        if not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return None
            self._rest = memoryview(block)
        return self._rest
