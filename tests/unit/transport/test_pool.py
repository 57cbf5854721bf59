"""transport/pool.py: the idle connections."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from tests.processes import in_child

from brolga.transport.pool import Pool
from brolga.transport.streams import PlainStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Connect = Callable[[], tuple[PlainStream, socket.socket]]

KEY = "a host"


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Make connections."""
    with ExitStack() as stack:

        def make() -> tuple[PlainStream, socket.socket]:
            here, there = socket.socketpair()
            stack.enter_context(here)
            stack.enter_context(there)
            here.setblocking(False)
            return PlainStream(here), there

        yield make


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Make the clock of the pool, which a test sets."""
    now = [100.0]
    monkeypatch.setattr("brolga.transport.pool.time.monotonic", lambda: now[0])
    return now


def is_closed(stream: PlainStream) -> bool:
    """Return whether a stream was closed."""
    return stream.socket.fileno() < 0


def keep(pool: Pool, connect: Connect, key: object = KEY) -> PlainStream:
    """Add a connection, and make it idle."""
    stream, _ = connect()
    pool.add(stream)
    pool.put(key, stream)
    return stream


class TestTake:
    """The connection for the next request."""

    def test_take_of_empty_pool_is_none(self) -> None:
        """A new one has to be made."""
        assert Pool(8).take(KEY) is None

    def test_connection_is_taken_once(self, connect: Connect) -> None:
        """It serves one request at a time."""
        pool = Pool(8)
        stream = keep(pool, connect)
        assert pool.take(KEY) is stream
        assert pool.take(KEY) is None

    def test_connection_used_last_is_taken(self, connect: Connect) -> None:
        """The others may expire."""
        pool = Pool(8)
        streams = [keep(pool, connect) for _ in range(3)]
        assert [pool.take(KEY) for _ in range(3)] == streams[::-1]

    def test_connection_with_other_key_is_not_taken(self, connect: Connect) -> None:
        """It leads to another host."""
        pool = Pool(8)
        stream = keep(pool, connect, "another host")
        assert pool.take(KEY) is None
        assert pool.take("another host") is stream

    @pytest.mark.parametrize("data", [b"HTTP/1.1 408 Timeout\r\n\r\n", b""], ids=["sent", "closed"])
    def test_readable_connection_is_closed(self, connect: Connect, data: bytes) -> None:
        """The server has hung up, or has sent what was not asked for."""
        pool = Pool(8)
        older = keep(pool, connect)
        stream, there = connect()
        pool.add(stream)
        pool.put(KEY, stream)
        if data:
            there.send(data)
        else:
            there.close()
        assert pool.take(KEY) is older
        assert is_closed(stream)

    def test_connection_with_received_bytes_is_closed(
        self, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In TLS, a surplus response may have left the socket with the one before."""
        pool = Pool(8)
        stream = keep(pool, connect)
        monkeypatch.setattr(stream, "has_input", True)
        assert pool.take(KEY) is None
        assert is_closed(stream)

    def test_connection_closed_by_other_thread_is_not_used(self, connect: Connect) -> None:
        """`close` may come between two bytecodes of another thread."""
        pool = Pool(8)
        stream = keep(pool, connect)
        stream.close()
        assert pool.take(KEY) is None

    def test_expired_connection_is_closed(self, connect: Connect, now: list[float]) -> None:
        """A server, or a firewall, may have forgotten it."""
        pool = Pool(8)
        stream = keep(pool, connect)
        now[0] += 29.9
        assert pool.take(KEY) is stream
        pool.put(KEY, stream)
        now[0] += 30
        assert pool.take(KEY) is None
        assert is_closed(stream)


class TestPut:
    """The connections that are kept."""

    @pytest.mark.parametrize("keepalive", [0, 1, 3])
    def test_oldest_connection_is_closed_beyond_limit(
        self, connect: Connect, keepalive: int
    ) -> None:
        """Whatever host they lead to."""
        pool = Pool(keepalive)
        streams = [keep(pool, connect, key) for key in range(5)]
        assert [is_closed(stream) for stream in streams] == [
            number < 5 - keepalive for number in range(5)
        ]

    def test_put_closes_expired_connections(self, connect: Connect, now: list[float]) -> None:
        """No one may ask for their host again."""
        pool = Pool(8)
        old = keep(pool, connect, "another host")
        now[0] += 31
        new = keep(pool, connect)
        assert (is_closed(old), is_closed(new)) == (True, False)


class TestClose:
    """The end of a pool."""

    def test_close_closes_connections_in_use(self, connect: Connect) -> None:
        """Their requests fail."""
        pool = Pool(8)
        idle = keep(pool, connect)
        used, _ = connect()
        pool.add(used)
        pool.check_open()
        pool.close()
        assert is_closed(idle)
        assert is_closed(used)
        with pytest.raises(RuntimeError, match="the client is closed"):
            pool.check_open()
        pool.close()

    def test_connection_that_was_made_meanwhile_is_closed(self, connect: Connect) -> None:
        """Another thread was connecting."""
        pool = Pool(8)
        pool.close()
        stream, _ = connect()
        pool.add(stream)
        assert is_closed(stream)

    def test_connection_that_was_used_meanwhile_is_closed(self, connect: Connect) -> None:
        """Another thread was at the end of a response."""
        pool = Pool(8)
        stream, _ = connect()
        pool.add(stream)
        pool.close()
        pool.put(KEY, stream)
        assert is_closed(stream)
        assert pool.take(KEY) is None

    def test_discarded_connection_is_forgotten(self, connect: Connect) -> None:
        """It can be discarded again."""
        pool = Pool(8)
        stream, _ = connect()
        pool.add(stream)
        pool.discard(stream)
        pool.discard(stream)
        assert is_closed(stream)


def test_child_process_has_no_connections(connect: Connect) -> None:
    """It must not read the parent's responses, nor end its connections."""
    pool = Pool(8)
    stream = keep(pool, connect)
    assert in_child(lambda: pool.take(KEY) is None and is_closed(stream))
    assert pool.take(KEY) is stream


def test_threads_share_pool(connect: Connect) -> None:
    """No connection is taken by two threads, or lost."""
    pool = Pool(4)
    streams = {keep(pool, connect) for _ in range(4)}
    used: set[object] = set()
    errors: list[str] = []

    def work() -> None:
        for _ in range(300):
            stream = pool.take(KEY)
            if stream is None:
                continue
            if stream in used:
                errors.append("taken twice")
            used.add(stream)
            used.discard(stream)
            pool.put(KEY, stream)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert {pool.take(KEY) for _ in range(4)} == streams
