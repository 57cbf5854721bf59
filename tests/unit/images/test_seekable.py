"""seekable.py: a blob that is read at any position, and which ranges are requested for it."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest
from tests.tars import entry, tar

from brolga.errors import CorruptBlob, DigestMismatch, LayerError, TransportError
from brolga.images import BlockStream, InMemoryBlob, RangeOptions, SeekableBlob, StoredBlob
from brolga.images.seekable import hash_blocks
from brolga.spec.mediatypes import OCTET_STREAM
from brolga.spec.value import replace

if TYPE_CHECKING:
    from collections.abc import Generator

TEN = RangeOptions(block_size=10, cached_blocks=3, max_request=80)
DATA = bytes(range(200))


class Ranges:
    """The ranges that are requested of a blob, how far each was read, and how many are open."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.requested: list[tuple[int, int]] = []
        self.read: list[int] = []
        self.open = 0
        self.failure: BaseException | None = None

    def __call__(self, start: int, stop: int) -> BlockStream:
        self.requested.append((start, stop))
        return BlockStream(self._blocks(start, stop))

    def _blocks(self, start: int, stop: int) -> Generator[bytes, None, None]:
        number = len(self.read)
        self.read.append(0)
        self.open += 1
        try:
            for position in range(start, stop, 7):
                if self.failure is not None:
                    raise self.failure
                block = self.data[position : min(position + 7, stop)]
                self.read[number] += len(block)
                yield block
        finally:
            self.open -= 1


def stored(data: bytes, ranges: Ranges | None = None) -> StoredBlob:
    memory = InMemoryBlob(data, OCTET_STREAM)
    opener = ranges or Ranges(data)
    return StoredBlob(memory.descriptor, memory.open, is_verified=True, open_range=opener)


def opened(ranges: Ranges, options: RangeOptions = TEN) -> SeekableBlob:
    return SeekableBlob(InMemoryBlob(DATA, OCTET_STREAM).descriptor, ranges, options)


# --- A file


def test_seekable_blob_reads_as_a_file() -> None:
    """As `io.RawIOBase` says: `seek` and `tell`, and `read` up to the end."""
    with stored(DATA).open_seekable(options=TEN) as file:
        assert file.readable()
        assert file.seekable()
        assert not file.writable()
        assert file.read(15) == DATA[:15]
        assert file.tell() == 15
        assert file.seek(-5, os.SEEK_END) == 195
        assert file.read(15) == DATA[195:]
        assert file.read(1) == b""
        assert file.seek(-100, os.SEEK_CUR) == 100
        assert file.read() == DATA[100:]
        assert file.seek(1000) == 1000
        assert file.read(1) == file.read() == b""
        assert file.tell() == 1000
        assert file.seek(3) == 3
        buffer = bytearray(4)
        assert file.readinto(buffer) == 4
        assert buffer == DATA[3:7]
        assert file.readinto(bytearray()) == 0


def test_seek_to_a_negative_position_is_an_os_error() -> None:
    """As in a file: `zipfile` looks for the directory before the start of a short one."""
    with opened(Ranges(DATA)) as file:
        with pytest.raises(OSError, match="not negative"):
            file.seek(-201, os.SEEK_END)
        with pytest.raises(ValueError, match="whence is 0, 1 or 2, not 3"):
            file.seek(0, 3)
        assert file.tell() == 0


def test_closed_blob_is_a_value_error() -> None:
    """As with each file. Closing twice does nothing."""
    ranges = Ranges(DATA)
    file = opened(ranges)
    file.read(1)
    file.close()
    file.close()
    assert ranges.open == 0
    for use in (file.tell, file.readable, file.seekable, file.read, lambda: file.seek(0)):
        with pytest.raises(ValueError, match="closed"):
            use()
    with pytest.raises(ValueError, match="closed"):
        file.readinto(bytearray(1))


def test_empty_blob_makes_no_request() -> None:
    """There is nothing to request."""
    ranges = Ranges(b"")
    with stored(b"", ranges).open_seekable() as file:
        assert file.read() == file.read(1) == b""
    assert ranges.requested == []


@pytest.mark.parametrize("name", ["block_size", "cached_blocks", "max_request"])
def test_options_that_are_not_positive_are_value_errors(name: str) -> None:
    """A block without bytes would never end."""
    with pytest.raises(ValueError, match=f"{name} is not a positive number"):
        RangeOptions(**{name: 0})


# --- Requests


def test_one_read_is_one_request() -> None:
    """Whatever its length, rounded to whole blocks."""
    ranges = Ranges(DATA)
    with opened(ranges) as file:
        file.seek(25)
        assert file.read(100) == DATA[25:125]
    assert ranges.requested == [(20, 130)]


def test_reads_in_one_block_are_one_request() -> None:
    """The block is kept."""
    ranges = Ranges(DATA)
    with opened(ranges) as file:
        for position in (20, 29, 25, 21):
            file.seek(position)
            assert file.read(1) == DATA[position : position + 1]
    assert ranges.requested == [(20, 30)]
    assert ranges.open == 0


def test_requests_grow_while_blocks_are_read_in_order() -> None:
    """Each is for twice as many, up to `max_request` and the end of the blob."""
    ranges = Ranges(DATA)
    with opened(ranges) as file:
        assert b"".join(iter(lambda: file.read(3), b"")) == DATA
    assert ranges.requested == [(0, 10), (10, 30), (30, 70), (70, 150), (150, 200)]


def test_growth_begins_anew_after_a_jump() -> None:
    """A reader that jumps needs little in one place."""
    ranges = Ranges(DATA)
    with opened(ranges) as file:
        for position in (0, 10, 20, 100, 110, 0):
            file.seek(position)
            assert file.read(10) == DATA[position : position + 10]
    assert ranges.requested == [(0, 10), (10, 30), (100, 110), (110, 130), (0, 10)]


def test_response_is_read_only_as_far_as_it_is_needed() -> None:
    """A long range that is left costs little; the response is closed."""
    ranges = Ranges(DATA)
    with opened(ranges) as file:
        file.read(30)
        file.read(10)
        assert ranges.requested == [(0, 30), (30, 90)]
        assert ranges.open == 1
        file.seek(190)
        file.read(10)
        assert ranges.open == 0
    assert ranges.read[1] <= 14


def test_one_block_is_passed_rather_than_requested_past() -> None:
    """The next but one comes sooner from the open response than from a new one."""
    ranges = Ranges(DATA)
    with opened(ranges) as file:
        file.read(30)
        file.read(1)
        file.seek(55)
        assert file.read(1) == DATA[55:56]
        file.seek(45)
        assert file.read(1) == DATA[45:46]  # it was passed, and kept
        file.seek(85)
        assert file.read(1) == DATA[85:86]
    assert ranges.requested == [(0, 30), (30, 90), (80, 90)]


def test_cache_keeps_the_blocks_that_were_used_last() -> None:
    """The one that was used longest ago goes."""
    ranges = Ranges(DATA)
    with opened(ranges) as file:
        for position in (0, 50, 100, 0, 150, 0, 50):
            file.seek(position)
            file.read(1)
    assert [start for start, _ in ranges.requested] == [0, 50, 100, 150, 50]


def test_cache_of_one_block_is_enough() -> None:
    """Also if a block is passed."""
    ranges = Ranges(DATA)
    with opened(ranges, RangeOptions(block_size=10, cached_blocks=1, max_request=1)) as file:
        assert file.read() == DATA
        file.seek(0)
        file.read(1)
        file.seek(20)
        assert file.read(30) == DATA[20:50]


# --- Failures


@pytest.mark.parametrize(
    "failure",
    [TransportError("cut", reason="cut"), KeyboardInterrupt()],
    ids=["error", "interrupt"],
)
def test_read_after_a_failure_asks_again(failure: BaseException) -> None:
    """The position stays, and the response is closed."""
    ranges = Ranges(DATA)
    with opened(ranges) as file:
        file.read(10)
        ranges.failure = failure
        with pytest.raises(type(failure)):
            file.read(5)
        assert ranges.open == 0
        assert file.tell() == 10
        ranges.failure = None
        assert file.read(5) == DATA[10:15]
    assert ranges.requested == [(0, 10), (10, 30), (10, 20)]


def test_blob_that_is_shorter_than_its_descriptor_is_corrupt() -> None:
    """Else its end would be read as that of a shorter file."""
    with opened(Ranges(DATA[:95])) as file:
        file.seek(90)
        with pytest.raises(CorruptBlob, match="ends at byte 95, but its descriptor says 200"):
            file.read(1)


def test_blob_of_a_store_without_ranges_is_a_layer_error() -> None:
    """The error names the blob."""
    blob = replace(stored(DATA), open_range=None)
    with pytest.raises(LayerError, match=f"parts of {blob.descriptor.digest} cannot"):
        blob.open_seekable()


def test_data_of_a_descriptor_is_read_without_a_request() -> None:
    """`data` is the content (descriptor.md)."""
    blob = stored(b"abc")
    blob = replace(blob, descriptor=replace(blob.descriptor, data=b"abc"), open_range=None)
    with blob.open_seekable() as file:
        file.seek(1)
        assert file.read() == b"bc"


# --- Verified


@pytest.mark.parametrize("size", [1, 3, 10, 199, 200, 201])
def test_hash_blocks_is_the_same_for_any_blocks(size: int) -> None:
    """One hash for each block, the last one shorter."""
    hashes = hash_blocks([DATA], size)
    assert hash_blocks([DATA[:13], b"", DATA[13:50], DATA[50:]], size) == hashes
    assert len(hashes) == 32 * -(-len(DATA) // size)
    assert hash_blocks([], size) == b""


def test_verify_reads_all_first() -> None:
    """A wrong byte anywhere is an error before anything is read."""
    with stored(DATA).open_seekable(verify=True, options=TEN) as file:
        file.seek(55)
        assert file.read(100) == DATA[55:155]
        assert file.seek(0) == 0
        assert file.read() == DATA
    wrong = replace(stored(DATA), opener=InMemoryBlob(b"x" + DATA[1:], "").open, is_verified=False)
    with pytest.raises(DigestMismatch):
        wrong.open_seekable(verify=True)


def test_block_that_changed_after_it_was_verified_is_a_digest_mismatch() -> None:
    """Else `verify` would promise what it cannot keep."""
    ranges = Ranges(DATA)
    with stored(DATA, ranges).open_seekable(verify=True, options=TEN) as file:
        ranges.data = DATA[:55] + b"x" + DATA[56:]
        assert file.read(50) == DATA[:50]
        with pytest.raises(DigestMismatch, match=r"from 50 to 60 have changed since"):
            file.read(1)
        file.seek(60)
        assert file.read(1) == DATA[60:61]


# --- Readers of the standard library


def test_member_of_a_tar_is_read_with_few_requests() -> None:
    """64 members of 1 MiB: the headers before it, and the member."""
    data = tar(*(entry(f"{number}", bytes([number]) * (1 << 20)) for number in range(64)))
    ranges = Ranges(data)
    options = RangeOptions(block_size=1 << 16)
    with (
        stored(data, ranges).open_seekable(options=options) as file,
        tarfile.open(fileobj=io.BufferedReader(file, 512)) as archive,
    ):
        member = archive.extractfile("40")
        assert member is not None
        assert member.read() == bytes([40]) * (1 << 20)
    assert len(ranges.requested) <= 64 + 6
    assert sum(ranges.read) < 8 << 20


def test_member_of_a_zip_is_read_with_few_requests() -> None:
    """`zipfile` reads the directory at the end, and the member."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(64):
            archive.writestr(f"{number}", bytes([number]) * (1 << 20))
    ranges = Ranges(out.getvalue())
    with (
        stored(out.getvalue(), ranges).open_seekable() as file,
        zipfile.ZipFile(file) as archive,
    ):
        assert archive.read("40") == bytes([40]) * (1 << 20)
    assert len(ranges.requested) <= 4
    assert sum(ranges.read) < 6 << 20
    with stored(b"short").open_seekable() as file, pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(file)
