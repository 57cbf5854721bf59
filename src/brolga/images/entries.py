"""The entries of a layer's tar stream: read one by one, and written again.

Knows the tar formats that layers come in (POSIX ustar and pax, GNU) and how pax writes them. Must
not know what an entry means for the layers below: that is `flatten`.

Strategy: one pass, in constant memory: an entry's data is an iterator over the stream. The standard
library reads and writes the header blocks; what is around them is done here, since `tarfile` ends
silently where an archive is broken, and takes as much memory as an extended header claims. Names
and pax records stay bytes, as nothing says that they are text. Sparse files stay sparse: GNU's are
written as pax writes them (GNU tar manual, Sparse Formats), with their data as it is.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from brolga.errors import CorruptBlob, excerpt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from brolga.blob import Block

__all__ = ["ARCHIVE_END", "Entry", "data_blocks", "entries", "header", "shown"]

_BLOCK: Final = 512  # bytes
ARCHIVE_END: Final = bytes(2 * _BLOCK)
_MAX_EXTENDED: Final = 1 << 20  # bytes of one extended header; Go's readers take no more either
_MAX_DEVICE: Final = 8**7  # what the field of a device number holds

_REGULAR: Final = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE})
_TYPES: Final = frozenset(
    {
        tarfile.REGTYPE,
        tarfile.LNKTYPE,
        tarfile.SYMTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.DIRTYPE,
        tarfile.FIFOTYPE,
    }
)
_PAX: Final = frozenset({tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE})
_GNU_LONG: Final = {tarfile.GNUTYPE_LONGNAME: b"path", tarfile.GNUTYPE_LONGLINK: b"linkpath"}
_SPARSE_NAME: Final = b"GNU.sparse.name"
_SPARSE_ENTRY: Final = 24  # bytes in a GNU header: offset and size

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


def shown(name: bytes) -> str:
    """Return a name as an error's line shows it."""
    return excerpt(name.decode("utf-8", "surrogateescape"))


def entries(blocks: Iterable[Block], *, needs_end: bool = False) -> Iterator[Entry]:
    """Yield the entries of a tar stream; then read what follows its end, to the last byte.

    Where `blocks` has a method `skip`, that is told how many bytes nobody wants. With `needs_end`
    the two blocks of zeros at the end must be there, which layers do without at times.

    Raises CorruptBlob for what is no tar, or what one reader takes as its end and another does not.
    """
    stream = _Stream(blocks)
    while (entry := _next_entry(stream)) is not None:
        yield entry
        stream.skip(-entry.size % _BLOCK)
    if needs_end and not stream.ended:
        raise CorruptBlob("the tar is cut short: its end, two blocks of zeros, is missing")
    stream.drain()


def header(entry: Entry, name: bytes, link: bytes) -> bytes:
    """Return the header blocks of an entry under a name, in pax format (POSIX pax, ustar)."""
    info = tarfile.TarInfo()
    info.type, info.mode = entry.kind, entry.info.mode
    info.devmajor, info.devminor = entry.info.devmajor, entry.info.devminor
    records = {key: value for key, value in entry.records.items() if key not in _REMADE}
    if _SPARSE_NAME in records:
        records[_SPARSE_NAME] = name
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
    for attribute, key, end, number in numbers:
        fits = 0 <= number < end
        if not fits:
            records.setdefault(key, b"%d" % number)
        setattr(info, attribute, number if fits else 0)
    return _extended(records) + info.tobuf(tarfile.USTAR_FORMAT, "ascii", "replace")


def data_blocks(entry: Entry) -> Iterator[bytes]:
    """Yield an entry's data, filled up to whole blocks."""
    yield from map(bytes, entry.data)
    if padding := -entry.size % _BLOCK:
        yield bytes(padding)


def _next_entry(stream: _Stream) -> Entry | None:
    """Read the headers of an entry; None at the end of the archive."""
    records: dict[bytes, bytes] = {}
    first = stream.position
    while (block := _next_block(stream)) is not None:
        info = _parsed(block)
        if stream.position - first > 2 * _MAX_EXTENDED:
            raise CorruptBlob(f"more than {2 * _MAX_EXTENDED} bytes of extended headers in a row")
        if info.type in _PAX:
            records |= _pax_records(_contents(stream, info))
        elif info.type in _GNU_LONG:
            records[_GNU_LONG[info.type]] = _text(_contents(stream, info))
        elif info.type == tarfile.XGLTYPE:
            _contents(stream, info)  # runtimes pass over it
        else:
            return _entry(stream, block, info, records)
    if records:
        raise CorruptBlob("the tar is cut short: it ends after an extended header")
    return None


def _next_block(stream: _Stream) -> bytes | None:
    """Return the next header block; None at the end, which is two blocks of zeros, or nothing."""
    if stream.at_end():
        return None
    block = stream.take(_BLOCK)
    if block != bytes(_BLOCK):
        return block
    if not stream.at_end():
        if stream.take(_BLOCK) != bytes(_BLOCK):
            raise CorruptBlob("the tar goes on after one block of zeros: readers differ on its end")
        stream.ended = True
    return None


def _parsed(block: bytes) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise CorruptBlob(f"not a valid tar header: {error}") from error
    devices = info.devmajor, info.devminor
    if info.size < 0 or not all(0 <= number < _MAX_DEVICE for number in devices):
        raise CorruptBlob("not a valid tar header: a number is out of range")
    return info


def _contents(stream: _Stream, info: tarfile.TarInfo) -> bytes:
    """Return the data of an extended header."""
    if info.size > _MAX_EXTENDED:
        raise CorruptBlob(
            f"an extended tar header of {info.size} bytes, where at most {_MAX_EXTENDED} are read"
        )
    data = stream.take(info.size)
    stream.take(-info.size % _BLOCK)
    return data


def _entry(
    stream: _Stream, block: bytes, info: tarfile.TarInfo, records: dict[bytes, bytes]
) -> Entry:
    written = _text(block[:100])
    # GNU's format has other things in the place of ustar's prefix.
    if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
        written = prefix + b"/" + written
    name = records.get(_SPARSE_NAME) or records.get(b"path") or written
    link = records.get(b"linkpath") or _text(block[157:257])
    if b"\0" in name + link:
        raise CorruptBlob(f"a name with a zero byte in it: {shown(name)}")
    kind = info.type
    if kind == tarfile.GNUTYPE_SPARSE:
        records |= _sparse_records(stream, block)
        kind = tarfile.REGTYPE
    elif kind in _REGULAR:
        # Unix V7 had no type for directories; tarfile and Go read this type alone so.
        old = kind == tarfile.AREGTYPE and name.endswith(b"/")
        kind = tarfile.DIRTYPE if old else tarfile.REGTYPE
    if kind not in _TYPES:
        raise CorruptBlob(f"the entry {shown(name)} is of the type {shown(kind)}, not known here")
    size = _size(info, records) if kind == tarfile.REGTYPE else 0
    return Entry(kind, name, link, size, info, records, stream.data(size), stream.position)


def _size(info: tarfile.TarInfo, records: dict[bytes, bytes]) -> int:
    digits = records.get(b"size")
    return _decimal(digits) if digits else info.size


def _decimal(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > 19:  # noqa: PLR2004 - the digits of 2**63
        raise CorruptBlob(f"a number of a pax header is none: {shown(digits)}")
    return int(digits)


def _pax_records(data: bytes) -> dict[bytes, bytes]:
    """Read the records of an extended header: `LENGTH KEY=VALUE` and a line's end (POSIX pax)."""
    records: dict[bytes, bytes] = {}
    sparse: list[bytes] = []
    start = 0
    while start < len(data):
        digits = data[start : start + 8].partition(b" ")[0]
        end = start + (_decimal(digits) if digits else 0)
        key, equals, value = data[start + len(digits) + 1 : end - 1].partition(b"=")
        if not key or not equals or data[end - 1 : end] != b"\n":
            raise CorruptBlob("a pax header with a broken record")
        if key in {b"GNU.sparse.offset", b"GNU.sparse.numbytes"}:
            sparse.append(value)
        elif value or b".xattr." in key:
            records[key] = value
        else:
            records.pop(key, None)  # "the header block's value is used"; an xattr may be empty
        start = end
    if sparse:  # version 0.0 repeats its records; 0.1 has the same in one
        records[b"GNU.sparse.map"] = b",".join(sparse)
    return records


def _sparse_records(stream: _Stream, block: bytes) -> dict[bytes, bytes]:
    """Read the map of a GNU sparse file; return it as pax has it, version 0.1."""
    numbers = _sparse_map(block[386:482])
    more, size = block[482], _number(block[483:495])
    while more:
        block = stream.take(_BLOCK)
        numbers += _sparse_map(block[:504])
        more = block[504]
        if len(numbers) > _MAX_EXTENDED // 8:
            raise CorruptBlob("a sparse file of too many parts")
    return {
        b"GNU.sparse.size": b"%d" % size,
        b"GNU.sparse.numblocks": b"%d" % (len(numbers) // 2),
        b"GNU.sparse.map": b",".join(b"%d" % number for number in numbers),
    }


def _sparse_map(data: bytes) -> list[int]:
    numbers: list[int] = []
    for start in range(0, len(data), _SPARSE_ENTRY):
        entry = data[start : start + _SPARSE_ENTRY]
        if entry[0]:
            numbers += _number(entry[:12]), _number(entry[12:])
    return numbers


def _number(data: bytes) -> int:
    """Read a field of a GNU header: octal digits, or a binary number marked by its first bit."""
    if data[0] == 0x80:  # noqa: PLR2004 - base 256, not negative
        return int.from_bytes(data[1:], "big")
    try:
        return int(_text(data).strip(b" ") or b"0", 8)
    except ValueError as error:
        raise CorruptBlob(f"a number of a tar header is none: {shown(data)}") from error


def _text(data: bytes) -> bytes:
    return data.partition(b"\0")[0]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _extended(records: dict[bytes, bytes]) -> bytes:
    """Return an extended header with its records, in their order: GNU tar depends on it."""
    if not records:
        return b""
    data = b"".join(_record(key, value) for key, value in records.items())
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, len(data)
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % _BLOCK)


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
        self.ended = False  # by the blocks that say so
        self._blocks = iter(blocks)
        self._skip: Callable[[int], None] | None = getattr(blocks, "skip", None)
        self._rest = memoryview(b"")
        self._left = 0  # of an entry's data

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
