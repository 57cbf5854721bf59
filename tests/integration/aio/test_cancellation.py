"""Cancelling a task ends its upload session at the registry, wherever the upload is."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests import threads
from tests.raw_server import Peer, serve_script
from tests.registries import ScriptedRegistry

from brolga import Image, InMemoryBlob, RangeOptions, SourceError, StreamLayer
from brolga.aio import AsyncClient
from brolga.client import TransportOptions, UploadOptions
from brolga.protocol import Retry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

    from tests.registries import EmbeddedRegistry

PATIENCE_S = 120.0
MIB = 1 << 20


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, PATIENCE_S))


async def cancel(task: asyncio.Task[Any], times: int = 1) -> None:
    """Cancel a task, and wait for its end."""
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([task])
    assert task.cancelled()


class Silent:
    """An asynchronous source that gives some blocks, and then nothing."""

    def __init__(self, size: int = 3 * MIB) -> None:
        self.size = size
        self.is_silent = asyncio.Event()
        self.has_ended = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the blocks; then wait."""
        try:
            for _ in range(self.size // MIB):
                yield os.urandom(MIB)
            self.is_silent.set()
            await asyncio.Event().wait()
        finally:
            self.has_ended = True


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds that another thread brings about."""

    async def wait() -> None:
        while not condition():  # noqa: ASYNC110 - it is a file of the registry that appears
            await asyncio.sleep(0.005)

    await asyncio.wait_for(wait(), PATIENCE_S)


@pytest.mark.parametrize("size", [0, 3 * MIB])
def test_cancel_while_source_is_silent(registry: EmbeddedRegistry, size: int) -> None:
    """No session is left, the source is not awaited any more, and no thread reads it."""

    async def main() -> None:
        async with AsyncClient() as client:
            source = Silent(size)
            push = client.push_layer(f"{registry.address}/x", StreamLayer(source, "none"))
            task = asyncio.create_task(push)
            await source.is_silent.wait()
            if size:
                await until(lambda: registry.uploads("x"))
            await cancel(task)
            assert source.has_ended
            assert threads.none_left()

    run(main())
    assert registry.uploads("x") == registry.blobs("x") == []


def test_cancel_while_file_is_silent(registry: EmbeddedRegistry) -> None:
    """The reading thread is woken, as by Ctrl-C."""

    async def main() -> None:
        end, start = os.pipe()
        with os.fdopen(end, "rb") as source, os.fdopen(start, "wb", 0) as pipe:
            async with AsyncClient() as client:
                push = client.push_layer(f"{registry.address}/x", StreamLayer(source, "none"))
                task = asyncio.create_task(push)
                await asyncio.to_thread(pipe.write, bytes(2 * MIB))
                await until(lambda: registry.uploads("x"))
                await cancel(task)

    run(main())
    assert registry.uploads("x") == []


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_cancel_push_of_image_with_several_streams(registry: EmbeddedRegistry, jobs: int) -> None:
    """The threads of the push see the request; each cancels its own session."""

    async def main() -> None:
        async with AsyncClient(uploads=UploadOptions(jobs=jobs)) as client:
            sources = [Silent() for _ in range(3)]
            layers = [StreamLayer(source, "none") for source in sources]
            push = client.push(f"{registry.address}/x:v1", Image.empty().append(*layers))
            task = asyncio.create_task(push)
            for source in sources[:jobs]:
                await source.is_silent.wait()
            await until(lambda: len(registry.uploads("x")) == jobs)
            await cancel(task)

    run(main())
    assert registry.uploads("x") == []


def test_error_of_one_stream_ends_the_sessions_of_others(registry: EmbeddedRegistry) -> None:
    """The first failure is raised, after the other sessions were cancelled."""

    async def main() -> None:
        other = Silent()

        async def failing() -> AsyncIterator[bytes]:
            await other.is_silent.wait()
            yield b"x"
            await until(lambda: registry.uploads("x"))
            raise OSError("cut")

        layers = [StreamLayer(source, "none") for source in (other, failing())]
        async with AsyncClient() as client:
            with pytest.raises(SourceError, match="cut"):
                await client.push(f"{registry.address}/x:v1", Image.empty().append(*layers))

    run(main())
    assert registry.uploads("x") == []


def test_cancel_push_into_layout(tmp_path: Path) -> None:
    """No request is made there: what waits for the source notices it."""

    async def main() -> None:
        async with AsyncClient() as client:
            source = Silent()
            image = Image.empty().append(StreamLayer(source, "none"))
            task = asyncio.create_task(client.push(f"oci:{tmp_path}/layout:v1", image))
            await source.is_silent.wait()
            await cancel(task)

    run(main())
    assert not (tmp_path / "layout").exists()


class Held(ScriptedRegistry):
    """A registry that answers no request of one method until the test is over."""

    def __init__(self, method: str) -> None:
        self.held = threading.Event()
        self.over = threading.Event()

        def intercept(peer: Peer, head: list[str]) -> bool:
            if not head[0].startswith(method):
                return False
            self.held.set()
            self.over.wait(PATIENCE_S)
            peer.answer(503)
            return True

        super().__init__(intercept)


def push_and_cancel(registry: Held, times: int) -> None:
    """Push to a registry; cancel when it holds the request."""

    async def main(address: str) -> None:
        async with AsyncClient(retry=Retry(attempts=1)) as client:
            push = client.push_layer(f"{address}/x", StreamLayer([b"x"], "none"))
            task = asyncio.create_task(push)
            await asyncio.to_thread(registry.held.wait, PATIENCE_S)
            try:
                await cancel(task, times)
            finally:
                registry.over.set()

    with serve_script(registry) as address:
        run(main(address))


@pytest.mark.parametrize(
    ("method", "methods"),
    [
        ("GET", []),
        ("POST", ["GET"]),
        ("PUT", ["GET", "POST", "PATCH", "DELETE"]),
    ],
)
def test_cancel_while_response_is_awaited(method: str, methods: list[str]) -> None:
    """It ends the wait; a session that is known is cancelled."""
    registry = Held(method)
    push_and_cancel(registry, 2 if method == "POST" else 1)
    assert registry.methods == methods


def test_second_cancellation_makes_no_more_requests() -> None:
    """Not even the one that cancels the session."""
    registry = Held("PUT")
    push_and_cancel(registry, 2)
    assert registry.methods == ["GET", "POST", "PATCH"]


def test_cancel_while_registry_takes_no_more_bytes() -> None:
    """The body cannot be ended properly, and the session may be left: but the task ends."""
    held, over = threading.Event(), threading.Event()

    def intercept(peer: Peer, head: list[str]) -> bool:
        if not head[0].startswith("PATCH"):
            return False
        peer.chunk()
        held.set()
        over.wait(PATIENCE_S)
        peer.drain()
        return True

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(MIB)

    async def main(address: str) -> None:
        async with AsyncClient(retry=Retry(attempts=1)) as client:
            push = client.push_layer(f"{address}/x", StreamLayer(endless(), "none"))
            task = asyncio.create_task(push)
            await asyncio.to_thread(held.wait, PATIENCE_S)
            try:
                await cancel(task, 2)
            finally:
                over.set()

    with serve_script(ScriptedRegistry(intercept)) as address:
        run(main(address))


def test_cancel_while_retry_waits() -> None:
    """A pause of an hour is a wait as any other."""
    asked = threading.Event()

    def intercept(peer: Peer, head: list[str]) -> bool:
        if not head[0].startswith("POST"):
            return False
        asked.set()
        peer.answer(503)
        return True

    async def main(address: str) -> None:
        retry = Retry(initial_delay_s=3600.0, max_delay_s=3600.0, max_elapsed_s=36000.0)
        async with AsyncClient(retry=retry) as client:
            push = client.push_layer(f"{address}/x", StreamLayer([b"x"]))
            task = asyncio.create_task(push)
            await asyncio.to_thread(asked.wait, PATIENCE_S)
            await cancel(task)

    with serve_script(ScriptedRegistry(intercept)) as address:
        run(main(address))


def test_cancel_read_of_blob() -> None:
    """A reader that waits for the next block is woken, and the connection closed."""
    held = threading.Event()

    def script(peer: Peer) -> None:
        while head := peer.head():
            if "/blobs/" in head[0]:
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx")
                held.set()
                assert peer.drain() == b""
                return
            peer.answer(200)

    async def main(address: str) -> None:
        async with AsyncClient() as client:

            async def read() -> None:
                async with client.blob(f"{address}/x@sha256:{64 * '0'}") as stream:
                    await stream.read()

            task = asyncio.create_task(read())
            await asyncio.to_thread(held.wait, PATIENCE_S)
            await cancel(task)

    with serve_script(script) as address:
        run(main(address))


def test_cancelled_read_at_a_position_may_be_repeated() -> None:
    """The request was begun by a read before: each is cancelled for itself."""
    held = threading.Event()
    data = bytes(range(100))

    def script(peer: Peer) -> None:
        while head := peer.head():
            if part := peer.header("range", head):
                first, last = map(int, part[0].removeprefix("bytes=").split("-"))
                lines = (
                    "HTTP/1.1 206 Partial Content",
                    f"Content-Length: {last + 1 - first}",
                    f"Content-Range: bytes {first}-{last}/100",
                )
                sent = data[first : last + 1]
                stops = (first, last) == (10, 29) and not held.is_set()
                peer.send("\r\n".join([*lines, "", ""]).encode() + sent[: 15 if stops else 100])
                if stops:
                    held.set()
                    assert peer.drain() == b""
                    return
            else:
                peer.answer(200)

    async def main(address: str) -> None:
        descriptor = InMemoryBlob(data, "application/x").descriptor
        options = RangeOptions(block_size=10)
        async with (
            AsyncClient(transport=TransportOptions(timeout_s=3600)) as client,
            client.open_blob(f"{address}/x", descriptor, options=options) as file,
        ):
            assert await file.read(10) == data[:10]
            assert await file.read(10) == data[10:20]
            task = asyncio.create_task(file.read(10))
            await until(lambda: client._transport._waits)  # the read waits for the server
            await cancel(task)
            assert await file.tell() == 20
            assert await file.read() == data[20:]

    with serve_script(script) as address:
        run(main(address))


def test_ctrl_c_cancels_the_session(registry: EmbeddedRegistry) -> None:
    """asyncio.run turns the first SIGINT into a cancellation of the main task."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with AsyncClient() as client:
            source = Silent()
            push = client.push_layer(f"{registry.address}/x", StreamLayer(source, "none"))
            task = asyncio.create_task(push)
            await until(lambda: registry.uploads("x"))
            loop.call_later(0, os.kill, os.getpid(), 2)
            await task

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert registry.uploads("x") == []


def test_close_of_client_cancels_sessions(registry: EmbeddedRegistry) -> None:
    """What another task pushes ends with a RuntimeError."""

    async def main() -> None:
        async with AsyncClient() as client:
            source = Silent()
            push = client.push_layer(f"{registry.address}/x", StreamLayer(source, "none"))
            task = asyncio.create_task(push)
            await until(lambda: registry.uploads("x"))
        with pytest.raises(RuntimeError, match="the client was closed"):
            await task

    run(main())
    assert registry.uploads("x") == []
