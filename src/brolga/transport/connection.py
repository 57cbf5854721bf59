"""A connection that notices an answer which comes while it is still sending.

Knows sockets, TLS's own records, and the one thing of HTTP that it must: what an interim answer
looks like. Must not know what is sent.

Strategy: a network stream of the HTTP library, with more. Before each write, and while it waits to
write, it looks whether the registry has answered. If so it raises WriteError, which the library
takes as the sign to stop sending and to read that answer. An interrupt that comes in the middle of
a body's block, or before its answer, may wait (see `outgoing`).
"""

from __future__ import annotations

import errno
import re
import select
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, Final

import httpcore2 as httpcore

from brolga.stream.worker import POLL_INTERVAL_S
from brolga.transport.addresses import Refused, Sightings, Zone, zone_of
from brolga.transport.forks import close_in_child
from brolga.transport.outgoing import INTERRUPTS, UNDER_WAY
from brolga.transport.pace import LOWEST_RATE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from brolga.transport.outgoing import Outgoing

__all__ = ["Backend"]

_READ_SIZE: Final = 1 << 18  # bytes; with the library's 64 KiB a download costs 8 % more CPU
# No descriptor, no memory.
_LOCAL_FAULTS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
_EARLY_SIZE: Final = 1 << 16  # bytes of an early answer that are taken at a time
# An interim answer (RFC 9110, section 15.2; 101 is final), and how many bytes it takes to tell.
_INTERIM: Final = re.compile(rb"HTTP/1\.[01] 1(?!01)")
_INTERIM_SIZE: Final = len(b"HTTP/1.1 101")
_HEAD_END: Final = re.compile(rb"\n\r?\n")
# So that a peer which vanished is noticed in a minute and a half, however long an answer may take.
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 6))
_OPTIONS: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in _KEEPALIVE
        if hasattr(socket, name)
    ),
)


class Unwatched(httpcore.NetworkStream):
    """The library's own stream: it does not look.

    `stopped` is whether sending was given up: then only a part of the request went out.
    """

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self.stopped = False
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, UNDER_WAY.get().within(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            self._inner.write(buffer, UNDER_WAY.get().within(timeout))
        except httpcore.WriteError:
            self.stopped = True
            raise

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        inner = self._inner.start_tls(ssl_context, server_hostname, timeout)
        # TLS within TLS, by a proxy that speaks it: its socket is the outer one, not ours to use.
        nested = isinstance(self._inner.get_extra_info("socket"), ssl.SSLSocket)
        return Unwatched(inner) if nested else Watched(inner)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - the library's signature
        if info == "is_readable" and self.stopped:
            return True  # so the pool takes it for expired: half a request may be in it
        return self._inner.get_extra_info(info)


class _Block:
    """A buffer on its way into a socket.

    An interrupt can come between any two steps of Python. `taken` is kept by C code alone, so on a
    plain socket it is always true; TLS may lose a count, and then `tries` is one ahead.
    """

    __slots__ = ("_view", "taken", "tries")

    def __init__(self, buffer: bytes) -> None:
        self._view = memoryview(buffer)
        self.taken: list[int] = []  # bytes, try by try
        self.tries = 0

    @property
    def left(self) -> memoryview:
        return self._view[sum(self.taken) :]

    @property
    def is_known(self) -> bool:
        return self.tries == len(self.taken)


class Watched(Unwatched):
    """A connection that notices an answer which comes while it is still sending."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        super().__init__(inner)
        self._socket: socket.socket = inner.get_extra_info("socket")
        close_in_child(self._socket)
        self._poll = select.poll()
        self._early = b""
        self._broken: OSError | None = None

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what comes: up to `_READ_SIZE` bytes, which h11 takes as well as `max_bytes`.

        Raises ReadTimeout, ReadError.
        """
        if self._early:
            early, self._early = self._early, b""
            return early
        if self._broken is not None:
            raise httpcore.ReadError(self._broken) from self._broken
        outgoing = UNDER_WAY.get()
        taken: list[bytes] = []
        while not taken:
            try:
                self._receive(taken, max(max_bytes, _READ_SIZE), outgoing, timeout)
            except INTERRUPTS as interrupt:
                if not outgoing.hold(interrupt):
                    raise
            except (OSError, httpcore.WriteError) as error:
                raise httpcore.ReadError(error) from error
        return taken[0]

    def _receive(
        self, taken: list[bytes], size: int, outgoing: Outgoing, timeout: float | None
    ) -> None:
        """Add what comes to `taken`, up to `size` bytes. Raises ReadTimeout, OSError."""
        seconds = outgoing.head_within(timeout)
        events = select.POLLIN
        while seconds is None or seconds > 0:
            self._socket.settimeout(0)
            try:
                # As `taken.append(recv(size))`, but without a step of Python in between, where
                # an interrupt could come and the bytes be lost.
                taken.extend(map(self._socket.recv, (size,)))
            except (BlockingIOError, ssl.SSLWantReadError):
                events = select.POLLIN
            except ssl.SSLWantWriteError:
                events = select.POLLOUT
            if taken:
                return
            began = time.monotonic()
            if not self._wait(events, seconds):
                break
            if seconds is not None:
                seconds -= time.monotonic() - began
        raise httpcore.ReadTimeout("timed out")

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of `buffer`; raise WriteError as soon as there is an answer instead.

        httpcore takes a WriteError as the sign to stop sending and to read that answer.
        """
        block = _Block(buffer)
        outgoing = UNDER_WAY.get()
        if buffer:
            outgoing.begin_write()
        while True:
            try:
                return self._pump(block, outgoing, timeout)
            except INTERRUPTS as interrupt:
                if not block.is_known or not outgoing.hold(interrupt):
                    raise
            except httpcore.WriteError:
                # A request without a body ends with an empty write, after all of it went out.
                self.stopped = bool(block.left)
                raise

    def _pump(self, block: _Block, outgoing: Outgoing, timeout: float | None) -> None:
        """Send what is left of a block."""
        self._look()
        left = block.left
        while left:
            began = time.monotonic()
            events = self._wait(select.POLLIN | select.POLLOUT, outgoing.within(timeout))
            waited = time.monotonic() - began
            if not events or outgoing.is_late:
                raise httpcore.WriteTimeout(f"nothing could be sent for {timeout} s")
            if events & ~select.POLLOUT:
                self._look()
            if events & select.POLLOUT:
                self._send(left, block)
                left = left[block.taken[-1] :]
                if outgoing.pace.is_too_slow(waited, block.taken[-1], timeout):
                    raise httpcore.WriteTimeout(
                        f"less than {LOWEST_RATE} bytes a second were taken"
                    )

    def _wait(self, events: int, timeout: float | None) -> int:
        """Return which of `events` came within `timeout` seconds, and errors; 0 if none did.

        It waits in slices, so that a signal that came just before a wait, a request to stop and
        a `close` by another thread are noticed. Raises KeyboardInterrupt, WriteError for these.
        """
        outgoing = UNDER_WAY.get()
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            outgoing.check_stop()
            number = self._socket.fileno()
            if number < 0:
                raise httpcore.WriteError("the connection was closed here")
            self._poll.register(number, events)
            left = (
                POLL_INTERVAL_S
                if end is None
                else min(POLL_INTERVAL_S, max(0.0, end - time.monotonic()))
            )
            if ready := self._poll.poll(1000 * left):
                return ready[0][1]
            if end is not None and time.monotonic() >= end:
                return 0

    def _look(self) -> None:
        """Raise WriteError if the registry has answered or gone."""
        if not self._wait(select.POLLIN, 0):
            return
        self._socket.settimeout(0)
        try:
            data = self._socket.recv(_EARLY_SIZE)
        except (BlockingIOError, ssl.SSLWantReadError):
            return  # TLS's own records, a session ticket say
        except OSError as error:
            self._broken, data = error, b""  # raised by the read of the answer
        self._early = _without_interim(self._early + data)
        if not data or _is_final(self._early):
            raise httpcore.WriteError("the registry answered before the end of the request")

    def _send(self, left: memoryview, block: _Block) -> None:
        self._socket.settimeout(0)
        block.tries += 1
        try:
            # As `taken.append(send(left))`, but without a step of Python in between, where an
            # interrupt could come and the count be lost.
            block.taken.extend(map(self._socket.send, (left,)))
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            block.taken.append(0)
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error


def _without_interim(early: bytes) -> bytes:
    """Drop interim answers (RFC 9110, section 15.2) that are there as a whole."""
    while _INTERIM.match(early) and (end := _HEAD_END.search(early)):
        early = early[end.end() :]
    return early


def _is_final(early: bytes) -> bool:
    """Return whether data begins a final answer; False if it is interim, or too short to tell."""
    if _INTERIM.match(early):
        return len(early) > _EARLY_SIZE  # an interim answer without an end
    return len(early) >= _INTERIM_SIZE


class Backend(httpcore.NetworkBackend):
    """httpcore's own way to connect, with a `Watched` around each connection.

    `sightings` is told where each host was reached. None leads further than `limit`.
    """

    def __init__(
        self, sightings: Sightings | None = None, *, limit: Zone = Zone.LINK_LOCAL
    ) -> None:
        self._inner = httpcore.SyncBackend()
        self._sightings = sightings
        self._limit = limit

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect. Raises ConnectError, ConnectTimeout of the library, Refused.

        Raises OSError if it is this machine that lacks something: the registry is not at fault.
        """
        UNDER_WAY.get().fresh = True
        options = [*_OPTIONS, *(socket_options or ())]
        try:
            stream = self._inner.connect_tcp(host, port, timeout, local_address, options)
        except UnicodeError as error:  # a name that DNS cannot have; the library lets it through
            raise httpcore.ConnectError(error) from error
        except httpcore.ConnectError as error:
            if fault := _local_fault(error):
                raise fault from None
            raise
        if self._sightings is not None:
            try:
                self._judge(host, stream, self._sightings)
            except BaseException:
                stream.close()
                raise
        return Watched(stream)

    def _judge(self, host: str, stream: httpcore.NetworkStream, sightings: Sightings) -> None:
        """Note where the connection leads, before any byte goes there; refuse what is too far."""
        try:
            address = stream.get_extra_info("server_addr")[0]
        except OSError as error:  # it hung up at once
            raise httpcore.ConnectError(error) from error
        zone = zone_of(address)
        if zone > self._limit:
            raise Refused(address)
        sightings.note(host, zone)


def _local_fault(error: httpcore.ConnectError) -> OSError | None:
    """Return what this machine lacks for a connection, if that is why it failed."""
    # The library keeps what it caught as its error's argument.
    causes = (part for part in error.args if isinstance(part, OSError))
    return next((cause for cause in causes if cause.errno in _LOCAL_FAULTS), None)
