"""transport/driver.py: the bytes of a request."""

from __future__ import annotations

import socket

import pytest
from tests.integration.transport.flows import BLOCK, TEST_TIMEOUT_S, patch, perform
from tests.raw_server import Peer, serve_script
from tests.routes import make_routes

from brolga.protocol import Request
from brolga.transport import Transport
from brolga.transport.connect import open_stream
from brolga.transport.connection import Timeouts
from brolga.transport.steps import perform as perform_steps


class TestRequest:
    """transport/driver.py: the bytes of a request."""

    def test_stream_is_sent_chunked(self, client: Transport) -> None:
        """`Transfer-Encoding: chunked`, no Content-Length (RFC 9112, section 7.1)."""
        blocks: list[bytes | memoryview] = [
            b"a",
            memoryview(b"bc"),
            BLOCK,
            memoryview(BLOCK)[3:],
            b"\r\n0\r\n\r\n",
        ]

        def script(peer: Peer) -> None:
            head = peer.head()
            assert head[0] == "PATCH /v2/x?a=1 HTTP/1.1"
            assert peer.header("transfer-encoding", head) == ["chunked"]
            assert peer.header("content-length", head) == []
            chunks, whole = peer.chunks()
            assert whole
            assert chunks == [bytes(block) for block in blocks]
            peer.answer(202, b"", "Location: /next")

        with serve_script(script) as address:
            response = client.run(patch(f"http://{address}/v2/x?a=1", blocks))
        total = sum(map(len, blocks))
        assert (response.status, response.complete, response.sent) == (202, True, total)
        assert response.headers["location"] == "/next"

    def test_empty_blocks_are_not_sent(self, client: Transport) -> None:
        """An empty chunk is the last one (RFC 9112, section 7.1), so a heartbeat is not sent."""

        def script(peer: Peer) -> None:
            peer.head()
            assert peer.chunks() == ([b"a", b"b"], True)
            assert peer.arrived == b""
            peer.answer(202)

        with serve_script(script) as address:
            body: list[bytes | memoryview] = [b"", b"", b"a", b"", memoryview(b""), b"b", b""]
            assert client.run(patch(f"http://{address}/", body)).sent == 2

    def test_empty_stream_is_last_chunk_only(self, client: Transport) -> None:
        """A stream of nothing is whole when its last chunk went out."""

        def script(peer: Peer) -> None:
            peer.head()
            assert peer.chunks() == ([], True)
            peer.answer(202)

        with serve_script(script) as address:
            response = client.run(patch(f"http://{address}/", []))
        assert (response.sent, response.complete) == (0, True)

    @pytest.mark.parametrize("body", [b"", b"manifest"])
    def test_bytes_have_content_length(self, client: Transport, body: bytes) -> None:
        """`Content-Length: 0` on the empty PUT: some registries insist on it."""

        def script(peer: Peer) -> None:
            head = peer.head()
            assert peer.header("content-length", head) == [str(len(body))]
            assert peer.header("transfer-encoding", head) == []
            while len(peer.arrived) < len(body):
                peer.receive()
            peer.answer(201)

        with serve_script(script) as address:
            response = client.run(perform(Request("PUT", f"http://{address}/", body=body)))
        assert (response.status, response.sent, response.complete) == (201, len(body), True)

    def test_request_without_body_has_no_length_or_encoding(self, client: Transport) -> None:
        """A GET has no content (RFC 9110, section 9.3.1)."""

        def script(peer: Peer) -> None:
            head = peer.head()
            assert head[0] == "GET / HTTP/1.1"
            assert peer.header("content-length", head) == []
            assert peer.header("transfer-encoding", head) == []
            assert peer.header("user-agent", head)[0].startswith("brolga/")
            peer.answer(200, b"{}")

        with serve_script(script) as address:
            response = client.run(perform(Request("GET", f"http://{address}")))
        assert (response.body, response.sent, response.complete) == (b"{}", 0, True)

    def test_path_and_query_are_sent_unchanged(self, client: Transport) -> None:
        """A session's URL is the registry's own: nothing of it is dropped or quoted anew."""
        target = "/v2/x/blobs/uploads/a;b=c;d?_state=A%2fb==&x=%7E~&y"

        def script(peer: Peer) -> None:
            assert peer.head()[0] == f"DELETE {target} HTTP/1.1"
            peer.answer(204)

        with serve_script(script) as address:
            assert client.run(perform(Request("DELETE", f"http://{address}{target}"))).status == 204

    def test_large_block_reaches_slow_reader(self, client: Transport) -> None:
        """A socket takes a part of a block at a time; the rest of it is sent after."""
        block = BLOCK * 16  # 1 MiB

        def script(peer: Peer) -> None:
            peer.head()
            pieces = [peer.arrived]
            while not pieces[-1].endswith(b"0\r\n\r\n"):
                pieces.append(peer.socket.recv(3000))
            peer.arrived = b"".join(pieces)
            assert peer.chunks() == ([block, block], True)
            peer.answer(202)

        with serve_script(script, receive_buffer=4096) as address:
            assert client.run(patch(f"http://{address}/", [block, block])).sent == 2 << 20

    def test_host_header_keeps_ipv6_brackets(self, client: Transport) -> None:
        """`Host: [::1]:5000` (RFC 9112, section 3.2): a registry builds its Location from it."""
        if not _has_ipv6():
            pytest.skip("this machine has no ::1")
        hosts = []

        def script(peer: Peer) -> None:
            hosts.extend(peer.header("host", peer.head()))
            peer.answer(200)

        with serve_script(script, host="::1") as address:
            assert client.run(perform(Request("GET", f"http://{address}/"))).status == 200
        assert hosts == [address]

    def test_idle_connections_are_limited(self) -> None:
        """`keepalive` bounds them: with none, each call has a connection of its own."""
        connections = []

        def script(peer: Peer) -> None:
            connections.append(peer)
            while peer.head():
                peer.answer(200)

        with serve_script(script) as address, Transport(keepalive=0) as client:
            for _ in range(2):
                client.run(perform(Request("GET", f"http://{address}/")))
        assert len(connections) == 2

    def test_connection_is_reused(self, client: Transport) -> None:
        """The calls of one upload share one connection."""
        connections = []

        def script(peer: Peer) -> None:
            connections.append(peer)
            while head := peer.head():
                if head[0].startswith("PATCH"):
                    peer.chunks()
                peer.answer(202)

        with serve_script(script) as address, client:
            url = f"http://{address}/"
            client.run(perform(Request("GET", url)))
            client.run(patch(url, [b"a", b"b"]))
            client.run(perform(Request("PUT", url, body=b"")))
        assert len(connections) == 1

    def test_connection_has_tcp_keepalive(self) -> None:
        """An answer may take a quarter of an hour: the kernel asks meanwhile whether it lives."""
        with serve_script(lambda peer: None) as address:
            routes = make_routes()
            timeouts = Timeouts(TEST_TIMEOUT_S, TEST_TIMEOUT_S, TEST_TIMEOUT_S)
            route = routes.find(f"http://{address}/", "")
            stream = perform_steps(open_stream(route, timeouts, routes.hosts))
            connection = stream.socket
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            if hasattr(socket, "TCP_KEEPIDLE"):
                options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
                values = [connection.getsockopt(socket.IPPROTO_TCP, option) for option in options]
                assert values == [30, 10, 6]
            stream.close()


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
