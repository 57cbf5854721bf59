"""The lists: tags of a repository, repositories, referrers of a manifest.

Knows the distribution-spec's "Content Discovery", and the catalog, which was in Docker's
specification and is in no OCI one. Must not know where any of it is kept.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from brolga.server import documents, names
from brolga.server.paging import link, page
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import OCI_INDEX

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.requests import Request

__all__ = ["catalog", "referrers", "tags"]

# "A `Link` header MUST be included in the response when the descriptor list cannot be returned
# in a single manifest" (Listing Referrers): a client may take no longer one.
_PAGE = documents.LIMIT


async def tags(request: Request) -> Response:
    """Send the tags of a repository, in "case-insensitive alphanumeric order"."""
    repo = names.repo(request)
    last = request.query_params.get("last")

    def take(count: int) -> Awaitable[list[str]]:
        return repo.look(lambda manifests: manifests.tags(last, count))

    listed, headers = await page(request, take)
    return JSONResponse({"name": repo.name, "tags": listed}, headers=headers)


async def catalog(request: Request) -> Response:
    """Send the names of the repositories that exist."""
    found = names.store(request).names(request.query_params.get("last", ""))

    def take(count: int) -> list[str]:
        return list(islice(filter(names.is_name, found), None if count < 0 else count))

    listed, headers = await page(request, lambda count: asyncio.to_thread(take, count))
    return JSONResponse({"repositories": listed}, headers=headers)


async def referrers(request: Request) -> Response:
    """Send an index of the manifests whose subject has a digest.

    "the registry MUST NOT return a `404 Not Found` to a referrers API requests": of what is not
    there nothing is a referrer.
    """
    repo = names.repo(request)
    # Any digest may be asked about, also of an algorithm that nothing is stored by.
    digest = Digest.parse(request.path_params["digest"])
    wanted = request.query_params.get("artifactType")
    last = request.query_params.get("last", "")
    headers = {} if wanted is None else {"OCI-Filters-Applied": "artifactType"}
    found, more = await repo.look(
        lambda manifests: manifests.referrers(digest, wanted, last, _PAGE)
    )
    if more:
        query = {} if wanted is None else {"artifactType": wanted}
        headers |= link(request, **query, last=str(found[-1].digest))
    listed = ", ".join(one.listed for one in found)
    text = f'{{"schemaVersion": 2, "mediaType": "{OCI_INDEX}", "manifests": [{listed}]}}'
    return Response(text, headers=headers, media_type=OCI_INDEX)
