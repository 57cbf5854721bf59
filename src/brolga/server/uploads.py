"""Pushing blobs: sessions that are started, written, asked about, finished and cancelled.

Knows the distribution-spec's "Pushing blobs". Must not know files.

The session's offset is the truth. A client that says where its chunk begins must say that
offset; one that does not (a single streamed PATCH) appends.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from starlette.responses import Response

from brolga.server import names
from brolga.server.problems import Refusal
from brolga.server.receiving import BodyTooLong, bounded, pour, writing
from brolga.server.session import DEFAULT_ALGORITHM, UploadBusy
from brolga.spec.digest import hasher

if TYPE_CHECKING:
    from starlette.requests import Request

    from brolga.server.options import Options
    from brolga.server.session import Upload, Writer
    from brolga.server.storage import Repo
    from brolga.spec.digest import Digest

__all__ = ["append", "cancel", "finish", "start", "status"]

# "It MUST match the following regular expression" (distribution-spec, Pushing a blob in chunks)
_CONTENT_RANGE = re.compile("([0-9]{1,18})-([0-9]{1,18})")


async def start(request: Request) -> Response:
    """Open a session, or take a whole blob where the query has its digest, or mount one.

    distribution-spec, POST then PUT; Single POST; Mounting a blob from another repository.
    """
    repo = names.repo(request)
    if "mount" in request.query_params and await _mounted(request, repo):
        return _created(repo, names.digest_parameter(request, "mount"))
    if "digest" in request.query_params:
        return await _single_post(request, repo, names.digest_parameter(request))
    return _accepted(repo, _new_session(request, repo), 0, 202)


async def _mounted(request: Request, repo: Repo) -> bool:
    """Whether the blob is in the repository now.

    "if a registry [...] is unable to mount the requested blob, it SHOULD return a `202`": so too
    without `from`, as looking through all repositories is more than a client may ask for.
    """
    digest = names.digest_parameter(request, "mount")
    source = names.mount_source(request)
    if source is None or not await asyncio.to_thread(repo.mount, digest, source):
        return False
    await repo.create()
    return True


def _new_session(request: Request, repo: Repo) -> Upload:
    """Open a session that hashes with the algorithm of the query from the start.

    "When pushing a blob with a digest algorithm other than `sha256`, the post request SHOULD
    include the `digest-algorithm` parameter". Without it the bytes are hashed again at the end.
    """
    algorithm = request.query_params.get("digest-algorithm", DEFAULT_ALGORITHM)
    hasher(algorithm)
    upload = repo.start_upload()
    if algorithm != DEFAULT_ALGORITHM:
        with upload.writer() as writer:
            writer.expect(algorithm)
    return upload


async def append(request: Request) -> Response:
    """Take the next bytes (distribution-spec, Pushing a blob in chunks)."""
    repo, upload = _session(request)
    async with writing(upload) as writer:
        await _receive(request, repo, upload, writer)
        return _accepted(repo, upload, writer.size, 202)


async def finish(request: Request) -> Response:
    """Take the last bytes, if any, and make the blob if its digest is right."""
    repo, upload = _session(request)
    digest = names.digest_parameter(request)
    async with writing(upload) as writer:
        await _complete(request, repo, upload, writer)
    return _created(repo, digest)


async def status(request: Request) -> Response:
    """Say how much has arrived, when nobody is writing or after a moment's patience."""
    repo, upload = _session(request)
    try:
        async with writing(upload) as writer:
            size = writer.size
    except UploadBusy:
        size = upload.size()
    return _accepted(repo, upload, size, 204)


async def cancel(request: Request) -> Response:
    """Forget a session and its bytes."""
    repo, upload = _session(request)
    async with writing(upload) as writer:
        repo.discard(writer)
    return Response(status_code=204)


async def _single_post(request: Request, repo: Repo, digest: Digest) -> Response:
    """Take a whole blob. Nobody knows the session, so it does not outlive the request."""
    upload = repo.start_upload()
    async with writing(upload) as writer:
        try:
            await _complete(request, repo, upload, writer)
        except BaseException:
            repo.discard(writer)
            raise
    return _created(repo, digest)


async def _complete(request: Request, repo: Repo, upload: Upload, writer: Writer) -> None:
    """Take the last bytes and make the blob. Raises DigestMismatch; nothing is stored then."""
    digest = names.digest_parameter(request)
    writer.expect(digest.algorithm)
    await _receive(request, repo, upload, writer)
    await asyncio.to_thread(repo.commit, writer, digest)
    await repo.create()


async def _receive(request: Request, repo: Repo, upload: Upload, writer: Writer) -> None:
    """Append a request's body. Raises Refusal where it is not the chunk that it says it is."""
    start = writer.size
    length = _chunk_length(request, repo, upload, start)
    options: Options = request.app.state.options
    room = None if options.max_upload is None else max(options.max_upload - start, 0)
    if room is not None and _content_length(request) > room:
        raise BodyTooLong(f"a blob has at most {options.max_upload} bytes here")
    try:
        await pour(bounded(request.stream(), room, options.idle_s), writer.write)
    except BodyTooLong:
        writer.roll_back(start)
        raise
    if length is not None and writer.size - start != length:
        arrived = writer.size - start
        writer.roll_back(start)
        raise Refusal(
            400, "SIZE_INVALID", f"Content-Range has {length} bytes, and {arrived} arrived"
        )


def _chunk_length(request: Request, repo: Repo, upload: Upload, offset: int) -> int | None:
    """Return the length that Content-Range gives, or None without one.

    "If a chunk is uploaded out of order, the registry MUST respond with a `416 Requested Range
    Not Satisfiable` code" (distribution-spec, Pushing a blob in chunks).
    """
    text = request.headers.get("content-range")
    # A range cannot say "nothing": some clients leave the last chunk's on an empty PUT.
    if text is None or request.headers.get("content-length") == "0":
        return None
    match = _CONTENT_RANGE.fullmatch(text)
    if match is None or int(match[1]) != offset or int(match[2]) < offset:
        message = f"Content-Range must be {offset}-<last byte>: {offset} bytes have arrived"
        headers = _progress(repo, upload, offset)
        raise Refusal(416, "BLOB_UPLOAD_INVALID", message, headers)
    length = int(match[2]) - offset + 1
    if request.headers.get("content-length", str(length)) != str(length):
        raise Refusal(400, "SIZE_INVALID", "Content-Range and Content-Length do not agree")
    return length


def _content_length(request: Request) -> int:
    """Return what the header says, 0 without one. The server has checked that it is a number."""
    return int(request.headers.get("content-length", "0"))


def _session(request: Request) -> tuple[Repo, Upload]:
    repo = names.repo(request)
    return repo, repo.upload(request.path_params["upload"])


def _progress(repo: Repo, upload: Upload, size: int) -> dict[str, str]:
    """Return the headers that tell a session's URL and offset.

    The last byte's position has no spelling for "none": 0-0 stands for no byte and for one, as
    other registries have it.
    """
    return {
        "Location": f"/v2/{repo.name}/blobs/uploads/{upload.id}",
        "Range": f"0-{max(size - 1, 0)}",
        "Docker-Upload-UUID": upload.id,
    }


def _accepted(repo: Repo, upload: Upload, size: int, status_code: int) -> Response:
    return Response(status_code=status_code, headers=_progress(repo, upload, size))


def _created(repo: Repo, digest: Digest) -> Response:
    headers = {
        "Location": f"/v2/{repo.name}/blobs/{digest}",
        "Docker-Content-Digest": str(digest),
    }
    return Response(status_code=201, headers=headers)
