"""A registry that discards blobs, so that only the uploader is measured.

It has the part of the distribution API that brolga, crane, skopeo, oras and dxf need for a push:
blobs never exist, uploads are discarded, manifests are kept in memory, digests are not checked. A
file can be offered as a blob. It
runs on the cores of the uploader, so it must be cheap: on Linux the kernel discards the body
(tcp(7), MSG_TRUNC). `Sink` starts the process and reads its counts.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

# The kernel gathers and discards up to so much in one call.
_AT_ONCE = 1 << 20
_HEAD_ROOM = 1 << 16
# Little more than a chunk's size line: what is read beyond it is copied.
_CHUNK_LINE_ROOM = 32
# The first byte of a client that tries https before http; it gives up when the connection ends.
_TLS_HANDSHAKE = 0x16
_DISCARD = socket.MSG_TRUNC | socket.MSG_WAITALL if sys.platform == "linux" else 0
_MANIFEST = re.compile(r"/v2/.+/manifests/[^/]+")


@dataclass(frozen=True)
class Count:
    """The work of the sink since its start, or between two moments."""

    cpu_s: float
    received: int
    sent: int

    def __sub__(self, earlier: Count) -> Count:
        """Return the work since `earlier`."""
        received, sent = self.received - earlier.received, self.sent - earlier.sent
        return Count(self.cpu_s - earlier.cpu_s, received, sent)


class Sink:
    """The running process; a context manager that ends it."""

    def __init__(self) -> None:
        command = [sys.executable, __file__]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None  # noqa: S101 - for the type
        self.port = int(self._process.stdout.readline())
        self.host = f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        """Return the sink, which is listening."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._process.terminate()
        self._process.communicate()

    def count(self) -> Count:
        """Return processor seconds, and bytes of bodies, since the start."""
        return Count(*json.loads(self._request("GET /count")))

    def offer(self, digest: str, path: Path) -> None:
        """Answer requests for a blob with the bytes of a file."""
        self._request(f"PUT /offer?{digest}:{quote(str(path))}")

    def forget(self) -> None:
        """Drop the manifests and offers: a client that finds its image there uploads nothing."""
        self._request("DELETE /manifests")

    def _request(self, line: str) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(f"{line} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: connection.recv(_HEAD_ROOM), b""))
        return answer.partition(b"\r\n\r\n")[2]


class _State:
    """The state that all connections share."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.received = 0
        self.sent = 0
        self.offers: dict[str, str] = {}  # the path of a blob's file, by its digest
        self.uploads: dict[str, int] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}


class _Input:
    """The bytes that a client sends: lines, counted bytes, discarded bytes."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray()
        self._scratch = bytearray(_AT_ONCE)

    def _fill(self, room: int) -> None:
        data = self._connection.recv(room)
        if not data:
            raise ConnectionError
        self._buffer += data
        if self._buffer[0] == _TLS_HANDSHAKE:
            raise ConnectionError

    def line(self, room: int = _HEAD_ROOM) -> str:
        """Read one line, receiving at most `room` bytes at a time."""
        while (end := self._buffer.find(b"\r\n")) < 0:
            self._fill(room)
        line = self._buffer[:end].decode("latin-1")
        del self._buffer[: end + 2]
        return line

    def take(self, count: int) -> bytes:
        """Read exactly `count` bytes."""
        while len(self._buffer) < count:
            self._fill(count - len(self._buffer))
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def skip(self, count: int) -> None:
        """Discard exactly `count` bytes."""
        held = min(count, len(self._buffer))
        del self._buffer[:held]
        count -= held
        while count:
            discarded = self._connection.recv_into(self._scratch, min(count, _AT_ONCE), _DISCARD)
            if not discarded:
                raise ConnectionError
            count -= discarded


class _Request:
    """One request: its head is read, its body is still to be taken."""

    def __init__(self, source: _Input) -> None:
        self._source = source
        self.method, target, _ = source.line().split(" ")
        self.path, _, self.query = target.partition("?")
        self.headers: dict[str, str] = {}
        while line := source.line():
            name, _, value = line.partition(":")
            self.headers[name.lower()] = value.strip()

    def _pieces(self) -> Iterator[int]:
        """Yield the size of each piece of the body, to be consumed before the next."""
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            yield int(self.headers.get("content-length", "0"))
            return
        while size := int(self._source.line(_CHUNK_LINE_ROOM).partition(";")[0], 16):
            yield size
            self._source.line(_CHUNK_LINE_ROOM)
        while self._source.line(_CHUNK_LINE_ROOM):
            pass  # trailers

    def discard(self) -> int:
        """Throw the body away and return its size in bytes."""
        total = 0
        for size in self._pieces():
            self._source.skip(size)
            total += size
        return total

    def body(self) -> bytes:
        """Read the whole body, for manifests."""
        return b"".join(self._source.take(size) for size in self._pieces())


class _Connection:
    """One client's requests, answered in turn."""

    def __init__(self, connection: socket.socket, state: _State) -> None:
        self._connection = connection
        self._state = state

    def serve(self) -> None:
        """Answer until the client disconnects, or sends something other than HTTP (as TLS)."""
        source = _Input(self._connection)
        with self._connection, contextlib.suppress(OSError, ValueError):
            while True:
                request = _Request(source)
                if "expect" in request.headers:
                    self._connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                self._answer(request)
                if request.headers.get("connection", "").lower() == "close":
                    return

    def _answer(self, request: _Request) -> None:
        if request.path == "/manifests":
            self._state.manifests.clear()
            self._state.offers.clear()
            self._reply(HTTPStatus.NO_CONTENT)
        elif request.path == "/count":
            counted = [time.process_time(), self._state.received, self._state.sent]
            self._reply(HTTPStatus.OK, body=json.dumps(counted).encode())
        elif request.path == "/offer":
            digest, _, name = request.query.partition(":")
            self._state.offers[digest] = unquote(name)
            self._reply(HTTPStatus.NO_CONTENT)
        elif _MANIFEST.fullmatch(request.path):
            self._manifest(request)
        elif path := self._state.offers.get(request.path.rpartition("/blobs/sha256:")[2]):
            self._blob(request, Path(path))
        elif "/blobs/uploads" in request.path:
            self._upload(request)
        else:
            request.discard()
            is_api = request.path.rstrip("/") == "/v2"
            self._reply(HTTPStatus.OK if is_api else HTTPStatus.NOT_FOUND)

    def _blob(self, request: _Request, path: Path) -> None:
        """Send a file, which the kernel does (sendfile)."""
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"
            self._connection.sendall(head.encode())
            if request.method == "GET":
                sent = self._connection.sendfile(file)
                with self._state.lock:
                    self._state.sent += sent

    def _upload(self, request: _Request) -> None:
        """Open, fill, ask after, end or cancel an upload; it has as many bytes as were sent."""
        size = request.discard()
        state, path = self._state, request.path.rstrip("/")
        with state.lock:
            state.received += size
            if request.method == "POST":
                path += f"/{len(state.uploads)}"
            total = state.uploads[path] = state.uploads.get(path, 0) + size
        status = {
            "PUT": HTTPStatus.CREATED,
            "GET": HTTPStatus.NO_CONTENT,
            "DELETE": HTTPStatus.NO_CONTENT,
        }.get(request.method, HTTPStatus.ACCEPTED)
        location = f"http://{request.headers.get('host', '')}{path}"
        self._reply(status, {"Location": location, "Range": f"0-{max(total - 1, 0)}"})

    def _manifest(self, request: _Request) -> None:
        """Keep a manifest by its name and by its digest, or find it."""
        manifests, body = self._state.manifests, request.body()
        if request.method == "PUT":
            digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
            manifest = request.headers.get("content-type", ""), body
            manifests[request.path] = manifest
            manifests[f"{request.path.rpartition('/')[0]}/{digest}"] = manifest
            headers = {"Location": request.path, "Docker-Content-Digest": digest}
            self._reply(HTTPStatus.CREATED, headers)
        elif request.path in manifests:
            kind, body = manifests[request.path]
            digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
            headers = {"Content-Type": kind, "Docker-Content-Digest": digest}
            self._reply(HTTPStatus.OK, headers, body, send_body=request.method != "HEAD")
        else:
            self._reply(HTTPStatus.NOT_FOUND)

    def _reply(
        self,
        status: HTTPStatus,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        *,
        send_body: bool = True,
    ) -> None:
        head = [f"HTTP/1.1 {status.value} {status.phrase}"]
        head += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if status != HTTPStatus.NO_CONTENT:
            head.append(f"Content-Length: {len(body)}")
        text = "\r\n".join([*head, "Docker-Distribution-Api-Version: registry/2.0", "", ""])
        self._connection.sendall(text.encode() + (body if send_body else b""))


def main() -> None:
    """Print the port and serve until terminated."""
    state = _State()
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client = _Connection(connection, state)
            threading.Thread(target=client.serve, daemon=True).start()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
