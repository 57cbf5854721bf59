"""The words of a conversation: what is asked, what is answered.

Knows HTTP's parts as values. Must not know who sends them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from brolga.wire.urls import redacted

__all__ = ["Call", "Flow", "Reply"]

_T = TypeVar("_T")


@dataclass(frozen=True, repr=False)
class Call:
    """One request. `body` is bytes, which may be sent again, or a stream, which never is.

    A stream goes out with `Transfer-Encoding: chunked`; its empty blocks are heartbeats, at which
    the driver looks for an early answer. `hurry` asks for a short time limit: nobody needs the
    answer.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Iterable[bytes | memoryview] | None = None
    hurry: bool = False

    def __repr__(self) -> str:
        """Show what is asked and where; headers and query may hold secrets."""
        return f"<Call {self.method} {redacted(self.url)}>"


@dataclass(frozen=True)
class Reply:
    """One answer. `headers` has lower-case names; `body` may have been cut at the driver's cap.

    `sent` counts the body's bytes that went out; `whole` tells that all of them did. An answer
    that came while the body was going out is not whole, whatever its status says.
    """

    status: int
    # A token is in the body, a signed URL in Location: neither is shown.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    sent: int = 0
    whole: bool = True


# What a conversation is: yields calls, is sent replies, returns its result.
Flow: TypeAlias = Generator[Call, Reply, _T]
