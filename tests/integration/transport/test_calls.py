"""transport/calls.py: the blocking calls of a flow on an event loop."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from tests.raw_server import Peer, serve_script

from brolga.protocol import Request
from brolga.protocol.http import call
from brolga.transport.aio import AsyncTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from brolga.protocol import Flow

pytestmark = pytest.mark.parametrize("driver", ["asyncio"], indirect=True)


class FailedCall(Exception):
    """What a call raises."""


def test_error_of_call_is_freed_without_garbage_collection() -> None:
    """A failed request must not keep its blocks until a cycle is collected."""
    errors: list[weakref.ref[FailedCall]] = []

    def fail() -> None:
        error = FailedCall()
        errors.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    async def main() -> None:
        async with AsyncTransport() as transport:
            for flow in (call(fail), _catching(fail)):
                with suppress(FailedCall):
                    await transport.run(flow)

    gc.collect()
    gc.disable()
    try:
        asyncio.run(main())
        assert [error() for error in errors] == [None, None]
    finally:
        gc.enable()


def _catching(function: Callable[[], None]) -> Flow[None]:
    try:
        yield from call(function)
    except FailedCall:
        return


def test_call_is_made_outside_of_loop() -> None:
    """The loop is not blocked by it."""

    def is_loop_running() -> bool:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return False
        return True

    async def main() -> bool:
        async with AsyncTransport() as transport:
            return await transport.run(call(is_loop_running))

    assert asyncio.run(main()) is False


def test_stream_yields_items_between_requests() -> None:
    """A flow that yields pages or blocks is iterated on the loop."""
    closed: list[str] = []

    def flow(url: str) -> Generator[Request | bytes, object, None]:
        try:
            yield b"one"
            yield Request("GET", url)
            yield b"two"
        finally:
            closed.append("flow")

    async def main(url: str) -> list[bytes]:
        async with AsyncTransport() as transport:
            blocks = [bytes(block) async for block in transport.stream(flow(url))]
            left = transport.stream(flow(url))
            assert await anext(left) == b"one"
            await left.aclose()
            return blocks

    def script(peer: Peer) -> None:
        peer.head()
        peer.answer(200)

    with serve_script(script) as address:
        assert asyncio.run(main(f"http://{address}/")) == [b"one", b"two"]
    assert closed == ["flow", "flow"]
