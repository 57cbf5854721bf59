"""A request to stop, which the waits of a thread see.

Knows how a thread is told to stop. Must not know what it does.

Strategy: an interrupt comes to the main thread alone, and where it comes just before a call of the
operating system begins to wait, that call does not notice. So no wait is longer than `SLICE_S`:
between two of them the interpreter runs the handlers of signals, and a thread looks whether it is
to stop. It is then interrupted as the main thread is.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SLICE_S", "Stop", "current_stop", "sleep", "stopped_by"]

SLICE_S: Final = 0.25  # seconds


class Stop:
    """A request to stop, made by one thread and seen by others.

    `requests` counts how often it was made: from the second on nothing more is to be called, the
    request that ends an upload session included.
    """

    def __init__(self) -> None:
        self.requests = 0

    def request(self) -> None:
        """Ask once more."""
        self.requests += 1

    def check(self, allowed: int = 0) -> None:
        """Raise KeyboardInterrupt if there were more requests than `allowed`."""
        if self.requests > allowed:
            raise KeyboardInterrupt("another thread asked this one to stop")


_STOP: Final[ContextVar[Stop]] = ContextVar("_STOP", default=Stop())  # noqa: B039 - nobody asks the default to stop


def current_stop() -> Stop:
    """Return what may ask this thread to stop."""
    return _STOP.get()


@contextmanager
def stopped_by(stop: Stop) -> Iterator[None]:
    """Let `stop` interrupt the waits of this thread."""
    token = _STOP.set(stop)
    try:
        yield
    finally:
        _STOP.reset(token)


def sleep(seconds: float) -> None:
    """Sleep, and raise KeyboardInterrupt soon after this thread is asked to stop."""
    stop, end = current_stop(), time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        stop.check()
        time.sleep(min(left, SLICE_S))
