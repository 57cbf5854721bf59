"""Pulling blobs: whole, in ranges, or only asked about.

Knows the distribution-spec's "Pulling blobs". Must not know where the files are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import FileResponse, Response

from brolga.server import names

if TYPE_CHECKING:
    from starlette.requests import Request

    from brolga.server.storage import Blob

__all__ = ["pull", "send"]


class _Stored(FileResponse):
    # A thread's wake-up for each chunk: starlette's 64 KiB cost more than half of the rate.
    chunk_size = 1 << 20


async def pull(request: Request) -> Response:
    """Send a blob, or the headers alone for HEAD."""
    digest = names.parse_digest(request.path_params["digest"])
    return send(request, names.repo(request).blob(digest), "application/octet-stream")


def send(request: Request, blob: Blob, media_type: str) -> Response:
    """Answer with stored bytes (distribution-spec, Pulling; RFC 9110, section 14)."""
    headers = {
        "Docker-Content-Digest": str(blob.digest),
        "ETag": f'"{blob.digest}"',
        "Accept-Ranges": "bytes",
        "Content-Type": media_type,
    }
    if request.method == "HEAD":
        # "A server MUST ignore a Range header field received with a request method that is
        # unrecognized or for which range handling is not defined" (RFC 9110, section 14.2).
        headers["Content-Length"] = str(blob.status.st_size)
        return Response(headers=headers)
    return _Stored(blob.path, headers=headers, stat_result=blob.status)
