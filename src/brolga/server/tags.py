"""The list of tags, in pages.

Knows the distribution-spec's "Listing Tags". Must not know where tags are kept.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from brolga.server import names
from brolga.server.problems import Refusal

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["listing"]

_MAX_DIGITS = 9


async def listing(request: Request) -> Response:
    """Send the tags after `last`, `n` of them at most, and where to find the next."""
    repo = names.repo(request)
    # Another program's layout may have names that are no tags: nobody could ask for them.
    tags = sorted(filter(names.is_tag, set(await asyncio.to_thread(repo.tags))), key=_order)
    last = request.query_params.get("last")
    if last is not None:
        tags = [tag for tag in tags if _order(tag) > _order(last)]
    page = tags[: _limit(request, len(tags))]
    headers = _next(repo.name, page) if 0 < len(page) < len(tags) else {}
    return JSONResponse({"name": repo.name, "tags": page}, headers=headers)


def _order(tag: str) -> tuple[str, str]:
    """Order tags as "lexical order (i.e. case-insensitive alphanumeric order)"."""
    return tag.lower(), tag


def _limit(request: Request, default: int) -> int:
    text = request.query_params.get("n")
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise Refusal(400, "UNSUPPORTED", f"?n= is a number of at most {_MAX_DIGITS} digits")
    return int(text)


def _next(name: str, page: list[str]) -> dict[str, str]:
    """Return the header that leads on (RFC 8288); a tag needs no quoting in a URL."""
    return {"Link": f'</v2/{name}/tags/list?n={len(page)}&last={page[-1]}>; rel="next"'}
