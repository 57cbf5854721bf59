"""Registries that tests run, and plain HTTP requests to them."""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from tests.raw_server import Peer

__all__ = [
    "EmbeddedRegistry",
    "Reply",
    "ScriptedRegistry",
    "connect",
    "fetch_blob",
    "refuse_patch",
    "request",
]

_PATIENCE_S = 30.0


@dataclass(frozen=True)
class EmbeddedRegistry:
    """A running embedded registry, and its directory."""

    address: str
    directory: Path

    def uploads(self, repository: str) -> list[Path]:
        """Return the files of the open upload sessions."""
        return sorted((self.directory / repository / ".uploads").glob("*"))

    def blobs(self, repository: str) -> list[Path]:
        """Return the files of the committed blobs."""
        return sorted((self.directory / repository / "blobs").glob("*/*"))


@dataclass(frozen=True)
class Reply:
    """A response that was read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @classmethod
    def read(cls, response: http.client.HTTPResponse) -> Reply:
        """Read a response."""
        return cls(response.status, response.headers, response.read())

    @property
    def location(self) -> str:
        """The Location, or an empty string."""
        return self.headers.get("Location", "")

    @property
    def json(self) -> Any:
        """The parsed body."""
        return json.loads(self.body)

    @property
    def codes(self) -> list[str]:
        """The code of each error."""
        return [error["code"] for error in self.json["errors"]]


def request(
    address: str,
    method: str,
    target: str,
    body: bytes | Iterable[bytes] = b"",
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Send a request on a connection of its own, chunked if the body is an iterable."""
    with closing(http.client.HTTPConnection(address, timeout=_PATIENCE_S)) as connection:
        chunked = not isinstance(body, bytes)
        connection.request(method, target, body, dict(headers or {}), encode_chunked=chunked)
        return Reply.read(connection.getresponse())


@contextmanager
def connect(address: str, head: str) -> Iterator[socket.socket]:
    """Open a connection, and send the head of a request; its lines end with a newline only."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=_PATIENCE_S) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        yield connection


def fetch_blob(address: str, repository: str, digest: object) -> bytes:
    """Read a blob without brolga."""
    with urlopen(f"http://{address}/v2/{repository}/blobs/{digest}") as response:
        data: bytes = response.read()
    return data


class ScriptedRegistry:
    """A registry for `scripted` that takes one blob, and counts the requests that it admits.

    `intercept` may answer a request instead, and returns whether it did.
    """

    def __init__(
        self,
        intercept: Callable[[Peer, list[str]], bool] = lambda _peer, _head: False,
        location: str = "upload",
        put_headers: Iterable[str] = (),
    ) -> None:
        self._intercept = intercept
        self._responses: dict[str, tuple[Any, ...]] = {
            "GET": (200,),
            "POST": (202, b"", f"Location: {location}"),
            "PATCH": (202,),
            "PUT": (201, b"", *put_headers),
            "DELETE": (204,),
        }
        self.methods: list[str] = []
        self.body = b""

    def __call__(self, peer: Peer) -> None:
        """Answer each request of a connection."""
        while head := peer.head():
            if self._intercept(peer, head):
                continue
            method = head[0].partition(" ")[0]
            self.methods.append(method)
            if method == "PATCH":
                chunks, is_complete = peer.chunks()
                if not is_complete:
                    continue
                self.body = b"".join(chunks)
            peer.answer(*self._responses[method])


def refuse_patch(*answer: Any) -> Callable[[Peer, list[str]], bool]:
    """Return an interceptor that answers a PATCH after its first chunk, and never reads it all."""

    def intercept(peer: Peer, head: list[str]) -> bool:
        if not head[0].startswith("PATCH"):
            return False
        peer.chunk()
        peer.answer(*answer)
        peer.drain()
        return True

    return intercept
