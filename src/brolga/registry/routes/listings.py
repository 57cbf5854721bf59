"""Lists: tags of a repository, repositories, referrers (distribution-spec, Content Discovery).

The catalog comes from Docker's specification; no OCI specification has it.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from starlette.responses import JSONResponse, Response

from brolga.registry.errors import RequestError
from brolga.registry.routes import requests
from brolga.spec.digest import Digest
from brolga.spec.json import MAX_SIZE
from brolga.spec.mediatypes import OCI_INDEX

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request


# "A `Link` header MUST be included in the response when the descriptor list cannot be returned
# in a single manifest" (Listing Referrers): a client may not accept a longer one.
_PAGE_SIZE: Final = MAX_SIZE

_MAX_DIGITS: Final = 9


async def tags(request: Request) -> Response:
    """Send the tags of a repository, in "case-insensitive alphanumeric order"."""
    repo = requests.repo(request)
    last = request.query_params.get("last")

    def fetch(count: int) -> Awaitable[list[str]]:
        return repo.query(lambda manifests: manifests.tags(last, count))

    names, headers = await _paginate(request, fetch)
    return JSONResponse({"name": repo.name, "tags": names}, headers=headers)


async def catalog(request: Request) -> Response:
    """Send the names of the repositories."""
    all_names = requests.store(request).names(request.query_params.get("last", ""))

    def fetch(count: int) -> list[str]:
        valid = filter(requests.is_repository_name, all_names)
        return list(islice(valid, None if count < 0 else count))

    names, headers = await _paginate(request, lambda count: asyncio.to_thread(fetch, count))
    return JSONResponse({"repositories": names}, headers=headers)


async def referrers(request: Request) -> Response:
    """Send an index of the manifests whose subject has a digest.

    "the registry MUST NOT return a `404 Not Found` to a referrers API requests": an unknown digest
    has an empty list.
    """
    repo = requests.repo(request)
    # The digest may be of an algorithm that the registry does not support.
    digest = Digest.parse(request.path_params["digest"])
    artifact_type = request.query_params.get("artifactType")
    last = request.query_params.get("last", "")
    headers = {} if artifact_type is None else {"OCI-Filters-Applied": "artifactType"}
    page, has_more = await repo.query(
        lambda manifests: manifests.referrers(digest, artifact_type, last, _PAGE_SIZE)
    )
    if has_more:
        query = {} if artifact_type is None else {"artifactType": artifact_type}
        headers |= _link(request, **query, last=str(page[-1].digest))
    descriptors = ", ".join(referrer.descriptor for referrer in page)
    text = f'{{"schemaVersion": 2, "mediaType": "{OCI_INDEX}", "manifests": [{descriptors}]}}'
    return Response(text, headers=headers, media_type=OCI_INDEX)


async def _paginate(
    request: Request, fetch: Callable[[int], Awaitable[list[str]]]
) -> tuple[list[str], Mapping[str, str]]:
    """Return at most `n` of the names that `fetch` returns, and the header of the next page.

    `fetch` is called with the number of names after `last`; a negative number means all of them.
    """
    text = request.query_params.get("n")
    if text is not None and not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise RequestError(400, "UNSUPPORTED", f"?n= is a number of at most {_MAX_DIGITS} digits")
    limit = None if text is None else int(text)
    # One more, to know whether there is another page.
    names = await fetch(-1 if limit is None else limit + 1)
    if limit is None or len(names) <= limit:
        return names, {}
    names = names[:limit]
    # If `n` is zero it "MUST return an empty list, and MUST NOT include a `Link` header".
    return names, _link(request, n=str(limit), last=names[-1]) if names else {}


def _link(request: Request, **query: str) -> Mapping[str, str]:
    """Return the header that leads to the next page (RFC 8288)."""
    return {"Link": f'<{request.url.path}?{urlencode(query, safe="/:")}>; rel="next"'}
