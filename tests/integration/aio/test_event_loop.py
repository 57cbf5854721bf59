"""The thread of the event loop makes no call that waits, and computes no digest."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from tests.raw_server import Peer, serve_script

from brolga import Image, StreamLayer
from brolga.aio import AsyncClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import FrameType

    from tests.registries import EmbeddedRegistry

# Functions of C by their qualified names.
BLOCKING = {
    "SimpleQueue.get",
    "socket.connect",
    "socket.recv",
    "socket.recv_into",
    "socket.sendall",
    "socket.sendmsg",
    "sleep",
    "flock",
    "fsync",
    "HASH.update",
    "compress",
    "_ParallelCompress.compress_and_crc",
    "ZstdCompressor.compress",
}


SMALL = 1 << 16  # bytes


def is_short(frame: FrameType, function: Any) -> bool:
    """Return whether a call does not wait, or computes the digest of a small manifest."""
    if isinstance(owner := getattr(function, "__self__", None), socket.socket):
        return owner.gettimeout() == 0
    if getattr(function, "__qualname__", "") == "HASH.update":
        return frame.f_code.co_name == "of" and len(frame.f_locals["data"]) < SMALL
    return False


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """Record the timeouts of poll(2) with which this thread waits, in milliseconds."""
    timeouts: list[float | None] = []
    here, make = threading.current_thread(), select.poll

    class Poll:
        def __init__(self) -> None:
            self._poll = make()
            self.register = self._poll.register

        def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
            if threading.current_thread() is here and timeout != 0:
                timeouts.append(timeout)
            return self._poll.poll(timeout)

    monkeypatch.setattr(select, "poll", Poll)
    return timeouts


@contextmanager
def recorded_calls() -> Iterator[set[str]]:
    """Record the names of the functions of C that this thread calls."""
    names: set[str] = set()

    def record(frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and not is_short(frame, function):
            names.add(getattr(function, "__qualname__", ""))

    sys.setprofile(record)
    try:
        yield names
    finally:
        sys.setprofile(None)


def test_recorded_calls_notice_what_blocks() -> None:
    """The list has the names that these functions have."""
    import hashlib
    import queue
    import time

    blocks: queue.SimpleQueue[int] = queue.SimpleQueue()
    blocks.put(1)
    with recorded_calls() as names:
        blocks.get()
        time.sleep(0)
        hashlib.sha256().update(b"")
    assert names >= {"SimpleQueue.get", "sleep", "HASH.update"}


async def blocks() -> AsyncIterator[bytes]:
    """Yield some blocks, and let other tasks run in between."""
    for _ in range(8):
        await asyncio.sleep(0)
        yield os.urandom(300_000)


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_event_loop_makes_no_blocking_call(
    registry: EmbeddedRegistry, waits: list[float | None], compression: str
) -> None:
    """A push, a read and a list: what waits or computes does so in threads."""

    async def main() -> None:
        place = f"{registry.address}/x:v1"
        layers = [StreamLayer(blocks(), compression) for _ in range(2)]
        new = Image.empty().append(*layers)
        with recorded_calls() as names:
            async with AsyncClient() as client:
                pushed = await client.push(place, new)
                image = await client.image(place)
                assert image.config.diff_ids == tuple(layer.diff_id for layer in layers)
                async for _ in client.blob(f"{registry.address}/x@{layers[0].digest}"):
                    pass
                assert [tag async for tag in client.iter_tags(f"{registry.address}/x")] == ["v1"]
                assert (await client.head(place)).digest == pushed.digest
        assert "SimpleQueue.get_nowait" in names
        assert names & BLOCKING == set()
        assert waits == []

    asyncio.run(main())


def test_request_in_thread_of_event_loop_is_runtime_error(registry: EmbeddedRegistry) -> None:
    """The loop would wait for itself: opening a layer is for another thread."""

    async def main() -> None:
        place = f"{registry.address}/x:v1"
        async with AsyncClient() as client:
            await client.push(place, Image.empty().append(StreamLayer(blocks(), "none")))
            layer = (await client.image(place)).layers[0]
            with layer.open() as stream, pytest.raises(RuntimeError, match="wait for itself"):
                stream.read()

            def read() -> int:
                with layer.open() as stream:
                    return len(stream.read())

            assert await asyncio.to_thread(read) == layer.descriptor.size

    asyncio.run(main())


def test_request_after_end_of_event_loop_is_runtime_error(registry: EmbeddedRegistry) -> None:
    """A thread that waits for a loop which stopped would wait for ever."""
    loop = asyncio.new_event_loop()

    async def start() -> tuple[AsyncClient, Image]:
        client = AsyncClient()
        place = f"{registry.address}/x:v1"
        await client.push(place, Image.empty().append(StreamLayer(blocks(), "none")))
        return client, await client.image(place)

    client, image = loop.run_until_complete(start())
    with image.layers[0].open() as stream, pytest.raises(RuntimeError, match="has ended"):
        stream.read()
    loop.run_until_complete(client.close())
    loop.close()


def test_end_of_event_loop_during_request_is_runtime_error() -> None:
    """The thread that waits for the response does not wait for ever."""
    loop, asked = asyncio.new_event_loop(), threading.Event()
    errors: list[BaseException] = []

    def hold(peer: Peer) -> None:
        peer.head()
        asked.set()
        peer.drain()

    def head(client: AsyncClient, address: str) -> None:
        try:
            client._blocking.head(f"{address}/x:v1")
        except RuntimeError as error:
            errors.append(error)

    async def start(address: str) -> AsyncClient:
        client = AsyncClient()
        thread.extend([threading.Thread(target=head, args=(client, address))])
        thread[0].start()
        await asyncio.to_thread(asked.wait, 30)
        return client

    thread: list[threading.Thread] = []
    with serve_script(hold) as address:
        client = loop.run_until_complete(start(address))
        thread[0].join()
        loop.run_until_complete(client.close())
        loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert [str(error) for error in errors] == ["the event loop of the client has ended"]
