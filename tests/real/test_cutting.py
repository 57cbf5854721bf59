"""The proxy of these tests: faults at exact bytes, and its list of requests."""

from __future__ import annotations

import http.client
import os
import socket
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from tests.real.calls import call, trusting
from tests.real.cutting import Fault, Seen, proxy
from tests.real.foreign import (
    push,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Authority
    from tests.real.cutting import Proxy
    from tests.real.foreign import DockerRegistry, Image

pytestmark = pytest.mark.real


class Echo:
    """A TCP server of one connection at a time, which a test reads and writes itself."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(30)
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"

    def accept(self) -> socket.socket:
        """Take the next connection."""
        accepted = self.listener.accept()[0]
        accepted.settimeout(30)
        return accepted


@pytest.fixture
def behind() -> Iterator[Echo]:
    """Listen behind a proxy."""
    server = Echo()
    with server.listener:
        yield server


@pytest.fixture
def cutting(behind: Echo) -> Iterator[Proxy]:
    """Run a proxy in front of it."""
    with proxy(behind.address) as running:
        yield running


def connect(running: Proxy) -> socket.socket:
    """Connect as a client does."""
    host, _, port = running.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def read_all(side: socket.socket) -> bytes:
    """Read until the end."""
    blocks = []
    while block := side.recv(1 << 16):
        blocks.append(block)
    return b"".join(blocks)


class TestCutting:
    """The proxy, at exact bytes."""

    def test_proxy_forwards_both_directions(self, cutting: Proxy, behind: Echo) -> None:
        """More than buffers hold, with half-closed connections."""
        data = os.urandom(3_000_000)
        with connect(cutting) as client, behind.accept() as server:
            client.sendall(b"from the client")
            client.shutdown(socket.SHUT_WR)
            assert read_all(server) == b"from the client"

            def answer() -> None:
                server.sendall(data)
                server.shutdown(socket.SHUT_WR)

            writer = threading.Thread(target=answer)
            writer.start()
            assert read_all(client) == data
            writer.join()

    @pytest.mark.parametrize("offset", [0, 1, 99, 100])
    def test_proxy_cuts_the_request_at_an_offset(
        self, cutting: Proxy, behind: Echo, offset: int
    ) -> None:
        """The server gets `offset` bytes, then FIN; the client FIN, though it still sends."""
        cutting.arm(Fault(act="cut", direction="up", offset=offset))
        with connect(cutting) as client, behind.accept() as server:
            client.sendall(b"x" * 100)
            assert client.recv(1) == b""
            client.sendall(b"more, which are not read")
            assert read_all(server) == b"x" * offset
            cutting.wait_until_struck()

    @pytest.mark.parametrize("offset", [0, 1, 99, 100])
    def test_proxy_cuts_the_response_at_an_offset(
        self, cutting: Proxy, behind: Echo, offset: int
    ) -> None:
        """The client gets `offset` bytes of the answer, then FIN."""
        cutting.arm(Fault(act="cut", direction="down", offset=offset))
        with connect(cutting) as client, behind.accept() as server:
            client.sendall(b"request")
            assert server.recv(100) == b"request"
            server.sendall(b"x" * 100)
            assert read_all(client) == b"x" * offset
            assert server.recv(1) == b""

    def test_proxy_holds_all_connections_at_a_total(self, cutting: Proxy, behind: Echo) -> None:
        """What two connections have passed counts together; a release lets the rest through."""
        cutting.hold("down", 100)
        with connect(cutting) as one, behind.accept() as first:
            first.sendall(b"x" * 60)
            assert one.recv(100) == b"x" * 60
            with connect(cutting) as two, behind.accept() as second:
                second.sendall(b"y" * 60)
                assert two.recv(100) == b"y" * 60  # the block that comes to the total passes
                first.sendall(b"z")
                cutting.wait_until_struck()
                assert cutting.passed("down") == 120
                cutting.release()
                assert one.recv(100) == b"z"

    @pytest.mark.parametrize("direction", ["up", "down"])
    def test_proxy_resets_both_sides(self, cutting: Proxy, behind: Echo, direction: str) -> None:
        """Both sides read RST."""
        cutting.arm(Fault(act="reset", direction=direction, offset=5))  # type: ignore[arg-type]
        with connect(cutting) as client, behind.accept() as server:
            (client if direction == "up" else server).sendall(b"x" * 10)
            cutting.wait_until_struck()
            for side in (client, server):
                with pytest.raises(ConnectionResetError):
                    read_all(side)

    @pytest.mark.parametrize("direction", ["up", "down"])
    def test_proxy_stalls_one_direction_until_released(
        self, cutting: Proxy, behind: Echo, direction: str
    ) -> None:
        """The other direction goes on."""
        cutting.arm(Fault(act="stall", direction=direction, offset=5))  # type: ignore[arg-type]
        with connect(cutting) as client, behind.accept() as server:
            speaker, listener = (client, server) if direction == "up" else (server, client)
            speaker.sendall(b"0123456789")
            cutting.wait_until_struck()
            assert listener.recv(100) == b"01234"
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.recv(100)
            listener.settimeout(30)
            listener.sendall(b"other way")
            assert speaker.recv(100) == b"other way"
            cutting.release()
            assert listener.recv(100) == b"56789"

    def test_proxy_release_after_a_disconnect_does_nothing(
        self, cutting: Proxy, behind: Echo
    ) -> None:
        """The other side may close a stalled connection."""
        cutting.arm(Fault(act="stall", direction="up", offset=1))
        with connect(cutting) as client:
            with behind.accept() as server:
                client.sendall(b"xy")
                cutting.wait_until_struck()
                server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        cutting.release()

    def test_proxy_closes_stalled_connections_at_its_end(self, behind: Echo) -> None:
        """It is closed with the proxy."""
        with proxy(behind.address) as cutting:
            cutting.arm(Fault(act="stall", direction="up", offset=1))
            client, server = connect(cutting), behind.accept()
            client.sendall(b"xy")
            cutting.wait_until_struck()
        with client, server:
            assert client.recv(1) == b""
            assert server.recv(100) == b"x"

    @pytest.mark.parametrize("mark", [b"PATCH ", b" "])
    def test_proxy_counts_the_offset_from_the_mark(
        self, cutting: Proxy, behind: Echo, mark: bytes
    ) -> None:
        """The mark may come in pieces."""
        cutting.arm(Fault(act="cut", direction="up", after=mark, offset=3))
        with connect(cutting) as client, behind.accept() as server:
            for piece in (b"PUT,PA", b"TC", b"H", b" 12", b"3456"):
                client.sendall(piece)
                if piece != b"3456":
                    assert server.recv(100) == piece
            assert read_all(server) == b"3"

    def test_proxy_faults_so_many_connections(self, cutting: Proxy, behind: Echo) -> None:
        """Each connection once; after that all bytes pass."""
        cutting.arm(Fault(act="cut", direction="up", offset=2, times=2))
        for _ in range(2):
            with connect(cutting) as client, behind.accept() as server:
                client.sendall(b"1234")
                assert read_all(server) == b"12"
        with connect(cutting) as client, behind.accept() as server:
            client.sendall(b"1234")
            client.shutdown(socket.SHUT_WR)
            assert read_all(server) == b"1234"
        assert cutting.struck == 2

    def test_proxy_faults_one_connection_in_order_of_offset(
        self, cutting: Proxy, behind: Echo
    ) -> None:
        """A stall, then a cut further on."""
        cutting.arm(
            Fault(act="cut", direction="up", offset=6),
            Fault(act="stall", direction="up", offset=3),
        )
        with connect(cutting) as client, behind.accept() as server:
            client.sendall(b"123456789")
            cutting.wait_until_struck()
            assert server.recv(100) == b"123"
            cutting.release()
            assert read_all(server) == b"456"

    def test_proxy_refuses_and_accepts_again_on_its_port(
        self, cutting: Proxy, behind: Echo
    ) -> None:
        """The kernel refuses new connections."""
        with connect(cutting) as client, behind.accept() as server:
            cutting.refuse()
            for _ in range(2):
                with pytest.raises(ConnectionRefusedError):
                    connect(cutting)
            client.sendall(b"this one goes on")
            assert server.recv(100) == b"this one goes on"
        cutting.accept()
        cutting.accept()
        with connect(cutting), behind.accept():
            pass
        cutting.refuse()
        cutting.refuse()

    def test_proxy_closes_the_client_if_the_server_is_down(
        self, cutting: Proxy, behind: Echo
    ) -> None:
        """The client's connection is broken off."""
        behind.listener.close()
        # Where the kernel is quick, connect() itself hears of it.
        with pytest.raises(ConnectionResetError), connect(cutting) as client:
            client.recv(1)


class TestRequests:
    """The proxy's list of requests."""

    def test_proxy_records_requests_of_one_connection(self, front: Proxy) -> None:
        """Each request with its status, bodies and HEAD among them."""
        host, _, port = front.address.rpartition(":")
        with closing(http.client.HTTPConnection(host, int(port))) as client:

            def ask(method: str, path: str, body: Any = None) -> str:
                client.request(method, path, body)
                answer = client.getresponse()
                answer.read()
                return answer.headers.get("Location", "")

            ask("GET", "/v2/")
            origin = f"http://{front.address}"
            session = ask("POST", "/v2/seen/blobs/uploads/")
            assert session.startswith(origin)
            session = ask("PATCH", session.removeprefix(origin), iter([b"some ", b"data"]))
            ask("HEAD", "/v2/seen/manifests/v1?x=y")
            ask("DELETE", session.removeprefix(origin))
        upload = urlsplit(session).path
        assert front.requests() == [
            Seen("GET", "/v2/", 200),
            Seen("POST", "/v2/seen/blobs/uploads/", 202),
            Seen("PATCH", upload, 202),
            Seen("HEAD", "/v2/seen/manifests/v1", 404),
            Seen("DELETE", upload, 204),
        ]
        assert front.requests(query=True)[3].path == "/v2/seen/manifests/v1?x=y"

    def test_proxy_records_requests_of_skopeo(self, front: Proxy, image: Image) -> None:
        """Several connections at once: one PUT for each blob, the manifest last."""
        push(image, f"{front.address}/counted:v1")
        seen = front.requests()
        assert [one.path for one in seen if one.method == "PUT"][-1] == "/v2/counted/manifests/v1"
        assert [one.method for one in seen].count("PUT") == 5
        assert all(one.status for one in seen)

    def test_proxy_records_no_status_if_the_response_was_cut(self, front: Proxy) -> None:
        """A request whose answer did not pass has no status."""
        front.arm(Fault(act="cut", direction="down"))
        with pytest.raises(http.client.RemoteDisconnected):
            call(front.address, "GET", "/v2/")
        assert call(front.address, "GET", "/v2/")[0] == 200
        assert front.requests() == [Seen("GET", "/v2/", None), Seen("GET", "/v2/", 200)]

    def test_proxy_records_an_early_response(self, cutting: Proxy, behind: Echo) -> None:
        """It counts when it comes."""
        with connect(cutting) as client, behind.accept() as server:
            client.sendall(b"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhal")
            server.recv(100)
            server.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            server.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            server.shutdown(socket.SHUT_WR)
            assert b"413" in read_all(client)
            assert cutting.requests() == [Seen("PUT", "/x", 413)]

    def test_proxy_fails_to_list_requests_of_tls(
        self, tls_registry: DockerRegistry, authority: Authority
    ) -> None:
        """TLS passes; to ask for its requests fails rather than to give none."""
        with proxy(tls_registry.address) as running:
            assert call(running.address, "GET", "/v2/", context=trusting(authority))[0] == 200
            with pytest.raises(RuntimeError, match="not HTTP"):
                running.requests()
