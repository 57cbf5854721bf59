"""Lists in pages.

Knows `n`, `last` and the Link header (distribution-spec, Listing Tags). Must not know of what.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from brolga.server.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from starlette.requests import Request

__all__ = ["link", "page"]

_MAX_DIGITS = 9


def page(
    request: Request, words: Iterable[str], order: Callable[[str], tuple[str, ...]]
) -> tuple[list[str], Mapping[str, str]]:
    """Return the words after `last`, `n` of them at most, and the header that leads on."""
    ordered = sorted(words, key=order)
    last = request.query_params.get("last")
    if last is not None:
        ordered = [word for word in ordered if order(word) > order(last)]
    limit = _limit(request, len(ordered))
    found = ordered[:limit]
    # Where `n` is zero it "MUST return an empty list, and MUST NOT include a `Link` header".
    more = 0 < limit < len(ordered)
    return found, link(request, n=str(limit), last=found[-1]) if more else {}


def link(request: Request, **query: str) -> Mapping[str, str]:
    """Return the header that leads to the next page (RFC 8288)."""
    return {"Link": f'<{request.url.path}?{urlencode(query, safe="/:")}>; rel="next"'}


def _limit(request: Request, default: int) -> int:
    text = request.query_params.get("n")
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise Refusal(400, "UNSUPPORTED", f"?n= is a number of at most {_MAX_DIGITS} digits")
    return int(text)
