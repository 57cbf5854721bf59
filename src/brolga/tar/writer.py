"""Tar headers in pax format (POSIX pax, ustar Interchange Format).

Names and records stay bytes. Sparse files stay sparse: GNU's are written in pax's form, with their
data unchanged (GNU tar manual, Sparse Formats).
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import TYPE_CHECKING, Final
from zlib import adler32

from brolga.tar.entries import Entry
from brolga.tar.reader import BLOCK_SIZE, DEVICES, FILE, SPARSE_NAME, Metadata

if TYPE_CHECKING:
    from brolga.spec.blob import Block

ARCHIVE_END: Final = bytes(2 * BLOCK_SIZE)

# Records that are always made anew.
_REMADE: Final = frozenset({b"path", b"linkpath", b"size", b"hdrcharset"})
# Name, mode, uid, gid, size, mtime, checksum, type, target of a link, magic, names of the owner and
# the group, device numbers, prefix (POSIX pax, ustar Interchange Format).
_HEADER: Final = Struct("100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x")
_MAGIC: Final = b"ustar\x0000"
_NO_SUM: Final = 8 * b" "
_SUM: Final = slice(148, 156)
_TO_ASCII: Final = bytes(range(128)) + 128 * b"?"
_PAX_NAME: Final = b"././@PaxHeader"


def encode_header(entry: Entry, name: bytes, link: bytes) -> bytes:
    """Return the header blocks of an entry, under this name and with this link target."""
    meta, is_directory = entry.metadata, entry.is_directory
    records = {key: value for key, value in entry.records.items() if key not in _REMADE}
    if SPARSE_NAME in records:
        records[SPARSE_NAME] = name
    texts = [  # and the length of the field; a directory's name gets a slash
        _fit_text(records, b"path", 99, name + b"/" if is_directory else name),
        _fit_text(records, b"linkpath", 100, link),
        _fit_text(records, b"uname", 32, meta.uname),
        _fit_text(records, b"gname", 32, meta.gname),
    ]
    if is_directory and not texts[0].endswith(b"/"):
        texts[0] += b"/"
    numbers = (  # and the first one that does not fit into the field
        meta.mode & 0o7777,
        _fit_number(records, b"uid", 8**7, meta.uid),
        _fit_number(records, b"gid", 8**7, meta.gid),
        _fit_number(records, b"size", 8**11, entry.size),
        _fit_number(records, b"mtime", 8**11, meta.mtime),
    )
    devices = (meta.devmajor, meta.devminor) if entry.kind in DEVICES else ()
    return _encode_records(records) + _encode_block(entry.kind, texts, numbers, devices)


def _fit_text(records: dict[bytes, bytes], key: bytes, length: int, text: bytes) -> bytes:
    """Return what a field has of a text; add a record if that is not all."""
    if len(text) <= length and text.isascii():
        return text
    records.setdefault(key, text)
    return text[:length].translate(_TO_ASCII)


def _fit_number(records: dict[bytes, bytes], key: bytes, end: int, value: int) -> int:
    """Return the number in a field, or 0 and add a record if it does not fit."""
    if 0 <= value < end:
        return value
    records.setdefault(key, b"%d" % value)
    return 0


def encode_file_header(name: bytes, size: int, mode: int = 0o644) -> bytes:
    """Return the header blocks of a regular file without owner and time."""
    return encode_header(Entry(FILE, name, b"", size, Metadata(mode)), name, b"")


def encode_data(entry: Entry) -> Iterator[Block]:
    """Yield an entry's data, padded to whole blocks."""
    yield from entry.data
    if padding := -entry.size % BLOCK_SIZE:
        yield bytes(padding)


def _encode_block(
    kind: bytes, texts: list[bytes], numbers: tuple[int, ...], devices: tuple[int, ...] = ()
) -> bytes:
    """Return a header block.

    `texts` are the name, the target of a link, and the names of owner and group; `numbers` are
    mode, uid, gid, size and mtime. All of them fit into their fields.
    """
    name, link, uname, gname = texts
    mode, uid, gid, size, mtime = numbers
    owner = b"%07o\0" % mode, b"%07o\0" % uid, b"%07o\0" % gid
    major, minor = [b"%07o\0" % number for number in devices] or (b"", b"")
    times = b"%011o\0" % size, b"%011o\0" % mtime
    block = _HEADER.pack(
        name, *owner, *times, _NO_SUM, kind, link, _MAGIC, uname, gname, major, minor, b""
    )
    # The lower half of Adler-32 is 1 plus the sum of the bytes, which are ASCII: see `reader`.
    checksum = (adler32(block) & 0xFFFF) - 1
    return block[: _SUM.start] + b"%06o\0 " % checksum + block[_SUM.stop :]


def _encode_records(records: dict[bytes, bytes]) -> bytes:
    """Return an extended header with the records in their order, which GNU tar depends on."""
    if not records:
        return b""
    data = bytearray()
    for key, value in records.items():
        rest = b" %b=%b\n" % (key, value)
        length = len(rest) + len(str(len(rest)))
        # The length counts its own digits, which may add one more.
        length = len(rest) + len(str(length))
        data += b"%d%b" % (length, rest)
    block = _encode_block(b"x", [_PAX_NAME, b"", b"", b""], (0o644, 0, 0, len(data), 0))
    return block + data + bytes(-len(data) % BLOCK_SIZE)
