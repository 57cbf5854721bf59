"""The headers of a tar stream, read without I/O.

`read_header` is a generator that yields how many bytes it needs, and is sent them. So a source that
is checked and a layer that is read share one reader. It accepts only what all readers agree on.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import suppress
from enum import Enum
from typing import Final, NamedTuple
from zlib import adler32

from brolga.errors import CorruptBlob, excerpt

BLOCK_SIZE: Final = 512  # bytes
PLAIN_SIZE: Final = 3 * BLOCK_SIZE  # the headers of a plain entry
_MAX_EXTENDED: Final = 1 << 20  # bytes of one extended header; Go has the same limit
_ZEROS: Final = bytes(BLOCK_SIZE)
_MAX_DIGITS: Final = 19  # of 2**63
_MAX_NUMBER: Final = 2**63 - 1
_POSITIVE: Final = 0x80  # the first byte of a binary number
_NEGATIVE: Final = 0xFF

# Fields of a header (POSIX pax, ustar Interchange Format; GNU tar manual, Basic Tar Format).
_NAME: Final = slice(0, 100)
_MODE: Final = slice(100, 108)
_UID: Final = slice(108, 116)
_GID: Final = slice(116, 124)
_SIZE: Final = slice(124, 136)
_MTIME: Final = slice(136, 148)
_SUM: Final = slice(148, 156)
_TYPE: Final = slice(156, 157)
_LINK: Final = slice(157, 257)
_MAGIC: Final = slice(257, 262)
_POSIX_MAGIC: Final = slice(257, 263)
_UNAME: Final = slice(265, 297)
_GNAME: Final = slice(297, 329)
_DEVMAJOR: Final = slice(329, 337)
_DEVMINOR: Final = slice(337, 345)
_PREFIX: Final = slice(345, 500)
_USTAR: Final = b"ustar"  # POSIX adds a zero, GNU a space
_MAX_DEVICE: Final = 8**7
# The usual form of numbers; any other header is checked field by field, which takes longer.
_USUAL: Final = re.compile(
    rb".{100}(?:[0-7]{7}[ \0]|[0-7]{6} \0){3}(?:[0-7]{11}[ \0]){2}[0-7]{6}\0 .{101}ustar.{67}"
    rb"(?:[0-7]{7}[ \0]|[0-7]{6} \0|\0{8}){2}.{167}",
    re.DOTALL,
)
_USUAL_SUM: Final = slice(148, 154)
_SPACES: Final = 8 * ord(" ") - 1
_USUAL_SIZE: Final = slice(124, 135)
# The usual pax records. If a value has a newline in it, its line has another length than it says.
_PLAIN_RECORDS: Final = re.compile(
    rb"(?:[0-9]{2,3} (?:[acm]time=[0-9.]+|(?:link)?path=[^\n\0]+)\n)+"
)
_OCTAL: Final = re.compile(rb" *([0-7]*) *(?:\0.*)?", re.DOTALL)

# Types (POSIX ustar and pax, GNU, Solaris), as `tarfile` has them, which is slow to import.
FILE: Final = b"0"
HARD_LINK: Final = b"1"
SYMLINK: Final = b"2"
DIRECTORY: Final = b"5"
_OLD_FILE: Final = b"\0"  # of Unix V7
_CONTIGUOUS: Final = b"7"
_SPARSE: Final = b"S"
DEVICES: Final = frozenset({b"3", b"4"})  # character and block devices
# Links, devices, directories, FIFOs: no data follows them, whatever their size.
_WITHOUT_DATA: Final = DEVICES | {HARD_LINK, SYMLINK, DIRECTORY, b"6"}
KNOWN_KINDS: Final = _WITHOUT_DATA | {FILE}
_PAX: Final = frozenset({b"x", b"X"})
_GLOBAL: Final = b"g"
_LONG: Final = {b"L": b"path", b"K": b"linkpath"}  # GNU
_EXTENDED: Final = _PAX | _LONG.keys() | {_GLOBAL}

# A sparse file (GNU tar manual, Sparse Formats).
SPARSE_NAME: Final = b"GNU.sparse.name"
_SPARSE_MAP: Final = b"GNU.sparse.map"
SPARSE_KEYS: Final = b"GNU.sparse."
_SPARSE_PARTS: Final = frozenset({b"GNU.sparse.offset", b"GNU.sparse.numbytes"})
_SPARSE_VERSIONS: Final = frozenset({(b"0", b"0"), (b"0", b"1"), (b"1", b"0")})
_SPARSE_ENTRY: Final = 24  # bytes in a GNU header: offset and size
# Keys that decide which entries there are. A global header must not have them: GNU tar and tarfile
# use it, Go and runtimes ignore it.
_STRUCTURE: Final = frozenset({b"path", b"linkpath", b"size"})


class End(Enum):
    """How a tar ended: with its two blocks of zeros, or without."""

    MARKED = "marked"
    MISSING = "missing"


class Metadata(NamedTuple):
    """Owner, mode, time and device numbers of an entry."""

    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    uname: bytes = b""
    gname: bytes = b""
    devmajor: int = 0
    devminor: int = 0


class Header(NamedTuple):
    """The headers of one entry.

    `kind` is FILE or DIRECTORY for older types of them too. `size` counts the bytes that follow,
    without padding. `records` are those of pax, undecoded; GNU's long names and sparse maps are
    among them, in pax's form. `block` is the last header block.
    """

    kind: bytes
    name: bytes
    link: bytes
    size: int
    records: dict[bytes, bytes]
    block: bytes

    @property
    def size_in_blocks(self) -> int:
        """The number of bytes up to the next header."""
        return self.size + -self.size % BLOCK_SIZE

    @property
    def metadata(self) -> Metadata:
        """Owner, mode, time and device numbers. Raises CorruptBlob if one is out of range."""
        block = self.block
        mode, uid, gid, mtime = (
            parse_number(block[place]) for place in (_MODE, _UID, _GID, _MTIME)
        )
        if block[_MAGIC] != _USTAR:  # Unix V7 has no more
            return Metadata(mode, uid, gid, mtime)
        devmajor, devminor = parse_number(block[_DEVMAJOR]), parse_number(block[_DEVMINOR])
        if not (0 <= devmajor < _MAX_DEVICE and 0 <= devminor < _MAX_DEVICE):
            raise CorruptBlob("not a valid tar header: a number is out of range")
        uname, gname = _until_zero(block[_UNAME]), _until_zero(block[_GNAME])
        return Metadata(mode, uid, gid, mtime, uname, gname, devmajor, devminor)


def begins_tar(head: bytes) -> bool:
    """Return whether the first 512 bytes of a stream look like a tar, even a damaged one."""
    return head[_MAGIC] == _USTAR or is_header(head)


def is_header(block: bytes) -> bool:
    """Return whether 512 bytes are a header: the checksum, with its field as spaces, is right."""
    if len(block) != BLOCK_SIZE:
        return False
    with suppress(CorruptBlob):
        checksum = parse_number(block[_SUM])
        summed = block[: _SUM.start] + b" " * 8 + block[_SUM.stop :]
        # Some old programs summed signed bytes.
        return checksum == sum(summed) or checksum == sum(memoryview(summed).cast("b"))
    return False


def read_header() -> Generator[int, bytes, Header | End]:
    """Yield how many bytes are needed, and be sent them; return the next header, or the end.

    Send b"" if there are no more bytes. Raises CorruptBlob for bytes that are not a valid tar, or
    on which readers differ.
    """
    extended: dict[bytes, dict[bytes, bytes]] = {}  # by the type
    total = 0
    while True:
        block = yield BLOCK_SIZE
        if block in {b"", _ZEROS}:
            if extended:
                raise CorruptBlob("the tar is cut short: it ends after an extended header")
            second = (yield BLOCK_SIZE) if block else b""
            if second not in {b"", _ZEROS}:
                raise CorruptBlob(
                    "the tar goes on after one block of zeros: readers differ on its end"
                )
            return End.MARKED if second else End.MISSING
        kind, size = _check_header(block)
        if kind not in _EXTENDED:
            records = _join_records(extended) if extended else {}
            if kind == _SPARSE:
                records |= yield from _read_sparse_map(block)
            return _make_header(block, size, records)
        if size > _MAX_EXTENDED:
            raise CorruptBlob(
                f"an extended tar header of {size} bytes, but at most {_MAX_EXTENDED} are read"
            )
        total += BLOCK_SIZE + size
        if total > 2 * _MAX_EXTENDED:
            raise CorruptBlob(f"more than {2 * _MAX_EXTENDED} bytes of extended headers in a row")
        data = (yield size + -size % BLOCK_SIZE)[:size] if size else b""
        if len(data) < size:
            raise CorruptBlob("the tar is cut short: it ends in an extended header")
        _add_extended(extended, kind, data)


def measure_plain_entry(head: bytes) -> int | None:
    """Return the size of a plain entry, headers and padding included, or None for any other.

    `head` is its first `PLAIN_SIZE` bytes. A plain entry is one that `read_header` accepts and that
    has the usual form: one header, perhaps after a pax header of times and paths. This takes half
    the time of `read_header`.
    """
    start = 0
    if head[_TYPE] == b"x":
        size = _parse_usual(head[:BLOCK_SIZE])
        if not size or size > BLOCK_SIZE or not _are_plain(head[BLOCK_SIZE : BLOCK_SIZE + size]):
            return None
        start = 2 * BLOCK_SIZE
    block = head[start : start + BLOCK_SIZE]
    if (kind := block[_TYPE]) not in KNOWN_KINDS or (size := _parse_usual(block)) is None:
        return None
    end = start + BLOCK_SIZE
    return end if kind in _WITHOUT_DATA else end + size + -size % BLOCK_SIZE


def _are_plain(records: bytes) -> bool:
    """Return whether pax records are valid and have the keys of a plain entry only."""
    if not _PLAIN_RECORDS.fullmatch(records):
        return False
    lines = records[:-1].split(b"\n")
    return all(int(line[: line.index(b" ")]) == len(line) + 1 for line in lines)


def _parse_usual(block: bytes) -> int | None:
    """Return the size in a header of ASCII whose numbers have the usual form; None for any other.

    The lower half of Adler-32 is 1 plus the sum of the bytes, modulo 65521 (RFC 1950, section 9);
    512 bytes of ASCII stay below. A checksum is summed with its own field as eight spaces.
    """
    if not block.isascii() or not _USUAL.match(block):
        return None
    summed = (adler32(block) & 0xFFFF) - sum(block[_SUM]) + _SPACES
    return int(block[_USUAL_SIZE], 8) if summed == int(block[_USUAL_SUM], 8) else None


def _check_header(block: bytes) -> tuple[bytes, int]:
    """Return type and size of a header block. Raises CorruptBlob if it is not valid."""
    if (size := _parse_usual(block)) is not None:
        return block[_TYPE], size
    if not is_header(block):
        raise CorruptBlob("not a valid tar header")
    size = parse_number(block[_SIZE])
    devices = (_DEVMAJOR, _DEVMINOR) if block[_MAGIC] == _USTAR else ()
    for place in (_MODE, _UID, _GID, _MTIME, *devices):
        parse_number(block[place])
    if size < 0:
        raise CorruptBlob("not a valid tar header: a number is out of range")
    return block[_TYPE], size


def _add_extended(extended: dict[bytes, dict[bytes, bytes]], kind: bytes, data: bytes) -> None:
    """Add the records of an extended header. Raises CorruptBlob if readers differ on it."""
    if kind == _GLOBAL:  # runtimes ignore it
        for key in _pax_records(data):
            if key in _STRUCTURE or key.startswith(SPARSE_KEYS):
                raise CorruptBlob(
                    f"a global pax header that says {printable_name(key)}: readers differ"
                )
        return
    kind = b"x" if kind in _PAX else kind
    if kind in extended:
        raise CorruptBlob(
            f"two extended headers of the type {printable_name(kind)} before one entry"
        )
    extended[kind] = {_LONG[kind]: _until_zero(data)} if kind in _LONG else _pax_records(data)


def _join_records(extended: dict[bytes, dict[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return all records. Raises CorruptBlob if two headers differ on one key."""
    records: dict[bytes, bytes] = {}
    for header in extended.values():
        for key, value in header.items():
            if records.setdefault(key, value) != value:
                raise CorruptBlob(
                    f"two extended headers differ on {printable_name(key)}: so do readers"
                )
    return records


def _make_header(block: bytes, size: int, records: dict[bytes, bytes]) -> Header:
    """Return the header of an entry, from its last block, its size and its records."""
    kind, written = block[_TYPE], _until_zero(block[_NAME])
    # GNU's format has other fields in the place of ustar's prefix.
    if block[_POSIX_MAGIC] == b"ustar\0" and (prefix := _until_zero(block[_PREFIX])):
        written = prefix + b"/" + written
    if kind != _SPARSE and records and any(key.startswith(SPARSE_KEYS) for key in records):
        _check_sparse(kind, records)
    name = records.get(SPARSE_NAME) or records.get(b"path") or written
    link = records.get(b"linkpath") or _until_zero(block[_LINK])
    if b"\0" in name + link:
        raise CorruptBlob(f"a name with a zero byte in it: {printable_name(name)}")
    if kind == _OLD_FILE:
        # V7 has no type for directories. Some readers look at the block's name, some at the final.
        if _until_zero(block[_NAME]).endswith(b"/") != name.endswith(b"/"):
            raise CorruptBlob(f"readers differ on whether {printable_name(name)} is a directory")
        kind = DIRECTORY if name.endswith(b"/") else FILE
    elif kind in {_CONTIGUOUS, _SPARSE}:
        kind = FILE
    if kind in _WITHOUT_DATA:
        size = 0
    elif digits := records.get(b"size"):
        if not digits.isdigit() or len(digits) > _MAX_DIGITS or int(digits) > _MAX_NUMBER:
            raise CorruptBlob(
                f"a pax header with a size that is not valid: {printable_name(digits)}"
            )
        size = int(digits)
    return Header(kind, name, link, size, records, block)


def _check_sparse(kind: bytes, records: dict[bytes, bytes]) -> None:
    """Raise CorruptBlob for records of a sparse file that only some readers accept."""
    version = records.get(b"GNU.sparse.major", b""), records.get(b"GNU.sparse.minor", b"")
    has_map = version in _SPARSE_VERSIONS or (version == (b"", b"") and _SPARSE_MAP in records)
    if not has_map or kind not in {FILE, _OLD_FILE}:
        raise CorruptBlob("records of a sparse file without its map: readers differ on them")


def _pax_records(data: bytes) -> dict[bytes, bytes]:
    """Parse the records of an extended header: `LENGTH KEY=VALUE`, newline (POSIX pax)."""
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
        elif key in _STRUCTURE or key.startswith(SPARSE_KEYS):
            # POSIX and Go then use the header's value; GNU tar and tarfile an empty one.
            raise CorruptBlob(f"a pax header with an empty {printable_name(key)}: readers differ")
        else:
            records.pop(key, None)
        start = end
    if sparse:  # version 0.0 repeats records; 0.1 joins them
        records[_SPARSE_MAP] = b",".join(sparse)
    return records


def _read_sparse_map(block: bytes) -> Generator[int, bytes, dict[bytes, bytes]]:
    """Read the map of a GNU sparse file; return it in pax's form, version 0.1."""
    numbers = _parse_sparse_map(block[386:482])
    more, size = block[482], parse_number(block[483:495])
    while more:
        block = yield BLOCK_SIZE
        if not block:
            raise CorruptBlob("the tar is cut short: it ends in the map of a sparse file")
        numbers += _parse_sparse_map(block[:504])
        more = block[504]
        if len(numbers) > _MAX_EXTENDED // 8:
            raise CorruptBlob("a sparse file of too many parts")
    return {
        b"GNU.sparse.size": b"%d" % size,
        b"GNU.sparse.numblocks": b"%d" % (len(numbers) // 2),
        _SPARSE_MAP: b",".join(b"%d" % part for part in numbers),
    }


def _parse_sparse_map(data: bytes) -> list[int]:
    numbers: list[int] = []
    for start in range(0, len(data), _SPARSE_ENTRY):
        entry = data[start : start + _SPARSE_ENTRY]
        if entry[0]:
            numbers += parse_number(entry[:12]), parse_number(entry[12:])
    return numbers


def parse_number(data: bytes) -> int:
    """Parse a field of a header: octal digits, or a binary number marked by its first byte.

    Python's int accepts signs, underscores and prefixes, which other readers refuse (GNU tar
    manual, Basic Tar Format).
    """
    if data[0] in {_POSITIVE, _NEGATIVE}:
        number = int.from_bytes(data[1:], "big")
        number -= 256 ** (len(data) - 1) if data[0] == _NEGATIVE else 0
        if abs(number) > _MAX_NUMBER:
            raise CorruptBlob("not a valid tar header: a number is out of range")
        return number
    match = _OCTAL.fullmatch(data)
    if match is None or (not match[1] and data.strip(b"\0 ")):
        raise CorruptBlob(
            f"not a valid tar header: {printable_name(_until_zero(data) or data)} is not a number"
        )
    return int(match[1] or b"0", 8)


def check_whiteout(name: bytes) -> None:
    """Raise CorruptBlob for the name of a whiteout of nothing, which "is invalid" (layer.md)."""
    if name.rpartition(b"/")[2] == b".wh.":
        raise CorruptBlob(f"the whiteout {printable_name(name)} names nothing")


def printable_name(name: bytes) -> str:
    """Return a name for an error message."""
    return excerpt(name.decode("utf-8", "surrogateescape"))


def _until_zero(data: bytes) -> bytes:
    return data.partition(b"\0")[0]
