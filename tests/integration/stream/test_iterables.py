"""stream/iterables.py: responses of HTTP servers."""

from __future__ import annotations

import socket
import threading
import urllib.request
from typing import TYPE_CHECKING, cast

import pytest
from tests.unit.stream.block_sources import DATA, SIZE, read

from brolga.errors import SourceError

if TYPE_CHECKING:
    import http.client
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def served(server: socket.socket, answer: bytes) -> http.client.HTTPResponse:
    """Fetch what a server says before it cuts the connection."""

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(10_000)
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    host, port = server.getsockname()
    response = urllib.request.urlopen(f"http://{host}:{port}/")
    thread.join()
    return cast("http.client.HTTPResponse", response)


@pytest.mark.parametrize("sent", [0, 1, SIZE, len(DATA) - 1])
def test_truncated_http_response_is_source_error(server: socket.socket, sent: int) -> None:
    """HTTPResponse.read(n) returns no bytes and raises nothing if the connection was cut."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(DATA)
    with (
        served(server, head + DATA[:sent]) as response,
        pytest.raises(SourceError, match=f"^the source ended {len(DATA) - sent} bytes early$"),
    ):
        read(response)


@pytest.mark.parametrize("head", [b"Content-Length: %d\r\n" % len(DATA), b""])
def test_http_response_is_read_from_its_position(server: socket.socket, head: bytes) -> None:
    """With or without a length, and whatever was read of it before."""
    with served(server, b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + DATA) as response:
        assert response.read(10) + b"".join(read(response)) == DATA
