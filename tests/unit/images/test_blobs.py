"""blobs.py: blobs that can be read again, and how they are read."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from brolga.errors import DigestMismatch, NotComputed
from brolga.images import BlockStream, InMemoryBlob, StoredBlob
from brolga.images.blobs import verified_blocks
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import OCI_CONFIG, OCI_LAYER
from brolga.spec.value import replace

if TYPE_CHECKING:
    from collections.abc import Generator


def blocks(*pieces: bytes) -> Generator[bytes, None, None]:
    """Give the pieces."""
    yield from pieces


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 100])
def test_block_stream_reads_as_file(size: int) -> None:
    """`read(n)` gives n bytes, fewer at the end only, and none after it."""
    pieces = [b"ab", b"c", b"defgh"]
    plain = io.BytesIO(b"".join(pieces))
    with BlockStream(blocks(*pieces)) as stream:
        while expected := plain.read(size):
            assert stream.read(size) == expected
        assert stream.read(size) == b""
        assert stream.read() == b""


def test_block_stream_iterates_over_rest_after_read() -> None:
    """Reading and iterating continue after each other."""
    stream = BlockStream(blocks(b"abc", b"def"))
    assert stream.read(0) == b""
    assert stream.read(1) == b"a"
    assert next(iter(stream)) == b"bc"
    assert stream.read() == b"def"
    assert list(stream.blocks()) == []


def test_close_closes_generator_of_blocks() -> None:
    """The generator of the blocks is closed too."""
    ended = []

    def given() -> Generator[bytes, None, None]:
        try:
            yield b"a"
            yield b"b"
        finally:
            ended.append(True)

    with BlockStream(given()) as stream:
        assert stream.read(1) == b"a"
    assert ended == [True]
    assert stream.read() == b""


def test_in_memory_blob_has_descriptor_and_blocks() -> None:
    """Its descriptor is computed, its bytes come in blocks of 1 MiB; they are not in a repr."""
    data = bytes(range(256)) * 4096 + b"end"
    blob = InMemoryBlob(data, OCI_CONFIG)
    assert blob.descriptor.digest == Digest.of(data)
    assert (blob.descriptor.media_type, blob.descriptor.size) == (OCI_CONFIG, len(data))
    with blob.open() as stream:
        assert [len(block) for block in stream] == [1 << 20, 3]
    assert "end" not in repr(blob)


def test_stored_blob_opens_each_time() -> None:
    """Its DiffID is that of the config; without a config it is not known."""
    descriptor = InMemoryBlob(b"abc", OCI_LAYER).descriptor
    layer = StoredBlob(descriptor, lambda: BlockStream(blocks(b"abc")))
    for _ in range(2):
        with layer.open() as stream:
            assert b"".join(stream.blocks()) == b"abc"
    assert layer.media_type == OCI_LAYER
    with pytest.raises(NotComputed, match=f"the DiffID of {descriptor.digest} is not known"):
        _ = layer.diff_id
    known = StoredBlob(descriptor, layer.opener, diff_id_of=lambda: descriptor.digest)
    assert known.diff_id == descriptor.digest


def test_readinto_fills_buffer() -> None:
    """`io.BufferedReader` fills buffers; a heartbeat does not end the stream."""
    stream, buffer = BlockStream(blocks(b"ab", b"", b"cde")), bytearray(4)
    assert (stream.readinto(buffer), bytes(buffer)) == (4, b"abcd")
    assert (stream.readinto(buffer), bytes(buffer[:1])) == (1, b"e")
    assert stream.readinto(buffer) == 0
    closed = BlockStream(blocks(b"ab"))
    assert closed.read(1) == b"a"
    closed.close()
    assert closed.read() == b""


def test_verified_blocks_raises_for_other_bytes() -> None:
    """The digest is compared at the end, unless the store's stream does that itself."""
    right, wrong = InMemoryBlob(b"a", "application/x"), InMemoryBlob(b"b", "application/x")
    blob = StoredBlob(right.descriptor, wrong.open)
    with blob.open() as stream, pytest.raises(DigestMismatch):
        list(verified_blocks(blob, stream))
    trusted = replace(blob, is_verified=True)
    with trusted.open() as stream:
        assert b"".join(map(bytes, verified_blocks(trusted, stream))) == b"b"
