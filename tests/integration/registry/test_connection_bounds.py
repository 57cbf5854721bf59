"""The bounds of a connection."""

from __future__ import annotations

import http.client
import logging
import os
import select
import socket
import ssl
import time
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from tests.integration.registry.conftest import Client

from brolga.registry.options import Options
from brolga.registry.server import running
from brolga.registry.serving import connection_limits, server
from brolga.registry.serving.connection_limits import HEAD_LIMIT, Connection

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Authority


MIB = 1 << 20


@contextmanager
def connected(address: str, sent: bytes = b"") -> Iterator[socket.socket]:
    """Send something by hand."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(sent)
        yield connection


def answer(connection: socket.socket) -> tuple[int, bytes]:
    """Return one answer's status, and what the server sends until it closes."""
    with connection.makefile("rb") as file:
        try:
            text = file.read()
        except ConnectionResetError:
            return 0, b""
    return int(text.split(b" ", 2)[1]), text


@pytest.fixture(scope="module")
def shared_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a registry for tests that leave nothing in it."""
    with running(tmp_path_factory.mktemp("shared")) as address:
        yield address


def test_few_pipelined_requests_are_answered(shared_registry: str) -> None:
    """In their order (RFC 9112, section 9.3.2)."""
    request = b"GET /v2/%d HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with connected(shared_registry, b"".join(request % n for n in range(10)) + last) as connection:
        _, text = answer(connection)
    assert text.count(b"HTTP/1.1 404") == 10
    assert text.count(b"HTTP/1.1 200") == 1


def test_many_pipelined_requests_end_the_connection(shared_registry: str) -> None:
    """They wait in memory, before any password."""
    requests = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n" * 20_000
    with connected(shared_registry) as connection, connection.makefile("rb") as file:
        with suppress(ConnectionError):
            connection.sendall(requests)
        answers = 0
        with suppress(ConnectionError):
            answers = file.read().count(b"HTTP/1.1 ")
    assert answers < 20_000


@pytest.mark.parametrize("in_one_piece", [True, False])
def test_body_of_upgrade_request_is_not_a_request(shared_registry: str, in_one_piece: bool) -> None:
    """Else the bytes of a blob would be a request of another client behind the same proxy."""
    inner = b"POST /v2/smuggled/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    head = (
        b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n"
        b"Upgrade: x\r\nContent-Length: %d\r\n\r\n" % len(inner)
    )
    with connected(shared_registry, head + inner if in_one_piece else head) as connection:
        if not in_one_piece:
            with suppress(ConnectionError):
                connection.sendall(inner)
        status, text = answer(connection)
    assert (status, text.count(b"HTTP/1.1 ")) == (400, 1)


def test_upgrade_without_body_is_ignored(shared_registry: str) -> None:
    """A server MAY ignore a received Upgrade field (RFC 9110, section 7.8), as of curl --http2."""
    head = b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
    with connected(shared_registry, head * 2) as connection:
        status, text = answer(connection)
    assert (status, text.count(b"HTTP/1.1 ")) == (200, 1)


def test_connection_has_nodelay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TCP_NODELAY: an answer's head and body are two writes, and Nagle's algorithm adds 40 ms."""
    options: list[int] = []
    real = Connection.connection_made

    def connection_made(self: Connection, transport: asyncio.Transport) -> None:
        real(self, transport)
        accepted = transport.get_extra_info("socket")
        options.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(Connection, "connection_made", connection_made)
    with running(tmp_path) as address, connected(address):
        wait_for_one(options)
    assert options[0]


def wait_for_one(values: list[int]) -> None:
    """Wait until the server's thread has come so far."""
    end = time.monotonic() + 30
    while not values:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 200_000,
        b"GET / HTTP/1.1\r\nx: " + b"a" * 200_000,
        b"GET / HTTP/1.1\r\n" + b"x: a\r\n" * 40_000,
        b"PUT /v2/a/manifests/v1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"1\r\n{\r\n0\r\nx: " + b"a" * 200_000,
        b"PUT /v2/a/manifests/v1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;x="
        + b"a" * 200_000,
    ],
    ids=["path", "header", "headers", "trailer", "extension"],
)
def test_endless_head_is_rejected(address: str, head: bytes) -> None:
    """RFC 6585, section 5: 431, [if] unwilling to process [...] its header fields are too large."""
    with connected(address) as connection:
        try:
            connection.sendall(head)
        except OSError:
            return  # refused while it was being sent
        assert answer(connection)[0] in {0, 400, 431}


def test_large_head_is_431(address: str) -> None:
    """A client that waits is told; the connection is closed."""
    with connected(address, b"GET / HTTP/1.1\r\nx: " + b"a" * HEAD_LIMIT) as connection:
        status, text = answer(connection)
    assert status == 431
    assert text.endswith(b"\r\n\r\n")


def test_head_below_the_limit_is_accepted(client: Client) -> None:
    """A token or a cookie of some kilobytes is nothing unusual."""
    assert client("GET", "/v2/", headers={"Authorization": "Bearer " + "x" * 30_000}).status == 200


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let connections without a request be overdue at once."""
    monkeypatch.setattr(connection_limits, "IDLE_CONNECTION_S", -1.0)
    monkeypatch.setattr(server, "_CHECK_S", 0.01)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("sent", [b"", b"GET /v2/ HTT", b"GET /v2/ HTTP/1.1\r\nHost:"])
def test_connection_without_head_is_closed(tmp_path: Path, sent: bytes) -> None:
    """A connection that sends no whole request does not stay."""
    with running(tmp_path) as address, connected(address, sent) as connection:
        assert cut(connection)


@pytest.mark.usefixtures("impatient")
def test_body_after_its_response_is_cut(tmp_path: Path) -> None:
    """A client cannot send for ever what was refused already."""
    head = (
        b"PATCH /v2/a/blobs/uploads/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n"
    )
    with (
        running(tmp_path) as address,
        connected(address, head) as connection,
        pytest.raises(OSError, match=r"reset|Broken pipe"),
    ):
        while True:
            connection.sendall(bytes(MIB))


def test_stalled_body_is_408(tmp_path: Path) -> None:
    """A body of which nothing comes is given up; what has arrived stays."""
    with running(tmp_path, Options(idle_s=0.05)) as address:
        client = Client(address, "a")
        location = client.start()
        head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc"
        with connected(address, head.encode()) as connection:
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert response.status == 408
            response.close()
        assert client("GET", location).headers["Range"] == "0-2"
        head = "PUT /v2/a/manifests/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
        with connected(address, head.encode()) as connection:
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert response.status == 408
            response.close()


def test_slow_body_is_408(tmp_path: Path) -> None:
    """A byte now and then, without end, is given up; what has arrived stays."""
    with running(tmp_path, Options(idle_s=0.3)) as address:
        client = Client(address, "a")
        location = client.start()
        head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        with connected(address, head.encode()) as connection:
            while not select.select([connection], [], [], 0.05)[0]:
                connection.sendall(b"1\r\nx\r\n")
            assert connection.recv(12) == b"HTTP/1.1 408"
        assert client("GET", location).status == 204
        assert client("GET", location).headers["Range"] != "0-0"


def cut(connection: socket.socket) -> bool:
    """Wait until the other side has cut the connection, without reading anything."""
    poll = select.poll()
    poll.register(connection, select.POLLHUP | select.POLLERR)
    return bool(poll.poll(30_000))


@pytest.mark.parametrize("secure", [False, True])
def test_client_that_reads_nothing_is_disconnected(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture, *, secure: bool
) -> None:
    """A response that the client does not read is dropped, and not logged as an error."""
    cert, key = authority.certificate() if secure else (None, None)
    data = bytes(32 * MIB)
    store = tmp_path / "store"
    with running(store) as address:
        digest = Client(address, "a").push(data)
    head = f"GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    context = ssl.create_default_context(cafile=authority.ca_cert)
    with (
        running(store, Options(idle_s=0.2, tls_cert=cert, tls_key=key)) as address,
        connected(address) as plain,
    ):
        connection = context.wrap_socket(plain, server_hostname="localhost") if secure else plain
        connection.sendall(head)
        assert cut(connection)
        connection.close()
    assert caplog.records == []


@pytest.mark.parametrize("how", ["client", "server"])
def test_cut_download_is_not_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """A client that leaves is not an error; a server that stops does not wait for a client."""
    data = bytes(32 * MIB)
    with running(tmp_path) as address:
        client = Client(address, "a")
        digest = client.push(data)
        head = f"GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        with connected(address, head) as connection:
            assert connection.recv(100)
            if how == "client":
                # With unread bytes, to close is to reset.
                connection.close()
                assert client("GET", "/v2/").status == 200
            else:
                connection.detach()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_shrinking_file_ends_the_download(tmp_path: Path) -> None:
    """An answer that cannot be as long as it said is broken off, never padded."""
    with running(tmp_path) as address:
        client = Client(address, "a")
        digest = client.push(bytes(32 * MIB))
        path = tmp_path / "a/blobs" / digest.replace(":", "/")
        with closing(http.client.HTTPConnection(address, timeout=30)) as connection:
            connection.request("GET", f"/v2/a/blobs/{digest}")
            response = connection.getresponse()
            os.truncate(path, MIB)
            with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
                response.read()
