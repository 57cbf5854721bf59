"""Worker threads and stop requests that work with interrupts.

A signal handler may raise in the owner's thread between any two bytecodes, so that thread uses no
locks of Python code: it starts and awaits a worker by single calls of C.
"""

from __future__ import annotations

import _thread
import os
import sys
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from queue import SimpleQueue

POLL_INTERVAL_S: Final = 0.25  # the longest wait before a thread looks for a stop request


class Worker:
    """A thread that an interrupt of its owner's thread can neither break nor lose.

    `Thread.start` waits with a lock of Python code. An interrupt there would keep that lock for
    good, and the new thread would never run. So `start` is called in a helper thread, where no
    signal handler runs, and the owner waits for a token only.
    """

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        from queue import SimpleQueue  # the waits below, which each verb needs, do without

        self._name = name
        self._work = work
        self._process = os.getpid()
        self._starts: list[int] = []  # empty until the start, then one
        self._thread: threading.Thread | None = None
        self._ended = False
        self._end: SimpleQueue[None] = SimpleQueue()

    @property
    def is_in_this_process(self) -> bool:
        """Whether this process made it: a child has none of its parent's threads (fork(2))."""
        return self._process == os.getpid()

    def start(self) -> None:
        """Start the thread, the first time. Raises RuntimeError if no thread can be started."""
        if not self._starts:
            # In one call of C: no interrupt comes between the start and the note of it.
            self._starts.extend(map(_thread.start_new_thread, [self._start], [()]))

    def join(self) -> bool:
        """Wait for the thread's end; return whether it has ended.

        It does not wait in a worker thread, which may have collected a dropped cycle, nor while the
        interpreter ends, as all threads have stopped then.
        """
        if not self._starts or not self.is_in_this_process:
            return True
        if _current.is_worker or sys.is_finalizing():
            return False
        if not self._ended:  # else an interrupt may have lost the token
            self._end.get()
        if self._thread is not None:
            self._thread.join()  # its last few instructions
        return True

    def _start(self) -> None:
        _current.is_worker = True
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        try:
            self._thread.start()
        except (RuntimeError, MemoryError):  # no second thread is available: use this one
            self._thread = None
            self._run()

    def _run(self) -> None:
        _current.is_worker = True
        try:
            self._work()
        finally:
            self._ended = True  # before the token, which comes once
            self._end.put(None)


class _Current(threading.local):
    is_worker = False


_current: Final = _Current()


class Stop:
    """A request to stop, made by one thread and seen by others.

    After the second request a thread makes no more requests to a registry, not even the one that
    cancels an upload session. A request of `parent` applies here too. `reason` is the text of the
    interrupt.
    """

    def __init__(
        self, parent: Stop | None = None, reason: str = "another thread asked this one to stop"
    ) -> None:
        self._requests = 0
        self._parent = parent
        self._reason = reason

    @property
    def requests(self) -> int:
        """How often it was requested."""
        return max(self._requests, self._parent.requests if self._parent else 0)

    def request(self) -> None:
        """Ask once more."""
        self._requests += 1

    def request_once(self) -> None:
        """Ask, unless it was requested here before."""
        self._requests = max(self._requests, 1)

    def check(self, allowed: int = 0) -> None:
        """Raise KeyboardInterrupt if there were more requests than `allowed`."""
        if self.requests > allowed:
            raise KeyboardInterrupt(self._reason)


_STOP: Final[ContextVar[Stop]] = ContextVar("_STOP", default=Stop())  # noqa: B039 - no one calls `request` of the default


def current_stop() -> Stop:
    """Return the stop request that applies to this thread."""
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
    """Sleep; raise KeyboardInterrupt soon after this thread is asked to stop."""
    stop, end = current_stop(), time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        stop.check()
        time.sleep(min(left, POLL_INTERVAL_S))
