"""reader.py: the headers of a tar, and those on which readers differ."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

import pytest
from tests.tars import entry, tar
from tests.unit.tar.sources import END, ZEROS, header, old, pax

from brolga.errors import CorruptBlob
from brolga.tar import reader as reader_module
from brolga.tar.completeness import CompletenessCheck
from brolga.tar.entries import read_entries
from brolga.tar.reader import (
    PLAIN_SIZE,
    End,
    Header,
    Metadata,
    is_header,
    measure_plain_entry,
    parse_number,
    read_header,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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
            item = stop.value
        yield item
        if isinstance(item, End):
            return
        start += item.size_in_blocks


def long(name: bytes, kind: bytes = b"L") -> bytes:
    """Write GNU's header of a long name."""
    return header("././@LongLink", len(name) + 1, kind) + name.ljust(512, b"\0")


def record(key: bytes, value: bytes) -> bytes:
    """Write a record of at most 99 bytes."""
    rest = b" %b=%b\n" % (key, value)
    length = len(rest) + len(str(len(rest) + 2))
    return b"%d%b" % (length, rest)


def test_read_header_merges_extended_headers() -> None:
    """Pax has priority; GNU's long names are records too."""
    data = pax(record(b"path", b"a/b") + record(b"size", b"3")) + header("short")
    data += b"abc".ljust(512, b"\0") + long(b"x" * 120) + long(b"y" * 120, b"K")
    data += header("short", kind=tarfile.SYMTYPE) + END
    first, second, end = headers(data)
    assert isinstance(first, Header)
    assert isinstance(second, Header)
    assert (first.kind, first.name, first.size, first.size_in_blocks) == (b"0", b"a/b", 3, 512)
    assert (second.kind, second.name, second.link) == (b"2", b"x" * 120, b"y" * 120)
    assert end is End.MARKED


@pytest.mark.parametrize("data", [b"", header(), ZEROS, header() + ZEROS])
def test_read_header_returns_missing_end_without_two_zero_blocks(data: bytes) -> None:
    """Some layers lack them; a source must not."""
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
    "an unknown sparse version": (
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
def test_read_header_rejects_header_on_which_readers_differ(name: str) -> None:
    """Go, GNU tar and tarfile read different entries there, or fail: both consumers refuse it."""
    data, line = DIFFER[name]
    with pytest.raises(CorruptBlob, match=line):
        list(headers(data))
    with pytest.raises(CorruptBlob, match=line):
        list(read_entries([data]))
    source = CompletenessCheck(_Once(data), is_layer=None)
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
def test_read_header_rejects_end_in_pax_header(cut: int) -> None:
    """Missing bytes are not an empty header."""
    data = pax(record(b"path", b"x" * 80) * 8 + record(b"mtime", b"1"))[:cut]
    with pytest.raises(CorruptBlob, match="cut short"):
        list(headers(data))


def test_read_header_rejects_end_in_sparse_map() -> None:
    """The map continues in more blocks."""
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
def test_parse_number_accepts_octal_and_binary(field: bytes, value: int) -> None:
    """POSIX ustar has leading zeros, and a space or zero byte after them; GNU base 256."""
    assert parse_number(field) == value


@pytest.mark.parametrize("form", [bytes, old])
def test_metadata_of_old_header_has_no_names(form: Callable[[bytes], bytes]) -> None:
    """Unix V7 has neither the names of owners nor device numbers."""
    block = tar(entry("a", uid=1, gid=2, mtime=3, mode=0o600, uname="u", gname="g"))[:512]
    (item, _) = headers(form(block))
    assert isinstance(item, Header)
    names = (b"", b"") if form is old else (b"u", b"g")
    assert item.metadata == Metadata(0o600, 1, 2, 3, *names)


def test_is_header_checks_checksum() -> None:
    """The magic alone is not enough."""
    block = tar(entry("a", b"1"))[:512]
    assert is_header(block)
    assert not is_header(block[:511])
    assert not is_header(b"x" + block[1:])
    assert not is_header(block[:148] + b"x" * 8 + block[156:])


def test_kinds_are_those_of_tarfile() -> None:
    """They are copied, since importing tarfile takes milliseconds at every start."""
    assert (reader_module.FILE, reader_module.DIRECTORY) == (tarfile.REGTYPE, tarfile.DIRTYPE)
    assert (reader_module._OLD_FILE, reader_module._SPARSE) == (
        tarfile.AREGTYPE,
        tarfile.GNUTYPE_SPARSE,
    )
    assert reader_module._CONTIGUOUS == tarfile.CONTTYPE
    assert {tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE} == reader_module._PAX
    assert set(reader_module._LONG) == {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
    assert reader_module._GLOBAL == tarfile.XGLTYPE
    assert reader_module.KNOWN_KINDS - {tarfile.REGTYPE} == {
        tarfile.LNKTYPE,
        tarfile.SYMTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.DIRTYPE,
        tarfile.FIFOTYPE,
    }


def first_entry(data: bytes) -> int | None:
    """Return the size of the first entry with its headers, None if it is not valid."""
    reader, used = read_header(), 0
    wanted = next(reader)
    try:
        while True:
            piece = data[used : used + wanted]
            used += len(piece)
            wanted = reader.send(piece)
    except StopIteration as stop:
        return used + stop.value.size_in_blocks if isinstance(stop.value, Header) else None
    except CorruptBlob:
        return None


TIMES = record(b"mtime", b"1.5") + record(b"atime", b"2")
PLAIN = {
    "file": header(size=1000),
    "empty file": header(),
    "directory": header("d/", kind=tarfile.DIRTYPE),
    "link, whatever its size": header(size=512, kind=tarfile.LNKTYPE),
    "times": pax(TIMES) + header(size=1),
    "long path": pax(record(b"path", b"p" * 80) + record(b"linkpath", b"l") + TIMES) + header(),
}
NOT_PLAIN = {
    "size in pax": pax(record(b"size", b"512")) + header(),
    "newline in a path": pax(record(b"path", b"a\n18 linkpath=abcde")) + header(),
    "wrong length": pax(b"10 mtime=12345\n") + header(),
    "two extended headers": pax(TIMES) + pax(TIMES) + header(),
    "records of more than a block": pax(record(b"path", b"p" * 80) * 8) + header(),
    "extended header alone": pax(TIMES),
    "name that is not ASCII": header("\u00e9"),
    "V7": old(header()),
    "end": END,
    "short header": header()[:511],
    "sparse": header(size=512, kind=tarfile.GNUTYPE_SPARSE),
}


@pytest.mark.parametrize("name", PLAIN)
def test_measure_plain_entry_returns_what_read_header_says(name: str) -> None:
    """It is a short cut only."""
    data = PLAIN[name] + header("next") + END
    assert measure_plain_entry(data[:PLAIN_SIZE]) == first_entry(data)


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_measure_plain_entry_of_another_form_is_none(name: str) -> None:
    """The caller reads its headers one by one."""
    assert measure_plain_entry(NOT_PLAIN[name][:PLAIN_SIZE]) is None


@pytest.mark.parametrize("name", ["file", "times", "long path"])
def test_measure_plain_entry_of_changed_byte_accepts_no_more_than_read_header(name: str) -> None:
    """Whatever byte is wrong: the answer is the same, or none."""
    data = PLAIN[name] + END
    for place in range(len(PLAIN[name])):
        for value in (0, ord("0"), ord("\n"), 0xFF):
            changed = data[:place] + bytes([value]) + data[place + 1 :]
            size = measure_plain_entry(changed[:PLAIN_SIZE])
            assert size is None or size == first_entry(changed)
