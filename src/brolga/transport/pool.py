"""The idle connections of a transport, by what they lead to."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, Final

from brolga.transport.forks import close_in_child, renew_in_child

if TYPE_CHECKING:
    from brolga.transport.streams import Stream

_EXPIRY_S: Final = 30.0  # seconds that an idle connection is kept


class _Idle:
    """An idle connection."""

    def __init__(self, key: object, stream: Stream) -> None:
        self.key = key
        self.stream = stream
        self.expiry = time.monotonic() + _EXPIRY_S

    @property
    def is_usable(self) -> bool:
        """Whether it is neither too old nor readable: the server has sent nothing, nor hung up."""
        if time.monotonic() >= self.expiry or self.stream.has_input:
            return False
        poll = select.poll()
        try:
            poll.register(self.stream.socket, select.POLLIN)
        except ValueError:  # another thread has closed it
            return False
        return not poll.poll(0)


class Pool:
    """The connections of a transport, of which at most `keepalive` are idle.

    Threads may share an instance. A signal handler may interrupt any of them, so it has no lock:
    only single calls of C change the list and the set.
    """

    def __init__(self, keepalive: int) -> None:
        self._keepalive = keepalive
        self._is_closed = False
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Drop the parent's connections in a child process, which must not read their responses."""
        self._idle: list[_Idle] = []
        self._open: set[Stream] = set()

    def check_open(self) -> None:
        """Raise RuntimeError after `close`."""
        if self._is_closed:
            raise RuntimeError("the client is closed")

    def add(self, stream: Stream) -> None:
        """Note a new connection: `close` closes it."""
        close_in_child(stream.socket)
        self._open.add(stream)
        if self._is_closed:
            self.discard(stream)

    def discard(self, stream: Stream) -> None:
        """Close a connection."""
        self._open.discard(stream)
        stream.close()

    def put(self, key: object, stream: Stream) -> None:
        """Keep a connection for the next request with an equal `key`."""
        self._idle.append(_Idle(key, stream))
        for idle in self._idle.copy():
            is_superfluous = self._is_closed or len(self._idle) > self._keepalive
            if (is_superfluous or time.monotonic() > idle.expiry) and self._remove(idle):
                self.discard(idle.stream)

    def take(self, key: object) -> Stream | None:
        """Return the idle connection that was used last, or None."""
        for idle in reversed(self._idle.copy()):
            if idle.key == key and self._remove(idle):
                if idle.is_usable:
                    return idle.stream
                self.discard(idle.stream)
        return None

    def close(self) -> None:
        """Close every connection, also those in use."""
        self._is_closed = True
        self._idle.clear()
        for stream in list(self._open):
            self.discard(stream)

    def _remove(self, idle: _Idle) -> bool:
        """Remove an entry; return False if another thread was first."""
        try:
            self._idle.remove(idle)
        except ValueError:
            return False
        return True
