"""Threads of ours, which an interrupt of their owner's thread can neither break nor lose.

Knows threads alone. Must not know what they do.

Strategy: a signal's handler may raise in the owner's thread between any two bytecodes, so that
thread takes no lock of Python code. It starts and awaits a worker by single calls of C.
"""

from __future__ import annotations

import _thread
import os
import queue
import sys
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["POLL_INTERVAL_S", "Stop", "Worker", "current_stop", "sleep", "stop_scope"]


class Worker:
    """A thread of ours, which an interrupt of its owner's thread can neither break nor lose.

    `Thread.start` waits with a lock of Python code. An interrupt there would keep that lock for
    good, and the new thread would never run. So it is called in a thread where no handler of a
    signal runs, and the owner waits for nothing but a token.
    """

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self._name = name
        self._work = work
        self._process = os.getpid()
        self._starts: list[int] = []  # empty until the start, then one
        self._thread: threading.Thread | None = None
        self._over = False
        self._end: queue.SimpleQueue[None] = queue.SimpleQueue()

    @property
    def is_here(self) -> bool:
        """Whether it is a thread of this process; a child has none of its parent's (fork(2))."""
        return self._process == os.getpid()

    def start(self) -> None:
        """Start the thread, the first time. Raises RuntimeError where there can be none."""
        if not self._starts:
            # In one call of C: no interrupt comes between the start and the note of it.
            self._starts.extend(map(_thread.start_new_thread, [self._start], [()]))

    def join(self) -> bool:
        """Wait for the thread's end; return whether it is over.

        It may not be where nobody can wait: in a thread of ours, where a dropped cycle was
        collected, and while the interpreter ends, which has stopped them all.
        """
        if not self._starts or not self.is_here:
            return True
        if _ours.is_this or sys.is_finalizing():
            return False
        if not self._over:  # where it is, an interrupt may have lost the token
            self._end.get()
        if self._thread is not None:
            self._thread.join()  # its last few instructions
        return True

    def _start(self) -> None:
        _ours.is_this = True
        self._thread = threading.Thread(target=self._live, name=self._name, daemon=True)
        try:
            self._thread.start()
        except (RuntimeError, MemoryError):  # there is no other thread to be had: this one serves
            self._thread = None
            self._live()

    def _live(self) -> None:
        _ours.is_this = True
        try:
            self._work()
        finally:
            self._over = True  # before the token, which comes once
            self._end.put(None)


class _Ours(threading.local):
    is_this = False  # whether this thread is one of ours


_ours: Final = _Ours()


POLL_INTERVAL_S: Final = 0.25  # seconds


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
def stop_scope(stop: Stop) -> Iterator[None]:
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
        time.sleep(min(left, POLL_INTERVAL_S))
