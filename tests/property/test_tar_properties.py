"""Both readers of tars agree on what is valid, and see what tarfile and GNU tar see."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.tar.sources import END, ZEROS, header, pax, watched
from tests.unit.tar.test_reader import long, record

from brolga.errors import CorruptBlob
from brolga.tar.entries import read_entries

NAMES = st.sampled_from(["one", "two", "dir/", "dir/three"])
KINDS = st.sampled_from([b"0", b"\0", b"5", b"2", b"7", b"1", b"3"])
WITHOUT_DATA = {b"1", b"2", b"3", b"5"}
SIZES = st.sampled_from(
    [b"00000000000\0", b"00000001000\0", b"       1000 ", b"\x80" + bytes(9) + b"\2\0"]
)
ODD = st.sampled_from([b"1_000\0", b"0o1000\0", b"+1000\0", b"-1\0", b"\0001000\0", b"\xff" * 12])
RECORDS = st.lists(
    st.sampled_from(
        [
            record(b"path", b"pax"),
            record(b"path", b"pax/"),
            record(b"size", b"512"),
            record(b"size", b"0"),
            record(b"linkpath", b"target"),
            record(b"mtime", b"5"),
            record(b"GNU.sparse.name", b"sparse"),
            record(b"path", b""),
        ]
    ),
    min_size=1,
    max_size=2,
).map(b"".join)
EXTENDED = st.one_of(
    RECORDS.map(pax),
    RECORDS.map(lambda records: pax(records, b"g")),
    st.sampled_from([long(b"long"), long(b"long/"), long(b"target", b"K")]),
)


@st.composite
def members(draw: st.DrawFn) -> bytes:
    """Draw the headers of an entry, and a block of data that may be one of them or not."""
    headers = b"".join(draw(st.lists(EXTENDED, max_size=2)))
    kind, name = draw(KINDS), draw(NAMES)
    size = draw(st.one_of(SIZES, SIZES, SIZES, ODD))
    # An old file whose last name ends with a slash is a directory.
    names_directory = name.endswith("/") or b"pax/" in headers or b"long/" in headers
    is_directory = kind == b"\0" and names_directory
    # Readers of layers ignore the size of links and directories; GNU tar does not.
    if (kind in WITHOUT_DATA or is_directory) and b"size=512" in headers:
        headers = b""
    if kind in WITHOUT_DATA or (kind == b"\0" and (name.endswith("/") or headers)):
        size = b"00000000000\0"
    block = header(name, kind=kind, at_124=size)
    data = draw(st.sampled_from([b"", ZEROS[:-1] + b"x", header("inner")]))
    return headers + block + data


def seen(data: bytes) -> list[bytes] | None:
    """Return the names that a layer's reader sees; None if it refuses the tar."""
    try:
        return [entry.name.rstrip(b"/") for entry in read_entries([data], needs_end=True)]
    except CorruptBlob:
        return None


@settings(max_examples=500, deadline=None)
@given(parts=st.lists(members(), min_size=1, max_size=3))
def test_completeness_check_and_read_entries_accept_the_same(parts: list[bytes]) -> None:
    """One reader of headers serves both, so both refuse the same."""
    data = b"".join(parts) + END
    try:
        watched(data, wanted=True)
    except CorruptBlob:
        # A stream that goes on behind its end is refused as a source alone: here it was cut there.
        end = len(data) - len(END)
        assert seen(data) is None or END in data[:end]
    else:
        assert seen(data) is not None


@settings(max_examples=500, deadline=None)
@given(parts=st.lists(members(), min_size=1, max_size=3))
def test_accepted_tar_has_names_that_tarfile_sees(parts: list[bytes]) -> None:
    """Another reader sees the same entries."""
    data = b"".join(parts) + END
    names = seen(data)
    if names is None:
        return
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert [name.rstrip("/").encode() for name in archive.getnames()] == names


@pytest.mark.real
@pytest.mark.skipif(shutil.which("tar") is None, reason="tar is not on PATH")
@settings(max_examples=150, deadline=None)
@given(parts=st.lists(members(), min_size=1, max_size=3))
def test_accepted_tar_has_names_that_gnu_tar_sees(parts: list[bytes]) -> None:
    """GNU tar lists the same entries."""
    data = b"".join(parts) + END
    names = seen(data)
    if names is None:
        return
    done = subprocess.run(["tar", "-tf", "-"], input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [name.rstrip(b"/") for name in done.stdout.splitlines()] == names
