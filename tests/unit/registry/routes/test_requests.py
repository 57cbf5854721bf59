from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brolga.disk.directory import Directory
from brolga.registry.errors import BodyStalled
from brolga.registry.routes import requests
from brolga.registry.routes.requests import limit_body, write_body
from brolga.registry.storage import uploads
from brolga.registry.storage.uploads import HashCache, Upload, UploadBusy, open_writer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from pathlib import Path


async def stream(
    pieces: Sequence[bytes], error: BaseException | None = None
) -> AsyncGenerator[bytes, None]:
    """Yield pieces as a request's body does."""
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece
    if error is not None:
        raise error


def collect(
    pieces: Sequence[bytes], write: Callable[[bytearray], None], error: BaseException | None = None
) -> None:
    """Pour pieces in a loop of their own."""
    asyncio.run(write_body(stream(pieces, error), write))


@given(st.lists(st.binary(max_size=40), max_size=40), st.integers(1, 50))
@settings(deadline=None)
def test_write_body_writes_any_pieces_in_order(pieces: list[bytes], batch: int) -> None:
    """The bytes of a body in any pieces are written in order."""
    written: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests, "_BATCH", batch)
        collect(pieces, lambda block: written.append(bytes(block)))
    assert b"".join(written) == b"".join(pieces)
    # No more than a batch and what the last piece brought, and nothing empty.
    assert all(0 < len(block) < batch + 40 for block in written)


def test_write_body_keeps_one_batch_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one batch is written, no more than one other is gathered."""
    monkeypatch.setattr(requests, "_BATCH", 10)
    release = threading.Event()
    taken = 0

    async def endless() -> AsyncGenerator[bytes, None]:
        nonlocal taken
        for _ in range(100):
            taken += 1
            await asyncio.sleep(0)
            yield b"12345"

    def write(_block: bytearray) -> None:
        release.wait(10)

    async def main() -> None:
        task = asyncio.create_task(write_body(endless(), write))
        for _ in range(200):
            await asyncio.sleep(0)
        assert taken <= 4
        release.set()
        await task
        assert taken == 100

    asyncio.run(main())


def test_write_body_writes_a_cut_body_up_to_the_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes that arrived before the client left are written; then the error is raised."""
    monkeypatch.setattr(requests, "_BATCH", 4)
    written = bytearray()
    with pytest.raises(ConnectionError):
        collect([b"abc", b"def", b"g"], written.extend, ConnectionError("cut"))
    assert written == b"abcdefg"


@pytest.mark.parametrize("at", [0, 1, 2])
def test_write_body_writes_nothing_after_an_error(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """A block that is lost must not be followed by later ones."""
    monkeypatch.setattr(requests, "_BATCH", 2)
    calls: list[bytes] = []

    def write(block: bytearray) -> None:
        calls.append(bytes(block))
        if len(calls) > at:
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        collect([b"ab", b"cd", b"ef", b"gh", b"i"], write)
    assert len(calls) == at + 1


def test_open_writer_waits_for_the_previous_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client may return before its old connection is closed."""
    upload = Upload(tmp_path / "x", HashCache(), Directory(tmp_path))
    upload.path.touch()

    async def main() -> None:
        first = upload.writer()
        asyncio.get_running_loop().call_later(0.05, first.__exit__)
        async with open_writer(upload) as writer:
            assert writer is not first
        with upload.writer():
            monkeypatch.setattr(uploads, "_WAIT_S", 0.04)
            with pytest.raises(UploadBusy):
                async with open_writer(upload):
                    raise AssertionError

    asyncio.run(main())


class Clock:
    """A loop's time, which a test advances."""

    def __init__(self) -> None:
        self.now = 0.0

    async def wait(self, seconds: float) -> None:
        """Let some seconds go by, and run the tasks that wait for their end."""
        self.now += seconds
        for _ in range(3):
            await asyncio.sleep(0)

    async def trickle(self, pause_s: float, count: int) -> AsyncGenerator[bytes, None]:
        """Yield a byte now and then."""
        for _ in range(count):
            await self.wait(pause_s)
            yield b"x"

    def measure(self, pause_s: float, *, count: int = 1000, work_s: float = 0.0) -> int:
        """Return how many bytes of a body pass; it may stand still for 10 seconds."""

        async def main() -> int:
            size = 0
            asyncio.get_running_loop().time = lambda: self.now  # type: ignore[method-assign] # for that
            async for piece in limit_body(self.trickle(pause_s, count), None, 10.0):
                size += len(piece)
                self.now += work_s
            return size

        return asyncio.run(main())


@pytest.mark.parametrize(
    ("pause_s", "why"), [(0.7, "14 bytes came in 10 seconds: too slow"), (11.0, "nothing came in")]
)
def test_limit_body_raises_for_slow_body(pause_s: float, why: str) -> None:
    """A client cannot stay for ever on a byte now and then."""
    with pytest.raises(BodyStalled, match=why):
        Clock().measure(pause_s)


def test_limit_body_accepts_short_rest() -> None:
    """The last bytes may be fewer than the minimum."""
    assert Clock().measure(0.7, count=14) == 14


def test_limit_body_ignores_time_of_the_consumer() -> None:
    """The time of a slow disk does not count."""
    assert Clock().measure(0.0, count=20, work_s=5.0) == 20


def test_limit_body_restarts_the_time_after_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part of a body has the whole time for itself."""
    monkeypatch.setattr(requests, "_MIN_PROGRESS", 2)
    assert Clock().measure(4.0, count=40) == 40
