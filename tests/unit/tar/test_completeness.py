"""completeness.py: an incomplete tar is rejected, and another source passes."""

from __future__ import annotations

import io
import random
import tarfile
from typing import TYPE_CHECKING

import pytest
from tests.tars import entry, link, symlink, tar
from tests.unit.tar.sources import END, ZEROS, Blocks, header, old, pax, watched

from brolga.errors import CorruptBlob
from brolga.tar.completeness import CompletenessCheck

if TYPE_CHECKING:
    from collections.abc import Callable

FORMS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
LONG = "a/" + "long/" * 60 + "name"


def whole_tars() -> dict[str, bytes]:
    """Return tars of every form, each of which has an end."""
    content = random.Random(1).randbytes
    kinds = {
        "files": [entry("a", content(1)), entry("b/"), entry("b/c", content(5000))],
        "links": [entry("a", b"1"), link("b", "a"), symlink("c", "a")],
        "empty file": [entry("a")],
        "full block": [entry("a", content(1024)), entry("b")],
    }
    tars = {
        f"{name}, {what}": tar(*members, form=form)
        for name, form in FORMS.items()
        for what, members in kinds.items()
    }
    tars |= {
        f"{name}, long names": tar(entry(LONG, content(700)), symlink("s", LONG), form=form)
        for name, form in FORMS.items()
        if name != "ustar"
    }
    return tars | {
        "no end of the file": tar("a")[: 512 + 1024],
        "global header": pax(b"13 comment=x\n", tarfile.XGLTYPE) + header() + END,
        "pax size": pax(b"13 size=1024\n") + header(size=0) + bytes(1024) + END,
        "pax size of the last": pax(b"12 size=999\n13 size=1024\n") + header() + bytes(1024) + END,
        "pax size, long name": (
            pax(b"12 size=512\n")
            + header("@", 3, tarfile.GNUTYPE_LONGNAME)
            + b"abc".ljust(512, b"\0")
            + header()
            + ZEROS
            + END
        ),
        "pax size of a link": pax(b"12 size=512\n") + header(kind=tarfile.SYMTYPE) + header() + END,
        "empty pax header": header("x", 0, tarfile.XHDTYPE) + header() + END,
        "solaris": pax(b"12 size=512\n", tarfile.SOLARIS_XHDTYPE) + header() + ZEROS + END,
        "size in binary": header(at_124=b"\x80" + (600).to_bytes(11, "big")) + bytes(1024) + END,
        "size of a link": header(size=512, kind=tarfile.LNKTYPE) + header() + END,
        "sparse": header(size=512, kind=tarfile.GNUTYPE_SPARSE) + ZEROS + END,
        "sparse, long map": (
            header(size=512, kind=tarfile.GNUTYPE_SPARSE, at_482=b"\x01")
            + bytes(504)
            + b"\x01"
            + bytes(7)
            + ZEROS
            + ZEROS
            + END
        ),
        "V7": old(header(size=3)) + b"abc".ljust(512, b"\0") + END,
        "V7, directory": old(header("a/", 512, tarfile.AREGTYPE)) + old(header()) + END,
        "signed sum": signed(header("\u00e9\u00e9")) + END,
    }


def signed(block: bytes) -> bytes:
    """Sum a V7 header up as programs did whose bytes had signs."""
    bare = bytearray(block[:257] + bytes(255))
    bare[148:156] = b" " * 8
    bare[148:156] = b"%06o\0 " % sum(byte - 256 * (byte > 127) for byte in bare)
    return bytes(bare)


TARS = whole_tars()


BEHIND = {
    "bytes behind the end": tar("a") + b"anything",
    "two tars": tar(entry("a", b"1")) + tar(entry("a", b"1")),
}


@pytest.mark.parametrize("cut", [1 << 20, 512, 513, 10240, 10241])
@pytest.mark.parametrize("name", BEHIND)
def test_layer_with_bytes_after_its_end_is_rejected(name: str, cut: int) -> None:
    """Readers stop at the two blocks of zeros: of joined tars they see only the first."""
    data = BEHIND[name]
    with pytest.raises(CorruptBlob, match="goes on at byte 10240, after the end of its tar"):
        watched(data, wanted=True, cut=cut)
    assert watched(data, cut=cut) == data


@pytest.mark.parametrize("kind", [b"V", b"D", b"M", b"Z"])
def test_layer_with_entry_of_unknown_type_is_rejected(kind: bytes) -> None:
    """`tar --label` and `--listed-incremental` write them; readers of layers fail there."""
    data = header("label", 3, kind) + b"abc".ljust(512, b"\0") + END
    line = f"the entry 'label' is of the type '{kind.decode()}', which readers of layers refuse"
    with pytest.raises(CorruptBlob, match=line):
        watched(data, wanted=True)
    assert watched(data) == data


def test_layer_with_whiteout_of_nothing_is_rejected() -> None:
    """'A `.wh.` file, without a basename to delete, is invalid' (layer.md, Whiteouts)."""
    with pytest.raises(CorruptBlob, match=r"the whiteout 'd/\.wh\.' names nothing at byte 0"):
        watched(tar("d/.wh."), wanted=True)
    assert watched(tar("d/.wh."))


@pytest.mark.parametrize("cut", [1 << 20, 512, 511, 7])
@pytest.mark.parametrize("wanted", [True, None])
@pytest.mark.parametrize("data", TARS.values(), ids=TARS)
def test_complete_tar_passes_unchanged(data: bytes, wanted: bool | None, cut: int) -> None:
    """POSIX pax, ustar: the archive ends with two logical records filled with binary zeros."""
    # A block smaller than a header is a source's last one: without a whole header it is not a tar.
    assert watched(data, wanted=wanted, cut=cut) == data


@pytest.mark.parametrize("data", TARS.values(), ids=TARS)
def test_tar_cut_anywhere_is_rejected(data: bytes) -> None:
    """A program that dies leaves out the end; the zeros of a file do not count as one."""
    end = whole_length(data)
    for length in sorted({512, 700, 1023, 1024, end - 1024, end - 513, end - 512, end - 1}):
        if 512 <= length < end:
            with pytest.raises(CorruptBlob, match="the source is a tar cut short"):
                watched(data[:length])


def whole_length(data: bytes) -> int:
    """Return the bytes of a tar with its end, as it is refused where one is missing."""
    low, high = 512, len(data)
    while low < high:
        middle = (low + high) // 2
        try:
            watched(data[:middle], wanted=True)
        except CorruptBlob:
            low = middle + 1
        else:
            high = middle
    return low


@pytest.mark.parametrize("size", [0, 1, 511, 512, 100_000])
def test_source_that_is_not_a_tar_passes(size: int) -> None:
    """A layer that is not of an image may be any bytes: a dump, weights."""
    data = random.Random(size).randbytes(size)
    assert watched(data) == data
    assert watched(bytes(size)) == bytes(size)


def test_tar_without_entries_is_complete() -> None:
    """`tar -cT /dev/null`: only the end."""
    for form in FORMS.values():
        assert watched(tar(form=form), wanted=True) == tar(form=form)
    assert watched(END, wanted=True) == END


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (tar("a")[:512], "after 512 bytes its end, two blocks of zeros, is missing"),
        (header(size=600), "after 512 bytes 1024 bytes of an entry are missing"),
        (header() + header()[:100], "after 612 bytes 412 bytes of a header are missing"),
        (header() + ZEROS, "after 1024 bytes its end, two blocks of zeros, is missing"),
    ],
)
def test_error_names_what_is_missing(data: bytes, what: str) -> None:
    """One line: which side, at which byte, and what."""
    with pytest.raises(CorruptBlob, match=f"^the source is a tar cut short: {what}$"):
        watched(data)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"x" * 512, "not a valid tar header at byte 0"),
        (header() + b"x" * 512, "not a valid tar header at byte 512"),
        (
            header(at_124=b"99999999999\0") + END,
            "not a valid tar header: '99999999999' is not a number at byte 0",
        ),
        (
            header(at_124=b"-0000000001\0") + END,
            "not a valid tar header: '-0000000001' is not a number at byte 0",
        ),
        (
            header() + ZEROS + header(),
            "the tar goes on after one block of zeros: readers differ on its end at byte 1024",
        ),
        (pax(b"9 size=5") + header(), "a pax header with a broken record at byte 512"),
        (pax(b"size=5\n") + header(), "a pax header with a broken record at byte 512"),
        (
            pax(b"11 size=-1\n") + header(),
            "a pax header with a size that is not valid: '-1' at byte 1024",
        ),
        (pax(b"0 size=1\n") + header(), "a pax header with a broken record at byte 512"),
        (pax(b"9" * 30 + b" a=1\n"), "a pax header with a broken record at byte 512"),
        (
            header(size=(1 << 20) + 1, kind=tarfile.XHDTYPE),
            "an extended tar header of 1048577 bytes, but at most 1048576 are read at byte 0",
        ),
    ],
)
def test_broken_header_is_rejected_at_once(data: bytes, what: str) -> None:
    """Not only at the end: nothing after it can be read."""
    source = CompletenessCheck(Blocks([data]), is_layer=True)
    with pytest.raises(CorruptBlob, match=f"^the source is not a complete tar: {what}$"):
        source.next_block(1.0)


def test_empty_source_is_rejected_as_layer() -> None:
    """A program without output has failed."""
    with pytest.raises(CorruptBlob, match="the source is empty, but must be a tar"):
        watched(b"", wanted=True)


def test_source_is_not_checked_if_it_is_not_a_layer() -> None:
    """`--no-tar`: complete or not."""
    assert watched(header(size=600), wanted=False) == header(size=600)


def test_timeout_and_close_are_passed_on() -> None:
    """A heartbeat is passed on, also before the first byte."""
    blocks = Blocks([None, header(), None, END])
    source = CompletenessCheck(blocks)
    got = [source.next_block(1.0) for _ in range(5)]
    assert [None if block is None else bytes(block) for block in got] == [
        None,
        header(),
        None,
        END,
        b"",
    ]
    source.close()
    assert blocks.closed


@pytest.mark.parametrize("length", [262, 300, 511])
def test_tar_cut_in_first_header_is_rejected(length: int) -> None:
    """The magic is at byte 257: a source that has it begins like a tar."""
    data = tar(entry("a", b"1"))[:length]
    with pytest.raises(CorruptBlob, match=f"cut short: after {length} bytes {512 - length} bytes"):
        watched(data)
    assert watched(data[:256]) == data[:256]


@pytest.mark.parametrize("make", [io.BytesIO, lambda data: [data]])
def test_stream_layer_checks_its_source(make: Callable[[bytes], io.BytesIO]) -> None:
    """`StreamLayer(tar=None)`: it fails, and so has no digest; `tar=False` takes it as it is."""
    from brolga.spec.blob import LayerState
    from brolga.stream.layer import StreamLayer

    data = tar(entry("a", b"1"))[:1024]
    layer = StreamLayer(make(data))
    with layer.open() as stream, pytest.raises(CorruptBlob, match="cut short"):
        stream.read()
    assert layer.state is LayerState.FAILED
    layer = StreamLayer(make(data), "none", tar=False)
    with layer.open() as stream:
        assert stream.read() == data
    assert layer.state is LayerState.DONE
