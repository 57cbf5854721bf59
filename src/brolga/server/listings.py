"""The lists: tags of a repository, repositories, referrers of a manifest.

Knows the distribution-spec's "Content Discovery", and the catalog, which was in Docker's
specification and is in no OCI one. Must not know where any of it is kept.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from brolga.digest import Digest
from brolga.mediatypes import OCI_INDEX
from brolga.server import documents, names
from brolga.server.paging import link, page

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request

    from brolga.descriptor import Descriptor
    from brolga.server.documents import Document

__all__ = ["catalog", "referrers", "tags"]

# "A `Link` header MUST be included in the response when the descriptor list cannot be returned
# in a single manifest" (Listing Referrers): a client may take no longer one.
_PAGE = documents.LIMIT


async def tags(request: Request) -> Response:
    """Send the tags of a repository."""
    repo = names.repo(request)
    # Another program's layout may have names that are no tags: nobody could ask for them.
    found = filter(names.is_tag, set(await asyncio.to_thread(repo.manifests.tags)))
    # In lexical order, "i.e. case-insensitive alphanumeric order".
    listed, headers = page(request, found, lambda tag: (tag.lower(), tag))
    return JSONResponse({"name": repo.name, "tags": listed}, headers=headers)


async def catalog(request: Request) -> Response:
    """Send the names of the repositories that exist."""
    found = filter(names.is_name, await asyncio.to_thread(names.store(request).names))
    listed, headers = page(request, found, lambda name: (name,))
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

    def collect() -> tuple[list[dict[str, Any]], bool]:
        return _page(_listed(repo.manifests.referrers(digest), wanted, last))

    found, more = await asyncio.to_thread(collect)
    if more:
        query = {} if wanted is None else {"artifactType": wanted}
        headers |= link(request, **query, last=found[-1]["digest"])
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found}
    return Response(json.dumps(document), headers=headers, media_type=OCI_INDEX)


def _listed(
    found: Iterable[tuple[Descriptor, Document]], wanted: str | None, last: str
) -> Iterable[dict[str, Any]]:
    """Yield the descriptors after `last`, as they are listed."""
    for descriptor, document in found:
        if str(descriptor.digest) > last and wanted in {None, document.artifact_type}:
            listed = descriptor.to_dict()
            if document.artifact_type:
                listed["artifactType"] = document.artifact_type
            if document.annotations:
                listed["annotations"] = dict(document.annotations)
            yield listed


def _page(listed: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], bool]:
    """Return what one answer holds, and whether there is more."""
    size = 0
    page: list[dict[str, Any]] = []
    for descriptor in listed:
        size += len(json.dumps(descriptor))
        if page and size > _PAGE:
            return page, True
        page.append(descriptor)
    return page, False
