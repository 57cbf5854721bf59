"""Connections that notice a response which comes while the body is still being sent.

`EarlyResponseStream` is a network stream of the HTTP library. Before each write, and while it waits
to write, it checks for a response. If there is one it raises WriteError, and the library stops
sending and reads it. Interrupts within a block, or before the response, can be deferred.
"""

from __future__ import annotations

import errno
import math
import re
import select
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, Final

import httpcore2 as httpcore

from brolga.stream.worker import POLL_INTERVAL_S
from brolga.transport.addresses import AddressRefused, ReachedHosts, Zone, zone_of
from brolga.transport.forks import close_in_child
from brolga.transport.request_state import CURRENT_REQUEST, INTERRUPTS, MIN_RATE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from brolga.transport.request_state import RequestState

_READ_SIZE: Final = 1 << 18  # bytes; with the library's 64 KiB a download costs 8 % more CPU
# Errors of this machine: no descriptors, no memory.
_LOCAL_ERRNOS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
_EARLY_SIZE: Final = 1 << 16  # bytes of an early response that are received at a time
# An interim response (RFC 9110, section 15.2; 101 is final), and how many bytes decide it.
_INTERIM: Final = re.compile(rb"HTTP/1\.[01] 1(?!01)")
_INTERIM_SIZE: Final = len(b"HTTP/1.1 101")
_HEAD_END: Final = re.compile(rb"\n\r?\n")
# A vanished peer is noticed after a minute and a half, however long a response may take.
_OPTIONS: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 6))
        if hasattr(socket, name)
    ),
)


class PlainStream(httpcore.NetworkStream):
    """The library's own stream, which does not check for a response.

    `aborted` is whether sending was aborted: only a part of the request was sent.
    """

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self.aborted = False
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Receive at most `max_bytes`, within the time left for the request."""
        return self._inner.read(max_bytes, CURRENT_REQUEST.get().remaining(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send bytes, within the time left for the request."""
        try:
            self._inner.write(buffer, CURRENT_REQUEST.get().remaining(timeout))
        except httpcore.WriteError:
            self.aborted = True
            raise

    def close(self) -> None:
        """Close the connection."""
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        """Return this stream in TLS."""
        inner = self._inner.start_tls(ssl_context, server_hostname, timeout)
        # TLS within TLS, through an https proxy: the socket belongs to the outer connection.
        nested = isinstance(self._inner.get_extra_info("socket"), ssl.SSLSocket)
        return PlainStream(inner) if nested else EarlyResponseStream(inner)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - the library's signature
        """Return a fact about the stream, for the pool."""
        if info == "is_readable" and self.aborted:
            return True  # the pool takes it for expired: half a request may have been sent
        return self._inner.get_extra_info(info)


class _WriteBuffer:
    """A buffer that is being sent.

    An interrupt can come between any two bytecodes. Only C code appends to `sent_counts`, so it is
    always right on a plain socket. TLS may lose a count; then `attempts` is one ahead.
    """

    __slots__ = ("_view", "attempts", "sent_counts")

    def __init__(self, buffer: bytes) -> None:
        self._view = memoryview(buffer)
        self.sent_counts: list[int] = []  # bytes, for each attempt
        self.attempts = 0

    @property
    def remaining(self) -> memoryview:
        return self._view[sum(self.sent_counts) :]

    @property
    def is_count_known(self) -> bool:
        return self.attempts == len(self.sent_counts)


class EarlyResponseStream(PlainStream):
    """A connection that notices a response which comes while it is still sending."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        super().__init__(inner)
        self._socket: socket.socket = inner.get_extra_info("socket")
        close_in_child(self._socket)
        self._poll = select.poll()
        self._early = b""
        self._receive_error: OSError | None = None

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Receive up to `_READ_SIZE` bytes; h11 accepts more than `max_bytes`."""
        if self._early:
            early, self._early = self._early, b""
            return early
        if self._receive_error is not None:
            raise httpcore.ReadError(self._receive_error) from self._receive_error
        state = CURRENT_REQUEST.get()
        received: list[bytes] = []
        while not received:
            try:
                self._receive(received, max(max_bytes, _READ_SIZE), state, timeout)
            except INTERRUPTS as interrupt:
                if not state.defer_interrupt(interrupt):
                    raise
            except (OSError, httpcore.WriteError) as error:
                raise httpcore.ReadError(error) from error
        return received[0]

    def _receive(
        self, received: list[bytes], size: int, state: RequestState, timeout: float | None
    ) -> None:
        seconds = state.remaining_for_head(timeout)
        events = select.POLLIN
        while seconds is None or seconds > 0:
            self._socket.settimeout(0)
            try:
                # Like `append(recv(size))`, but in one call of C: no interrupt can lose the bytes.
                received.extend(map(self._socket.recv, (size,)))
            except (BlockingIOError, ssl.SSLWantReadError):
                events = select.POLLIN
            except ssl.SSLWantWriteError:
                events = select.POLLOUT
            if received:
                return
            began = time.monotonic()
            if not self._wait(events, seconds):
                break
            if seconds is not None:
                seconds -= time.monotonic() - began
        raise httpcore.ReadTimeout("timed out")

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of `buffer`. Raises WriteError as soon as there is a response."""
        pending = _WriteBuffer(buffer)
        state = CURRENT_REQUEST.get()
        if buffer:
            state.begin_write()
        while True:
            try:
                return self._send_rest(pending, state, timeout)
            except INTERRUPTS as interrupt:
                if not pending.is_count_known or not state.defer_interrupt(interrupt):
                    raise
            except httpcore.WriteError:
                # A request without a body ends with an empty write, after all of it was sent.
                self.aborted = bool(pending.remaining)
                raise

    def _send_rest(self, pending: _WriteBuffer, state: RequestState, timeout: float | None) -> None:
        self._check_early_response()
        left = pending.remaining
        while left:
            began = time.monotonic()
            events = self._wait(select.POLLIN | select.POLLOUT, state.remaining(timeout))
            waited = time.monotonic() - began
            if not events or state.is_overdue:
                raise httpcore.WriteTimeout(f"nothing could be sent for {timeout} s")
            if events & ~select.POLLOUT:
                self._check_early_response()
            if events & select.POLLOUT:
                self._send(left, pending)
                left = left[pending.sent_counts[-1] :]
                if state.rate.is_too_slow(waited, pending.sent_counts[-1], timeout):
                    raise httpcore.WriteTimeout(f"less than {MIN_RATE} bytes a second were taken")

    def _wait(self, events: int, timeout: float | None) -> int:
        """Return the events that came within `timeout` seconds, errors included, or 0.

        It waits in slices, to notice a signal just before the wait, a stop request (it raises
        KeyboardInterrupt) and a `close` by another thread (WriteError).
        """
        state = CURRENT_REQUEST.get()
        end = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            state.check_stop()
            number = self._socket.fileno()
            if number < 0:
                raise httpcore.WriteError("the connection was closed here")
            self._poll.register(number, events)
            left = min(POLL_INTERVAL_S, max(0.0, end - time.monotonic()))
            if ready := self._poll.poll(1000 * left):
                return ready[0][1]
            if time.monotonic() >= end:
                return 0

    def _check_early_response(self) -> None:
        """Raise WriteError if the registry has responded or hung up."""
        if not self._wait(select.POLLIN, 0):
            return
        self._socket.settimeout(0)
        try:
            data = self._socket.recv(_EARLY_SIZE)
        except (BlockingIOError, ssl.SSLWantReadError):
            return  # a record of TLS itself, such as a session ticket
        except OSError as error:
            self._receive_error, data = error, b""  # `read` raises it
        self._early = _without_interim(self._early + data)
        if not data or _is_final(self._early):
            raise httpcore.WriteError("the registry answered before the end of the request")

    def _send(self, left: memoryview, pending: _WriteBuffer) -> None:
        self._socket.settimeout(0)
        pending.attempts += 1
        try:
            # Like `append(send(left))`, but in one call of C: no interrupt can lose the count.
            pending.sent_counts.extend(map(self._socket.send, (left,)))
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pending.sent_counts.append(0)
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error


def _without_interim(early: bytes) -> bytes:
    """Remove complete interim responses (RFC 9110, section 15.2)."""
    while _INTERIM.match(early) and (end := _HEAD_END.search(early)):
        early = early[end.end() :]
    return early


def _is_final(early: bytes) -> bool:
    """Return whether data begins a final response; False if it is interim or too short."""
    if _INTERIM.match(early):
        return len(early) > _EARLY_SIZE  # an interim response without an end
    return len(early) >= _INTERIM_SIZE


class NetworkBackend(httpcore.NetworkBackend):
    """httpcore's backend, with an `EarlyResponseStream` around each connection.

    `hosts` records the zone of each host. A connection beyond the zone `limit` is refused.
    """

    def __init__(self, hosts: ReachedHosts | None = None, *, limit: Zone = Zone.LINK_LOCAL) -> None:
        self._inner = httpcore.SyncBackend()
        self._hosts = hosts
        self._limit = limit

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect. Raises ConnectError, ConnectTimeout of the library, AddressRefused.

        Raises OSError if this machine lacks descriptors or memory: the registry is not at fault.
        """
        CURRENT_REQUEST.get().is_new_connection = True
        options = [*_OPTIONS, *(socket_options or ())]
        try:
            stream = self._inner.connect_tcp(host, port, timeout, local_address, options)
        except UnicodeError as error:  # an invalid DNS name, which the library does not check
            raise httpcore.ConnectError(error) from error
        except httpcore.ConnectError as error:
            # The library keeps what it caught as its error's argument.
            for cause in error.args:
                if isinstance(cause, OSError) and cause.errno in _LOCAL_ERRNOS:
                    raise cause from None
            raise
        if self._hosts is not None:
            try:
                self._check_address(host, stream, self._hosts)
            except BaseException:
                stream.close()
                raise
        return EarlyResponseStream(stream)

    def _check_address(
        self, host: str, stream: httpcore.NetworkStream, hosts: ReachedHosts
    ) -> None:
        """Record the zone of a new connection. Raises AddressRefused if it is beyond the limit."""
        try:
            address = stream.get_extra_info("server_addr")[0]
        except OSError as error:  # the peer hung up at once
            raise httpcore.ConnectError(error) from error
        zone = zone_of(address)
        if zone > self._limit:
            raise AddressRefused(address)
        hosts.add(host, zone)
