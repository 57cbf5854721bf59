"""The thread of the event loop makes no call that waits, and computes no digest."""

from __future__ import annotations

import asyncio
import os
import select
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

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
    "socket.sendall",
    "sleep",
    "flock",
    "fsync",
    "HASH.update",
    "compress",
    "_ParallelCompress.compress_and_crc",
    "ZstdCompressor.compress",
}


SMALL = 1 << 16  # bytes


def is_short(frame: FrameType, name: str) -> bool:
    """Return whether a call computes the digest of a small manifest."""
    is_digest = name == "HASH.update" and frame.f_code.co_name == "of"
    return is_digest and len(frame.f_locals["data"]) < SMALL


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
        name = getattr(function, "__qualname__", "") if event == "c_call" else ""
        if not is_short(frame, name):
            names.add(name)

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
