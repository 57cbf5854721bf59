"""A blob that is read at any position gives the bytes of a file, whatever is done with it."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from brolga.images import BlockStream, InMemoryBlob, RangeOptions, SeekableBlob
from brolga.spec.mediatypes import OCTET_STREAM

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = bytes(range(251)) * 4

options = st.builds(RangeOptions, st.integers(1, 300), st.integers(1, 5), st.integers(1, 2000))
positions = st.integers(0, len(DATA) + 20)
uses: st.SearchStrategy[tuple[str, int]] = st.one_of(
    st.tuples(st.just("seek"), positions),
    st.tuples(st.just("from end"), positions),
    st.tuples(st.just("read"), st.integers(-1, 400)),
    st.tuples(st.just("readinto"), st.integers(0, 400)),
)


def readinto(file: io.RawIOBase | io.BytesIO, size: int) -> tuple[int | None, bytes]:
    buffer = bytearray(size)
    return file.readinto(buffer), bytes(buffer)


USES: dict[str, Callable[[io.RawIOBase | io.BytesIO, int], object]] = {
    "seek": lambda file, number: file.seek(number),
    "from end": lambda file, number: file.seek(-min(number, len(DATA)), os.SEEK_END),
    "read": lambda file, number: file.read(number),
    "readinto": readinto,
}


@given(st.integers(0, len(DATA)), options, st.lists(uses, max_size=30))
def test_seeks_and_reads_are_those_of_bytes_in_memory(
    size: int, chosen: RangeOptions, drawn: list[tuple[str, int]]
) -> None:
    """Each range is within the blob, and begins with a block."""
    data = DATA[:size]
    blob = InMemoryBlob(data, OCTET_STREAM)
    requested: list[tuple[int, int]] = []

    def open_range(start: int, stop: int) -> BlockStream:
        requested.append((start, stop))
        return blob.open_range(start, stop)

    expected = io.BytesIO(data)
    with SeekableBlob(blob.descriptor, open_range, chosen) as file:
        for name, number in drawn:
            if name == "from end":
                number = min(number, size)  # noqa: PLW2901 - files differ before the start
            assert USES[name](file, number) == USES[name](expected, number)
            assert file.tell() == expected.tell()
    assert all(0 <= start < stop <= size for start, stop in requested)
    assert all(start % chosen.block_size == 0 for start, _ in requested)
