"""The web application of docs/async.md, under a real server."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from tests.processes import wait_until
from tests.registries import connect, request

import brolga
from brolga.aio import AsyncClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.registries import EmbeddedRegistry

DOCUMENT = Path(__file__).parents[3] / "docs" / "async.md"
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCK = bytes(range(256)) * 4096  # 1 MiB


@contextmanager
def serve(app: Any) -> Iterator[str]:
    """Run an ASGI application; yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="on", log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> list[AsyncClient]:
    """Record the clients that the application makes."""
    made: list[AsyncClient] = []

    class RecordedClient(AsyncClient):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            made.append(self)

    monkeypatch.setattr(brolga, "AsyncClient", RecordedClient)
    return made


@pytest.fixture
def address(registry: EmbeddedRegistry, clients: list[AsyncClient]) -> Iterator[str]:
    """Serve the document's application for the registry."""
    program = "\n".join(PYTHON.findall(DOCUMENT.read_text()))
    names: dict[str, Any] = {}
    exec(program.replace("localhost:5000", registry.address), names)  # noqa: S102 - the document's
    with serve(names["app"]) as address:
        yield address


def test_body_of_put_is_streamed_to_registry_and_back(
    address: str, registry: EmbeddedRegistry
) -> None:
    """Any bytes, of a length that no one knows."""
    reply = request(address, "PUT", "/model", (BLOCK for _ in range(5)))
    assert reply.status == 201
    assert reply.json["size"] == 5 * len(BLOCK)
    assert reply.json["place"].startswith(f"{registry.address}/uploads@sha256:")
    assert request(address, "GET", "/model").body == 5 * BLOCK
    assert request(address, "GET", "/other").status == 404
    assert registry.uploads("uploads") == []


def test_sender_that_disconnects_cancels_the_session(
    address: str, registry: EmbeddedRegistry
) -> None:
    """Nothing of it is committed."""
    head = "PUT /model HTTP/1.1\nHost: x\nTransfer-Encoding: chunked"
    with connect(address, head) as connection:
        for _ in range(3):
            connection.sendall(b"100000\r\n" + BLOCK + b"\r\n")
        wait_until(lambda: registry.uploads("uploads"))
    wait_until(lambda: not registry.uploads("uploads"))
    assert registry.blobs("uploads") == []


def test_receiver_that_disconnects_ends_the_read(address: str, clients: list[AsyncClient]) -> None:
    """The server has no thread that reads on."""
    assert request(address, "PUT", "/model", (BLOCK for _ in range(64))).status == 201
    connection = HTTPConnection(address, timeout=30)
    connection.request("GET", "/model")
    response = connection.getresponse()
    assert response.read(10) == BLOCK[:10]
    assert clients[0]._calls._running
    response.close()
    connection.close()
    wait_until(lambda: not clients[0]._calls._running)
