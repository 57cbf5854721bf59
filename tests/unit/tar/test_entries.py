"""entries.py and writer.py: headers keep what an entry has, and an invalid tar is rejected."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import pytest
from tests.tars import (
    DIR,
    LNK,
    REG,
    SYM,
    entry,
    link,
    listed,
    merged,
    names,
    single,
    symlink,
    tar,
)

from brolga.errors import CorruptBlob
from brolga.tar.entries import read_entries

if TYPE_CHECKING:
    from collections.abc import Iterator

# What an entry keeps -----------------------------------------------------------------------------


def test_header_keeps_metadata() -> None:
    """Owner, mode and time are those of the entry."""
    whole = entry(
        "a", b"x" * 700, mode=0o4755, uid=1000, gid=50, uname="user", gname="staff", mtime=12345
    )
    member = single(merged(tar(whole)))
    wanted = whole[0]
    for name in ("mode", "uid", "gid", "uname", "gname", "mtime", "size"):
        assert getattr(member, name) == getattr(wanted, name)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_header_keeps_long_and_undecodable_names(form: int) -> None:
    """Pax and GNU can hold any name, of any bytes."""
    long = "d" * 90 + "/" + "é" * 60
    odd = b"caf\xe9".decode("utf-8", "surrogateescape")
    out = merged(
        tar(entry(long, b"1"), entry(odd, b"2"), symlink("s", long), link("h", long), form=form)
    )
    assert listed(out) == {
        long: (REG, b"1"),
        odd: (REG, b"2"),
        "s": (SYM, long.encode()),
        "h": (LNK, long.encode()),
    }


def test_header_keeps_long_directory_names() -> None:
    """The field of 100 bytes cannot hold a name of 100 bytes and a slash."""
    wanted = ["d" * count for count in (98, 99, 100, 101, 300)]
    out = merged(tar(*[f"{name}/" for name in wanted]))
    assert listed(out) == dict.fromkeys(wanted, (DIR, b""))


def test_name_includes_ustar_prefix() -> None:
    """POSIX ustar splits a name at a slash."""
    name = "p" * 90 + "/" + "n" * 90
    assert names(merged(tar(name, form=tarfile.USTAR_FORMAT))) == [name]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_header_keeps_large_and_negative_numbers(form: int) -> None:
    """Numbers that do not fit into a field are written as pax records."""
    member = single(merged(tar(entry("a", uid=2**31, gid=2**40, mtime=-5), form=form)))
    assert (member.uid, member.gid, member.mtime) == (2**31, 2**40, -5)


def test_header_keeps_fractions_of_seconds() -> None:
    """A pax record keeps all digits."""
    records = {"mtime": "1.123456789", "atime": "2.5"}
    assert single(merged(tar(entry("a", pax_headers=records)))).pax_headers == records


def test_header_keeps_extended_attributes() -> None:
    """`security.capability` is binary; an attribute may be empty."""
    value = bytes(range(256)).decode("utf-8", "surrogateescape")
    records = {"SCHILY.xattr.security.capability": value, "SCHILY.xattr.user.empty": ""}
    out = merged(tar(entry("a", b"1", pax_headers=records)))
    assert bytes(range(256)) in out
    got = single(out).pax_headers
    assert got["SCHILY.xattr.user.empty"] == ""
    raw = got["SCHILY.xattr.security.capability"].encode("utf-8", "surrogateescape")
    assert raw == bytes(range(256))
    assert "hdrcharset" not in got


def test_header_keeps_devices_and_pipes() -> None:
    """Device nodes keep their numbers."""
    out = merged(
        tar(
            entry("c", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
            entry("b", type=tarfile.BLKTYPE, devmajor=8, devminor=2**20),
            entry("p", type=tarfile.FIFOTYPE),
        )
    )
    with tarfile.open(fileobj=io.BytesIO(out)) as archive:
        got = [(member.type, member.devmajor, member.devminor) for member in archive]
    assert got == [
        (tarfile.CHRTYPE, 1, 3),
        (tarfile.BLKTYPE, 8, 2**20),
        (tarfile.FIFOTYPE, 0, 0),
    ]


def test_global_headers_are_left_out() -> None:
    """Git archive writes one; Docker and containerd ignore it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", pax_headers={"comment": "commit"}) as archive:
        archive.addfile(entry("a")[0])
    member = single(merged(out.getvalue()))
    assert (member.name, member.pax_headers) == ("a", {})


# Invalid tars ------------------------------------------------------------------------------------


def patched(data: bytes, at: int, new: bytes) -> bytes:
    """Change a header's bytes, and its checksum (POSIX ustar: the sum with blanks in its place)."""
    block = bytearray(data[:512])
    block[at : at + len(new)] = new
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + data[512:]


def extended(records: bytes) -> bytes:
    """Put a pax header with these bytes before an entry."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, len(records)
    return info.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % 512) + tar("a")


GNU = patched(tar("a"), 156, b"S")[:512]
BROKEN = {
    "not a valid tar header": tar("a")[:100] + b"x" + tar("a")[101:],
    "12 bytes of an entry are missing": tar("a")[:500],
    "1 bytes of an entry are missing": tar(entry("a", b"data"))[:1023],
    "after one block of zeros": tar("a")[:1024] + tar("b"),
    "after an extended header": extended(b"7 a=bc\n")[:1024],
    "a number is out of range": patched(tar("a"), 124, b"\xff" * 12),
    "of the type 'M'": patched(tar("a"), 156, b"M"),
    "a pax header with a size that is not valid: '1x'": extended(b"11 size=1x\n"),
    "none: '12345678'": extended(b"1234567890"),
    "'999999999999' is not a number": patched(GNU, 482, b"\1") + b"9" * 512,
    "a name with a zero byte": extended(b"12 path=a\0b\n"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_read_entries_rejects_invalid_tar(what: str) -> None:
    """An archive that is broken in the middle does not pass as a shorter one."""
    message = "a pax header with a broken record" if "12345678'" in what else what
    with pytest.raises(CorruptBlob, match=f"layer 1 of 1, sha256:.*{message}"):
        merged(BROKEN[what])


@pytest.mark.parametrize(
    "records", [b"7 a=bc", b"7 a_bc\n", b"7 =abc\n", b"9 a=bc\n", b" a=b\n", b"3 a=b\n"]
)
def test_read_entries_rejects_broken_pax_record(records: bytes) -> None:
    """POSIX pax: `LENGTH KEY=VALUE` and a newline, of that length."""
    with pytest.raises(CorruptBlob, match="a broken record"):
        merged(extended(records))


def test_read_entries_rejects_device_number_out_of_range() -> None:
    """A number that does not fit into our header is not cut."""
    data = patched(tar(entry("c", type=tarfile.CHRTYPE)), 329, b"\x80\0\0\0\x7f\0\0\0")
    with pytest.raises(CorruptBlob, match="a number is out of range"):
        merged(data)


def test_read_entries_bounds_extended_headers() -> None:
    """Memory does not depend on what an archive claims: Go has the same limit of 1 MiB."""
    assert names(merged(extended(b"100016 comment=%b\n" % bytes(100000)))) == ["a"]
    with pytest.raises(CorruptBlob, match="an extended tar header of 1048577 bytes"):
        merged(extended(bytes((1 << 20) + 1)))


def test_read_entries_bounds_parts_of_sparse_file() -> None:
    """The parts are kept in memory, and must fit into a header."""
    head = patched(patched(GNU, 482, b"\1"), 483, b"\x80" + bytes(7) + b"\1\0\0\0")
    more = b"%011o\0%011o\0" % (0, 0) * 21 + b"\1" + bytes(7)
    with pytest.raises(CorruptBlob, match="a sparse file of too many parts"):
        merged(head[:512] + more * 4000)


def test_empty_pax_record_removes_earlier_one() -> None:
    """A record without a value leaves the header's in force (POSIX pax)."""
    member = single(merged(extended(b"11 mtime=5\n9 mtime=\n")))
    assert (member.mtime, member.pax_headers) == (0, {})
    assert names(merged(extended(b"9 path=b\n"))) == ["b"]


def test_size_of_pax_record_has_priority() -> None:
    """Records have priority over the header's fields."""
    data = extended(b"10 size=4\n")[:1536] + b"data" + bytes(508)
    assert listed(merged(data)) == {"a": (REG, b"data")}


def test_read_entries_accepts_old_types() -> None:
    """Unix V7's files, its directories by their slash, and contiguous files."""
    assert listed(merged(patched(tar(entry("a", b"1")), 156, b"\0"))) == {"a": (REG, b"1")}
    assert listed(merged(patched(tar("a"), 0, b"d/"))) == {"d": (REG, b"")}
    assert listed(merged(patched(patched(tar("a"), 0, b"d/"), 156, b"\0"))) == {"d": (DIR, b"")}
    assert listed(merged(patched(tar(entry("a", b"1")), 156, b"7"))) == {"a": (REG, b"1")}


def test_name_ignores_prefix_field_of_gnu_header() -> None:
    """GNU's format has times in the place of ustar's prefix."""
    data = patched(tar("a", form=tarfile.GNU_FORMAT), 345, b"14000000000\0" * 2)
    assert names(merged(data)) == ["a"]


def test_read_entries_skips_data_that_is_not_read() -> None:
    """If the blocks can be skipped, unread data is not loaded."""

    class Blocks:
        def __init__(self, data: bytes) -> None:
            self.data = memoryview(data)
            self.skipped = 0

        def __iter__(self) -> Iterator[memoryview]:
            while self.data:
                block, self.data = self.data[:512], self.data[512:]
                yield block

        def skip(self, size: int) -> None:
            self.skipped += size
            self.data = self.data[size:]

    blocks = Blocks(tar(entry("a", b"x" * 5000), entry("b", b"y")))
    starts = [(item.name, item.is_file, item.start) for item in read_entries(blocks)]
    assert starts == [(b"a", True, 512), (b"b", True, 512 + 5120 + 512)]
    assert blocks.skipped >= 5120
