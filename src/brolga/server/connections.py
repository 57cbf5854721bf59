"""A connection's bounds, and files that the kernel sends.

Knows uvicorn's HTTP protocol, whose hooks it extends. Must not know what is served.

- A request's head, a chunk's extension, the trailers: no more than `HEAD_LIMIT` bytes that are no
  body. The parser keeps what it has not understood yet, however long it gets.
- A connection on which no request is served lives for `FREE_S`: one that never sends a whole
  head, one that goes on sending a body which was answered already, and one that is idle.
- A client that takes nothing of an answer for the idle time is cut off.
- Requests that are sent before the answers to those before them (pipelining) are not read while one
  of them waits; a connection with more than `PIPELINE` of them in one piece is closed, which RFC
  9112, section 9.3.2, prepares clients for.
- Nothing is upgraded. What follows a request that asks for it is never read as a request.
- No more connections at once than the process has file descriptors for.
- The ASGI extension `http.response.zerocopysend`: sendfile(2), if there is no TLS in between.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import struct
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from brolga.server.sending import Gone

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["FREE_S", "HEAD_LIMIT", "Connection", "Room", "cut_all", "cut_overdue", "room", "widen"]

HEAD_LIMIT = 64 << 10

# More than any client of a registry sends ahead; 256 KiB of them come in one piece.
PIPELINE = 16

# Longer than an idle connection is kept, so that such a one is closed in good order before.
FREE_S = 90.0

# What is sent at once: little to a slow client, which must take it within the idle time.
_SLICE = 1 << 20
_LARGEST_SLICE = 16 << 20
_FAST_S = 1.0

# struct linger: on, no time (socket(7)).
_AT_ONCE = struct.pack("ii", 1, 0)

_NO_UPGRADE = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


# With more, memory would be short before descriptors are.
_MOST = 4096
_LARGEST_BACKLOG = 128
# Sockets to listen on, the loop's own, standard streams, directories being listed.
_SPARE = 32
# Of a connection: itself, the file that is sent or written, another one for a moment.
_EACH = 3

_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\n"
    b"retry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
)


class Room(NamedTuple):
    """How many connections are served at once, and how many may wait to be accepted."""

    most: int
    backlog: int


def room() -> Room:
    """Return what the limit of file descriptors leaves room for (getrlimit(2))."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return Room(_MOST, _LARGEST_BACKLOG)
    # As many as wait are accepted at once, before any of them can be refused.
    backlog = max(1, min(_LARGEST_BACKLOG, files // 8))
    return Room(max(1, min(_MOST, (files - _SPARE - backlog) // _EACH)), backlog)


def widen() -> None:
    """Let this process open what `_MOST` connections need, as far as it may (setrlimit(2))."""
    wanted = _SPARE + _LARGEST_BACKLOG + _EACH * _MOST
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


class Connection(HttpToolsProtocol):
    """One client's connection."""

    idle_s = 60.0
    most = _MOST

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        """Begin to count; let the application send by this transport."""
        super().connection_made(transport)
        self._is_over = False  # no further request is taken
        self._not_body = 0
        self._free_since = self.loop.time()
        self._sender = _Sender(self.app, transport, self.idle_s)
        self.app = self._sender
        if len(self.connections) > self.most:
            transport.write(_TOO_MANY)
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Parse, and refuse what does not come to an end."""
        if self._is_over:
            return
        self._not_body += len(data)
        super().data_received(data)
        if self._not_body > HEAD_LIMIT and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_headers_complete(self) -> None:
        """Count from here."""
        self._not_body = 0
        if self._is_over:
            return
        if self.parser.should_upgrade() and self._has_body():
            self._end(_NO_UPGRADE)
            return
        super().on_headers_complete()
        if self.parser.should_upgrade():
            self._is_over = True
            self.cycle.keep_alive = False
        elif len(self.pipeline) > PIPELINE:
            self._end(b"")

    def _has_body(self) -> bool:
        fields = dict(self.headers)
        return b"transfer-encoding" in fields or fields.get(b"content-length", b"0") != b"0"

    def _end(self, answer: bytes) -> None:
        """Take no further request, answer none that waits, and close."""
        self._is_over = True
        self.pipeline.clear()
        cycle: Any = self.cycle  # None before the first request, whatever uvicorn's types say
        if cycle is None or cycle.response_complete:  # else it would stand in another answer
            self.transport.write(answer)
        self.transport.close()

    def on_body(self, body: bytes) -> None:
        """Count from here."""
        self._not_body = 0
        if not self._is_over:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Pass on the end of a body."""
        # It is None before the first request, whatever uvicorn's types say.
        if self.cycle is not None:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request from now on."""
        self._free_since = self.loop.time()
        super().on_response_complete()
        if self.pipeline:  # uvicorn reads on, whatever waits
            self.flow.pause_reading()

    def overdue(self, now: float) -> bool:
        """Whether nothing has been served here for too long; `now` is the loop's time."""
        # It is None before the first request, whatever uvicorn's types say.
        served = self.cycle is not None and not self.cycle.response_complete  # type: ignore[redundant-expr] # as above
        return not served and now - self._free_since > FREE_S

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the application's end wait for this."""
        super().connection_lost(exc)
        self._sender.lost.set()

    def cut(self) -> None:
        """Close soon, whatever is being sent."""
        self._sender.cut()


def cut_all(connections: Iterable[object]) -> None:
    """Cut off every connection."""
    for connection in _ours(connections):
        connection.cut()


def cut_overdue(connections: Iterable[object], now: float) -> None:
    """Cut off the connections on which nothing happens that is worth waiting for."""
    for connection in _ours(connections):
        if connection.overdue(now):
            connection.cut()


def _ours(connections: Iterable[object]) -> list[Connection]:
    """Return a list of what uvicorn keeps as connections of any protocol."""
    return [connection for connection in connections if isinstance(connection, Connection)]


class _Sender:
    """The application, with `send` bounded in time and able to send files."""

    def __init__(self, app: Any, transport: asyncio.Transport, idle_s: float) -> None:  # noqa: ANN401 - starlette and uvicorn name the types of one protocol differently
        self._app: ASGIApp = app
        self._transport = transport
        self._idle_s = idle_s
        self._waiting: asyncio.Timeout | None = None
        self.lost = asyncio.Event()

    def cut(self) -> None:
        """Close; if a file is being sent, after that has stopped, as asyncio needs it."""
        if self._waiting is None:
            self._reset()
        elif not self._waiting.expired():
            self._waiting.reschedule(asyncio.get_running_loop().time())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # For a fault that waits until the client hangs up (see striking).
        scope["extensions"] = {"brolga.lost": {"event": self.lost}}
        if self._transport.get_extra_info("sslcontext") is None:
            scope["extensions"]["http.response.zerocopysend"] = {}

        async def bounded(message: Message) -> None:
            if self._transport.is_closing():
                raise Gone
            try:
                if message["type"] == "http.response.zerocopysend":
                    await self._send_file(message, send)
                else:
                    async with asyncio.timeout(self._idle_s):
                        await send(message)
            except OSError as error:  # TimeoutError is one
                raise Gone from error

        try:
            await self._app(scope, receive, bounded)
        except Gone as gone:
            if gone.reset:
                self._reset()
            else:
                self._transport.close()
            # Let uvicorn hear of it, which would else miss the end of the answer.
            await self.lost.wait()

    def _reset(self) -> None:
        """Close at once: the kernel does not keep for a client what it would not take."""
        connection = self._transport.get_extra_info("socket")
        if connection.fileno() >= 0:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self._transport.abort()

    async def _send_file(self, message: Message, send: Send) -> None:
        """Send part of a file; raises OSError if the client is gone or the file too short."""
        loop = asyncio.get_running_loop()
        offset, end = message["offset"], message["offset"] + message["count"]
        largest = _SLICE
        while offset < end:
            begin, count = loop.time(), min(largest, end - offset)
            sent = await self._slice(message["file"], offset, count)
            if not sent:
                raise OSError("the file is shorter than it was")
            offset += sent
            fast = loop.time() - begin < _FAST_S
            largest = min(2 * largest, _LARGEST_SLICE) if fast else _SLICE
        # The bytes went past uvicorn, which counts them: its `send` is a method of the answer.
        send.__self__.expected_content_length -= message["count"]  # type: ignore[attr-defined] # a bound method
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _slice(self, file: BinaryIO, offset: int, count: int) -> int:
        """Send some bytes within the idle time. Raises OSError."""
        if self._transport.is_closing():
            raise OSError("the client is gone")
        async with asyncio.timeout(self._idle_s) as waiting:
            self._waiting = waiting
            try:
                loop = asyncio.get_running_loop()
                return await loop.sendfile(self._transport, file, offset, count)
            finally:
                self._waiting = None
