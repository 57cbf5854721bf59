"""writer.py: headers of files that have no entry. `test_entries` has those of entries."""

from __future__ import annotations

import tarfile
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.tars import REG, listed, single

from brolga.tar.entries import Entry
from brolga.tar.reader import Metadata
from brolga.tar.writer import ARCHIVE_END, encode_file_header, encode_header

WORDS = st.text("ab/.", max_size=32)
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE])
SMALL, LARGE = st.integers(0, 8**7 - 1), st.integers(0, 8**11 - 1)


@given(
    kind=KINDS,
    name=WORDS.map(lambda word: f"n{word}".rstrip("/")),
    texts=st.fixed_dictionaries(dict.fromkeys(("linkname", "uname", "gname"), WORDS)),
    numbers=st.fixed_dictionaries(
        dict.fromkeys(("mode", "uid", "gid", "devmajor", "devminor"), SMALL)
        | dict.fromkeys(("size", "mtime"), LARGE)
    ),
)
def test_encode_header_equals_that_of_tarfile(
    kind: bytes, name: str, texts: dict[str, str], numbers: dict[str, int]
) -> None:
    """Every reader takes what the standard library writes."""
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in {**texts, **numbers}.items():
        setattr(info, key, value)
    fields: dict[str, Any] = {key: text.encode() for key, text in texts.items()} | numbers
    link, size = fields.pop("linkname"), fields.pop("size")
    encoded = encode_header(Entry(kind, b"", b"", size, Metadata(**fields)), name.encode(), link)
    assert encoded == info.tobuf(tarfile.USTAR_FORMAT)


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
