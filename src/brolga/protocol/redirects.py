"""Redirects: where a call goes when an answer sends it elsewhere.

Knows the redirects of HTTP (RFC 9110, section 15.4), and what must not go along. Must not know who
is asked for authorization.

Strategy: each target is checked as seen from who named it, and an Authorization header goes to the
same scheme, host and port alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from brolga.errors import ProtocolViolation
from brolga.protocol.urls import check, host_of, origin, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from brolga.protocol.http import Flow, Request, Response

__all__ = ["follow"]

_REDIRECTS: Final = (301, 302, 303, 307, 308)
_SAME_METHOD: Final = (307, 308)  # the others turn a POST into a GET
_MAX_HOPS: Final = 5


def follow(
    request: Request, once: Callable[[Request], Flow[Response]], who: str, *, resends: bool = False
) -> Flow[Response]:
    """Make a call by `once` and, if it reads, follow the redirects that `who` answers.

    If `resends`, a call of another method follows too, with its body, within its origin.

    Raises ProtocolViolation for a target that is not safe, and for too many of them.
    """
    for _ in range(1 + _MAX_HOPS):
        response = yield from once(request)
        target = response.headers.get("location", "")
        if response.status not in _REDIRECTS or not target:
            return response
        reads = request.method in ("GET", "HEAD")
        if not reads and not (resends and response.status in _SAME_METHOD):
            return response
        url = check(resolve(request.url, target), "redirect", seen_from=request.url)
        is_home = origin(url) == origin(request.url)
        if not reads and not is_home:
            return response
        headers = request.headers if is_home else _without_secret(request.headers)
        request = replace(
            request, url=url, headers=headers, delay_s=0.0, redirected_from=host_of(request.url)
        )
    raise ProtocolViolation(f"{who} redirected more than {_MAX_HOPS} times")


def _without_secret(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() != "authorization"}
