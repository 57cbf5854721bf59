"""transport/forks.py: a child process makes its own connections."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from tests.integration.transport.flows import perform
from tests.processes import in_child
from tests.raw_server import Peer, serve_script

from brolga.protocol import Request

# A loop is not made to be used in a child process.
pytestmark = pytest.mark.parametrize("driver", ["threads"], indirect=True)

if TYPE_CHECKING:
    from brolga.transport import Transport


def test_child_does_not_use_connection_of_parent(client: Transport) -> None:
    """Both would read the answers to both's requests, and take one for the other."""
    connections: list[int] = []

    def script(peer: Peer) -> None:
        connections.append(len(connections))
        number = connections[-1]
        while peer.head():
            peer.answer(200, b"%d" % number)

    with serve_script(script) as address, client:

        def ask() -> bytes:
            return client.run(perform(Request("GET", f"http://{address}/"))).body

        assert ask() == b"0"
        assert in_child(lambda: ask() == b"1" and ask() == b"1")
        assert ask() == b"0"


def test_locks_are_free_in_child_while_parent_thread_holds_them(client: Transport) -> None:
    """The thread that holds them does not exist in the child."""
    held, may_end = threading.Event(), threading.Event()
    requests = client._requests
    owners = requests._routes.hosts, requests._routes._tls, requests._warnings
    locks = [owner._lock for owner in owners]

    def hold() -> None:
        with ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)
            held.set()
            may_end.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(30)
    free = in_child(lambda: all(lock._lock.acquire(blocking=False) for lock in locks))
    may_end.set()
    thread.join()
    assert free
