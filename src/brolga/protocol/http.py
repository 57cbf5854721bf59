"""The values of a conversation: Request, Response, and Flow, the generator that exchanges them.

A flow yields a `Request` and is sent a `Response`, or a failure (`TransportError`, `BodyError`) is
thrown into it. It returns its result. The driver (`transport`) does all I/O.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from enum import Enum
from typing import TypeAlias, TypeVar

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


class Response(Value):
    """One response. Header names are in lower case; the driver may have cut `body` at its limit.

    `sent` counts the bytes of the request's body that were sent. `complete` is False if the
    response came before the end of that body, whatever its status is. `retried` is True if an
    earlier attempt has an unknown outcome: it may have succeeded.

    Iterate `body_stream` once, and close it in any case. It raises TransportError if the
    connection ends before the body does.
    """

    status: int
    # The body may hold a token, and Location a signed URL: neither is shown.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    sent: int = 0
    complete: bool = True
    retried: bool = False
    body_stream: Generator[bytes, None, None] | None = field(default=None, repr=False)


class BodyError(Exception):
    """The body of a request raised `error`, or an interrupt (also `error`) came meanwhile.

    The driver still ended the request, so that the registry responds. `response` is None if it
    did not. Its Location is that of the session, but it does not show that the body arrived.
    """

    def __init__(self, error: BaseException, response: Response | None = None) -> None:
        super().__init__()
        self.error = error
        self.response = response


Flow: TypeAlias = Generator[Request, Response, _T]
