"""aio/iteration.py: the items of a generator that runs in a thread."""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest
from tests.processes import wait_until

from brolga.aio.calls import CallPool
from brolga.aio.iteration import ThreadIterator, iterate
from brolga.aio.streams import AsyncBlobStream
from brolga.images import InMemoryBlob
from brolga.stream.worker import sleep

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

PATIENCE_S = 30.0


def run(test: Callable[[CallPool], Coroutine[Any, Any, None]]) -> None:
    """Run a test with calls in threads, and close them."""

    async def main() -> None:
        calls = CallPool(1)
        try:
            await asyncio.wait_for(test(calls), PATIENCE_S)
        finally:
            await calls.close()

    asyncio.run(main())


class Numbers:
    """A generator of numbers that notes how far it came, and how it ended."""

    def __init__(self, count: int = 1000, error: Exception | None = None) -> None:
        self.count = count
        self.error = error
        self.computed = 0
        self.is_closed = False

    def __call__(self) -> Generator[int, None, None]:
        try:
            for number in range(self.count):
                self.computed += 1
                yield number
            if self.error:
                raise self.error
        finally:
            self.is_closed = True


async def computed(numbers: Numbers, count: int) -> int:
    """Wait until `count` items were computed; return how many there are, when others could run."""
    await asyncio.to_thread(wait_until, lambda: numbers.computed >= count)
    await asyncio.sleep(0.01)
    return numbers.computed


@pytest.mark.parametrize("ahead", [0, 1, 10, 2000])
def test_iterate_yields_each_item_in_order(ahead: int) -> None:
    """However many of them are computed ahead."""

    async def test(calls: CallPool) -> None:
        assert [item async for item in iterate(calls, Numbers(), ahead)] == list(range(1000))

    run(test)


@pytest.mark.parametrize("ahead", [0, 3])
def test_iterate_raises_error_after_items(ahead: int) -> None:
    """It is the error itself."""

    async def test(calls: CallPool) -> None:
        items = []
        with pytest.raises(ValueError, match="wrong"):
            async for item in iterate(calls, Numbers(5, ValueError("wrong")), ahead):
                items.append(item)  # noqa: PERF401 - what came before the error counts
        assert items == [0, 1, 2, 3, 4]

    run(test)


@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_at_most_ahead_items_are_computed_before_they_are_requested(ahead: int) -> None:
    """With 0, an item is computed when it is requested: computing may change something."""

    async def test(calls: CallPool) -> None:
        numbers = Numbers()
        async with ThreadIterator(calls, numbers, ahead) as items:
            assert await computed(numbers, ahead) == ahead
            assert await items.next() == 0
            assert await computed(numbers, ahead + 1) == ahead + 1

    run(test)


def test_cancelled_next_does_not_raise_the_bound() -> None:
    """A caller may try with a timeout, again and again."""
    numbers, released = Numbers(), threading.Event()

    def waiting() -> Generator[int, None, None]:
        assert released.wait(PATIENCE_S)
        yield from numbers()

    async def test(calls: CallPool) -> None:
        async with ThreadIterator(calls, waiting, 0) as items:
            for _ in range(5):
                task = asyncio.ensure_future(items.next())
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
            released.set()
            assert await computed(numbers, 1) == 1
            assert await items.next() == 0

    run(test)


def test_closed_iteration_closes_generator() -> None:
    """Its thread has ended then."""

    async def test(calls: CallPool) -> None:
        numbers = Numbers()
        async with aclosing(iterate(calls, numbers, 2)) as items:
            assert await anext(items) == 0
        assert numbers.is_closed
        assert numbers.computed <= 4

    run(test)


def test_closed_iteration_ends() -> None:
    """It raises nothing, and closing again does nothing."""

    async def test(calls: CallPool) -> None:
        iterator = ThreadIterator(calls, Numbers(), 2)
        await iterator.close()
        assert await iterator.next() is None
        async with ThreadIterator(calls, Numbers(), 2) as items:
            pass
        assert await items.next() is None
        await items.close()

    run(test)


def test_close_interrupts_generator_that_waits() -> None:
    """It may wait for a registry."""

    def waiting() -> Generator[int, None, None]:
        yield 1
        sleep(3600.0)

    async def test(calls: CallPool) -> None:
        async with aclosing(iterate(calls, waiting, 5)) as items:
            assert await anext(items) == 1

    run(test)


def test_close_of_client_ends_iteration_with_runtime_error() -> None:
    """That it yields no more is not its end."""

    def waiting() -> Generator[int, None, None]:
        yield 1
        sleep(3600.0)

    async def test(calls: CallPool) -> None:
        async with aclosing(iterate(calls, waiting, 5)) as items:
            assert await anext(items) == 1
            await calls.close()
            with pytest.raises(RuntimeError, match="closed before the iteration had ended"):
                await anext(items)

    run(test)


def test_close_of_client_ends_iteration_that_is_read_ahead() -> None:
    """Its thread waits for a slot, which nobody gives it any more."""
    numbers = Numbers()

    async def main() -> None:
        calls = CallPool(1)
        items = ThreadIterator(calls, numbers, 3)
        assert await items.next() == 0
        await computed(numbers, 4)
        await asyncio.wait_for(calls.close(), PATIENCE_S)
        assert numbers.is_closed
        await items.close()

    asyncio.run(main())


def test_end_of_event_loop_ends_iteration() -> None:
    """Else the interpreter would wait for the thread at its exit."""
    numbers = Numbers()

    async def main() -> ThreadIterator[int]:
        items = ThreadIterator(CallPool(1), numbers, 3)
        assert await items.next() == 0
        await computed(numbers, 4)
        return items

    items = asyncio.run(main())
    wait_until(lambda: numbers.is_closed)
    with pytest.warns(ResourceWarning, match="unclosed"):
        del items


def test_dropped_iterator_stops_its_thread_with_a_warning() -> None:
    """As a file that was not closed."""
    numbers = Numbers()

    async def test(calls: CallPool) -> None:
        iterator = ThreadIterator(calls, numbers, 2)
        assert await iterator.next() == 0
        with pytest.warns(ResourceWarning, match="unclosed"):
            del iterator
        gc.collect()

    run(test)
    assert numbers.is_closed


def blob_stream(calls: CallPool, data: bytes) -> AsyncBlobStream:
    return AsyncBlobStream(calls, InMemoryBlob(data, "text/plain").open)


DATA = bytes(range(256)) * (3 << 12)  # 3 MiB: three blocks


def test_blob_stream_yields_blocks() -> None:
    """Without `async with`, the stream is closed with the iteration."""

    async def test(calls: CallPool) -> None:
        blocks = [bytes(block) async for block in blob_stream(calls, DATA)]
        assert b"".join(blocks) == DATA
        assert all(blocks)

    run(test)


@pytest.mark.parametrize("size", [1 << 19, 1 << 20, (1 << 20) + 7, 1 << 30])
def test_blob_stream_is_read_as_a_file(size: int) -> None:
    """A read returns fewer bytes than its size only at the end."""

    async def test(calls: CallPool) -> None:
        async with blob_stream(calls, DATA) as stream:
            parts = []
            while part := await stream.read(size):
                parts.append(part)
            assert await stream.read() == b""
        assert b"".join(parts) == DATA
        assert {len(part) for part in parts[:-1]} <= {size}

    run(test)


def test_blob_stream_can_be_iterated_after_a_read() -> None:
    """Under `async with` it is one stream, whatever reads it."""

    async def test(calls: CallPool) -> None:
        async with blob_stream(calls, DATA) as stream:
            assert await stream.read(0) == b""
            assert await stream.read(10) == DATA[:10]
            async for block in stream:
                assert block == DATA[10 : 1 << 20]
                break
            assert await stream.read() == DATA[1 << 20 :]

    run(test)


def test_cancelled_read_of_blob_stream_loses_nothing() -> None:
    """A read with a timeout can be repeated."""

    async def test(calls: CallPool) -> None:
        released, first = threading.Event(), threading.Event()

        def blocks() -> Generator[bytes, None, None]:
            yield b"abc"
            first.set()
            released.wait(PATIENCE_S)
            yield b"def"

        stream = blob_stream(calls, b"")
        stream._blocks = ThreadIterator(calls, blocks, 3)
        read = asyncio.create_task(stream.read())
        await asyncio.to_thread(first.wait, PATIENCE_S)
        await asyncio.sleep(0.01)
        read.cancel()
        with pytest.raises(asyncio.CancelledError):
            await read
        released.set()
        assert await stream.read(4) == b"abcd"
        assert await stream.read() == b"ef"
        await stream.close()

    run(test)


def test_second_task_that_iterates_is_runtime_error() -> None:
    """Each of the two would get some of the items."""

    async def test(calls: CallPool) -> None:
        def wait() -> Generator[int, None, None]:
            sleep(3600.0)
            yield 1

        async with ThreadIterator(calls, wait, 0) as items:
            first = asyncio.create_task(items.next())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another task"):
                await items.next()
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first

    run(test)


def test_thread_of_open_iteration_ends_with_event_loop() -> None:
    """Python would wait for it at its exit."""
    numbers = Numbers()
    kept: list[ThreadIterator[int]] = []

    async def main() -> None:
        kept.append(ThreadIterator(CallPool(1), numbers, 1))
        assert await kept[0].next() == 0

    asyncio.run(main())
    wait_until(lambda: numbers.is_closed)
    with pytest.warns(ResourceWarning, match="unclosed"):
        kept.clear()
