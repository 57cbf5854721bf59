"""A request and its response on the stream of a connection, within their timeouts.

While it sends, a transfer notices a response: then it stops sending. What takes too long fails, a
body also if its rate is too low. Interrupts within a block, or before the response, can wait.
"""

from __future__ import annotations

import math
import select
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from brolga.protocol.http import BlockingCall
from brolga.transport.failures import ConnectionFailure, connection_failure
from brolga.transport.steps import Wait

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brolga.spec.blob import Block
    from brolga.transport.http11 import Exchange
    from brolga.transport.steps import Steps
    from brolga.transport.streams import Stream

CLEANUP_TIMEOUT_S: Final = 5.0  # for a response whose status does not matter
MIN_RATE: Final = 1024  # bytes a second
# Bytes of a buffer; blocks are slices of it. recv and sha256 take 0.92 s/GiB with 256 KiB,
# 0.65 s/GiB with 2 MiB.
_BLOCK_SIZE: Final = 2 << 20
_LEAST_FREE: Final = 1 << 17  # bytes; if a buffer has fewer left, a new one is made
_HEAD_SIZE: Final = 1 << 16


class Timeouts(NamedTuple):
    """The longest waits of a request, in seconds: to connect, to write, for the response.

    `ignored_stops` is how many stop requests of other threads it does not see.
    """

    connect_s: float
    write_s: float
    read_s: float
    ignored_stops: int = 0


class IncompleteBody(Exception):
    """A body with a Content-Length failed. It has no clean end, so no response will come."""


class RateMonitor:
    """The transfer rate of a body, measured over the time that was spent waiting for the peer.

    Each time that a timeout's worth of waiting is over, the rate must have reached `MIN_RATE`.
    """

    def __init__(self) -> None:
        self._waited_s = 0.0
        self._size = 0

    def is_too_slow(self, waited_s: float, size: int, timeout_s: float) -> bool:
        """Add a wait and the bytes that it brought; return whether the rate is too low."""
        self._waited_s += waited_s
        self._size += size
        if self._waited_s < timeout_s:
            return False
        is_slow = self._size < MIN_RATE * self._waited_s
        self._waited_s, self._size = 0.0, 0
        return is_slow


class Outgoing:
    """Buffers that are being sent.

    An interrupt can come between any two bytecodes. Only C code appends to `_counts`, so it is
    always right on a plain socket. TLS may lose a count; then `_attempts` is one ahead.
    """

    def __init__(self, buffers: Sequence[Block]) -> None:
        self._buffers = [memoryview(buffer) for buffer in buffers]
        self._counts: list[int] = []  # bytes, for each attempt
        self._attempts = 0

    @property
    def is_count_known(self) -> bool:
        """Whether it is known how many bytes were sent."""
        return self._attempts == len(self._counts)

    def rest(self) -> list[memoryview]:
        """Return what was not sent yet."""
        sent = sum(self._counts)
        rest = []
        for buffer in self._buffers:
            if sent < len(buffer):
                rest.append(buffer[sent:])
            sent = max(0, sent - len(buffer))
        return rest

    def send(self, stream: Stream, buffers: list[memoryview]) -> int:
        """Send as many bytes as the socket takes; return their number."""
        self._attempts += 1
        try:
            # Like `append(send(buffers))`, but in one call of C: no interrupt can lose the count.
            self._counts.extend(map(stream.send, (buffers,)))
        except BlockingIOError:
            self._counts.append(0)
        return self._counts[-1]


class Transfer:
    """An exchange over a stream. `exchange.error` is set if the body failed, or was interrupted."""

    def __init__(self, stream: Stream, exchange: Exchange, timeouts: Timeouts) -> None:
        self.stream = stream
        self.exchange = exchange
        self.timeouts = timeouts
        self._receive_error: OSError | None = None
        self._free = memoryview(b"")  # where the body is received next
        self._rate = RateMonitor()
        self._error_deadline = math.inf

    # --- The request

    def run(self) -> Steps[None]:
        """Send the request, and receive the head of the response.

        Raises ConnectionFailure, IncompleteBody.
        """
        if (yield from self._send((self.exchange.head,))) and (yield from self._send_body()):
            self.exchange.note_end()
        yield from self._receive_head()

    def _send_body(self) -> Steps[bool]:
        """Send the body; return whether all of it was sent, up to its end."""
        exchange = self.exchange
        while (block := (yield from self._next_block())) is not None:
            if not (yield from self._send(exchange.frame(block))):
                return False
            exchange.note_block(len(block))
            if exchange.error is not None and exchange.is_streamed:
                break
        if exchange.error is not None and exchange.is_streamed and not exchange.is_chunked:
            raise IncompleteBody
        end = exchange.end()
        return not end or (yield from self._send(end))

    def _next_block(self) -> Steps[Block | None]:
        """Return the next block of the body, None at its end, or if it has failed."""
        exchange = self.exchange
        if not exchange.is_streamed:
            return next(exchange.blocks, None)
        try:
            block: Block | None = yield BlockingCall(partial(next, exchange.blocks, None))
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - the driver raises it, after the response
            exchange.error = error
            return None
        return block

    def _send(self, buffers: Sequence[Block]) -> Steps[bool]:
        """Send buffers; return False as soon as the registry has answered or hung up."""
        outgoing = Outgoing(buffers)
        while True:
            try:
                return (yield from self._send_rest(outgoing))
            except BaseException as interrupt:
                if not outgoing.rest():
                    self.exchange.note_head()
                if not outgoing.is_count_known or not self.exchange.defer(interrupt):
                    raise

    def _send_rest(self, outgoing: Outgoing) -> Steps[bool]:
        if (yield from self._has_answer()):
            return False
        rest = outgoing.rest()
        while rest:
            try:
                count = outgoing.send(self.stream, rest)
            except OSError:
                return False  # a response may have come before
            if not (rest := outgoing.rest() if count else rest):
                break
            began = time.monotonic()
            ready = yield from self._wait(select.POLLIN | select.POLLOUT, self.timeouts.write_s)
            waited_s = time.monotonic() - began
            if not ready or time.monotonic() >= self._deadline():
                raise ConnectionFailure("timeout", "the registry takes no more bytes")
            if self._rate.is_too_slow(waited_s, count, self.timeouts.write_s):
                text = f"less than {MIN_RATE} bytes a second were taken"
                raise ConnectionFailure("timeout", "the registry takes no more bytes", text)
            if ready & ~select.POLLOUT and (yield from self._has_answer()):
                return False
        return True

    def _has_answer(self) -> Steps[bool]:
        """Return whether the registry has answered or hung up, if something has come."""
        if not (yield from self._wait(select.POLLIN, 0)):
            return False
        try:
            self._receive()
        except OSError as error:
            self._receive_error = error
            return True
        return bool(self.exchange.status)

    # --- The response

    def _receive_head(self) -> Steps[None]:
        """Receive the head of the response, interim responses included, within its timeout."""
        end = time.monotonic() + self.timeouts.read_s
        while not self.exchange.status:
            if self._receive_error is not None:
                try:
                    raise connection_failure(self._receive_error) from self._receive_error
                finally:
                    self._receive_error = None  # its traceback refers to this transfer
            if time.monotonic() >= min(end, self._deadline()):
                raise ConnectionFailure("timeout", "no answer in time", "timed out")
            try:
                if not self._receive():
                    yield from self._wait(self.stream.events, end - time.monotonic())
            except OSError as error:
                self._receive_error = error
            except BaseException as interrupt:
                if not self.exchange.defer(interrupt):
                    raise
        self._rate = RateMonitor()

    def _receive(self) -> bool:
        """Receive bytes of a head, and give them to the exchange; return whether any came."""
        # A record of TLS itself, such as a session ticket, brings no bytes.
        with suppress(BlockingIOError):
            # Like `append(recv(size))`, but in one call of C: no interrupt can lose the bytes.
            self.exchange.received.extend(map(self.stream.recv, (_HEAD_SIZE,)))
        return self.exchange.parse_head()

    def receive_block(self) -> Steps[Block | None]:
        """Return the next block of the response's body, None at its end."""
        exchange = self.exchange
        while (data := exchange.take_data()) is not None:
            if data:
                return data
            if len(self._free) < _LEAST_FREE:
                self._free = memoryview(bytearray(min(_BLOCK_SIZE, exchange.left or _HEAD_SIZE)))
            is_direct = exchange.is_direct
            space = self._free[: exchange.left] if is_direct else self._free
            count = yield from self._receive_into(space)
            block, self._free = space[:count], self._free[count:]
            if is_direct:
                exchange.note_received(count)
                return block
            exchange.receive(bytes(block))
        return None

    def _receive_into(self, buffer: memoryview) -> Steps[int]:
        seconds, began = self.timeouts.read_s, time.monotonic()
        count = self._try_receive_into(buffer)
        while count is None:
            if not (yield from self._wait(self.stream.events, seconds)):
                raise ConnectionFailure("timeout", "no answer in time", "timed out")
            count = self._try_receive_into(buffer)
        if self._rate.is_too_slow(time.monotonic() - began, count, seconds):
            text = f"less than {MIN_RATE} bytes a second came"
            raise ConnectionFailure("timeout", "no answer in time", text)
        return count

    def _try_receive_into(self, buffer: memoryview) -> int | None:
        """Receive into a buffer; return the number of bytes, or None if none have come yet."""
        try:
            return self.stream.recv_into(buffer)
        except BlockingIOError:
            return None
        except OSError as error:
            raise connection_failure(error) from error

    # --- Waiting

    def _deadline(self) -> float:
        """Return when the time of a request whose body failed is over, or infinity."""
        if self.exchange.error is not None and self._error_deadline == math.inf:
            self._error_deadline = time.monotonic() + CLEANUP_TIMEOUT_S
        return self._error_deadline

    def _wait(self, events: int, seconds: float) -> Steps[int]:
        """Return the events that came within `seconds`, or in the time that is left, or 0."""
        left = max(0.0, min(seconds, self._deadline() - time.monotonic()))
        stops = max(self.timeouts.ignored_stops, int(self.exchange.error is not None))
        ready = yield Wait((self.stream.socket,), events, left, stops)
        return sum(ready.values())
