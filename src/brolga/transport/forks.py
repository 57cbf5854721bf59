"""Locks and sockets that a child process does not share with its parent (fork(2))."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import socket


class _Renewable(Protocol):
    def renew(self) -> None:
        """Replace what a child process cannot use."""


_renewable: Final[weakref.WeakSet[_Renewable]] = weakref.WeakSet()
_sockets: Final[weakref.WeakSet[socket.socket]] = weakref.WeakSet()


class ForkSafeLock:
    """A lock that is free in a child process, even if a thread of the parent held it."""

    def __init__(self) -> None:
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Replace the lock."""
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        """Acquire the lock."""
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        """Release the lock."""
        self._lock.release()


def renew_in_child(item: _Renewable) -> None:
    """Call `item.renew` in each child process, before anything else runs there."""
    _renewable.add(item)


def close_in_child(connection: socket.socket) -> None:
    """Close a socket in each child process; the connection stays the parent's."""
    _sockets.add(connection)


def _renew() -> None:
    for connection in tuple(_sockets):
        connection.close()
    for item in tuple(_renewable):
        item.renew()


os.register_at_fork(after_in_child=_renew)
