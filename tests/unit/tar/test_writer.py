"""writer.py: headers of files that have no entry. `test_entries` has those of entries."""

from __future__ import annotations

from tests.tars import REG, listed, single

from brolga.tar.writer import ARCHIVE_END, encode_file_header


def test_encode_file_header_describes_regular_file() -> None:
    """The header has a mode, but no owner and no time: the same file gives the same bytes."""
    data = encode_file_header(b"a/b", 3) + b"abc".ljust(512, b"\0") + ARCHIVE_END
    member = single(data)
    assert (member.mode, member.uid, member.gid, member.mtime) == (0o644, 0, 0, 0)
    assert listed(data) == {"a/b": (REG, b"abc")}


def test_encode_file_header_accepts_long_name() -> None:
    """A name that does not fit into the header is a pax record."""
    name = "d/" * 150 + "é"
    assert single(encode_file_header(name.encode(), 0) + ARCHIVE_END).name == name
