"""Streams of bytes over a socket that does not block, plain or in TLS.

Each operation does what it can at once, and raises BlockingIOError if that is nothing. TLS is pure
state between buffers, so that it can lie within the TLS of a proxy.
"""

from __future__ import annotations

import select
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from brolga.transport.failures import connection_failure
from brolga.transport.steps import Steps, Wait

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Sequence

    from brolga.spec.blob import Block

_T = TypeVar("_T")

_RECORDS: Final = 1 << 18  # bytes that are encrypted, or of which records are received, at a time


class Stream(Protocol):
    """A stream of bytes over a connected socket.

    Its functions are functions of C on a plain socket, so that an interrupt cannot lose a result.
    """

    socket: socket.socket

    @property
    def send(self) -> Callable[[Sequence[Block]], int]:
        """Send the beginning of some buffers; return its length."""

    @property
    def recv(self) -> Callable[[int], bytes]:
        """Return at most so many bytes; none at the end."""

    @property
    def recv_into(self) -> Callable[[memoryview], int]:
        """Fill the beginning of a buffer; return its length, 0 at the end."""

    @property
    def events(self) -> int:
        """The events to wait for before the next bytes can be received."""

    @property
    def has_input(self) -> bool:
        """Whether bytes, or the end, have come that are not in the socket any more."""

    def close(self) -> None:
        """Close the socket."""


class PlainStream:
    """The bytes of a socket."""

    events = select.POLLIN
    has_input = False

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.send = connected.sendmsg
        self.recv = connected.recv
        self.recv_into = connected.recv_into
        self.close = connected.close


class TLSStream:
    """A stream in TLS, over another stream. Raises ssl.SSLError, and the other stream's errors."""

    def __init__(self, below: Stream, context: ssl.SSLContext, server_name: str) -> None:
        import ssl

        self.socket = below.socket
        self.close = below.close
        self._below = below
        self._received, self._encrypted = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._to_send = memoryview(b"")
        self._is_ended = False
        self._tls = context.wrap_bio(self._received, self._encrypted, server_hostname=server_name)
        self._want_read, self._ends = (
            ssl.SSLWantReadError,
            (ssl.SSLZeroReturnError, ssl.SSLEOFError),
        )

    @property
    def events(self) -> int:
        """The events to wait for before the next bytes can be received."""
        return self._below.events | (select.POLLOUT if self._has_output else 0)

    @property
    def has_input(self) -> bool:
        """Whether bytes, or the end, have come that are not in the socket any more."""
        has_records = self._tls.pending() or self._received.pending or self._below.has_input
        return bool(has_records or self._is_ended)

    @property
    def _has_output(self) -> bool:
        return bool(self._to_send or self._encrypted.pending)

    def handshake(self, seconds: float, ignored_stops: int) -> Steps[None]:
        """Agree on keys, and verify the server. Raises ConnectionFailure, TimeoutError."""
        end = time.monotonic() + seconds
        while True:
            try:
                self._run(self._tls.do_handshake)
                self._flush()
            except BlockingIOError:
                pass
            except OSError as error:
                with suppress(OSError):
                    self._flush()  # the alert
                raise connection_failure(error, is_handshake=True) from error
            else:
                return
            left = end - time.monotonic()
            if left <= 0 or not (yield Wait((self.socket,), self.events, left, ignored_stops)):
                raise TimeoutError

    def send(self, buffers: Sequence[Block], /) -> int:
        """Encrypt and send the beginning of the buffers; return its length."""
        self._flush()
        block = memoryview(buffers[0])[:_RECORDS]
        count = self._run(lambda: self._tls.write(block))
        with suppress(BlockingIOError):
            self._flush()
        return count

    def recv(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""
        buffer = memoryview(bytearray(size))
        return bytes(buffer[: self.recv_into(buffer)])

    def recv_into(self, buffer: memoryview, /) -> int:
        """Fill the beginning of a buffer; return its length, 0 at the end."""
        size = 0
        try:
            size = count = self._run(lambda: self._read_into(buffer))
            while count and size < len(buffer):  # each read gives one record, 16 KiB
                size += (count := self._read_into(buffer[size:]))
            self._is_ended = not count
        except self._ends:
            self._is_ended = True  # it comes again
        except self._want_read:
            pass
        return size

    def _read_into(self, buffer: memoryview) -> int:
        count: int = self._tls.read(len(buffer), buffer)  # type: ignore[assignment] # given a buffer, it returns a number
        return count

    def _run(self, function: Callable[[], _T]) -> _T:
        """Call a function of TLS; receive what it wants to read. Raises BlockingIOError."""
        while True:
            try:
                return function()
            except self._want_read:
                records = self._receive_records()
            if records:
                self._received.write(records)
            else:
                self._received.write_eof()

    def _receive_records(self) -> bytes:
        """Receive records. A peer that has answered early may take no more, or have hung up."""
        try:
            with suppress(BlockingIOError):
                self._flush()
        except OSError:
            if records := self._below.recv(_RECORDS):
                return records
            raise
        return self._below.recv(_RECORDS)

    def _flush(self) -> None:
        """Send what was encrypted. Raises BlockingIOError if some of it is left."""
        while self._has_output:
            self._to_send = self._to_send or memoryview(self._encrypted.read())
            self._to_send = self._to_send[self._below.send((self._to_send,)) :]
