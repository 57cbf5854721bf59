"""transport/connection.py: the socket's edge cases."""

from __future__ import annotations

import select
import socket

import httpcore2 as httpcore
import pytest

from brolga.transport.addresses import ReachedHosts
from brolga.transport.connection import EarlyResponseStream, NetworkBackend, _WriteBuffer
from brolga.transport.request_state import RequestState, request_scope

BLOCK = bytes(range(256)) * 256  # 64 KiB
TEST_TIMEOUT_S = 30.0


class _Inner(httpcore.NetworkStream):
    """The library's side of a connection, as far as `EarlyResponseStream` needs it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def get_extra_info(self, info: str) -> socket.socket | None:
        """Give the socket."""
        return self._connection if info == "socket" else None


class TestEarlyResponseStream:
    """The connection that looks while it sends, at its borders."""

    def test_send_to_full_and_to_broken_socket(self) -> None:
        """Whatever poll has said, a send may find the socket full, or the other side gone."""
        here, there = socket.socketpair()
        with here, there:
            watched, block = EarlyResponseStream(_Inner(here)), _WriteBuffer(BLOCK * 16)
            while not block.sent_counts or block.sent_counts[-1]:
                watched._send(block.remaining, block)
            assert block.is_count_known
            there.close()
            with pytest.raises(httpcore.WriteError):
                watched._send(block.remaining, block)

    def test_write_to_broken_socket_aborts(self) -> None:
        """What is broken is never used again."""
        here, there = socket.socketpair()
        with here, there:
            watched = EarlyResponseStream(_Inner(here))
            there.close()
            with pytest.raises(httpcore.WriteError):
                watched.write(BLOCK, TEST_TIMEOUT_S)
            assert watched.aborted
            assert watched.get_extra_info("is_readable") is True

    def test_write_repeats_send_that_sent_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """TLS may want to read before it writes: nothing went out, nothing is lost."""
        counts = iter([0, 3, 0, 2])
        sent: list[bytes] = []

        def send(_watched: EarlyResponseStream, left: memoryview, block: _WriteBuffer) -> None:
            block.sent_counts.append(next(counts))
            sent.append(bytes(left[: block.sent_counts[-1]]))

        monkeypatch.setattr(EarlyResponseStream, "_send", send)
        here, there = socket.socketpair()
        with here, there:
            EarlyResponseStream(_Inner(here)).write(b"hello", TEST_TIMEOUT_S)
        assert b"".join(sent) == b"hello"

    def test_write_continues_after_interim_response(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What comes while nothing can be sent is looked at, and need not be the end."""
        events = iter([0, select.POLLIN, 0, select.POLLOUT])
        monkeypatch.setattr(EarlyResponseStream, "_wait", lambda *_: next(events))
        here, there = socket.socketpair()
        with here, there:
            EarlyResponseStream(_Inner(here)).write(b"hello", TEST_TIMEOUT_S)
            assert there.recv(9) == b"hello"

    def test_interrupt_with_unknown_count_is_not_deferred(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing may be sent twice: without a count from TLS the block cannot be continued."""
        state = RequestState([BLOCK])
        next(iter(state.body))

        def send(_watched: EarlyResponseStream, _left: memoryview, block: _WriteBuffer) -> None:
            block.attempts += 1
            raise KeyboardInterrupt

        monkeypatch.setattr(EarlyResponseStream, "_send", send)
        here, there = socket.socketpair()
        with here, there, request_scope(state), pytest.raises(KeyboardInterrupt):
            EarlyResponseStream(_Inner(here)).write(BLOCK, TEST_TIMEOUT_S)
        assert state.error is None

    def test_read_raises_error_received_during_write(self) -> None:
        """An alert of TLS comes once, in place of an answer, and says what the server wants."""
        here, there = socket.socketpair()
        broken = OSError("alert")

        class Broken(socket.socket):
            def recv(self, *_: object) -> bytes:
                raise broken

        with there, Broken(fileno=here.detach()) as connection:
            there.send(b"x")
            watched = EarlyResponseStream(_Inner(connection))
            with pytest.raises(httpcore.WriteError):
                watched.write(BLOCK, TEST_TIMEOUT_S)
            with pytest.raises(httpcore.ReadError) as caught:
                watched.read(1, TEST_TIMEOUT_S)
        assert caught.value.args == (broken,)


class _Ended(httpcore.NetworkBackend):
    """Connections whose other side hangs up before anything can be asked."""

    def __init__(self) -> None:
        self.closed = False

    def connect_tcp(self, *_: object, **__: object) -> httpcore.NetworkStream:
        """Return a stream without a peer."""
        outer = self

        class Stream(httpcore.NetworkStream):
            def get_extra_info(self, info: str) -> None:
                raise OSError(107, "Transport endpoint is not connected")

            def close(self) -> None:
                outer.closed = True

        return Stream()


class TestNetworkBackend:
    """How connections are made."""

    def test_connect_raises_if_peer_hangs_up_at_once(self) -> None:
        """Without an address the connection is closed."""
        backend = NetworkBackend(ReachedHosts())
        backend._inner = ended = _Ended()  # type: ignore[assignment]
        with pytest.raises(httpcore.ConnectError):
            backend.connect_tcp("registry.example", 443)
        assert ended.closed
