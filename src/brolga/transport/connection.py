"""A connection that notices an answer which comes while it is still sending.

Knows sockets, TLS's own records, and the one thing of HTTP that it must: what an interim answer
looks like. Must not know what is sent.

Strategy: a network stream of the HTTP library, with one thing more. Before each write, and while it
waits to write, it looks whether the registry has answered. If so it raises WriteError, which the
library takes as the sign to stop sending and to read that answer.
"""

from __future__ import annotations

import re
import select
import ssl
from typing import TYPE_CHECKING, Any, Final

import httpcore2 as httpcore

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

__all__ = ["Backend"]

_READ_SIZE: Final = 1 << 16  # bytes
# An interim answer (RFC 9110, section 15.2; 101 is final), and how many bytes it takes to tell.
_INTERIM: Final = re.compile(rb"HTTP/1\.[01] 1(?!01)")
_INTERIM_SIZE: Final = len(b"HTTP/1.1 101")
_HEAD_END: Final = re.compile(rb"\n\r?\n")


class Watched(httpcore.NetworkStream):
    """A connection that notices an answer which comes while it is still sending.

    `stopped` tells that it gave up sending for that reason: what went out is no whole request.
    """

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self.stopped = False
        self._inner = inner
        self._socket: socket.socket = inner.get_extra_info("socket")
        self._poll = select.poll()
        self._early = b""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._early:
            early, self._early = self._early, b""
            return early
        return self._inner.read(max_bytes, timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of `buffer`; raise WriteError as soon as there is an answer instead.

        httpcore takes a WriteError as the sign to stop sending and to read that answer.
        """
        view = memoryview(buffer)
        try:
            self._look()
            while view:
                events = self._wait(select.POLLIN | select.POLLOUT, timeout)
                if not events:
                    raise httpcore.WriteTimeout(f"nothing could be sent for {timeout} s")
                if events & ~select.POLLOUT:
                    self._look()
                if events & select.POLLOUT:
                    view = view[self._send(view) :]
        except httpcore.WriteError:
            # A request without a body ends with an empty write, after all of it went out.
            self.stopped = bool(view)
            raise

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        return Watched(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - the library's signature
        if info == "is_readable" and self.stopped:
            return True  # so the pool takes it for expired: half a request may be in it
        return self._inner.get_extra_info(info)

    def _wait(self, events: int, timeout: float | None) -> int:
        """Return which of `events` came within `timeout` seconds, and errors; 0 where none did."""
        number = self._socket.fileno()
        if number < 0:
            raise httpcore.WriteError("the connection was closed here")
        self._poll.register(number, events)
        ready = self._poll.poll(None if timeout is None else 1000 * timeout)
        return ready[0][1] if ready else 0

    def _look(self) -> None:
        """Raise WriteError where the registry has answered or gone."""
        if not self._wait(select.POLLIN, 0):
            return
        self._socket.settimeout(0)
        try:
            data = self._socket.recv(_READ_SIZE)
        except (BlockingIOError, ssl.SSLWantReadError):
            return  # TLS's own records, a session ticket say
        except OSError:
            data = b""  # reading the answer will tell the error
        self._early = _without_interim(self._early + data)
        if not data or _is_final(self._early):
            raise httpcore.WriteError("the registry answered before the end of the request")

    def _send(self, view: memoryview) -> int:
        self._socket.settimeout(0)
        try:
            return self._socket.send(view)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error


def _without_interim(early: bytes) -> bytes:
    """Drop interim answers (RFC 9110, section 15.2) that are there as a whole."""
    while _INTERIM.match(early) and (end := _HEAD_END.search(early)):
        early = early[end.end() :]
    return early


def _is_final(early: bytes) -> bool:
    """Tell whether what came begins a final answer: not an interim one, nor too little to tell."""
    if _INTERIM.match(early):
        return len(early) > _READ_SIZE  # an interim answer without an end
    return len(early) >= _INTERIM_SIZE


class Backend(httpcore.NetworkBackend):
    """httpcore's own way to connect, with a `Watched` around each connection."""

    def __init__(self) -> None:
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect. Raises ConnectError, ConnectTimeout of the library."""
        try:
            stream = self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        except UnicodeError as error:  # a name that DNS cannot have; the library lets it through
            raise httpcore.ConnectError(error) from error
        return Watched(stream)
