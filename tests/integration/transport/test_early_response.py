"""transport/connection.py: a response that comes while the body is being sent."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest
from tests.integration.transport.flows import BLOCK, TEST_TIMEOUT_S, Source, patch, perform, wait
from tests.raw_server import Peer, serve_script

from brolga.protocol import Request
from brolga.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Authority


class TestEarlyResponse:
    """transport/connection.py: a response that comes while the body is being sent."""

    @pytest.mark.parametrize("status", [201, 401, 413, 500])
    @pytest.mark.parametrize("secure", [False, True])
    def test_early_response_stops_sending(
        self, request: pytest.FixtureRequest, status: int, secure: bool
    ) -> None:
        """No gigabytes are pumped into a request that was answered; it is not whole."""
        authority: Authority | None = request.getfixturevalue("authority") if secure else None
        answered = threading.Event()

        def script(peer: Peer) -> None:
            peer.head()
            peer.chunk()
            peer.answer(status, b"no", "X-Why: because")
            answered.set()
            rest = peer.drain()  # it would take all, for ever
            assert not rest.endswith(b"0\r\n\r\n")

        source = Source(until=answered)
        with (
            Transport(timeout_s=TEST_TIMEOUT_S, insecure=True) as client,
            serve_script(script, tls=authority.server_context() if authority else None) as address,
        ):
            scheme = "https" if secure else "http"
            response = client.run(patch(f"{scheme}://{address}/", source))
        assert (response.status, response.body, response.complete) == (status, b"no", False)
        assert response.headers["x-why"] == "because"
        # Seen at the next block. A kernel may take its time, but not much of it.
        assert source.after <= 20
        assert response.sent <= source.taken * len(BLOCK)

    @pytest.mark.parametrize("secure", [False, True])
    def test_early_response_is_noticed_while_source_is_idle(
        self, request: pytest.FixtureRequest, secure: bool
    ) -> None:
        """The driver looks at the other side at every heartbeat."""
        authority: Authority | None = request.getfixturevalue("authority") if secure else None

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(401)
            assert peer.drain() == b""

        with (
            Transport(timeout_s=TEST_TIMEOUT_S, insecure=True) as client,
            serve_script(script, tls=authority.server_context() if authority else None) as address,
        ):
            scheme = "https" if secure else "http"
            response = client.run(patch(f"{scheme}://{address}/", Source(b"")))
        assert (response.status, response.sent, response.complete) == (401, 0, False)

    def test_early_response_is_noticed_while_socket_is_full(self, client: Transport) -> None:
        """A refusing registry need not take the body: a full socket must not hide its answer."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(413)
            peer.socket.shutdown(socket.SHUT_WR)
            finished.wait(TEST_TIMEOUT_S)

        finished = threading.Event()
        with serve_script(script) as address:
            try:
                response = client.run(patch(f"http://{address}/", Source(BLOCK * 16)))
            finally:
                finished.set()
        assert (response.status, response.complete) == (413, False)

    def test_response_before_last_chunk_is_not_complete(self, client: Transport) -> None:
        """The end of a chunked body is its last chunk: without it, the request was not whole."""
        answered = threading.Event()

        def script(peer: Peer) -> None:
            peer.head()
            peer.chunk()
            peer.answer(201)
            answered.set()
            assert peer.drain() == b""

        def body() -> Iterator[bytes]:
            yield b"all of it"
            wait(answered)

        with serve_script(script) as address:
            response = client.run(patch(f"http://{address}/", body()))
        assert (response.status, response.sent, response.complete) == (201, 9, False)

    def test_early_response_to_bytes_is_not_complete(self, client: Transport) -> None:
        """`complete` is whether all of the body was sent, for a body of bytes too."""
        body = bytes(64 << 20)  # more than any socket holds

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(413)
            peer.drain()

        with serve_script(script) as address:
            response = client.run(perform(Request("PUT", f"http://{address}/", body=body)))
        assert (response.status, response.complete) == (413, False)

    @pytest.mark.parametrize("length", [b"Content-Length: 300\r\n", b""])
    def test_early_response_that_is_cut_counts(self, client: Transport, length: bytes) -> None:
        """The reset of a connection with unread bytes can destroy the end of the response."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.chunk()
            assert peer.receive()  # the rest is not read
            peer.send(b"HTTP/1.1 413 Too Large\r\n" + length + b"\r\ntoo large")

        with serve_script(script) as address:
            response = client.run(patch(f"http://{address}/", Source()))
        assert (response.status, response.complete) == (413, False)
        assert b"too large".startswith(response.body)

    def test_connection_is_not_reused_after_early_response(self, client: Transport) -> None:
        """What was left unsent must never be taken for the next request."""
        connections = []

        def script(peer: Peer) -> None:
            connections.append(peer)
            if peer.head()[0].startswith("PATCH"):
                peer.answer(401)
                peer.drain()
            else:
                peer.answer(204)

        with serve_script(script) as address:
            url = f"http://{address}/"
            assert client.run(patch(url, Source())).status == 401
            assert client.run(perform(Request("DELETE", url))).status == 204
        assert len(connections) == 2


class TestInterimResponse:
    """1xx answers are not the answer (RFC 9110, section 15.2)."""

    @pytest.mark.parametrize("split", [0, 9, 12, 30])
    def test_interim_response_does_not_stop_body(self, client: Transport, split: int) -> None:
        """A client parses 1xx answers before the final one, even if it did not ask for them."""
        interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"
        steps = [threading.Event() for _ in range(4)]

        def script(peer: Peer) -> None:
            peer.head()
            peer.chunk()
            peer.send(interim[:split])
            steps[0].set()
            wait(steps[1])
            peer.send(interim[split:])
            steps[2].set()
            assert peer.chunks() == ([b"b", b"c"], True)
            peer.answer(202)

        def body() -> Iterator[bytes]:
            yield b"a"
            wait(steps[0])
            yield b"b"
            steps[1].set()
            wait(steps[2])
            yield b"c"

        with serve_script(script) as address:
            response = client.run(patch(f"http://{address}/", body()))
        assert (response.status, response.complete) == (202, True)
