"""The entries of a layer's tar stream: read one by one, and written again.

Knows the tar formats that layers come in (POSIX ustar and pax, GNU) and how pax writes them. Must
not know what an entry means for the layers below: that is `flatten`.

Strategy: one pass, in constant memory: an entry's data is an iterator over the stream. `tarheaders`
reads the headers, and the standard library the owner, mode and time in them. Names and pax records
stay bytes, as nothing says that they are text. Sparse files stay sparse: GNU's are written as pax
writes them (GNU tar manual, Sparse Formats), with their data as it is.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from brolga.errors import CorruptBlob
from brolga.spec.mediatypes import detect_unsupported_compression
from brolga.tar.reader import (
    BLOCK_SIZE,
    KNOWN_KINDS,
    SPARSE_NAME,
    End,
    Header,
    number,
    printable_name,
    read_header,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from brolga.spec.blob import Block

__all__ = ["ARCHIVE_END", "Entry", "data_blocks", "encode_header", "printable_name", "read_entries"]

_HEAD_SIZE: Final = 6  # bytes that tell a compression that layers have not
ARCHIVE_END: Final = bytes(2 * BLOCK_SIZE)
_MAX_DEVICE: Final = 8**7  # what the field of a device number holds

# What is written anew, whatever the records said.
_REMADE: Final = frozenset({b"path", b"linkpath", b"size", b"hdrcharset"})


@dataclass(frozen=True)
class Entry:
    """One entry. Names are as they were written; `records` are those of pax, undecoded.

    `data` is to be read before the next entry is asked for; what is left of it is skipped. An empty
    piece of it is an empty block of the stream. `size` counts the bytes that are in the archive,
    which of a sparse file are fewer than it shows; `start` is where they begin in it.
    """

    kind: bytes
    name: bytes
    link: bytes
    size: int
    info: tarfile.TarInfo = field(repr=False)
    records: dict[bytes, bytes] = field(repr=False)
    data: Iterator[memoryview] = field(repr=False)
    start: int = 0

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file, whose data is all that it shows."""
        is_sparse = any(key.startswith(b"GNU.sparse.") for key in self.records)
        return self.kind == tarfile.REGTYPE and not is_sparse

    @property
    def is_directory(self) -> bool:
        """Whether it can have others below it."""
        return self.kind == tarfile.DIRTYPE

    @property
    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return self.kind == tarfile.SYMTYPE

    @property
    def is_hard_link(self) -> bool:
        """Whether it is another name of an entry."""
        return self.kind == tarfile.LNKTYPE


def read_entries(blocks: Iterable[Block], *, needs_end: bool = False) -> Iterator[Entry]:
    """Yield the entries of a tar stream; then read what follows its end, to the last byte.

    Where `blocks` has a method `skip`, that is told how many bytes nobody wants. With `needs_end`
    the two blocks of zeros at the end must be there, which layers do without at times.

    Raises CorruptBlob for what is no tar, or what one reader takes as its end and another does not.
    """
    stream = _Stream(blocks)
    if name := detect_unsupported_compression(stream.peek(_HEAD_SIZE)):
        raise CorruptBlob(
            f"compressed by {name}, which no layer is (image-spec has gzip and zstd): the bytes "
            "cannot be read as a tar"
        )
    while isinstance(found := _next_header(stream), Header):
        yield _entry(stream, found)
        stream.skip(-found.size % BLOCK_SIZE)
    if needs_end and found is End.MISSING:
        raise CorruptBlob("the tar is cut short: its end, two blocks of zeros, is missing")
    stream.drain()


def encode_header(entry: Entry, name: bytes, link: bytes) -> bytes:
    """Return the header blocks of an entry under a name, in pax format (POSIX pax, ustar)."""
    info = tarfile.TarInfo()
    info.type, info.mode = entry.kind, entry.info.mode
    info.devmajor, info.devminor = entry.info.devmajor, entry.info.devminor
    records = {key: value for key, value in entry.records.items() if key not in _REMADE}
    if SPARSE_NAME in records:
        records[SPARSE_NAME] = name
    texts = (  # and how many characters a header has room for, in a directory's name with a slash
        ("name", b"path", 99, name + b"/" if entry.is_directory else name),
        ("linkname", b"linkpath", 100, link),
        ("uname", b"uname", 32, _bytes(entry.info.uname)),
        ("gname", b"gname", 32, _bytes(entry.info.gname)),
    )
    for attribute, key, room, text in texts:
        if len(text) > room or not text.isascii():
            records.setdefault(key, text)
        setattr(info, attribute, text.decode("ascii", "replace")[:room])
    numbers = (  # and the first one that its digits have no room for
        ("uid", b"uid", 8**7, entry.info.uid),
        ("gid", b"gid", 8**7, entry.info.gid),
        ("size", b"size", 8**11, entry.size),
        ("mtime", b"mtime", 8**11, entry.info.mtime),
    )
    for attribute, key, end, value in numbers:
        fits = 0 <= value < end
        if not fits:
            records.setdefault(key, b"%d" % value)
        setattr(info, attribute, value if fits else 0)
    return _extended(records) + info.tobuf(tarfile.USTAR_FORMAT, "ascii", "replace")


def data_blocks(entry: Entry) -> Iterator[bytes]:
    """Yield an entry's data, filled up to whole blocks."""
    yield from map(bytes, entry.data)
    if padding := -entry.size % BLOCK_SIZE:
        yield bytes(padding)


def _next_header(stream: _Stream) -> Header | End:
    """Read the headers of an entry."""
    reader = read_header()
    wanted = next(reader)
    try:
        while True:
            wanted = reader.send(b"" if stream.at_end() else stream.take(wanted))
    except StopIteration as stop:
        found: Header | End = stop.value
        return found


def _entry(stream: _Stream, found: Header) -> Entry:
    if found.kind not in KNOWN_KINDS:
        raise CorruptBlob(
            f"the entry {printable_name(found.name)} is of the type {printable_name(found.kind)}, not known here"
        )
    return Entry(
        found.kind,
        found.name,
        found.link,
        found.size,
        _parsed(found.block),
        found.records,
        stream.data(found.size),
        stream.position,
    )


def _parsed(block: bytes) -> tarfile.TarInfo:
    """Read owner, mode, time and device numbers of a header block that is valid."""
    info = tarfile.TarInfo()
    info.mode = number(block[100:108])
    info.uid, info.gid = number(block[108:116]), number(block[116:124])
    info.mtime = number(block[136:148])
    if block[257:262] == b"ustar":  # Unix V7 has no more
        info.uname, info.gname = _name(block[265:297]), _name(block[297:329])
        info.devmajor, info.devminor = number(block[329:337]), number(block[337:345])
        if not (0 <= info.devmajor < _MAX_DEVICE and 0 <= info.devminor < _MAX_DEVICE):
            raise CorruptBlob("not a valid tar header: a number is out of range")
    return info


def _name(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _extended(records: dict[bytes, bytes]) -> bytes:
    """Return an extended header with its records, in their order: GNU tar depends on it."""
    if not records:
        return b""
    data = b"".join(_record(key, value) for key, value in records.items())
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, len(data)
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % BLOCK_SIZE)


def _record(key: bytes, value: bytes) -> bytes:
    rest = b" %b=%b\n" % (key, value)
    length = len(rest) + len(str(len(rest)))
    # The length counts its own digits, which may be one more by that.
    length = len(rest) + len(str(length))
    return b"%d%b" % (length, rest)


class _Stream:
    """The bytes of an archive, taken in exact amounts."""

    def __init__(self, blocks: Iterable[Block]) -> None:
        self.position = 0
        self._blocks = iter(blocks)
        self._skip: Callable[[int], None] | None = getattr(blocks, "skip", None)
        self._rest = memoryview(b"")
        self._left = 0  # of an entry's data

    def peek(self, size: int) -> bytes:
        """Return the first bytes of what is to come, and leave them there."""
        head = b""
        for block in iter(self._more, None):
            head += block
            self._rest = memoryview(b"")
            if len(head) >= size:
                break
        self._rest = memoryview(head)
        return head[:size]

    def at_end(self) -> bool:
        return not any(iter(self._more, None))

    def _more(self) -> memoryview | None:
        """Return what is left of a block, or the next one; None at the end."""
        if not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return None
            self._rest = memoryview(block)
        return self._rest

    def pieces(self, size: int) -> Iterator[memoryview]:
        while size:
            rest = self._more()
            if rest is None:
                raise CorruptBlob(f"the tar is cut short: {size} bytes of an entry are missing")
            piece, self._rest = rest[:size], rest[size:]
            size -= len(piece)
            self.position += len(piece)
            yield piece

    def data(self, size: int) -> Iterator[memoryview]:
        self._left = size
        return self._data()

    def _data(self) -> Iterator[memoryview]:
        for piece in self.pieces(self._left):
            self._left -= len(piece)
            yield piece

    def take(self, size: int) -> bytes:
        return b"".join(self.pieces(size))

    def skip(self, size: int) -> None:
        """Go by what is left of an entry's data, and `size` bytes more."""
        size, self._left = self._left + size, 0
        if self._skip and size > len(self._rest):
            self._skip(size - len(self._rest))
            self.position += size
            self._rest = memoryview(b"")
            return
        for _ in self.pieces(size):
            pass

    def drain(self) -> None:
        while not self.at_end():
            self._rest = memoryview(b"")
