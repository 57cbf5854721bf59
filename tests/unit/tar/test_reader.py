"""tarheaders.py: the headers of a tar, and those on which readers differ."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

import pytest
from tests.tars import entry, tar
from tests.unit.tar.test_completeness import END, ZEROS, header, pax

from brolga.errors import CorruptBlob
from brolga.tar import reader as tarheaders
from brolga.tar.completeness import CompletenessCheck
from brolga.tar.entries import read_entries
from brolga.tar.reader import End, Header, is_header, number, read_header

if TYPE_CHECKING:
    from collections.abc import Iterator


def headers(data: bytes) -> Iterator[Header | End]:
    """Yield all headers of a tar, and its end."""
    start = 0
    while True:
        reader = read_header()
        wanted = next(reader)
        try:
            while True:
                piece = data[start : start + wanted]
                start += len(piece)
                wanted = reader.send(piece)
        except StopIteration as stop:
            found = stop.value
        yield found
        if isinstance(found, End):
            return
        start += found.size_in_blocks


def long(name: bytes, kind: bytes = b"L") -> bytes:
    """Write GNU's header of a long name."""
    return header("././@LongLink", len(name) + 1, kind) + name.ljust(512, b"\0")


def record(key: bytes, value: bytes) -> bytes:
    """Write a record of at most 99 bytes."""
    rest = b" %b=%b\n" % (key, value)
    length = len(rest) + len(str(len(rest) + 2))
    return b"%d%b" % (length, rest)


def test_a_header_says_what_its_extended_headers_say() -> None:
    """Pax has priority; GNU's long names are records too."""
    data = pax(record(b"path", b"a/b") + record(b"size", b"3")) + header("short")
    data += b"abc".ljust(512, b"\0") + long(b"x" * 120) + long(b"y" * 120, b"K")
    data += header("short", kind=tarfile.SYMTYPE) + END
    one, two, end = headers(data)
    assert isinstance(one, Header)
    assert isinstance(two, Header)
    assert (one.kind, one.name, one.size, one.size_in_blocks) == (b"0", b"a/b", 3, 512)
    assert (two.kind, two.name, two.link) == (b"2", b"x" * 120, b"y" * 120)
    assert end is End.MARKED


@pytest.mark.parametrize("data", [b"", header(), ZEROS, header() + ZEROS])
def test_a_tar_without_two_blocks_of_zeros_has_no_marked_end(data: bytes) -> None:
    """Layers do without them at times; a source must not."""
    assert list(headers(data))[-1] is End.MISSING


DIFFER = {
    "two pax headers": (
        pax(record(b"path", b"one")) + pax(record(b"mtime", b"5")) + header() + END,
        "two extended headers of the type 'x' before one entry",
    ),
    "pax and Solaris": (
        pax(record(b"path", b"one")) + pax(record(b"mtime", b"5"), b"X") + header() + END,
        "two extended headers of the type 'x' before one entry",
    ),
    "two long names": (
        long(b"one") + long(b"two") + header() + END,
        "two extended headers of the type 'L' before one entry",
    ),
    "a long name, then pax": (
        long(b"long") + pax(record(b"path", b"pax")) + header() + END,
        "two extended headers differ on 'path': so do readers",
    ),
    "pax, then a long link": (
        pax(record(b"linkpath", b"pax")) + long(b"long", b"K") + header() + END,
        "two extended headers differ on 'linkpath': so do readers",
    ),
    "a size with an underscore": (header(at_124=b"1_000\0") + ZEROS + END, "'1_000' is not a num"),
    "a size with a prefix": (header(at_124=b"0o1000\0") + ZEROS + END, "'0o1000' is not a number"),
    "a size with a sign": (header(at_124=b"+1000\0") + ZEROS + END, "'\\+1000' is not a number"),
    "a size behind a zero byte": (header(at_124=b"\0001000\0") + ZEROS + END, "is not a number"),
    "a mode with an underscore": (header(at_100=b"0_644\0") + END, "'0_644' is not a number"),
    "a device with an underscore": (header(at_329=b"0_1\0") + END, "'0_1' is not a number"),
    "a size beyond all": (header(at_124=b"\x80" + b"\xff" * 11) + END, "out of range"),
    "a size below zero": (header(at_124=b"\xff" * 12) + END, "out of range"),
    "a pax size beyond all": (pax(record(b"size", b"9" * 19)) + header() + END, "size that is not"),
    "an empty path": (
        pax(record(b"path", b"a") + record(b"path", b"")) + header() + END,
        "a pax header with an empty 'path'",
    ),
    "an empty size": (
        pax(record(b"size", b"")) + header() + END,
        "a pax header with an empty 'size'",
    ),
    "GNU.sparse.name alone": (
        pax(record(b"GNU.sparse.name", b"evil") + record(b"path", b"good")) + header() + END,
        "records of a sparse file without its map",
    ),
    "a sparse version that nobody knows": (
        pax(record(b"GNU.sparse.major", b"2") + record(b"GNU.sparse.minor", b"0")) + header() + END,
        "records of a sparse file without its map",
    ),
    "a sparse directory": (
        pax(record(b"GNU.sparse.map", b"0,1")) + header(kind=tarfile.DIRTYPE) + END,
        "records of a sparse file without its map",
    ),
    "V7, a directory by its header alone": (
        pax(record(b"path", b"file")) + header("d/", 512, tarfile.AREGTYPE) + ZEROS + END,
        "readers differ on whether 'file' is a directory",
    ),
    "V7, a directory by its last name alone": (
        pax(record(b"path", b"d/")) + header("file", 512, tarfile.AREGTYPE) + ZEROS + END,
        "readers differ on whether 'd/' is a directory",
    ),
    "a global size": (
        pax(record(b"size", b"512"), b"g") + header() + ZEROS + END,
        "a global pax header that says 'size'",
    ),
    "a global path": (
        pax(record(b"path", b"x"), b"g") + header() + END,
        "a global pax header that says 'path'",
    ),
    "a name with a zero byte": (
        pax(record(b"path", b"a\0b")) + header() + END,
        "a zero byte in it",
    ),
    "an extended header at the end": (pax(record(b"path", b"a")) + END, "ends after an extended"),
    "extended headers in a row": (
        pax(b"".join(record(b"comment", b"v" * 80) for _ in range(11000)), b"g") * 3
        + header()
        + END,
        "more than 2097152 bytes of extended headers in a row",
    ),
}


@pytest.mark.parametrize("name", DIFFER)
def test_a_header_on_which_readers_differ_is_refused(name: str) -> None:
    """Go, GNU tar and tarfile read another entry there, or fail: both our readers refuse it."""
    data, line = DIFFER[name]
    with pytest.raises(CorruptBlob, match=line):
        list(headers(data))
    with pytest.raises(CorruptBlob, match=line):
        list(read_entries([data]))
    source = CompletenessCheck(_Once(data), wanted=None)
    with pytest.raises(CorruptBlob, match=line):
        source.next_block(1.0)


class _Once:
    """A source of one block."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def next_block(self, _timeout_s: float) -> memoryview:
        data, self._data = self._data, b""
        return memoryview(data)

    def close(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("cut", [600, 1024])
def test_an_end_within_a_pax_header_is_not_an_end(cut: int) -> None:
    """What is missing is not taken for an empty header."""
    data = pax(record(b"path", b"x" * 80) * 8 + record(b"mtime", b"1"))[:cut]
    with pytest.raises(CorruptBlob, match="cut short"):
        list(headers(data))


def test_an_end_within_a_sparse_map_is_not_an_end() -> None:
    """The map goes on in further blocks."""
    data = header(kind=tarfile.GNUTYPE_SPARSE, at_482=b"\x01")
    with pytest.raises(CorruptBlob, match="it ends in the map of a sparse file"):
        list(headers(data))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"0000644\0", 0o644),
        (b"   644 \0", 0o644),
        (b"644\0junk", 0o644),
        (b"        ", 0),
        (b"\0" * 8, 0),
        (b"\x80" + (5).to_bytes(11, "big"), 5),
        (b"\xff" * 12, -1),
    ],
)
def test_numbers_are_octal_digits_or_binary(field: bytes, value: int) -> None:
    """POSIX ustar has leading zeros and a space or zero byte behind them; GNU base 256."""
    assert number(field) == value


def test_a_header_is_told_by_its_sum() -> None:
    """The magic alone does not make one."""
    block = tar(entry("a", b"1"))[:512]
    assert is_header(block)
    assert not is_header(block[:511])
    assert not is_header(b"x" + block[1:])
    assert not is_header(block[:148] + b"x" * 8 + block[156:])


def test_the_types_are_those_of_tarfile() -> None:
    """They are written out, as importing tarfile takes milliseconds at every start."""
    assert (tarheaders.FILE, tarheaders.DIRECTORY) == (tarfile.REGTYPE, tarfile.DIRTYPE)
    assert (tarheaders._OLD_FILE, tarheaders._SPARSE) == (tarfile.AREGTYPE, tarfile.GNUTYPE_SPARSE)
    assert tarheaders._CONTIGUOUS == tarfile.CONTTYPE
    assert {tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE} == tarheaders._PAX
    assert set(tarheaders._LONG) == {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
    assert tarheaders._GLOBAL == tarfile.XGLTYPE
    assert tarheaders.KNOWN_KINDS - {tarfile.REGTYPE} == {
        tarfile.LNKTYPE,
        tarfile.SYMTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.DIRTYPE,
        tarfile.FIFOTYPE,
    }
