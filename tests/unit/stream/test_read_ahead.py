"""stream/read_ahead.py: blocks that a thread reads ahead of their reader."""

from __future__ import annotations

import gc
import os
import queue
import threading
import weakref
from typing import TYPE_CHECKING

import pytest

from brolga.errors import CorruptBlob
from brolga.stream.read_ahead import ReadAhead, read_ahead
from brolga.stream.worker import Stop, sleep, stop_scope

if TYPE_CHECKING:
    from collections.abc import Generator

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


class Blocks:
    """A generator of blocks that tells what happens to it."""

    def __init__(self, *blocks: bytes, error: BaseException | None = None) -> None:
        self.blocks = blocks
        self.error = error
        self.thread = ""
        self.events: queue.SimpleQueue[str] = queue.SimpleQueue()

    def open(self) -> Generator[bytes, None, None]:
        self.thread = threading.current_thread().name
        try:
            for block in self.blocks:
                self.events.put("next")
                yield block
            if self.error is not None:
                raise self.error
        finally:
            self.events.put("closed")

    def wait(self, *events: str) -> None:
        assert [self.events.get(timeout=30) for _ in events] == list(events)


@pytest.mark.parametrize("limit", [0, 1, 5, 1 << 20])
def test_read_ahead_yields_all_blocks_in_order(limit: int) -> None:
    """Any limit lets one block pass; empty blocks are heartbeats, and pass too."""
    source = Blocks(*(b"%d" % number for number in range(100)), b"", b"end")
    assert list(read_ahead(source.open, limit=limit)) == list(source.blocks)
    assert source.thread == "brolga-read-ahead"


def test_read_ahead_without_blocks_is_empty() -> None:
    """The end comes at once, and stays."""
    ahead = ReadAhead(Blocks().open, limit=1)
    assert list(ahead) == []
    assert list(ahead) == []
    ahead.close()


def test_read_ahead_starts_with_first_block() -> None:
    """A generator that nobody reads opens nothing; a started one reads without a reader."""
    source = Blocks(b"1", b"2")
    read_ahead(source.open, limit=1).close()
    ReadAhead(source.open, limit=1).close()
    assert source.events.empty()
    ahead = ReadAhead(source.open, limit=10)
    ahead.start()
    source.wait("next", "next", "closed")
    assert list(ahead) == [b"1", b"2"]
    ahead.close()


def test_read_ahead_waits_at_limit_until_half_is_taken() -> None:
    """Fewer than `limit` bytes wait before a block is read."""
    source = Blocks(*([b"xx"] * 9))
    ahead = ReadAhead(source.open, limit=8)
    ahead.start()
    source.wait(*["next"] * 4)
    assert next(ahead) == b"xx"
    source.events.put("one taken")
    source.wait("one taken")
    assert next(ahead) == b"xx"
    source.wait("next", "next")
    assert len(list(ahead)) == 7
    source.wait(*["next"] * 3, "closed")
    ahead.close()


def test_read_ahead_raises_error_after_blocks_before_it() -> None:
    """The same error, once."""
    error = CorruptBlob("x")
    source = Blocks(b"1", b"2", error=error)
    blocks = read_ahead(source.open, limit=100)
    assert [next(blocks), next(blocks)] == [b"1", b"2"]
    with pytest.raises(CorruptBlob) as caught:
        next(blocks)
    assert caught.value is error
    assert list(blocks) == []


def test_read_ahead_raises_error_of_opening() -> None:
    """What cannot be opened is an error at the first block."""

    def fail() -> Generator[bytes, None, None]:
        raise CorruptBlob("cannot be opened")

    with pytest.raises(CorruptBlob, match="cannot be opened"):
        next(read_ahead(fail, limit=1))


@pytest.mark.parametrize("limit", [1, 100])
def test_close_stops_thread_and_closes_blocks(limit: int) -> None:
    """The generator is closed in its own thread, before `close` returns."""
    source = Blocks(*([b"xx"] * 1000))
    blocks = read_ahead(source.open, limit=limit)
    next(blocks)
    blocks.close()
    events = [source.events.get_nowait() for _ in range(source.events.qsize())]
    assert events[-1] == "closed"
    assert events.count("next") <= limit + 2
    assert list(blocks) == []


def test_close_interrupts_waits_of_thread() -> None:
    """A thread that waits for a registry notices the stop request."""
    began = threading.Event()

    def wait() -> Generator[bytes, None, None]:
        yield b"x"
        began.set()
        sleep(3600)

    blocks = read_ahead(wait, limit=10)
    next(blocks)
    assert began.wait(30)
    blocks.close()


def test_close_frees_blocks_that_wait() -> None:
    """The traceback of an error may keep the iterator, and so up to `limit` bytes."""
    ahead = ReadAhead(Blocks(*([b"x"] * 9)).open, limit=100)
    next(ahead)
    ahead.close()
    ahead.close()
    assert ahead._producer._blocks.empty()


def test_dropped_iterator_stops_thread() -> None:
    """A reader that forgets to close leaves no thread behind."""
    source = Blocks(*([b"xx"] * 1000))
    ahead = ReadAhead(source.open, limit=2)
    next(ahead)
    worker, dropped = ahead._worker, weakref.ref(ahead)
    del ahead
    gc.collect()
    assert dropped() is None
    assert worker.join()


def test_error_frees_its_frames() -> None:
    """A reader that keeps the error keeps no blocks."""
    source = Blocks(b"1", error=CorruptBlob("x"))
    ahead = ReadAhead(source.open, limit=100)
    next(ahead)
    with pytest.raises(CorruptBlob):
        next(ahead)
    ahead.close()
    dropped = weakref.ref(ahead)
    del ahead
    source.error = None
    assert dropped() is None


def test_stop_request_of_reader_interrupts_both() -> None:
    """A reader in a thread that is asked to stop does not wait for a silent source."""
    stop = Stop()
    release: queue.SimpleQueue[None] = queue.SimpleQueue()

    def wait() -> Generator[bytes, None, None]:
        yield b"x"
        stop.request()
        release.get()  # not a wait that notices stop requests
        yield b"y"

    with stop_scope(stop):
        ahead = ReadAhead(wait, limit=10)
        next(ahead)
        with pytest.raises(KeyboardInterrupt):
            next(ahead)
        release.put(None)
        ahead.close()


def test_stop_request_ends_wait_for_reader() -> None:
    """The thread does not wait for a reader who takes no more."""
    stop, source = Stop(), Blocks(*([b"x"] * 10))
    with stop_scope(stop):
        ahead = ReadAhead(source.open, limit=1)
        ahead.start()
    source.wait("next")
    stop.request()
    source.wait("closed")
    ahead.close()


def test_one_read_ahead_may_read_another() -> None:
    """A thread decompresses what another one reads; closing the inner one first ends both."""
    source = Blocks(*([b"xx"] * 1000))
    inner = ReadAhead(source.open, limit=8)
    outer = ReadAhead(lambda: (bytes(block) for block in inner), limit=8)
    assert next(outer) == b"xx"
    inner.close()
    outer.close()
    assert list(read_ahead(lambda: read_ahead(source.open, limit=3), limit=3)) == [b"xx"] * 1000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_close_in_child_process_stops_nothing() -> None:
    """A child has none of its parent's threads (fork(2)), so it must not wait for one."""
    ahead = ReadAhead(Blocks(*([b"xx"] * 100)).open, limit=2)
    next(ahead)
    ahead._worker._process = -1
    ahead.close()
    ahead._worker._process = os.getpid()
    ahead.close()
