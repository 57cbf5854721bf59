"""transport/calls.py: the blocking calls of a flow on an event loop."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from brolga.protocol.http import call
from brolga.transport.aio import AsyncTransport

if TYPE_CHECKING:
    from collections.abc import Callable

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
