"""transport/connection.py: the socket, at its borders."""

from __future__ import annotations

import select
import socket

import httpcore2 as httpcore
import pytest
from tests.raw_server import serve_script
from tests.unit.transport.calls import BLOCK, PATIENCE_S

from brolga.transport.addresses import Sightings
from brolga.transport.connection import Backend, Watched, _Block
from brolga.transport.outgoing import Outgoing, under_way


class _Inner(httpcore.NetworkStream):
    """The library's side of a connection, as far as `Watched` needs it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def get_extra_info(self, info: str) -> socket.socket | None:
        """Give the socket."""
        return self._connection if info == "socket" else None


class TestWatched:
    """The connection that looks while it sends, at its borders."""

    def test_a_full_socket_takes_nothing_and_a_broken_one_is_told(self) -> None:
        """Whatever poll has said, a send may find the socket full, or the other side gone."""
        here, there = socket.socketpair()
        with here, there:
            watched, block = Watched(_Inner(here)), _Block(BLOCK * 16)
            while not block.taken or block.taken[-1]:
                watched._send(block.left, block)
            assert block.is_known
            there.close()
            with pytest.raises(httpcore.WriteError):
                watched._send(block.left, block)

    def test_a_connection_that_fails_while_it_sends_stopped(self) -> None:
        """What is broken is never used again."""
        here, there = socket.socketpair()
        with here, there:
            watched = Watched(_Inner(here))
            there.close()
            with pytest.raises(httpcore.WriteError):
                watched.write(BLOCK, PATIENCE_S)
            assert watched.stopped
            assert watched.get_extra_info("is_readable") is True

    def test_a_send_that_found_no_room_is_tried_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """TLS may want to read before it writes: nothing went out, nothing is lost."""
        counts = iter([0, 3, 0, 2])
        sent: list[bytes] = []

        def send(_watched: Watched, left: memoryview, block: _Block) -> None:
            block.taken.append(next(counts))
            sent.append(bytes(left[: block.taken[-1]]))

        monkeypatch.setattr(Watched, "_send", send)
        here, there = socket.socketpair()
        with here, there:
            Watched(_Inner(here)).write(b"hello", PATIENCE_S)
        assert b"".join(sent) == b"hello"

    def test_an_interim_answer_to_a_full_socket_is_waited_out(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What comes while nothing can be sent is looked at, and need not be the end."""
        events = iter([0, select.POLLIN, 0, select.POLLOUT])
        monkeypatch.setattr(Watched, "_wait", lambda *_: next(events))
        here, there = socket.socketpair()
        with here, there:
            Watched(_Inner(here)).write(b"hello", PATIENCE_S)
            assert there.recv(9) == b"hello"

    def test_an_interrupt_that_loses_count_is_raised_at_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing may be sent twice: where TLS cannot say what it took, the block has no end."""
        outgoing = Outgoing([BLOCK])
        next(iter(outgoing.blocks))

        def send(_watched: Watched, _left: memoryview, block: _Block) -> None:
            block.tries += 1
            raise KeyboardInterrupt

        monkeypatch.setattr(Watched, "_send", send)
        here, there = socket.socketpair()
        with here, there, under_way(outgoing), pytest.raises(KeyboardInterrupt):
            Watched(_Inner(here)).write(BLOCK, PATIENCE_S)
        assert outgoing.error is None

    def test_what_broke_while_it_sent_is_told_to_who_reads(self) -> None:
        """An alert of TLS comes once, in place of an answer, and says what the server wants."""
        here, there = socket.socketpair()
        broken = OSError("alert")

        class Broken(socket.socket):
            def recv(self, *_: object) -> bytes:
                raise broken

        with there, Broken(fileno=here.detach()) as connection:
            there.send(b"x")
            watched = Watched(_Inner(connection))
            with pytest.raises(httpcore.WriteError):
                watched.write(BLOCK, PATIENCE_S)
            with pytest.raises(httpcore.ReadError) as caught:
                watched.read(1, PATIENCE_S)
        assert caught.value.args == (broken,)


class _Ended(httpcore.NetworkBackend):
    """Connections whose other side hangs up before anything can be asked."""

    def __init__(self) -> None:
        self.closed = False

    def connect_tcp(self, *_: object, **__: object) -> httpcore.NetworkStream:
        """Connect to nobody."""
        outer = self

        class Stream(httpcore.NetworkStream):
            def get_extra_info(self, info: str) -> None:
                raise OSError(107, "Transport endpoint is not connected")

            def close(self) -> None:
                outer.closed = True

        return Stream()


class TestBackend:
    """How connections are made."""

    def test_a_peer_that_vanishes_is_noticed(self) -> None:
        """An answer may take a quarter of an hour: the kernel asks meanwhile whether it lives."""
        with serve_script(lambda peer: None) as address:
            host, _, port = address.partition(":")
            stream = Backend().connect_tcp(host, int(port), PATIENCE_S)
            connection = stream.get_extra_info("socket")
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            if hasattr(socket, "TCP_KEEPIDLE"):
                options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
                values = [connection.getsockopt(socket.IPPROTO_TCP, option) for option in options]
                assert values == [30, 10, 6]
            stream.close()

    def test_a_peer_that_hangs_up_at_once_has_no_address(self) -> None:
        """Where a connection leads cannot be told: it is none, and closed."""
        backend = Backend(Sightings())
        backend._inner = ended = _Ended()  # type: ignore[assignment]
        with pytest.raises(httpcore.ConnectError):
            backend.connect_tcp("registry.example", 443)
        assert ended.closed
