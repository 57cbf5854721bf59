"""The words of a conversation: what is asked, what is answered.

Knows HTTP's parts as values. Must not know who sends them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias, TypeVar

from brolga.protocol.urls import redact

__all__ = ["Blocks", "BodyError", "Flow", "Request", "Response", "Timeout"]

_T = TypeVar("_T")
# Bytes in blocks; an empty one is a heartbeat.
Blocks: TypeAlias = Iterable[bytes | memoryview]


class Timeout(Enum):
    """How long an answer is waited for."""

    SHORT = "hurry"  # a few seconds: nobody needs the answer
    DEFAULT = "usual"  # the driver's own limit
    LONG = "long"  # many times the usual: the registry moves a whole blob before it answers


@dataclass(frozen=True, repr=False)
class Request:
    """One request. `body` is bytes, or a tuple of them, which may be sent again; else a stream.

    A stream is never sent twice. It goes out with `Transfer-Encoding: chunked`, or with a
    `Content-Length` where its `size` in bytes is known; its empty blocks are heartbeats, at which
    the driver looks for an early answer. The driver waits `after_s` seconds before it sends.

    `streamed` asks for the answer's body as blocks, where its status is 200 or 206. `named_by` is
    the host that named this URL, where another host is called than the user named: then the
    driver refuses addresses inside private networks, unless `named_by` is inside itself.
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
        """Show what is asked and where; headers and query may hold secrets."""
        return f"<Call {self.method} {redact(self.url)}>"


@dataclass(frozen=True)
class Response:
    """One answer. `headers` has lower-case names; `body` may have been cut at the driver's cap.

    `sent` counts the body's bytes that went out; `whole` tells that all of them did. An answer
    that came while the body was going out is not whole, whatever its status says. `retried` tells
    that an earlier attempt at the call has no known outcome: it may have done its work.

    `blocks` is the body of a streamed call: iterate it once, close it in any case. It raises
    TransportError where the body does not come to its end.
    """

    status: int
    # A token is in the body, a signed URL in Location: neither is shown.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    sent: int = 0
    complete: bool = True
    retried: bool = False
    body_stream: Generator[bytes, None, None] | None = field(default=None, repr=False)


class BodyError(Exception):
    """A call's body raised `error` before its end, or an interrupt, `error`, came meanwhile.

    The driver ended the request all the same, so that the registry answers: `reply` is that
    answer, or None where none came. It says nothing of the body's worth; it does say under which
    Location the session is now.
    """

    def __init__(self, error: BaseException, response: Response | None = None) -> None:
        super().__init__()
        self.error = error
        self.response = response


# What a conversation is: yields calls, is sent replies, returns its result.
Flow: TypeAlias = Generator[Request, Response, _T]
