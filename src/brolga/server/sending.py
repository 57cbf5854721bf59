"""A stored file as an answer.

Knows how bytes leave: by the kernel alone where the server can (the ASGI extension
`http.response.zerocopysend`), else in pieces read by a worker thread. Must not know what they are.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, BinaryIO

from starlette.responses import Response

from brolga.server.ranges import NotSatisfiable, fresh, wanted

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from brolga.spec.digest import Digest

__all__ = ["Gone", "send"]

# Large enough that a thread's wake-up is lost in it.
_PIECE = 1 << 20


class Gone(BaseException):
    """The connection is to be cut: at once by a reset, or after what was written.

    The client went away, or stalled, or a fault says so. As a cancellation, it is no error that
    gets an answer.
    """

    def __init__(self, *, reset: bool = True) -> None:
        super().__init__()
        self.reset = reset


def send(request: Request, digest: Digest, file: BinaryIO, media_type: str) -> Response:
    """Answer with an open file's bytes; closes it (distribution-spec, Pulling)."""
    size = os.fstat(file.fileno()).st_size
    etag = f'"{digest}"'
    headers = {
        "Docker-Content-Digest": str(digest),
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Content-Type": media_type,
    }
    if fresh(request.headers, etag):
        return _without_body(file, 304, headers)
    if request.method == "HEAD":
        # "A server MUST ignore a Range header field received with a request method that is
        # unrecognized or for which range handling is not defined" (RFC 9110, section 14.2).
        return _without_body(file, 200, headers | {"Content-Length": str(size)})
    try:
        part = wanted(request.headers, etag, size)
    except NotSatisfiable:
        return _without_body(file, 416, {"Content-Range": f"bytes */{size}"})
    start, end = part or (0, size)
    headers["Content-Length"] = str(end - start)
    if part is None:
        return _Bytes(file, start, end, 200, headers)
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return _Bytes(file, start, end, 206, headers)


def _without_body(file: BinaryIO, status: int, headers: dict[str, str]) -> Response:
    file.close()
    return Response(status_code=status, headers=headers)


class _Bytes(Response):
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
                await self._hand_over(send)
            else:
                await self._copy(send)

    async def _hand_over(self, send: Send) -> None:
        await send(
            {
                "type": "http.response.zerocopysend",
                "file": self._file,
                "offset": self._start,
                "count": self._end - self._start,
                "more_body": False,
            }
        )

    async def _copy(self, send: Send) -> None:
        for offset in range(self._start, self._end, _PIECE):
            count = min(_PIECE, self._end - offset)
            piece = await asyncio.to_thread(os.pread, self._file.fileno(), count, offset)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
