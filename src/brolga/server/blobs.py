"""Blobs that are there: pulled whole or in ranges, asked about, deleted.

Knows the distribution-spec's "Pulling blobs" and "Deleting Blobs". Must not know where the files
are.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from starlette.responses import Response

from brolga.server import names
from brolga.server.sending import send

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["delete", "pull"]


async def pull(request: Request) -> Response:
    """Send a blob, or the headers alone for HEAD."""
    digest = names.parse_digest(request.path_params["digest"])
    repo = names.repo(request)
    file = repo.blob(digest)
    if request.method == "HEAD" and not request.app.state.options.read_only:
        repo.renew(digest)  # the client may leave out its upload
    return send(request, digest, file, "application/octet-stream")


async def delete(request: Request) -> Response:
    """Delete a blob; manifests that refer to it stay as they are."""
    digest = names.parse_digest(request.path_params["digest"])
    repo = names.repo(request)
    await repo.in_turn(partial(repo.delete_blob, digest))
    return Response(status_code=202)
