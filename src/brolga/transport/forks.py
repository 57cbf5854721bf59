"""What a child process must not share with its parent (fork(2)).

Knows that a child inherits every socket, and every lock as it stands. Must not know what they are
for.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import socket

__all__ = ["after_fork", "close_in_child"]


class _Renewable(Protocol):
    def renew(self) -> None:
        """Replace what cannot be used in a child process: locks, connections."""


_renewable: Final[weakref.WeakSet[_Renewable]] = weakref.WeakSet()
_sockets: Final[weakref.WeakSet[socket.socket]] = weakref.WeakSet()


def after_fork(item: _Renewable) -> None:
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
