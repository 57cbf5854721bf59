"""blobs.uncompressed: decompressed ahead in a thread, and verified before the last bytes come."""

from __future__ import annotations

import gzip
import sys
import threading
from importlib import import_module
from typing import TYPE_CHECKING

import pytest
from tests.threads import none_left

from brolga.errors import CorruptBlob, DigestMismatch
from brolga.images import BlockStream, InMemoryBlob, StoredBlob, TitledBlob, uncompressed
from brolga.spec.mediatypes import DOCKER_LAYER_GZIP, OCI_LAYER, OCI_LAYER_GZIP, OCTET_STREAM
from brolga.spec.value import Value, replace
from brolga.stream.decompression import Limits
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from brolga.spec.blob import Block
    from brolga.spec.descriptor import Descriptor

ZSTD = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
DATA = b"".join(b"%d\n" % number for number in range(500_000))  # more than three blocks
HALF = len(DATA) // 2
PACKED: dict[str, bytes] = {
    "gzip": gzip.compress(DATA, 1),
    "gzip members": gzip.compress(DATA[:HALF], 1) + gzip.compress(DATA[HALF:], 1),
    "zstd": ZSTD.compress(DATA),
    "zstd frames": ZSTD.compress(DATA[:HALF]) + ZSTD.compress(DATA[HALF:]),
    "none": DATA,
}


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Check that a test ends each thread that it began."""
    yield
    assert none_left()


def stored(
    data: bytes, *blocks: bytes, media_type: str = OCI_LAYER, is_verified: bool = False
) -> StoredBlob:
    """Return a blob of a store that gives these blocks; by default the data, in small ones."""

    def given() -> Generator[bytes, None, None]:
        yield from blocks or (data[at : at + 60_000] for at in range(0, len(data), 60_000))

    descriptor = InMemoryBlob(data, media_type).descriptor
    return StoredBlob(descriptor, lambda: BlockStream(given()), is_verified=is_verified)


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("media_type", [OCI_LAYER, OCI_LAYER_GZIP, DOCKER_LAYER_GZIP])
def test_uncompressed_bytes_of_a_layer_do_not_depend_on_its_media_type(
    name: str, media_type: str
) -> None:
    """Runtimes look at the first bytes too, as the types of published images are wrong."""
    with stored(PACKED[name], media_type=media_type).uncompressed() as stream:
        assert stream.read(10) == DATA[:10]
        assert stream.read() == DATA[10:]
        assert stream.read(1) == b""


def test_uncompressed_bytes_in_memory() -> None:
    """A blob that was not pushed yet has them too."""
    with InMemoryBlob(PACKED["zstd"], OCI_LAYER).uncompressed() as stream:
        assert b"".join(stream) == DATA
    with InMemoryBlob(b"", OCI_LAYER).uncompressed() as stream:
        assert stream.read() == b""


@pytest.mark.parametrize(
    ("suffix", "expected"), [("", PACKED["gzip"]), ("+gzip", DATA)], ids=["none", "gzip"]
)
def test_media_type_tells_the_compression_of_what_is_no_layer(suffix: str, expected: bytes) -> None:
    """A file that was gzip when it was pushed is a file in gzip."""
    blob = stored(PACKED["gzip"], media_type=OCTET_STREAM + suffix)
    with uncompressed(blob) as stream:
        assert stream.read() == expected
    with uncompressed(blob, compression="none") as stream:
        assert stream.read() == PACKED["gzip"]
    with uncompressed(TitledBlob(blob, "a")) as stream:
        assert stream.read() == expected


# --- Verified


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("is_verified", [True, False], ids=["by the store", "here"])
def test_last_block_comes_after_the_digest_was_verified(name: str, is_verified: bool) -> None:
    """The end of gzip and zstd has no data: all of it came out before the last compressed block.

    A reader that stops at the size, or that takes a tar's end for the end, still gets the error.
    """
    right = PACKED[name]
    blob = stored(right)

    def given() -> Generator[bytes, None, None]:
        yield right[:-8]
        yield right[-8:]
        if is_verified:
            raise DigestMismatch("", expected="")

    descriptor = blob.descriptor
    if not is_verified:
        descriptor = InMemoryBlob(b"other", OCI_LAYER).descriptor
    blob = StoredBlob(descriptor, lambda: BlockStream(given()), is_verified=is_verified)
    read = 0
    with blob.uncompressed() as stream, pytest.raises(DigestMismatch):
        while True:
            read += len(stream.read(1000))
            assert read < len(DATA)


def test_corrupt_bytes_raise_in_the_reader() -> None:
    """What comes before them is read."""
    data = PACKED["gzip"][:-100]
    with stored(data).uncompressed() as stream:
        assert stream.read(100) == DATA[:100]
        with pytest.raises(CorruptBlob, match="cut short"):
            stream.read()


def test_limits_bound_the_uncompressed_size() -> None:
    """Else a small blob fills the memory of a careless reader."""
    with (
        stored(PACKED["zstd"]).uncompressed(Limits(size=1000)) as stream,
        pytest.raises(CorruptBlob, match="more than 1000 bytes"),
    ):
        stream.read()


# --- Threads


class _OwnBlob(Value):
    """A blob of the user's own."""

    blob: StoredBlob
    threads: list[str]

    @property
    def descriptor(self) -> Descriptor:
        return self.blob.descriptor

    def open(self) -> BlockStream:
        def given() -> Generator[Block, None, None]:
            self.threads.append(threading.current_thread().name)
            with self.blob.open() as stream:
                yield from stream

        return BlockStream(given())


def test_user_code_runs_in_the_thread_of_the_reader() -> None:
    """A cursor of a database, or a context variable, belongs to the thread of its owner."""
    blob = _OwnBlob(stored(PACKED["gzip"]), [])
    with uncompressed(blob) as stream:
        assert stream.read() == DATA
    assert blob.threads == [threading.current_thread().name]


def test_digest_of_a_stream_is_computed_while_it_is_read() -> None:
    """Nothing is verified that is not known yet."""
    layer = StreamLayer([DATA], "gzip")
    with uncompressed(layer) as stream:
        assert stream.read() == DATA
    assert layer.diff_id == InMemoryBlob(DATA, OCI_LAYER).descriptor.digest


@pytest.mark.parametrize("count", [0, 10], ids=["not read", "read a little"])
def test_close_ends_the_thread_and_closes_the_blob(count: int) -> None:
    """Also if the thread waits for the reader."""
    events: list[str] = []

    def given() -> Generator[bytes, None, None]:
        events.append("opened")
        try:
            while True:
                yield bytes(1 << 20)
        finally:
            events.append("closed")

    blob = replace(stored(b""), opener=lambda: BlockStream(given()))
    with blob.uncompressed() as stream:
        assert stream.read(count) == bytes(count)
    assert events == (["opened", "closed"] if count else [])


def test_blob_is_decompressed_ahead_in_another_thread() -> None:
    """The reader works with one block, the thread with the next ones."""
    more = threading.Event()

    def given() -> Generator[bytes, None, None]:
        for _ in range(3):
            yield bytes(1 << 20)
        more.set()
        yield b"end"

    data = bytes(3 << 20) + b"end"
    blob = replace(stored(data), opener=lambda: BlockStream(given()))
    with blob.uncompressed() as stream:
        assert stream.read(1) == b"\0"
        assert more.wait(30)
        assert stream.read() == data[1:]
