"""HTTP/1.1 as pure state over h11: one request and its response. No socket, no clock.

The bytes to send are returned, by reference for a block of the body; the bytes that came are given.
A response may come while the body is still being sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import h11

from brolga.errors import SourceError
from brolga.transport.failures import ConnectionFailure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from brolga.protocol import Blocks
    from brolga.spec.blob import Block

# An interrupt waits for the response to these methods, which are not idempotent (RFC 9110, section
# 9.2.2; RFC 5789, section 2): only the response says what they changed, and where a session is.
_DEFERRING: Final = ("PATCH", "POST")
_MAX_HEAD: Final = 100 << 10  # bytes of a response's head
_NO_CONTENT: Final = (204, 304)
_START: Final = b"HTTP/"


def is_interrupt(error: BaseException | None) -> bool:
    """Return whether an error is what a signal handler raises, or the cancellation of a task."""
    return error is not None and not isinstance(error, Exception | GeneratorExit)


class Exchange:
    """A request that is sent, and its response.

    `sent` counts the bytes of the body that were sent, in whole blocks; `is_sent` is set after the
    end of the body. `error` is what ended a streamed body early, or an interrupt that waits for the
    response. `status` is 0, and `headers` is empty, until the head of the final response has come.

    Raises ValueError for a target or a header that HTTP does not allow.
    """

    def __init__(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | Blocks | None = None,
        size: int | None = None,
    ) -> None:
        self.method = method
        self.sent = 0
        self.is_sent = False
        self.error: BaseException | None = None
        self.status = 0
        self.headers: dict[str, str] = {}
        self.is_streamed = not isinstance(body, bytes | tuple | None)
        self.is_chunked = self.is_streamed and size is None
        framing, self.blocks = _frame_body(body, size)
        self._is_sending = False  # a block, or all were sent: the source is not running
        self._keeps_alive = False
        self._left: int | None = None  # bytes of the response's body; None if h11 finds its end
        self._buffered = memoryview(b"")
        self.received: list[bytes] = []  # until the head has come
        self._taken = 0  # how many of them the parser has
        self._parser: h11.Connection | None = None
        self._body: h11.Connection  # the parser, after the head
        self._h11 = h11.Connection(h11.CLIENT)
        try:
            lines = [*framing, *(headers or {}).items()]
            self._request = h11.Request(method=method, target=target, headers=lines)
        except h11.LocalProtocolError as error:
            raise ValueError(str(error)) from error
        self.head = self._h11.send(self._request) or b""

    # --- The request

    def note_head(self) -> None:
        """Note that all of the head was sent: without a stream, the body follows at once."""
        self._is_sending = self._is_sending or not self.is_streamed

    def frame(self, block: Block) -> Sequence[Block]:
        """Return the buffers to send for a block; none for an empty one, a heartbeat."""
        self._is_sending = True
        if not block:
            return ()
        data = h11.Data(data=block)  # type: ignore[arg-type] # h11 takes any buffer
        return self._h11.send_with_data_passthrough(data) or ()

    def end(self) -> Sequence[Block]:
        """Return the buffers that end the body, which may have failed if it is chunked."""
        self._is_sending = True
        return self._h11.send_with_data_passthrough(h11.EndOfMessage()) or ()

    def note_block(self, size: int) -> None:
        """Note that a block of `size` bytes was sent: the next one is read."""
        self.sent += size
        self._is_sending = self.error is not None or not self.is_streamed

    def note_end(self) -> None:
        """Note that all of the request was sent."""
        self.is_sent = self.error is None

    def defer(self, interrupt: BaseException) -> bool:
        """Defer an interrupt until the response has come; return whether it is deferred.

        A stream ends with the present block. A second interrupt is not deferred, nor one while the
        source runs: what it waits for may never come.
        """
        waits = self.method in _DEFERRING and self._is_sending and self.error is None
        if waits and is_interrupt(interrupt):
            self.error = interrupt
            return True
        return False

    def close(self) -> None:
        """Drop the body and the error: their frames may refer to this object."""
        self.blocks, self.error = iter(()), None

    # --- The response

    @property
    def is_reusable(self) -> bool:
        """Whether the connection can be used again: both messages are complete."""
        return self._keeps_alive and self.is_sent and self._left == 0 and not self._buffered

    @property
    def is_direct(self) -> bool:
        """Whether the rest of the body can be received into a buffer: its length is known."""
        return self._left is not None and not self._buffered

    @property
    def left(self) -> int:
        """How many bytes of a body of known length are missing."""
        return self._left or 0

    def receive(self, data: bytes) -> None:
        """Take bytes that came; none are the end of the connection.

        Raises ConnectionFailure if they are not a response.
        """
        if self.status:
            self._body.receive_data(data)
        else:
            self.received.append(data)
            self.parse_head()

    def parse_head(self) -> bool:
        """Look for the head in what was `received`; return whether anything was new.

        Interim responses are dropped: there may be any number of them. If an interrupt ends it,
        the next call begins again. Raises ConnectionFailure.
        """
        pieces = self.received[self._taken if self._parser else 0 :]
        if self.status or not pieces:
            return False
        parser, self._parser = self._parser or self._new_parser(), None
        for piece in pieces:
            self._parse(parser, piece)
        if not self.status:
            rest = parser.trailing_data[0]
            self.received = [rest] if rest else []
        self._taken = len(self.received)
        self._parser = parser
        return True

    def _new_parser(self) -> h11.Connection:
        """Return what parses the response, apart from what frames the request."""
        parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
        parser.send(self._request)
        return parser

    def _parse(self, parser: h11.Connection, piece: bytes) -> None:
        if not piece and not self.status:
            raise _no_response("the connection was closed")
        parser.receive_data(piece)
        while not self.status:
            event = _next_event(parser)
            if event is h11.NEED_DATA:
                start = parser.trailing_data[0][: len(_START)]
                if not _START.startswith(start):  # h11 would wait for the end of the head
                    raise _no_response("it does not begin with HTTP/")
                return
            if isinstance(event, h11.Response):
                self._take_head(parser, event)

    def take_data(self) -> Block | None:
        """Return bytes of the body that have come; none if more must come, None at the end.

        Raises ConnectionFailure if they are not valid.
        """
        if self._left is not None:
            piece, self._buffered = self._buffered[: self._left], self._buffered[self._left :]
            self._left -= len(piece)
            return piece if piece or self._left else None
        event = _next_event(self._body)
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if event is h11.NEED_DATA:
            return b""
        self._left, self._buffered = 0, memoryview(self._body.trailing_data[0])
        return None

    def note_received(self, size: int) -> None:
        """Note that `size` bytes of a body of known length came. Raises ConnectionFailure."""
        if not size:
            raise _no_response(f"the connection was closed {self._left} bytes early")
        assert self._left is not None  # noqa: S101 - `is_direct`
        self._left -= size

    def _take_head(self, parser: h11.Connection, response: h11.Response) -> None:
        self.headers = join_headers(response.headers)
        status, headers = response.status_code, self.headers
        has_length = "content-length" in headers and "transfer-encoding" not in headers
        tokens = map(str.strip, headers.get("connection", "").lower().split(","))
        if self.method == "HEAD" or status in _NO_CONTENT or self._is_tunnel(status):
            self._left = 0
        elif has_length:
            self._left = int(headers["content-length"].partition(",")[0])
        ends = self._left is not None or "transfer-encoding" in headers
        self._keeps_alive = response.http_version >= b"1.1" and "close" not in tokens and ends
        if self._left is not None:
            self._buffered = memoryview(parser.trailing_data[0])
        self._body = parser
        self.status = status  # last: after an interrupt before it, the head is parsed again

    def _is_tunnel(self, status: int) -> bool:
        return self.method == "CONNECT" and status // 100 == 2  # noqa: PLR2004 - 2xx


def _next_event(parser: h11.Connection) -> object:
    try:
        return parser.next_event()
    except h11.RemoteProtocolError as error:
        raise _no_response(error) from error


def _no_response(detail: object) -> ConnectionFailure:
    return ConnectionFailure("cut", "no valid answer", detail)


def join_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers by lower-case name; repeated ones are joined (RFC 9110, section 5.3)."""
    joined: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("ascii").lower(), value.decode("latin-1")
        joined[key] = f"{joined[key]}, {text}" if key in joined else text
    return joined


def _frame_body(
    body: bytes | Blocks | None, size: int | None
) -> tuple[list[tuple[str, str]], Iterator[Block]]:
    """Return the header that frames a body (RFC 9112, section 6), and the blocks of the body."""
    if body is None:
        return [], iter(())
    if isinstance(body, bytes | tuple):
        pieces = (body,) if isinstance(body, bytes) else body
        return [("Content-Length", str(sum(map(len, pieces))))], filter(len, pieces)
    if size is not None:
        return [("Content-Length", str(size))], _check_size(body, size)
    return [("Transfer-Encoding", "chunked")], iter(body)


def _check_size(blocks: Blocks, size: int) -> Iterator[Block]:
    """Yield blocks of `size` bytes in all. Raises SourceError for any other number."""
    left = size
    for block in blocks:
        left -= len(block)
        if left < 0:
            raise SourceError(f"a blob of {size} bytes gave more than that")
        yield block
    if left:
        raise SourceError(f"a blob of {size} bytes ended after {size - left}")
