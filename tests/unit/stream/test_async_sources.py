"""stream/async_sources.py: sources that an event loop reads, for a thread that waits for them."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.stream.block_sources import DATA, SIZE, assert_whole, pieces

from brolga import SourceError, StreamLayer
from brolga.errors import RateLimited
from brolga.spec.blob import LayerState
from brolga.stream.async_sources import BoundSource
from brolga.stream.sources import bind_source, calls_user_code, get_source_size, open_source
from brolga.stream.worker import Stop, stop_scope

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

PATIENCE_S = 30.0
pytestmark = pytest.mark.usefixtures("no_thread_is_left")


async def blocks(size: int = 700) -> AsyncIterator[bytes]:
    """Yield the data in pieces, and let other tasks run in between."""
    for piece in pieces(size):
        await asyncio.sleep(0)
        yield piece


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield bytes(SIZE)


def collect(source: Any) -> list[bytes]:
    """Read a bound source to its end; None, that nothing came yet, is left out."""
    opened = open_source(source, SIZE)
    try:
        result = []
        while (block := opened.next_block(0.01)) is None or block:
            if block is not None:
                result.append(bytes(block))
        assert not opened.next_block(0)
        return result
    finally:
        opened.close()


def read(make: Callable[[], Any]) -> list[bytes]:
    """Make a source in an event loop, and read it in another thread."""

    async def run() -> list[bytes]:
        return await asyncio.to_thread(collect, bind_source(make()))

    return asyncio.run(run())


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, PATIENCE_S))


class Reader:
    """An object with `read`, whose iteration would give other bytes."""

    def __init__(self, size: int) -> None:
        self.rest = DATA
        self.size = size

    async def read(self, size: int) -> bytes:
        await asyncio.sleep(0)
        size = min(size, self.size)
        piece, self.rest = self.rest[:size], self.rest[size:]
        return piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield other bytes."""
        yield b"lines"


@pytest.mark.parametrize("size", [1, 7, 999, 1000, 1001, 2500, len(DATA)])
def test_asynchronous_iterable_is_joined_to_blocks_of_one_size(size: int) -> None:
    """Blocks of the source may have any size."""
    assert_whole(read(lambda: blocks(size)))


@pytest.mark.parametrize("size", [1, 999, 1000, 5000])
def test_read_comes_before_iteration(size: int) -> None:
    """Iterating an asyncio.StreamReader gives lines."""
    assert_whole(read(lambda: Reader(size)))


def test_object_with_plain_read_is_iterated() -> None:
    """The responses of httpx have a `read` that is not a coroutine function."""

    class Response:
        def read(self) -> bytes:
            raise AssertionError

        def __aiter__(self) -> AsyncIterator[bytes]:
            return blocks()

    assert_whole(read(Response))


def test_stream_reader_is_read() -> None:
    """The stream of `asyncio.open_connection`, or of a process."""

    async def main() -> None:
        reader = asyncio.StreamReader()
        layer = StreamLayer(reader, "none")
        reading = asyncio.create_task(asyncio.to_thread(lambda: layer.open().read()))
        for piece in pieces(700):
            reader.feed_data(piece)
            await asyncio.sleep(0)
        reader.feed_eof()
        assert await reading == DATA

    run(main())


def test_refilled_buffer_is_copied() -> None:
    """The source goes on while its blocks are waiting."""

    async def refilled() -> AsyncIterator[bytearray]:
        buffer = bytearray(SIZE)
        for value in range(3):
            buffer[:] = bytes([value]) * SIZE
            yield buffer

    assert [block[0] for block in read(refilled)] == [0, 1, 2]


def test_source_is_neither_the_users_code_nor_a_file() -> None:
    """No code of the user runs in the thread that reads it."""

    async def main() -> None:
        layer = StreamLayer(blocks())
        assert (layer.runs_user_code, layer.source_size) == (False, None)
        source = bind_source(blocks())
        assert not calls_user_code(source)
        assert get_source_size(source) is None
        assert not layer_is_reopenable(layer)

    def layer_is_reopenable(layer: StreamLayer) -> bool:
        with stream_of(layer) as stream:
            reopenable: bool = stream.is_reopenable
        return reopenable

    def stream_of(layer: StreamLayer) -> Any:
        opened: list[Any] = []
        thread = threading.Thread(target=lambda: opened.append(layer.open()))
        thread.start()
        thread.join()
        return opened[0]

    run(main())


def test_code_of_the_source_runs_in_its_event_loop_and_context() -> None:
    """A context variable has its maker's value, and what the source sets is not seen outside."""
    variable: ContextVar[str] = ContextVar("variable")
    seen: list[object] = []

    async def source() -> AsyncIterator[bytes]:
        seen.extend([threading.get_ident(), variable.get()])
        variable.set("inner")
        yield b"x"

    async def main() -> None:
        variable.set("maker")
        bound = bind_source(source())
        variable.set("later")
        assert await asyncio.to_thread(collect, bound) == [b"x"]
        assert variable.get() == "later"

    run(main())
    assert seen == [threading.get_ident(), "maker"]


def test_source_is_read_a_few_blocks_ahead() -> None:
    """Memory does not grow with the source: a reader that waits stops it."""
    count = 0

    async def source() -> AsyncIterator[bytes]:
        nonlocal count
        for _ in range(20):
            count += 1
            yield bytes(SIZE)

    async def main() -> None:
        opened = await asyncio.to_thread(open_source, bind_source(source()), SIZE)
        for _ in range(100):
            await asyncio.sleep(0)
        assert count == 4  # the fourth waits for a free slot
        assert await asyncio.to_thread(opened.next_block, PATIENCE_S)
        for _ in range(100):
            await asyncio.sleep(0)
        assert count == 5
        await asyncio.to_thread(opened.close)

    run(main())


def test_next_block_of_silent_source_is_none() -> None:
    """A heartbeat of the upload goes by meanwhile."""

    async def main() -> None:
        reader = asyncio.StreamReader()
        opened = await asyncio.to_thread(open_source, bind_source(reader), SIZE)
        assert opened.next_block(0) is None
        assert await asyncio.to_thread(opened.next_block, 0.01) is None
        await asyncio.to_thread(opened.close)

    run(main())


async def failing(error: BaseException) -> AsyncIterator[bytes]:
    yield b"abc"
    raise error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("cut"), "the source failed after 3 bytes: ValueError: cut"),
        (StopAsyncIteration(), "the source failed after 3 bytes: RuntimeError: "),
        (asyncio.CancelledError(), "the source was cancelled: CancelledError"),
        (SourceError("its own words"), "its own words"),
    ],
)
def test_error_of_source_is_source_error(error: BaseException, message: str) -> None:
    """As for an iterable; the layer has no digest."""
    with pytest.raises(SourceError, match=message):
        read(lambda: failing(error))


def test_error_is_raised_again_by_next_call() -> None:
    """A reader that asks again does not wait for ever."""

    def ask(opened: Any) -> None:
        for _ in range(2):
            with pytest.raises(SourceError, match="cut"):
                opened.next_block(PATIENCE_S)
        opened.close()
        opened.close()

    async def main() -> None:
        opened = await asyncio.to_thread(open_source, bind_source(failing(OSError("cut"))), SIZE)
        await asyncio.to_thread(ask, opened)

    run(main())


def test_error_of_brolga_is_raised_as_it_is() -> None:
    """The blocks may come from another registry."""
    error = RateLimited("later", method="GET", url="u", status=429)
    with pytest.raises(RateLimited):
        read(lambda: failing(error))


@pytest.mark.parametrize(
    ("piece", "kind"), [("text", "str"), (1, "int"), (None, "NoneType"), ([1], "list")]
)
def test_piece_that_is_not_bytes_is_source_error(piece: Any, kind: str) -> None:
    """As for an iterable."""

    async def source() -> AsyncIterator[Any]:
        yield piece

    with pytest.raises(SourceError, match=f"gave {kind} where bytes were expected"):
        read(source)


def test_interrupt_in_source_ends_loop_and_reader() -> None:
    """The event loop lets KeyboardInterrupt out of the loop; the thread must not wait for ever."""
    errors: list[BaseException] = []

    def consume(source: Any) -> None:
        try:
            collect(source)
        except SourceError as error:
            errors.append(error)

    async def main() -> None:
        await asyncio.to_thread(consume, bind_source(failing(KeyboardInterrupt())))

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert "KeyboardInterrupt" in str(errors[0])


def test_close_cancels_what_is_awaited_and_waits_for_it() -> None:
    """A source may have to clean up: after the close it does not run any more."""
    events: list[str] = []

    async def source() -> AsyncIterator[bytes]:
        try:
            yield b"x"
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            events.append("cleaned up")

    async def main() -> None:
        layer = StreamLayer(source(), "none")

        def stop_early() -> None:
            with layer.open():
                pass
            events.append("closed")

        await asyncio.to_thread(stop_early)
        assert layer.state is LayerState.FAILED

    run(main())
    assert events[-1] == "closed"


def test_close_before_first_step_of_source() -> None:
    """The task is cancelled before it began."""

    async def main() -> None:
        source = bind_source(endless())
        thread = threading.Thread(target=lambda: open_source(source, SIZE).close())
        thread.start()
        await asyncio.to_thread(thread.join)

    run(main())


def test_second_stop_request_ends_wait_for_source() -> None:
    """A source that does not end when it is cancelled would keep the thread for ever."""
    stop, over = Stop(), asyncio.Event()

    async def stubborn() -> AsyncIterator[bytes]:
        yield b"x"
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError:
                stop.request()
                stop.request()

    def close(opened: Any) -> None:
        with stop_scope(stop), pytest.raises(KeyboardInterrupt):
            opened.close()

    async def main() -> None:
        opened = await asyncio.to_thread(open_source, bind_source(stubborn()), SIZE)
        assert opened.next_block(0) is None
        await asyncio.sleep(0)
        await asyncio.to_thread(close, opened)
        over.set()
        await asyncio.to_thread(opened.close)

    run(main())


def test_dropped_stream_cancels_source() -> None:
    """As for a file: with a warning, and no thread is left."""

    async def main() -> None:
        layer = StreamLayer(endless(), "none")

        def drop() -> None:
            layer.open()
            gc.collect()

        with pytest.warns(ResourceWarning, match="unclosed"):
            await asyncio.to_thread(drop)
        assert layer.state is LayerState.FAILED

    run(main())


def test_open_in_coroutine_of_its_loop_is_runtime_error() -> None:
    """It would wait for ever for the loop that waits for it."""

    async def main() -> None:
        with pytest.raises(RuntimeError, match="its own event loop"):
            StreamLayer(blocks()).open()

    run(main())


def test_close_in_event_loop_does_not_wait() -> None:
    """The collector may find a dropped stream there."""

    async def main() -> None:
        opened = await asyncio.to_thread(open_source, bind_source(endless()), SIZE)
        opened.close()
        await asyncio.sleep(0)

    run(main())


def test_source_without_event_loop_is_runtime_error() -> None:
    """A layer can be made outside; an asynchronous source cannot be read there."""
    with pytest.raises(RuntimeError, match="no event loop is running"):
        StreamLayer(blocks())


def test_source_of_ended_event_loop_is_source_error() -> None:
    """Not a wait for ever."""
    made: list[StreamLayer] = []

    async def main() -> None:
        made.append(StreamLayer(blocks()))

    run(main())
    with pytest.raises(SourceError, match="event loop of the source has ended"):
        made[0].open()


def test_loop_that_ends_during_read_is_source_error() -> None:
    """asyncio.run cancels the task; a loop of another kind just stops."""
    loop = asyncio.new_event_loop()

    async def opened() -> Any:
        return await asyncio.to_thread(open_source, bind_source(asyncio.StreamReader()), SIZE)

    source = loop.run_until_complete(opened())
    with pytest.raises(SourceError, match="event loop of the source has ended"):
        source.next_block(0.01)
    source.close()
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    source.close()


def test_last_block_after_loop_was_closed() -> None:
    """What was read is there, and so is the end."""
    loop = asyncio.new_event_loop()

    async def opened() -> Any:
        bound = bind_source(blocks(len(DATA)))
        source: Any = await asyncio.to_thread(open_source, bound, len(DATA))
        await asyncio.wait([source._reader._task])
        return source

    source = loop.run_until_complete(opened())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert source.next_block(0) == DATA
    assert source.next_block(0) == b""
    source.close()


def test_bound_source_can_be_bound_again() -> None:
    """A source that opens itself is taken as it is."""

    async def main() -> None:
        source = bind_source(blocks())
        assert isinstance(source, BoundSource)
        assert bind_source(source) is source

    run(main())


def test_error_of_closed_source_is_freed_at_once() -> None:
    """Its traceback refers to frames that hold blocks, so it must not wait for the collector."""

    class Failure(Exception):
        pass

    errors: list[weakref.ref[Failure]] = []

    async def source() -> AsyncIterator[bytes]:
        yield b"first"
        error = Failure()
        errors.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    def read(bound: BoundSource) -> None:
        blocks = bound.open_blocks(1 << 20)
        with pytest.raises(SourceError):
            while blocks.next_block(30) is None:
                pass
        blocks.close()

    async def main() -> None:
        await asyncio.to_thread(read, BoundSource(source()))

    gc.collect()
    gc.disable()
    try:
        asyncio.run(main())
        assert [error() for error in errors] == [None]
    finally:
        gc.enable()
