"""stream/iterables.py: Python code as a source, read in the thread of the reader."""

from __future__ import annotations

import gzip
import io
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.stream.block_sources import DATA, SIZE, assert_whole, pieces, read

from brolga.errors import SourceError
from brolga.stream.sources import (
    open_source,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.mark.parametrize("size", [1, 7, 999, 1000, 1001, 2500, len(DATA)])
def test_iterable_is_cut_into_blocks_of_one_size(size: int) -> None:
    """Blocks of the source may have any size."""
    assert_whole(read(pieces(size)))


def test_empty_piece_does_not_end_iterable() -> None:
    """Only its end is its end."""
    assert read([b"", b"a", b"", b"", b"b", b""]) == [b"ab"]


@pytest.mark.parametrize(
    "kind", [bytes, bytearray, memoryview, lambda data: memoryview(data)[::1].cast("b")]
)
def test_iterable_of_any_buffer_type(kind: Any) -> None:
    """A block is bytes-like: what the buffer protocol gives."""
    assert read([kind(b"ab"), kind(b"c")]) == [b"abc"]


def test_refilled_buffer_is_copied() -> None:
    """`readinto` into one bytearray is a common way to read: the blocks before must not change."""

    def refilled() -> Iterator[bytearray]:
        buffer = bytearray(SIZE)
        for value in range(5):
            buffer[:] = bytes([value]) * SIZE
            yield buffer

    opened = open_source(refilled(), SIZE)
    kept = []
    while block := opened.next_block(0):
        kept.append(block)
    assert [block[0] for block in kept] == [0, 1, 2, 3, 4]
    opened.close()


@pytest.mark.parametrize("opener", [io.BytesIO, lambda data: io.BufferedReader(io.BytesIO(data))])
def test_file_of_python_code_is_read(opener: Any) -> None:
    """All that is asked of a file object is `read`."""
    with opener(DATA) as file:
        assert_whole(read(file))


def test_gzip_file_yields_decompressed_bytes(tmp_path: Path) -> None:
    """GzipFile has a fileno, of the compressed file: reading that would give other bytes."""
    with gzip.open(tmp_path / "data.gz", "wb") as out:
        out.write(DATA)
    with gzip.open(tmp_path / "data.gz", "rb") as file:
        assert_whole(read(file))


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (["text"], "gave str where bytes were expected"),
        ([1], "gave int where"),
        ([None], "gave NoneType where"),
        ([[1, 2]], "gave list where"),
    ],
)
def test_open_source_raises_if_first_piece_is_not_bytes(source: Any, why: str) -> None:
    """Before anything is sent."""
    with pytest.raises(SourceError, match=why):
        open_source(source, SIZE)


def test_open_source_raises_if_read_returns_text() -> None:
    """An object with `read` promises bytes, empty at the end."""

    class Text:
        def read(self, size: int) -> str:
            return "x" * size

    with pytest.raises(SourceError, match="gave str"):
        open_source(Text(), SIZE)  # type: ignore[arg-type] # what is tested


@pytest.mark.parametrize("k", [0, 1, 3])
def test_error_of_iterable_is_cause_of_source_error(k: int) -> None:
    """The error has the position and the reason."""

    def failing() -> Iterator[bytes]:
        yield from [b"x" * SIZE] * k
        raise RuntimeError("the cursor is closed")

    with pytest.raises(
        SourceError, match=f"after {k * SIZE} bytes: RuntimeError: the cur"
    ) as caught:
        read(failing())
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_keyboard_interrupt_in_source_propagates() -> None:
    """Ctrl-C is not an error of the source."""

    def interrupted() -> Iterator[bytes]:
        yield b"x" * SIZE * 2
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read(interrupted())


def test_iterable_runs_in_reading_thread() -> None:
    """The user's code runs in the user's thread alone."""
    threads = []

    def noting() -> Iterator[bytes]:
        for _ in range(3):
            threads.append(threading.current_thread())
            yield b"x" * SIZE

    read(noting())
    assert set(threads) == {threading.current_thread()}


def test_stop_iteration_in_read_is_source_error() -> None:
    """A `read` that lets its own StopIteration out has failed (PEP 479 says so of generators)."""

    class Careless:
        parts = iter([b"a"])

        def read(self, size: int) -> bytes:
            return next(self.parts)

    with pytest.raises(SourceError, match="after 1 bytes: StopIteration"):
        read(Careless())


def test_length_that_does_not_count_down_is_ignored() -> None:
    """In gridfs.GridOut `length` is the total length."""

    class Stored(io.BytesIO):
        length = len(DATA)

    assert_whole(read(Stored(DATA)))
