"""Sparse files in each of the forms of GNU tar, written by hand."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING, Final

from tests.tars import tar

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FORMS", "sparse_file"]

FORMS: Final = ("GNU", "0.0", "0.1", "1.0")

Part = tuple[int, bytes]


def sparse_file(name: str, size: int, parts: Sequence[Part], form: str = "1.0") -> bytes:
    """Return a tar with a sparse file: `parts` are offsets and their bytes, the rest holes."""
    numbers = [number for start, data in parts for number in (start, len(data))]
    data = b"".join(data for _, data in parts)
    if form == "GNU":
        return _gnu(name, size, numbers, data)
    info = tarfile.TarInfo(name)
    records = {"GNU.sparse.size": str(size), "GNU.sparse.numblocks": str(len(parts))}
    if form == "0.1":
        records["GNU.sparse.map"] = ",".join(map(str, numbers))
    elif form == "1.0":
        records = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": name}
        records["GNU.sparse.realsize"] = str(size)
        lines = "".join(f"{number}\n" for number in (len(parts), *numbers)).encode()
        data = lines + bytes(-len(lines) % 512) + data
    info.size, info.pax_headers = len(data), records
    if form == "0.0":
        return _version_0_0(info, numbers, data)
    return tar((info, data))


def _gnu(name: str, size: int, numbers: Sequence[int], data: bytes) -> bytes:
    """Return a tar of an entry of the type S: at most four parts are in its header."""
    info = tarfile.TarInfo(name)
    info.type, info.size = tarfile.GNUTYPE_SPARSE, len(data)
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    fields = [b"%011o\0" % number for number in numbers]
    block[386 : 386 + 12 * len(fields)] = b"".join(fields)
    block[483:495] = b"%011o\0" % size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + data + bytes(-len(data) % 512) + bytes(1024)


def _version_0_0(info: tarfile.TarInfo, numbers: Sequence[int], data: bytes) -> bytes:
    """Return a tar whose pax header repeats records, which tarfile cannot write."""
    records = [(key.encode(), str(value).encode()) for key, value in info.pax_headers.items()]
    keys = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
    records += [(keys[at % 2], b"%d" % number) for at, number in enumerate(numbers)]
    lines = b"".join(map(_record, records))
    header = tarfile.TarInfo("PaxHeaders/sparse")
    header.type, header.size = tarfile.XHDTYPE, len(lines)
    info.pax_headers = {}
    out = io.BytesIO(header.tobuf() + lines + bytes(-len(lines) % 512))
    out.seek(0, io.SEEK_END)
    out.write(tar((info, data)))
    return out.getvalue()


def _record(record: tuple[bytes, bytes]) -> bytes:
    key, value = record
    line = b" " + key + b"=" + value + b"\n"
    length = len(line) + 1
    while len(b"%d" % length) + len(line) != length:
        length += 1
    return b"%d" % length + line
