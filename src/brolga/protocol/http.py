"""The values of a conversation: Request, Response, and Flow, the generator that exchanges them.

A flow yields a `Request` and is sent a `Response`, or a failure (`TransportError`, `BodyError`) is
thrown into it. What blocks or computes for long it yields too. The driver (`transport`) does it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, Protocol, TypeAlias, TypeVar

from brolga.protocol.urls import redact
from brolga.spec.value import Value, field

_T = TypeVar("_T")
# Bytes in blocks; an empty block is a heartbeat.
Blocks: TypeAlias = Iterable[bytes | memoryview]


class Timeout(Enum):
    """How long to wait for a response."""

    SHORT = "short"  # a few seconds: best effort
    DEFAULT = "default"  # the driver's own limit
    LONG = "long"  # a multiple of it: the registry moves a whole blob before it responds


class Request(Value):
    """One request.

    A `body` of bytes, or a tuple of bytes, can be sent again; any other body is a stream and is
    sent once. A stream has a `Content-Length` if its `size` is known, and is chunked otherwise.
    At its empty blocks, heartbeats, the driver looks for an early response.

    `delay_s` is the time to wait before sending. `stream_response` asks for `body_stream` if the
    status is 200 or 206. `redirected_from` is the host that named this URL, if it is not the host
    that the user named: the driver then refuses private addresses, unless that host has one.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Blocks | None = None
    timeout: Timeout = Timeout.DEFAULT
    delay_s: float = 0.0
    stream_response: bool = False
    redirected_from: str = ""
    size: int | None = None

    @property
    def is_repeatable(self) -> bool:
        """Whether the body can be sent again."""
        return isinstance(self.body, bytes | tuple | None)

    def __repr__(self) -> str:
        """Show the method and the URL; headers and query may hold secrets."""
        return f"<Request {self.method} {redact(self.url)}>"


class BodyStream(Iterator["bytes | memoryview"], Protocol):
    """The body of a response, read once by `read_block`, and closed in any case.

    It raises TransportError if the connection ends before the body does.
    """

    def close(self) -> None:
        """Stop reading. The connection is kept if the body has ended."""


class Response(Value):
    """One response. Header names are in lower case; the driver may have cut `body` at its limit.

    `sent` counts the bytes of the request's body that were sent. `complete` is False if the
    response came before the end of that body, whatever its status is. `retried` is True if an
    earlier attempt has an unknown outcome: it may have succeeded. `redirected_to` is the URL that
    sent the response, if redirects led to another than the request's.
    """

    status: int
    # The body may hold a token, and Location a signed URL: neither is shown.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    sent: int = 0
    complete: bool = True
    retried: bool = False
    body_stream: BodyStream | None = field(default=None, repr=False)
    redirected_to: str = field(default="", repr=False)


class BodyError(Exception):
    """The body of a request raised `error`, or an interrupt (also `error`) came meanwhile.

    The driver still ended the request, so that the registry responds. `response` is None if it
    did not. Its Location is that of the session, but it does not show that the body arrived.
    """

    def __init__(self, error: BaseException, response: Response | None = None) -> None:
        super().__init__()
        self.error = error
        self.response = response


class BlockingCall(Value):
    """A call that may block, or compute for long. The driver makes it, and sends its result."""

    function: Callable[[], object]


class ReadBlock(Value):
    """The driver sends the next block of a response's body, or None at its end."""

    stream: BodyStream


Step: TypeAlias = Request | BlockingCall | ReadBlock
# A Request is sent a Response.
Flow: TypeAlias = Generator[Step, Any, _T]


def send_request(request: Request) -> Flow[Response]:
    """Send a request as it is; return its response."""
    response: Response = yield request
    return response


def call(function: Callable[[], _T]) -> Flow[_T]:
    """Call a function that may block, or compute for long."""
    result: _T = yield BlockingCall(function)
    return result


def read_block(stream: BodyStream) -> Flow[bytes | memoryview | None]:
    """Read the next block of a response's body; None is its end."""
    block: bytes | memoryview | None = yield ReadBlock(stream)
    return block
