"""stream/replay.py: bytes that may have to be sent again."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brolga.errors import SourceError
from brolga.stream.replay import MemoryBuffer, ReplayableBody, ReplayBuffer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

DATA = b"abcdefghij"
BLOCKS = (b"abc", b"", b"defg", b"h", b"ij")


def joined(blocks: Iterable[bytes | memoryview]) -> bytes:
    """Return the bytes of blocks."""
    return b"".join(blocks)


def replayable(
    buffer: ReplayBuffer,
    reopen: Callable[[], Iterator[bytes]] | None = None,
    blocks: Iterable[bytes] = BLOCKS,
) -> ReplayableBody:
    """Return a body of DATA."""
    return ReplayableBody(blocks, buffer, reopen)


# --- MemoryBuffer


def test_memory_buffer_keeps_last_bytes_in_whole_blocks() -> None:
    """Memory is bounded by the limit, however long the stream."""
    buffer = MemoryBuffer(5)
    for block in BLOCKS:
        buffer.add(block)
    assert buffer.start == 7
    assert joined(buffer.read(7)) == b"hij"
    assert joined(buffer.read(9)) == b"j"
    assert joined(buffer.read(10)) == b""


def test_memory_buffer_of_size_zero_keeps_nothing() -> None:
    """`--window 0`: the memory of a push without replay."""
    buffer = MemoryBuffer(0)
    buffer.add(b"abc")
    assert buffer.start == 3
    assert not joined(buffer.read(3))


def test_memory_buffer_close_drops_blocks() -> None:
    """Nothing outlives the upload."""
    buffer = MemoryBuffer(10)
    buffer.add(b"abc")
    buffer.close()
    assert not joined(buffer.read(0))


@given(st.lists(st.binary(max_size=5)), st.integers(0, 30), st.data())
def test_memory_buffer_reads_bytes_from_start(
    blocks: list[bytes], limit: int, data: st.DataObject
) -> None:
    """Whatever offset it says it has, it has all bytes from there on."""
    buffer, whole = MemoryBuffer(limit), b"".join(blocks)
    for block in blocks:
        buffer.add(block)
    start = data.draw(st.integers(buffer.start, len(whole)))
    assert joined(buffer.read(start)) == whole[start:]
    assert len(whole) - buffer.start <= limit


def test_memory_buffer_retains_bytes_over_limit() -> None:
    """A chunk may have to be sent again, even if it is larger than the buffer."""
    buffer = MemoryBuffer(2)
    for block in (b"abc", b"defg", b"h"):
        buffer.add(block, 4)
    assert buffer.start == 3
    assert joined(buffer.read(4)) == b"efgh"
    buffer.add(b"ij", 8)
    assert buffer.start == 8
    assert joined(buffer.read(8)) == b"ij"


# --- ReplayableBody


def test_blocks_yields_stream_and_counts_bytes() -> None:
    """The first reading is live; heartbeats come through."""
    body = replayable(MemoryBuffer(100))
    assert list(body.blocks(0)) == list(BLOCKS)
    assert body.bytes_read == len(DATA)
    assert body.ended


@pytest.mark.parametrize("start", range(5))
def test_blocks_yields_buffered_bytes_then_rest(start: int) -> None:
    """An upload goes on at the byte that the registry acknowledged."""
    body = replayable(MemoryBuffer(100))
    first = list(islice(body.blocks(0), 3))
    assert joined(first) == b"abcdefg"
    assert (body.bytes_read, body.ended) == (7, False)
    assert joined(body.blocks(start)) == DATA[start:]
    assert (body.bytes_read, body.ended) == (10, True)
    assert joined(body.blocks(0)) == DATA


def test_blocks_raises_for_dropped_bytes() -> None:
    """Without a source that can be opened again, the buffer is all there is."""
    body = replayable(MemoryBuffer(3))
    list(body.blocks(0))
    assert body.replayable_from == 7
    assert joined(body.blocks(8)) == b"ij"
    with pytest.raises(ValueError, match="from 6 on are gone: 7"):
        joined(body.blocks(6))


def test_blocks_reopens_source_for_dropped_bytes() -> None:
    """A second pass goes up to the position of the live stream, which then continues."""
    passes: list[int] = []

    def reopen() -> Iterator[bytes]:
        passes.append(1)
        yield from (b"ab", b"cdef", b"g???")

    body = replayable(MemoryBuffer(1), reopen)
    list(islice(body.blocks(0), 3))
    assert body.replayable_from == 0
    assert joined(body.blocks(2)) == DATA[2:]
    assert len(passes) == 1


def test_blocks_raises_if_second_pass_fails() -> None:
    """A source that changed meanwhile is told, and no byte follows."""

    def reopen() -> Iterator[bytes]:
        yield b"abcdefg"
        raise SourceError("the source changed while it was read")

    body = replayable(MemoryBuffer(0), reopen)
    list(islice(body.blocks(0), 3))
    with pytest.raises(SourceError, match="changed"):
        joined(body.blocks(0))
    assert body.bytes_read == 7


def test_blocks_raises_after_stream_failed() -> None:
    """A generator that raised gives nothing more: taken for its end, half would be the whole."""

    def source() -> Iterator[bytes]:
        yield b"abc"
        raise SourceError("gone")

    broken = replayable(MemoryBuffer(9), blocks=source())
    with pytest.raises(SourceError):
        joined(broken.blocks(0))
    with pytest.raises(ValueError, match="has failed"):
        joined(broken.blocks(0))
    assert not broken.ended


def test_retain_from_keeps_bytes_over_limit() -> None:
    """From the offset on that the registry has acknowledged, until it is told otherwise."""
    held = replayable(MemoryBuffer(0))
    held.retain_from(3)
    assert joined(held.blocks(0)) == DATA
    assert held.replayable_from == 3
    assert joined(held.blocks(5)) == DATA[5:]
    held = replayable(MemoryBuffer(0))
    held.retain_from(3)
    held.retain_from(None)
    joined(held.blocks(0))
    assert held.replayable_from == len(DATA)


def test_heartbeats_are_not_buffered() -> None:
    """A source that is silent for a week gives ten million of them."""
    buffer = MemoryBuffer(9)
    waiting = replayable(buffer, blocks=(b"", b"abc", *(b"" for _ in range(99))))
    assert len(list(waiting.blocks(0))) == 101
    assert len(list(buffer.read(0))) == 1


@given(st.lists(st.binary(max_size=4)), st.integers(0, 12), st.data())
def test_blocks_from_any_offset_are_those_of_stream(
    blocks: list[bytes], limit: int, data: st.DataObject
) -> None:
    """However often an upload fails, the bytes from an offset on are those of the stream."""
    whole = b"".join(blocks)
    body = replayable(MemoryBuffer(limit), blocks=blocks)
    for _ in range(data.draw(st.integers(0, 4))):
        start = data.draw(st.integers(body.replayable_from, body.bytes_read))
        count = data.draw(st.integers(0, 6))
        got = joined(islice(body.blocks(start), count))
        assert whole[start:].startswith(got)
    start = data.draw(st.integers(body.replayable_from, body.bytes_read))
    assert joined(body.blocks(start)) == whole[start:]
    assert body.bytes_read == len(whole)
