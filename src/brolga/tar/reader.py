"""The headers of a tar stream, read one by one out of bytes that somebody else brings.

`read_header` is a generator: it yields how many bytes it wants, and is sent them. So one reader
serves a source that is watched on its way out and a layer that is read. Readers agree on what is
accepted here; a header on which they differ is refused.
"""

from __future__ import annotations

import re
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple
from zlib import adler32

from brolga.errors import CorruptBlob, excerpt

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = [
    "BLOCK_SIZE",
    "DIRECTORY",
    "FILE",
    "KNOWN_KINDS",
    "MAX_EXTENDED",
    "SPARSE_NAME",
    "End",
    "Header",
    "is_bare_whiteout",
    "is_header",
    "number",
    "printable_name",
    "read_header",
]

BLOCK_SIZE: Final = 512  # bytes
MAX_EXTENDED: Final = 1 << 20  # bytes of one extended header; Go's readers take no more either
_ZEROS: Final = bytes(BLOCK_SIZE)
_MAX_DIGITS: Final = 19  # of 2**63
_MAX_NUMBER: Final = 2**63 - 1
_POSITIVE: Final = 0x80  # the first byte of a number that is not in digits
_NEGATIVE: Final = 0xFF

# Places in a header (POSIX pax, ustar Interchange Format; GNU tar manual, Basic Tar Format).
_NAME: Final = slice(0, 100)
_SIZE: Final = slice(124, 136)
_USUAL_SUM: Final = slice(148, 154)
_USUAL_SIZE: Final = slice(124, 135)
_SUM: Final = slice(148, 156)
_TYPE: Final = slice(156, 157)
_LINK: Final = slice(157, 257)
_MAGIC: Final = slice(257, 262)
_POSIX_MAGIC: Final = slice(257, 263)
_PREFIX: Final = slice(345, 500)
_USTAR: Final = b"ustar"  # POSIX has a zero behind it, GNU a space
_OTHERS: Final = (slice(100, 108), slice(108, 116), slice(116, 124), slice(136, 148))
_DEVICES: Final = (slice(329, 337), slice(337, 345))
# How tar writes its numbers; any other header is looked at field by field, which takes longer.
_USUAL: Final = re.compile(
    rb".{100}(?:[0-7]{7}[ \0]|[0-7]{6} \0){3}(?:[0-7]{11}[ \0]){2}[0-7]{6}\0 .{101}ustar.{67}"
    rb"(?:[0-7]{7}[ \0]|[0-7]{6} \0|\0{8}){2}",
    re.DOTALL,
)
_OCTAL: Final = re.compile(rb" *([0-7]*) *(?:\0.*)?", re.DOTALL)

# Types (POSIX ustar and pax, GNU, Solaris), as `tarfile` has them, which is slow to import.
FILE: Final = b"0"
DIRECTORY: Final = b"5"
_OLD_FILE: Final = b"\0"  # of Unix V7
_CONTIGUOUS: Final = b"7"
_SPARSE: Final = b"S"
# Links, devices, directories, FIFOs: whatever their size says, no data follows them: tarfile and Go
# agree.
_WITHOUT_DATA: Final = frozenset({b"1", b"2", b"3", b"4", b"5", b"6"})
KNOWN_KINDS: Final = _WITHOUT_DATA | {FILE}
_PAX: Final = frozenset({b"x", b"X"})
_GLOBAL: Final = b"g"
_LONG: Final = {b"L": b"path", b"K": b"linkpath"}  # GNU
_EXTENDED: Final = _PAX | _LONG.keys() | {_GLOBAL}

# A sparse file (GNU tar manual, Sparse Formats).
SPARSE_NAME: Final = b"GNU.sparse.name"
_SPARSE_MAP: Final = b"GNU.sparse.map"
_SPARSE_KEYS: Final = b"GNU.sparse."
_SPARSE_PARTS: Final = frozenset({b"GNU.sparse.offset", b"GNU.sparse.numbytes"})
_SPARSE_VERSIONS: Final = frozenset({(b"0", b"0"), (b"0", b"1"), (b"1", b"0")})
_SPARSE_ENTRY: Final = 24  # bytes in a GNU header: offset and size
# What decides which entries there are. A global header cannot say it: GNU tar and tarfile take it,
# Go and runtimes pass over it.
_STRUCTURE: Final = frozenset({b"path", b"linkpath", b"size"})


class End(Enum):
    """How a tar ended: by its two blocks of zeros, or with its bytes."""

    MARKED = "marked"
    MISSING = "missing"


class Header(NamedTuple):
    """What the headers of one entry say.

    `kind` is FILE and DIRECTORY for older types of those too. `size` counts the bytes that follow,
    without those that fill the last block. `records` are those of pax, undecoded; GNU's long names
    and sparse maps are among them, as pax has them. `block` is the last header block.
    """

    kind: bytes
    name: bytes
    link: bytes
    size: int
    records: dict[bytes, bytes]
    block: bytes

    @property
    def size_in_blocks(self) -> int:
        """The bytes up to the next header."""
        return self.size + -self.size % BLOCK_SIZE


def is_header(block: bytes) -> bool:
    """Return whether 512 bytes are a header: their sum is right (POSIX pax, ustar).

    It is that of all bytes, its own field as spaces.
    """
    if len(block) != BLOCK_SIZE:
        return False
    with suppress(CorruptBlob):
        said = number(block[_SUM])
        summed = block[: _SUM.start] + b" " * 8 + block[_SUM.stop :]
        # Some old programs summed bytes with a sign up.
        return said == _sum(summed) or said == sum(memoryview(summed).cast("b"))
    return False


def _sum(block: bytes) -> int:
    """Return the sum of 512 bytes: in C, as it is needed for each header of a stream.

    The lower half of Adler-32 is 1 and the sum of the bytes, modulo 65521 (RFC 1950, section 9),
    which 256 bytes do not reach.
    """
    return (adler32(block[:256]) & 0xFFFF) + (adler32(block[256:]) & 0xFFFF) - 2


def read_header() -> Generator[int, bytes, Header | End]:
    """Yield how many bytes are wanted and be sent them; return the next entry, or the end.

    b"" is sent if there are no more bytes. Raises CorruptBlob for what is not a valid tar, or what
    one reader takes in one way and another in another.
    """
    extended: dict[bytes, dict[bytes, bytes]] = {}  # by the type
    total = 0
    while True:
        block = yield BLOCK_SIZE
        if block in {b"", _ZEROS}:
            if extended:
                raise CorruptBlob("the tar is cut short: it ends after an extended header")
            return (yield from _end()) if block else End.MISSING
        kind, size = _checked(block)
        if kind not in _EXTENDED:
            records = _joined(extended) if extended else {}
            if kind == _SPARSE:
                records |= yield from _sparse_records(block)
            return _entry(block, size, records)
        if size > MAX_EXTENDED:
            raise CorruptBlob(
                f"an extended tar header of {size} bytes, where at most {MAX_EXTENDED} are read"
            )
        total += BLOCK_SIZE + size
        if total > 2 * MAX_EXTENDED:
            raise CorruptBlob(f"more than {2 * MAX_EXTENDED} bytes of extended headers in a row")
        data = (yield size + -size % BLOCK_SIZE)[:size] if size else b""
        if len(data) < size:
            raise CorruptBlob("the tar is cut short: it ends in an extended header")
        _add_extended(extended, kind, data)


def _end() -> Generator[int, bytes, End]:
    second = yield BLOCK_SIZE
    if second not in {b"", _ZEROS}:
        raise CorruptBlob("the tar goes on after one block of zeros: readers differ on its end")
    return End.MARKED if second else End.MISSING


def _checked(block: bytes) -> tuple[bytes, int]:
    """Return the type and the size of a header block. Raises CorruptBlob if it is not valid."""
    if _USUAL.match(block):
        summed = _sum(block) - sum(block[_SUM]) + 8 * ord(" ")
        if int(block[_USUAL_SUM], 8) == summed:
            return block[_TYPE], int(block[_USUAL_SIZE], 8)
    if not is_header(block):
        raise CorruptBlob("not a valid tar header")
    size = number(block[_SIZE])
    devices = _DEVICES if block[_MAGIC] == _USTAR else ()
    for place in (*_OTHERS, *devices):
        number(block[place])
    if size < 0:
        raise CorruptBlob("not a valid tar header: a number is out of range")
    return block[_TYPE], size


def _add_extended(extended: dict[bytes, dict[bytes, bytes]], kind: bytes, data: bytes) -> None:
    """Add what an extended header says. Raises CorruptBlob if readers differ on it."""
    if kind == _GLOBAL:  # runtimes pass over it
        for key in _pax_records(data):
            if key in _STRUCTURE or key.startswith(_SPARSE_KEYS):
                raise CorruptBlob(
                    f"a global pax header that says {printable_name(key)}: readers differ"
                )
        return
    kind = b"x" if kind in _PAX else kind
    if kind in extended:
        raise CorruptBlob(
            f"two extended headers of the type {printable_name(kind)} before one entry"
        )
    extended[kind] = {_LONG[kind]: _text(data)} if kind in _LONG else _pax_records(data)


def _joined(extended: dict[bytes, dict[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return all records. Raises CorruptBlob if two headers say two things of one name."""
    records: dict[bytes, bytes] = {}
    for more in extended.values():
        for key, value in more.items():
            if records.setdefault(key, value) != value:
                raise CorruptBlob(
                    f"two extended headers differ on {printable_name(key)}: so do readers"
                )
    return records


def _entry(block: bytes, size: int, records: dict[bytes, bytes]) -> Header:
    """Return the entry of a header block, which says a size."""
    kind, written = block[_TYPE], _text(block[_NAME])
    # GNU's format has other things in the place of ustar's prefix.
    if block[_POSIX_MAGIC] == b"ustar\0" and (prefix := _text(block[_PREFIX])):
        written = prefix + b"/" + written
    if kind != _SPARSE and records and any(key.startswith(_SPARSE_KEYS) for key in records):
        _check_sparse(kind, records)
    name = records.get(SPARSE_NAME) or records.get(b"path") or written
    link = records.get(b"linkpath") or _text(block[_LINK])
    if b"\0" in name + link:
        raise CorruptBlob(f"a name with a zero byte in it: {printable_name(name)}")
    if kind == _OLD_FILE:
        # It had no type for directories. Some readers look at the header's name, some at the last.
        if _text(block[_NAME]).endswith(b"/") != name.endswith(b"/"):
            raise CorruptBlob(f"readers differ on whether {printable_name(name)} is a directory")
        kind = DIRECTORY if name.endswith(b"/") else FILE
    elif kind in {_CONTIGUOUS, _SPARSE}:
        kind = FILE
    if kind in _WITHOUT_DATA:
        size = 0
    elif said := records.get(b"size"):
        size = _decimal(said)
    return Header(kind, name, link, size, records, block)


def _check_sparse(kind: bytes, records: dict[bytes, bytes]) -> None:
    """Raise CorruptBlob for records of a sparse file that some readers take, and some do not."""
    version = records.get(b"GNU.sparse.major", b""), records.get(b"GNU.sparse.minor", b"")
    is_known = version in _SPARSE_VERSIONS or (version == (b"", b"") and _SPARSE_MAP in records)
    if not is_known or kind not in {FILE, _OLD_FILE}:
        raise CorruptBlob("records of a sparse file without its map: readers differ on them")


def _pax_records(data: bytes) -> dict[bytes, bytes]:
    """Read the records of an extended header: `LENGTH KEY=VALUE` and a line's end (POSIX pax)."""
    records: dict[bytes, bytes] = {}
    sparse: list[bytes] = []
    start = 0
    while start < len(data):
        digits = data[start : start + 8].partition(b" ")[0]
        end = start + (int(digits) if digits.isdigit() else 0)
        key, equals, value = data[start + len(digits) + 1 : end - 1].partition(b"=")
        if end <= start or not key or not equals or data[end - 1 : end] != b"\n":
            raise CorruptBlob("a pax header with a broken record")
        if key in _SPARSE_PARTS:
            sparse.append(value)
        elif value or b".xattr." in key:
            records[key] = value  # an xattr may be empty
        elif key in _STRUCTURE or key.startswith(_SPARSE_KEYS):
            # POSIX and Go take the header's value then; GNU tar and tarfile an empty one.
            raise CorruptBlob(f"a pax header with an empty {printable_name(key)}: readers differ")
        else:
            records.pop(key, None)
        start = end
    if sparse:  # version 0.0 repeats its records; 0.1 has the same in one
        records[_SPARSE_MAP] = b",".join(sparse)
    return records


def _decimal(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > _MAX_DIGITS or int(digits) > _MAX_NUMBER:
        raise CorruptBlob(f"a pax header with a size that is not valid: {printable_name(digits)}")
    return int(digits)


def _sparse_records(block: bytes) -> Generator[int, bytes, dict[bytes, bytes]]:
    """Read the map of a GNU sparse file; return it as pax has it, version 0.1."""
    numbers = _sparse_map(block[386:482])
    more, size = block[482], number(block[483:495])
    while more:
        block = yield BLOCK_SIZE
        if not block:
            raise CorruptBlob("the tar is cut short: it ends in the map of a sparse file")
        numbers += _sparse_map(block[:504])
        more = block[504]
        if len(numbers) > MAX_EXTENDED // 8:
            raise CorruptBlob("a sparse file of too many parts")
    return {
        b"GNU.sparse.size": b"%d" % size,
        b"GNU.sparse.numblocks": b"%d" % (len(numbers) // 2),
        _SPARSE_MAP: b",".join(b"%d" % number for number in numbers),
    }


def _sparse_map(data: bytes) -> list[int]:
    numbers: list[int] = []
    for start in range(0, len(data), _SPARSE_ENTRY):
        entry = data[start : start + _SPARSE_ENTRY]
        if entry[0]:
            numbers += number(entry[:12]), number(entry[12:])
    return numbers


def number(data: bytes) -> int:
    """Read a field of a header: octal digits, or a binary number marked by its first byte.

    Python's int takes signs, underscores and prefixes, which other readers refuse (GNU tar manual,
    Basic Tar Format).
    """
    if data[0] in {_POSITIVE, _NEGATIVE}:
        found = int.from_bytes(data[1:], "big")
        found -= 256 ** (len(data) - 1) if data[0] == _NEGATIVE else 0
        if abs(found) > _MAX_NUMBER:
            raise CorruptBlob("not a valid tar header: a number is out of range")
        return found
    match = _OCTAL.fullmatch(data)
    if match is None or (not match[1] and data.strip(b"\0 ")):
        raise CorruptBlob(
            f"not a valid tar header: {printable_name(_text(data) or data)} is not a number"
        )
    return int(match[1] or b"0", 8)


def is_bare_whiteout(name: bytes) -> bool:
    """Return whether a name is that of a whiteout which names nothing, and so is not valid.

    "A `.wh.` file, without a basename to delete, is invalid" (layer.md, Whiteouts).
    """
    return name.rpartition(b"/")[2] == b".wh."


def printable_name(name: bytes) -> str:
    """Return a name as an error's line shows it."""
    return excerpt(name.decode("utf-8", "surrogateescape"))


def _text(data: bytes) -> bytes:
    return data.partition(b"\0")[0]
