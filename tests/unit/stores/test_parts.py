"""stores.parts: the rest of a blob in parts, without a registry."""

from __future__ import annotations

import itertools
import random
import threading
import weakref
from typing import TYPE_CHECKING

import pytest

from brolga.errors import TransportError
from brolga.protocol import BlobHead
from brolga.stores.parts import Part, Parts
from brolga.stores.read_budget import ReadBudget, ReadOptions, Share
from brolga.stream.worker import Stop, Worker, stop_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from brolga.spec.blob import Block

DATA = bytes(range(100))
OPTIONS = ReadOptions(part_size=7, window=21)


def fetch(start: int, stop: int) -> Iterator[BlobHead | Block]:
    """Give a part, in two blocks."""
    yield BlobHead(None)
    yield DATA[start : start + 2]
    yield DATA[start + 2 : stop]


def make_parts(
    fetch: Callable[[int, int], Iterator[BlobHead | Block]],
    budget: ReadBudget,
    start: int = 10,
) -> Parts:
    """Make the parts of a reader with two connections."""
    connections = Share(budget.connections)
    connections.require()
    assert connections.take()
    parts = Parts(fetch, start, len(DATA), budget, connections)
    parts.begin()
    return parts


def read(parts: Parts) -> bytes:
    """Read all parts."""
    try:
        assert parts.wait_begun()
        return b"".join(parts.blocks())
    finally:
        parts.close()


@pytest.mark.parametrize("jobs", [2, 3, 8])
def test_parts_give_bytes_in_order(jobs: int) -> None:
    """They come from several threads."""
    budget = ReadBudget(OPTIONS, jobs)
    assert read(make_parts(fetch, budget)) == DATA[10:]
    assert len(budget.parts.free) == 3


@pytest.mark.parametrize("sizes", [[1], [2, 700], [700, 1], [511, 513]], ids=str)
def test_part_joins_small_blocks(sizes: list[int]) -> None:
    """Each block is an object of its own, which takes more memory than a byte."""

    def dribble(start: int, stop: int) -> Iterator[BlobHead | Block]:
        yield BlobHead(None)
        size = itertools.cycle(sizes)
        while start < stop:
            end = min(start + next(size), stop)
            yield data[start:end]
            start = end

    data = random.Random(1).randbytes(10_000)
    part = Part(0, len(data), Stop())
    part.receive(dribble)
    blocks = [item for _ in range(part.items.qsize()) if (item := part.items.get()) is not None]
    assert b"".join(blocks) == data  # type: ignore[arg-type] # none of them is an error
    assert len(blocks) <= len(data) / 256


class _Buffer(bytearray):
    """A buffer to which a weak reference is possible."""


def test_part_keeps_no_buffer_that_a_cut_response_left() -> None:
    """If a registry cuts each response after 16 KiB, each block begins another buffer."""
    buffers: list[weakref.ref[_Buffer]] = []

    def cut(start: int, stop: int) -> Iterator[BlobHead | Block]:
        for position in range(start, stop, 1 << 14):
            buffer = _Buffer(1 << 15)
            buffers.append(weakref.ref(buffer))
            yield BlobHead(None)
            yield memoryview(buffer)[: min(1 << 14, stop - position)]

    part = Part(0, 1 << 20, Stop())
    part.receive(cut)
    assert len(buffers) == 64
    assert not any(buffer() for buffer in buffers)


def test_parts_go_on_without_memory() -> None:
    """Each blob may have one part, even if others have all the memory."""
    budget = ReadBudget(OPTIONS)
    parts = make_parts(fetch, budget)
    other = Share(budget.parts)
    while other.take():
        pass
    assert read(parts) == DATA[10:]


def test_parts_give_connections_to_other_blobs() -> None:
    """A blob that begins gets the next one."""
    budget = ReadBudget(OPTIONS, 2)
    parts = make_parts(fetch, budget)
    other = Share(budget.connections)
    other.require()
    assert read(parts) == DATA[10:]
    assert other.count == 1


def test_parts_raise_error_in_place() -> None:
    """The bytes before it are right."""

    def fail(start: int, stop: int) -> Iterator[BlobHead | Block]:
        if start > 40:
            raise TransportError("cut", reason="cut")
        yield from fetch(start, stop)

    parts = make_parts(fail, ReadBudget(OPTIONS))
    blocks: list[Block] = []
    with pytest.raises(TransportError):
        blocks.extend(parts.blocks())
    parts.close()
    assert b"".join(blocks) == DATA[10:45]


def test_wait_begun_returns_false_if_first_part_fails() -> None:
    """The reader goes on with what it has."""

    def fail(start: int, stop: int) -> Iterator[BlobHead | Block]:
        raise TransportError("cut", reason="cut")

    parts = make_parts(fail, ReadBudget(OPTIONS))
    assert not parts.wait_begun()
    parts.close()


def test_wait_begun_returns_false_after_its_time() -> None:
    """A server may serve one connection at a time."""
    end = threading.Event()

    def hang(start: int, stop: int) -> Iterator[BlobHead | Block]:
        end.wait()
        yield from fetch(start, stop)

    parts = make_parts(hang, ReadBudget(ReadOptions(part_size=7, window=21, begin_s=0.01)))
    assert not parts.wait_begun()
    end.set()
    parts.close()


def test_parts_stop_with_their_reader() -> None:
    """Another thread may ask the reader to stop while it waits for bytes."""
    end, stop = threading.Event(), Stop()

    def hang(start: int, stop_: int) -> Iterator[BlobHead | Block]:
        yield BlobHead(None)
        end.wait()
        yield from fetch(start, stop_)

    with stop_scope(stop):
        parts = make_parts(hang, ReadBudget(OPTIONS))
        assert parts.wait_begun()
        stop.request()
        with pytest.raises(KeyboardInterrupt):
            next(parts.blocks())
        end.set()
        parts.close()


def test_parts_need_no_more_than_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may have no thread left."""
    started: list[Worker] = []
    start = Worker.start

    def start_one(self: Worker) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(self)
        start(self)

    monkeypatch.setattr(Worker, "start", start_one)
    assert read(make_parts(fetch, ReadBudget(OPTIONS))) == DATA[10:]
    with pytest.raises(RuntimeError):
        make_parts(fetch, ReadBudget(OPTIONS))
