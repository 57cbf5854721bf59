"""Lists in pages.

Knows `n`, `last` and the Link header (distribution-spec, Listing Tags). Must not know of what.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from brolga.server.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request

__all__ = ["link", "page"]

_MAX_DIGITS = 9


async def page(
    request: Request, take: Callable[[int], Awaitable[list[str]]]
) -> tuple[list[str], Mapping[str, str]]:
    """Return the words that `take` gives, `n` at most, and the header that leads on.

    `take` is asked for so many words after `last`, or for all of them by a negative number.
    """
    limit = _limit(request)
    # One more, which tells whether there are more.
    found = await take(-1 if limit is None else limit + 1)
    if limit is None or len(found) <= limit:
        return found, {}
    found = found[:limit]
    # If `n` is zero it "MUST return an empty list, and MUST NOT include a `Link` header".
    return found, link(request, n=str(limit), last=found[-1]) if found else {}


def link(request: Request, **query: str) -> Mapping[str, str]:
    """Return the header that leads to the next page (RFC 8288)."""
    return {"Link": f'<{request.url.path}?{urlencode(query, safe="/:")}>; rel="next"'}


def _limit(request: Request) -> int | None:
    text = request.query_params.get("n")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise Refusal(400, "UNSUPPORTED", f"?n= is a number of at most {_MAX_DIGITS} digits")
    return int(text)
