"""Tar headers in pax format (POSIX pax, ustar Interchange Format).

Names and records stay bytes. Sparse files stay sparse: GNU's are written in pax's form, with their
data unchanged (GNU tar manual, Sparse Formats).
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import Final

from brolga.tar.entries import Entry
from brolga.tar.reader import BLOCK_SIZE, FILE, SPARSE_NAME, Metadata

ARCHIVE_END: Final = bytes(2 * BLOCK_SIZE)

# Records that are always made anew.
_REMADE: Final = frozenset({b"path", b"linkpath", b"size", b"hdrcharset"})


def encode_header(entry: Entry, name: bytes, link: bytes) -> bytes:
    """Return the header blocks of an entry, under this name and with this link target."""
    meta = entry.metadata
    info = tarfile.TarInfo()
    info.type, info.mode = entry.kind, meta.mode
    info.devmajor, info.devminor = meta.devmajor, meta.devminor
    records = {key: value for key, value in entry.records.items() if key not in _REMADE}
    if SPARSE_NAME in records:
        records[SPARSE_NAME] = name
    texts = (  # and the length of the field; a directory's name gets a slash
        ("name", b"path", 99, name + b"/" if entry.is_directory else name),
        ("linkname", b"linkpath", 100, link),
        ("uname", b"uname", 32, meta.uname),
        ("gname", b"gname", 32, meta.gname),
    )
    for attribute, key, length, text in texts:
        if len(text) > length or not text.isascii():
            records.setdefault(key, text)
        setattr(info, attribute, text.decode("ascii", "replace")[:length])
    numbers = (  # and the first one that does not fit into the field
        ("uid", b"uid", 8**7, meta.uid),
        ("gid", b"gid", 8**7, meta.gid),
        ("size", b"size", 8**11, entry.size),
        ("mtime", b"mtime", 8**11, meta.mtime),
    )
    for attribute, key, end, value in numbers:
        fits = 0 <= value < end
        if not fits:
            records.setdefault(key, b"%d" % value)
        setattr(info, attribute, value if fits else 0)
    return _encode_records(records) + info.tobuf(tarfile.USTAR_FORMAT, "ascii", "replace")


def encode_file_header(name: bytes, size: int, mode: int = 0o644) -> bytes:
    """Return the header blocks of a regular file without owner and time."""
    return encode_header(Entry(FILE, name, b"", size, Metadata(mode)), name, b"")


def encode_data(entry: Entry) -> Iterator[bytes]:
    """Yield an entry's data, padded to whole blocks."""
    yield from map(bytes, entry.data)
    if padding := -entry.size % BLOCK_SIZE:
        yield bytes(padding)


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
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, len(data)
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % BLOCK_SIZE)
