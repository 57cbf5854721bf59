"""transport/responses.py: bodies that are read block by block."""

from __future__ import annotations

import gc
import socket
import struct
import threading
from typing import TYPE_CHECKING

import pytest
from tests.integration.transport.flows import BLOCK, TEST_TIMEOUT_S, failing, perform, wait
from tests.raw_server import Peer, serve_script

from brolga.protocol import Flow, Request, Response
from brolga.transport import Transport

if TYPE_CHECKING:
    from brolga.protocol.http import BodyStream

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def get(address: str) -> Flow[Response]:
    """Ask for an answer in blocks."""
    return perform(Request("GET", f"http://{address}/", stream_response=True))


def blocks_of(response: Response) -> BodyStream:
    """Return the blocks, which must be there."""
    assert response.body == b""
    assert response.body_stream is not None
    return response.body_stream


class TestStreamed:
    """`Request.stream_response`: the body as blocks, if the status is 200 or 206."""

    @pytest.mark.parametrize("status", [200, 206])
    def test_stream_body_yields_blocks_in_order(self, client: Transport, status: int) -> None:
        """At most 2 MiB each: memory does not grow with the body."""
        body = BLOCK * 40

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(status, body)

        with serve_script(script) as address:
            response = client.run(get(address))
            blocks = list(blocks_of(response))
        assert response.status == status
        assert b"".join(blocks) == body
        assert 0 < max(map(len, blocks)) <= 2 << 20
        assert min(map(len, blocks)) > 0

    def test_stream_body_yields_blocks_as_they_come(self, client: Transport) -> None:
        """The answer is handed on with its head; a block is not held back for the next."""
        taken = threading.Event()

        def script(peer: Peer) -> None:
            peer.head()
            peer.send(CHUNKED + b"3\r\none\r\n")
            wait(taken)
            peer.send(b"3\r\ntwo\r\n0\r\n\r\n")

        with serve_script(script) as address:
            blocks = blocks_of(client.run(get(address)))
            assert next(blocks) == b"one"
            taken.set()
            assert list(blocks) == [b"two"]

    @pytest.mark.parametrize("status", [201, 307, 404, 416])
    def test_other_statuses_are_not_streamed(self, client: Transport, status: int) -> None:
        """An error is small, and its text is wanted at once."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(status, b"x" * (5 << 20))

        with serve_script(script) as address:
            response = client.run(get(address))
        assert (response.body_stream, len(response.body)) == (None, 4 << 20)

    @pytest.mark.parametrize(("streamed", "encodings"), [(True, ["identity"]), (False, [])])
    def test_streamed_request_accepts_identity_only(
        self, client: Transport, streamed: bool, encodings: list[str]
    ) -> None:
        """`Accept-Encoding: identity`: a digest is of the bytes as they are stored."""

        def script(peer: Peer) -> None:
            assert peer.header("accept-encoding", peer.head()) == encodings
            peer.answer(200)

        with serve_script(script) as address:
            response = client.run(
                perform(Request("GET", f"http://{address}/", stream_response=streamed))
            )
            assert list(response.body_stream or []) == []

    def test_stream_body_does_not_decompress(self, client: Transport) -> None:
        """What a proxy compressed all the same is for the digest to refuse."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(200, b"\x1f\x8bcompressed", "Content-Encoding: gzip")

        with serve_script(script) as address:
            assert b"".join(blocks_of(client.run(get(address)))) == b"\x1f\x8bcompressed"


class TestConnection:
    """Whose the connection is meanwhile."""

    def test_connection_is_reused_after_end(self, client: Transport) -> None:
        """Exhausted blocks give their connection back."""
        connections = []

        def script(peer: Peer) -> None:
            connections.append(peer)
            while peer.head():
                peer.answer(200, BLOCK)

        with serve_script(script) as address, client:
            for _ in range(3):
                assert b"".join(blocks_of(client.run(get(address)))) == BLOCK
        assert len(connections) == 1

    @pytest.mark.parametrize("begun", [False, True])
    @pytest.mark.parametrize("how", ["close", "drop"])
    def test_connection_is_closed_if_body_is_left_early(
        self, client: Transport, begun: bool, how: str
    ) -> None:
        """A body that is not read is not received."""
        closed = threading.Event()

        def script(peer: Peer) -> None:
            peer.head()
            peer.send(CHUNKED + b"1\r\na\r\n")
            peer.drain()
            closed.set()

        with serve_script(script) as address:
            response = client.run(get(address))
            if begun:
                assert next(blocks_of(response)) == b"a"
            if how == "close":
                blocks_of(response).close()
            del response
            gc.collect()
            wait(closed)

    def test_body_may_be_sent_in_another_request(self, client: Transport) -> None:
        """The blocks of one answer can be the body of another call."""

        def script(peer: Peer) -> None:
            if peer.head()[0].startswith("GET"):
                peer.answer(200, BLOCK * 20)
            else:
                chunks, whole = peer.chunks()
                peer.answer(202 if whole and b"".join(chunks) == BLOCK * 20 else 400)

        def flow(address: str) -> Flow[int]:
            response = yield Request("GET", f"http://{address}/", stream_response=True)
            blocks = blocks_of(response)
            return (yield from perform(Request("PATCH", f"http://{address}/", body=blocks))).status

        with serve_script(script) as address:
            assert client.run(flow(address)) == 202


class TestBroken:
    """A body that does not come to its end."""

    @pytest.mark.parametrize(
        "part", [OK + b"Content-Length: 9\r\n\r\nhalf", CHUNKED + b"4\r\nhalf\r\n"]
    )
    @pytest.mark.parametrize("reset", [False, True])
    def test_cut_body_raises(self, client: Transport, part: bytes, reset: bool) -> None:
        """The server closes before Content-Length, or the last chunk (RFC 9112, section 8)."""
        taken = threading.Event()

        def script(peer: Peer) -> None:
            peer.head()
            peer.send(part)
            wait(taken)
            if reset:
                linger = struct.pack("ii", 1, 0)
                peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

        with serve_script(script) as address:
            blocks = blocks_of(client.run(get(address)))
            assert next(blocks) == b"half"
            taken.set()
            with failing("cut", "GET to 127.0.0.1:"):
                next(blocks)
            assert list(blocks) == []

    def test_stalled_body_times_out(self) -> None:
        """Each block has `timeout_s` to come."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.send(CHUNKED + b"4\r\nhalf\r\n")
            assert peer.drain() == b""

        with serve_script(script) as address, Transport(timeout_s=0.2) as client:
            blocks = blocks_of(client.run(get(address)))
            assert next(blocks) == b"half"
            with failing("timeout", "no answer in time"):
                next(blocks)

    def test_invalid_chunk_raises(self, client: Transport) -> None:
        """A broken encoding is a broken answer."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.send(CHUNKED + b"no number\r\n")
            peer.drain()

        with serve_script(script) as address, failing("cut", "no valid answer"):
            list(blocks_of(client.run(get(address))))

    def test_cut_body_fails_request_that_sends_it(self, client: Transport) -> None:
        """What is cut while it is passed on fails the call whose body it is, and is that error."""

        def script(peer: Peer) -> None:
            if peer.head()[0].startswith("GET"):
                peer.send(OK + b"Content-Length: 9\r\n\r\nhalf")
            else:
                assert peer.chunks() == ([b"half"], True)
                peer.answer(202)

        def flow(address: str) -> Flow[Response]:
            response = yield Request("GET", f"http://{address}/", stream_response=True)
            request = Request("PATCH", f"http://{address}/", body=blocks_of(response))
            return (yield from perform(request))

        with serve_script(script) as address, failing("cut", "GET to"):
            client.run(flow(address))

    def test_close_of_transport_ends_body(self) -> None:
        """Nothing stays open behind a closed client."""
        transport = Transport(timeout_s=TEST_TIMEOUT_S)

        def script(peer: Peer) -> None:
            peer.head()
            peer.send(CHUNKED + b"4\r\nhalf\r\n")
            peer.drain()

        with serve_script(script) as address:
            blocks = blocks_of(transport.run(get(address)))
            assert next(blocks) == b"half"
            transport.close()
            with failing("cut"):
                next(blocks)
