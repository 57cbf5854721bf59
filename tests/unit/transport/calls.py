"""What the tests of the transport share: the shortest flows, and what is expected of them."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

import pytest

from brolga.errors import TransportError
from brolga.protocol import Flow, Request, Response, Timeout

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Iterator

BLOCK = bytes(range(256)) * 256  # 64 KiB
PATIENCE_S = 30.0  # until a test that would hang for ever fails instead


def one(request: Request) -> Flow[Response]:
    """Make one call: the shortest flow."""
    return (yield request)


def patch(
    url: str, body: Iterable[bytes | memoryview], *, patience: Timeout = Timeout.DEFAULT
) -> Flow[Response]:
    """Stream a body."""
    return one(Request("PATCH", url, {"Content-Type": "application/octet-stream"}, body, patience))


@contextmanager
def failing(reason: str, text: str = "") -> Iterator[list[TransportError]]:
    """Expect a TransportError of that reason; give a list that it will be in."""
    caught: list[TransportError] = []
    with pytest.raises(TransportError, match=text or None) as info:
        yield caught
    caught.append(info.value)
    assert info.value.reason == reason


def wait(event: threading.Event) -> None:
    """Wait for what another thread does."""
    assert event.wait(PATIENCE_S)


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
