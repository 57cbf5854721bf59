"""Requests written to sockets by hand, and the files of sessions."""

from __future__ import annotations

import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.integration.registry.conftest import Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.registries import Reply


def ask(
    address: str, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> Reply:
    """Send one request on a connection of its own."""
    return Client(address, "a/b")(method, target, body, headers)


def start(address: str, name: str = "a/b") -> str:
    """Open a session; return its location."""
    return ask(address, "POST", f"/v2/{name}/blobs/uploads/").location


def offset(address: str, location: str) -> int:
    """Return how many bytes a session has, if it has more than one."""
    reply = ask(address, "GET", location)
    assert reply.status == 204
    return int(reply.headers["Range"].partition("-")[2]) + 1


@contextmanager
def connected(address: str, head: str) -> Iterator[socket.socket]:
    """Send a request's head by hand."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        yield connection


def wait_for(path: Path, size: int) -> None:
    """Wait until a file has some bytes."""
    deadline = time.monotonic() + 10
    while path.stat().st_size < size:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def session_file(root: Path, location: str) -> Path:
    """Return the file of a session."""
    return root / "a/b/.uploads" / location.rpartition("/")[2]
