"""stream/compression.py: codecs as pure functions over blocks."""

from __future__ import annotations

import gc
import gzip
import random
import sys
import weakref
import zlib
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from tests.formats import DECOMPRESS

from brolga.stream import compression
from brolga.stream.compression import BLOCK_SIZE, WINDOW_SIZE, codec_for, parse_compression
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from collections.abc import Iterable

ALL = [("gzip", level) for level in range(1, 10)] + [("zstd", 1), ("zstd", 3), ("zstd", 19)]


def encoded(name: str, level: int | None, blocks: Iterable[bytes]) -> bytes:
    """Encode in the plainest way: one block after the other."""
    codec = codec_for(name, level)
    trailer, window, out = codec.trailer(), b"", codec.head
    for block in blocks:
        trailer.update(block)
        out += codec.encode(block, window) if codec.encode else block
        window = block[-WINDOW_SIZE:]
    return out + trailer.end()


@pytest.fixture(scope="module")
def text() -> bytes:
    """Three blocks of words, so that the window before a block is worth having."""
    words = random.Random(1)
    return b" ".join(b"%d" % words.randrange(5000) for _ in range(600_000))[: 2 * BLOCK_SIZE + 77]


def cut(data: bytes) -> list[bytes]:
    return [data[at : at + BLOCK_SIZE] for at in range(0, len(data), BLOCK_SIZE)]


@pytest.mark.parametrize(("name", "level"), ALL)
def test_encode_round_trips_at_every_level(name: str, level: int, text: bytes) -> None:
    """Any reader of the format takes the output as one stream (RFC 1952, RFC 8878)."""
    data = text if level < 9 else text[: BLOCK_SIZE + 5]
    out = encoded(name, level, cut(data))
    assert DECOMPRESS[name](out) == data
    assert len(out) < 0.7 * len(data)


@pytest.mark.parametrize(("name", "level"), [("gzip", 1), ("gzip", 6), ("zstd", 3), ("none", None)])
@pytest.mark.parametrize("data", [b"", b"x"])
def test_codec_ends_empty_stream_validly(name: str, level: int | None, data: bytes) -> None:
    """An empty stream is legal and gives a valid layer."""
    out = encoded(name, level, [data] if data else [])
    assert DECOMPRESS[name](out) == data
    assert out or name == "none"


def test_encode_incompressible_block() -> None:
    """Random bytes are stored, and grow by a few bytes a block."""
    noise = random.Random(5).randbytes(2 * BLOCK_SIZE)
    for level in (1, 2, 3):
        out = encoded("gzip", level, cut(noise))
        assert gzip.decompress(out) == noise
        assert len(out) < len(noise) * 1.001


def test_gzip_header_has_no_time_or_name() -> None:
    """The same input gives the same bytes on another day (RFC 1952, section 2.3: FLG, MTIME)."""
    head = encoded("gzip", 1, [b"x"])[:10]
    assert head == b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


def test_gzip_output_is_one_member(text: bytes) -> None:
    """A reader that stops after the first member has read all (RFC 1952, section 2.2)."""
    reader = zlib.decompressobj(wbits=31)
    assert reader.decompress(encoded("gzip", 1, cut(text))) == text
    assert reader.eof
    assert reader.unused_data == b""


def test_encode_uses_window() -> None:
    """Deflate looks back 32 KiB across the border of a block (RFC 1951, section 2)."""
    encode = codec_for("gzip", 6).encode
    assert encode is not None
    noise = random.Random(2).randbytes(20_000)
    assert len(encode(noise, noise)) < len(encode(noise, b"")) / 10


def test_gzip_trailer_size_is_modulo_4_gib() -> None:
    """ISIZE is the size modulo 2**32 (RFC 1952, section 2.3.1)."""
    trailer = compression._GzipTrailer(zlib.crc32)
    trailer._size = 2**32 - 1
    trailer.update(b"abc")
    assert trailer.end()[-4:] == (2).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("missing", "level", "used"),
    [
        ((), 1, "isal.isal_zlib"),
        ((), 6, "zlib_ng.zlib_ng"),
        (("isal.isal_zlib",), 1, "zlib_ng.zlib_ng"),
        (("isal.isal_zlib", "zlib_ng.zlib_ng"), 1, "zlib"),
    ],
)
def test_codec_falls_back_if_library_is_missing(
    missing: tuple[str, ...],
    level: int,
    used: str,
    monkeypatch: pytest.MonkeyPatch,
    text: bytes,
) -> None:
    """The library is isal for levels 1 to 3, zlib-ng above or without isal, zlib without either."""
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    assert compression._deflater(level)[1] is import_module(used).crc32
    assert gzip.decompress(encoded("gzip", level, cut(text))) == text


def test_zstd_uses_standard_library_or_backport(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """compression.zstd is Python 3.14's own; before it, backports.zstd is the same code."""
    monkeypatch.setitem(sys.modules, "compression.zstd", import_module("backports.zstd"))
    assert DECOMPRESS["zstd"](encoded("zstd", 3, [b"abc"])) == b"abc"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gzip", ("gzip", None)),
        ("gzip:9", ("gzip", 9)),
        ("zstd:19", ("zstd", 19)),
        ("none", ("none", None)),
    ],
)
def test_parse_compression_splits_name_and_level(
    text: str, expected: tuple[str, int | None]
) -> None:
    """The command line says NAME[:LEVEL]."""
    assert parse_compression(text) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("bzip2", "'bzip2' is not one of gzip, zstd, none"),
        ("", "'' is not one of"),
        ("gzip:0", "gzip has levels 1 to 9, not 0"),
        ("gzip:10", "not 10"),
        ("zstd:23", "zstd has levels 1 to 22, not 23"),
        ("gzip:", "the level '' is not a number"),
        ("gzip:x", "the level 'x' is not a number"),
        ("gzip:-1", "the level '-1' is not a number"),
        ("gzip:٣", "is not a number"),
        ("none:0", "compression none has no level"),
    ],
)
def test_parse_compression_rejects_unknown_name_or_level(text: str, why: str) -> None:
    """Bad input gets a clear error that names what would be right."""
    with pytest.raises(ValueError, match=why):
        parse_compression(text)


@pytest.mark.parametrize("level", [1, 3])
def test_codec_frees_buffers_with_its_threads(monkeypatch: pytest.MonkeyPatch, level: int) -> None:
    """A finished layer keeps its codec: a list of them must not grow by MiBs each."""
    isal_zlib = pytest.importorskip("isal.isal_zlib")
    buffers: weakref.WeakSet[Any] = weakref.WeakSet()

    class Compressor:
        """isal's, which takes no weak reference itself."""

        def __init__(self, *arguments: Any) -> None:
            self.compress_and_crc = original(*arguments).compress_and_crc
            buffers.add(self)

    original = isal_zlib._ParallelCompress
    monkeypatch.setattr(isal_zlib, "_ParallelCompress", Compressor)
    layer = StreamLayer([b"x" * BLOCK_SIZE] * 4, level=level, threads=2)
    with layer.open() as stream:
        assert stream.read(2000)  # more than the head: a block has been compressed
        assert buffers
        assert stream.read()
    del stream
    gc.collect()
    assert layer.size
    assert not buffers
