"""replay.py: bytes that may have to go out again, and who has them still."""

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


def _go_on() -> None:
    return None


def joined(blocks: Iterable[bytes | memoryview]) -> bytes:
    """Return the bytes of blocks."""
    return b"".join(blocks)


def tape(
    keep: ReplayBuffer,
    again: Callable[[], Iterator[bytes]] | None = None,
    watch: Callable[[], None] = _go_on,
    blocks: Iterable[bytes] = BLOCKS,
) -> ReplayableBody:
    """Return a tape of DATA."""
    return ReplayableBody(blocks, keep, again, watch)


# --- Window


def test_a_window_keeps_the_last_bytes_in_whole_blocks() -> None:
    """Memory is bounded by the limit, however long the stream."""
    window = MemoryBuffer(5)
    for block in BLOCKS:
        window.add(block)
    assert window.start == 7
    assert joined(window.read(7)) == b"hij"
    assert joined(window.read(9)) == b"j"
    assert joined(window.read(10)) == b""


def test_a_window_of_nothing_keeps_nothing() -> None:
    """`--window 0`: the memory of a push without replay."""
    window = MemoryBuffer(0)
    window.add(b"abc")
    assert window.start == 3
    assert not joined(window.read(3))


def test_a_closed_window_lets_its_blocks_go() -> None:
    """Nothing outlives the upload."""
    window = MemoryBuffer(10)
    window.add(b"abc")
    window.close()
    assert not joined(window.read(0))


@given(st.lists(st.binary(max_size=5)), st.integers(0, 30), st.data())
def test_a_window_gives_what_it_was_given(
    blocks: list[bytes], limit: int, data: st.DataObject
) -> None:
    """Whatever offset it says it has, it has all bytes from there on."""
    window, whole = MemoryBuffer(limit), b"".join(blocks)
    for block in blocks:
        window.add(block)
    start = data.draw(st.integers(window.start, len(whole)))
    assert joined(window.read(start)) == whole[start:]
    assert len(whole) - window.start <= limit


def test_what_is_held_is_kept_whatever_the_window() -> None:
    """A chunk under way may have to go out again, also where it is larger than the window."""
    window = MemoryBuffer(2)
    for block in (b"abc", b"defg", b"h"):
        window.add(block, 4)
    assert window.start == 3
    assert joined(window.read(4)) == b"efgh"
    window.add(b"ij", 8)
    assert window.start == 8
    assert joined(window.read(8)) == b"ij"


# --- Tape


def test_a_tape_gives_the_stream_and_counts_it() -> None:
    """The first reading is live; heartbeats come through."""
    one = tape(MemoryBuffer(100))
    assert list(one.blocks(0)) == list(BLOCKS)
    assert one.bytes_read == len(DATA)
    assert one.ended


@pytest.mark.parametrize("start", range(5))
def test_what_was_kept_goes_out_again_and_then_the_rest(start: int) -> None:
    """An upload goes on at the byte that the registry acknowledged."""
    one = tape(MemoryBuffer(100))
    first = list(islice(one.blocks(0), 3))
    assert joined(first) == b"abcdefg"
    assert (one.bytes_read, one.ended) == (7, False)
    assert joined(one.blocks(start)) == DATA[start:]
    assert (one.bytes_read, one.ended) == (10, True)
    assert joined(one.blocks(0)) == DATA


def test_what_was_dropped_is_known_to_be_gone() -> None:
    """Without a source that can be opened again, the window is all there is."""
    one = tape(MemoryBuffer(3))
    list(one.blocks(0))
    assert one.replayable_from == 7
    assert joined(one.blocks(8)) == b"ij"
    with pytest.raises(ValueError, match="from 6 on are gone: 7"):
        joined(one.blocks(6))


def test_a_source_that_can_be_opened_again_makes_the_bytes_again() -> None:
    """A second pass up to where the live stream stands; the live stream then goes on."""
    passes: list[int] = []

    def again() -> Iterator[bytes]:
        passes.append(1)
        yield from (b"ab", b"cdef", b"g???")

    one = tape(MemoryBuffer(1), again)
    list(islice(one.blocks(0), 3))
    assert one.replayable_from == 0
    assert joined(one.blocks(2)) == DATA[2:]
    assert len(passes) == 1


def test_a_second_pass_that_fails_ends_the_stream() -> None:
    """A source that changed meanwhile is told, and no byte follows."""

    def again() -> Iterator[bytes]:
        yield b"abcdefg"
        raise SourceError("the source changed while it was read")

    one = tape(MemoryBuffer(0), again)
    list(islice(one.blocks(0), 3))
    with pytest.raises(SourceError, match="changed"):
        joined(one.blocks(0))
    assert one.bytes_read == 7


def test_a_stream_that_failed_has_no_end() -> None:
    """A generator that raised gives nothing more: taken for its end, half would be the whole."""

    def source() -> Iterator[bytes]:
        yield b"abc"
        raise SourceError("gone")

    broken = tape(MemoryBuffer(9), blocks=source())
    with pytest.raises(SourceError):
        joined(broken.blocks(0))
    with pytest.raises(ValueError, match="has failed"):
        joined(broken.blocks(0))
    assert not broken.ended


def test_a_tape_holds_what_it_is_told_to() -> None:
    """From the offset on that the registry has acknowledged, until it is told otherwise."""
    held = tape(MemoryBuffer(0))
    held.retain_from(3)
    assert joined(held.blocks(0)) == DATA
    assert held.replayable_from == 3
    assert joined(held.blocks(5)) == DATA[5:]
    held = tape(MemoryBuffer(0))
    held.retain_from(3)
    held.retain_from(None)
    joined(held.blocks(0))
    assert held.replayable_from == len(DATA)


def test_a_heartbeat_is_not_kept() -> None:
    """A source that is silent for a week gives ten million of them."""
    window = MemoryBuffer(9)
    waiting = tape(window, blocks=(b"", b"abc", *(b"" for _ in range(99))))
    assert len(list(waiting.blocks(0))) == 101
    assert len(list(window.read(0))) == 1


def test_who_watches_can_end_the_stream() -> None:
    """A push that failed elsewhere stops its other uploads before their next block."""

    def watch() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        joined(tape(MemoryBuffer(), watch=watch).blocks(0))


@given(st.lists(st.binary(max_size=4)), st.integers(0, 12), st.data())
def test_whatever_is_asked_for_is_right(
    blocks: list[bytes], limit: int, data: st.DataObject
) -> None:
    """However often an upload fails, the bytes from an offset on are those of the stream."""
    whole = b"".join(blocks)
    one = tape(MemoryBuffer(limit), blocks=blocks)
    for _ in range(data.draw(st.integers(0, 4))):
        start = data.draw(st.integers(one.replayable_from, one.bytes_read))
        count = data.draw(st.integers(0, 6))
        got = joined(islice(one.blocks(start), count))
        assert whole[start:].startswith(got)
    start = data.draw(st.integers(one.replayable_from, one.bytes_read))
    assert joined(one.blocks(start)) == whole[start:]
    assert one.bytes_read == len(whole)
