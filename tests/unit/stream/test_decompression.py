"""stream/decompression.py: the output of any compressor is read, other bytes are rejected."""

from __future__ import annotations

import gzip
import io
import random
import sys
import zlib
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

from brolga.errors import CorruptBlob
from brolga.spec.mediatypes import detect_compression
from brolga.stream.compression import codec_for
from brolga.stream.decompression import Limits, decompress

if TYPE_CHECKING:
    from collections.abc import Callable

ZSTD = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
# RFC 8878, section 3.1.2: a magic number, a size, and bytes for whom they concern.
SKIPPABLE = b"\x5a\x2a\x4d\x18\x04\x00\x00\x00note"

UNLIMITED = Limits(None, None)
# How each compression is written.
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": ZSTD.compress,
    "none": bytes,
}
# Which libraries are here: of the first that is not None is made use.
LIBRARIES = [[], ["isal"], ["isal", "zlib_ng"]]


@pytest.fixture(scope="module")
def text() -> bytes:
    """Words, some 700 kB."""
    words = random.Random(2)
    return b" ".join(b"%d" % words.randrange(9999) for _ in range(150_000))


@pytest.fixture(params=LIBRARIES, ids=["isal", "zlib-ng", "zlib"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take libraries away."""
    for name in request.param:
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setitem(
            sys.modules, {"isal": "isal.isal_zlib", "zlib_ng": "zlib_ng.zlib_ng"}[name], None
        )


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def out(data: bytes, size: int = 1 << 20, limits: Limits = UNLIMITED) -> bytes:
    return b"".join(decompress(cut(data, size), limits))


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("name", PACK)
@pytest.mark.parametrize("size", [1, 7, 10_000, 1 << 20])
def test_decompress_does_not_depend_on_block_sizes(name: str, size: int, text: bytes) -> None:
    """The uncompressed bytes do not depend on the blocks that the compressed ones come in."""
    data = text[:3000] if size < 10 else text
    assert out(PACK[name](data), size) == data


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("name", PACK)
@pytest.mark.parametrize("data", [b"", b"x"])
def test_decompress_empty_stream_and_one_byte(name: str, data: bytes) -> None:
    """An empty layer is valid, compressed or not."""
    assert out(PACK[name](data)) == data


def test_decompress_accepts_empty_blocks_and_views() -> None:
    """A heartbeat is an empty block; a block may be a view."""
    data = gzip.compress(b"some bytes")
    assert b"".join(decompress([b"", data[:2], b"", memoryview(data)[2:], b""])) == b"some bytes"
    assert b"".join(decompress([b"", memoryview(b"so"), b"", memoryview(b"me")])) == b"some"


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("name", ["gzip", "zstd"])
@pytest.mark.parametrize("size", [1, 13, 1 << 20])
def test_decompress_joins_members_and_frames(name: str, size: int) -> None:
    """A gzip file is a series of members (RFC 1952, 2.2), a zstd one of frames (RFC 8878, 3.1)."""
    parts = [b"one", b"", b"two" * 100, b""]
    assert out(b"".join(map(PACK[name], parts)), size) == b"".join(parts)


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_decompress_many_small_members_in_one_block(name: str) -> None:
    """Layers that can be read at random have a member for each file."""
    members = PACK[name](b"member") * 20_000
    assert b"".join(decompress([members], UNLIMITED)) == b"member" * 20_000


@pytest.mark.parametrize("stream", ["gzip:1", "gzip:6", "zstd:3"])
def test_decompress_reads_own_codecs(stream: str, text: bytes) -> None:
    """Our own streams are read as all others are."""
    name, _, level = stream.partition(":")
    codec = codec_for(name, int(level))
    trailer = codec.trailer()
    trailer.update(text)
    assert codec.encode is not None
    assert out(codec.head + codec.encode(text, b"") + trailer.end()) == text


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("flags", range(32))
@pytest.mark.parametrize("size", [1, 2, 5, 11, 13, 1000])
def test_decompress_gzip_header_with_optional_fields(flags: int, size: int) -> None:
    """RFC 1952, section 2.3: extra field, name, comment and CRC16 may stand before the data."""
    head = b"\x1f\x8b\x08%c" % flags + bytes(6)
    for flag, part in ((4, b"\x03\x00ext"), (8, b"name\x00"), (16, b"comment\x00")):
        head += part if flags & flag else b""
    head += (zlib.crc32(head) & 0xFFFF).to_bytes(2, "little") if flags & 2 else b""
    member = head + gzip.compress(b"data" * 50)[10:]
    assert out(member * 3, size) == b"data" * 150


@pytest.mark.parametrize("place", ["before", "after", "alone"])
def test_decompress_skips_skippable_frames(place: str) -> None:
    """RFC 8878, section 3.1.2: skippable frames may come between frames."""
    frame = ZSTD.compress(b"data")
    stream = {"before": SKIPPABLE + frame, "after": frame + SKIPPABLE, "alone": SKIPPABLE}[place]
    assert out(stream, 3) == (b"" if place == "alone" else b"data")


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"", "none"),
        (b"\x1f", "none"),
        (b"\x1f\x8b\x00\x00", "none"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\x50\x2a\x4d\x18", "zstd"),
        (b"\x5f\x2a\x4d\x18", "zstd"),
        (b"\x60\x2a\x4d\x18", "none"),
        (b"etc/", "none"),
    ],
)
def test_detect_compression_by_first_bytes(head: bytes, name: str) -> None:
    """Not the media type, which may be wrong: magic numbers of RFC 1952 and RFC 8878."""
    assert detect_compression(head) == name


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("name", ["gzip", "zstd"])
@pytest.mark.parametrize("missing", [1, 8, 9, 100])
def test_decompress_rejects_truncated_stream(name: str, missing: int, text: bytes) -> None:
    """A stream that is cut short is never taken for a whole one."""
    data = PACK[name](text)[:-missing]
    with pytest.raises(CorruptBlob, match=f"the {name} stream is cut short"):
        out(data)


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_decompress_rejects_truncated_second_member(name: str) -> None:
    """Each member must be whole."""
    with pytest.raises(CorruptBlob, match="cut short"):
        out(PACK[name](b"one") + PACK[name](b"two")[:-2])


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("name", ["gzip", "zstd"])
@pytest.mark.parametrize("garbage", [b"garbage that is no member", bytes(600), b"\x1f\x8b"])
def test_decompress_rejects_trailing_bytes(name: str, garbage: bytes) -> None:
    """Readers differ on trailing bytes, zeros too: they are refused."""
    with pytest.raises(CorruptBlob):
        out(PACK[name](b"data") + garbage)


@pytest.mark.usefixtures("library")
def test_decompress_rejects_wrong_checksum(text: bytes) -> None:
    """RFC 1952, section 2.3.1: CRC32 and ISIZE."""
    data = bytearray(gzip.compress(text))
    data[-6] ^= 1
    with pytest.raises(CorruptBlob, match=r"no valid gzip within \d+ bytes, \d+ uncompressed"):
        out(bytes(data))


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_decompress_yields_blocks_of_bounded_size(name: str) -> None:
    """Memory does not depend on how much a few bytes grow to."""
    data = PACK[name](bytes(30 << 20))
    sizes = [len(block) for block in decompress([data], UNLIMITED)]
    assert sum(sizes) == 30 << 20
    assert max(sizes) <= 1 << 20


@pytest.mark.parametrize("name", PACK)
def test_decompress_rejects_size_over_limit(name: str) -> None:
    """A bomb is stopped by a cap on the uncompressed size."""
    data = PACK[name](bytes(1000))
    assert len(out(data, limits=Limits(size=1000))) == 1000
    with pytest.raises(CorruptBlob, match="more than 999 bytes uncompressed"):
        out(data, limits=Limits(size=999))


def test_decompress_rejects_ratio_over_limit() -> None:
    """The ratio is capped, but by the user's word; it counts from `grace` bytes on."""
    data = ZSTD.compress(bytes(4 << 20))
    assert len(out(data, limits=Limits(grace=4 << 20))) == 4 << 20
    assert len(out(data, limits=Limits(ratio=None, grace=0))) == 4 << 20
    with pytest.raises(CorruptBlob, match=r"\d+ bytes grew to \d+, more than 1100 for each"):
        out(data, limits=Limits(grace=2 << 20))


def test_default_ratio_permits_any_gzip() -> None:
    """Deflate's maximum is 1,032, so a file of zeros is not refused."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    data = packer.compress(bytes(16 << 20)) + packer.flush()
    assert len(out(data, limits=Limits(grace=0))) == 16 << 20


def test_decompress_reads_input_lazily() -> None:
    """Blocks are pulled one by one, as the output is asked for."""
    pulled = io.BytesIO(gzip.compress(random.Random(3).randbytes(4 << 20)))
    blocks = decompress(iter(lambda: pulled.read(1 << 16), b""))
    next(blocks)
    assert pulled.tell() <= 1 << 17
