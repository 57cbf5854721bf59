"""Pulling and deleting blobs; stored files as responses (distribution-spec, Pulling blobs).

A response sends a file through the kernel if the server can (the ASGI extension
`http.response.zerocopysend`), else in pieces that a worker thread reads.
"""

from __future__ import annotations

import asyncio
import os
import re
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Final

from starlette.responses import Response

from brolga.registry.routes import requests

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from brolga.spec.digest import Digest


_PIECE: Final = 1 << 20  # large enough that a thread's wake-up does not matter

# A single range. A request for several is answered with the whole, which "a server MAY" do (RFC
# 9110, section 14.2): no client of a registry sends one.
_RANGE: Final = re.compile("bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))", re.IGNORECASE)


async def pull(request: Request) -> Response:
    """Send a blob, or only the headers for HEAD."""
    digest = requests.parse_digest(request.path_params["digest"])
    repo = requests.repo(request)
    file = repo.blob(digest)
    if request.method == "HEAD" and not request.app.state.options.read_only:
        repo.layout.touch_blob(digest)  # the client may skip its upload
    return file_response(request, digest, file, "application/octet-stream")


async def delete(request: Request) -> Response:
    """Delete a blob; manifests that refer to it stay."""
    digest = requests.parse_digest(request.path_params["digest"])
    repo = requests.repo(request)
    await repo.write(partial(repo.delete_blob, digest))
    return Response(status_code=202)


def file_response(request: Request, digest: Digest, file: BinaryIO, media_type: str) -> Response:
    """Return a response with an open file's bytes; it closes the file."""
    size = os.fstat(file.fileno()).st_size
    etag = f'"{digest}"'
    headers = {
        "Docker-Content-Digest": str(digest),
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Content-Type": media_type,
    }
    known = request.headers.get("if-none-match", "").split(",")
    if {tag.strip().removeprefix("W/") for tag in known} & {etag, "*"}:  # RFC 9110, section 13.1.2
        return _close(file, 304, headers)
    if request.method == "HEAD":
        # "A server MUST ignore a Range header field received with a request method that is
        # unrecognized or for which range handling is not defined" (RFC 9110, section 14.2).
        return _close(file, 200, headers | {"Content-Length": str(size)})
    part = _parse_range(request.headers, etag, size)
    if part is None:
        return _FileResponse(file, 0, size, 200, headers | {"Content-Length": str(size)})
    start, end = part
    if start >= end:
        return _close(file, 416, {"Content-Range": f"bytes */{size}"})
    headers["Content-Length"] = str(end - start)
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return _FileResponse(file, start, end, 206, headers)


def _parse_range(headers: Mapping[str, str], etag: str, size: int) -> tuple[int, int] | None:
    """Return the start and the end of the requested range, or None for the whole file.

    The range is empty if it lies outside the file. An invalid range, or one of another file
    (RFC 9110, section 13.1.5, If-Range), is ignored.
    """
    match = _RANGE.fullmatch(headers.get("range", "").replace(" ", ""))
    if match is None or headers.get("if-range", etag) != etag:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        return max(size - int(suffix), 0), size
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, size) if last else size


def _close(file: BinaryIO, status: int, headers: dict[str, str]) -> Response:
    """Return a response without a body."""
    file.close()
    return Response(status_code=status, headers=headers)


class _FileResponse(Response):
    """The bytes of an open file from `start` up to `end`."""

    def __init__(
        self, file: BinaryIO, start: int, end: int, status: int, headers: dict[str, str]
    ) -> None:
        super().__init__(status_code=status, headers=headers)
        self._file = file
        self._start = start
        self._end = end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's
        """Send the head, then the bytes."""
        with self._file:
            head = {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
            await send(head)
            if "http.response.zerocopysend" in scope.get("extensions", {}):
                part = {"file": self._file, "offset": self._start, "count": self._end - self._start}
                await send({"type": "http.response.zerocopysend", **part, "more_body": False})
                return
            for offset in range(self._start, self._end, _PIECE):
                count = min(_PIECE, self._end - offset)
                piece = await asyncio.to_thread(os.pread, self._file.fileno(), count, offset)
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
