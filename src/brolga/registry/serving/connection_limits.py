"""A connection and its bounds; files that the kernel sends."""

from __future__ import annotations

import asyncio
import resource
import socket
import struct
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send


# Bytes that the parser buffers: of a request's head, a chunk's extensions, or the trailers.
HEAD_LIMIT: Final = 64 << 10

# Requests that wait: more than any client of a registry pipelines. A connection with more of them
# is closed, which clients must expect (RFC 9112, section 9.3.2). uvicorn reads 256 KiB at once.
PIPELINE: Final = 16

# How long a connection lives without a request, even if it sends half a head, or a body after its
# response. It is longer than the keep-alive time: idle connections are closed in good order before.
IDLE_CONNECTION_S: Final = 90.0

# How much is sent at once: little to a slow client, which is disconnected if it does not take it
# within the idle time.
_SLICE: Final = 1 << 20
_MAX_SLICE: Final = 16 << 20
_FAST_S: Final = 1.0

_LINGER_NONE: Final = struct.pack("ii", 1, 0)  # struct linger: on, no time (socket(7))

# The responses before a connection is closed.
_CLOSE: Final = b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_NO_UPGRADE: Final = _CLOSE % b"400 Bad Request"
_TOO_LARGE: Final = _CLOSE % b"431 Request Header Fields Too Large"
_TOO_MANY: Final = _CLOSE % b"503 Service Unavailable\r\nretry-after: 1"

# With more, memory would be short before descriptors are.
_MAX_CONNECTIONS: Final = 4096
_MAX_BACKLOG: Final = 128
# The listening sockets, the loop's own files, standard streams, directories that are listed.
_RESERVED_FILES: Final = 32
# The connection, the file that is sent or written, another one for a moment.
_FILES_PER_CONNECTION: Final = 3

_EXTENSION: Final = "brolga.disconnect"


class Disconnect(BaseException):
    """Raised by an application to end the connection: by a reset, or after what was written."""

    def __init__(self, *, reset: bool = True) -> None:
        super().__init__()
        self.reset = reset


def disconnect_event(scope: Scope) -> asyncio.Event:
    """Return an event that is set when the client's connection is closed.

    Unlike `http.disconnect`, it does not require that the body is read. On another server it is
    never set.
    """
    extension = scope.get("extensions", {}).get(_EXTENSION)
    return extension["event"] if extension else asyncio.Event()


def connection_limits() -> tuple[int, int]:
    """Return how many connections may be served, and how many may wait (getrlimit(2))."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return _MAX_CONNECTIONS, _MAX_BACKLOG
    # All waiting connections are accepted at once, before any of them can be rejected.
    backlog = max(1, min(_MAX_BACKLOG, files // 8))
    connections = (files - _RESERVED_FILES - backlog) // _FILES_PER_CONNECTION
    return max(1, min(_MAX_CONNECTIONS, connections)), backlog


def raise_nofile_limit() -> None:
    """Raise the soft limit of open files for `_MAX_CONNECTIONS`, up to the hard limit."""
    needed = _RESERVED_FILES + _MAX_BACKLOG + _FILES_PER_CONNECTION * _MAX_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


class Connection(HttpToolsProtocol):
    """The connection of one client.

    Nothing is upgraded: the bytes after an upgrade request are never parsed as a request. Pipelined
    requests are not read while one of them waits.
    """

    idle_s = 60.0
    max_connections = _MAX_CONNECTIONS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        """Wrap the application, and reject a connection over the limit."""
        super().connection_made(transport)
        self._is_over = False  # no further request is accepted
        self._unparsed = 0
        self._idle_since = self.loop.time()
        self._sender = _Sender(self.app, transport, self.idle_s)
        self.app = self._sender
        if len(self.connections) > self.max_connections:
            transport.write(_TOO_MANY)
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Parse, and reject a head without an end."""
        if self._is_over:
            return
        self._unparsed += len(data)
        super().data_received(data)
        if self._unparsed > HEAD_LIMIT and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_headers_complete(self) -> None:
        """Start the request, unless it is an upgrade with a body or one too many."""
        self._unparsed = 0
        if self._is_over:
            return
        fields = dict(self.headers)
        has_body = b"transfer-encoding" in fields or fields.get(b"content-length", b"0") != b"0"
        if self.parser.should_upgrade() and has_body:
            self._end(_NO_UPGRADE)
            return
        super().on_headers_complete()
        if self.parser.should_upgrade():
            self._is_over = True
            self.cycle.keep_alive = False
        elif len(self.pipeline) > PIPELINE:
            self._end(b"")

    def _end(self, response: bytes) -> None:
        """Accept no further request, answer no waiting one, and close."""
        self._is_over = True
        self.pipeline.clear()
        if not self._is_serving():  # else it would be inside another response
            self.transport.write(response)
        self.transport.close()

    def on_body(self, body: bytes) -> None:
        """Pass a block of a body on."""
        self._unparsed = 0
        if not self._is_over:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Pass the end of a body on."""
        if self.cycle is not None:  # as it is before the first request
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._idle_since = self.loop.time()
        super().on_response_complete()
        if self.pipeline:  # uvicorn resumes reading, even if requests wait
            self.flow.pause_reading()

    def is_overdue(self, now: float) -> bool:
        """Return whether nothing was served for too long; `now` is the loop's time."""
        return not self._is_serving() and now - self._idle_since > IDLE_CONNECTION_S

    def _is_serving(self) -> bool:
        # It is None before the first request, whatever uvicorn's types say.
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def connection_lost(self, exc: Exception | None) -> None:
        """Set the event of `disconnect_event`."""
        super().connection_lost(exc)
        self._sender.disconnected.set()

    def close_soon(self) -> None:
        """Close, even if a response is being sent."""
        self._sender.close_soon()


def close_connections(connections: Iterable[object], overdue_at: float | None = None) -> None:
    """Close all connections, or those that are overdue; ignore uvicorn's other protocols."""
    for connection in list(connections):
        if isinstance(connection, Connection) and (
            overdue_at is None or connection.is_overdue(overdue_at)
        ):
            connection.close_soon()


class _Sender:
    """The application, with a `send` that is bounded in time and can send files."""

    def __init__(self, app: Any, transport: asyncio.Transport, idle_s: float) -> None:  # noqa: ANN401 - starlette and uvicorn name the types of one protocol differently
        self._app: ASGIApp = app
        self._transport = transport
        self._idle_s = idle_s
        self._file_timeout: asyncio.Timeout | None = None
        self.disconnected = asyncio.Event()

    def close_soon(self) -> None:
        """Close; a file that is being sent must stop before, as asyncio requires it."""
        if self._file_timeout is None:
            self._reset()
        elif not self._file_timeout.expired():
            self._file_timeout.reschedule(asyncio.get_running_loop().time())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"] = {_EXTENSION: {"event": self.disconnected}}
        if self._transport.get_extra_info("sslcontext") is None:
            scope["extensions"]["http.response.zerocopysend"] = {}

        async def send_in_time(message: Message) -> None:
            if self._transport.is_closing():
                raise Disconnect
            try:
                if message["type"] == "http.response.zerocopysend":
                    await self._send_file(message, send)
                else:
                    async with asyncio.timeout(self._idle_s):
                        await send(message)
            except OSError as error:  # TimeoutError is one
                raise Disconnect from error

        try:
            await self._app(scope, receive, send_in_time)
        except Disconnect as disconnect:
            if disconnect.reset:
                self._reset()
            else:
                self._transport.close()
            # uvicorn must learn of it before this returns: it would miss the response's end.
            await self.disconnected.wait()

    def _reset(self) -> None:
        """Close at once: the kernel drops the bytes that the client has not taken."""
        connection = self._transport.get_extra_info("socket")
        if connection.fileno() >= 0:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
        self._transport.abort()

    async def _send_file(self, message: Message, send: Send) -> None:
        """Send part of a file. Raises OSError if the client left or the file is too short."""
        loop = asyncio.get_running_loop()
        offset, end = message["offset"], message["offset"] + message["count"]
        size = _SLICE
        while offset < end:
            if self._transport.is_closing():
                raise OSError("the client is gone")
            begin, count = loop.time(), min(size, end - offset)
            async with asyncio.timeout(self._idle_s) as timeout:
                self._file_timeout = timeout
                try:
                    sent = await loop.sendfile(self._transport, message["file"], offset, count)
                finally:
                    self._file_timeout = None
            if not sent:
                raise OSError("the file is shorter than it was")
            offset += sent
            is_fast = loop.time() - begin < _FAST_S
            size = min(2 * size, _MAX_SLICE) if is_fast else _SLICE
        # The bytes went past uvicorn, which counts them: its `send` is a method of the response.
        send.__self__.expected_content_length -= message["count"]  # type: ignore[attr-defined] # a bound method
        await send({"type": "http.response.body", "body": b"", "more_body": False})
