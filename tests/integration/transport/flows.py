"""Flows of one request, and helpers, for the tests of the transport."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

import pytest

from brolga.errors import TransportError
from brolga.protocol import Flow, Request, Response, Timeout
from brolga.protocol.http import send_request

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Iterator

BLOCK = bytes(range(256)) * 256  # 64 KiB
TEST_TIMEOUT_S = 30.0  # until a test that would hang for ever fails instead


def perform(request: Request) -> Flow[Response]:
    """Make one call: the shortest flow."""
    return (yield from send_request(request))


def patch(
    url: str, body: Iterable[bytes | memoryview], *, timeout: Timeout = Timeout.DEFAULT
) -> Flow[Response]:
    """Stream a body."""
    return perform(
        Request("PATCH", url, {"Content-Type": "application/octet-stream"}, body, timeout)
    )


@contextmanager
def failing(reason: str, text: str = "", hint: str = "") -> Iterator[list[TransportError]]:
    """Expect a TransportError of that reason and hint; give a list that it will be in."""
    caught: list[TransportError] = []
    with pytest.raises(TransportError, match=text or None) as info:
        yield caught
    caught.append(info.value)
    assert (info.value.reason, info.value.hint) == (reason, hint)


def wait(event: threading.Event) -> None:
    """Wait for what another thread does."""
    assert event.wait(TEST_TIMEOUT_S)


class Source:
    """An endless body that knows what was taken of it, and can wait for the server."""

    def __init__(self, block: bytes = BLOCK, *, until: threading.Event | None = None) -> None:
        self.taken = 0
        self.after = 0  # blocks taken after `until`
        self._block = block
        self._until = until

    def __iter__(self) -> Iterator[bytes]:
        """Give blocks without an end."""
        for _ in count():
            self.taken += 1
            yield self._block
            if self._until is not None:
                wait(self._until)
                self.after += 1


class FailedSource(Exception):
    """What a source raises."""


def half(error: BaseException | None = None) -> Iterator[bytes]:
    """Make a body that fails in its middle."""
    yield b"half"
    raise error or FailedSource


def record_thrown(
    url: str, body: bytes | Iterable[bytes], caught: list[BaseException]
) -> Flow[Response]:
    """Stream a body; record the errors that are thrown in."""
    try:
        return (yield from perform(Request("PATCH", url, body=body)))
    except BaseException as error:
        caught.append(error)
        raise
